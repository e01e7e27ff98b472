//! The command line.

use std::path::PathBuf;

use clap::Parser;
use mtcae_synth::{Dataset, Expression, Renderer};

use crate::Fault;

/// Rendered face clips with exact boxes, landmarks and expressions, and their label
/// file, to train and test from.
#[derive(Parser)]
#[command(name = "synth", version)]
pub struct Args {
    /// The folder: clips as in RAVDESS (Actor_05/01-01-03-02-01-02-05.mp4) and
    /// labels.jsonl. Nothing in it is overwritten; see --resume.
    #[arg(required_unless_present = "sheet")]
    pub out: Option<PathBuf>,

    /// How faces are made: `drawn` from curves, which needs nothing else, or `scanned`, people
    /// of the face model that --face-model names.
    #[arg(long, default_value = "drawn", value_name = "NAME", value_parser = ["drawn", "scanned"])]
    pub renderer: String,

    /// Folder of ICT-FaceKit (github.com/ICT-VGL/ICT-FaceKit, MIT licence), or its FaceXModel.
    #[arg(long, value_name = "DIR", required_if_eq("renderer", "scanned"))]
    face_model: Option<PathBuf>,

    /// Expressions to render, by name.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = expression)]
    expressions: Vec<Expression>,

    /// As many neutral takes as of any other expression, and not a third.
    #[arg(long)]
    balanced: bool,

    /// Number of actors.
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    identities: u32,

    /// Number of the first actor.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=999_999))]
    first: u32,

    /// Takes of each expression at each of the three intensities (neutral has one).
    #[arg(long, default_value_t = 1, value_name = "N")]
    takes: u32,

    /// Seed of everything.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Name of the split. Splits of different names share no face.
    #[arg(long, default_value = "train", value_name = "NAME")]
    split: String,

    /// Width and height of the clips in pixels.
    #[arg(long, default_value_t = 256, value_name = "PIXELS")]
    pub size: u32,

    /// Frames of a clip.
    #[arg(long, default_value_t = 48, value_name = "N")]
    frames: u32,

    /// Frames a second.
    #[arg(long, default_value_t = 25, value_name = "N")]
    fps: u32,

    /// How much size, place and pose of the head vary, in percent: 100 as with a hand-held
    /// camera, less as in a studio.
    #[arg(long, default_value_t = 100, value_name = "PERCENT")]
    variation: u32,

    /// Subject-independent folds that the label file puts the clips into; 0 for
    /// none.
    #[arg(long, default_value_t = 5, value_name = "K", requires = "out")]
    pub folds: u16,

    /// A contact sheet: every expression at its apex, full intensity, one row an
    /// actor. Without a folder, only this is made.
    #[arg(long, value_name = "FILE.png")]
    pub sheet: Option<PathBuf>,

    /// Actors on the contact sheet.
    #[arg(long, default_value_t = 6, value_name = "N", requires = "sheet", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rows: u32,

    /// Draw the boxes and landmarks onto the contact sheet.
    #[arg(long, requires = "sheet")]
    pub truth: bool,

    /// Look for the faces with MTCNN in this many frames of each written clip, and
    /// compare with where they were drawn; 0 for no check.
    #[arg(long, default_value_t = 0, value_name = "FRAMES", requires = "out")]
    pub check: usize,

    /// Go on with a folder that was started with the same settings.
    #[arg(long, requires = "out")]
    pub resume: bool,

    /// Clips to work on at once.
    #[arg(long, default_value_t = 2, value_name = "N", requires = "out", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,

    /// No progress or summary; errors are still said.
    #[arg(long, short)]
    pub quiet: bool,
}

impl Args {
    /// What is rendered.
    pub fn dataset(&self) -> Dataset {
        Dataset {
            seed: self.seed,
            split: self.split.clone(),
            identities: self.first..self.first.saturating_add(self.identities),
            takes: self.takes,
            width: self.size,
            height: self.size,
            frames: self.frames,
            fps: self.fps,
            variation: self.variation,
            expressions: match &self.expressions[..] {
                [] => Expression::ALL.to_vec(),
                some => some.to_vec(),
            },
            balanced: self.balanced,
        }
    }

    /// What renders it.
    pub fn renderer(&self) -> Result<Renderer, Fault> {
        Ok(match (&self.renderer[..], &self.face_model) {
            ("scanned", Some(folder)) => Renderer::scanned(folder)?,
            _ => Renderer::Drawn,
        })
    }
}

fn expression(name: &str) -> Result<Expression, String> {
    let found = Expression::ALL.into_iter().find(|e| e.name() == name);
    found.ok_or_else(|| {
        let names = Expression::ALL.map(Expression::name).join(", ");
        format!("{name:?} is not one of {names}")
    })
}
