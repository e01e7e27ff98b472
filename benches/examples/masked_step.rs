//! Steps of masked pre-training on demand, for comparisons in turns with PyTorch
//! (`benches/peers/masked.py`): each line on standard input asks for one step, forward,
//! backward and AdamW, and is answered by its wall seconds, its processor seconds and its
//! loss.
//!
//! `masked_step FAMILY-SIZE BATCH`: an encoder of a family's size by name, pre-trained as the
//! family is published; masks are drawn anew for each step.
//!
//! When it is ready it says the most memory so far, in bytes, and how many parameters it
//! trains.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use mtcae_benches::{peak_memory, processor_time, tensor};
use mtcae_encoder::masked::{self, Mask, MaskedConfig};
use mtcae_encoder::{Families, Overrides};
use mtcae_nn::candle_core::Device;
use mtcae_nn::optim::{AdamW, AdamWConfig, Gradients, Group};
use mtcae_nn::{Isa, ParamStore, Pass};

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Fault> {
    Isa::held().map_err(|e| e.to_string())?;
    // As `mtcae pretrain` does.
    mtcae_nn::plan::keep_freed();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, batch] = args.as_slice() else {
        return Err("masked_step FAMILY-SIZE BATCH".into());
    };
    let batch: usize = batch.parse()?;
    let (family, size) = what.rsplit_once('-').ok_or("no FAMILY-SIZE")?;
    let encoder = Families::preset(family, size, &Overrides::default())?;
    let config = MaskedConfig::of(&encoder)?;
    let params = ParamStore::new(0);
    let model = masked::draw(&config, &params, &Device::Cpu)?;
    let vars = params.vars();
    let adamw = AdamWConfig {
        beta2: 0.95,
        ..AdamWConfig::default()
    };
    let group = Group {
        lr_scale: 1.0,
        weight_decay: 0.05,
    };
    let mut optimiser = AdamW::new(&vars, adamw, |_, _| group)?;
    let tubes = tensor(&[batch, config.tubes(), config.tube_len()])?;
    let mut seed = 0;
    let mut step = || -> Result<f32, Fault> {
        let masks = (0..batch).map(|_| {
            seed += 1;
            config.mask(seed)
        });
        let masks: Vec<Mask> = masks.collect::<Result<_, _>>()?;
        let mut pass = Pass::training(seed).collecting();
        let loss = model.forward(&tubes, &masks, &mut pass)?.loss()?;
        let mut grads = loss.backward()?;
        grads.extend(pass.into_gradients())?;
        optimiser.step(&Gradients::take(&vars, &mut grads)?, 1e-4, 1.0)?;
        Ok(loss.to_scalar()?)
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
