//! `report`: results as a page that people look at; also `mtcae report`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Report.main()
}
