//! Steps of training the paper's cascade on cached features of ViT-L
//! (B, 1568, 1024): seconds a step, clips a second and the process's peak memory.
//!
//! `cargo run --release -p mtcae-benches --example train_step -- [BATCH] [STEPS]`

use std::time::Instant;

use mtcae_benches::{peak_memory, processor_time, tensor};
use mtcae_decoder::candle_core::{DType, Device, Result, Tensor, Var};
use mtcae_decoder::nn::{ParamStore, Pass};
use mtcae_decoder::{Config, MultiTaskDecoder, Task};

const TOKENS: usize = 1568;
const FEATURES: usize = 1024;

/// AdamW without frills, so that a step costs what a step costs.
struct AdamW {
    vars: Vec<(Var, Vec<f32>, Vec<f32>)>,
    step: i32,
}

impl AdamW {
    fn new(params: &ParamStore) -> Self {
        let vars = params.vars().into_iter().map(|(_, var)| {
            let n = var.elem_count();
            (var, vec![0.0; n], vec![0.0; n])
        });
        Self {
            vars: vars.collect(),
            step: 0,
        }
    }

    fn step(&mut self, loss: &Tensor) -> Result<()> {
        let mut grads = loss.backward()?;
        self.step += 1;
        let (rate, decay, b1, b2) = (1e-3f32, 1e-3f32, 0.9f32, 0.999f32);
        let (c1, c2) = (1.0 - b1.powi(self.step), 1.0 - b2.powi(self.step));
        for (var, m, v) in &mut self.vars {
            let Some(grad) = grads.remove(var) else {
                mtcae_decoder::candle_core::bail!("a parameter has no gradient");
            };
            let grad = grad.flatten_all()?.to_vec1::<f32>()?;
            let mut w = var.flatten_all()?.to_vec1::<f32>()?;
            for (((w, g), m), v) in w.iter_mut().zip(grad).zip(m).zip(v) {
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *w -= rate * (*m / c1 / ((*v / c2).sqrt() + 1e-8) + decay * *w);
            }
            var.set(&Tensor::from_vec(w, var.shape(), &Device::Cpu)?)?;
        }
        Ok(())
    }
}

#[expect(clippy::print_stdout, reason = "a program whose output is figures")]
fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let batch = args.next().transpose()?.unwrap_or(4);
    let steps = args.next().transpose()?.unwrap_or(3);

    let tasks = vec![
        Task::new("face_box", 64),
        Task::new("landmarks", 160),
        Task::new("expression", 7),
    ];
    let params = ParamStore::new(0);
    let decoder = MultiTaskDecoder::new(
        &Config::cascade(FEATURES, tasks),
        params.builder(&Device::Cpu),
    )?;
    let mut optimiser = AdamW::new(&params);
    let f = tensor(&[batch, TOKENS, FEATURES])?;
    let (boxes, points) = (tensor(&[batch, 64])?, tensor(&[batch, 160])?);
    let classes = Tensor::zeros(batch, DType::U32, &Device::Cpu)?;

    let mut times = Vec::new();
    for i in 0..=steps {
        let (start, cpu) = (Instant::now(), processor_time());
        let heads = decoder.run(&f, &mut Pass::training(i as u64))?.heads;
        let loss = ((candle_nn::loss::mse(&heads[0], &boxes)? * 0.5)?
            + (candle_nn::loss::mse(&heads[1], &points)? * 0.5)?)?;
        let loss = (loss + (candle_nn::loss::cross_entropy(&heads[2], &classes)? * 1.5)?)?;
        drop(heads);
        let forward = start.elapsed().as_secs_f64();
        optimiser.step(&loss)?;
        let total = start.elapsed().as_secs_f64();
        let cpu = processor_time() - cpu;
        println!(
            "step {i}: loss {:.6}, forward {forward:.2} s, all {total:.2} s, {cpu:.2} s of CPU time",
            loss.to_scalar::<f32>()?
        );
        if i > 0 {
            times.push(total); // the first one warms up
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "batch {batch}: {median:.2} s a step, {:.3} clips/s, peak memory {:.2} GB",
        batch as f64 / median,
        peak_memory() as f64 / 1e9,
    );
    Ok(())
}
