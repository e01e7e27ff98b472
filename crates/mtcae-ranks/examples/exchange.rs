//! What a network gives: seconds of a sum over all ranks, as a step of training asks for it, and
//! of a word to all.
//!
//! ```text
//! mpirun -np 4 exchange [VALUES [LEAVES]]
//! ```
//!
//! Rank 0 prints a line of JSON for `scripts/scaling.py`.
#![allow(clippy::print_stdout, reason = "a program")]

use std::time::Instant;

use mtcae_ranks::{Deal, Group, Memory, Mpi, Reduction, Values, barrier, gather};

const TIMES: usize = 11;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let values = numbers.next().transpose()?.unwrap_or(10_000_000);
    let leaves = numbers.next().transpose()?;
    let mpi = Mpi::start()?;
    let deal = Deal::new(leaves.unwrap_or(mpi.size()), mpi.size());
    let (mut sums, mut words, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..TIMES {
        let nodes = deal.nodes(mpi.rank());
        let nodes = nodes.iter().map(|_| Values::new(vec![1.0; values]));
        let nodes = nodes.collect();
        barrier(&mpi)?;
        let since = Instant::now();
        let (sum, traffic) = Reduction::new(values).sum(&Memory(&mpi), deal, nodes)?;
        sums.push(since.elapsed().as_secs_f64());
        bytes = traffic.bytes;
        drop(sum);
        barrier(&mpi)?;
        let since = Instant::now();
        gather(&mpi, vec![0; 200])?;
        words.push(since.elapsed().as_secs_f64());
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[TIMES / 2]
    };
    if mpi.rank() == 0 {
        println!(
            "{{\"ranks\":{},\"values\":{values},\"bytes\":{bytes},\"sum\":{:.6},\"word\":{:.6}}}",
            mpi.size(),
            median(&mut sums),
            median(&mut words)
        );
    }
    Ok(())
}
