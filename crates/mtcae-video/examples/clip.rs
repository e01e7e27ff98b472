//! Clips of a video on demand, for comparisons in turns with other decoders
//! (`benches/peers/decode.py`): each line on standard input asks for sixteen frames
//! of 224×224 from the file, opened anew, and is answered by the wall seconds and
//! the processor seconds that took.
//!
//! `clip FILE THREADS OUTPUT.rgb`: the frames (16, 224, 224, 3) are written to
//! OUTPUT.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use mtcae_video::{Clip, ClipOptions, OpenOptions, Video};

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, threads, output] = args.as_slice() else {
        return Err("clip FILE THREADS OUTPUT.rgb".into());
    };
    let options = OpenOptions {
        threads: threads.parse()?,
        ..Default::default()
    };
    let clip = || -> Result<Clip, Fault> {
        Ok(Video::open_with(file, &options)?.clip(&ClipOptions::default())?)
    };
    let first = clip()?;
    for warning in &first.warnings {
        println!("{file}: {warning}");
    }
    std::fs::write(
        output,
        first
            .frames
            .as_standard_layout()
            .as_slice()
            .ok_or("no frames")?,
    )?;
    println!("ready");
    for line in std::io::stdin().lines() {
        line?;
        let wall = Instant::now();
        clip()?;
        println!("{}", wall.elapsed().as_secs_f64());
    }
    Ok(())
}
