//! The cascade over an encoder of one's own: trained for two steps, saved, loaded through
//! the factory that this crate hands over, and asked about a video.

mod encoder;

use encoder::PatchMeans;
use mtcae_dfer::model::decoder::{Config as Decoder, Structure};
use mtcae_dfer::model::encoder::{EncoderConfig, Families, nn};
use mtcae_dfer::model::{Checkpoint, Config, Mtcae, checkpoint};
use mtcae_dfer::{Device, Pass, Pipeline, Precision, Tensor};
use nn::ParamStore;
use nn::optim::{AdamW, AdamWConfig, Gradients, Group};

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    let device = Device::Cpu;
    let encoder = PatchMeans {
        frames: 16,
        size: 64,
        patch: 8,
        width: 48,
    };
    let (input, classes) = (encoder.input(), ["calm", "happy", "sad"].map(str::to_owned));
    let mut config = Config::new(encoder, Structure::Cascade, classes.to_vec());
    config.decoder = Decoder {
        width: 32,
        depth: 2,
        head_dim: 16,
        ..config.decoder
    };
    config.trained_on = Some("two steps on noise".to_owned());

    let store = ParamStore::new(7);
    let model = Mtcae::new(&config, store.builder(&device))?;
    let parameters = store.vars();
    let group = Group {
        lr_scale: 1.0,
        weight_decay: 1e-3,
    };
    let mut optimiser = AdamW::new(&parameters, AdamWConfig::default(), |_, _| group)?;
    let clips = Tensor::randn(0f32, 1.0, [&[2], &input.shape()[..]].concat(), &device)?;
    for step in 0..2 {
        let outputs = model.run(&clips, &mut Pass::training(step))?;
        let mut loss = (outputs.logits.sqr()?.mean_all()? * 1.5)?;
        for head in [outputs.boxes, outputs.landmarks].into_iter().flatten() {
            loss = (loss + ((head - 0.5)?.sqr()?.mean_all()? * 0.5)?)?;
        }
        // Which names every parameter that no gradient reaches.
        let gradients = Gradients::take(&parameters, &mut loss.backward()?)?;
        optimiser.step(&gradients, 1e-4, 1.0)?;
        println!("step {step}: loss {:.4}", loss.to_scalar::<f32>()?);
    }

    let folder = std::env::temp_dir().join(format!("downstream-encoder-{}", std::process::id()));
    let tensors = parameters
        .iter()
        .map(|(name, var)| (name.as_str(), var.as_tensor()));
    checkpoint::save(&folder, &config, tensors)?;
    match Checkpoint::open(&folder) {
        Ok(_) => return Err("a family without a factory was read".into()),
        Err(error) => println!("without the factory: {error}"),
    }
    let families = Families::default().with::<PatchMeans>("patch-means");
    let checkpoint = Checkpoint::open_with(&folder, &families)?;
    let pipeline = Pipeline::new(checkpoint.engine(&device, Precision::F32)?);
    let video = std::env::args().nth(1).ok_or("give a video")?;
    let prediction = pipeline.predict(&video)?;
    println!(
        "{video}: {} ({:.0} %)",
        prediction.expression,
        100.0 * prediction.confidence
    );
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
