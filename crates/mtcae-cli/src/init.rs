//! `init`: a new checkpoint folder, with a pretrained encoder or a random one,
//! and a random decoder.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Command, CommandFactory, FromArgMatches, Parser, ValueEnum, value_parser};
use mtcae_dfer::Crop;
use mtcae_dfer::model::checkpoint::{CONFIG, WEIGHTS};
use mtcae_dfer::model::decoder::{Config as DecoderConfig, Structure};
use mtcae_dfer::model::encoder::{Families, open_named, open_with};
use mtcae_dfer::model::init::{Draw, draw, suited_decoder, take_encoder};
use mtcae_dfer::model::{Config, Preprocessing, checkpoint as folder};
use mtcae_nn::{Isa, ParamStore};

use crate::foreign::{Sizes, flagged, preset};
use crate::output::clean_up_when_stopped;
use crate::{Download, Fault, note, say};

/// Makes a checkpoint folder to train from.
///
/// The encoder is a pretrained one (--encoder) or a random one of a given size;
/// the decoder is random. Until it is trained, its predictions mean nothing.
#[derive(Parser)]
#[command(name = "init", version)]
struct Args {
    /// The folder to make. One that holds a model is left as it is unless --force is
    /// given.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Overwrite a model in --out.
    #[arg(long)]
    force: bool,

    /// A pretrained encoder: a file, a folder, or hub:ORG/NAME, such as
    /// hub:MCG-NJU/videomae-large (docs/models.md lists what loads). Its config, mean and
    /// std are taken over; from a folder that init or train wrote, all of the preprocessing.
    #[arg(long, value_name = "FILE|DIR|hub:NAME")]
    encoder: Option<OsString>,

    /// Sizes of a random model: a file like a checkpoint's config.json, from which
    /// everything is taken but what is said of trained weights.
    #[arg(long, value_name = "FILE.json",
          conflicts_with_all = ["encoder", "family", "size", "image_size", "frames", "structure", "classes", "decoder_width",
                                "decoder_depth", "decoder_heads", "decoder_head_dim"])]
    config: Option<PathBuf>,

    /// Family of a random encoder: videomae, lgi-former (MAE-DFER's), tpsbt (SVFAP's) or resnet.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "videomae",
        conflicts_with = "encoder"
    )]
    family: String,

    /// Size of a random encoder: tiny, a toy as in the demo; of videomae, small, base, large
    /// or huge; of lgi-former, base; of tpsbt, small or base; of resnet, resnet18, resnet50,
    /// r3d18 or resnext50 [default: large, or base].
    #[arg(long, value_name = "NAME", conflicts_with = "encoder")]
    size: Option<String>,

    #[command(flatten)]
    sizes: Sizes,

    /// Heads of an --encoder that does not say how many it has: a bare file of a width that
    /// is not published.
    #[arg(long, value_name = "N")]
    heads: Option<usize>,

    /// Which of the paper's six structures: single-task, separate-mlp,
    /// separate-vit, shared-mlp, shared-vit or cascade; or the decoder of a system that it
    /// compares with: lstm, mnc, mtl-er or mtformer.
    #[arg(long, default_value = "cascade")]
    structure: Structure,

    /// Channels of the decoder [default: the paper's 512, or the published ones; over an
    /// encoder of fewer than 384, two thirds of its channels, and the depth of the six is
    /// then 2]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=8192))]
    decoder_width: Option<u16>,

    /// Layers of each decoder [default: the paper's 5, or 2; of the others the published]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=64))]
    decoder_depth: Option<u16>,

    /// Attention heads of the decoder [default: 3; of the others as many as its width has]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=256))]
    decoder_heads: Option<u16>,

    /// Channels of each of these heads [default: the width over the heads, rounded up to
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

    /// Names of action units that a fourth task, before the expression, is to give, as
    /// AU1,AU12: those of the label files [default: no such task].
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES",
        conflicts_with = "config"
    )]
    action_units: Vec<String>,

    /// What part of each frame the model is to see: none, the whole frame; face[:MARGIN] or
    /// aligned[:SCALE], a crop to the face [default: none, or that of the --encoder's folder].
    #[arg(long, value_name = "face|aligned|none", conflicts_with = "config")]
    crop: Option<Crop>,

    /// How matrices are drawn that no --encoder has.
    #[arg(long, default_value = "normal")]
    weights: Weights,

    /// Seed of everything that is random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Weights {
    /// With a standard deviation of 0.02, as VideoMAE is fine-tuned.
    Normal,
    /// With a standard deviation of √(2/(inputs + outputs)), as VideoMAE is pre-trained
    /// (Glorot and Bengio, 2010): right for small widths and long tubes.
    Xavier,
}

pub fn command() -> Result<Command, Fault> {
    Ok(Args::command())
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    let given = command.try_get_matches_from(line)?;
    run(&Args::from_arg_matches(&given)?).map(|()| true)
}

fn run(args: &Args) -> Result<(), Fault> {
    Isa::held()?;
    clean_up_when_stopped()?;
    let there = [CONFIG, WEIGHTS].map(|name| args.out.join(name));
    if let Some(path) = there.iter().find(|p| p.symlink_metadata().is_ok())
        && !args.force
    {
        return Err(format!(
            "{}: exists already; --force overwrites the model, or give another folder",
            path.display()
        )
        .into());
    }
    if args.heads.is_some() && args.encoder.is_none() {
        return Err(
            "--heads: is for an --encoder that does not say how many it has; a random encoder has \
             those of its size, and the decoder has --decoder-heads"
                .into(),
        );
    }
    let (store, families) = (ParamStore::new(args.seed), Families::default());
    if let Some(path) = &args.config {
        let mut config = Config {
            trained_on: None,
            trained_subjects: None,
            ..folder::read_config(path, &families)?
        };
        config.take_measured();
        return write(args, &config, &store);
    }
    let mut preprocessing = Preprocessing::default();
    let mut trained_subjects = None;
    let encoder = match &args.encoder {
        None => {
            let largest = match args.family.as_str() {
                "videomae" => "large",
                _ => "base",
            };
            let size = args.size.as_deref().unwrap_or(largest);
            preset(&args.family, size, &args.sizes)?
        }
        Some(name) => {
            let overrides = args.sizes.overrides(args.heads);
            let mut download = Download::new(false);
            let found = match name.to_str() {
                Some(name) => open_named(name, &overrides, &families, &mut |file, done, total| {
                    download.step(file, done, total);
                }),
                None => open_with(name, &overrides, &families),
            };
            let found = found.map_err(flagged)?;
            let taken = take_encoder(&found, &name.to_string_lossy(), &families, &store)?;
            for text in &taken.notes {
                note!("{text}");
            }
            preprocessing = taken.preprocessing;
            trained_subjects = taken.trained_subjects;
            found.config
        }
    };
    preprocessing.crop = args.crop.unwrap_or(preprocessing.crop);
    let mut config = Config {
        preprocessing,
        trained_subjects,
        ..Config::new(encoder, args.structure, args.classes.clone())
            .with_action_units(args.action_units.clone())
    };
    config.decoder = decoder(args, config.decoder);
    write(args, &config, &store)
}

/// The decoder that suits the encoder, with the sizes that are asked for.
fn decoder(args: &Args, paper: DecoderConfig) -> DecoderConfig {
    let suited = suited_decoder(paper);
    let width = args.decoder_width.map_or(suited.width, usize::from);
    let depth = args.decoder_depth.map_or(suited.depth, usize::from);
    let (heads, dim) = (
        args.decoder_heads.map(usize::from),
        args.decoder_head_dim.map(usize::from),
    );
    let (heads, head_dim) = match suited.structure.has_stages() {
        true => {
            let heads = heads.unwrap_or(suited.heads);
            let fits = || width.div_ceil(heads).next_multiple_of(8);
            (heads, dim.unwrap_or_else(fits))
        }
        // Their heads make up the width.
        false => match (heads, dim, suited.heads) {
            (Some(heads), dim, _) => (heads, dim.unwrap_or(width / heads)),
            (None, Some(dim), _) => (width / dim.max(1), dim),
            (None, None, 1) => (1, 1),
            (None, None, _) => ((width / suited.head_dim).max(1), suited.head_dim),
        },
    };
    DecoderConfig {
        width,
        depth,
        heads,
        head_dim,
        ..suited
    }
}

/// Draws what the store does not hold yet and writes the folder.
fn write(args: &Args, config: &Config, store: &ParamStore) -> Result<(), Fault> {
    let out = args.out.as_path();
    let how = match args.weights {
        Weights::Normal => Draw::Normal,
        Weights::Xavier => Draw::Xavier,
    };
    draw(config, store, how)?;
    let vars = store.vars();
    let tensors = vars.iter().map(|(name, var)| (&name[..], var.as_tensor()));
    folder::save(out, config, tensors)?;
    let count: usize = vars.iter().map(|(_, var)| var.elem_count()).sum();
    let decoder = &config.decoder;
    let heads = match decoder.head_dim {
        1 => String::new(),
        dim => format!(", {} heads of {dim}", decoder.heads),
    };
    say!(
        "{}: {count} parameters in {} tensors; untrained decoder, {} wide, {} deep{heads}",
        out.display(),
        vars.len(),
        decoder.width,
        decoder.depth,
    );
    Ok(())
}
