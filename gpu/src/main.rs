//! Checks and measures MTCAE-DFER on an NVIDIA GPU, in one program without FFmpeg, so
//! that it can be built where there is no GPU and carried to where there is one
//! (`scripts/gpu_check.sh`).

mod bench;
mod kernels;
mod model;
mod step;
mod training;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use mtcae_model::Config;
use mtcae_model::decoder::Structure;
use mtcae_model::encoder::Config as EncoderConfig;
use mtcae_nn::Precision;

type Fault = Box<dyn Error>;

/// Checks and measures MTCAE-DFER on an NVIDIA GPU.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to compute: cuda:N.
    #[arg(long, default_value = "cuda:0", global = true)]
    device: String,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every kernel against its definition in f64, twice, to the bit.
    Kernels {
        /// Small problems alone: for compute-sanitizer, under which all is slow.
        #[arg(long)]
        small: bool,
    },
    /// Draws a model and a clip, and compares the GPU with the CPU at every named
    /// intermediate; leaves weights, clip and results for PyTorch.
    Model {
        /// Folder for the checkpoint and `trace.safetensors`.
        out: PathBuf,
        #[arg(long, value_enum, default_value = "large")]
        size: Size,
    },
    /// Compares every gradient and some steps of AdamW with the CPU's.
    Training {
        /// Of a model of this size, cut down to three blocks on half the side; `tiny` as
        /// it is.
        #[arg(long, value_enum, default_value = "small")]
        size: Size,
    },
    /// Prints the config of a model, for PyTorch; needs no GPU.
    Config {
        #[arg(long, value_enum, default_value = "large")]
        size: Size,
    },
    /// Times inference and training steps; a table in Markdown.
    Bench {
        #[arg(long, value_enum, default_value = "large")]
        size: Size,
        /// Seconds for each row.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Seconds after which no further row begins.
        #[arg(long, default_value_t = f64::INFINITY)]
        within: f64,
        /// Clips at once.
        #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
        batch: Vec<usize>,
    },
    /// Does one training step between the marks of a profiler, after one to warm up.
    Step {
        #[arg(long, value_enum, default_value = "large")]
        size: Size,
        #[arg(long, default_value = "bf16")]
        precision: Precision,
        #[arg(long, default_value_t = 8)]
        batch: usize,
        #[arg(long)]
        checkpointing: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Size {
    /// The heads of the paper's model and little else: seconds where every instruction
    /// is emulated.
    Tiny,
    Small,
    Base,
    Large,
    Huge,
}

impl Size {
    /// The paper's cascade over an encoder of this size.
    fn config(self) -> Config {
        let encoder = match self {
            Self::Tiny => EncoderConfig {
                image_size: 32,
                width: 128,
                depth: 2,
                heads: 2,
                hidden: 256,
                ..EncoderConfig::small()
            },
            Self::Small => EncoderConfig::small(),
            Self::Base => EncoderConfig::base(),
            Self::Large => EncoderConfig::large(),
            Self::Huge => EncoderConfig::huge(),
        };
        let classes = (0..7).map(|c| format!("class {c}")).collect();
        let mut config = Config::new(encoder, Structure::Cascade, classes);
        if matches!(self, Self::Tiny) {
            let decoder = &mut config.decoder;
            (decoder.width, decoder.depth, decoder.heads) = (64, 2, 1);
        }
        config
    }
}

#[allow(clippy::print_stdout, clippy::print_stderr)]
fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("FAILED");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all comparisons hold.
#[allow(clippy::print_stdout)]
fn run(args: &Args) -> Result<bool, Fault> {
    let gpu = || mtcae_nn::device::open(&args.device);
    match &args.command {
        Command::Config { size } => {
            println!("{}", serde_json::to_string(&size.config())?);
            Ok(true)
        }
        Command::Kernels { small } => kernels::check(&gpu()?, *small),
        Command::Model { out, size } => model::check(&gpu()?, &size.config(), out),
        Command::Training { size } => training::check(&gpu()?, *size),
        Command::Bench {
            size,
            seconds,
            within,
            batch,
        } => bench::table(&gpu()?, &size.config(), batch, *seconds, *within).map(|()| true),
        Command::Step {
            size,
            precision,
            batch,
            checkpointing,
        } => {
            let (gpu, config) = (gpu()?, size.config());
            step::run(&gpu, &config, *precision, *batch, *checkpointing).map(|()| true)
        }
    }
}
