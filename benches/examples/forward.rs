//! Forwards of a checkpoint on demand, for comparisons in turns with other
//! engines (`benches/peers/peers.py`): each line on standard input asks for one
//! forward, and is answered by its wall seconds and its processor seconds.
//!
//! `forward WEIGHTS f32|bf16 INPUT.f32 OUTPUT.f32`: with a checkpoint folder as
//! WEIGHTS, INPUT are the raw `f32` of one clip's normalised tubes; with a file of
//! the paper's cascade alone (`decoder.safetensors`), they are its features. The
//! outputs of the heads are written to OUTPUT. When it is ready it says the most memory
//! so far, in bytes, and the floating-point operations of a forward.

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use mtcae_benches::{peak_memory, processor_time};
use mtcae_decoder::candle_core::Device;
use mtcae_decoder::{Config, InferencePlan, Task};
use mtcae_model::{Checkpoint, Outputs};
use mtcae_nn::Isa;
use mtcae_nn::plan::{Arena, Precision, format};
use mtcae_nn::weights::{Source, TensorFile, load_strict};

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    Isa::held().map_err(|e| e.to_string())?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [weights, precision, input, output] = args.as_slice() else {
        return Err("forward WEIGHTS f32|bf16 INPUT.f32 OUTPUT.f32".into());
    };
    let precision = match precision.as_str() {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => return Err(format!("{other} is neither f32 nor bf16").into()),
    };
    let input: Vec<f32> = std::fs::read(input)?
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    if Path::new(weights).is_dir() {
        let checkpoint = Checkpoint::open(weights)?;
        let config = checkpoint.config();
        let flops = config.encoder.flops() + config.decoder.flops(config.encoder.output().tokens);
        let engine = checkpoint.engine(&Device::Cpu, precision)?;
        serve(output, flops, || numbers(&engine.run_slice(&input)?))
    } else {
        let (config, plan) = decoder(weights, precision)?;
        let flops = config.flops(input.len() / config.features);
        let mut arena = Arena::default();
        serve(output, flops, || {
            Ok(plan.forward(&input, &mut arena)?.concat())
        })
    }
}

/// The paper's cascade over the features that its weights are made for.
fn decoder(weights: &str, precision: Precision) -> Result<(Config, InferencePlan), Fault> {
    let file = TensorFile::open(weights)?;
    let shape = file.shape("stages.face_box.dense.weight");
    let features = shape.and_then(|s| s.get(1).copied());
    let features = features.ok_or("the file holds no decoder of face boxes")?;
    let outputs = [("face_box", 64), ("landmarks", 160), ("expression", 7)];
    let tasks = outputs.map(|(name, n)| Task::new(name, n)).to_vec();
    let config = Config::cascade(features, tasks);
    let format = format(precision)?;
    let plan = load_strict(&file, &Device::Cpu, |vb| {
        InferencePlan::new(&config, format, vb)
    })?;
    Ok((config, plan))
}

/// Writes the first answer to `output`, then answers for each line.
fn serve(
    output: &str,
    flops: f64,
    mut forward: impl FnMut() -> Result<Vec<f32>, Fault>,
) -> Result<(), Fault> {
    let bytes: Vec<u8> = forward()?.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(output, bytes)?;
    forward()?;
    println!("ready {} {flops}", peak_memory());
    for line in std::io::stdin().lines() {
        line?;
        let (wall, processor) = (Instant::now(), processor_time());
        forward()?;
        let wall = wall.elapsed().as_secs_f64();
        println!("{wall} {}", processor_time() - processor);
    }
    Ok(())
}

/// Boxes, landmarks and logits, one after the other.
fn numbers(outputs: &Outputs) -> Result<Vec<f32>, Fault> {
    let mut all = Vec::new();
    let tensors = [&outputs.boxes, &outputs.landmarks].into_iter().flatten();
    for tensor in tensors.chain([&outputs.logits]) {
        all.extend(tensor.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(all)
}
