//! `train`: fine-tunes a model on a label file; also `mtcae train`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Train.main()
}
