//! Work on pixels, for comparisons in turns with other libraries
//! (`benches/peers/pixels.py`). Each line on standard input is `WHAT FILE WIDTH HEIGHT
//! FRAMES OUTPUT`, the file holding 8-bit RGB; it is done once for all frames, the result
//! written to OUTPUT, and answered by the seconds it took:
//!
//! - `bilinear`: frames to 224×224, as clips are made of them, (FRAMES, 224, 224, 3) of 8 bits;
//! - `area`: frames to 224×224, as MTCNN reads them, (value − 127.5)/128 in `f32`;
//! - `tubes`: frames cut into tubes, normalised, (tokens, 1536) in `f32`.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use mtcae_kernels::area::{Picture, Resampler};
use mtcae_video::{FrameResizer, Normalization, TubeShape, tubes_into};
use ndarray::ArrayView4;
use rayon::prelude::*;

type Fault = Box<dyn std::error::Error>;

const SIDE: usize = 224;

fn main() -> Result<(), Fault> {
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, file, width, height, frames, output] = words[..] else {
            return Err(format!("{line:?} is not WHAT FILE WIDTH HEIGHT FRAMES OUTPUT").into());
        };
        let (width, height, count) = (width.parse()?, height.parse()?, frames.parse()?);
        let data = std::fs::read(file)?;
        let (seconds, result) = match what {
            "bilinear" => bilinear(&data, width, height)?,
            "area" => area(&data, width, height),
            "tubes" => tubes(&data, [count, height, width, 3])?,
            _ => return Err(format!("{what:?} is not bilinear, area or tubes").into()),
        };
        std::fs::write(output, result)?;
        println!("{seconds}");
    }
    Ok(())
}

fn bilinear(data: &[u8], width: usize, height: usize) -> Result<(f64, Vec<u8>), Fault> {
    let mut out = vec![0; data.len() / (width * height * 3) * SIDE * SIDE * 3];
    let from = (u32::try_from(width)?, u32::try_from(height)?);
    let side = SIDE as u32;
    let start = Instant::now();
    out.par_chunks_mut(SIDE * SIDE * 3)
        .zip(data.par_chunks(width * height * 3))
        .try_for_each_init(FrameResizer::default, |resizer, (out, frame)| {
            resizer.resize(frame, from, None, (side, side), out)
        })?;
    Ok((start.elapsed().as_secs_f64(), out))
}

fn area(data: &[u8], width: usize, height: usize) -> (f64, Vec<u8>) {
    let mut out = vec![0.0; data.len() / (width * height * 3) * SIDE * SIDE * 3];
    let start = Instant::now();
    out.par_chunks_mut(SIDE * SIDE * 3)
        .zip(data.par_chunks(width * height * 3))
        .for_each(|(out, frame)| {
            let picture = Picture::new(frame, width, height);
            let mut resampler = Resampler::new((width, height), (SIDE, SIDE), 0..SIDE);
            for (y, row) in out.chunks_exact_mut(SIDE * 3).enumerate() {
                resampler.row(picture, y, row);
            }
        });
    (start.elapsed().as_secs_f64(), bytes(&out))
}

fn tubes(data: &[u8], shape: [usize; 4]) -> Result<(f64, Vec<u8>), Fault> {
    let frames = ArrayView4::from_shape(shape, data)?;
    let mut out = vec![0.0; data.len()];
    let start = Instant::now();
    tubes_into(
        frames,
        &Normalization::IMAGENET,
        TubeShape::default(),
        &mut out,
    )?;
    Ok((start.elapsed().as_secs_f64(), bytes(&out)))
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
