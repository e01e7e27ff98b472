//! Steps of training on demand, for comparisons in turns with PyTorch
//! (`benches/peers/training.py`): each line on standard input asks for one step,
//! forward, backward and AdamW, and is answered by its wall seconds, its processor
//! seconds and its loss.
//!
//! `train_step features BATCH`: the paper's cascade on cached features of ViT-L
//! (B, 1568, 1024). `train_step small|base|large BATCH`: the whole model, all of it
//! trained, on tubes (B, 1568, 1536).

#![allow(clippy::print_stdout)]

use std::time::Instant;

use mtcae_benches::{peak_memory, processor_time, tensor};
use mtcae_decoder::candle_core::{DType, Device, Tensor};
use mtcae_decoder::nn::optim::{AdamW, AdamWConfig, Gradients, Group};
use mtcae_decoder::nn::{ParamStore, Pass};
use mtcae_decoder::{Config, MultiTaskDecoder, Structure, Task};
use mtcae_encoder::Config as EncoderConfig;
use mtcae_model::Mtcae;

const TOKENS: usize = 1568;
const CLASSES: usize = 7;

type Fault = Box<dyn std::error::Error + Send + Sync>;
/// Outputs of the three heads.
type Forward = Box<dyn Fn(&mut Pass) -> Result<Vec<Tensor>, Fault> + Send + Sync>;

fn main() -> Result<(), Fault> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, batch] = args.as_slice() else {
        return Err("train_step features|small|base|large BATCH".into());
    };
    let batch: usize = batch.parse()?;
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
        seed += 1;
        let heads = forward(&mut Pass::training(seed))?;
        let loss = ((candle_nn::loss::mse(&heads[0], &boxes)? * 0.5)?
            + (candle_nn::loss::mse(&heads[1], &points)? * 0.5)?)?;
        let loss = (loss + (candle_nn::loss::cross_entropy(&heads[2], &classes)? * 1.5)?)?;
        drop(heads);
        let gradients = Gradients::take(&vars, &mut loss.backward()?)?;
        optimiser.step(&gradients, 1e-3, 1.0)?;
        Ok(loss.to_scalar()?)
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
            return Ok(Box::new(move |pass| Ok(decoder.run(&f, pass)?.heads)));
        }
        "small" => EncoderConfig::small(),
        "base" => EncoderConfig::base(),
        "large" => EncoderConfig::large(),
        other => return Err(format!("{other} is none of features, small, base, large").into()),
    };
    let classes = (0..CLASSES).map(|i| format!("class {i}")).collect();
    let config = mtcae_model::Config::new(encoder, Structure::Cascade, classes);
    let model = Mtcae::new(&config, vb)?;
    let tubes = tensor(&[batch, TOKENS, 1536])?;
    Ok(Box::new(move |pass| {
        let f = model.encoder().run(&tubes, pass)?;
        Ok(model.decoder().run(&f, pass)?.heads)
    }))
}
