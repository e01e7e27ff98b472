//! Steps of training on demand, for comparisons in turns with PyTorch
//! (`benches/peers/training.py`): each line on standard input asks for one step,
//! forward, backward and AdamW, and is answered by its wall seconds, its processor
//! seconds and its loss.
//!
//! `train_step features BATCH [AT_ONCE]`: the paper's cascade on cached features of
//! ViT-L (B, 1568, 1024). `train_step small|base|large BATCH [AT_ONCE]`: the cascade and
//! a VideoMAE of that size, all of it trained, on tubes (B, 1568, 1536).
//! `train_step FAMILY-SIZE[-PIXELS] BATCH [AT_ONCE]`: an encoder of a family's size by
//! name, at another frame size where one is given, with one linear layer of the mean of
//! its features (structure `single-task`) and the expression's loss alone. AT_ONCE clips
//! go through the model at once (all, unless given), as training's `accumulate` does it:
//! the gradient is that of the batch.
//!
//! When it is ready it says the most memory so far, in bytes, and how many parameters it
//! trains.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use mtcae_benches::{peak_memory, processor_time, tensor};
use mtcae_decoder::candle_core::{DType, Device, Tensor};
use mtcae_decoder::nn::optim::{AdamW, AdamWConfig, Gradients, Group};
use mtcae_decoder::nn::{Isa, ParamStore, Pass};
use mtcae_decoder::{Config, MultiTaskDecoder, Structure, Task};
use mtcae_encoder::{Config as EncoderConfig, Families, Overrides};
use mtcae_model::Mtcae;

const TOKENS: usize = 1568;
const CLASSES: usize = 7;

type Fault = Box<dyn std::error::Error + Send + Sync>;
/// Outputs of the heads for some clips, the expression's last: the first, how many.
type Forward = Box<dyn Fn(usize, usize, &mut Pass) -> Result<Vec<Tensor>, Fault> + Send + Sync>;

fn main() -> Result<(), Fault> {
    Isa::held().map_err(|e| e.to_string())?;
    // As the programs that train do.
    mtcae_decoder::nn::plan::keep_freed();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (what, batch, at_once) = match args.as_slice() {
        [what, batch] => (what, batch, batch),
        [what, batch, at_once] => (what, batch, at_once),
        _ => {
            let usage = "train_step features|small|base|large|FAMILY-SIZE[-PIXELS] BATCH [AT_ONCE]";
            return Err(usage.into());
        }
    };
    let (batch, at_once): (usize, usize) = (batch.parse()?, at_once.parse()?);
    if at_once == 0 || batch % at_once != 0 {
        return Err(format!("a batch of {batch} is not a multiple of {at_once}").into());
    }
    let parts = batch / at_once;
    let params = ParamStore::new(0);
    let (forward, kept) = forward(what, batch, &params)?;
    let mut vars = params.vars();
    vars.retain(|(name, _)| !kept.contains(name));
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
            let (logits, faces) = heads.split_last().ok_or("no head")?;
            let mut loss = (candle_nn::loss::cross_entropy(logits, &some(&classes)?)? * 1.5)?;
            for (output, target) in faces.iter().zip([&boxes, &points]) {
                loss = (loss + (candle_nn::loss::mse(output, &some(target)?)? * 0.5)?)?;
            }
            let loss = (loss * (1.0 / parts as f64))?;
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
    let parameters: usize = vars.iter().map(|(_, var)| var.elem_count()).sum();
    println!("ready {} {parameters}", peak_memory());
    for line in std::io::stdin().lines() {
        line?;
        let (wall, processor) = (Instant::now(), processor_time());
        let loss = step()?;
        let wall = wall.elapsed().as_secs_f64();
        println!("{wall} {} {loss}", processor_time() - processor);
    }
    Ok(())
}

/// With the names of the parameters that have no gradient.
fn forward(what: &str, batch: usize, params: &ParamStore) -> Result<(Forward, Vec<String>), Fault> {
    let vb = params.builder(&Device::Cpu);
    if what == "features" {
        let tasks = vec![
            Task::new("face_box", 64),
            Task::new("landmarks", 160),
            Task::new("expression", CLASSES),
        ];
        let decoder = MultiTaskDecoder::new(&Config::cascade(1024, tasks), vb)?;
        let f = tensor(&[batch, TOKENS, 1024])?;
        let forward: Forward = Box::new(move |from, clips, pass| {
            Ok(decoder.run(&f.narrow(0, from, clips)?, pass)?.heads)
        });
        return Ok((forward, Vec::new()));
    }
    let (encoder, structure) = match what.split_once('-') {
        None => {
            let encoder = Families::preset("videomae", what, &Overrides::default())?;
            (encoder, Structure::Cascade)
        }
        Some(_) => (encoder(what)?, Structure::SingleTask),
    };
    let classes = (0..CLASSES).map(|i| format!("class {i}")).collect();
    let config = mtcae_model::Config::new(encoder, structure, classes);
    let model = Mtcae::new(&config, vb)?;
    let tubes = tensor(&[&[batch], &config.encoder.input().shape()[..]].concat())?;
    let groups = config.encoder.groups().into_iter();
    let kept = groups
        .flat_map(|group| group.parameters)
        .filter(|p| !p.used)
        .map(|p| format!("encoder.{}", p.name));
    let kept = kept.collect();
    let forward: Forward = Box::new(move |from, clips, pass| {
        let encoder = model.encoder().ok_or("no encoder")?;
        let f = encoder.run(&tubes.narrow(0, from, clips)?, pass)?;
        Ok(model.decoder().run(&f, pass)?.heads)
    });
    Ok((forward, kept))
}

/// The encoder FAMILY-SIZE or FAMILY-SIZE-PIXELS.
fn encoder(name: &str) -> Result<EncoderConfig, Fault> {
    let pixels = name.rsplit_once('-').map(|(preset, n)| (preset, n.parse()));
    let (preset, image_size) = match pixels {
        Some((preset, Ok(pixels))) => (preset, Some(pixels)),
        _ => (name, None),
    };
    let named = preset.rsplit_once('-');
    let (family, size) = named.ok_or_else(|| format!("{name} is not FAMILY-SIZE[-PIXELS]"))?;
    let given = Overrides {
        image_size,
        ..Overrides::default()
    };
    Ok(Families::preset(family, size, &given)?)
}
