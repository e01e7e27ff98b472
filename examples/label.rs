//! `label`: face boxes and landmarks of videos as a label file; also `mtcae label`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Label.main()
}
