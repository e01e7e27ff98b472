//! How files that others published hold the encoders of a family.

use mtcae_nn::weights::Source;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::json::Fields;
use crate::preprocessing::Preprocessing;
use crate::seam::Config;

/// The spelling of this project's own files.
pub const OWN: &str = "own";

/// What a checkpoint without a configuration cannot say. Values given here win
/// over those of a `config.json` too.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Overrides {
    /// Attention heads. Known for the widths 384, 768, 1024 and 1280.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Height and width of a frame in pixels; otherwise 224.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Frames of a clip; otherwise 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
    /// ε of the LayerNorms; otherwise that of the checkpoint's family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Drop path rate in training; otherwise 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_path: Option<f64>,
}

impl Overrides {
    /// Those that were given, as the fields of a config.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        }
    }
}

/// A family's encoders in the files of others.
pub(crate) trait Published: Sync {
    /// The encoders of this family among the tensors of a file.
    fn find(&self, source: &dyn Source, names: &[String]) -> Vec<Box<dyn Foreign>>;

    /// The tensors by which [`Self::find`] knows one, in words.
    fn marks(&self) -> String;
}

/// One encoder in a file of weights, and how its tensors are spelt there.
pub(crate) trait Spelling: Send + Sync {
    /// Whose spelling it is.
    fn name(&self) -> &'static str;

    /// What stands before every name.
    fn prefix(&self) -> &str;

    /// What the code that these files belong to does to pixels, where it is known.
    fn preprocessing(&self) -> Option<Preprocessing>;

    /// What the file needs to hold for a tensor of the model, in order of rows.
    fn parts(&self, name: &str) -> Vec<Part>;

    /// Whether a tensor belongs to a known neighbour of the encoder.
    fn is_neighbour(&self, name: &str) -> bool;

    /// Names of tensors that belong to the encoder there and are left out here.
    fn left_out(&self, source: &dyn Source, config: &Config) -> Result<Vec<String>, Error>;
}

/// An encoder in a file of others, which says its sizes in their way.
pub(crate) trait Foreign: Spelling {
    /// Sizes, from a `config.json` or else from the shapes of the tensors.
    fn config(
        &self,
        fields: Option<&Fields>,
        source: &dyn Source,
        overrides: &Overrides,
    ) -> Result<Config, Error>;
}

/// How a file holds a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As the model does.
    Plain,
    /// A Conv3d kernel (D, C, t, p, p) for (D, C·t·p·p), or already so.
    Kernel,
    /// A table (1, N, D) for (N, D), or already so.
    Table,
}

/// One tensor of the file that a tensor of the model is made of.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Its name; where spellings differ within a family, all of them.
    pub names: Vec<String>,
    pub form: Form,
}
