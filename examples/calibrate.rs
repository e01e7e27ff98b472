//! `calibrate`: makes a model's probabilities believable; also `mtcae calibrate`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Calibrate.main()
}
