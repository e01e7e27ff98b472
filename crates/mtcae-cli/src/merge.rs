//! `merge`: what many processes wrote, as one would have written it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Command, CommandFactory, FromArgMatches, Parser};
use mtcae_shards::merge::{Options, merge};

use crate::output::clean_up_when_stopped;
use crate::{Fault, note, say};

/// Shards, or a folder of leases, of label or infer as one file, which is equal to the bit to
/// that of one process (docs/scale.md).
#[derive(Parser)]
#[command(name = "merge", version)]
struct Args {
    /// The file to write.
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// All shards, or a folder with them; or the folder of --lease.
    #[arg(required = true, value_name = "SHARD|DIR")]
    from: Vec<PathBuf>,

    /// Merge what there is where shards, parts or rows are missing, and say what is.
    #[arg(long)]
    partial: bool,

    /// Overwrite OUT. What is merged is never overwritten.
    #[arg(long)]
    force: bool,

    /// Only say what is missing or wrong.
    #[arg(long, short)]
    quiet: bool,
}

pub fn command() -> Result<Command, Fault> {
    Ok(Args::command())
}

pub fn main(command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    let given = command.try_get_matches_from(line)?;
    let args = Args::from_arg_matches(&given)?;
    clean_up_when_stopped()?;
    let options = Options {
        partial: args.partial,
        force: args.force,
    };
    let merged = merge(&args.out, &args.from, options)?;
    for missing in &merged.missing {
        note!("warning: {missing}");
    }
    if merged.arithmetic.len() > 1 {
        let list: Vec<&str> = merged.arithmetic.iter().map(String::as_str).collect();
        note!(
            "warning: computed by {}, whose numbers may differ in their last digits; MTCAE_ISA holds all processes to one instruction set",
            list.join(" and ")
        );
    }
    if !args.quiet {
        let (out, rows, files) = (args.out.display(), merged.rows, merged.files);
        let all = match rows == files {
            true => format!("{rows} files, each once"),
            false => format!("{rows} of {files} files, each once"),
        };
        match &merged.first_failed {
            None => say!("{out}: {all}"),
            Some((file, error)) => say!(
                "{out}: {all}; {} could not be read, the first being {file}: {error}",
                merged.failed
            ),
        }
    }
    Ok(true)
}
