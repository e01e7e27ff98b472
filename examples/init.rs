//! `init`: a new checkpoint folder to train from; also `mtcae init`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Init.main()
}
