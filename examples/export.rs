//! `export`: a model for other runtimes; also `mtcae export`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Export.main()
}
