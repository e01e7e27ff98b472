//! `train`: fine-tunes on a label file: one run, or a subject-independent
//! cross-validation.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ranks::{Job, in_a_job};
use crate::settings::{self, to_toml};
use crate::training::{Screen, acquaintance, announce, begun, folds_in_words, in_words};
use crate::{Fault, note, say};
use clap::{Command, Parser};
use mtcae_core::files::{At, write_atomically};
use mtcae_dfer::Device;
use mtcae_dfer::model::decoder::Structure;
use mtcae_train::{
    About, CrossValidation, Dataset, Event, FeatureCache, Noted, PREDICTIONS, Run, Selection,
    Start, Task, TrainConfig, Tune, cross_validate_together, fit_together, predict_together,
    summarise, write_table,
};

/// Fine-tunes a model on labelled clips.
///
/// Without --fold or --cross-validate, one model is trained on all clips but the
/// validation subjects. With --fold, one fold is held out, and tested at the end.
/// With --cross-validate, every fold is, and a report is written.
///
/// A run that was stopped, even by kill -9, goes on with --resume and gives the
/// same losses to the bit on the same kind of CPU.
///
/// mpirun -np N mtcae train … trains by N processes: each computes some of a step's
/// --accumulate batches, and the run is the same to the bit. Needs a build with
/// --features mpi.
#[derive(Parser)]
#[command(name = "train", version)]
struct Args {
    /// Label file, as `label` or `synth` writes it.
    #[arg(long, value_name = "FILE.jsonl")]
    labels: PathBuf,

    /// Folder that the label file's videos lie in; its own by default.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Checkpoint to start from, as `init` makes it. Its encoder is used; a decoder is
    /// drawn from the seed.
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,

    /// Start from the checkpoint's decoder as well; its classes must be those of
    /// the labels.
    #[arg(long, conflicts_with = "structure")]
    keep_decoder: bool,

    /// Structure of the decoder, as `init` has them; the checkpoint's by default.
    #[arg(long)]
    structure: Option<Structure>,

    /// Train only on clips of these classes; others are left out. A decoder that is
    /// drawn has them in this order, and without --classes all that the labels have, by
    /// name; with --keep-decoder the checkpoint must have them.
    #[arg(long, value_delimiter = ',', value_name = "CLASS,…")]
    classes: Option<Vec<String>>,

    /// Folder for the model, the state, the log and the report.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Hold out this fold, from 0.
    #[arg(long, conflicts_with = "cross_validate")]
    fold: Option<u32>,

    /// Hold out every fold once.
    #[arg(long)]
    cross_validate: bool,

    /// Test on held-out people that the checkpoint was trained on; the report says so.
    #[arg(long)]
    allow_seen: bool,

    /// Go on with the run in --out.
    #[arg(long)]
    resume: bool,

    /// With a frozen encoder (tune = decoder): keep its features in this folder, so
    /// that each clip goes through the encoder once, not once an epoch.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,

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
    settings::command::<Args>("train", Task::Labelled)
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    settings::main(command, line, Task::Labelled, run)
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
    if args.cache.is_some() && config.tune != Tune::Decoder {
        return Err(format!(
            "--cache: tune = {} does not freeze the encoder",
            config.tune
        )
        .into());
    }
    let begun = begun(&args.out, args.resume)?;
    let given = Start::checkpoint(&args.checkpoint)?;
    let selection = Selection {
        root: args.root.as_deref(),
        classes: args.keep_decoder.then_some(&given.config().classes[..]),
        only: args.classes.as_deref(),
        ..Selection::default()
    };
    let data = Arc::new(Dataset::read(&args.labels, &selection, &config)?);
    let start = match args.keep_decoder {
        true => given,
        false => {
            let structure = args.structure.unwrap_or(given.config().decoder.structure);
            let units = data.known_units(&given.config().action_units);
            if units.is_empty() && !given.config().action_units.is_empty() && job.is_first() {
                note!(
                    "warning: the labels say no action units: the new decoder has no task for them"
                );
            }
            given.with_decoder(structure, &data.classes, units)?
        }
    };
    if !quiet {
        announce(&data, &config)?;
    }
    let tested = |i: &usize| args.cross_validate || Some(data.items[*i].fold) == args.fold;
    let tested: Vec<usize> = (0..data.items.len()).filter(tested).collect();
    let model = start.config();
    acquaintance(&data, &tested, &args.checkpoint, model, args.allow_seen)?;
    // Whatever can be refused is, before there is a folder.
    start.check()?;
    if let Some(fold) = args.fold
        && fold >= data.folds
    {
        return Err(format!(
            "--fold {fold}: there is no such fold, only {}",
            folds_in_words(&data)
        )
        .into());
    }
    match args.cross_validate {
        true => drop(data.splits(&config)?),
        false => drop(data.split(args.fold, &config)?),
    }
    // Those of a run that is gone on with stay as they are: others are refused.
    if !begun && job.is_first() {
        write_settings(&args.out, &config)?;
    }
    match args.cross_validate {
        true => all_folds(args, job, &start, &data, &config, device),
        false => one_run(args, job, &start, &data, &config, device),
    }
}

fn all_folds(
    args: &Args,
    job: &Job,
    start: &Start,
    data: &Arc<Dataset>,
    config: &TrainConfig,
    device: &Device,
) -> Result<(), Fault> {
    let cv = CrossValidation {
        folder: &args.out,
        start,
        data,
        cache: args.cache.as_deref(),
        save_models: true,
        test: None,
        config,
        device,
    };
    let mut screen = Screen::new(args.quiet || !job.is_first());
    let mut watch = |event: &Event<'_>| screen.show(event);
    let report = cross_validate_together(&cv, job.ranks(), &mut watch)?;
    screen.done();
    if !job.is_first() {
        return Ok(());
    }
    say!("{}", in_words(&report.pooled));
    say!(
        "mean ± std of {} folds: UAR {}, WAR {}",
        report.folds.len(),
        report.uar().percent(),
        report.war().percent()
    );
    say!("{}", args.out.join("report.md").display());
    Ok(())
}

fn one_run(
    args: &Args,
    job: &Job,
    start: &Start,
    data: &Arc<Dataset>,
    config: &TrainConfig,
    device: &Device,
) -> Result<(), Fault> {
    let split = data.split(args.fold, config)?;
    let ranks = job.ranks();
    let mut screen = Screen::new(args.quiet || !job.is_first());
    let cache = match &args.cache {
        Some(folder) => Some(Arc::new(FeatureCache::open_together(
            folder,
            start,
            data,
            config,
            device,
            ranks,
            &mut |event| screen.show(event),
        )?)),
        None => None,
    };
    let run = Run {
        name: "training",
        folder: &args.out,
        start,
        data,
        split: &split,
        cache: cache.as_ref(),
        config,
        device,
    };
    let fitted = fit_together(&run, ranks, &mut |event| screen.show(event))?;
    screen.done();
    let tested = match args.fold {
        Some(_) => {
            let engine = fitted.started.engine(config, device)?;
            let (places, source) = (&split.test, &fitted.source);
            let mut watch = |event: &Event<'_>| screen.show(event);
            let told = predict_together(&engine, source, places, None, ranks, &mut watch)?;
            Some(told.0)
        }
        None => None,
    };
    if !job.is_first() {
        return Ok(());
    }
    let folder = args.out.join("model");
    let saved = fitted.started.save(&folder, data, &split, args.fold)?;
    say!(
        "{}: weights of epoch {}",
        folder.display(),
        fitted.epoch + 1
    );
    if let (Some(fold), Some(results)) = (args.fold, tested) {
        write_table(&args.out.join(PREDICTIONS), &results, &data.classes)?;
        let about = About {
            seed: Some(config.seed),
            ..About::new(&data.detectors, None)
        };
        let summary = summarise(&results, &data.classes, None)?;
        let noted = Noted {
            on: format!(
                "Fold {fold}, of whose people it was trained on none: {}",
                data.in_words(None, &split.test)
            ),
            command: format!("mtcae train --fold {fold}"),
            summary: &summary,
            groups: &[],
        };
        noted.write(&folder, &saved)?;
        say!("{}\n{}", in_words(&summary), about.in_words());
    }
    Ok(())
}

/// Writes the settings of a run into its folder.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write_settings(folder: &Path, config: &TrainConfig) -> Result<(), Fault> {
    let path = folder.join("settings.toml");
    let toml = to_toml(config)?;
    std::fs::create_dir_all(folder).at(folder)?;
    Ok(write_atomically(&path, |temporary| std::fs::write(temporary, &toml)).at(&path)?)
}
