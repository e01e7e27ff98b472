//! Results as a file: what a model says of a video, with where it comes from.

mod lines;

use std::io::{BufWriter, Write};
use std::path::Path;

use mtcae_core::archive::Piece;
use mtcae_core::files::{self, At, write_atomically};
use mtcae_model::Identity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use lines::{LINES, Teller};

use crate::{Answer, Error, Prediction, Timeline};

/// What `format` says in every file of results.
pub const FORMAT: &str = "mtcae-results";

/// The version of `docs/results-format.md` that is written, and the last that is read.
pub const VERSION: u32 = 1;

/// What results are for, and what not; in every file of them.
pub const PURPOSE: &str = "Estimates of what faces show, frame by frame, for research and for \
    trying the software out: not of what people feel, and not for decisions about people. \
    Inferring emotions at work and in education is forbidden in the European Union (AI Act, \
    Article 5(1)(f)).";

/// Results larger than this are not read again.
const MOST: u64 = 1 << 30;

/// What a model says of one file, and where that comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// Where it comes from. `None` of files from before they said it.
    pub provenance: Option<Provenance>,
    /// What the model says.
    pub answer: Answer,
}

/// Where results come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// What computed them, with its version: `mtcae 0.1.0`.
    pub program: String,
    /// The model.
    pub model: Identity,
    /// The file that was looked at. `None` where it was no file, as a stream is.
    pub source: Option<SourceFile>,
    /// What was asked for: an object, whose fields are those of the program.
    pub settings: Value,
}

/// A file that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its name, as it was given.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

impl SourceFile {
    /// Reads a file to say which it is.
    ///
    /// # Errors
    /// Names the file.
    pub fn of(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Ok(Self {
            file: path.to_string_lossy().into_owned(),
            bytes: Piece::open(path).and_then(|p| p.length()).at(path)?,
            sha256: files::sha256(path).at(path)?,
        })
    }
}

/// Refuses a version that is not known here.
fn known(version: Option<u32>) -> Result<(), String> {
    match version {
        Some(1..=VERSION) => Ok(()),
        Some(version) => Err(format!(
            "its `version` is {version}: versions 1 to {VERSION} are known here, and a newer \
             program wrote it"
        )),
        None => Err("it says no `version`".to_owned()),
    }
}

/// How results are written: `predictions` or `timelines`, and never both.
#[derive(Serialize, Deserialize)]
struct Written<P, T> {
    format: String,
    version: u32,
    #[serde(default)]
    purpose: String,
    provenance: Option<Provenance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timelines: Option<T>,
}

/// How they were written before they said where they come from.
#[derive(Deserialize)]
#[serde(untagged)]
enum Before {
    Timelines(Vec<Timeline>),
    Predictions(Vec<Prediction>),
    Timeline(Timeline),
    Prediction(Box<Prediction>),
}

impl Results {
    /// Writes them as JSON, on one line unless `pretty`, and ends the line.
    ///
    /// # Errors
    /// What the writer reports.
    pub fn write(&self, out: &mut dyn Write, pretty: bool) -> std::io::Result<()> {
        let (predictions, timelines) = match &self.answer {
            Answer::Clip(predictions) => (Some(predictions), None),
            Answer::Windows(timelines) => (None, Some(timelines)),
        };
        let written = Written {
            format: FORMAT.to_owned(),
            version: VERSION,
            purpose: PURPOSE.to_owned(),
            provenance: self.provenance.clone(),
            predictions,
            timelines,
        };
        match pretty {
            true => serde_json::to_writer_pretty(&mut *out, &written)?,
            false => serde_json::to_writer(&mut *out, &written)?,
        }
        out.write_all(b"\n")
    }

    /// Writes them to a file, whole or not at all.
    ///
    /// # Errors
    /// Names the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let written = write_atomically(path, |temporary| {
            let mut file = BufWriter::new(std::fs::File::create(temporary)?);
            self.write(&mut file, true)?;
            file.flush()
        });
        Ok(written.at(path)?)
    }

    /// Reads a file that [`Self::save`] or `infer` wrote, or the lines of a
    /// [`Teller`](crate::Teller).
    ///
    /// # Errors
    /// Names the file and what in it is none of results.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let text = files::read(path, MOST).at(path)?;
        Self::parse(&text).map_err(|reason| Error::Results {
            path: path.to_owned(),
            reason,
        })
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// What in it is none of results.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            format: Option<String>,
            version: Option<u32>,
        }
        let head = serde_json::from_slice::<Head>(text);
        if let Some(lines) = lines::parse(text) {
            return lines;
        }
        if let Ok(Head {
            format: Some(format),
            version,
        }) = head
        {
            if format != FORMAT {
                return Err(format!("its `format` is {format:?}, not {FORMAT:?}"));
            }
            known(version)?;
            let written: Written<Vec<Prediction>, Vec<Timeline>> =
                serde_json::from_slice(text).map_err(|e| e.to_string())?;
            let answer = match (written.predictions, written.timelines) {
                (Some(predictions), None) => Answer::Clip(predictions),
                (None, Some(timelines)) => Answer::Windows(timelines),
                _ => return Err("it needs either `predictions` or `timelines`".to_owned()),
            };
            return Ok(Self {
                provenance: written.provenance,
                answer,
            });
        }
        let answer = match serde_json::from_slice::<Before>(text) {
            Ok(Before::Timelines(all)) => Answer::Windows(all),
            Ok(Before::Timeline(one)) => Answer::Windows(vec![one]),
            Ok(Before::Predictions(all)) => Answer::Clip(all),
            Ok(Before::Prediction(one)) => Answer::Clip(vec![*one]),
            // What is no JSON says where it breaks off.
            Err(_) => {
                return Err(match serde_json::from_slice::<Value>(text) {
                    Ok(_) => format!("not results of infer: it has no `format` {FORMAT:?}"),
                    Err(e) => format!("not JSON: {e}"),
                });
            }
        };
        Ok(Self {
            provenance: None,
            answer,
        })
    }
}
