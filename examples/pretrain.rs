//! `pretrain`: pre-trains an encoder on videos without labels; also `mtcae pretrain`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::Program::Pretrain.main()
}
