//! `card`: what a model is, and what it is for; also `mtcae card`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Card.main()
}
