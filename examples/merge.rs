//! `merge`: what many processes labelled or inferred, as one file; also `mtcae merge`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Merge.main()
}
