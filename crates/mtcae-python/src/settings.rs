//! What a pipeline is made with.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use mtcae_core::{Crop, Resize, Sampling, one_line};
use mtcae_dfer::model::encoder::{
    Error as EncoderError, Families, HubName, Overrides, fetch_folder,
};
use mtcae_dfer::model::{Checkpoint, Error as ModelError, Given};
use mtcae_dfer::{DetectAt, Precision, device};
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::errors::{fault, raised_as};

/// The name of the model that lies in the package.
pub const DEFAULT: &str = "default";

/// What a pipeline is made with, as Python gives it.
#[derive(Clone)]
pub struct Settings {
    /// None for the package's own.
    pub checkpoint: Option<String>,
    pub device: String,
    pub precision: Precision,
    pub crop: Option<Crop>,
    pub faces: bool,
    pub detect_at: DetectAt,
    pub min_face: Option<f64>,
    pub min_seen: usize,
    pub least_confidence: Option<f64>,
    pub given: Foreign,
}

/// What a checkpoint of others does not say, and what one sees otherwise than it says.
#[derive(Clone, Default)]
pub struct Foreign {
    pub classes: Option<Vec<String>>,
    pub sampling: Option<Sampling>,
    pub resize: Option<Resize>,
    pub image_size: Option<usize>,
    pub frames: Option<usize>,
    pub heads: Option<usize>,
}

/// A fault in words, and the class of its exception.
pub struct Fault {
    pub class: &'static str,
    pub text: String,
}

impl Fault {
    fn argument(text: impl Into<String>) -> Self {
        let (class, text) = ("ArgumentError", text.into());
        Self { class, text }
    }

    /// As an exception.
    pub fn raise(&self, py: Python<'_>) -> PyErr {
        fault(py, self.class, &self.text)
    }
}

/// What a word means, with the argument's name before what is wrong with it.
///
/// # Errors
/// `ArgumentError`.
pub fn word<T: FromStr<Err: std::error::Error + 'static>>(
    py: Python<'_>,
    argument: &str,
    text: &str,
) -> PyResult<T> {
    let parsed = text.parse::<T>();
    parsed.map_err(|e| {
        fault(
            py,
            "ArgumentError",
            &format!("{argument}: {}", one_line(&e)),
        )
    })
}

/// `source` or `model`.
///
/// # Errors
/// `ArgumentError`.
pub fn detect_at(py: Python<'_>, text: &str) -> PyResult<DetectAt> {
    match text {
        "source" => Ok(DetectAt::Source),
        "model" => Ok(DetectAt::Model),
        other => Err(one_of(py, "detect_at", other, "\"source\" or \"model\"")),
    }
}

/// A word that is none of those that there are.
pub fn one_of(py: Python<'_>, argument: &str, found: &str, known: &str) -> PyErr {
    let text = format!("{argument}: must be {known}, not {found:?}");
    fault(py, "ArgumentError", &text)
}

/// Opens a device.
///
/// # Errors
/// `DeviceError`, which says what there is.
pub fn open_device(py: Python<'_>, name: &str) -> PyResult<mtcae_dfer::Device> {
    let opened = device::open(name);
    opened.map_err(|e| raised_as(py, "DeviceError", &e))
}

impl Settings {
    /// What the checkpoint is called.
    pub fn name(&self) -> &str {
        self.checkpoint.as_deref().unwrap_or(DEFAULT)
    }

    /// Opens the checkpoint, the package's own from `own`.
    ///
    /// # Errors
    /// Names the file at fault, or the argument that is missing.
    pub fn open(&self, own: &Path) -> Result<Checkpoint, Fault> {
        let path = match &self.checkpoint {
            None => own.to_owned(),
            Some(name) if HubName::is_meant(name) => {
                let fetched = fetch_folder(name, &mut |_, _, _| {});
                fetched.map_err(|e| model(&e))?
            }
            Some(name) => PathBuf::from(name),
        };
        let given = Given {
            classes: self.given.classes.clone(),
            sizes: Overrides {
                heads: self.given.heads,
                image_size: self.given.image_size,
                frames: self.given.frames,
                ..Overrides::default()
            },
            called: Some(self.name().to_owned()),
        };
        let opened = Checkpoint::open_given(path, &Families::default(), &given);
        let opened = opened.map_err(|error| {
            let argument = match &error {
                ModelError::Classes { .. } => " (classes=)",
                ModelError::Encoder(EncoderError::Heads { .. }) => " (heads=)",
                _ => "",
            };
            let mut fault = model(&error);
            fault.text += argument;
            fault
        })?;
        let seen = opened.seeing(self.given.sampling, self.given.resize);
        let mut checkpoint = seen.map_err(|e| Fault::argument(one_line(&e)))?;
        if let Some(least) = self.least_confidence {
            let sure = checkpoint.sure_from(least);
            checkpoint =
                sure.map_err(|e| Fault::argument(format!("least_confidence: {}", one_line(&e))))?;
        }
        Ok(checkpoint)
    }

    /// Which part of a frame the model is shown.
    ///
    /// # Errors
    /// Where faces would have to be looked for and are not.
    pub fn settle(&self, said: Crop) -> Result<Crop, Fault> {
        let crop = self.crop.unwrap_or(said);
        match (crop.is_none(), self.faces, self.crop) {
            (false, false, Some(_)) => Err(Fault::argument(
                "crop: a crop follows MTCNN's faces: faces=False cannot be used with it",
            )),
            (false, false, None) => Err(Fault::argument(
                "faces: the checkpoint looks at crops to faces, which are not looked for with \
                 faces=False: give crop=\"none\" to show it the whole picture",
            )),
            _ if !crop.is_none() && self.given.resize.is_some() => Err(Fault::argument(
                "resize: has no effect on crops to faces, which are squares: crop=\"none\" \
                 shows the whole picture",
            )),
            _ => Ok(crop),
        }
    }

    /// What numbers in results depend on, as results say it.
    pub fn noted(&self, crop: Crop) -> Value {
        json!({
            "checkpoint": self.name(),
            "device": self.device,
            "precision": self.precision.to_string(),
            "crop": crop.to_string(),
            "faces": self.faces,
            "detect_at": match self.detect_at {
                DetectAt::Source => "source",
                DetectAt::Model => "model",
            },
            "min_face": self.min_face,
            "min_seen": self.min_seen,
            "least_confidence": self.least_confidence,
            "classes": self.given.classes,
            "sampling": self.given.sampling.map(|s| s.to_string()),
            "resize": self.given.resize.map(|r| r.to_string()),
            "image_size": self.given.image_size,
            "frames": self.given.frames,
            "heads": self.given.heads,
        })
    }
}

/// A fault of a model.
fn model(error: &(dyn std::error::Error + 'static)) -> Fault {
    let class = crate::errors::class_or(error, "ModelError");
    Fault {
        class,
        text: one_line(error),
    }
}
