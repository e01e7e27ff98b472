//! `ablation`: the paper's six structures under one budget and the same folds.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::output::clean_up_when_stopped;
use crate::settings;
use crate::threads::limit_threads_of_training;
use crate::training::{Screen, acquaintance, announce};
use crate::{Fault, device, say};
use clap::{Command, Parser};
use mtcae_dfer::model::decoder::Structure;
use mtcae_nn::Isa;
use mtcae_train::{Ablation, Dataset, Selection, Start, Task, TrainConfig, ablate};

/// Cross-validates the six structures of the paper's Table I over the encoder of
/// one checkpoint and prints our table beside the published one.
///
/// Started again with the same settings, it goes on where it was stopped.
#[derive(Parser)]
#[command(name = "ablation", version)]
struct Args {
    /// Label file, as `label` or `synth` writes it.
    #[arg(long, value_name = "FILE.jsonl")]
    labels: PathBuf,

    /// Folder that the label file's videos lie in; its own by default.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Checkpoint whose encoder and decoder sizes are used; decoders are drawn anew.
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,

    /// Folder for the runs and the table.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// The structures.
    #[arg(long, value_delimiter = ',', default_values_t = Structure::ALL)]
    structures: Vec<Structure>,

    /// Seeds; every structure is cross-validated once with each.
    #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
    seeds: Vec<u64>,

    /// Only clips of these classes, in the order of the logits; by default all classes of
    /// the labels, sorted by name.
    #[arg(long, value_delimiter = ',', value_name = "CLASS,…")]
    classes: Option<Vec<String>>,

    /// Dataset whose published results are printed beside ours: ravdess, crema-d or
    /// mead; by default that of the labels, if it is one of them.
    #[arg(long)]
    dataset: Option<String>,

    /// Test on people that the checkpoint was trained on, too.
    #[arg(long)]
    allow_seen: bool,

    /// With a frozen encoder: keep its features in this folder.
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
    settings::command::<Args>("ablation", Task::Labelled)
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    settings::main(command, line, Task::Labelled, run)
}

fn run(args: &Args, config: TrainConfig) -> Result<(), Fault> {
    Isa::held()?;
    limit_threads_of_training(args.threads, None)?;
    clean_up_when_stopped()?;
    let device = device(&args.device)?;
    if let Some(name) = &args.dataset
        && mtcae_train::published::tables(name).is_none()
    {
        return Err(format!(
            "--dataset: nothing is published for {name:?}; there are ravdess, crema-d and mead"
        )
        .into());
    }
    let selection = Selection {
        root: args.root.as_deref(),
        only: args.classes.as_deref(),
        ..Selection::default()
    };
    let data = Arc::new(Dataset::read(&args.labels, &selection, &config)?);
    if !args.quiet {
        announce(&data, &config)?;
    }
    let all: Vec<usize> = (0..data.items.len()).collect();
    let start = Start::checkpoint(&args.checkpoint)?;
    let model = start.config();
    acquaintance(&data, &all, &args.checkpoint, model, args.allow_seen)?;
    let ablation = Ablation {
        folder: &args.out,
        encoder: &start,
        structures: &args.structures,
        seeds: &args.seeds,
        published: args.dataset.as_deref().unwrap_or(&data.dataset),
        data: &data,
        cache: args.cache.as_deref(),
        config: &config,
        device: &device,
    };
    let mut screen = Screen::new(args.quiet);
    let table = ablate(&ablation, &mut |event| screen.show(event))?;
    screen.done();
    say!("{table}");
    Ok(())
}
