//! `infer`: what a model says of videos; also `mtcae infer`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Infer.main()
}
