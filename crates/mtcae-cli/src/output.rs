//! What a program says, and how it ends.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use mtcae_core::files::remove_unfinished;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{Fault, one_line};

/// Says a line on stdout, as `println!` does. Where nobody reads any more, as behind
/// `| head -1`, the program ends without a word.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::line(&mut ::std::io::stdout().lock(), format_args!($($text)*)) };
}

/// As [`say!`], on stderr.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::line(&mut ::std::io::stderr().lock(), format_args!($($text)*)) };
}

pub(crate) use {note, say};

/// For [`say!`] and [`note!`].
pub fn line(out: &mut dyn Write, text: Arguments<'_>) {
    if let Err(error) = out.write_fmt(text).and_then(|()| out.write_all(b"\n")) {
        end_if_closed(&error);
    }
}

/// Ends the program in silence when the error is that nobody reads what it says.
pub fn end_if_closed(error: &io::Error) {
    if error.kind() == ErrorKind::BrokenPipe {
        remove_unfinished();
        #[allow(clippy::exit)]
        std::process::exit(0);
    }
}

/// What a program stops with where it was said already, by another process of the same job.
#[derive(Debug)]
pub struct Said;

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("another process has said why")
    }
}

impl std::error::Error for Said {}

/// The end of a program: 0 where all was done, 1 where something failed, which was said,
/// or with what it stopped at on one line. Help, and a flag that cannot be used, are said
/// by clap on several.
pub fn finish(result: Result<bool, Fault>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            if let Some(error) = error.downcast_ref::<clap::Error>() {
                error.exit();
            }
            if let Some(error) = error.downcast_ref::<io::Error>() {
                end_if_closed(error);
            }
            if !error.is::<Said>() {
                note!("error: {}", one_line(&*error));
            }
            ExitCode::FAILURE
        }
    }
}

/// Removes half-written files when the program is told to stop, and then stops as it
/// would have. To be called after [`limit_threads`](crate::threads::limit_threads), which
/// needs the program to have one thread.
///
/// # Errors
/// When the system refuses.
pub fn clean_up_when_stopped() -> Result<(), Fault> {
    let heeded = [SIGHUP, SIGINT, SIGTERM].into_iter();
    let mut signals = Signals::new(heeded.filter(|&signal| !is_ignored(signal)))?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                remove_unfinished();
                drop(signal_hook::low_level::emulate_default_handler(signal));
            }
        })?;
    Ok(())
}

/// Whether the program was started to ignore a signal, as `nohup` does; as far as the
/// system tells.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
