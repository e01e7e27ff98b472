//! Bolts a three-task cascade onto an encoder of one's own: one forward, one
//! backward, and a check that every parameter got its gradient.

use mtcae_decoder::candle_core::{Device, Module, Result, Tensor};
use mtcae_decoder::nn::{Linear, ParamStore, VarBuilder, linear};
use mtcae_decoder::{Config, MultiTaskDecoder, Task};

/// Stands for any encoder: it turns frames (B, N, 48) into features (B, N, 96).
struct MyEncoder {
    embed: Linear,
}

impl MyEncoder {
    fn new(vb: VarBuilder) -> Result<Self> {
        Ok(Self { embed: linear(48, 96, vb.pp("embed"))? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.embed.forward(x)?.tanh()
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cpu;
    let params = ParamStore::new(42);
    let vb = params.builder(&device);
    let encoder = MyEncoder::new(vb.pp("encoder"))?;
    let tasks = vec![Task::new("hands", 8), Task::new("gaze", 2), Task::new("mood", 5)];
    let config = Config { width: 60, depth: 2, head_dim: 20, ..Config::cascade(96, tasks) };
    let decoder = MultiTaskDecoder::new(&config, vb.pp("decoder"))?;

    let x = Tensor::randn(0f32, 1., (4, 50, 48), &device)?;
    let outputs = decoder.forward(&encoder.forward(&x)?)?;
    let mut loss = Tensor::new(0f32, &device)?;
    for (task, head) in outputs.tasks.iter().zip(&outputs.heads) {
        println!("{task}: {:?}", head.dims());
        loss = (loss + head.sqr()?.mean_all()?)?;
    }

    let grads = loss.backward()?;
    let vars = params.vars();
    for (name, var) in &vars {
        let grad = grads.get(var).ok_or(format!("{name} has no gradient"))?;
        if grad.abs()?.max_all()?.to_scalar::<f32>()? == 0.0 {
            return Err(format!("the gradient of {name} is zero").into());
        }
    }
    let folder = std::env::temp_dir().join("downstream-cascade");
    decoder.save(&folder)?;
    let again = MultiTaskDecoder::load(&folder, &device)?;
    println!("{}: {} tasks", folder.display(), again.config().tasks.len());
    println!("loss {:.4}, {} parameters with gradients", loss.to_scalar::<f32>()?, vars.len());
    Ok(())
}
