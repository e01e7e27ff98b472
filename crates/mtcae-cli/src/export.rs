//! `export`: a model, or a part of it, for other runtimes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory, FromArgMatches, Parser};
use mtcae_onnx::{Onnx, Options, Part};

use crate::foreign::Foreign;
use crate::output::clean_up_when_stopped;
use crate::{Fault, say};

/// Writes a model, or a part of it, as ONNX, for ONNX Runtime and others.
///
/// Inputs, outputs and normalisation stand in docs/onnx.md, and in the file's own metadata.
#[derive(Parser)]
#[command(name = "export", version)]
struct Args {
    /// The ONNX file to write. One that exists is left as it is unless --force is given.
    #[arg(long, value_name = "FILE.onnx")]
    onnx: PathBuf,

    /// Checkpoint folder, or a published classifier (a folder, a file, or
    /// hub:ORG/NAME[@REVISION]; docs/models.md) [default: the default model].
    #[arg(long, value_name = "DIR|FILE|hub:NAME")]
    checkpoint: Option<String>,

    #[command(flatten)]
    foreign: Foreign,

    /// What to write: whole, clips to answers; encoder, clips to features; decoder, features
    /// to answers.
    #[arg(long, default_value = "whole", value_name = "whole|encoder|decoder")]
    part: Part,

    /// Also give features and each stage's local features, Y1 and so on, as outputs.
    #[arg(long)]
    intermediates: bool,

    /// Write the weights beside the model, as FILE.onnx.data; from 2 GiB on they are anyway.
    #[arg(long)]
    external: bool,

    /// Overwrite what exists.
    #[arg(long)]
    force: bool,

    /// Say nothing; errors are still said.
    #[arg(long, short)]
    quiet: bool,
}

pub fn command() -> Result<Command, Fault> {
    Ok(Args::command())
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    let given = command.try_get_matches_from(line)?;
    run(&Args::from_arg_matches(&given)?).map(|()| true)
}

fn run(args: &Args) -> Result<(), Fault> {
    clean_up_when_stopped()?;
    let path = args.onnx.as_path();
    may_be_named(path)?;
    let checkpoint = match &args.checkpoint {
        Some(name) => args.foreign.open(name, args.quiet)?,
        None => args.foreign.open_default()?,
    };
    let options = Options {
        part: args.part,
        intermediates: args.intermediates,
        external: args.external,
    };
    let onnx = Onnx::new(&checkpoint, options).map_err(|error| match error {
        error @ mtcae_onnx::Error::NoDecoder { .. } => format!("--part: {error}").into(),
        error => Fault::from(error),
    })?;
    let files = onnx.files(path);
    if let Some(path) = files.iter().find(|path| path.symlink_metadata().is_ok())
        && !args.force
    {
        return Err(format!(
            "--onnx: {}: exists already; --force overwrites it, or give another name",
            path.display()
        )
        .into());
    }
    onnx.write(path)?;
    if !args.quiet {
        let files: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        let (from, to) = (onnx.inputs().join(", "), onnx.outputs().join(", "));
        say!("{}: {from} to {to}", files.join(", "));
    }
    Ok(())
}

/// A name by which no file of a checkpoint goes, in a folder that is there.
fn may_be_named(path: &Path) -> Result<(), Fault> {
    let fault = |reason: &str| Err(format!("--onnx: {}: {reason}", path.display()).into());
    if path.is_dir() {
        return fault("is a folder; give the name of a file");
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    if !ending.is_some_and(|ending| ending.eq_ignore_ascii_case("onnx")) {
        return fault("should end in .onnx");
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            fault("its folder does not exist; make it first")
        }
        _ => Ok(()),
    }
}
