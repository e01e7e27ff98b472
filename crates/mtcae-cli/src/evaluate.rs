//! `evaluate`: measures a model on labelled clips, or predictions written before.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config;
use crate::faces::{self, Asked, FacesArgs};
use crate::foreign::Foreign;
use crate::groups::{by_group, in_words as in_groups};
use crate::output::clean_up_when_stopped;
use crate::threads::limit_threads;
use crate::training::{Screen, acquaintance, folds_in_words, in_words};
use crate::{Fault, device, note, say};
use clap::{Command, FromArgMatches, Parser};
use mtcae_core::files::{At, same_file, write_atomically};
use mtcae_dfer::model::card::CARD;
use mtcae_dfer::model::{Checkpoint, Config};
use mtcae_dfer::{Crop, Precision};
use mtcae_nn::Isa;
use mtcae_train::objective::{Bootstrap, Interval, Summary};
use mtcae_train::{
    About, Acquaintance, Alike, ClipResult, Dataset, Loading, Noted, PREDICTIONS, STATE, Selection,
    Source, Spread, capital, predict, read_table, summarise, summarise_units, write_table,
};
use mtcae_viz::{confusion_matrix, save_png};
use serde::Serialize;

/// Measures a model on labelled clips: UAR, WAR, recall and precision of each class,
/// calibration, overlap of boxes, error of landmarks, and all of it by intensity.
///
/// With --predictions, the same from a table that an earlier evaluation or a
/// cross-validation wrote; no model is run. With --faces, on listed files of real faces.
#[derive(Parser)]
#[command(name = "evaluate", version)]
struct Args {
    /// Table of predictions to measure.
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["labels", "faces", "checkpoint"],
          required_unless_present_any = ["labels", "faces", "checkpoint"])]
    predictions: Option<PathBuf>,

    /// Label file of the clips to predict.
    #[arg(
        long,
        value_name = "FILE.jsonl",
        group = "measured",
        requires = "checkpoint"
    )]
    labels: Option<PathBuf>,

    #[command(flatten)]
    faces: FacesArgs,

    /// Folder that the label file's videos, or the listed files, lie in; by default that of
    /// the label file or list.
    #[arg(long, value_name = "DIR", conflicts_with = "predictions")]
    root: Option<PathBuf>,

    /// The model's checkpoint folder, or a published classifier: a folder, a file, or
    /// hub:ORG/NAME.
    #[arg(long, value_name = "DIR|FILE|hub:NAME", requires = "measured")]
    checkpoint: Option<String>,

    #[command(flatten)]
    foreign: Foreign,

    /// What part of each frame the model sees, in place of what the checkpoint says: none,
    /// the whole frame; face[:MARGIN] or aligned[:SCALE], a crop to the face of the labels.
    #[arg(long, value_name = "face|aligned|none", conflicts_with = "predictions")]
    crop: Option<Crop>,

    /// Only the clips of this fold, from 0, as the label file or the table has them.
    #[arg(long, conflicts_with = "faces")]
    fold: Option<u32>,

    /// Also measure people that the model was trained on; the report says so.
    #[arg(long, conflicts_with_all = ["predictions", "faces"])]
    allow_seen: bool,

    /// Also give figures by what clips show: by each column of this table, whose column `file`
    /// has their names, as `synth --renderer scanned` writes facts.csv. Columns of many numbers
    /// are cut into quarters.
    #[arg(long, value_name = "FILE.csv", conflicts_with = "faces")]
    groups: Option<PathBuf>,

    /// Folder for predictions.csv, summary.json and confusion.png, not that of a run; with
    /// --faces, for faces.json, faces.csv and frames.csv.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Add the figures to the model card in the checkpoint's folder (`mtcae card` shows it).
    #[arg(long, requires = "checkpoint", conflicts_with = "faces")]
    card: bool,

    /// Overwrite a report that exists already.
    #[arg(long, requires = "out")]
    force: bool,

    /// Clips, or views of them, that go through the model at once.
    #[arg(long, default_value_t = 8, conflicts_with_all = ["predictions", "faces"])]
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

    /// No bars and notes.
    #[arg(long)]
    quiet: bool,
}

pub fn command() -> Result<Command, Fault> {
    // They are of a model, and a table needs none.
    let of_models = [
        "classes",
        "image_size",
        "frames",
        "heads",
        "sampling",
        "resize",
    ];
    let command = config::command::<Args>("evaluate");
    Ok(of_models.iter().fold(command, |command, name| {
        command.mut_arg(name, |arg| arg.conflicts_with("predictions"))
    }))
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    config::main(command, line, |given| {
        run(&Args::from_arg_matches(given.matches())?)
    })
}

/// What is measured, and what the report says beside it.
struct Measured {
    results: Vec<ClipResult>,
    classes: Vec<String>,
    /// Names of the model's action units.
    units: Vec<String>,
    detectors: BTreeSet<String>,
    people: Option<Acquaintance>,
    /// What was measured, and which clips; of a table nobody knows.
    model: Option<(Config, String)>,
}

/// The files of a report, beside [`PREDICTIONS`].
const SUMMARY: &str = "summary.json";
const CONFUSION: &str = "confusion.png";

/// `summary.json`.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    about: About,
}

fn run(args: &Args) -> Result<(), Fault> {
    Isa::held()?;
    limit_threads(args.threads)?;
    clean_up_when_stopped()?;
    let bootstrap = (args.bootstrap > 0).then(|| Bootstrap {
        resamples: args.bootstrap,
        ..Bootstrap::default()
    });
    args.faces.check()?;
    if let (Some(list), Some(checkpoint)) = (&args.faces.faces, &args.checkpoint) {
        let asked = Asked {
            args: &args.faces,
            root: args.root.as_deref(),
            checkpoint,
            foreign: &args.foreign,
            crop: args.crop,
            out: args.out.as_deref(),
            force: args.force,
            bootstrap,
            device: device(&args.device)?,
            quiet: args.quiet,
        };
        return faces::run(&asked, list);
    }
    if let Some(out) = &args.out {
        may_be_written(out, args.predictions.as_deref(), args.force)?;
    }
    let measured = match (&args.predictions, &args.labels, &args.checkpoint) {
        (Some(table), ..) => run_table(args, table)?,
        (None, Some(labels), Some(checkpoint)) => run_model(args, labels, checkpoint)?,
        // clap has asked for one or the other.
        _ => return Err("either --predictions, or --labels and --checkpoint".into()),
    };
    let (results, classes) = (&measured.results, &measured.classes);
    let mut summary = summarise(results, classes, bootstrap.as_ref())?;
    summary.action_units = summarise_units(results, &measured.units)?;
    let about = About {
        people: measured.people.clone(),
        ..About::new(&measured.detectors, bootstrap)
    };
    let mut text = in_words(&summary);
    if args.predictions.is_some() {
        text += &by_fold(results, classes, bootstrap.as_ref())?;
    }
    let mut groups = by_intensity(results, classes)?;
    text += &in_groups(&groups);
    if let Some(table) = &args.groups {
        let (clips, found) = by_group(table, results, classes)?;
        let (name, all) = (table.display(), results.len());
        text += &format!("\nby the columns of {name} ({clips} of {all} clips):");
        text += &in_groups(&found);
        groups.extend(found);
    }
    if let Some(people) = &about.people {
        text += &format!("\n{}.", capital(&people.in_words("the model")));
    }
    text += &format!("\n{}", about.in_words());
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).at(out)?;
        write_table(&out.join(PREDICTIONS), results, classes)?;
        let picture = confusion_matrix(classes, &summary.confusion)?;
        let report = Report {
            summary: &summary,
            about,
        };
        let json = serde_json::to_string_pretty(&report)?;
        let path = out.join(SUMMARY);
        write_atomically(&path, |temporary| std::fs::write(temporary, json)).at(&path)?;
        save_png(out.join(CONFUSION), &picture)?;
    }
    if args.card {
        note_in_card(args, &measured, &summary, &groups)?;
    }
    say!("{text}");
    Ok(())
}

/// Figures by intensity, where the clips say it.
fn by_intensity(results: &[ClipResult], classes: &[String]) -> Result<Vec<Alike>, Fault> {
    let levels: BTreeSet<&str> = results.iter().filter_map(|r| r.level.as_deref()).collect();
    let of_level = |level: &str| {
        let has = |r: &&ClipResult| r.level.as_deref() == Some(level);
        let clips: Vec<ClipResult> = results.iter().filter(has).cloned().collect();
        Ok(Alike {
            by: "intensity".to_owned(),
            name: level.to_owned(),
            summary: summarise(&clips, classes, None)?,
        })
    };
    levels.into_iter().map(of_level).collect()
}

/// Refuses what is not measured as a folder of ours says it, of which its card is.
fn may_have_card(args: &Args, checkpoint: &str) -> Result<(), Fault> {
    let given = [
        ("--crop", args.crop.is_some()),
        ("--sampling", args.foreign.sampling.is_some()),
        ("--resize", args.foreign.resize.is_some()),
    ];
    if let Some((flag, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
        let reason = "figures of it would not be those of the model as its config says it";
        return Err(format!("--card: {reason}; leave out {flag}").into());
    }
    if !Path::new(checkpoint).is_dir() {
        let reason = "a card lies in a checkpoint's folder; give --checkpoint DIR";
        return Err(format!("--card: {reason}").into());
    }
    Checkpoint::open_ours(checkpoint)?;
    Ok(())
}

/// Adds the figures to the checkpoint's card.
fn note_in_card(
    args: &Args,
    measured: &Measured,
    summary: &Summary,
    groups: &[Alike],
) -> Result<(), Fault> {
    let (Some(checkpoint), Some(labels), Some((config, clips))) =
        (&args.checkpoint, &args.labels, &measured.model)
    else {
        return Err("--card: give --labels and --checkpoint, for the card to be of a model".into());
    };
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let mut command = format!("mtcae evaluate --labels {}", name(labels));
    if let Some(fold) = args.fold {
        command += &format!(" --fold {fold}");
    }
    if let Some(table) = &args.groups {
        command += &format!(" --groups {}", name(table));
    }
    let mut on = capital(clips);
    if let Some(people) = &measured.people {
        on += &format!("; {}", people.in_words("the model"));
    }
    let noted = Noted {
        on,
        command,
        summary,
        groups,
    };
    let folder = Path::new(checkpoint);
    noted.write(folder, config)?;
    note!("wrote {}", folder.join(CARD).display());
    Ok(())
}

/// Refuses the folder of a run, and the table that is read.
fn may_be_written(out: &Path, table: Option<&Path>, force: bool) -> Result<(), Fault> {
    for name in [STATE, "run.json", "fold.json", "settings.toml"] {
        if out.join(name).exists() {
            return Err(format!(
                "--out: {} belongs to a run, as its {name} shows; give another folder",
                out.display()
            )
            .into());
        }
    }
    let target = out.join(PREDICTIONS);
    if table.is_some_and(|table| same_file(table, &target)) {
        return Err(format!(
            "--out: {} is the table that is read; give another folder",
            target.display()
        )
        .into());
    }
    for name in [PREDICTIONS, SUMMARY, CONFUSION] {
        let target = out.join(name);
        if !force && target.symlink_metadata().is_ok() {
            return Err(format!(
                "{}: exists already; --force overwrites it, or give another folder",
                target.display()
            )
            .into());
        }
    }
    Ok(())
}

/// The results of a table.
fn run_table(args: &Args, table: &Path) -> Result<Measured, Fault> {
    let (mut results, classes) = read_table(table)?;
    if let Some(fold) = args.fold {
        results.retain(|r| r.fold == fold);
    }
    if results.is_empty() {
        let of = args.fold.map_or(String::new(), |f| format!(" of fold {f}"));
        return Err(format!("{}: contains no clip{of}", table.display()).into());
    }
    Ok(Measured {
        results,
        classes,
        units: Vec::new(),
        detectors: BTreeSet::new(),
        people: None,
        model: None,
    })
}

/// Where a table is of several folds, each by itself and their mean.
fn by_fold(
    results: &[ClipResult],
    classes: &[String],
    bootstrap: Option<&Bootstrap>,
) -> Result<String, Fault> {
    let folds: BTreeSet<u32> = results.iter().map(|r| r.fold).collect();
    let mut text = String::new();
    if folds.len() < 2 {
        return Ok(text);
    }
    let (mut uar, mut war) = (Vec::new(), Vec::new());
    for fold in folds {
        let of_fold: Vec<ClipResult> = results.iter().filter(|r| r.fold == fold).cloned().collect();
        let s = summarise(&of_fold, classes, bootstrap)?;
        let percent = |v: f64, i: Option<Interval>| {
            let range = i.map(|i| format!(" ({:.2} to {:.2})", 100.0 * i.low, 100.0 * i.high));
            format!("{:.2} %{}", 100.0 * v, range.unwrap_or_default())
        };
        text += &format!(
            "\n  fold {fold}: {} clips, UAR {}, WAR {}{}",
            s.clips,
            percent(s.uar, s.uar_interval),
            percent(s.war, s.war_interval),
            s.no_interval
                .map_or(String::new(), |why| format!("; no interval: {why}"))
        );
        uar.push(s.uar);
        war.push(s.war);
    }
    text += &format!(
        "\n  mean ± std of {} folds: UAR {}, WAR {}",
        uar.len(),
        Spread::of(&uar).percent(),
        Spread::of(&war).percent()
    );
    Ok(text)
}

/// What a model says of labelled clips.
fn run_model(args: &Args, labels: &Path, checkpoint: &str) -> Result<Measured, Fault> {
    if args.card {
        may_have_card(args, checkpoint)?;
    }
    let opened = args.foreign.open(checkpoint, args.quiet)?;
    let own = opened.config().preprocessing.crop;
    let crop = args.crop.unwrap_or(own);
    if !own.is_none() && crop.is_none() {
        note!(
            "warning: the model was trained on crops to faces, and is shown the whole pictures of \
             the label file: its figures say little where faces do not fill them"
        );
    }
    let opened = opened.cropping(crop);
    let asked = Labelled {
        labels,
        root: args.root.as_deref(),
        fold: args.fold,
        allow_seen: args.allow_seen,
        batch: args.batch,
        device: &args.device,
        quiet: args.quiet,
    };
    let predicted = asked.predicted(&opened, checkpoint)?;
    Ok(Measured {
        results: predicted.results,
        classes: opened.config().classes.clone(),
        units: opened.config().action_units.clone(),
        detectors: predicted.data.detectors.clone(),
        model: Some((
            opened.config().clone(),
            predicted.data.in_words(None, &predicted.places),
        )),
        people: Some(predicted.people),
    })
}

/// Labelled clips that a model is to be asked about.
pub struct Labelled<'a> {
    pub labels: &'a Path,
    pub root: Option<&'a Path>,
    pub fold: Option<u32>,
    pub allow_seen: bool,
    pub batch: usize,
    pub device: &'a str,
    pub quiet: bool,
}

/// What it says of them.
pub struct Predicted {
    pub results: Vec<ClipResult>,
    pub data: Arc<Dataset>,
    /// The clips' places in the data.
    pub places: Vec<usize>,
    pub people: Acquaintance,
}

impl Labelled<'_> {
    /// What a checkpoint of this name says of them.
    ///
    /// # Errors
    /// Names the file, the flag or the people at fault.
    pub fn predicted(&self, opened: &Checkpoint, checkpoint: &str) -> Result<Predicted, Fault> {
        let device = device(self.device)?;
        let (labels, model) = (self.labels, opened.config());
        if self.batch == 0 {
            return Err("--batch: must be at least 1".into());
        }
        let selection = Selection {
            root: self.root,
            classes: Some(&model.classes),
            only: None,
            ..Selection::default()
        };
        let data = Arc::new(Dataset::read_to_test(labels, &selection)?);
        for notice in &data.notices {
            note!("warning: {notice}");
        }
        let of_fold = |i: &usize| self.fold.is_none_or(|fold| data.items[*i].fold == fold);
        let places: Vec<usize> = (0..data.items.len())
            .filter(|i| data.folds == 0 || of_fold(i))
            .collect();
        if let Some(fold) = self.fold
            && (places.is_empty() || fold >= data.folds)
        {
            return Err(format!(
                "--fold {fold} has no clips that can be measured; {} has {}",
                labels.display(),
                folds_in_words(&data)
            )
            .into());
        }
        let known = acquaintance(
            &data,
            &places,
            Path::new(checkpoint),
            model,
            self.allow_seen,
        )?;
        let engine = opened.engine(&device, Precision::F32)?;
        match &model.trained_on {
            Some(clips) => note!("trained on: {clips}"),
            None => note!("warning: the model is untrained; its figures mean nothing"),
        }
        let crop = model.preprocessing.crop;
        if !crop.is_none() {
            note!("seen: crops to the faces of the label file, {crop}");
        }
        let loading = Loading {
            batch: self.batch,
            ..Loading::default()
        };
        let source = Arc::new(Source::to_test(&data, &engine, loading));
        let mut screen = Screen::new(self.quiet);
        let bar = crate::Bars::new(self.quiet).items("clips", places.len() as u64);
        let mut watch = |event: &mtcae_train::Event<'_>| {
            if let mtcae_train::Event::Predicted { done, .. } = event {
                bar.set_position(*done as u64);
            }
            screen.show(event)
        };
        let (results, _) = predict(&engine, &source, &places, None, &mut watch)?;
        bar.finish_and_clear();
        Ok(Predicted {
            results,
            data,
            places,
            people: known,
        })
    }
}
