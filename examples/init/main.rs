//! `init`: a new checkpoint folder, with a pretrained encoder or a random one,
//! and a random decoder.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use mtcae_dfer::model::decoder::{Config as DecoderConfig, Structure};
use mtcae_dfer::model::encoder::{
    Checkpoint, Config as EncoderConfig, Error as EncoderError, Overrides, Resize, Spelling,
    open_named,
};
use mtcae_dfer::model::{Config, Mtcae, Preprocessing, checkpoint as folder};
use mtcae_dfer::{Device, Tensor};
use mtcae_examples::{Download, Fault, one_line};
use mtcae_nn::{INIT_STD, ParamStore};

/// Makes a checkpoint folder to train from.
///
/// The encoder is a pretrained one (--encoder) or a random one of a given size;
/// the decoder is random. Until it is trained, its predictions mean nothing.
#[derive(Parser)]
#[command(name = "init", version)]
struct Args {
    /// The folder to make.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// A pretrained VideoMAE encoder: a file, a folder, or hub:ORG/NAME, such as
    /// hub:MCG-NJU/videomae-large. Its config, mean and std are taken over; of a
    /// folder of this program's or of train's, all of the preprocessing is.
    #[arg(long, value_name = "FILE|DIR|hub:NAME")]
    encoder: Option<String>,

    /// Sizes of a random model: a file as a checkpoint's config.json, from which
    /// all but `trained_on` is taken.
    #[arg(long, value_name = "FILE.json",
          conflicts_with_all = ["encoder", "size", "structure", "classes"])]
    config: Option<PathBuf>,

    /// Size of a random encoder.
    #[arg(long, default_value = "large", conflicts_with = "encoder")]
    size: Size,

    /// Heads of an --encoder that does not say: a bare file of no published width.
    #[arg(long, value_name = "N", requires = "encoder")]
    heads: Option<usize>,

    /// Which of the paper's six structures: single-task, separate-mlp,
    /// separate-vit, shared-mlp, shared-vit or cascade.
    #[arg(long, default_value = "cascade")]
    structure: Structure,

    /// Names of the expressions, in the order of the logits.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "neutral,happy,sad,angry,fearful,disgust,surprised"
    )]
    classes: Vec<String>,

    /// How random matrices are drawn.
    #[arg(long, default_value = "normal", conflicts_with = "encoder")]
    weights: Weights,

    /// Seed of everything that is random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Size {
    /// 4 blocks of width 96 on 112x112: a toy, as in the demo.
    Tiny,
    Small,
    Base,
    Large,
    Huge,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Weights {
    /// With a deviation of 0.02, as VideoMAE is fine-tuned.
    Normal,
    /// With a deviation of √(2/(inputs + outputs)), as VideoMAE is pre-trained
    /// (Glorot and Bengio, 2010): right for small widths and long tubes.
    Xavier,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Fault> {
    let device = Device::Cpu;
    let store = ParamStore::new(args.seed);
    if let Some(path) = &args.config {
        let config = Config {
            trained_on: None,
            ..folder::read_config(path)?
        };
        return write(args, &config, &store, &device);
    }
    let mut preprocessing = Preprocessing::default();
    let encoder = match &args.encoder {
        None => random_encoder(args.size),
        Some(name) => {
            let overrides = Overrides {
                heads: args.heads,
                ..Overrides::default()
            };
            let mut download = Download::new(false);
            let found = open_named(name, &overrides, &mut |file, done, total| {
                download.step(file, done, total);
            })
            .map_err(|error| match error {
                EncoderError::Heads { .. } => Fault::from(format!("{error} (--heads)")),
                error => error.into(),
            })?;
            found.check()?;
            for (tensor, _) in found.config.tensors() {
                store.set(
                    &format!("encoder.{tensor}"),
                    &found.source().load(&tensor, &device)?,
                )?;
            }
            preprocessing = taken_over(name, &found)?;
            if !found.ignored.is_empty() {
                eprintln!(
                    "not part of the encoder, left out: {}",
                    found.ignored.join(", ")
                );
            }
            found.config
        }
    };
    let mut config = Config {
        preprocessing,
        ..Config::new(encoder, args.structure, args.classes.clone())
    };
    if args.encoder.is_none() && matches!(args.size, Size::Tiny) {
        config.decoder = DecoderConfig {
            width: 64,
            depth: 2,
            head_dim: 24,
            ..config.decoder
        };
    }
    write(args, &config, &store, &device)
}

/// The preprocessing that an encoder comes with; what of it is not taken is said.
fn taken_over(name: &str, found: &Checkpoint) -> Result<Preprocessing, Fault> {
    if let (Spelling::Own, Some(path)) = (found.spelling, &found.config_file)
        && let Some(own) = folder::read_preprocessing(path)?
    {
        return Ok(own);
    }
    let paper = Preprocessing::default();
    let Some(given) = &found.preprocessing else {
        eprintln!("{name} does not say how it wants its pixels: ImageNet's mean and std are taken");
        return Ok(paper);
    };
    let edge = match given.resize {
        Some(Resize::ShortestEdge(edge)) => Some(format!("shortest edge of {edge}")),
        Some(Resize::Exact(..)) | None => None,
    };
    let crop = given.crop.map(|(h, w)| format!("centre crop of {h}x{w}"));
    let left: Vec<String> = edge.into_iter().chain(crop).collect();
    if !left.is_empty() {
        eprintln!(
            "{name}: its {} is not taken: the whole frame is squashed, as in the paper \
             (preprocessing.resize in config.json; shortest-edge crops to the centre)",
            left.join(" with ")
        );
    }
    Ok(Preprocessing {
        mean: given.mean,
        std: given.std,
        ..paper
    })
}

/// Draws what the store does not hold yet and writes the folder.
fn write(args: &Args, config: &Config, store: &ParamStore, device: &Device) -> Result<(), Fault> {
    let out = args.out.as_path();
    Mtcae::new(config, store.builder(device))?;
    let vars = store.vars();
    if args.weights == Weights::Xavier {
        for (name, var) in vars.iter().filter(|(_, var)| var.rank() > 1) {
            if name != "encoder.pos_embed" {
                let outputs = var.dim(0)?;
                let inputs = var.elem_count() / outputs;
                let wanted = match name.contains("patch_embed") {
                    // A convolution, which VideoMAE leaves as PyTorch draws it.
                    true => (1.0 / (3 * inputs) as f64).sqrt(),
                    false => (2.0 / (inputs + outputs) as f64).sqrt(),
                };
                var.set(&(var.as_tensor() * (wanted / INIT_STD))?)?;
            }
        }
    }
    let tensors: Vec<(&str, &Tensor)> = vars
        .iter()
        .map(|(name, var)| (name.as_str(), var.as_tensor()))
        .collect();
    folder::save(out, config, tensors)?;
    let count: usize = vars.iter().map(|(_, var)| var.elem_count()).sum();
    println!(
        "{}: {} parameters in {} tensors, untrained decoder",
        out.display(),
        count,
        vars.len()
    );
    Ok(())
}

fn random_encoder(size: Size) -> EncoderConfig {
    match size {
        Size::Tiny => EncoderConfig {
            image_size: 112,
            width: 96,
            depth: 4,
            heads: 3,
            hidden: 384,
            ..EncoderConfig::small()
        },
        Size::Small => EncoderConfig::small(),
        Size::Base => EncoderConfig::base(),
        Size::Large => EncoderConfig::large(),
        Size::Huge => EncoderConfig::huge(),
    }
}
