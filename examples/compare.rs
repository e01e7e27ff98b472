//! `compare`: the systems of the paper's tables on the same folds; also `mtcae compare`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Compare.main()
}
