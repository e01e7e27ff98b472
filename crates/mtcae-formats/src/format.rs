//! Formats by name, and the documents that they are made of.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use mtcae_dfer::{Results, write_csv};

use crate::{Error, arrow, bids, boris, captions, coco, csv, elan, openface, textgrid};

/// A format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Everything, as `docs/results-format.md` has it.
    Json,
    /// One row a sampled frame of each prediction.
    Csv,
    /// An annotation of ELAN.
    Eaf,
    /// An annotation of Praat.
    TextGrid,
    /// Aggregated events of BORIS.
    Boris,
    /// Events of BIDS: a table and its sidecar.
    Bids,
    /// One row a frame and person, as Parquet.
    #[cfg(feature = "parquet")]
    Parquet,
    /// The same as an Arrow IPC file.
    Arrow,
    /// SubRip captions.
    Srt,
    /// WebVTT captions.
    Vtt,
    /// Boxes and landmarks as COCO has them.
    Coco,
}

/// Under which names the columns of a table stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// Those of `docs/results-format.md`.
    #[default]
    Own,
    /// Those of OpenFace, as far as it has them.
    OpenFace,
}

/// One of the files that a format is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// `.json`
    Json,
    /// `.csv`, or `.openface.csv`
    Csv(Columns),
    /// `.eaf`
    Eaf,
    /// `.TextGrid`
    TextGrid,
    /// `.boris.csv`
    Boris,
    /// `_events.tsv`
    Events,
    /// `_events.json`
    Sidecar,
    /// `.parquet`, or `.openface.parquet`
    #[cfg(feature = "parquet")]
    Parquet(Columns),
    /// `.arrow`, or `.openface.arrow`
    Arrow(Columns),
    /// `.srt`
    Srt,
    /// `.vtt`
    Vtt,
    /// `.coco.json`
    Coco,
}

impl Format {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Json,
        Self::Csv,
        Self::Eaf,
        Self::TextGrid,
        Self::Boris,
        Self::Bids,
        #[cfg(feature = "parquet")]
        Self::Parquet,
        Self::Arrow,
        Self::Srt,
        Self::Vtt,
        Self::Coco,
    ];

    /// Its name, as `--format` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Eaf => "eaf",
            Self::TextGrid => "textgrid",
            Self::Boris => "boris",
            Self::Bids => "bids",
            #[cfg(feature = "parquet")]
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Srt => "srt",
            Self::Vtt => "vtt",
            Self::Coco => "coco",
        }
    }

    /// Whether `columns` make a difference.
    pub fn has_columns(self) -> bool {
        match self {
            Self::Csv | Self::Arrow => true,
            #[cfg(feature = "parquet")]
            Self::Parquet => true,
            _ => false,
        }
    }

    /// Whether labels are written in it as well.
    #[cfg(feature = "labels")]
    pub fn is_for_labels(self) -> bool {
        match self {
            Self::Arrow | Self::Coco => true,
            #[cfg(feature = "parquet")]
            Self::Parquet => true,
            _ => false,
        }
    }

    /// What it is made of.
    pub fn documents(self, columns: Columns) -> Vec<Document> {
        vec![match self {
            Self::Json => Document::Json,
            Self::Csv => Document::Csv(columns),
            Self::Eaf => Document::Eaf,
            Self::TextGrid => Document::TextGrid,
            Self::Boris => Document::Boris,
            Self::Bids => return vec![Document::Events, Document::Sidecar],
            #[cfg(feature = "parquet")]
            Self::Parquet => Document::Parquet(columns),
            Self::Arrow => Document::Arrow(columns),
            Self::Srt => Document::Srt,
            Self::Vtt => Document::Vtt,
            Self::Coco => Document::Coco,
        }]
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.iter().copied();
        all.find(|format| format.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|f| f.name()).collect();
            format!("formats are {}", names.join(", "))
        })
    }
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "own" => Ok(Self::Own),
            "openface" => Ok(Self::OpenFace),
            _ => Err("columns are own or openface".to_owned()),
        }
    }
}

impl Document {
    /// What its file's name ends in, behind the video's.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Json => ".json",
            Self::Csv(Columns::Own) => ".csv",
            Self::Csv(Columns::OpenFace) => ".openface.csv",
            Self::Eaf => ".eaf",
            Self::TextGrid => ".TextGrid",
            Self::Boris => ".boris.csv",
            Self::Events => "_events.tsv",
            Self::Sidecar => "_events.json",
            #[cfg(feature = "parquet")]
            Self::Parquet(Columns::Own) => ".parquet",
            #[cfg(feature = "parquet")]
            Self::Parquet(Columns::OpenFace) => ".openface.parquet",
            Self::Arrow(Columns::Own) => ".arrow",
            Self::Arrow(Columns::OpenFace) => ".openface.arrow",
            Self::Srt => ".srt",
            Self::Vtt => ".vtt",
            Self::Coco => ".coco.json",
        }
    }

    /// Whether it is no text.
    pub fn is_binary(self) -> bool {
        match self {
            Self::Arrow(_) => true,
            #[cfg(feature = "parquet")]
            Self::Parquet(_) => true,
            _ => false,
        }
    }

    /// Whether several, one behind the other, can still be read.
    pub fn can_follow(self) -> bool {
        matches!(self, Self::Json | Self::Csv(Columns::Own))
    }

    /// Writes one file's results. `folder` is where the document will lie, which links to the
    /// video begin from. JSON is on one line unless `pretty`.
    ///
    /// # Errors
    /// [`Error::Timeline`]; what the writer reports.
    pub fn write(
        self,
        results: &Results,
        folder: Option<&Path>,
        pretty: bool,
        mut out: &mut dyn Write,
    ) -> Result<(), Error> {
        let table = |columns| match columns {
            Columns::Own => arrow::frames(&[results]),
            Columns::OpenFace => openface::openface(&[results]),
        };
        match self {
            Self::Json => Ok(results.write(&mut out, pretty)?),
            Self::Csv(Columns::Own) => Ok(write_csv(&mut out, results.answer.predictions())?),
            Self::Csv(columns) => csv::write(&table(columns)?, out),
            Self::Eaf => elan::write_eaf(results, folder, out),
            Self::TextGrid => textgrid::write_textgrid(results, out),
            Self::Boris => boris::write_boris(results, out),
            Self::Events => bids::write_events(results, out),
            Self::Sidecar => bids::write_sidecar(results, out),
            #[cfg(feature = "parquet")]
            Self::Parquet(columns) => {
                // Its writer wants to be sent between threads, which not all can be.
                let mut file = Vec::new();
                crate::parquet::write_parquet(&table(columns)?, &mut file)?;
                Ok(out.write_all(&file)?)
            }
            Self::Arrow(columns) => arrow::write_arrow(&table(columns)?, out),
            Self::Srt => captions::write_srt(results, out),
            Self::Vtt => captions::write_vtt(results, out),
            Self::Coco => coco::write_coco(results, out),
        }
    }

    /// Writes the clips of a label file.
    ///
    /// # Errors
    /// [`Error::NotForLabels`] but for Parquet, Arrow and COCO; what the writer reports.
    #[cfg(feature = "labels")]
    pub fn write_labels(
        self,
        clips: &[mtcae_labels::labels::LabelledClip],
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        use crate::labels::{label_frames, write_label_coco};
        match self {
            #[cfg(feature = "parquet")]
            Self::Parquet(Columns::Own) => {
                let mut file = Vec::new();
                crate::parquet::write_parquet(&label_frames(clips)?, &mut file)?;
                Ok(out.write_all(&file)?)
            }
            Self::Arrow(Columns::Own) => arrow::write_arrow(&label_frames(clips)?, out),
            Self::Coco => write_label_coco(clips, out),
            other => Err(Error::NotForLabels(other.ending())),
        }
    }
}
