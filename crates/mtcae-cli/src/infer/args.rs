//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use mtcae_dfer::video::Raw;
use mtcae_dfer::{Crop, DetectAt, Precision};
use mtcae_formats::{Columns, Document, Format};

use crate::foreign::Foreign;
use crate::mass::{Lists, Mass};

/// Face boxes, landmarks and expression probabilities of videos.
///
/// Without arguments: the demo's clips, a real face and a rendered one, and the default model.
#[derive(Parser)]
#[command(name = "infer", version)]
pub struct Args {
    /// Video or image files, tar archives of them, folders (searched through), or patterns as
    /// in '*.mp4' and 'clips-{000..127}.tar'; or -, a stream from standard input, answered
    /// while it comes (docs/live.md).
    #[arg(value_name = "VIDEO|DIR|TAR|GLOB|-")]
    pub inputs: Vec<OsString>,

    #[command(flatten)]
    pub lists: Lists,

    /// Checkpoint folder, published classifier (a folder, a file, or
    /// hub:ORG/NAME[@REVISION]; docs/models.md); default: the default model.
    #[arg(long, value_name = "DIR|FILE|hub:NAME")]
    pub checkpoint: Option<String>,

    #[command(flatten)]
    pub foreign: Foreign,

    /// Folder for results; created if need be. Without it they go to stdout.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Results as one line a video into one file, in the order of the videos, also of those
    /// that cannot be read; an existing file is never overwritten, --resume goes on with it.
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["out", "format", "annotate", "report", "trace", "force"])]
    pub lines: Option<PathBuf>,

    #[command(flatten)]
    pub mass: Mass,

    /// Go on with what is in --out or --lines: files whose results are all there are skipped.
    #[arg(long, conflicts_with_all = ["force", "trace", "lease"])]
    pub resume: bool,

    /// Overwrite results, or --trace, that exist already. Inputs are never overwritten.
    #[arg(long)]
    pub force: bool,

    /// Formats of the results (docs/formats.md): with --out, files (default: json,csv);
    /// without, stdout in place of the summary, JSON as one line a video. json, csv, eaf
    /// (ELAN), textgrid (Praat), boris, bids, parquet, arrow, srt, vtt, coco.
    #[arg(long, value_name = "json,csv,…", value_delimiter = ',')]
    pub format: Vec<Format>,

    /// Under which names the columns of csv, parquet and arrow stand: own, or openface's as
    /// far as it has them.
    #[arg(long, value_name = "own|openface")]
    pub columns: Option<Columns>,

    /// Pictures beside the results: png (contact sheet; timeline with --window),
    /// mp4 (the whole video with boxes, landmarks and expression).
    #[arg(long, value_name = "png,mp4", value_delimiter = ',', requires = "out")]
    pub annotate: Vec<Kind>,

    /// Write DIR/report.html over all results in --out, of this run and of earlier ones: a
    /// page with the videos, the course of expressions and corrections to train on.
    #[arg(long, requires = "out")]
    pub report: bool,

    /// With -: pictures without a container, as in 640x480:rgb24@25, in FFmpeg's names.
    #[arg(long, value_name = "WIDTHxHEIGHT:FORMAT@FPS")]
    pub raw: Option<Raw>,

    /// With -: what becomes of frames that come while answers are late: drop them until
    /// answers have caught up, and say how many; or let the source wait, as a file can.
    #[arg(long, value_name = "drop|wait")]
    pub late: Option<Late>,

    /// With -: show answers as a live page, as JSON and as events at this address of the
    /// machine, to whoever has the token (docs/live.md). Port 0 takes a free one.
    #[arg(long, value_name = "127.0.0.1:PORT", value_parser = super::serve::address)]
    pub serve: Option<SocketAddr>,

    /// --serve may be an address that other machines can connect to. Nothing is encrypted.
    #[arg(long, requires = "serve")]
    pub serve_anyone: bool,

    /// Slide a window of this many seconds over the video [default: --stride; with -: 2].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub window: Option<f64>,

    /// Seconds from one window's start to the next one's [default: --window; with -: 0.5, or
    /// --window where that is less].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub stride: Option<f64>,

    /// What looks for faces beside the model, for the results, --crop and --people:
    /// mtcnn or none [default: mtcnn; none with --trace].
    #[arg(long, value_name = "mtcnn|none")]
    pub faces: Option<Faces>,

    /// Which picture MTCNN looks at: source, at its full size, or model, as small as what
    /// the model is given, which is the paper's way and misses small faces.
    #[arg(long, default_value = "source", value_name = "source|model")]
    pub detect_at: At,

    /// The smallest face that MTCNN looks for, in pixels of that picture [default: a
    /// twentieth of the source's short side, and at least 20; 20 with --detect-at model].
    #[arg(long, value_name = "PIXELS", value_parser = pixels)]
    pub min_face: Option<f64>,

    /// Look at a crop, in place of what the checkpoint says: face[:MARGIN] is the square
    /// around the followed face, 1.3 times as large as it; aligned[:SCALE] a square turned so
    /// that eyes and mouth are always at the same place, 3.6 times as large as the eyes are
    /// apart; none is the whole picture.
    #[arg(long, value_name = "face|aligned|none")]
    pub crop: Option<Crop>,

    /// Whom to look at: the subject (the face seen longest), or all, each with a crop and
    /// an answer of their own.
    #[arg(
        long,
        default_value = "subject",
        value_name = "subject|all",
        conflicts_with = "trace"
    )]
    pub people: People,

    /// With --crop and --people all: in how many of a clip's frames a person must be seen
    /// to get an answer [default: 2].
    #[arg(long, value_name = "FRAMES", value_parser = clap::value_parser!(u16).range(1..))]
    pub min_seen: Option<u16>,

    /// Say `unsure`, with the two likeliest classes, where the likeliest has less than this
    /// probability, in place of what the checkpoint says; 0 for never.
    #[arg(long, value_name = "P")]
    pub least_confidence: Option<f64>,

    /// Where to compute: cpu or cuda:N.
    #[arg(long, default_value = "cpu", value_name = "cpu|cuda:N")]
    pub device: String,

    /// What to compute in: f32; bf16 (half the memory, a fraction of the time) on
    /// GPUs and on CPUs with AMX or AVX512-BF16; tf32 on GPUs.
    #[arg(
        long,
        default_value = "f32",
        value_name = "f32|tf32|bf16",
        conflicts_with = "trace"
    )]
    pub precision: Precision,

    /// Windows that are read together, and clips that go through the model at once.
    #[arg(long, default_value = "1", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: u16,

    /// Threads for decoding and computing [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Write the input clip and every named intermediate of one video into this file; those
    /// of the first view where the checkpoint's sampling or resizing takes several.
    #[arg(long, value_name = "FILE.safetensors", conflicts_with_all = ["window", "stride"])]
    pub trace: Option<PathBuf>,

    /// No summary, progress or warnings; errors are still said.
    #[arg(long, short)]
    pub quiet: bool,
}

impl Args {
    /// Length and stride of windows, where windows are asked for.
    pub fn windows(&self) -> Option<(f64, f64)> {
        let length = self.window.or(self.stride)?;
        Some((length, self.stride.unwrap_or(length)))
    }

    /// Formats of the results; none where they are only shown.
    pub fn formats(&self) -> &[Format] {
        match &self.format[..] {
            [] if self.out.is_some() => &[Format::Json, Format::Csv],
            formats => formats,
        }
    }

    /// The documents that results are written as.
    pub fn documents(&self) -> Vec<Document> {
        let columns = self.columns.unwrap_or_default();
        let formats = self.formats().iter();
        formats
            .flat_map(|format| format.documents(columns))
            .collect()
    }

    /// What the files end in that results are written into.
    pub fn endings(&self) -> Vec<String> {
        let documents = self.documents().into_iter();
        let documents = documents.map(|d| d.ending().to_owned());
        documents
            .chain(self.annotate.iter().map(|kind| kind.ending()))
            .collect()
    }

    /// Whether results are lines of one file, or of one that many processes write.
    pub fn is_mass(&self) -> bool {
        self.lines.is_some() || self.mass.is_asked()
    }

    /// What cannot be had of lines.
    fn check_mass(&self) -> Result<(), &'static str> {
        match () {
            () if self.resume && self.out.is_none() && self.lines.is_none() => {
                Err("--resume goes on with --out DIR or --lines FILE.jsonl, one of which it needs")
            }
            () if !self.is_mass() => Ok(()),
            () if self.mass.shard.is_some() && self.lines.is_none() => Err(
                "--shard needs --lines FILE.jsonl, beside which the shard's own file comes to lie",
            ),
            () if self.mass.lease.is_some() && self.lines.is_some() => Err(
                "--lease writes into its own folder: --lines cannot be used with it, `mtcae merge FILE.jsonl DIR` writes that file",
            ),
            () if self.mass.lease.is_some()
                && (self.out.is_some()
                    || !self.format.is_empty()
                    || !self.annotate.is_empty()
                    || self.trace.is_some()) =>
            {
                Err(
                    "--lease writes lines of JSON into its own folder: --out, --format, --annotate and --trace cannot be used with it",
                )
            }
            () if self.is_live() => {
                Err("- is one stream: --lines, --shard and --lease are for files")
            }
            () if self.inputs.is_empty() && self.lists.list.is_empty() => {
                Err("--lines, --shard and --lease need videos")
            }
            () => Ok(()),
        }
    }

    /// Whether a stream from standard input is looked at.
    pub fn is_live(&self) -> bool {
        self.inputs.len() == 1 && self.inputs[0] == "-"
    }

    /// Length and stride of a stream's windows.
    pub fn live_windows(&self) -> (f64, f64) {
        match (self.window, self.stride) {
            (Some(length), Some(stride)) => (length, stride),
            (Some(length), None) => (length, length.min(0.5)),
            (None, Some(stride)) => (stride.max(2.0), stride),
            (None, None) => (2.0, 0.5),
        }
    }

    /// What cannot be had of a stream, and what of a stream alone.
    fn check_live(&self) -> Result<(), &'static str> {
        let anyone = self
            .serve
            .is_some_and(|address| !address.ip().is_loopback());
        if !self.is_live() {
            return match () {
                () if self.inputs.iter().any(|input| input == "-") => {
                    Err("- is a stream from standard input, and the only input then")
                }
                () if self.raw.is_some() || self.late.is_some() || self.serve.is_some() => {
                    Err("--raw, --late and --serve are for -, a stream from standard input")
                }
                () => Ok(()),
            };
        }
        let only_json = self.format.iter().all(|format| *format == Format::Json);
        match () {
            () if !self.finds_faces() => Err(
                "a stream is looked at with MTCNN: --faces none and --trace cannot be used with -",
            ),
            () if anyone && !self.serve_anyone => Err(
                "--serve is for this machine alone, as at 127.0.0.1: with --serve-anyone other machines can connect to this address",
            ),
            () if !only_json => {
                Err("a stream's results are lines of JSON: --format can only be json with -")
            }
            () if !self.annotate.is_empty() || self.resume || self.report => Err(
                "--annotate, --resume and --report are for files: with -, --out has the lines of JSON that `mtcae report` reads",
            ),
            () => Ok(()),
        }
    }

    /// Whether MTCNN looks for faces.
    pub fn finds_faces(&self) -> bool {
        let default = match self.trace {
            Some(_) => Faces::None,
            None => Faces::Mtcnn,
        };
        self.faces.unwrap_or(default) == Faces::Mtcnn
    }

    /// Whether the model looks at crops to faces, where its checkpoint does not say it.
    pub fn follows(&self) -> bool {
        self.crop.is_some_and(|crop| !crop.is_none()) || self.people == People::All
    }

    /// What the parser cannot see: flags of which one would be ignored.
    pub fn check(&self) -> Result<(), &'static str> {
        self.check_live()?;
        self.check_mass()?;
        let looks = self.detect_at != At::Source || self.min_face.is_some();
        match self.faces {
            Some(Faces::None) if self.follows() => Err(
                "--crop face, --crop aligned and --people all follow MTCNN's faces: --faces none cannot be used with them",
            ),
            Some(Faces::Mtcnn) if self.trace.is_some() => {
                Err("no faces are looked for with --trace: --faces mtcnn cannot be used with it")
            }
            _ if self.trace.is_some() && self.follows() => {
                Err("--trace is of the whole picture: --crop can only be none with it")
            }
            _ if self.people == People::All && self.crop == Some(Crop::None) => {
                Err("--people all looks at a crop to each: --crop none cannot be used with it")
            }
            _ if self.min_seen.is_some() && !self.may_follow() => {
                Err("--min-seen has no effect without a --crop to faces or --people all")
            }
            _ if looks && !self.finds_faces() => Err(
                "--detect-at and --min-face have no effect where MTCNN does not look for faces (--faces none, --trace)",
            ),
            _ if self.report
                && !(self.format.is_empty() || self.format.contains(&Format::Json)) =>
            {
                Err("--report is made of JSON results: --format must have json")
            }
            _ if self.columns.is_some() && !self.formats().iter().any(|f| f.has_columns()) => {
                Err("--columns has no effect without --format csv, parquet or arrow")
            }
            _ if self.force && self.out.is_none() && self.trace.is_none() => {
                Err("--force has no effect without --out or --trace")
            }
            _ => Ok(()),
        }
    }

    /// Whether the model might look at crops to faces, whatever its checkpoint says.
    fn may_follow(&self) -> bool {
        self.follows() || (self.crop.is_none() && self.finds_faces())
    }

    /// [`Self::follows`], or what the checkpoint says; and what cannot be with it.
    pub fn settle(&mut self, crop: Crop) -> Result<(), &'static str> {
        if !crop.is_none() && self.crop.is_none() {
            if !self.finds_faces() {
                return Err(
                    "the checkpoint looks at crops to faces, which are not looked for with --faces none and --trace: give --crop none to show it the whole picture",
                );
            }
            self.crop = Some(crop);
        }
        match self.follows() {
            true if self.foreign.resize.is_some() => Err(
                "--resize has no effect on crops to faces, which are squares: --crop none shows the whole picture",
            ),
            false if self.min_seen.is_some() => {
                Err("--min-seen has no effect without a --crop to faces or --people all")
            }
            _ => Ok(()),
        }
    }
}

/// What becomes of frames that come while answers are late.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Late {
    Drop,
    Wait,
}

/// Who looks for faces beside the model.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Faces {
    Mtcnn,
    None,
}

/// Which picture MTCNN looks at.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum At {
    Source,
    Model,
}

impl From<At> for DetectAt {
    fn from(at: At) -> Self {
        match at {
            At::Source => Self::Source,
            At::Model => Self::Model,
        }
    }
}

/// Whom the model looks at.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum People {
    Subject,
    All,
}

/// A kind of picture.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A contact sheet, or a timeline.
    Png,
    /// The video with everything drawn on it.
    Mp4,
}

impl Kind {
    /// What its file's name ends in.
    pub fn ending(self) -> String {
        match self {
            Self::Png => ".png".to_owned(),
            Self::Mp4 => format!(".{}", mtcae_core::drawn::ANNOTATED),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s.is_finite() && s > 0.0 => Ok(s),
        _ => Err("a number of seconds above 0 is needed".to_owned()),
    }
}

fn pixels(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(p) if p.is_finite() && p >= 12.0 => Ok(p),
        _ => Err("a number of pixels is needed, at least the 12 that MTCNN sees".to_owned()),
    }
}
