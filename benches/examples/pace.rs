//! How fast this machine's threads are just now, on demand: each line on standard
//! input is answered by the GFLOP/s that the slowest thread reaches on registers
//! alone, in multiply-adds of `f32`. Virtual cores whose neighbours belong to
//! others change their pace by the minute; comparisons
//! (`benches/peers/peers.py`) ask before and after each measurement.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use mtcae_kernels::format::{Format, Precision};
use mtcae_kernels::peak;

/// The median of slices of a millisecond over a fiftieth of a second.
fn pace(format: Format, loops: usize) -> f64 {
    let mut rates = Vec::new();
    let start = Instant::now();
    while rates.is_empty() || start.elapsed() < Duration::from_millis(20) {
        let start = Instant::now();
        let done = peak::operations(format, loops);
        rates.push(done / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn main() -> std::io::Result<()> {
    let Some(format) = Format::new(Precision::F32) else {
        return Err(std::io::Error::other("this CPU has no format of f32"));
    };
    let once = peak::operations(format, 1);
    let loops = (1e9 / once) as usize;
    pace(format, loops);
    println!("ready");
    for line in std::io::stdin().lines() {
        line?;
        let paces = rayon::broadcast(|_| pace(format, loops));
        println!("{}", paces.into_iter().fold(f64::INFINITY, f64::min) / 1e9);
    }
    Ok(())
}
