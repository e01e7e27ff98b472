//! The command `mtcae`, whose subcommands are the [`Program`]s.

/// The documents' examples, compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/rust.md")]
struct Documents;

mod ablation;
mod calibrate;
mod card;
mod compare;
mod config;
mod convert;
mod default_model;
mod documents;
mod evaluate;
mod export;
mod faces;
mod foreign;
mod groups;
mod infer;
mod init;
mod label;
mod mass;
mod merge;
mod output;
mod pretrain;
mod ranks;
mod report;
mod settings;
mod shared;
mod synth;
mod threads;
mod train;
mod training;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Command;
use mtcae_nn::isa::{NAMES, VARIABLE};

use mtcae_core::one_line;
use output::{finish, note, say};
use shared::{Bars, Download, Fault, checkpoint, device, in_tree};

/// The programs: each a subcommand of `mtcae`, and an example by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// What a model says of videos.
    Infer,
    /// Results that are there in other formats.
    Convert,
    /// A new checkpoint folder to train from.
    Init,
    /// Face boxes and landmarks of videos, as a label file.
    Label,
    /// What many processes labelled or inferred, as one file.
    Merge,
    /// Rendered face clips and their label file.
    Synth,
    /// Pre-trains an encoder on videos without labels.
    Pretrain,
    /// Fine-tunes a model on a label file.
    Train,
    /// Measures a model on labelled clips.
    Evaluate,
    /// Makes a model's probabilities believable.
    Calibrate,
    /// The paper's six structures on the same folds.
    Ablation,
    /// The systems of the paper's tables on the same folds.
    Compare,
    /// What a model is, and what it is for.
    Card,
    /// A model for other runtimes.
    Export,
    /// Results as a page that people look at.
    Report,
}

impl Program {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 15] = [
        Self::Infer,
        Self::Convert,
        Self::Init,
        Self::Label,
        Self::Merge,
        Self::Synth,
        Self::Pretrain,
        Self::Train,
        Self::Evaluate,
        Self::Calibrate,
        Self::Ablation,
        Self::Compare,
        Self::Card,
        Self::Export,
        Self::Report,
    ];

    /// Runs it by itself, on the command line of this process.
    pub fn main(self) -> ExitCode {
        let command = self.command();
        finish(command.and_then(|c| self.run(c, std::env::args_os().collect())))
    }

    /// Its arguments, and what runs it on a command line that begins with its name; that
    /// says whether all went well.
    fn parts(self) -> (Arguments, Main) {
        match self {
            Self::Infer => (infer::command, infer::main),
            Self::Convert => (convert::command, convert::main),
            Self::Init => (init::command, init::main),
            Self::Label => (label::command, label::main),
            Self::Merge => (merge::command, merge::main),
            Self::Synth => (synth::command, synth::main),
            Self::Pretrain => (pretrain::command, pretrain::main),
            Self::Train => (train::command, train::main),
            Self::Evaluate => (evaluate::command, evaluate::main),
            Self::Calibrate => (calibrate::command, calibrate::main),
            Self::Ablation => (ablation::command, ablation::main),
            Self::Compare => (compare::command, compare::main),
            Self::Card => (card::command, card::main),
            Self::Export => (export::command, export::main),
            Self::Report => (report::command, report::main),
        }
    }

    fn command(self) -> Result<Command, Fault> {
        let command = self.parts().0()?.after_help(environment());
        Ok(command.version(env!("CARGO_PKG_VERSION")))
    }

    fn run(self, command: Command, line: Vec<OsString>) -> Result<bool, Fault> {
        self.parts().1(command, line)
    }
}

/// What every program reads of the environment, for its help.
fn environment() -> String {
    format!(
        "Environment:\n  {VARIABLE}  Hold the CPU's side to an instruction set: {} [default: the \
         best of this CPU]",
        NAMES.join(", ")
    )
}

type Arguments = fn() -> Result<Command, Fault>;
type Main = fn(Command, Vec<OsString>) -> Result<bool, Fault>;

/// Runs `mtcae` on the command line of this process.
pub fn main() -> ExitCode {
    finish(dispatch(std::env::args_os().collect()))
}

/// Runs the program that a command line of `mtcae` names; whether all went well.
fn dispatch(mut line: Vec<OsString>) -> Result<bool, Fault> {
    let commands = Program::ALL.into_iter().map(Program::command);
    let commands = commands.collect::<Result<Vec<_>, _>>()?;
    let named = |command: &Command| line.get(1).is_some_and(|word| word == command.get_name());
    let Some(at) = commands.iter().position(named) else {
        let whole = Command::new("mtcae")
            .version(env!("CARGO_PKG_VERSION"))
            .about("Dynamic facial expression recognition: face boxes, landmarks and expressions of videos")
            .subcommand_required(true)
            .arg_required_else_help(true)
            .after_help(environment())
            .subcommands(commands);
        // Help, the version, or what is wrong: all of which clap calls an error.
        whole.try_get_matches_from(line)?;
        return Ok(true);
    };
    line.remove(0);
    let name = format!("mtcae {}", commands[at].get_name());
    let command = commands[at].clone().bin_name(&name).display_name(name);
    Program::ALL[at].run(command, line)
}
