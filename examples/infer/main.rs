//! `infer`: what a model says of videos.
//!
//! Results go to stdout or into files; progress, warnings and errors to stderr. A
//! file that cannot be read does not stop the others. Exit code 0: all done; 1:
//! something failed; 2: the command line is wrong.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod annotate;
mod args;
mod faces;
mod output;
mod summary;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use mtcae_dfer::{Pass, Pipeline, Prediction, Timeline, Windowing};
use mtcae_examples::{Bars, Fault, checkpoint, device, fixtures, one_line};

use args::{Args, Format, People};
use faces::Finder;
use mtcae_examples::inputs::{Input, expand};
use mtcae_examples::threads::limit_threads;

/// What the model says of one file.
pub enum Answer {
    /// Of the whole of it: one person's or, in order of appearance, everybody's.
    Clip(Vec<Prediction>),
    /// Window by window.
    Windows(Timeline),
}

impl Answer {
    /// The predictions, one a clip or window.
    pub fn predictions(&self) -> &[Prediction] {
        match self {
            Self::Clip(people) => people,
            Self::Windows(timeline) => &timeline.windows,
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = args.check() {
        error.exit();
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything worked.
fn run(args: &Args) -> Result<bool, Fault> {
    limit_threads(args.threads.map(usize::from))?;
    let device = device(&args.device)?;
    let demo = args.checkpoint.is_none();
    let folder = match &args.checkpoint {
        Some(name) => checkpoint(name, args.quiet)?,
        None => fixtures().join("checkpoint"),
    };
    let pipeline = match args.trace {
        // Packed weights keep no intermediates.
        Some(_) => Pipeline::load_model(&folder, &device)?,
        None => Pipeline::load_in(&folder, &device, args.precision)?,
    };
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
    }

    let finder = match args.finds_faces() {
        true => Some(Finder::new(&device)?),
        false => None,
    };

    let mut all_well = true;
    let mut complain = |message: &str| {
        eprintln!("error: {message}");
        all_well = false;
    };
    let inputs = if args.inputs.is_empty() {
        vec![Input::new(fixtures().join("rendered.mp4"))]
    } else {
        expand(&args.inputs, &mut complain)
    };
    if args.trace.is_some() && inputs.len() > 1 {
        return Err(format!("--trace takes one video, not {}", inputs.len()).into());
    }

    let bar = Bars::new(args.quiet || inputs.len() < 2).items("videos", inputs.len() as u64);
    let names = output::names(&inputs);
    for (input, name) in inputs.iter().zip(&names) {
        let result = predict(&pipeline, finder.as_ref(), &input.path, args).and_then(|answer| {
            bar.suspend(|| {
                warn(&answer, args.quiet);
                say(&answer, args, demo)
            })?;
            write(&answer, &input.path, name, &pipeline, args)
        });
        if let Err(error) = result {
            bar.suspend(|| complain(&one_line(&*error)));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(all_well)
}

fn predict(
    pipeline: &Pipeline,
    finder: Option<&Finder>,
    path: &Path,
    args: &Args,
) -> Result<Answer, Fault> {
    if let Some((length, stride)) = args.windows() {
        let duration = mtcae_dfer::video::Video::open(path)?.info().duration;
        let bar = Bars::new(args.quiet).seconds("windows", duration);
        let windowing = Windowing {
            length,
            stride,
            batch: args.batch.into(),
        };
        let timeline = pipeline.predict_windows(path, &windowing, |progress| {
            bar.set_position(progress.seconds as u64);
            ControlFlow::Continue(())
        });
        bar.finish_and_clear();
        return Ok(Answer::Windows(timeline?));
    }
    if let Some(trace) = &args.trace {
        return Ok(Answer::Clip(vec![traced(pipeline, path, trace)?]));
    }
    let everybody = args.people == People::All;
    Ok(Answer::Clip(match finder {
        Some(finder) if everybody || args.crop.is_some() => {
            finder.cropped(pipeline, path, everybody)?
        }
        Some(finder) => vec![finder.subject(pipeline, path)?],
        None => vec![pipeline.predict(path)?],
    }))
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

/// Each warning once, however many windows repeat it.
fn warn(answer: &Answer, quiet: bool) {
    if quiet {
        return;
    }
    let mut said = Vec::new();
    for prediction in answer.predictions() {
        let file = prediction.file.as_deref().unwrap_or(Path::new("clip"));
        for warning in &prediction.warnings {
            if !said.contains(&warning) {
                eprintln!("warning: {}: {warning}", file.display());
                said.push(warning);
            }
        }
    }
}

/// Prints the summary, or the tables where formats are asked for without a folder.
fn say(answer: &Answer, args: &Args, demo: bool) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    if args.out.is_none() && !args.format.is_empty() {
        for format in &args.format {
            output::write(&mut out, answer, *format, false)?;
        }
    } else if !args.quiet {
        summary::print(&mut out, answer, demo)?;
    }
    Ok(())
}

/// Writes the files that are asked for.
fn write(
    answer: &Answer,
    video: &Path,
    name: &Path,
    pipeline: &Pipeline,
    args: &Args,
) -> Result<(), Fault> {
    let Some(folder) = &args.out else {
        return Ok(());
    };
    let base = folder.join(name);
    let formats = if args.format.is_empty() {
        &[Format::Json, Format::Csv]
    } else {
        args.format.as_slice()
    };
    let mut written = Vec::new();
    for format in formats {
        let path = output::with_extension(&base, format.extension());
        output::write_file(&path, answer, *format)?;
        written.push(path);
    }
    for kind in &args.annotate {
        let path = output::with_extension(&base, kind.extension());
        annotate::write(&path, *kind, answer, video, pipeline, Bars::new(args.quiet))?;
        written.push(path);
    }
    if !args.quiet {
        let list: Vec<String> = written.iter().map(|p| p.display().to_string()).collect();
        eprintln!("wrote {}", list.join(", "));
    }
    Ok(())
}
