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
use mtcae_synth::{Dataset, Facts, Planned, Renderer};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

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
    let renderer = args.renderer()?;
    if let Some(path) = &args.sheet {
        sheet::write(path, &dataset, &renderer, args.rows, args.truth)?;
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
    begin(out, &dataset, args)?;
    if let Renderer::Scanned(scanned) = &renderer {
        let licence = scanned.model().licence();
        put(&out.join("FACE-MODEL-LICENSE"), licence.as_bytes())?;
    }
    clips(args, out, &plan, &samples, &renderer)?;
    facts(out, &plan, &renderer)?;
    if args.check > 0 {
        check::run(out, &plan, &renderer, args.check, args.quiet)?;
    }
    Ok(())
}

/// The folder's name for its own settings.
const SETTINGS: &str = "dataset.json";

/// What a folder was made with.
#[derive(PartialEq, Serialize, Deserialize)]
struct Settings {
    #[serde(default = "drawn")]
    renderer: String,
    #[serde(flatten)]
    dataset: Dataset,
}

fn drawn() -> String {
    "drawn".to_owned()
}

/// Makes the folder, or makes sure that it is one that the same settings began.
fn begin(out: &Path, dataset: &Dataset, args: &Args) -> Result<(), Fault> {
    std::fs::create_dir_all(out).at(out)?;
    let empty = std::fs::read_dir(out).at(out)?.next().is_none();
    let settings = out.join(SETTINGS);
    let now = Settings {
        renderer: args.renderer.clone(),
        dataset: dataset.clone(),
    };
    if empty {
        return put(&settings, &serde_json::to_vec_pretty(&now)?);
    }
    if !args.resume {
        return Err(format!(
            "{}: is not empty; give another folder, or go on with --resume",
            out.display()
        )
        .into());
    }
    let text = std::fs::read(&settings).at(&settings)?;
    let before: Settings = serde_json::from_slice(&text).at(&settings)?;
    if before != now {
        return Err(format!(
            "{}: the folder was started with other settings",
            settings.display()
        )
        .into());
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    Ok(write_atomically(path, |temporary| std::fs::write(temporary, bytes)).at(path)?)
}

/// What scanned people look like and do in each clip: `facts.csv`.
fn facts(out: &Path, plan: &[Planned], renderer: &Renderer) -> Result<(), Fault> {
    let Renderer::Scanned(scanned) = renderer else {
        return Ok(());
    };
    let path = out.join("facts.csv");
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = "file tone age light beard cover glasses held speaks still yaw pitch eyes";
    writer.write_record(header.split(' '))?;
    let facts = plan.par_iter().map(|planned| scanned.facts(&planned.take));
    let facts: Vec<Facts> = facts.collect::<Result<_, _>>()?;
    for (planned, f) in plan.iter().zip(facts) {
        let looks = (f.tone, f.age, f.light, f.beard, f.cover, f.glasses);
        let [yaw, pitch, eyes] = [f.yaw, f.pitch, f.eyes].map(|v| format!("{v:.1}"));
        writer.serialize((
            &planned.file,
            looks,
            f.held,
            f.speaks,
            f.still,
            yaw,
            pitch,
            eyes,
        ))?;
    }
    let bytes = writer.into_inner().map_err(|e| e.to_string())?;
    put(&path, &bytes)
}

/// Renders and labels what is not labelled yet.
fn clips(
    args: &Args,
    out: &Path,
    plan: &[Planned],
    samples: &[Sample],
    renderer: &Renderer,
) -> Result<(), Fault> {
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
    let render = |sample: &Sample| {
        labels::render(
            out,
            sample,
            planned.get(&sample.file[..]).copied(),
            renderer,
        )
    };
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
