//! `convert`: results of `infer` in other formats; also `mtcae convert`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Convert.main()
}
