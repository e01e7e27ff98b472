//! Checks and measures MTCAE-DFER on an NVIDIA GPU, in one program without FFmpeg, so
//! that it can be built where there is no GPU and carried to where there is one
//! (`scripts/gpu_check.sh`).

mod bench;
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
mod cases;
mod kernels;
#[cfg(feature = "cuda")]
mod micro;
mod model;
mod smi;
mod start;
mod step;
mod training;
mod weights;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use mtcae_kernels::cuda::Element;
use mtcae_kernels::cuda::checks::Scale;
use mtcae_model::Config;
use mtcae_model::decoder::Structure;
use mtcae_model::encoder::VideoMaeConfig;
use mtcae_nn::Precision;

type Fault = Box<dyn Error>;

/// Checks and measures MTCAE-DFER on an NVIDIA GPU.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to compute: cuda:N.
    #[arg(long, default_value = "cuda:0", global = true)]
    device: String,

    /// Let cuBLASLt take biases, residuals and the gradients of biases along with products.
    #[arg(long, global = true)]
    epilogues: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Opens the GPU, says what it is, tries cuBLAS, and lists what each kernel of the
    /// models takes of it.
    Start {
        #[arg(long, value_enum, default_value = "large")]
        size: Size,
        /// Clips at once, for how often a kernel's blocks fill the GPU.
        #[arg(long, default_value_t = 8)]
        batch: usize,
    },
    /// Every kernel against its definition in f64, twice, to the bit.
    Kernels {
        /// Of these types alone.
        #[arg(
            long = "type",
            value_delimiter = ',',
            value_enum,
            default_value = "bf16,f32,f16"
        )]
        types: Vec<Type>,
        /// Of these families alone.
        #[arg(long, value_delimiter = ',')]
        family: Vec<String>,
        /// Of attention: for these heads alone, as they are compiled.
        #[arg(long, value_delimiter = ',')]
        head: Vec<usize>,
        /// Small problems alone: for compute-sanitizer, under which all is slow.
        #[arg(long)]
        small: bool,
        /// Seconds after which a launch that has not come back ends the process. The first
        /// of a module loads it, and where the driver compiles it that takes a while.
        #[arg(long, default_value_t = 20)]
        patience: u64,
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
        /// A checkpoint folder that `model` wrote; drawn where none is given.
        #[arg(long)]
        weights: Option<PathBuf>,
        /// Seconds for each row.
        #[arg(long, default_value_t = 2.0, value_parser = seconds)]
        seconds: f64,
        /// Seconds after which no further row begins.
        #[arg(long, default_value_t = f64::INFINITY, value_parser = seconds)]
        within: f64,
        /// Clips at once.
        #[arg(long, value_delimiter = ',', default_value = "8,16,1")]
        batch: Vec<usize>,
        /// bf16, tf32, f32.
        #[arg(long, value_delimiter = ',', default_value = "bf16,tf32,f32")]
        precision: Vec<Precision>,
        #[arg(
            long,
            value_delimiter = ',',
            value_enum,
            default_value = "inference,training,checkpointing"
        )]
        what: Vec<bench::What>,
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
    /// Times each kernel and each matrix product of the models by itself, beside what the
    /// GPU gives at most; a table in Markdown.
    Micro {
        #[arg(long, value_enum, default_value = "large")]
        size: Size,
        #[arg(long, default_value_t = 8)]
        batch: usize,
        /// bf16, tf32 or f32.
        #[arg(long, default_value = "bf16")]
        precision: Precision,
        /// Seconds after which no further group begins.
        #[arg(long, default_value_t = f64::INFINITY, value_parser = seconds)]
        within: f64,
    },
}

/// A number of seconds on the command line; those of more than a day are a day.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds >= 0.0 => Ok(seconds.min(86_400.0)),
        _ => Err(format!("{text:?} is not a number of seconds")),
    }
}

/// The types of kernels.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Type {
    Bf16,
    F32,
    F16,
}

impl From<Type> for Element {
    fn from(ty: Type) -> Self {
        match ty {
            Type::Bf16 => Self::Bf16,
            Type::F32 => Self::F32,
            Type::F16 => Self::F16,
        }
    }
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
    fn encoder(self) -> VideoMaeConfig {
        match self {
            Self::Tiny => VideoMaeConfig {
                image_size: 32,
                width: 128,
                depth: 2,
                heads: 2,
                hidden: 256,
                ..VideoMaeConfig::small()
            },
            Self::Small => VideoMaeConfig::small(),
            Self::Base => VideoMaeConfig::base(),
            Self::Large => VideoMaeConfig::large(),
            Self::Huge => VideoMaeConfig::huge(),
        }
    }

    /// The paper's cascade over an encoder of this size.
    fn config(self) -> Config {
        let classes = (0..7).map(|c| format!("class {c}")).collect();
        let mut config = Config::new(self.encoder(), Structure::Cascade, classes);
        if matches!(self, Self::Tiny) {
            let decoder = &mut config.decoder;
            (decoder.width, decoder.depth, decoder.heads) = (64, 2, 1);
        }
        config
    }
}

/// An error in one line, that fits a table.
fn one_line(error: &dyn Error) -> String {
    let said = error.to_string();
    let line = said.lines().next().unwrap_or("it fails and says nothing");
    let line = line.replace('|', "/");
    // Candle's own words are those of the driver.
    if mtcae_nn::device::is_out_of_memory(error) && !line.contains("out of GPU memory") {
        return format!("out of GPU memory: {line}");
    }
    line
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
    mtcae_nn::ops::fuse_epilogues(args.epilogues);
    let gpu = || mtcae_nn::device::open(&args.device);
    match &args.command {
        Command::Start { size, batch } => {
            let (gpu, good) = start::check(&args.device)?;
            println!();
            Ok(resources(&gpu, *size, *batch)? && good)
        }
        Command::Config { size } => {
            println!("{}", serde_json::to_string(&size.config())?);
            Ok(true)
        }
        Command::Kernels {
            types,
            family,
            head,
            small,
            patience,
        } => {
            let elements: Vec<Element> = types.iter().map(|&ty| ty.into()).collect();
            let which = kernels::Which {
                elements: &elements,
                families: family,
                heads: head,
                scale: if *small { Scale::Small } else { Scale::Model },
                patience: Duration::from_secs(*patience),
            };
            kernels::check(&gpu()?, &which)
        }
        Command::Model { out, size } => model::check(&gpu()?, &size.config(), out),
        Command::Training { size } => training::check(&gpu()?, *size),
        Command::Bench {
            size,
            weights,
            seconds,
            within,
            batch,
            precision,
            what,
        } => {
            let config = size.config();
            let gpu = gpu()?;
            let folder = weights::Folder::of(weights.as_deref(), &config)?;
            let rows = bench::Rows {
                precisions: precision,
                batches: batch,
                what,
                seconds: *seconds,
                within: *within,
                smi: smi::gpu(&args.device),
            };
            bench::table(&gpu, &config, &folder, &rows).map(|()| true)
        }
        Command::Step {
            size,
            precision,
            batch,
            checkpointing,
        } => {
            let (gpu, config) = (gpu()?, size.config());
            step::run(&gpu, &config, *precision, *batch, *checkpointing).map(|()| true)
        }
        Command::Micro {
            size,
            batch,
            precision,
            within,
        } => micro(&gpu()?, *size, *batch, *precision, *within).map(|()| true),
    }
}

#[cfg(feature = "cuda")]
fn resources(gpu: &candle_core::Device, size: Size, batch: usize) -> Result<bool, Fault> {
    micro::resources(gpu, size, batch)
}

#[cfg(feature = "cuda")]
fn micro(
    gpu: &candle_core::Device,
    size: Size,
    batch: usize,
    precision: Precision,
    within: f64,
) -> Result<(), Fault> {
    let tiny = matches!(size, Size::Tiny);
    let plan = micro::Plan {
        batch,
        precision,
        within,
        side: if tiny { 128 } else { 8192 },
        copied: if tiny { 1 << 20 } else { 1 << 30 },
    };
    micro::table(gpu, size, &plan)
}

/// There are no kernels without CUDA.
#[cfg(not(feature = "cuda"))]
fn resources(_: &candle_core::Device, _: Size, _: usize) -> Result<bool, Fault> {
    Err("this build has no CUDA; build with `--features cuda`".into())
}

#[cfg(not(feature = "cuda"))]
fn micro(_: &candle_core::Device, _: Size, _: usize, _: Precision, _: f64) -> Result<(), Fault> {
    Err("this build has no CUDA; build with `--features cuda`".into())
}
