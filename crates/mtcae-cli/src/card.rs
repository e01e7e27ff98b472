//! `card`: what a model is, what it was trained on, how it was measured, and what it is for.

use std::ffi::OsString;

use clap::{Command, CommandFactory, FromArgMatches, Parser};
use mtcae_dfer::model::Checkpoint;
use mtcae_dfer::model::card::{measurements, text};

use crate::{Fault, checkpoint, default_model, note, say};

/// What a model is, what it was trained on, how it was measured and what it is for: its card,
/// as Markdown.
#[derive(Parser)]
#[command(name = "card", version)]
struct Args {
    /// Checkpoint folder, published classifier (a folder or a file), or hub:ORG/NAME
    /// [default: the default model].
    #[arg(value_name = "DIR|FILE|hub:NAME")]
    checkpoint: Option<String>,

    /// Only the card, without progress and notes.
    #[arg(long, short)]
    quiet: bool,
}

pub fn command() -> Result<Command, Fault> {
    Ok(Args::command())
}

pub fn main(mut command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
    let args = Args::from_arg_matches(&command.try_get_matches_from_mut(line)?)?;
    let (opened, (measured, others)) = match &args.checkpoint {
        Some(name) => {
            let opened = Checkpoint::open(checkpoint(name, args.quiet)?)?;
            let measured = measurements(&opened)?;
            (opened, measured)
        }
        None => {
            let opened = default_model::open()?;
            let measured = default_model::measurements(&opened)?;
            (opened, measured)
        }
    };
    if others > 0 && !args.quiet {
        note!(
            "note: {others} measurements beside the checkpoint are of other weights or another \
             config, and are left out"
        );
    }
    say!("{}", text(opened.config(), &measured).trim_end());
    Ok(true)
}
