//! Gradients and steps on a GPU against the CPU.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use mtcae_model::encoder::VideoMaeConfig;
use mtcae_model::{Config, Mtcae};
use mtcae_nn::optim::{AdamW, AdamWConfig, Gradients, Group};
use mtcae_nn::{ParamStore, Pass, Precision, ops};

use crate::model::{clip, deviation, table};
use crate::{Fault, Size, weights};

/// Steps of AdamW that are compared.
const STEPS: usize = 3;

/// One way to train.
struct Way {
    device: Device,
    precision: Precision,
    checkpointing: bool,
}

/// What training by a way gave.
struct Trained {
    losses: Vec<f64>,
    first_gradients: BTreeMap<String, Tensor>,
}

/// Compares precisions and checkpointing on the GPU with f32 on the CPU.
pub fn check(gpu: &Device, size: Size) -> Result<bool, Fault> {
    let config = cut_down(size);
    let way = |device: &Device, precision, checkpointing| Way {
        device: device.clone(),
        precision,
        checkpointing,
    };
    let drawn = weights::draw(&config, 7)?;
    let want = train(&config, &drawn, &way(&Device::Cpu, Precision::F32, false))?;
    let mut good = true;
    // Gradients of early blocks carry the rounding of all blocks after them.
    for (precision, checkpointing, bound) in [
        (Precision::F32, false, 1e-3),
        (Precision::F32, true, 1e-3),
        (Precision::Tf32, false, 5e-2),
        (Precision::Bf16, false, 3e-1),
        (Precision::Bf16, true, 3e-1),
    ] {
        let got = train(&config, &drawn, &way(gpu, precision, checkpointing))?;
        let again = train(&config, &drawn, &way(gpu, precision, checkpointing))?;
        let mut worst = (0.0, "");
        for (name, want) in &want.first_gradients {
            let error = deviation(&got.first_gradients[name], want)?;
            if error > worst.0 {
                worst = (error, name.as_str());
            }
        }
        let repeats = got.losses == again.losses;
        let passed = worst.0 <= bound && repeats;
        good &= passed;
        println!(
            "{:6} {:.1e} of {bound:.1e}  {precision}{}: gradients, worst {}; losses {:?} (CPU {:?}), {}",
            if passed { "ok" } else { "FAILED" },
            worst.0,
            if checkpointing { ", checkpointing" } else { "" },
            worst.1,
            got.losses,
            want.losses,
            if repeats {
                "repeat to the bit"
            } else {
                "DO NOT REPEAT"
            },
        );
    }
    Precision::F32.switch(gpu)?;
    Ok(good)
}

/// Fewer blocks on half the side: of the small encoder, seconds on a CPU.
fn cut_down(size: Size) -> Config {
    let mut config = size.config();
    if !matches!(size, Size::Tiny) {
        let encoder = VideoMaeConfig {
            depth: 3,
            image_size: 112,
            ..size.encoder()
        };
        config.encoder = encoder.into();
        config.decoder.depth = 2;
    }
    config
}

fn train(config: &Config, drawn: &[(String, Tensor)], way: &Way) -> Result<Trained, Fault> {
    way.precision.switch(&way.device)?;
    let store = weights::store(drawn, &way.device)?;
    let mut step = Step::new(config, &store, way.device.clone(), 2)?;
    let mut trained = Trained {
        losses: Vec::new(),
        first_gradients: BTreeMap::new(),
    };
    for i in 0..STEPS {
        let (loss, gradients) = step.gradients(way.precision, way.checkpointing)?;
        if i == 0 {
            for (name, gradient) in gradients.iter() {
                trained
                    .first_gradients
                    .insert(name.to_owned(), gradient.to_device(&Device::Cpu)?);
            }
        }
        trained
            .losses
            .push(f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?));
        step.optimiser.step(&gradients, 1e-4, 1.0)?;
    }
    Ok(trained)
}

/// What one training step needs: the cascade's three heads on fixed targets.
pub struct Step {
    model: Mtcae,
    parameters: Vec<(String, Var)>,
    pub optimiser: AdamW,
    clips: Tensor,
    table: Tensor,
    target: Tensor,
}

impl Step {
    pub fn new(
        config: &Config,
        store: &ParamStore,
        device: Device,
        batch: usize,
    ) -> Result<Self, Fault> {
        let model = Mtcae::new(config, store.builder(&device))?;
        let parameters = store.vars();
        let group = |_: &str, _: &Var| Group {
            lr_scale: 1.0,
            weight_decay: 0.05,
        };
        let classes = config.classes.len();
        let target: Vec<f32> = (0..batch * classes)
            .map(|i| f32::from(u8::from(i % classes == i / classes % classes)))
            .collect();
        Ok(Self {
            model,
            optimiser: AdamW::new(&parameters, AdamWConfig::default(), group)?,
            parameters,
            clips: clip(config, batch)?.to_device(&device)?,
            table: table(config, &device)?,
            target: Tensor::from_vec(target, (batch, classes), &device)?,
        })
    }

    /// The loss and all gradients: cross-entropy, and squared boxes and landmarks.
    pub fn gradients(
        &self,
        precision: Precision,
        checkpointing: bool,
    ) -> Result<(Tensor, Gradients), Fault> {
        let (tubelet, patch) = self.model.config().encoder.input().tube();
        let tubes = ops::tubes(&self.clips, &self.table, tubelet, patch, precision.dtype())?;
        let mut pass = Pass::training(3).collecting();
        if checkpointing {
            pass = pass.recomputing();
        }
        let outputs = self.model.run(&tubes, &mut pass)?;
        let mut loss = ops::cross_entropy(&outputs.logits, &self.target)?.mean_all()?;
        for regression in [outputs.boxes, outputs.landmarks].into_iter().flatten() {
            loss = (loss + regression.sqr()?.mean_all()?)?;
        }
        let mut grads = loss.backward()?;
        grads.extend(pass.into_gradients())?;
        Ok((loss, Gradients::take(&self.parameters, &mut grads)?))
    }
}
