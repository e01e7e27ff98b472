//! `synth`: rendered face clips and their label file.

mod args;
mod check;
mod labels;
mod sheet;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use crate::config;
use crate::{Bars, Fault, say};
use clap::{Command, FromArgMatches};
use mtcae_core::files::{At, write_atomically};
use mtcae_labels::dataset::{Sample, folds};
use mtcae_labels::labels::{LabelWriter, label_all};
use mtcae_nn::Isa;
use mtcae_synth::{Dataset, Planned};

use args::Args;

pub fn command() -> Result<Command, Fault> {
    Ok(config::command::<Args>("synth"))
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    config::main(command, line, |given| {
        run(&Args::from_arg_matches(given.matches())?)
    })
}

fn run(args: &Args) -> Result<(), Fault> {
    Isa::held()?;
    let dataset = args.dataset();
    // Checks every setting before anything is written.
    let plan = dataset.plan()?;
    if let Some(path) = &args.sheet {
        sheet::write(path, &dataset, args.rows, args.truth)?;
        if !args.quiet {
            say!("{}: a contact sheet", path.display());
        }
    }
    let Some(out) = &args.out else {
        return Ok(());
    };
    let samples = plan.iter().map(|p| labels::sample(out, &dataset, p));
    let mut samples: Vec<Sample> = samples.collect();
    if args.folds > 0 {
        folds::assign(&mut samples, args.folds.into(), args.seed)?;
    }
    begin(out, &dataset, args.resume)?;
    clips(args, out, &plan, &samples)?;
    if args.check > 0 {
        check::run(out, &plan, args.check, args.quiet)?;
    }
    Ok(())
}

/// The folder's name for its own settings.
const SETTINGS: &str = "dataset.json";

/// Makes the folder, or makes sure that it is one that the same settings began.
fn begin(out: &Path, dataset: &Dataset, resume: bool) -> Result<(), Fault> {
    std::fs::create_dir_all(out).at(out)?;
    let empty = std::fs::read_dir(out).at(out)?.next().is_none();
    let settings = out.join(SETTINGS);
    if empty {
        let text = serde_json::to_vec_pretty(dataset)?;
        let written = write_atomically(&settings, |temporary| std::fs::write(temporary, text));
        return Ok(written.at(&settings)?);
    }
    if !resume {
        return Err(format!(
            "{}: is not empty; give another folder, or go on with --resume",
            out.display()
        )
        .into());
    }
    let text = std::fs::read(&settings).at(&settings)?;
    let before: Dataset = serde_json::from_slice(&text).at(&settings)?;
    if before != *dataset {
        return Err(format!(
            "{}: the folder was started with other settings",
            settings.display()
        )
        .into());
    }
    Ok(())
}

/// Renders and labels what is not labelled yet.
fn clips(args: &Args, out: &Path, plan: &[Planned], samples: &[Sample]) -> Result<(), Fault> {
    let file = out.join("labels.jsonl");
    let mut writer = if args.resume {
        LabelWriter::resume(&file, samples, &labels::settings())?
    } else {
        LabelWriter::create(&file)?
    };
    let bar = Bars::new(args.quiet).items("clips", samples.len() as u64);
    bar.set_position(writer.clips() as u64);
    bar.reset_eta();
    let planned: HashMap<&str, &Planned> = plan.iter().map(|p| (&p.file[..], p)).collect();
    let render =
        |sample: &Sample| labels::render(out, sample, planned.get(&sample.file[..]).copied());
    let summary = label_all(samples, &mut writer, args.jobs.into(), render, |progress| {
        bar.set_message(format!("{:.1} clips/s", bar.per_sec()));
        bar.set_position(progress.done as u64);
        // A clip that cannot be written (a full disk) ends the run.
        progress.clip.error.is_none()
    })?;
    writer.finish()?;
    bar.finish_and_clear();
    if let Some((_, reason)) = summary.failed.first() {
        return Err(reason.clone().into());
    }
    if !args.quiet {
        say!(
            "{}: {} clips of {} frames rendered, {} kept from before",
            file.display(),
            summary.clips,
            summary.frames,
            summary.resumed,
        );
    }
    Ok(())
}
