//! `infer`: what a model says of videos.
//!
//! Results go to stdout or into files; progress, warnings and errors to stderr. A
//! file that cannot be read does not stop the others. Exit code 0: all done; 1:
//! something failed; 2: the command line is wrong.

mod args;
mod live;
mod mass;
pub mod output;
mod overview;
mod serve;
mod summary;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::documents;
use crate::output::clean_up_when_stopped;
use crate::report;
use crate::threads::limit_threads;
use crate::{Bars, Fault, default_model, device, in_tree, note, one_line};
use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches};
use mtcae_core::archive::{holder, same_content};
use mtcae_core::files::{At, FileId};
use mtcae_dfer::annotate::{film, sheet, viz::save_png};
use mtcae_dfer::model::Engine;
use mtcae_dfer::video::inputs::Input;
use mtcae_dfer::video::{Sound, Video};
use mtcae_dfer::{
    Answer, FaceFinder, FaceWarning, Pass, PeopleOptions, Pipeline, Prediction, Progress,
    Provenance, Results, SourceFile, Windowing,
};
use mtcae_nn::Isa;

use args::{Args, Kind, People};
use output::{Settings, Target};
use overview::{Outcome, Overview};

pub fn command() -> Result<Command, Fault> {
    Ok(Args::command())
}

pub fn main(mut command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    let args = Args::from_arg_matches(&command.try_get_matches_from_mut(line)?)?;
    args.check()
        .map_err(|reason| command.error(ErrorKind::ArgumentConflict, reason))?;
    run(args, command)
}

/// The demo: a face of a real person, and a rendered one that the default model has not seen.
const DEMO: [&str; 2] = ["fixtures/demo/portrait.mp4", "fixtures/demo/scanned.mp4"];

/// Whether everything worked.
fn run(mut args: Args, mut command: Command) -> Result<bool, Fault> {
    Isa::held()?;
    limit_threads(args.threads.map(usize::from))?;
    clean_up_when_stopped()?;
    let device = device(&args.device)?;
    let (name, mut checkpoint) = match &args.checkpoint {
        Some(name) => (name.clone(), args.foreign.open(name, args.quiet)?),
        None => (default_model::NAME.to_owned(), args.foreign.open_default()?),
    };
    if let Some(least) = args.least_confidence {
        let fault = |e| format!("--least-confidence: {}", one_line(&e));
        checkpoint = checkpoint.sure_from(least).map_err(fault)?;
    }
    args.settle(checkpoint.config().preprocessing.crop)
        .map_err(|reason| command.error(ErrorKind::ArgumentConflict, reason))?;
    let args = &args;
    let pipeline = Pipeline::new(match args.trace {
        // Packed weights keep no intermediates.
        Some(_) => Engine::on_candle(&checkpoint.model(&device)?, &device),
        None => checkpoint.engine(&device, args.precision)?,
    })
    .with_crop(args.crop.unwrap_or_default());
    let finder = match args.finds_faces() {
        true => Some(FaceFinder::new(
            &device,
            args.detect_at.into(),
            args.min_face,
        )?),
        false => None,
    };

    if args.is_live() {
        let origin = match args.out.is_some() || !args.format.is_empty() || args.serve.is_some() {
            true => Some(Provenance {
                program: concat!("mtcae ", env!("CARGO_PKG_VERSION")).to_owned(),
                model: checkpoint.identity(&name)?,
                source: None,
                settings: serde_json::to_value(Settings::new(&name, args)?)?,
            }),
            false => None,
        };
        if let Some(out) = &args.out {
            std::fs::create_dir_all(out).at(out)?;
        }
        let finder = finder.ok_or("a stream is looked at with MTCNN")?;
        return live::follow(args, &pipeline, &finder, origin, checkpoint.config());
    }

    let mut overview = Overview::default();
    let mut complain = |message: &str| {
        note!("error: {message}");
        overview.unreadable += 1;
    };
    let inputs = if args.inputs.is_empty() && args.lists.list.is_empty() {
        let clip = |name| in_tree(name).map(Input::new);
        DEMO.into_iter().map(clip).collect::<Result<_, _>>()?
    } else {
        let lists = &args.lists;
        lists.inputs(&args.inputs, args.quiet, &mut complain)?.files
    };
    if args.is_mass() {
        crate::mass::all_there(overview.unreadable == 0)?;
        let origin = Provenance {
            program: concat!("mtcae ", env!("CARGO_PKG_VERSION")).to_owned(),
            model: checkpoint.identity(&name)?,
            source: None,
            settings: serde_json::to_value(Settings::new(&name, args)?)?,
        };
        let run = Run {
            args,
            pipeline: &pipeline,
            finder,
            origin: Some(origin),
            protected: BTreeSet::new(),
            may_resume: false,
        };
        mass::run(&run, &inputs)?;
        return Ok(true);
    }
    if args.trace.is_some() && inputs.len() > 1 {
        return Err(format!("--trace takes one video, not {}", inputs.len()).into());
    }
    if args.out.is_none() {
        documents::fit_stdout(
            args.formats(),
            args.columns.unwrap_or_default(),
            inputs.len(),
        )?;
    }
    let protected: BTreeSet<FileId> = inputs
        .iter()
        .filter_map(|i| FileId::of(holder(&i.path)))
        .collect();
    let page = args.out.as_ref().filter(|_| args.report);
    let page = page.map(|out| out.join(report::REPORT));
    if let Some(page) = &page {
        report::may_be_written(page, args.resume || args.force)?;
    }
    let mut may_resume = false;
    let origin = match args.out.is_some() || !args.format.is_empty() {
        true => {
            let settings = Settings::new(&name, args)?;
            let origin = Provenance {
                program: concat!("mtcae ", env!("CARGO_PKG_VERSION")).to_owned(),
                model: checkpoint.identity(&name)?,
                source: None,
                settings: serde_json::to_value(&settings)?,
            };
            if let Some(out) = &args.out {
                std::fs::create_dir_all(out).at(out)?;
                may_resume = output::note_settings(out, settings, &origin.model, args.resume)?;
            }
            Some(origin)
        }
        // What is shown on the terminal says nothing of it.
        false => None,
    };
    let run = Run {
        args,
        pipeline: &pipeline,
        finder,
        origin,
        protected,
        may_resume,
    };
    if let Some(trace) = &args.trace {
        run.may_be_written(trace)?;
    }
    let bar = Bars::new(args.quiet || inputs.len() < 2).items("videos", inputs.len() as u64);
    let names = output::names(&inputs, &args.endings());
    let mut warnings = Warnings::default();
    for (input, name) in inputs.iter().zip(&names) {
        let outcome = run.file(input, name, |results, left_out| {
            bar.suspend(|| {
                if !args.quiet {
                    warnings.say(&results.answer, left_out);
                }
                say(results, args)
            })
        });
        if let Outcome::Failed(error) = &outcome {
            bar.suspend(|| note!("error: {error}"));
        }
        overview.add(&input.path, outcome);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if inputs.len() > 1 || overview.unreadable > 0 {
        if let Some(out) = &args.out {
            overview.write(&out.join(output::OVERVIEW), may_resume)?;
        }
        if !args.quiet {
            note!("{}", overview.line());
        }
    }
    if let (Some(page), Some(out)) = (&page, &args.out) {
        report::write(&[out], page, None, args.quiet)?;
    }
    Ok(overview.all_well())
}

/// What each file is looked at with.
struct Run<'a> {
    args: &'a Args,
    pipeline: &'a Pipeline,
    finder: Option<FaceFinder>,
    /// Where results come from, but for the file; where they are asked for.
    origin: Option<Provenance>,
    /// Files that are never written over.
    protected: BTreeSet<FileId>,
    /// Whether the folder of results is one that this program has written into.
    may_resume: bool,
}

impl Run<'_> {
    /// Answers about one file, shows the answer and writes what is asked for.
    fn file(
        &self,
        input: &Input,
        name: &Path,
        show: impl FnOnce(&Results, usize) -> Result<(), Fault>,
    ) -> Outcome {
        let work = || -> Result<Outcome, Fault> {
            let targets = self.targets(name);
            if self.is_done(&targets, &input.path)? {
                return Ok(Outcome::done_before(&targets));
            }
            let (answer, left_out) = self.answer(&input.path)?;
            // Written first, since the program ends where nobody reads what is shown.
            let provenance = match &self.origin {
                Some(origin) => Some(Provenance {
                    source: Some(SourceFile::of(&input.path)?),
                    ..origin.clone()
                }),
                None => None,
            };
            let results = Results { provenance, answer };
            self.write(&targets, &results, &input.path)?;
            show(&results, left_out)?;
            if !self.args.quiet && !targets.is_empty() {
                let list = targets.iter().map(|t| t.1.display().to_string());
                note!("wrote {}", list.collect::<Vec<_>>().join(", "));
            }
            Ok(Outcome::Done(overview::rows(&results.answer)))
        };
        work().unwrap_or_else(|error| {
            if let Some(error) = error.downcast_ref::<std::io::Error>() {
                crate::output::end_if_closed(error);
            }
            Outcome::Failed(one_line(&*error))
        })
    }

    /// The files that a file's results go into.
    fn targets(&self, name: &Path) -> Vec<(Target, PathBuf)> {
        let Some(folder) = &self.args.out else {
            return Vec::new();
        };
        let base = folder.join(name);
        let documents = self.args.documents().into_iter();
        let documents = documents.map(|d| (Target::Table(d), d.ending().to_owned()));
        let pictures = self
            .args
            .annotate
            .iter()
            .map(|&k| (Target::Picture(k), k.ending()));
        documents
            .chain(pictures)
            .map(|(target, ending)| (target, output::with_suffix(&base, &ending)))
            .collect()
    }

    /// Refuses to write over an input and, unless it is asked for, over anything.
    fn may_be_written(&self, path: &Path) -> Result<(), Fault> {
        let shown = path.display();
        if FileId::of(path).is_some_and(|id| self.protected.contains(&id)) {
            return Err(format!(
                "{shown} is an input, which the results would overwrite; give another name"
            )
            .into());
        }
        if path.symlink_metadata().is_ok() && !self.args.force {
            return Err(format!(
                "{shown} is there already; --resume skips what is done, --force overwrites it"
            )
            .into());
        }
        Ok(())
    }

    /// Whether an input's results are there already and are to stay.
    ///
    /// # Errors
    /// When one of them must not be written.
    fn is_done(&self, targets: &[(Target, PathBuf)], input: &Path) -> Result<bool, Fault> {
        let there = |path: &Path| path.symlink_metadata().is_ok();
        let some = targets.iter().any(|(_, path)| there(path));
        if !(self.args.resume && self.may_resume && some) {
            for (_, path) in targets {
                self.may_be_written(path)?;
            }
            return Ok(false);
        }
        let tables = targets.iter().filter_map(|(target, path)| match target {
            Target::Table(document) if document.names_its_file() => {
                there(path).then(|| (path, document.about(path)))
            }
            _ => None,
        });
        let mut owned = false;
        for (path, about) in tables {
            owned = about.as_ref().is_some_and(|file| {
                *file == input.to_string_lossy() || same_content(Path::new(file), input)
            });
            if !owned {
                let about = about.map_or("not a result of infer".to_owned(), |f| format!("of {f}"));
                return Err(format!(
                    "{} is {about}, not of {}; give another --out",
                    path.display(),
                    input.display()
                )
                .into());
            }
        }
        if !owned {
            // Pictures and what names no video alone, which may be anybody's.
            for (_, path) in targets {
                self.may_be_written(path)?;
            }
        }
        Ok(targets.iter().all(|(_, path)| there(path)))
    }

    /// What the model says of a file, and how many people it says nothing of.
    fn answer(&self, path: &Path) -> Result<(Answer, usize), Fault> {
        let (args, pipeline) = (self.args, self.pipeline);
        if let Some(trace) = &args.trace {
            let prediction = traced(pipeline, path, trace)?;
            return Ok((Answer::Clip(vec![prediction]), 0));
        }
        let windowing = args.windows().map(|(length, stride)| Windowing {
            length,
            stride,
            batch: args.batch.into(),
        });
        let bar = match &windowing {
            Some(_) => {
                let duration = Video::open(path)?.info().duration;
                Some(Bars::new(args.quiet).seconds("windows", duration))
            }
            None => None,
        };
        let progress = |reached: Progress| {
            if let Some(bar) = &bar {
                bar.set_position(reached.seconds as u64);
            }
            ControlFlow::Continue(())
        };
        let mut left_out = 0;
        let answer = match (&self.finder, windowing) {
            (Some(finder), windowing) if args.follows() => {
                let options = PeopleOptions {
                    everybody: args.people == People::All,
                    min_seen: args.min_seen.map_or(2, usize::from),
                    windowing,
                    ..PeopleOptions::default()
                };
                let people = finder.predict_people(pipeline, path, &options, progress);
                let people =
                    people.map_err(|e| one_line(&e).replace("`min_seen`", "--min-seen"))?;
                left_out = people.left_out;
                people.answer
            }
            (Some(finder), Some(windowing)) => Answer::Windows(vec![
                finder.predict_windows(pipeline, path, &windowing, progress)?,
            ]),
            (Some(finder), None) => Answer::Clip(vec![finder.predict(pipeline, path)?]),
            (None, Some(windowing)) => {
                Answer::Windows(vec![pipeline.predict_windows(path, &windowing, progress)?])
            }
            (None, None) => Answer::Clip(vec![pipeline.predict(path)?]),
        };
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        Ok((answer, left_out))
    }

    fn write(
        &self,
        targets: &[(Target, PathBuf)],
        results: &Results,
        video: &Path,
    ) -> Result<(), Fault> {
        let answer = &results.answer;
        let follows = self.args.follows();
        for (target, path) in targets {
            match target {
                Target::Table(document) => documents::write_file(path, results, *document)?,
                Target::Picture(Kind::Png) => {
                    save_png(path, &sheet(self.pipeline, answer, video, follows)?)?;
                }
                Target::Picture(Kind::Mp4) => {
                    let bar = Bars::new(self.args.quiet);
                    let bar = bar.seconds("annotating", Video::open(video)?.info().duration);
                    let reached = |seconds| bar.set_position(seconds as u64);
                    let sound = film(path, answer, video, follows, reached)?;
                    bar.finish_and_clear();
                    if let (Sound::LeftOut(reason), false) = (sound, self.args.quiet) {
                        let name = video.display();
                        note!("warning: {name}: sound left out of the annotated video: {reason}");
                    }
                }
            }
        }
        Ok(())
    }
}

/// The prediction of a file, with the intermediates of its first view in a file.
fn traced(pipeline: &Pipeline, path: &Path, trace: &Path) -> Result<Prediction, Fault> {
    let views = pipeline.read(path)?;
    let prediction = pipeline.predict_views(path, &views)?;
    if let Some(first) = views.first() {
        let mut pass = Pass::inference().traced();
        pipeline.predict_traced(first, &mut pass)?;
        output::write_trace(trace, first, pass.into_trace(), pipeline.config())?;
    }
    Ok(prediction)
}

/// Warnings that were said; each is said once a file, and mere notes once a run.
#[derive(Default)]
struct Warnings {
    notes: BTreeSet<String>,
}

impl Warnings {
    fn say(&mut self, answer: &Answer, left_out: usize) {
        let predictions = answer.predictions();
        let file = predictions.first().and_then(|p| p.file.as_deref());
        let file = file.unwrap_or(Path::new("clip")).display();
        let windows = matches!(answer, Answer::Windows(_));
        let answered = predictions.iter().filter(|p| p.refusal.is_none());
        let faceless = answered.filter(|p| p.is_faceless()).count();
        let mut said = BTreeSet::new();
        let mut of_video = Vec::new();
        for warning in predictions.iter().flat_map(|p| &p.warnings) {
            match warning {
                mtcae_dfer::Warning::Video(warning) => warning.clone().add_to(&mut of_video),
                // Of windows, those without a face are counted.
                mtcae_dfer::Warning::Face(warning)
                    if windows
                        && !matches!(
                            warning,
                            FaceWarning::NotCropped | FaceWarning::Several { .. }
                        ) => {}
                other => {
                    let text = other.to_string();
                    if said.insert(text.clone()) {
                        note!("warning: {file}: {text}");
                    }
                }
            }
        }
        for warning in of_video {
            let text = warning.to_string();
            match warning.is_note() {
                false => note!("warning: {file}: {text}"),
                true if self.notes.insert(text.clone()) => {
                    note!("note: {file}: {text} (said once, even if it is true of more files)");
                }
                true => {}
            }
        }
        if windows && faceless > 0 {
            let all = predictions.len();
            note!(
                "warning: {file}: no face is seen in {faceless} of {all} windows: the answers for these rest on nothing"
            );
        }
        if left_out > 0 {
            note!(
                "warning: {file}: {left_out} more people were seen in too few frames to get an answer; --min-seen 1 takes all"
            );
        }
    }
}

/// Prints the summary, or the tables where formats are asked for without a folder.
fn say(results: &Results, args: &Args) -> Result<(), Fault> {
    if args.out.is_none() && !args.format.is_empty() {
        documents::write_stdout(results, &args.documents())?;
    } else if !args.quiet {
        let mut out = std::io::stdout().lock();
        summary::print(&mut out, &results.answer, args.checkpoint.is_none())?;
    }
    Ok(())
}
