//! `evaluate`: measures a model on labelled clips; also `mtcae evaluate`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Evaluate.main()
}
