//! `evaluate`: measures a model on labelled clips, or predictions written before.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use mtcae_core::files::write_atomically;
use mtcae_examples::config::program;
use mtcae_examples::threads::limit_threads;
use mtcae_examples::training::{Screen, in_words};
use mtcae_examples::{Fault, device};
use mtcae_train::objective::{Bootstrap, Interval};
use mtcae_train::{
    ClipResult, Dataset, PREDICTIONS, Recipe, Source, Spread, Start, TrainConfig, Viewer, predict,
    read_table, summarise, write_table,
};
use mtcae_viz::{confusion_matrix, save_png};

/// Measures a model on labelled clips: UAR, WAR, recall and precision of each
/// class, calibration, overlap of boxes, error of landmarks, by intensity.
///
/// With --predictions, the same from a table that an earlier evaluation or a
/// cross-validation wrote; no model is run.
#[derive(Parser)]
#[command(name = "evaluate", version)]
struct Args {
    /// Table of predictions to measure.
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["labels", "checkpoint"],
          required_unless_present_all = ["labels", "checkpoint"])]
    predictions: Option<PathBuf>,

    /// Label file of the clips to predict.
    #[arg(long, value_name = "FILE.jsonl", requires = "checkpoint")]
    labels: Option<PathBuf>,

    /// Folder that the label file's videos lie in; its own by default.
    #[arg(long, value_name = "DIR", conflicts_with = "predictions")]
    root: Option<PathBuf>,

    /// The model's checkpoint folder.
    #[arg(long, value_name = "DIR", requires = "labels")]
    checkpoint: Option<PathBuf>,

    /// Only the clips of this fold, from 0, as the label file or the table has them.
    /// Mind that a model may have been trained on other folds than the file's.
    #[arg(long)]
    fold: Option<u32>,

    /// Folder for predictions.csv, summary.json and confusion.png.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Clips that go through the model at once.
    #[arg(long, default_value_t = 8, conflicts_with = "predictions")]
    batch: usize,

    /// Samples of the bootstrap that draws whole subjects; 0 for no intervals.
    #[arg(long, default_value_t = 1000)]
    bootstrap: usize,

    /// Where to compute: cpu or cuda:N.
    #[arg(long, default_value = "cpu", conflicts_with = "predictions")]
    device: String,

    /// Threads to compute on; one a core by default.
    #[arg(long)]
    threads: Option<usize>,

    /// No bars.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    program("evaluate", run)
}

fn run(args: &Args) -> Result<(), Fault> {
    limit_threads(args.threads)?;
    let (mut results, classes) = match (&args.predictions, &args.labels, &args.checkpoint) {
        (Some(table), ..) => read_table(table)?,
        (None, Some(labels), Some(checkpoint)) => run_model(args, labels, checkpoint)?,
        // clap has asked for one or the other.
        _ => return Err("either --predictions, or --labels and --checkpoint".into()),
    };
    if let Some(fold) = args.fold {
        results.retain(|r| r.fold == fold);
        if results.is_empty() {
            return Err(format!("--fold {fold}: no clip is of this fold").into());
        }
    }
    let bootstrap = Bootstrap {
        resamples: args.bootstrap,
        ..Bootstrap::default()
    };
    let summary = summarise(
        &results,
        &classes,
        (args.bootstrap > 0).then_some(&bootstrap),
    )?;
    println!("{}", in_words(&summary));
    if args.predictions.is_some() {
        by_fold(&results, &classes)?;
    }
    let levels: std::collections::BTreeSet<&str> =
        results.iter().filter_map(|r| r.level.as_deref()).collect();
    for level in levels {
        let of_level: Vec<ClipResult> = results
            .iter()
            .filter(|r| r.level.as_deref() == Some(level))
            .cloned()
            .collect();
        let s = summarise(&of_level, &classes, None)?;
        println!(
            "  intensity {level}: {} clips, UAR {:.1} %, WAR {:.1} %",
            s.clips,
            100.0 * s.uar,
            100.0 * s.war
        );
    }
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
        write_table(&out.join(PREDICTIONS), &results, &classes)?;
        let json = serde_json::to_string_pretty(&summary)?;
        let path = out.join("summary.json");
        write_atomically(&path, |temporary| std::fs::write(temporary, json))
            .map_err(|e| format!("{}: {e}", path.display()))?;
        let picture = confusion_matrix(&classes, &summary.confusion)?;
        save_png(out.join("confusion.png"), &picture)?;
    }
    Ok(())
}

/// Where a table is of several folds, each by itself and their mean.
fn by_fold(results: &[ClipResult], classes: &[String]) -> Result<(), Fault> {
    let folds: std::collections::BTreeSet<u32> = results.iter().map(|r| r.fold).collect();
    if folds.len() < 2 {
        return Ok(());
    }
    let (mut uar, mut war) = (Vec::new(), Vec::new());
    for fold in folds {
        let of_fold: Vec<ClipResult> = results.iter().filter(|r| r.fold == fold).cloned().collect();
        let s = summarise(&of_fold, classes, Some(&Bootstrap::default()))?;
        let percent = |v: f64, i: Option<Interval>| {
            let range = i.map(|i| format!(" ({:.2} to {:.2})", 100.0 * i.low, 100.0 * i.high));
            format!("{:.2} %{}", 100.0 * v, range.unwrap_or_default())
        };
        println!(
            "  fold {fold}: {} clips, UAR {}, WAR {}",
            s.clips,
            percent(s.uar, s.uar_interval),
            percent(s.war, s.war_interval)
        );
        uar.push(s.uar);
        war.push(s.war);
    }
    println!(
        "  mean ± std of {} folds: UAR {}, WAR {}",
        uar.len(),
        Spread::of(&uar).percent(),
        Spread::of(&war).percent()
    );
    Ok(())
}

fn run_model(
    args: &Args,
    labels: &std::path::Path,
    checkpoint: &std::path::Path,
) -> Result<(Vec<ClipResult>, Vec<String>), Fault> {
    let device = device(&args.device)?;
    let start = Start::checkpoint(checkpoint)?;
    let classes = start.config().classes.clone();
    let config = TrainConfig {
        batch: args.batch,
        ..TrainConfig::recipe(Recipe::Paper)
    };
    config.validate()?;
    let data = Dataset::read_to_test(labels, args.root.as_deref(), Some(&classes))?;
    let data = Arc::new(data);
    for notice in &data.notices {
        eprintln!("warning: {notice}");
    }
    if let Some(fold) = args.fold
        && fold >= data.folds
    {
        let folds = data.folds;
        return Err(format!(
            "--fold {fold}: {} has {folds} folds, from 0",
            labels.display()
        )
        .into());
    }
    let model = mtcae_dfer::model::checkpoint::load(checkpoint, &device)?;
    if let Some(clips) = &model.config().trained_on {
        // People it was trained on would flatter it.
        eprintln!("trained on: {clips}");
    }
    let viewer = Viewer::new(model.config(), &config)?;
    let frames = model.config().encoder.frames;
    let source = Arc::new(Source::videos(data.clone(), viewer, frames, &config));
    let places: Vec<usize> = (0..data.items.len())
        .filter(|&i| args.fold.is_none_or(|fold| data.items[i].fold == fold))
        .collect();
    let mut screen = Screen::new(args.quiet);
    let bar = mtcae_examples::Bars::new(args.quiet).items("clips", places.len() as u64);
    let mut watch = |event: &mtcae_train::Event<'_>| {
        if let mtcae_train::Event::Predicted { done, .. } = event {
            bar.set_position(*done as u64);
        }
        screen.show(event)
    };
    let (results, _) = predict(
        &model, &source, &data, &places, None, &config, &device, &mut watch,
    )?;
    bar.finish_and_clear();
    Ok((results, classes))
}
