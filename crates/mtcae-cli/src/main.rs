//! The command `mtcae`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtcae_cli::main()
}
