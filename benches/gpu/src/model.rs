//! The whole model on a GPU against the CPU, which is checked against PyTorch.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use mtcae_model::{Checkpoint, Config, Mtcae};
use mtcae_nn::weights::save;
use mtcae_nn::{Pass, Precision, device, ops};

use crate::{Fault, weights};

/// What each precision may deviate from the CPU's f32: max|Δ| / max|reference| of the
/// worst intermediate. f32: what the project promises against PyTorch. The others:
/// their rounding (2⁻¹¹, 2⁻⁸), grown through the blocks of hard weights.
const BOUNDS: [(Precision, f64); 3] = [
    (Precision::F32, 1e-4),
    (Precision::Tf32, 2e-2),
    (Precision::Bf16, 1.5e-1),
];

/// Draws, computes on both, compares, and writes everything into `out`.
pub fn check(gpu: &Device, config: &Config, out: &Path) -> Result<bool, Fault> {
    weights::save(out, config, &weights::draw(config, 1)?)?;
    let clip = clip(config, 1)?;
    let table = table(config, &Device::Cpu)?;
    let (tubelet, patch) = config.encoder.input().tube();
    let tubes = |device: &Device, dtype| -> Result<Tensor, Fault> {
        let (clip, table) = (clip.to_device(device)?, table.to_device(device)?);
        Ok(ops::tubes(&clip, &table, tubelet, patch, dtype)?)
    };
    let trace = |model: &Mtcae, tubes: &Tensor| -> Result<Vec<(String, Tensor)>, Fault> {
        let mut pass = Pass::inference().traced();
        pass.record(|| "tubes".to_owned(), tubes);
        model.run(tubes, &mut pass)?;
        Ok(pass.into_trace())
    };
    let checkpoint = Checkpoint::open(out)?;
    let model = checkpoint.model_as(&Device::Cpu, DType::F32)?;
    let want = trace(&model, &tubes(&Device::Cpu, DType::F32)?)?;
    drop(model);

    let mut good = true;
    for (precision, bound) in BOUNDS {
        precision.switch(gpu)?;
        let model = checkpoint.model_as(gpu, precision.dtype())?;
        let got = trace(&model, &tubes(gpu, precision.dtype())?)?;
        let again = trace(&model, &tubes(gpu, precision.dtype())?)?;
        let mut worst = (0.0, String::new());
        let mut kept = Vec::new();
        for (((name, got), (_, again)), (_, want)) in got.into_iter().zip(again).zip(&want) {
            let wide = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F32);
            let (got, again) = (wide(&got)?, wide(&again)?);
            if bits(&got)? != bits(&again)? {
                println!("FAILED {precision}: {name} differs between two runs");
                good = false;
            }
            let error = deviation(&got, want)?;
            if error > worst.0 {
                worst = (error, name.clone());
            }
            kept.push((name, got));
        }
        let verdict = if worst.0 <= bound { "ok" } else { "FAILED" };
        good &= worst.0 <= bound;
        println!(
            "{verdict:6} {:.1e} of {bound:.1e}  {precision}, worst at {}",
            worst.0, worst.1
        );
        if precision == Precision::F32 {
            kept.push(("clip".to_owned(), clip.squeeze(0)?));
            let metadata = BTreeMap::from([("config".to_owned(), serde_json::to_string(config)?)]);
            let tensors = kept.iter().map(|(name, t)| (name.as_str(), t));
            save(out.join("trace.safetensors"), tensors, metadata)?;
        }
        drop(model);
        device::synchronize(gpu)?;
    }
    Precision::F32.switch(gpu)?;
    Ok(good)
}

/// Clips (B, T, H, W, 3) of 8-bit noise.
pub fn clip(config: &Config, batch: usize) -> Result<Tensor, Fault> {
    let input = config.encoder.input();
    let shape = (batch, input.frames, input.size, input.size, 3);
    let n = batch * input.numbers();
    let levels: Vec<u8> = (0..n as u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    Ok(Tensor::from_vec(levels, shape, &Device::Cpu)?)
}

/// What each level of each channel becomes (3, 256).
pub fn table(config: &Config, device: &Device) -> Result<Tensor, Fault> {
    let p = &config.preprocessing;
    let table: Vec<f32> = (0..768)
        .map(|i| (i % 256, i / 256))
        .map(|(level, channel)| (level as f32 / 255.0 - p.mean[channel]) / p.std[channel])
        .collect();
    Ok(Tensor::from_vec(table, (3, 256), device)?)
}

/// max|Δ| / max|want|; infinite where a number is none.
pub fn deviation(got: &Tensor, want: &Tensor) -> Result<f64, Fault> {
    let flat = |t: &Tensor| {
        t.flatten_all()?
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F64)?
            .to_vec1::<f64>()
    };
    let (got, want) = (flat(got)?, flat(want)?);
    let scale = want.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let mut worst: f64 = if got.len() == want.len() {
        0.0
    } else {
        f64::INFINITY
    };
    for (g, w) in got.iter().zip(&want) {
        let error = (g - w).abs() / scale;
        worst = if error.is_nan() {
            f64::INFINITY
        } else {
            worst.max(error)
        };
    }
    Ok(worst)
}

fn bits(t: &Tensor) -> Result<Vec<u32>, Fault> {
    let values = t.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(f32::to_bits).collect())
}
