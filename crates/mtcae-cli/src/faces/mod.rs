//! `evaluate --faces`: measures checkpoints on listed files of real faces.

mod classes;
mod list;
mod report;
mod said;
mod views;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use mtcae_dfer::model::Checkpoint;
use mtcae_dfer::{Crop, DetectAt, Device, FaceFinder, Pipeline, Precision};
use mtcae_train::objective::Bootstrap;

use crate::foreign::Foreign;
use crate::{Bars, Fault, checkpoint, note, one_line, say};
use list::{Entry, List, Marks, read_marks};
use report::{Measured, Model, NotMeasured, Report};
use said::Said;
use views::Against;

/// What is measured on real faces.
#[derive(Args)]
pub struct FacesArgs {
    /// List of files with faces to measure on, with tabs between its columns (docs/faces.md):
    /// landmarks and boxes against MTCNN's, expressions where they are labelled. Nothing is
    /// fetched: files that are missing, or others than those listed, are named.
    #[arg(
        long,
        value_name = "LIST.tsv",
        group = "measured",
        requires = "checkpoint"
    )]
    pub faces: Option<PathBuf>,

    /// With --faces: landmarks that a person set, a line of JSON each (docs/faces.md).
    #[arg(long, value_name = "FILE.jsonl", requires = "faces")]
    pub marks: Option<PathBuf>,

    /// With --faces: a second list, of files without a face, in the same folder.
    #[arg(long, value_name = "LIST.tsv", requires = "faces")]
    pub no_face: Option<PathBuf>,

    /// With --faces: another checkpoint to measure beside the first; may be given again.
    #[arg(long, value_name = "DIR", requires = "faces")]
    pub against: Vec<String>,

    /// With --faces: the least confidence of an answer, in place of what the checkpoint says;
    /// 0 for none.
    #[arg(long, value_name = "P", requires = "faces")]
    pub least_confidence: Option<f64>,
}

impl FacesArgs {
    /// Checks that there is a list where something is asked of one; clap does not where
    /// `--labels` are given.
    ///
    /// # Errors
    /// Names the flag.
    pub fn check(&self) -> Result<(), Fault> {
        let given = [
            ("--marks", self.marks.is_some()),
            ("--no-face", self.no_face.is_some()),
            ("--against", !self.against.is_empty()),
            ("--least-confidence", self.least_confidence.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) if self.faces.is_none() => {
                Err(format!("{flag} belongs to --faces").into())
            }
            _ => Ok(()),
        }
    }
}

/// What of `evaluate`'s other arguments matters here.
pub struct Asked<'a> {
    pub args: &'a FacesArgs,
    pub root: Option<&'a Path>,
    pub checkpoint: &'a str,
    pub foreign: &'a Foreign,
    pub crop: Option<Crop>,
    pub out: Option<&'a Path>,
    pub force: bool,
    pub bootstrap: Option<Bootstrap>,
    pub device: Device,
    pub quiet: bool,
}

/// A checkpoint, loaded.
struct Loaded {
    about: Model,
    pipeline: Pipeline,
    /// Without its calibration, where it has one.
    uncalibrated: Option<Pipeline>,
}

/// Measures, says and writes.
///
/// # Errors
/// Names the list, file or flag at fault.
pub fn run(asked: &Asked<'_>, list_path: &Path) -> Result<(), Fault> {
    if let Some(out) = asked.out {
        report::may_be_written(out, asked.force)?;
    }
    let list = read_list(list_path)?;
    let without = asked.args.no_face.as_deref().map(read_list).transpose()?;
    let (marks, strays) = match &asked.args.marks {
        Some(path) => read_marks(path, &list.entries)?,
        None => Default::default(),
    };
    if !strays.is_empty() {
        let names: Vec<String> = strays.into_iter().collect();
        note!(
            "warning: marks of files that are not listed: {}",
            names.join(", ")
        );
    }
    let models = load(asked)?;
    let beside = |path: &Path| path.parent().unwrap_or(Path::new("")).to_owned();
    let root = asked.root.map_or_else(|| beside(list_path), Path::to_owned);
    let finder = FaceFinder::new(&asked.device, DetectAt::Source, None)?;
    let work = Work {
        asked,
        models: &models,
        finder: &finder,
        root: &root,
    };
    let measured = work.faces(&list.entries, &marks)?;
    let no_face = match &without {
        Some(list) => Some(work.without(&list.entries)?),
        None => None,
    };
    let about = models.iter().map(|m| m.about.clone()).collect();
    let report = Report::new(&list.entries, about, measured, no_face, asked.bootstrap)?;
    if let Some(out) = asked.out {
        report.write(out, &list.entries)?;
    }
    say!("{}", report.in_words());
    Ok(())
}

fn read_list(path: &Path) -> Result<List, Fault> {
    let list = List::read(path)?;
    if !list.unknown.is_empty() {
        note!(
            "note: {}: columns that are not read: {}",
            path.display(),
            list.unknown.join(", ")
        );
    }
    Ok(list)
}

fn load(asked: &Asked<'_>) -> Result<Vec<Loaded>, Fault> {
    let first = asked.foreign.open(asked.checkpoint, asked.quiet)?;
    let mut opened = vec![(asked.checkpoint, first)];
    for name in &asked.args.against {
        opened.push((name, Checkpoint::open(checkpoint(name, asked.quiet)?)?));
    }
    let mut names = BTreeSet::new();
    let mut models = Vec::new();
    for (name, mut opened) in opened {
        if !names.insert(name) {
            return Err(format!("--against: {name} is given twice").into());
        }
        if let Some(least) = asked.args.least_confidence {
            let fault = |e| format!("--least-confidence: {}", one_line(&e));
            opened = opened.sure_from(least).map_err(fault)?;
        }
        if let Some(crop) = asked.crop {
            opened = opened.cropping(crop);
        }
        let config = opened.config().clone();
        if config.trained_on.is_none() {
            note!("warning: {name}: the model is untrained; its figures mean nothing");
        }
        let pipeline = Pipeline::new(opened.engine(&asked.device, Precision::F32)?);
        let uncalibrated = match config.calibration {
            None => None,
            Some(_) => {
                let engine = opened
                    .uncalibrated()
                    .engine(&asked.device, Precision::F32)?;
                Some(Pipeline::new(engine))
            }
        };
        models.push(Loaded {
            about: Model {
                name: name.to_owned(),
                trained_on: config.trained_on,
                crop: config.preprocessing.crop.to_string(),
                least_confidence: config.answers.and_then(|a| a.least_confidence),
                classes: config.classes,
            },
            pipeline,
            uncalibrated,
        });
    }
    Ok(models)
}

/// Everything that files are looked at with.
struct Work<'a> {
    asked: &'a Asked<'a>,
    models: &'a [Loaded],
    finder: &'a FaceFinder,
    root: &'a Path,
}

impl Work<'_> {
    /// Looks at files with faces. What cannot be measured is kept by name.
    fn faces(&self, entries: &[Entry], marks: &Marks) -> Result<Measured, Fault> {
        let pipelines: Vec<&Pipeline> = self.models.iter().map(|m| &m.pipeline).collect();
        let mut measured = Measured::new(self.models.len());
        let left_out = self.each("files", entries, |at, entry, path| {
            let marks = marks.get(&entry.id).map_or(&[][..], Vec::as_slice);
            let seen = views::look((at, entry), path, marks, &pipelines, self.finder)?;
            let said = self.said(at, entry, path)?;
            measured.looked_at.push(at);
            if seen.truths.iter().all(|t| t.against != Against::Mtcnn) {
                measured.faceless.push(entry.id.clone());
            }
            measured.add(seen, said);
            Ok(())
        })?;
        measured.left_out = left_out;
        Ok(measured)
    }

    /// Looks at files without a face.
    fn without(&self, entries: &[Entry]) -> Result<report::WithoutFace, Fault> {
        let mut found = report::WithoutFace::new(self.models);
        let left_out = self.each("files without a face", entries, |at, entry, path| {
            found.add(entry, &self.said(at, entry, path)?);
            Ok(())
        })?;
        found.not_measured = left_out;
        Ok(found)
    }

    /// What each model says of a file.
    fn said(&self, at: usize, entry: &Entry, path: &Path) -> Result<Vec<Said>, Fault> {
        let mut all = Vec::new();
        for model in self.models {
            let answer = |pipeline| said::answer(entry, path, pipeline, self.finder);
            let own = answer(&model.pipeline)?;
            let raw = match &model.uncalibrated {
                Some(raw) if own.is_some() => answer(raw)?,
                _ => None,
            };
            all.push(Said::of(at, own.as_ref(), raw.as_ref()));
        }
        Ok(all)
    }

    fn each(
        &self,
        what: &str,
        entries: &[Entry],
        mut look: impl FnMut(usize, &Entry, &Path) -> Result<(), Fault>,
    ) -> Result<Vec<NotMeasured>, Fault> {
        let mut left_out = Vec::new();
        let bar = Bars::new(self.asked.quiet).items(what, entries.len() as u64);
        for (at, entry) in entries.iter().enumerate() {
            let done = match entry.find(self.root) {
                Ok(path) => look(at, entry, &path).map_err(|e| one_line(&*e)),
                Err(why) => Err(why),
            };
            if let Err(why) = done {
                left_out.push(NotMeasured {
                    id: entry.id.clone(),
                    file: entry.file.clone(),
                    why,
                });
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        if left_out.len() == entries.len() {
            let first = left_out.first().map_or("", |l| l.why.as_str());
            return Err(format!(
                "none of the {} {what} can be measured below {} (the first: {first})",
                entries.len(),
                self.root.display()
            )
            .into());
        }
        Ok(left_out)
    }
}
