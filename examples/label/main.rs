//! `label`: faces and landmarks of videos by MTCNN, with what the datasets say of
//! each clip, as a label file to train from.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod preview;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use mtcae_core::files::write_atomically;
use mtcae_examples::inputs::expand;
use mtcae_examples::threads::limit_threads;
use mtcae_examples::{Bars, Fault, device, one_line};
use mtcae_labels::dataset::{
    Catalogue, Report, Sample, crema_d, folder, folds, manifest, mead, ravdess,
};
use mtcae_labels::labels::{
    DetectAt, LabelReader, LabelSettings, LabelWriter, Labeller, Pick, Summary, label_all,
    write_table,
};
use mtcae_labels::{Detector, DetectorConfig};

use args::{Args, Dataset};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Whether every clip could be labelled.
fn run(args: &Args) -> Result<bool, Fault> {
    limit_threads(args.threads.map(usize::from))?;
    let mut all_well = true;
    let samples = samples(args, &mut all_well)?;
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
    let mut writer = if args.resume {
        LabelWriter::resume(&args.out, &samples, &labeller.run_settings())?
    } else {
        LabelWriter::create(&args.out)?
    };
    if let Some(folder) = &args.preview {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }

    let bar = Bars::new(args.quiet).items("clips", samples.len() as u64);
    bar.set_position(writer.clips() as u64);
    bar.reset_eta();
    let label = |sample: &Sample| labeller.label_file(sample);
    let summary = label_all(&samples, &mut writer, args.jobs.into(), label, |progress| {
        if let (Some(folder), Some(sample)) = (&args.preview, samples.get(progress.done - 1))
            && let Err(error) = preview::write(folder, progress.done, sample, progress.clip)
        {
            bar.suspend(|| {
                eprintln!("warning: preview of {}: {}", sample.file, one_line(&*error));
            });
        }
        bar.set_message(format!("{:.2} clips/s", bar.per_sec()));
        bar.set_position(progress.done as u64);
        true
    })?;
    writer.finish()?;
    bar.finish_and_clear();
    if let Some(table) = &args.csv {
        write_csv(table, &args.out)?;
    }
    say(&summary, &args.out, args.quiet);
    Ok(all_well && summary.failed.is_empty())
}

/// The clips to label, in the order in which the file will have them.
fn samples(args: &Args, all_well: &mut bool) -> Result<Vec<Sample>, Fault> {
    if !args.classes.is_empty() && args.dataset != Dataset::Manifest {
        return Err("--classes: is of --dataset manifest alone; others have their own".into());
    }
    if args.folds.is_some() && args.dataset == Dataset::None {
        return Err("--folds: needs a --dataset; of loose files nobody knows the subjects".into());
    }
    if args.dataset == Dataset::None {
        let inputs = expand(&args.inputs, &mut |message| {
            eprintln!("error: {message}");
            *all_well = false;
        });
        return Ok(inputs
            .into_iter()
            .map(|input| Sample::bare(input.path))
            .collect());
    }
    let [root] = args.inputs.as_slice() else {
        return Err("a dataset is one folder, a manifest one file".into());
    };
    let mut catalogue = match args.dataset {
        Dataset::Ravdess => ravdess::read(root, &ravdess::Options::default())?,
        Dataset::CremaD => crema_d::read(root)?,
        Dataset::Mead => mead::read(root, &mead::Options::default())?,
        Dataset::Manifest => manifest::read(root, &args.classes)?,
        Dataset::Folder | Dataset::None => folder::read(root)?,
    };
    if let Some(k) = args.folds {
        folds::assign(&mut catalogue.samples, k.into(), args.seed)?;
        folds::prove(&catalogue.samples)?;
    }
    report(&catalogue, args.quiet);
    Ok(catalogue.samples)
}

fn report(catalogue: &Catalogue, quiet: bool) {
    for problem in &catalogue.problems {
        eprintln!("warning: {problem}");
    }
    if !quiet {
        println!("{}", Report::new(catalogue));
    }
}

fn write_csv(table: &Path, labels: &Path) -> Result<(), Fault> {
    let reader = LabelReader::open(labels)?;
    write_atomically(table, |temporary| {
        let mut file = BufWriter::new(File::create(temporary)?);
        write_table(reader, &mut file).map_err(|e| std::io::Error::other(one_line(&e)))?;
        file.flush()
    })
    .map_err(|e| format!("{}: {e}", table.display()))?;
    Ok(())
}

fn say(summary: &Summary, out: &Path, quiet: bool) {
    for (file, reason) in &summary.failed {
        eprintln!("error: {file}: {reason}");
    }
    if quiet {
        return;
    }
    println!(
        "{}: {} clips labelled, {} kept from before; of {} frames, the face was found in {} and interpolated in {}",
        out.display(),
        summary.clips,
        summary.resumed,
        summary.frames,
        summary.detected,
        summary.interpolated,
    );
    if !summary.without_face.is_empty() {
        println!("{} clips without any face:", summary.without_face.len());
        for file in &summary.without_face {
            println!("  {file}");
        }
    }
}
