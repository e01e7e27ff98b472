//! `label`: faces and landmarks of videos by MTCNN, with what the datasets say of
//! each clip, as a label file to train from.

mod args;
mod mass;
mod preview;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::output::clean_up_when_stopped;
use crate::threads::limit_threads;
use crate::{Bars, Fault, device, note, one_line, say};
use clap::{Command, CommandFactory, FromArgMatches};
use mtcae_core::files::{At, same_file, write_atomically};
use mtcae_faces::{Detector, DetectorConfig};
use mtcae_labels::dataset::{
    Catalogue, Problem, Report, Sample, crema_d, folder, folds, manifest, mead, ravdess,
};
use mtcae_labels::labels::{
    DetectAt, LabelReader, LabelSettings, LabelWriter, Labeller, Pick, Summary, label_all,
    write_table,
};
use mtcae_nn::Isa;

use args::{Args, Dataset};

pub fn command() -> Result<Command, Fault> {
    Ok(Args::command())
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    let given = command.try_get_matches_from(line)?;
    run(&Args::from_arg_matches(&given)?)
}

/// Whether every clip could be labelled.
fn run(args: &Args) -> Result<bool, Fault> {
    Isa::held()?;
    limit_threads(args.threads.map(usize::from))?;
    clean_up_when_stopped()?;
    let out = args.out();
    if args.mass.is_asked() {
        mass::check(args)?;
    } else if out.symlink_metadata().is_ok() && !args.resume {
        return Err(format!(
            "{}: exists already; --resume goes on with it, or give another name",
            out.display()
        )
        .into());
    }
    let mut all_well = true;
    let samples = samples(args, &mut all_well)?;
    if samples.is_empty() {
        return Ok(false); // each input's fault has been said
    }
    if let Some(table) = &args.csv {
        may_be_written("--csv", table, args, &samples)?;
    }
    for (_, path) in args.documents() {
        may_be_written("--format", &path, args, &samples)?;
    }
    let detector = Detector::new(DetectorConfig {
        min_face: args.min_face,
        ..DetectorConfig::default()
    })?
    .to_device(&device(&args.device)?)?;
    let settings = LabelSettings {
        at: if args.at_source() {
            DetectAt::Source
        } else {
            DetectAt::Model
        },
        pick: match args.every() {
            Some(n) => Pick::Every(n),
            None => Pick::Clip,
        },
        ..LabelSettings::default()
    };
    // Files are decoded side by side: each decoder gets its share of the threads.
    let threads = rayon::current_num_threads() / usize::from(args.jobs);
    let labeller = Labeller::new(detector, settings)?.with_decoder_threads(threads.max(1));
    if let Some(folder) = &args.preview {
        std::fs::create_dir_all(folder).at(folder)?;
    }
    if args.mass.is_asked() {
        crate::mass::all_there(all_well)?;
        mass::run(args, &labeller, &samples)?;
        return Ok(true);
    }
    let mut writer = if args.resume {
        LabelWriter::resume(out, &samples, &labeller.run_settings())?
    } else {
        LabelWriter::create(out)?
    };

    let bar = Bars::new(args.quiet).items("clips", samples.len() as u64);
    bar.set_position(writer.clips() as u64);
    bar.reset_eta();
    let label = |sample: &Sample| labeller.label_file(sample);
    let summary = label_all(&samples, &mut writer, args.jobs.into(), label, |progress| {
        if let (Some(folder), Some(sample)) = (&args.preview, samples.get(progress.done - 1))
            && let Err(error) = preview::write(folder, progress.done, sample, progress.clip)
        {
            bar.suspend(|| {
                note!("warning: preview of {}: {}", sample.file, one_line(&*error));
            });
        }
        bar.set_message(format!("{:.2} clips/s", bar.per_sec()));
        bar.set_position(progress.done as u64);
        true
    })?;
    writer.finish()?;
    bar.finish_and_clear();
    if let Some(table) = &args.csv {
        write_csv(table, out)?;
    }
    write_documents(args)?;
    say(&summary, out, args.quiet);
    Ok(all_well && summary.failed.is_empty())
}

/// The clips to label, in the order in which the file will have them.
fn samples(args: &Args, all_well: &mut bool) -> Result<Vec<Sample>, Fault> {
    if !args.classes.is_empty() && args.dataset != Dataset::Manifest {
        return Err(
            "--classes: applies to --dataset manifest only; other datasets have their own".into(),
        );
    }
    if args.folds.is_some() && args.dataset == Dataset::None {
        return Err("--folds: needs a --dataset; the subjects of loose files are not known".into());
    }
    let mut complain = |message: &str| {
        note!("error: {message}");
        *all_well = false;
    };
    if args.dataset == Dataset::None {
        let mut samples = Vec::new();
        let inputs = args.lists.inputs(&args.inputs, false, &mut complain)?;
        for input in inputs.files {
            match Sample::bare(input.path) {
                Ok(sample) => samples.push(sample),
                Err(e) => complain(&e.to_string()),
            }
        }
        return Ok(samples);
    }
    if !args.lists.list.is_empty() {
        return Err("--list: takes the place of inputs; a --dataset has its own".into());
    }
    let [root] = args.inputs.as_slice() else {
        return Err("--dataset: takes one input, a dataset's folder or a manifest".into());
    };
    let root = Path::new(root);
    let mut catalogue = match args.dataset {
        Dataset::Ravdess => ravdess::read(root, &ravdess::Options::default())?,
        Dataset::CremaD => crema_d::read(root)?,
        Dataset::Mead => mead::read(root, &mead::Options::default())?,
        Dataset::Manifest => manifest::read(root, &args.classes)?,
        Dataset::Folder | Dataset::None => folder::read(root)?,
    };
    if catalogue.samples.is_empty() {
        return Err(nothing_in(root, &catalogue).into());
    }
    if let Some(k) = args.folds {
        folds::assign(&mut catalogue.samples, k.into(), args.seed)?;
    } else if catalogue.samples.iter().any(|s| s.fold.is_some()) {
        // What training would refuse.
        let proved = folds::prove(&catalogue.samples);
        proved.map_err(|e| format!("{}: {e}; --folds K assigns them anew", root.display()))?;
    }
    report(&catalogue, args.quiet);
    Ok(catalogue.samples)
}

/// Why a dataset has no clip, in one line: how many files there are of each fault, and the
/// first of them.
fn nothing_in(root: &Path, catalogue: &Catalogue) -> String {
    let mut text = format!(
        "{}: contains no clip of {}",
        root.display(),
        catalogue.dataset
    );
    let there = |p: &&Problem| match p {
        // Each actor's clips, which is all there are.
        Problem::Missing { .. } => catalogue.dataset == "manifest",
        _ => true,
    };
    let problems: Vec<&Problem> = catalogue.problems.iter().filter(there).collect();
    if let Some(first) = problems.first() {
        text += &match problems.len() {
            1 => format!("; {first}"),
            n => format!("; {n} files are left out, the first being: {first}"),
        };
    }
    for (why, count) in &catalogue.left_out {
        text += &format!("; {count} left out: {why}");
    }
    text
}

/// Refuses a table over labels or an input, or over another table.
fn may_be_written(flag: &str, table: &Path, args: &Args, samples: &[Sample]) -> Result<(), Fault> {
    let name = table.display();
    if table == args.out() {
        return Err(format!("{flag}: {name} is also --out").into());
    }
    if table.symlink_metadata().is_err() {
        return Ok(());
    }
    let mut read = args.inputs.iter().map(Path::new);
    let mut clips = samples.iter().map(|s| &*s.path);
    let is = |path: &Path| same_file(path, table);
    if is(args.out()) || read.any(is) || clips.any(is) {
        return Err(format!("{flag}: {name} is an input of this run, or its --out").into());
    }
    if !args.resume {
        return Err(format!("{flag}: {name} exists already; give another name").into());
    }
    Ok(())
}

fn report(catalogue: &Catalogue, quiet: bool) {
    for problem in &catalogue.problems {
        note!("warning: {problem}");
    }
    if !quiet {
        say!("{}", Report::new(catalogue));
    }
}

fn write_csv(table: &Path, labels: &Path) -> Result<(), Fault> {
    let reader = LabelReader::open(labels)?;
    write_atomically(table, |temporary| {
        let mut file = BufWriter::new(File::create(temporary)?);
        write_table(reader, &mut file).map_err(|e| std::io::Error::other(one_line(&e)))?;
        file.flush()
    })
    .at(table)?;
    Ok(())
}

/// Writes the labels in the formats of other programs.
fn write_documents(args: &Args) -> Result<(), Fault> {
    let documents = args.documents();
    if documents.is_empty() {
        return Ok(());
    }
    let clips = LabelReader::open(args.out())?.collect::<Result<Vec<_>, _>>()?;
    for (document, path) in documents {
        write_atomically(&path, |temporary| {
            let mut file = BufWriter::new(File::create(temporary)?);
            document.write_labels(&clips, &mut file)?;
            file.flush()
        })
        .at(&path)?;
    }
    Ok(())
}

fn say(summary: &Summary, out: &Path, quiet: bool) {
    for (file, reason) in &summary.failed {
        match reason.contains(file.as_str()) {
            true => note!("error: {reason}"),
            false => note!("error: {file}: {reason}"),
        }
    }
    if quiet {
        return;
    }
    say!(
        "{}: {} clips labelled, {} kept from before; of {} frames, the face was found in {} and interpolated in {}",
        out.display(),
        summary.clips,
        summary.resumed,
        summary.frames,
        summary.detected,
        summary.interpolated,
    );
    if !summary.without_face.is_empty() {
        say!("{} clips without any face:", summary.without_face.len());
        for file in &summary.without_face {
            say!("  {file}");
        }
    }
}
