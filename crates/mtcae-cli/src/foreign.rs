//! What the files of others do not say, as flags; and checkpoints opened with it.

use clap::{Args, value_parser};
use mtcae_core::{Resize, Sampling};
use mtcae_dfer::model::encoder::{
    Config as EncoderConfig, Error as EncoderError, Families, Overrides,
};
use mtcae_dfer::model::{Checkpoint, Error as ModelError, Given};
use serde::Serialize;
use serde_json::Value;

use crate::{Fault, checkpoint, default_model, note};

/// Sizes of an encoder in a file that does not say them.
#[derive(Args, Serialize)]
pub struct Sizes {
    /// Height and width of an encoder's frames in pixels, where no file says them [default:
    /// its family's published size].
    #[arg(long, value_name = "PIXELS", value_parser = value_parser!(u16).range(1..=8192))]
    image_size: Option<u16>,

    /// Frames of an encoder's clip, where no file says them [default: 16].
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=8192))]
    frames: Option<u16>,
}

impl Sizes {
    /// With the heads that another flag asks for.
    pub fn overrides(&self, heads: Option<usize>) -> Overrides {
        Overrides {
            heads,
            image_size: self.image_size.map(usize::from),
            frames: self.frames.map(usize::from),
            ..Overrides::default()
        }
    }
}

/// The config of an encoder that is drawn, by the names of its family and size.
///
/// # Errors
/// Names the flag at fault.
pub fn preset(family: &str, size: &str, sizes: &Sizes) -> Result<EncoderConfig, String> {
    let found = Families::preset(family, size, &sizes.overrides(None));
    found.map_err(|error| match error {
        EncoderError::Field { field, reason, .. } => match field.as_str() {
            "regions" => format!("--image-size, --frames: {reason}"),
            field => format!("--{}: {reason}", field.replace('_', "-")),
        },
        error => error.to_string(),
    })
}

/// A checkpoint that may be one of others.
#[derive(Args, Serialize)]
pub struct Foreign {
    /// Names of the classes of a published classifier that does not name them, in the
    /// order of its outputs (docs/models.md lists them).
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    classes: Option<Vec<String>>,

    #[command(flatten)]
    #[serde(flatten)]
    sizes: Sizes,

    /// Heads of a bare file's encoder whose width is not published.
    #[arg(long, value_name = "N")]
    heads: Option<usize>,

    /// Which frames make a clip, in place of what the checkpoint says: uniform, authors,
    /// dense:STRIDE, or multi-clip:CLIPSxSTRIDE, whose probabilities are averaged.
    #[arg(long, value_name = "SAMPLING")]
    pub sampling: Option<Sampling>,

    /// What part of a whole frame is seen, in place of what the checkpoint says: squash,
    /// shortest-edge, or three-crop, whose probabilities are averaged.
    #[arg(long, value_name = "RESIZE")]
    pub resize: Option<Resize>,
}

impl Foreign {
    /// What was given, as it is noted beside results; `null` where nothing was.
    pub fn given(&self) -> serde_json::Result<Value> {
        let mut given = serde_json::to_value(self)?;
        if let Value::Object(fields) = &mut given {
            fields.retain(|_, value| !value.is_null());
            if fields.is_empty() {
                given = Value::Null;
            }
        }
        Ok(given)
    }

    /// Opens a checkpoint by its folder, file or hub name, and says what it leaves unsaid.
    ///
    /// # Errors
    /// Names the file at fault, or the flag that is missing.
    pub fn open(&self, name: &str, quiet: bool) -> Result<Checkpoint, Fault> {
        let path = checkpoint(name, quiet)?;
        let given = Given {
            classes: self.classes.clone(),
            sizes: self.sizes.overrides(self.heads),
            called: Some(name.to_owned()),
        };
        let opened = Checkpoint::open_given(path, &Families::default(), &given);
        let opened = opened.map_err(|error| match error {
            ModelError::Classes { .. } => format!("{error} (--classes)").into(),
            ModelError::Encoder(error) => flagged(error),
            error => error.into(),
        })?;
        if !quiet {
            for text in opened.notes() {
                note!("note: {text}");
            }
        }
        Ok(opened.seeing(self.sampling, self.resize)?)
    }

    /// Opens the default model.
    ///
    /// # Errors
    /// When something is given that it says itself, or it is not there.
    pub fn open_default(&self) -> Result<Checkpoint, Fault> {
        let sizes = &self.sizes;
        let given = [
            ("--classes", self.classes.is_some()),
            ("--image-size", sizes.image_size.is_some()),
            ("--frames", sizes.frames.is_some()),
            ("--heads", self.heads.is_some()),
        ];
        if let Some((flag, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
            let reason = "the default model says it itself; it is for a published --checkpoint";
            return Err(format!("{flag}: {reason}").into());
        }
        Ok(default_model::open()?.seeing(self.sampling, self.resize)?)
    }
}

/// A fault of an encoder's file, with the flag that mends it.
pub fn flagged(error: EncoderError) -> Fault {
    match error {
        EncoderError::Heads { .. } => format!("{error} (--heads)").into(),
        error => error.into(),
    }
}
