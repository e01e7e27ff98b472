//! How files that others published hold the encoders of a family.

use mtcae_nn::weights::Source;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::classifier::Classifier;
use crate::error::Error;
use crate::json::Fields;
use crate::preprocessing::Preprocessing;
use crate::seam::Config;
use crate::sizes::{MOST_BLOCKS, fault};

/// The spelling of this project's own files.
pub const OWN: &str = "own";

/// What a checkpoint without a configuration cannot say. Values given here win
/// over those of a `config.json` too.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Overrides {
    /// Attention heads. Known for the widths of published models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Height and width of a frame in pixels; otherwise the family's published size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Frames of a clip; otherwise 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
    /// ε of the LayerNorms; otherwise that of the checkpoint's family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Attention heads of the decoder of a model of masked pre-training. Known for the
    /// widths of published ones.
    #[serde(skip)]
    pub decoder_heads: Option<usize>,
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

    /// A config of any family with what was given in place of its own fields; `origin`
    /// is where it comes from.
    pub(crate) fn apply<C>(&self, config: &C, origin: &str) -> Result<C, Error>
    where
        C: Serialize + DeserializeOwned,
    {
        let written = serde_json::to_value(config).and_then(|mut value| {
            if let Value::Object(fields) = &mut value {
                fields.extend(self.fields());
            }
            serde_json::from_value(value)
        });
        written.map_err(|source| Error::Json {
            origin: origin.to_owned(),
            source,
        })
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
    /// Sizes, from a `config.json` or else from the shapes of the tensors; and the
    /// classifier that the file has on the encoder.
    fn read(
        &self,
        fields: Option<&Fields>,
        source: &dyn Source,
        overrides: &Overrides,
    ) -> Result<(Config, Option<Classifier>), Error>;
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
    /// A Conv1d kernel (D, C, 2) for (D, C·2), or already so.
    Pairs,
}

/// One tensor of the file that a tensor of the model is made of.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Its name; where spellings differ within a family, all of them.
    pub names: Vec<String>,
    pub form: Form,
    /// Its share of the rows: so many of those that all parts add up to.
    pub share: usize,
}

impl Part {
    /// A tensor that is the whole of the model's, as it is there.
    pub fn plain(name: String) -> Vec<Self> {
        Self::whole(name, Form::Plain)
    }

    /// A tensor that is the whole of the model's.
    pub fn whole(name: String, form: Form) -> Vec<Self> {
        vec![Self {
            names: vec![name],
            form,
            share: 1,
        }]
    }
}

/// Whether `name` is a tensor of one of `modules`, which stand at the file's root, beside
/// the encoder, or below its `prefix`.
pub(crate) fn is_of(modules: &[&str], prefix: &str, name: &str) -> bool {
    let root = prefix.strip_suffix("encoder.").unwrap_or(prefix);
    modules.iter().any(|module| {
        ["", root, prefix].into_iter().any(|before| {
            name.strip_prefix(before)
                .and_then(|n| n.strip_prefix(module))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    })
}

/// What a file without a `config.json` tells by the shapes of its tensors.
pub(crate) struct Told<'a> {
    pub source: &'a dyn Source,
    pub spelling: &'a dyn Spelling,
}

impl Told<'_> {
    pub fn fault(&self, field: &str, reason: String) -> Error {
        fault(&self.source.origin(), field, reason)
    }

    /// Name and shape in the file of the first part of a tensor of the model.
    pub fn find(&self, canonical: &str) -> Option<(String, Vec<usize>)> {
        let part = self.spelling.parts(canonical).into_iter().next()?;
        let found = part.names.iter().find_map(|name| self.source.shape(name));
        found.map(|shape| (part.names.join(" or "), shape))
    }

    /// As [`Self::find`] of a tensor by which alone `field` can be told.
    pub fn needs(&self, canonical: &str, field: &str) -> Result<(String, Vec<usize>), Error> {
        self.find(canonical).ok_or_else(|| {
            let reason = format!("there is no config.json and no tensor {canonical} to tell it");
            self.fault(field, reason)
        })
    }

    /// The first dimension of a tensor.
    pub fn rows(&self, canonical: &str, field: &str) -> Result<usize, Error> {
        let shape = self.needs(canonical, field)?.1;
        Ok(shape.first().copied().unwrap_or(0))
    }

    /// Width D, channels C, frames t and side p of a tube, by the kernel that cuts them.
    pub fn tubes(&self) -> Result<[usize; 4], Error> {
        let (name, patch) = self.needs("patch_embed.proj.weight", "width")?;
        match patch[..] {
            [width, channels, tubelet, h, w] if h == w => Ok([width, channels, tubelet, h]),
            // The only tube of this length in use.
            [width, 1536] => Ok([width, 3, 2, 16]),
            _ => {
                let reason = format!(
                    "{name} of shape {patch:?} is neither (D, C, t, p, p) nor (D, 1536), \
                     and there is no config.json to tell its tubes"
                );
                Err(self.fault("patch", reason))
            }
        }
    }

    /// The number of blocks, whose names begin with `blocks` and an index: one more than
    /// the highest. A gap then shows as missing tensors.
    pub fn depth(&self, blocks: &str) -> Result<usize, Error> {
        let names = self.source.names();
        let indices = names
            .iter()
            .filter_map(|name| name.strip_prefix(blocks)?.split('.').next()?.parse().ok());
        let last: Option<usize> = indices.max();
        match last {
            Some(last) if last < MOST_BLOCKS => Ok(last + 1),
            Some(last) => {
                let reason = format!("there is a block {last}, above {MOST_BLOCKS}");
                Err(self.fault("depth", reason))
            }
            None => {
                let reason = "there is no config.json and no tensor of a block to tell it";
                Err(self.fault("depth", reason.to_owned()))
            }
        }
    }

    /// The heads that were given, or else those that are known of a width.
    pub fn heads(
        &self,
        given: Option<usize>,
        known: Option<usize>,
        width: usize,
    ) -> Result<usize, Error> {
        given.or(known).ok_or_else(|| Error::Heads {
            origin: self.source.origin(),
            width,
        })
    }
}
