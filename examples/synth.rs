//! `synth`: rendered face clips and their label file; also `mtcae synth`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Synth.main()
}
