//! `pretrain`: an encoder learns from videos that nobody has labelled.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Command, Parser};
use mtcae_core::files::{At, read_to_string};
use mtcae_dfer::Device;
use mtcae_dfer::model::encoder::masked::{self, MaskedConfig};
use mtcae_dfer::model::encoder::{Error as EncoderError, Families};
use mtcae_train::{MaskedStart, Pretraining, Task, TrainConfig, Videos, pretrain_together};
use serde_json::{Map, Value};

use crate::foreign::{Sizes, flagged, preset};
use crate::ranks::{Job, in_a_job};
use crate::settings::{self, to_toml};
use crate::train::write_settings;
use crate::training::{Screen, begun};
use crate::{Fault, checkpoint, note, say};

/// Bytes of the largest config.json.
const LARGEST: u64 = 1 << 20;

/// Pre-trains an encoder on videos without labels.
///
/// It sees a tenth of each clip and learns to predict the rest, as VideoMAE, MAE-DFER and SVFAP
/// are pre-trained. What --out/model holds then is what `init --encoder` takes, and what a
/// further pre-training can begin with.
///
/// A run that was stopped, even by kill -9, goes on with --resume and gives the
/// same losses to the bit on the same kind of CPU.
///
/// mpirun -np N mtcae pretrain … pre-trains by N processes: each computes some of a
/// step's --accumulate batches, and the run is the same to the bit. Needs a build with
/// --features mpi.
#[derive(Parser)]
#[command(name = "pretrain", version)]
struct Args {
    /// Videos, folders of them, and patterns such as 'faces/*.mp4'.
    #[arg(value_name = "VIDEO|DIR|PATTERN", required_unless_present = "labels")]
    videos: Vec<PathBuf>,

    /// The videos of a label file, in place of others; its labels are not read.
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "videos")]
    labels: Option<PathBuf>,

    /// Folder that the label file's videos lie in; its own by default.
    #[arg(long, value_name = "DIR", requires = "labels")]
    root: Option<PathBuf>,

    /// A model that was pre-trained before: a folder that this program wrote, or a published
    /// file or folder of a whole model, its decoder included, or hub:ORG/NAME, such as
    /// hub:MCG-NJU/videomae-base. By default one is drawn from the seed.
    #[arg(long, value_name = "FILE|DIR|hub:NAME")]
    checkpoint: Option<PathBuf>,

    /// Family of an encoder that is drawn: videomae, lgi-former (MAE-DFER's) or tpsbt (SVFAP's).
    #[arg(long, value_name = "NAME", default_value = "videomae", conflicts_with_all = ["checkpoint", "model"])]
    family: String,

    /// Its size: tiny, a toy; of videomae, small, base, large or huge; of lgi-former, base; of
    /// tpsbt, small or base.
    #[arg(long, value_name = "NAME", default_value = "base", conflicts_with_all = ["checkpoint", "model"])]
    size: String,

    #[command(flatten)]
    sizes: Sizes,

    /// Sizes of a model that is drawn: a file like the config.json of a folder that this program
    /// wrote, decoder, masks and target included.
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["checkpoint", "image_size", "frames"])]
    model: Option<PathBuf>,

    /// Share of a clip's places that the encoder does not see [default: the model's, 0.9].
    #[arg(long, value_name = "X")]
    mask_ratio: Option<f64>,

    /// Folder for the model, the state, the log and the pictures.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Go on with the run in --out.
    #[arg(long)]
    resume: bool,

    /// Where to compute: cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,

    /// Threads to compute on; one a core by default.
    #[arg(long)]
    threads: Option<usize>,

    /// No progress bars or notices.
    #[arg(long)]
    quiet: bool,
}

pub fn command() -> Result<Command, Fault> {
    settings::command::<Args>("pretrain", Task::Masked)
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    settings::main(command, line, Task::Masked, run)
}

fn run(args: &Args, config: TrainConfig) -> Result<(), Fault> {
    in_a_job(
        args.threads,
        &args.device,
        args.quiet,
        |job, device, quiet| prepared(args, config, job, device, quiet),
    )
}

fn prepared(
    args: &Args,
    config: TrainConfig,
    job: &Job,
    device: &Device,
    quiet: bool,
) -> Result<(), Fault> {
    job.check(&config)?;
    let begun = begun(&args.out, args.resume)?;
    let model = args.out.join("model");
    let start = start(args, quiet)?;
    let videos = match &args.labels {
        Some(labels) => Videos::of_labels(labels, args.root.as_deref(), config.allow_missing)?,
        None => Videos::find(&args.videos, config.allow_missing)?,
    };
    if !quiet {
        announce(&videos, &start, &config)?;
    }
    // Those of a run that is gone on with stay as they are: others are refused.
    if !begun && job.is_first() {
        write_settings(&args.out, &config)?;
    }
    let run = Pretraining {
        name: "pre-training",
        folder: &args.out,
        start: &start,
        videos: &Arc::new(videos),
        config: &config,
        device,
    };
    let mut screen = Screen::new(quiet);
    let done = pretrain_together(&run, job.ranks(), &mut |event| screen.show(event))?;
    screen.done();
    if !job.is_first() {
        return Ok(());
    }
    done.save(&model)?;
    say!(
        "{}: weights of epoch {}; `mtcae init --encoder {}` makes a model to train of them",
        model.display(),
        done.epoch + 1,
        model.display()
    );
    Ok(())
}

/// The model that is to be pre-trained.
fn start(args: &Args, quiet: bool) -> Result<MaskedStart, Fault> {
    let families = Families::default();
    let start = match (&args.checkpoint, &args.model) {
        (Some(path), _) => {
            let path = match path.to_str() {
                Some(name) => checkpoint(name, quiet)?,
                None => path.clone(),
            };
            let found = masked::open(&path, &args.sizes.overrides(None), &families);
            let found = found.map_err(flagged)?;
            if !found.ignored.is_empty() && !quiet {
                let names = &found.ignored;
                note!(
                    "left out, as they are no part of what is pre-trained: {} tensors ({}{})",
                    names.len(),
                    names[..names.len().min(3)].join(", "),
                    if names.len() > 3 { ", …" } else { "" }
                );
            }
            MaskedStart::of(found)?
        }
        (None, Some(file)) => MaskedStart::random(read_config(file, &families)?)?,
        (None, None) => {
            let encoder = preset(&args.family, &args.size, &args.sizes)?;
            let config = MaskedConfig::of(&encoder).map_err(|error| match error {
                EncoderError::Field { field, reason, .. } if field == "encoder.family" => {
                    format!("--family: {reason}")
                }
                error => error.to_string(),
            })?;
            MaskedStart::random(config)?
        }
    };
    match args.mask_ratio {
        None => Ok(start),
        Some(ratio) => {
            let start = start.with_mask_ratio(ratio);
            Ok(start.map_err(|e| format!("--mask-ratio: {}", mtcae_core::one_line(&e)))?)
        }
    }
}

/// The config of a folder that was written here.
fn read_config(file: &Path, families: &Families) -> Result<MaskedConfig, Fault> {
    let text = read_to_string(file, LARGEST).at(file)?;
    let fault = |reason: String| Fault::from(format!("{}: {reason}", file.display()));
    let mut json: Map<String, Value> =
        serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
    let (Some(Value::Object(mut fields)), Some(encoder)) =
        (json.remove("masked"), json.remove("encoder"))
    else {
        let reason = "has no `encoder` and `masked`, as the config.json of a pre-trained folder";
        return Err(fault(reason.to_owned()));
    };
    fields.insert("encoder".to_owned(), encoder);
    let origin = file.display().to_string();
    Ok(MaskedConfig::read(fields, families, &origin)?)
}

/// Says what will be learned from, with which settings, and which of them no source publishes.
fn announce(videos: &Videos, start: &MaskedStart, config: &TrainConfig) -> Result<(), Fault> {
    for notice in &videos.notices {
        note!("warning: {notice}");
    }
    let model = start.config();
    note!(
        "{} videos; of {} tubes of a clip the encoder sees {}",
        videos.files.len(),
        model.tubes(),
        model.visible()
    );
    note!(
        "{}",
        to_toml(config)?.replace('\n', "; ").trim_end_matches("; ")
    );
    note!(
        "not published with this recipe, chosen here: {}",
        config.unpublished().join(", ")
    );
    Ok(())
}
