//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use mtcae_formats::{Columns, Document, Format};

use crate::mass::{Lists, Mass};

/// Face boxes and landmarks of videos, as a label file to train from.
#[derive(Parser)]
#[command(name = "label", version)]
pub struct Args {
    /// A dataset's folder, a manifest, or (with --dataset none) video and image files, tar
    /// archives of them, folders, and patterns as in '*.mp4' and 'clips-{000..127}.tar'.
    #[arg(required_unless_present = "list")]
    pub inputs: Vec<OsString>,

    #[command(flatten)]
    pub lists: Lists,

    /// What the input is.
    #[arg(long, default_value = "none")]
    pub dataset: Dataset,

    /// The label file (JSON Lines). An existing one is never overwritten; --resume goes on
    /// with it.
    #[arg(
        long,
        value_name = "FILE.jsonl",
        required_unless_present = "lease",
        conflicts_with = "lease"
    )]
    out: Option<PathBuf>,

    #[command(flatten)]
    pub mass: Mass,

    /// Where faces are looked for: in the model's 224x224 clip, as in the paper, or
    /// in the source's own pixels.
    #[arg(long, default_value = "model", value_name = "model|source")]
    detect_at: At,

    /// Label every N-th frame of the file instead of one clip of 16.
    #[arg(long, value_name = "N", conflicts_with = "all_frames", value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,

    /// Label every frame.
    #[arg(long)]
    all_frames: bool,

    /// Go on with a label file that was begun.
    #[arg(long, conflicts_with = "lease")]
    pub resume: bool,

    /// Clips to work on at once.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,

    /// Threads for decoding and finding faces, shared by the jobs [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Where faces are looked for: cpu or cuda:N. Clips are decoded on the CPU, those of
    /// other jobs while the GPU is at work.
    #[arg(long, default_value = "cpu")]
    pub device: String,

    /// A contact sheet of each clip's labelled frames, into this folder.
    #[arg(long, value_name = "DIR")]
    pub preview: Option<PathBuf>,

    /// The labels as a table as well: one row for each frame and face, in source pixels.
    /// An existing one is overwritten only with --resume.
    #[arg(long, value_name = "FILE.csv")]
    pub csv: Option<PathBuf>,

    /// The labels in formats of other programs (docs/formats.md), beside --out: one row for
    /// each frame and face as parquet or arrow; boxes and landmarks as coco. Existing ones
    /// are overwritten only with --resume.
    #[arg(long, value_name = "parquet,arrow,coco", value_delimiter = ',', value_parser = for_labels)]
    pub format: Vec<Format>,

    /// Side of the smallest face to look for, in pixels.
    #[arg(long, default_value_t = 20.0, value_name = "PIXELS")]
    pub min_face: f64,

    /// Classes that a manifest may name; any other is an error. By default all that it
    /// names.
    #[arg(long, value_delimiter = ',')]
    pub classes: Vec<String>,

    /// Assign a dataset's clips to this many subject-independent folds in place of
    /// the published ones.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(2..))]
    pub folds: Option<u16>,

    /// Seed of --folds.
    #[arg(long, default_value_t = 0, requires = "folds")]
    pub seed: u64,

    /// No report, progress or summary; warnings and errors are still said.
    #[arg(long, short)]
    pub quiet: bool,
}

impl Args {
    /// The label file.
    pub fn out(&self) -> &Path {
        self.out.as_deref().unwrap_or(Path::new(""))
    }

    /// Whether faces are looked for in the source's own pixels.
    pub fn at_source(&self) -> bool {
        self.detect_at == At::Source
    }

    /// The documents that labels are written as beside the label file, with their places.
    pub fn documents(&self) -> Vec<(Document, PathBuf)> {
        let formats = self.format.iter();
        let documents = formats.flat_map(|f| f.documents(Columns::Own));
        let place = |d: Document| {
            let mut name = self.out().with_extension("").into_os_string();
            name.push(d.ending());
            (d, PathBuf::from(name))
        };
        documents.map(place).collect()
    }

    /// The distance of labelled frames, where it is not one clip of 16.
    pub fn every(&self) -> Option<u64> {
        if self.all_frames { Some(1) } else { self.every }
    }
}

/// What the input is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dataset {
    Ravdess,
    CremaD,
    Mead,
    /// One folder a class.
    Folder,
    /// A CSV table of one's own: columns file and class, and any of subject, sex,
    /// level, fold, dataset.
    Manifest,
    /// Files that belong to no dataset.
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum At {
    Model,
    Source,
}

fn for_labels(name: &str) -> Result<Format, String> {
    let format: Format = name.parse()?;
    match format.is_for_labels() {
        true => Ok(format),
        false => Err(
            "labels are written as parquet, arrow or coco; the others are for answers of infer"
                .to_owned(),
        ),
    }
}
