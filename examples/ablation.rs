//! `ablation`: the paper's six structures on the same folds; also `mtcae ablation`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Ablation.main()
}
