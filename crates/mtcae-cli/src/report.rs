//! `report`: results as a page that people look at.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, FromArgMatches, Parser};
use mtcae_core::files::same_file;
use mtcae_report::{Labels, Report, gather, is_report};

use crate::output::clean_up_when_stopped;
use crate::{Fault, note};

/// Results of infer as one HTML page, offline: the videos with faces and the course of the
/// expression, a table, a confusion matrix where labels are known. Corrections made in the
/// page are saved from there as labels to train on.
#[derive(Parser)]
#[command(name = "report", version)]
struct Args {
    /// JSON files that infer wrote, and folders of them (searched through).
    #[arg(value_name = "RESULTS.json|DIR", required = true)]
    results: Vec<PathBuf>,

    /// The page to write. Videos are linked from where it lies: keep it beside them.
    #[arg(long, value_name = "FILE.html")]
    out: PathBuf,

    /// What is known of the clips: a label file, or a table (.csv) with the columns file and
    /// class. Clips are found by the digest of their content, or by their path and name.
    #[arg(long, value_name = "FILE.jsonl|FILE.csv")]
    labels: Option<PathBuf>,

    /// Overwrite the page. Results, labels and videos are never overwritten.
    #[arg(long)]
    force: bool,

    /// No notes.
    #[arg(long, short)]
    quiet: bool,
}

/// The name of the page beside results.
pub const REPORT: &str = "report.html";

pub fn command() -> Result<Command, Fault> {
    Ok(Args::command())
}

pub fn main(mut command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    let args = Args::from_arg_matches(&command.try_get_matches_from_mut(line)?)?;
    clean_up_when_stopped()?;
    if args.out.symlink_metadata().is_ok() && !args.force {
        let out = args.out.display();
        return Err(format!("--out: {out} is there already; --force overwrites it").into());
    }
    write(&args.results, &args.out, args.labels.as_deref(), args.quiet)?;
    Ok(true)
}

/// Whether `infer` may write its page here: over nothing, or over an earlier one where
/// results are gone on with or overwritten.
///
/// # Errors
/// Where it may not.
pub fn may_be_written(page: &Path, over: bool) -> Result<(), Fault> {
    let shown = page.display();
    match page.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) if !is_report(page) => Err(format!(
            "--report: {shown} is there already and is none of these pages; give another --out"
        )
        .into()),
        Ok(_) if !over => Err(format!(
            "--report: {shown} is there already; --resume and --force write it anew"
        )
        .into()),
        Ok(_) => Ok(()),
    }
}

/// Writes a page over results.
///
/// # Errors
/// Names the file that is at fault.
pub fn write(
    results: &[impl AsRef<Path>],
    out: &Path,
    labels: Option<&Path>,
    quiet: bool,
) -> Result<(), Fault> {
    let mut report = Report::new(out)?;
    let labels = labels.map(Labels::read).transpose()?;
    let found = gather(results)?;
    for (path, results) in &found.results {
        report.add(path, results);
    }
    let inputs = found.results.iter().map(|(path, _)| path.as_path());
    let known = labels.as_ref().map(|labels| labels.path.as_path());
    let (videos, lost) = report.videos();
    let mut kept = inputs.chain(known).chain(videos);
    if kept.any(|path| same_file(path, out)) {
        let out = out.display();
        return Err(format!("--out: {out} is an input; give another name").into());
    }
    if !quiet && !lost.is_empty() {
        let first = lost[0];
        note!(
            "warning: {} of {} videos are not there, such as {first}: the page shows their faces without a picture",
            lost.len(),
            report.len()
        );
    }
    if let Some(labels) = &labels {
        report.hold_against(labels)?;
    }
    report.save()?;
    if !quiet {
        note!("wrote {}", out.display());
    }
    Ok(())
}
