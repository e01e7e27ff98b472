//! `ablation`: the paper's six structures under one budget and the same folds.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use mtcae_dfer::model::decoder::Structure;
use mtcae_examples::settings::program;
use mtcae_examples::threads::limit_threads;
use mtcae_examples::training::{Screen, announce};
use mtcae_examples::{Fault, device};
use mtcae_train::{Ablation, Dataset, TrainConfig, ablate};

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

    /// Checkpoint whose encoder and decoder sizes are taken; decoders are drawn.
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,

    /// Folder for the runs and the table.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// The structures.
    #[arg(long, value_delimiter = ',', default_values_t = Structure::ALL)]
    structures: Vec<Structure>,

    /// Seeds; each gives every structure one cross-validation.
    #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
    seeds: Vec<u64>,

    /// Classes in the order of the logits; by default all that the labels have.
    #[arg(long, value_delimiter = ',')]
    classes: Option<Vec<String>>,

    /// Dataset whose published results are printed: ravdess, crema-d, mead; by
    /// default what the labels say.
    #[arg(long)]
    dataset: Option<String>,

    /// With a frozen encoder: keep its features in this folder.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,

    /// Where to compute: cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,

    /// Threads to compute on; one a core by default.
    #[arg(long)]
    threads: Option<usize>,

    /// Neither bars nor notices.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    program("ablation", run)
}

fn run(args: &Args, config: TrainConfig) -> Result<(), Fault> {
    limit_threads(args.threads)?;
    let device = device(&args.device)?;
    let data = Arc::new(Dataset::read(
        &args.labels,
        args.root.as_deref(),
        args.classes.as_deref(),
        &config,
    )?);
    if !args.quiet {
        announce(&data, &config);
    }
    let ablation = Ablation {
        folder: &args.out,
        encoder: &args.checkpoint,
        structures: &args.structures,
        seeds: &args.seeds,
        dataset: args.dataset.as_deref().unwrap_or(&data.dataset),
        data: &data,
        cache: args.cache.as_deref(),
        config: &config,
        device: &device,
    };
    let mut screen = Screen::new(args.quiet);
    let table = ablate(&ablation, &mut |event| screen.show(event))?;
    screen.done();
    println!("{table}");
    Ok(())
}
