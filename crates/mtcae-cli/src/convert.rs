//! `convert`: results that are there in other formats.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, FromArgMatches, Parser};
use mtcae_core::files::{FileId, open};
use mtcae_dfer::Results;
use mtcae_formats::{Columns, Document, Format};

use crate::documents;
use crate::infer::output::{names, with_suffix};
use crate::output::clean_up_when_stopped;
use crate::{Fault, note, one_line};
use mtcae_dfer::video::inputs::Input;

/// Results of infer in the formats of other programs (docs/formats.md), without computing them
/// again.
#[derive(Parser)]
#[command(name = "convert", version)]
struct Args {
    /// Files that `infer --format json` wrote.
    #[arg(required = true, value_name = "RESULTS.json")]
    inputs: Vec<PathBuf>,

    /// Formats to write: json, csv, eaf (ELAN), textgrid (Praat), boris, bids, parquet, arrow,
    /// srt, vtt, coco.
    #[arg(long, required = true, value_name = "eaf,…", value_delimiter = ',')]
    format: Vec<Format>,

    /// Under which names the columns of csv, parquet and arrow stand: own, or openface's as
    /// far as it has them.
    #[arg(long, value_name = "own|openface")]
    columns: Option<Columns>,

    /// Folder for the documents; created if need be. Without it they go to stdout.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Overwrite documents that exist already. Inputs are never overwritten.
    #[arg(long, requires = "out")]
    force: bool,

    /// Do not say what was written; errors are still said.
    #[arg(long, short)]
    quiet: bool,
}

pub fn command() -> Result<Command, Fault> {
    Ok(Args::command())
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    run(&Args::from_arg_matches(
        &command.try_get_matches_from(line)?,
    )?)
}

/// Whether all could be converted.
fn run(args: &Args) -> Result<bool, Fault> {
    clean_up_when_stopped()?;
    if args.columns.is_some() && !args.format.iter().any(|f| f.has_columns()) {
        return Err("--columns has no effect without --format csv, parquet or arrow".into());
    }
    let columns = args.columns.unwrap_or_default();
    if args.out.is_none() {
        documents::fit_stdout(&args.format, columns, args.inputs.len())?;
    }
    let formats = args.format.iter();
    let wanted: Vec<Document> = formats.flat_map(|f| f.documents(columns)).collect();
    let endings: Vec<&str> = wanted.iter().map(|d| d.ending()).collect();
    let inputs: Vec<Input> = args.inputs.iter().cloned().map(Input::new).collect();
    let protected: BTreeSet<FileId> = inputs.iter().filter_map(|i| FileId::of(&i.path)).collect();
    let mut all_well = true;
    for (input, name) in inputs.iter().zip(names(&inputs, &endings)) {
        let done = read(&input.path).and_then(|results| match &args.out {
            Some(folder) => files(&results, &wanted, &folder.join(name), args, &protected),
            None => documents::write_stdout(&results, &wanted).map(|()| Vec::new()),
        });
        match done {
            Ok(written) if !args.quiet && !written.is_empty() => {
                note!("wrote {}", written.join(", "));
            }
            Ok(_) => {}
            Err(error) => {
                if let Some(error) = error.downcast_ref::<std::io::Error>() {
                    crate::output::end_if_closed(error);
                }
                note!("error: {}", one_line(&*error));
                all_well = false;
            }
        }
    }
    Ok(all_well)
}

/// Results of a file; what else might have been meant is told apart.
fn read(path: &Path) -> Result<Results, Fault> {
    if path.is_dir() {
        let name = path.display();
        return Err(format!("{name}: is a folder; give the files in it: {name}/*.json").into());
    }
    let results = Results::read(path);
    if results.is_err() && is_labels(path) {
        return Err(format!(
            "{}: is a label file, and convert takes results of infer; label --resume --format \
             writes labels as parquet, arrow or coco",
            path.display()
        )
        .into());
    }
    Ok(results?)
}

/// Whether the first line says that it is one of a label file.
fn is_labels(path: &Path) -> bool {
    use std::io::{BufRead, BufReader, Read};
    /// Enough for the first field.
    const HEAD: u64 = 1 << 12;
    let Ok(file) = open(path) else { return false };
    let mut head = Vec::new();
    let read = BufReader::new(file.take(HEAD)).read_until(b'\n', &mut head);
    read.is_ok() && head.starts_with(b"{\"schema\":\"mtcae-labels/")
}

/// Writes documents beside each other; their names.
fn files(
    results: &Results,
    wanted: &[Document],
    base: &Path,
    args: &Args,
    protected: &BTreeSet<FileId>,
) -> Result<Vec<String>, Fault> {
    let paths = wanted.iter().map(|d| (*d, with_suffix(base, d.ending())));
    let paths: Vec<(Document, PathBuf)> = paths.collect();
    for (_, path) in &paths {
        let shown = path.display();
        if FileId::of(path).is_some_and(|id| protected.contains(&id)) {
            return Err(format!("{shown} is an input; give another --out").into());
        }
        if path.symlink_metadata().is_ok() && !args.force {
            return Err(format!("{shown} is there already; --force overwrites it").into());
        }
    }
    for (document, path) in &paths {
        documents::write_file(path, results, *document)?;
    }
    Ok(paths
        .iter()
        .map(|(_, path)| path.display().to_string())
        .collect())
}
