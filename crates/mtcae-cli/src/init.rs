//! `init`: a new checkpoint folder, with a pretrained encoder or a random one,
//! and a random decoder.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::output::clean_up_when_stopped;
use crate::{Download, Fault, note, say};
use clap::{Command, CommandFactory, FromArgMatches, Parser, ValueEnum, value_parser};
use mtcae_dfer::model::Config;
use mtcae_dfer::model::checkpoint::{CONFIG, WEIGHTS, read_config};
use mtcae_dfer::model::decoder::Structure;
use mtcae_dfer::model::encoder::{
    Error as EncoderError, Families, Overrides, VideoMaeConfig, open_named, open_with,
};
use mtcae_dfer::model::init::{DecoderSize, Draw, NewModel};

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
    let model = new_model(args)?;
    for note in model.notes() {
        note!("{note}");
    }
    model.save(&args.out)?;
    let (count, tensors) = model.parameters();
    let decoder = &model.config().decoder;
    say!(
        "{}: {count} parameters in {tensors} tensors; untrained decoder, {} wide, {} deep, {} heads of {}",
        args.out.display(),
        decoder.width,
        decoder.depth,
        decoder.heads,
        decoder.head_dim
    );
    Ok(())
}

fn new_model(args: &Args) -> Result<NewModel, Fault> {
    let draw = match args.weights {
        Weights::Normal => Draw::Normal,
        Weights::Xavier => Draw::Xavier,
    };
    if let Some(path) = &args.config {
        let config = Config {
            trained_subjects: None,
            ..read_config(path, &Families::default())?
        };
        return Ok(NewModel::drawn(config, draw, args.seed)?);
    }
    let size = DecoderSize {
        width: args.decoder_width.map(usize::from),
        depth: args.decoder_depth.map(usize::from),
        heads: Some(args.decoder_heads.into()),
        head_dim: args.decoder_head_dim.map(usize::from),
    };
    let (structure, classes, seed) = (args.structure, args.classes.clone(), args.seed);
    let Some(name) = &args.encoder else {
        let encoder = random_encoder(args.size);
        return Ok(NewModel::of_drawn_encoder(
            encoder, structure, &size, classes, draw, seed,
        )?);
    };
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
    Ok(NewModel::of(
        &name, &found, structure, &size, classes, seed,
    )?)
}

fn random_encoder(size: Size) -> VideoMaeConfig {
    match size {
        Size::Tiny => VideoMaeConfig {
            image_size: 112,
            width: 96,
            depth: 4,
            heads: 3,
            hidden: 384,
            ..VideoMaeConfig::small()
        },
        Size::Small => VideoMaeConfig::small(),
        Size::Base => VideoMaeConfig::base(),
        Size::Large => VideoMaeConfig::large(),
        Size::Huge => VideoMaeConfig::huge(),
    }
}
