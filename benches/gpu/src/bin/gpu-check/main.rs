//! Conducts the checks and measurements of `mtcae-gpu` and of PyTorch on a machine with a
//! GPU that is there for minutes: one section after the other, each a process of its own
//! with a time limit, into a report that stands wherever it is cut.
//!
//! A program by itself, without CUDA: it also runs, and says what is wrong, where
//! `mtcae-gpu` does not start.

mod child;
mod conductor;
mod libraries;
mod report;
mod sections;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Parser;

/// Checks and measures on a GPU, section by section, within a time.
#[derive(Parser)]
#[command(version, after_help = sections::help())]
struct Args {
    /// Folder for report.md, to which each run adds.
    #[arg(default_value = "gpu-report")]
    out: PathBuf,

    /// Sections, in this order; `first` and `second` stand for those of the first and of
    /// the second call.
    #[arg(default_value = "first")]
    sections: Vec<String>,

    /// Seconds in which all is done; what there is no time for is named.
    #[arg(long, default_value_t = 530)]
    within: u64,

    /// The model: tiny, small, base, large or huge.
    #[arg(long, default_value = "large")]
    size: String,

    /// The GPU.
    #[arg(long, default_value = "cuda:0")]
    device: String,

    /// How many times as long as it should a section may take.
    #[arg(long, default_value_t = 1.0)]
    times: f64,

    /// Folder with mtcae-gpu and gpu_pytorch.py, where it is not that of this program.
    #[arg(long)]
    programs: Option<PathBuf>,
}

#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    let begin = Instant::now();
    let args = Args::parse();
    match run(args, begin) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gpu-check: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: Args, begin: Instant) -> Result<bool, String> {
    let model = sections::Model {
        size: args.size,
        device: args.device,
    };
    let plan = sections::plan(&args.sections, &model)?;
    let programs = match args.programs {
        Some(folder) => folder,
        None => std::env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(PathBuf::from))
            .ok_or("this program does not know in which folder it lies; --programs says it")?,
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|e| format!("signals cannot be waited for: {e}"))?;
    }
    let report = report::Report::open(&args.out);
    let setting = conductor::Setting {
        begin,
        within: Duration::from_secs(args.within),
        times: args.times.max(0.01),
        programs,
        model,
        asked: args.sections,
        out: args.out,
    };
    Ok(conductor::conduct(&setting, plan, report, &stop))
}
