//! `calibrate`: probabilities that can be believed, and the confidence to answer from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Command, FromArgMatches, Parser};
use mtcae_dfer::Device;
use mtcae_dfer::model::card::{self, Figure, Measurement};
use mtcae_dfer::model::checkpoint::{CONFIG, WEIGHTS, save};
use mtcae_dfer::model::{Checkpoint, Config};
use mtcae_nn::Isa;
use mtcae_train::objective::Selective;
use mtcae_train::{Belief, Calibrated, Scaling, calibrate, capital};

use crate::config;
use crate::evaluate::Labelled;
use crate::output::clean_up_when_stopped;
use crate::threads::limit_threads;
use crate::{Fault, note, say};

/// Makes a model's probabilities believable: fits temperature or vector scaling to what it
/// says of labelled clips of people whom it does not know, and writes a new checkpoint.
///
/// What it is worth is shown on people who were not fitted on: each half of the people is
/// measured with what the other half fits. The table shows how many answers are left, and
/// how many of them are right, where only the surest are given.
#[derive(Parser)]
#[command(name = "calibrate", version)]
struct Args {
    /// Label file of the clips to fit on; not those of the training.
    #[arg(long, value_name = "FILE.jsonl")]
    labels: PathBuf,

    /// Folder that the label file's videos lie in; its own by default.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// The model's checkpoint folder. A calibration that it has already is replaced.
    #[arg(long, value_name = "DIR")]
    checkpoint: String,

    /// The checkpoint folder to write: the same weights, and a config with the calibration.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Overwrite a model in --out; never that of --checkpoint.
    #[arg(long)]
    force: bool,

    /// temperature, one number for all classes, or vector, a factor and a bias for each; the
    /// biases also learn how frequent the classes are in the clips.
    #[arg(long, default_value = "temperature", value_name = "temperature|vector")]
    method: Scaling,

    /// Answer the surest share of such clips, in (0, 1], and say `unsure` of the others: the
    /// confidence that this takes becomes the config's answers.least_confidence.
    #[arg(long, value_name = "SHARE", conflicts_with = "least_confidence")]
    answer_share: Option<f64>,

    /// Say `unsure` below this confidence, in (0, 1).
    #[arg(long, value_name = "P")]
    least_confidence: Option<f64>,

    /// Only the clips of this fold, from 0.
    #[arg(long)]
    fold: Option<u32>,

    /// Also fit on people that the model was trained on, whom it flatters.
    #[arg(long)]
    allow_seen: bool,

    /// Seed of the halves of the people.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Clips, or views of them, that go through the model at once.
    #[arg(long, default_value_t = 8)]
    batch: usize,

    /// Where to compute: cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,

    /// Threads to compute on; one a core by default.
    #[arg(long)]
    threads: Option<usize>,

    /// No bars and notes.
    #[arg(long)]
    quiet: bool,
}

pub fn command() -> Result<Command, Fault> {
    Ok(config::command::<Args>("calibrate"))
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    config::main(command, line, |given| {
        run(&Args::from_arg_matches(given.matches())?)
    })
}

fn run(args: &Args) -> Result<(), Fault> {
    Isa::held()?;
    limit_threads(args.threads)?;
    clean_up_when_stopped()?;
    if let Some(share) = args.answer_share.filter(|v| !(*v > 0.0 && *v <= 1.0)) {
        return Err(format!("--answer-share: must be above 0 and at most 1, not {share}").into());
    }
    if let Some(least) = args.least_confidence.filter(|v| !(*v > 0.0 && *v < 1.0)) {
        return Err(format!("--least-confidence: must be between 0 and 1, not {least}").into());
    }
    let opened = Checkpoint::open_ours(&args.checkpoint)?;
    may_be_written(args)?;
    let mut config = opened.config().clone();
    let replaced = config.take_measured();
    if !replaced.is_empty() {
        note!("{} of the checkpoint is left out", replaced.join(" and "));
    }
    let asked = Labelled {
        labels: &args.labels,
        root: args.root.as_deref(),
        fold: args.fold,
        allow_seen: args.allow_seen,
        batch: args.batch,
        device: &args.device,
        quiet: args.quiet,
    };
    let predicted = asked.predicted(&opened, &args.checkpoint)?;
    let fitted_on = predicted.data.in_words(None, &predicted.places);
    let found = calibrate(&predicted.results, args.method, args.seed, &fitted_on)?;
    config.calibration = Some(found.calibration.clone());
    let least = match args.answer_share {
        Some(share) => found.top.least_of_share(share).map(below),
        None => args.least_confidence,
    };
    if let Some(least) = least {
        config.answers.get_or_insert_default().least_confidence = Some(least);
    }
    write(&args.out, &opened, &config)?;
    note_in_card(&args.out, &config, &found, &fitted_on)?;
    say!("{}", report(&found, &config));
    say!("{}.", capital(&predicted.people.in_words("the model")));
    say!("wrote {}", args.out.display());
    Ok(())
}

/// A confidence rounded down to the four digits that are worth writing, and above 0.
fn below(confidence: f64) -> f64 {
    ((confidence * 1e4).floor() / 1e4).clamp(1e-4, 1.0 - 1e-4)
}

fn may_be_written(args: &Args) -> Result<(), Fault> {
    for name in [CONFIG, WEIGHTS] {
        let path = args.out.join(name);
        let shown = path.display();
        let input = Path::new(&args.checkpoint).join(name);
        if mtcae_core::files::same_file(&path, &input) {
            return Err(format!("--out: {shown} is of the model that is read").into());
        }
        if !args.force && path.symlink_metadata().is_ok() {
            return Err(format!(
                "{shown}: exists already; --force overwrites the model, or give another folder"
            )
            .into());
        }
    }
    Ok(())
}

/// The same weights with another config.
fn write(out: &Path, opened: &Checkpoint, config: &Config) -> Result<(), Fault> {
    let weights = opened.weights();
    let mut tensors = BTreeMap::new();
    for name in weights.names() {
        let tensor = weights.load(&name, &Device::Cpu)?;
        tensors.insert(name, tensor);
    }
    let tensors = tensors.iter().map(|(name, t)| (name.as_str(), t));
    Ok(save(out, config, tensors)?)
}

/// Adds what the calibration is worth to the card of the new checkpoint.
fn note_in_card(
    out: &Path,
    config: &Config,
    found: &Calibrated,
    fitted_on: &str,
) -> Result<(), Fault> {
    let figures = [
        ("log loss", found.before.log_loss, found.after.log_loss),
        ("Brier score", found.before.brier, found.after.brier),
        (
            "expected calibration error",
            found.before.ece,
            found.after.ece,
        ),
    ];
    let figures = figures.into_iter().flat_map(|(name, before, after)| {
        let uncalibrated = format!("{name}, uncalibrated");
        [
            Figure::number(uncalibrated, before),
            Figure::number(name, after),
        ]
    });
    let measurement = Measurement {
        on: format!(
            "{}, each half of the people by what the other fits",
            capital(fitted_on)
        ),
        command: "mtcae calibrate".to_owned(),
        model: BTreeMap::new(),
        clips: found.clips as u64,
        figures: figures.collect(),
        recall: Vec::new(),
        groups: Vec::new(),
        remarks: Vec::new(),
    };
    Ok(card::add(out, config, measurement)?)
}

fn report(found: &Calibrated, config: &Config) -> String {
    let mut text = format!(
        "{} clips of {} people, each half of the people by what the other fits:",
        found.clips, found.people
    );
    text += "\n                log loss     Brier       ECE  recognised";
    let lines = [("uncalibrated", found.before), ("calibrated", found.after)];
    for (name, belief) in lines {
        let Belief {
            log_loss,
            brier,
            ece,
            accuracy,
        } = belief;
        text += &format!(
            "\n  {name:<12} {log_loss:>9.4} {brier:>9.4} {ece:>9.4} {:>9.1} %",
            100.0 * accuracy
        );
    }
    let scaling = &found.calibration;
    match &scaling.bias {
        None => {
            let factor = scaling.scale.first().copied().unwrap_or(1.0);
            text += &format!("\nfitted on all: temperature {:.4}", 1.0 / factor);
        }
        Some(bias) => {
            text += "\nfitted on all:";
            let each = config.classes.iter().zip(scaling.scale.iter().zip(bias));
            for (class, (factor, bias)) in each {
                text += &format!("\n  {class:<12} factor {factor:>8.4}  bias {bias:>8.4}");
            }
        }
    }
    text += "\nwhere only the surest answers are given:";
    text += "\n  least confidence   answered      right";
    let shares: Vec<f64> = (1..=10).rev().map(|n| f64::from(n) / 10.0).collect();
    for at in found.shares(&shares) {
        let Selective {
            least,
            coverage,
            accuracy,
            ..
        } = at;
        let right = accuracy.map_or("–".to_owned(), |a| format!("{:.1} %", 100.0 * a));
        text += &format!("\n  {least:>16.4} {:>8.1} % {right:>10}", 100.0 * coverage);
    }
    if let Some(least) = config.answers.as_ref().and_then(|a| a.least_confidence) {
        let at = found.top.answered(least);
        let right = at.accuracy.map_or(String::new(), |a| {
            format!(", {:.1} % of them right", 100.0 * a)
        });
        let answered = 100.0 * at.coverage;
        text += &format!("\nunsure below {least}: {answered:.1} % answered{right}");
    }
    text
}
