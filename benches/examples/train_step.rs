//! Steps of training on demand, for comparisons in turns with PyTorch
//! (`benches/peers/training.py`): each line on standard input asks for one step,
//! forward, backward and AdamW, and is answered by its wall seconds, its processor
//! seconds and its loss.
//!
//! `train_step features BATCH [AT_ONCE]`: the paper's cascade on cached features of
//! ViT-L (B, 1568, 1024). `train_step small|base|large BATCH [AT_ONCE]`: the whole
//! model, all of it trained, on tubes (B, 1568, 1536). AT_ONCE clips go through the
//! model at once (all, unless given), as training's `accumulate` does it: the gradient
//! is that of the batch.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use mtcae_benches::{peak_memory, processor_time, tensor};
use mtcae_decoder::candle_core::{DType, Device, Tensor};
use mtcae_decoder::nn::optim::{AdamW, AdamWConfig, Gradients, Group};
use mtcae_decoder::nn::{Isa, ParamStore, Pass};
use mtcae_decoder::{Config, MultiTaskDecoder, Structure, Task};
use mtcae_encoder::VideoMaeConfig;
use mtcae_model::Mtcae;

const TOKENS: usize = 1568;
const CLASSES: usize = 7;

type Fault = Box<dyn std::error::Error + Send + Sync>;
/// Outputs of the three heads for some clips: the first, how many.
type Forward = Box<dyn Fn(usize, usize, &mut Pass) -> Result<Vec<Tensor>, Fault> + Send + Sync>;

fn main() -> Result<(), Fault> {
    Isa::held().map_err(|e| e.to_string())?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (what, batch, at_once) = match args.as_slice() {
        [what, batch] => (what, batch, batch),
        [what, batch, at_once] => (what, batch, at_once),
        _ => return Err("train_step features|small|base|large BATCH [AT_ONCE]".into()),
    };
    let (batch, at_once): (usize, usize) = (batch.parse()?, at_once.parse()?);
    if at_once == 0 || batch % at_once != 0 {
        return Err(format!("a batch of {batch} is not a multiple of {at_once}").into());
    }
    let parts = batch / at_once;
    let params = ParamStore::new(0);
    let forward = forward(what, batch, &params)?;
    let vars = params.vars();
    let group = Group {
        lr_scale: 1.0,
        weight_decay: 1e-3,
    };
    let mut optimiser = AdamW::new(&vars, AdamWConfig::default(), |_, _| group)?;
    let (boxes, points) = (tensor(&[batch, 64])?, tensor(&[batch, 160])?);
    let classes = Tensor::zeros(batch, DType::U32, &Device::Cpu)?;
    let mut seed = 0;
    let mut step = || -> Result<f32, Fault> {
        let (mut sum, mut total) = (None::<Gradients>, 0.0);
        for part in 0..parts {
            seed += 1;
            let some = |x: &Tensor| x.narrow(0, part * at_once, at_once);
            let mut pass = Pass::training(seed).collecting();
            let heads = forward(part * at_once, at_once, &mut pass)?;
            let loss = ((candle_nn::loss::mse(&heads[0], &some(&boxes)?)? * 0.5)?
                + (candle_nn::loss::mse(&heads[1], &some(&points)?)? * 0.5)?)?;
            let expression = candle_nn::loss::cross_entropy(&heads[2], &some(&classes)?)?;
            let loss = ((loss + (expression * 1.5)?)? * (1.0 / parts as f64))?;
            drop(heads);
            let mut grads = loss.backward()?;
            grads.extend(pass.into_gradients())?;
            let taken = Gradients::take(&vars, &mut grads)?;
            total += loss.to_scalar::<f32>()?;
            match &mut sum {
                Some(sum) => sum.add(&taken)?,
                None => sum = Some(taken),
            }
        }
        optimiser.step(&sum.ok_or("an empty batch")?, 1e-3, 1.0)?;
        Ok(total)
    };
    // As `mtcae-train` does: on a thread of the pool.
    let mut step = || rayon::scope(|_| step());
    step()?;
    println!("ready {}", peak_memory());
    for line in std::io::stdin().lines() {
        line?;
        let (wall, processor) = (Instant::now(), processor_time());
        let loss = step()?;
        let wall = wall.elapsed().as_secs_f64();
        println!("{wall} {} {loss}", processor_time() - processor);
    }
    Ok(())
}

fn forward(what: &str, batch: usize, params: &ParamStore) -> Result<Forward, Fault> {
    let vb = params.builder(&Device::Cpu);
    let encoder = match what {
        "features" => {
            let tasks = vec![
                Task::new("face_box", 64),
                Task::new("landmarks", 160),
                Task::new("expression", CLASSES),
            ];
            let decoder = MultiTaskDecoder::new(&Config::cascade(1024, tasks), vb)?;
            let f = tensor(&[batch, TOKENS, 1024])?;
            return Ok(Box::new(move |from, clips, pass| {
                Ok(decoder.run(&f.narrow(0, from, clips)?, pass)?.heads)
            }));
        }
        "small" => VideoMaeConfig::small(),
        "base" => VideoMaeConfig::base(),
        "large" => VideoMaeConfig::large(),
        other => return Err(format!("{other} is not one of features, small, base, large").into()),
    };
    let classes = (0..CLASSES).map(|i| format!("class {i}")).collect();
    let config = mtcae_model::Config::new(encoder, Structure::Cascade, classes);
    let model = Mtcae::new(&config, vb)?;
    let tubes = tensor(&[batch, TOKENS, 1536])?;
    Ok(Box::new(move |from, clips, pass| {
        let encoder = model.encoder().ok_or("no encoder")?;
        let f = encoder.run(&tubes.narrow(0, from, clips)?, pass)?;
        Ok(model.decoder().run(&f, pass)?.heads)
    }))
}
