//! `init`: a new checkpoint folder, with a pretrained encoder or a random one,
//! and a random decoder.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::output::clean_up_when_stopped;
use crate::{Download, Fault, note, say};
use clap::{Command, CommandFactory, FromArgMatches, Parser, ValueEnum, value_parser};
use mtcae_dfer::model::checkpoint::{CONFIG, WEIGHTS};
use mtcae_dfer::model::decoder::{Config as DecoderConfig, Structure};
use mtcae_dfer::model::encoder::{
    Checkpoint, Config as EncoderConfig, Error as EncoderError, Overrides, Resize, Spelling,
    open_named, open_with,
};
use mtcae_dfer::model::{Config, Mtcae, Preprocessing, TrainedSubjects, checkpoint as folder};
use mtcae_dfer::{Device, Tensor};
use mtcae_nn::{INIT_STD, ParamStore};

/// Makes a checkpoint folder to train from.
///
/// The encoder is a pretrained one (--encoder) or a random one of a given size;
/// the decoder is random. Until it is trained, its predictions mean nothing.
#[derive(Parser)]
#[command(name = "init", version)]
struct Args {
    /// The folder to make. One that holds a model is left as it is, unless --force
    /// is given.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Write over a model in --out.
    #[arg(long)]
    force: bool,

    /// A pretrained VideoMAE encoder: a file, a folder, or hub:ORG/NAME, such as
    /// hub:MCG-NJU/videomae-large. Its config, mean and std are taken over; of a
    /// folder of this program's or of train's, all of the preprocessing is.
    #[arg(long, value_name = "FILE|DIR|hub:NAME")]
    encoder: Option<OsString>,

    /// Sizes of a random model: a file as a checkpoint's config.json, from which
    /// all but `trained_on` is taken.
    #[arg(long, value_name = "FILE.json",
          conflicts_with_all = ["encoder", "size", "structure", "classes", "decoder_width",
                                "decoder_depth", "decoder_heads", "decoder_head_dim"])]
    config: Option<PathBuf>,

    /// Size of a random encoder.
    #[arg(long, default_value = "large", conflicts_with = "encoder")]
    size: Size,

    /// Heads of an --encoder that does not say: a bare file of no published width.
    #[arg(long, value_name = "N")]
    heads: Option<usize>,

    /// Which of the paper's six structures: single-task, separate-mlp,
    /// separate-vit, shared-mlp, shared-vit or cascade.
    #[arg(long, default_value = "cascade")]
    structure: Structure,

    /// Channels of the decoder [default: the paper's 512; over an encoder of fewer than
    /// 384, two thirds of its channels, and the depth is then 2]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=8192))]
    decoder_width: Option<u16>,

    /// Layers of each decoder [default: the paper's 5, or 2]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=64))]
    decoder_depth: Option<u16>,

    /// Attention heads of the decoder.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u16).range(1..=256))]
    decoder_heads: u16,

    /// Channels of one of these heads [default: the width over the heads, rounded up to
    /// a multiple of 8]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=4096))]
    decoder_head_dim: Option<u16>,

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

pub fn command() -> Command {
    Args::command()
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    let given = command.try_get_matches_from(line)?;
    run(&Args::from_arg_matches(&given)?).map(|()| true)
}

fn run(args: &Args) -> Result<(), Fault> {
    clean_up_when_stopped()?;
    let there = [CONFIG, WEIGHTS].map(|name| args.out.join(name));
    if let Some(path) = there.iter().find(|p| p.symlink_metadata().is_ok())
        && !args.force
    {
        return Err(format!(
            "{}: is there; --force writes a new model over it, or take another folder",
            path.display()
        )
        .into());
    }
    if args.heads.is_some() && args.encoder.is_none() {
        return Err(
            "--heads: is of an --encoder that does not say; a random encoder has its size's, \
             and the decoder --decoder-heads"
                .into(),
        );
    }
    let device = Device::Cpu;
    let store = ParamStore::new(args.seed);
    if let Some(path) = &args.config {
        let config = Config {
            trained_on: None,
            trained_subjects: None,
            ..folder::read_config(path)?
        };
        return write(args, &config, &store, &device);
    }
    let mut preprocessing = Preprocessing::default();
    let mut trained_subjects = None;
    let encoder = match &args.encoder {
        None => random_encoder(args.size),
        Some(name) => {
            let overrides = Overrides {
                heads: args.heads,
                ..Overrides::default()
            };
            let mut download = Download::new(false);
            let found = match name.to_str() {
                Some(name) => open_named(name, &overrides, &mut |file, done, total| {
                    download.step(file, done, total);
                }),
                None => open_with(name, &overrides),
            };
            let found = found.map_err(|error| match error {
                EncoderError::Heads { .. } => Fault::from(format!("{error} (--heads)")),
                error => error.into(),
            })?;
            let name = name.to_string_lossy();
            found.check()?;
            for (tensor, _) in found.config.tensors() {
                store.set(
                    &format!("encoder.{tensor}"),
                    &found.source().load(&tensor, &device)?,
                )?;
            }
            preprocessing = taken_over(&name, &found)?;
            trained_subjects = subjects_of(&found)?;
            if !found.ignored.is_empty() {
                let names = &found.ignored;
                let shown = names[..names.len().min(3)].join(", ");
                let more = if names.len() > 3 { ", …" } else { "" };
                note!(
                    "left out, since no part of the encoder: {} tensors ({shown}{more})",
                    names.len()
                );
            }
            found.config
        }
    };
    let mut config = Config {
        preprocessing,
        trained_subjects,
        ..Config::new(encoder, args.structure, args.classes.clone())
    };
    config.decoder = decoder(args, config.decoder);
    write(args, &config, &store, &device)
}

/// The paper's decoder, or one that is to a small encoder what that is to a large one;
/// with the sizes that are asked for.
fn decoder(args: &Args, paper: DecoderConfig) -> DecoderConfig {
    let small = paper.features < EncoderConfig::small().width;
    let width = match args.decoder_width {
        Some(width) => width.into(),
        None if small => (2 * paper.features / 3).next_multiple_of(16),
        None => paper.width,
    };
    let heads = usize::from(args.decoder_heads);
    DecoderConfig {
        width,
        depth: match args.decoder_depth {
            Some(depth) => depth.into(),
            None if small => 2,
            None => paper.depth,
        },
        heads,
        head_dim: match args.decoder_head_dim {
            Some(dim) => dim.into(),
            None => width.div_ceil(heads).next_multiple_of(8),
        },
        ..paper
    }
}

/// Whom an encoder of a model of ours was trained on: it does not forget them.
fn subjects_of(found: &Checkpoint) -> Result<Option<TrainedSubjects>, Fault> {
    let (Spelling::Own, Some(path)) = (found.spelling, &found.config_file) else {
        return Ok(None);
    };
    let config = folder::read_config(path)?;
    Ok(match (config.trained_subjects, config.trained_on) {
        // It was trained, on whom it does not say.
        (None, Some(_)) => Some(TrainedSubjects {
            complete: false,
            ..TrainedSubjects::new([0; 16])
        }),
        (subjects, _) => subjects,
    })
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
        note!("{name} does not say how it wants its pixels: ImageNet's mean and std are taken");
        return Ok(paper);
    };
    let edge = match given.resize {
        Some(Resize::ShortestEdge(edge)) => Some(format!("shortest edge of {edge}")),
        Some(Resize::Exact(..)) | None => None,
    };
    let crop = given.crop.map(|(h, w)| format!("centre crop of {h}x{w}"));
    let left: Vec<String> = edge.into_iter().chain(crop).collect();
    if !left.is_empty() {
        note!(
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
    let decoder = &config.decoder;
    say!(
        "{}: {count} parameters in {} tensors; untrained decoder, {} wide, {} deep, {} heads of {}",
        out.display(),
        vars.len(),
        decoder.width,
        decoder.depth,
        decoder.heads,
        decoder.head_dim
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
