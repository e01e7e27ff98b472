//! What `tests/parity.py` compares ONNX Runtime with: `parity FOLDER [CHECKPOINT …]` makes
//! a folder in FOLDER for every family of encoders with every structure and variant, and for
//! each CHECKPOINT. In it are the models as they are exported, and in `tensors.safetensors`
//! a batch of random clips with all that this project computes of them.
//!
//! Small models with weights that leave nothing flat: attention that looks somewhere, biases
//! and norms that are not those of the beginning.

#![allow(clippy::print_stdout)]

use std::path::Path;

use mtcae_decoder::{KvOrder, Structure};
use mtcae_encoder::{Config as EncoderConfig, Features, LgiFormerConfig, Position};
use mtcae_encoder::{TpsbtConfig, VideoMaeConfig};
use mtcae_model::{Calibration, Checkpoint, Config, checkpoint};
use mtcae_nn::candle_core::{Device, Tensor};
use mtcae_nn::{Pass, Pool, Precision, weights};
use mtcae_onnx::{Onnx, Options, Part};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

type Fault = Box<dyn std::error::Error>;

/// Clips in a batch.
const BATCH: usize = 3;

fn main() -> Result<(), Fault> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("parity FOLDER [CHECKPOINT …]")?;
    let folder = Path::new(&folder);
    for (seed, (name, config)) in cases().into_iter().enumerate() {
        let made = folder.join(&name).join("checkpoint");
        draw(&config, seed as u64, &made)?;
        write(&folder.join(&name), &Checkpoint::open(made)?)?;
    }
    for path in args {
        let name = path.replace('/', "-");
        write(&folder.join(name), &Checkpoint::open(path)?)?;
    }
    Ok(())
}

/// Tiny models by name.
fn cases() -> Vec<(String, Config)> {
    let classes = || ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
    let with = |encoder: EncoderConfig, structure: Structure| {
        let mut config = Config::new(encoder, structure, classes());
        let decoder = &mut config.decoder;
        (
            decoder.width,
            decoder.depth,
            decoder.heads,
            decoder.head_dim,
        ) = (40, 2, 3, 24);
        config
    };
    let families: [(&str, EncoderConfig); 3] = [
        ("videomae", videomae().into()),
        ("lgi-former", lgi_former().into()),
        ("tpsbt", tpsbt().into()),
    ];
    let mut cases = Vec::new();
    for (family, encoder) in families {
        for structure in Structure::ALL {
            let config = with(encoder.clone(), structure);
            cases.push((format!("{family}-{structure}"), config));
        }
    }
    let mut variant = |name: &str, encoder: EncoderConfig, change: &dyn Fn(&mut Config)| {
        let structure = match name.starts_with("classifier") {
            true => Structure::SingleTask,
            false => Structure::Cascade,
        };
        let mut config = with(encoder, structure);
        change(&mut config);
        cases.push((name.to_owned(), config));
    };
    let stored = VideoMaeConfig {
        position: Position::Stored,
        final_norm: false,
        ..videomae()
    };
    let regions = LgiFormerConfig {
        features: Features::Regions,
        ..lgi_former()
    };
    let units = |config: &mut Config| {
        *config = config
            .clone()
            .with_action_units(vec!["AU1".to_owned(), "AU12".to_owned()]);
    };
    let vector = Calibration {
        scale: vec![0.5, 0.7, 1.0, 1.5, 2.0],
        bias: Some(vec![0.1, -0.2, 0.3, 0.0, -0.5]),
        fitted_on: "nothing".to_owned(),
    };
    variant("stored-positions", stored.clone().into(), &|_| {});
    variant("regions", regions.into(), &|_| {});
    variant("action-units", videomae().into(), &units);
    variant("norm-dense", videomae().into(), &|config| {
        config.decoder.kv_order = KvOrder::NormDense;
    });
    variant("shared-layers", videomae().into(), &|config| {
        config.decoder.share_layers = true;
    });
    variant("calibrated", videomae().into(), &move |config| {
        config.calibration = Some(vector.clone());
    });
    variant("classifier-mean", stored.clone().into(), &|config| {
        config.decoder.pooled_norm = Some(1e-5);
    });
    variant("classifier-first", stored.into(), &|config| {
        config.decoder.pool = Pool::First;
        config.decoder.pooled_norm = Some(1e-5);
    });
    cases
}

// No two of their sizes are alike, so that none passes for another.

fn videomae() -> VideoMaeConfig {
    VideoMaeConfig {
        image_size: 48,
        frames: 4,
        width: 60,
        depth: 2,
        hidden: 100,
        ..VideoMaeConfig::tiny()
    }
}

fn lgi_former() -> LgiFormerConfig {
    LgiFormerConfig {
        image_size: 96,
        frames: 8,
        width: 60,
        depth: 2,
        hidden: 100,
        regions: [2, 3, 2],
        ..LgiFormerConfig::tiny()
    }
}

fn tpsbt() -> TpsbtConfig {
    TpsbtConfig {
        image_size: 48,
        frames: 16,
        width: 60,
        depths: [1, 3, 2],
        hidden: 100,
        bottlenecks: 5,
        ..TpsbtConfig::tiny()
    }
}

/// Writes a checkpoint of random weights.
fn draw(config: &Config, seed: u64, folder: &Path) -> Result<(), Fault> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tensors = Vec::new();
    for (name, shape) in config.tensors()? {
        let (mean, deviation) = match shape.as_slice() {
            [_] if name.contains("norm") && name.ends_with("weight") => (1.0, 0.3),
            [_] => (0.0, 0.3),
            // Queries and keys of twice the variance that would keep that of their inputs:
            // softmax of what they give is far from flat.
            [.., inputs] if name.contains("attn") => (0.0, (2.0 / *inputs as f32).sqrt()),
            [.., inputs] => (0.0, (1.0 / *inputs as f32).sqrt()),
            [] => (0.0, 1.0),
        };
        tensors.push((name, normal(&mut rng, &shape, mean, deviation)?));
    }
    let tensors = tensors.iter().map(|(name, t)| (name.as_str(), t));
    Ok(checkpoint::save(folder, config, tensors)?)
}

fn normal(rng: &mut ChaCha8Rng, shape: &[usize], mean: f32, by: f32) -> Result<Tensor, Fault> {
    let values = StandardNormal.sample_iter(rng);
    let values = values.take(shape.iter().product());
    let values: Vec<f32> = values.map(|v: f32| mean + by * v).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Exports all parts, and writes what they are to be compared with.
fn write(folder: &Path, checkpoint: &Checkpoint) -> Result<(), Fault> {
    std::fs::create_dir_all(folder)?;
    let config = checkpoint.config();
    for part in Part::ALL {
        if part == Part::Decoder && config.decoder.structure == Structure::SingleTask {
            continue;
        }
        let plain = Options {
            part,
            ..Options::default()
        };
        Onnx::new(checkpoint, plain)?.write(folder.join(format!("{part}.onnx")))?;
    }
    let all = Options {
        intermediates: true,
        external: true,
        ..Options::default()
    };
    Onnx::new(checkpoint, all)?.write(folder.join("external.onnx"))?;

    let input = config.encoder.input();
    let shape = [BATCH, input.frames, input.channels, input.size, input.size];
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let clip = normal(&mut rng, &shape, 0.0, 1.0)?;
    let cut = input.cut(&clip)?;
    let engine = checkpoint.engine(&Device::Cpu, Precision::F32)?;
    let outputs = engine.run(&cut, &mut Pass::inference())?;
    let mut tensors = vec![
        ("clip", clip),
        ("features", engine.encode(&cut, &mut Pass::inference())?),
        ("probabilities", outputs.probabilities()?),
        ("logits", outputs.logits),
    ];
    tensors.extend(outputs.boxes.map(|t| ("boxes", t)));
    tensors.extend(outputs.landmarks.map(|t| ("landmarks", t)));
    tensors.extend(outputs.action_units.map(|t| ("action_units", t)));
    let mut pass = Pass::inference().traced();
    checkpoint.model(&Device::Cpu)?.run(&cut, &mut pass)?;
    let traced = pass.into_trace();
    let stages = traced.iter().filter(|(name, _)| {
        let number = name.strip_prefix('Y');
        number.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    });
    tensors.extend(stages.map(|(name, t)| (name.as_str(), t.clone())));
    let tensors = tensors.iter().map(|(name, t)| (*name, t));
    weights::save(
        folder.join("tensors.safetensors"),
        tensors,
        Default::default(),
    )?;
    println!("{}", folder.display());
    Ok(())
}
