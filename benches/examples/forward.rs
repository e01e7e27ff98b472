//! Forwards of a checkpoint on demand, for comparisons in turns with other
//! engines (`benches/peers/peers.py`): each line on standard input asks for one
//! forward, and is answered by its wall seconds and its processor seconds.
//!
//! `forward CHECKPOINT f32|bf16 TUBES.f32 OUTPUT.f32`: TUBES are the raw `f32` of
//! one clip's normalised tubes; the outputs of the heads are written to OUTPUT.

#![allow(clippy::print_stdout)]

use std::io::Write;
use std::time::Instant;

use mtcae_benches::{peak_memory, processor_time};
use mtcae_model::{Outputs, Precision, checkpoint};

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, precision, tubes, output] = args.as_slice() else {
        return Err("forward CHECKPOINT f32|bf16 TUBES.f32 OUTPUT.f32".into());
    };
    let precision = match precision.as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => return Err(format!("{other} is neither f32 nor bf16").into()),
    };
    let tubes: Vec<f32> = std::fs::read(tubes)?
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let plan = checkpoint::load_plan(folder, precision)?;
    let outputs = plan.forward_slice(&tubes)?;
    write(output, &outputs)?;
    println!("ready {}", peak_memory());
    for line in std::io::stdin().lines() {
        line?;
        let (wall, processor) = (Instant::now(), processor_time());
        plan.forward_slice(&tubes)?;
        println!(
            "{} {}",
            wall.elapsed().as_secs_f64(),
            processor_time() - processor
        );
    }
    Ok(())
}

/// Boxes, landmarks and logits, one after the other.
fn write(path: &str, outputs: &Outputs) -> Result<(), Fault> {
    let mut file = std::fs::File::create(path)?;
    let all = [&outputs.boxes, &outputs.landmarks].into_iter().flatten();
    for tensor in all.chain([&outputs.logits]) {
        for value in tensor.flatten_all()?.to_vec1::<f32>()? {
            file.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(())
}
