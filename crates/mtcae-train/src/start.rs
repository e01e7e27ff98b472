//! Where a run's weights begin, and which of them it trains.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor, Var};
use mtcae_model::decoder::{KvOrder, Structure};
use mtcae_model::{Config as ModelConfig, Mtcae, checkpoint};
use mtcae_nn::ParamStore;
use mtcae_nn::optim::Group;
use mtcae_nn::weights::{Faults, Source as _, TensorFile};
use sha2::{Digest, Sha256};

use crate::people::trained_subjects;
use crate::{Dataset, Error, Split, TrainConfig, Tune, digest};

/// A checkpoint folder to begin with, and what becomes of its decoder.
#[derive(Clone, Debug)]
pub struct Start {
    folder: PathBuf,
    config: ModelConfig,
    keeps_decoder: bool,
}

/// A model about to be trained.
pub struct Started {
    /// The model, built on `store`.
    pub model: Mtcae,
    /// All its parameters.
    pub store: ParamStore,
    /// Those that are trained, sorted by name.
    pub trained: Vec<(String, Var)>,
    /// A digest of the others.
    pub frozen: String,
}

impl Start {
    /// Encoder and decoder of a checkpoint.
    ///
    /// # Errors
    /// Names the file and the field at fault.
    pub fn checkpoint(folder: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self {
            folder: folder.as_ref().to_owned(),
            config: checkpoint::load_config(folder)?,
            keeps_decoder: true,
        })
    }

    /// The encoder of a checkpoint; a decoder of this structure and for these
    /// classes drawn from the run's seed.
    ///
    /// # Errors
    /// Names the file and the field at fault.
    pub fn encoder_of(
        folder: impl AsRef<Path>,
        structure: Structure,
        classes: &[String],
    ) -> Result<Self, Error> {
        let mut start = Self::checkpoint(folder)?;
        let tasks = ModelConfig::new(start.config.encoder.clone(), structure, classes.to_vec());
        start.config.decoder.structure = structure;
        if !structure.attends() {
            // It has no keys and values to order.
            start.config.decoder.kv_order = KvOrder::default();
        }
        start.config.decoder.tasks = tasks.decoder.tasks;
        start.config.classes = classes.to_vec();
        start.config.validate()?;
        start.keeps_decoder = false;
        Ok(start)
    }

    /// The model's config.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Names and shapes all that a run writes depends on.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads and draws the weights.
    ///
    /// # Errors
    /// Names the tensors that the checkpoint lacks or has too many of.
    pub fn build(&self, config: &TrainConfig, device: &Device) -> Result<Started, Error> {
        let mut model_config = self.config.clone();
        // An encoder that is frozen as a whole is not disturbed either.
        model_config.encoder.drop_path = match config.tune {
            Tune::Decoder => 0.0,
            Tune::Last(_) | Tune::All => config.drop_path,
        };
        model_config.decoder.drop_path = config.drop_path;
        if let Tune::Last(n) = config.tune {
            let depth = model_config.encoder.depth;
            if n == 0 || n > depth {
                return Err(Error::Config {
                    field: "tune",
                    reason: format!("last:{n}, but the encoder has {depth} blocks"),
                });
            }
        }
        let store = ParamStore::new(config.seed);
        let weights = TensorFile::open(self.folder.join(checkpoint::WEIGHTS))?;
        for name in weights.names() {
            if self.keeps_decoder || name.starts_with("encoder.") {
                store.set(&name, &weights.load(&name, device)?)?;
            }
        }
        let read: Vec<String> = store.vars().into_iter().map(|(name, _)| name).collect();
        let (tune, depth) = (config.tune, model_config.encoder.depth);
        let wanted: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let asked = wanted.clone();
        let vb = store.builder_with_frozen(device, move |name| {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert(name.to_owned());
            is_frozen(name, tune, depth)
        });
        let model = Mtcae::new(&model_config, vb)?;
        // What was drawn although it should have been read, and the reverse.
        let mut faults = Faults {
            origin: weights.origin(),
            ..Faults::default()
        };
        let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, _) in store.vars() {
            if read.binary_search(&name).is_err()
                && (self.keeps_decoder || name.starts_with("encoder."))
            {
                faults.missing.push(name);
            }
        }
        for name in &read {
            if !wanted.contains(name) {
                faults.unexpected.push(name.clone());
            }
        }
        if !faults.missing.is_empty() || !faults.unexpected.is_empty() {
            return Err(Error::Weights(faults.into()));
        }
        let (frozen, trained): (Vec<_>, Vec<_>) = store
            .vars()
            .into_iter()
            .partition(|(name, _)| is_frozen(name, tune, depth));
        let frozen = digest::tensors(frozen.iter().map(|(n, v)| (n.as_str(), v.as_tensor())))?;
        Ok(Started {
            model,
            store,
            trained,
            frozen,
        })
    }
}

impl Started {
    /// A digest of the encoder's weights.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn encoder_digest(&self) -> Result<String, Error> {
        let vars = self.store.vars();
        let encoder = vars.iter().filter(|(name, _)| name.starts_with("encoder."));
        Ok(digest::tensors(
            encoder.map(|(n, v)| (n.as_str(), v.as_tensor())),
        )?)
    }

    /// Writes the model as a checkpoint folder, which says what it was trained on: the
    /// training and validation clips of a split.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn save(
        &self,
        folder: &Path,
        data: &Dataset,
        split: &Split,
        held_out: Option<u32>,
    ) -> Result<(), Error> {
        // Validation chooses weights and settings: those people are no strangers either.
        let seen = [&split.train[..], &split.validation].concat();
        let start = self.model.config();
        let config = ModelConfig {
            trained_on: Some(data.in_words(held_out, &split.train)),
            trained_subjects: Some(trained_subjects(start, self.salt()?, &data.people(&seen))),
            ..start.clone()
        };
        let vars = self.store.vars();
        let tensors: Vec<(&str, &Tensor)> = vars
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_tensor()))
            .collect();
        Ok(checkpoint::save(folder, &config, tensors)?)
    }
}

impl Started {
    /// A salt that no other model has, and that a run which is resumed has again: of its
    /// weights.
    fn salt(&self) -> Result<[u8; 16], Error> {
        let trained = self.trained.iter();
        let weights = digest::tensors(trained.map(|(n, v)| (n.as_str(), v.as_tensor())))?;
        let hash = Sha256::digest(format!("salt {} {weights}", self.frozen));
        let mut salt = [0; 16];
        salt.copy_from_slice(&hash[..16]);
        Ok(salt)
    }
}

/// Number of the encoder block that a parameter belongs to: 0 for the embedding,
/// i + 1 for block i, depth + 1 for all that comes after.
fn layer(name: &str, depth: usize) -> usize {
    let Some(name) = name.strip_prefix("encoder.") else {
        return depth + 1;
    };
    match name
        .strip_prefix("blocks.")
        .and_then(|n| n.split('.').next())
    {
        Some(block) => block.parse::<usize>().map_or(0, |i| i + 1),
        None if name.starts_with("norm.") => depth + 1,
        None => 0,
    }
}

fn is_frozen(name: &str, tune: Tune, depth: usize) -> bool {
    name.starts_with("encoder.")
        && match tune {
            Tune::All => false,
            Tune::Decoder => true,
            Tune::Last(n) => layer(name, depth) <= depth - n.min(depth),
        }
}

/// Learning rate factor and weight decay of a parameter: layer-wise decay as BEiT
/// and VideoMAE count it; vectors (biases, norms) and positions are not decayed
/// unless the config says so.
pub fn group(name: &str, var: &Var, config: &TrainConfig, depth: usize) -> Group {
    let below_top = depth + 1 - layer(name, depth);
    let is_vector = var.rank() <= 1 || name == "encoder.pos_embed";
    Group {
        lr_scale: config.layer_decay.powi(below_top as i32),
        weight_decay: match is_vector && !config.decay_norms {
            true => 0.0,
            false => config.weight_decay,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_as_videomae_does() {
        let names = [
            ("encoder.patch_embed.proj.weight", 0),
            ("encoder.blocks.0.norm1.weight", 1),
            ("encoder.blocks.11.mlp.fc2.bias", 12),
            ("encoder.norm.weight", 13),
            ("decoder.stages.face_box.dense.weight", 13),
        ];
        for (name, want) in names {
            assert_eq!(layer(name, 12), want, "{name}");
        }
        assert!(is_frozen(
            "encoder.blocks.9.norm1.weight",
            Tune::Last(2),
            12
        ));
        assert!(!is_frozen(
            "encoder.blocks.10.norm1.weight",
            Tune::Last(2),
            12
        ));
        assert!(!is_frozen("encoder.norm.weight", Tune::Last(2), 12));
        assert!(!is_frozen(
            "decoder.heads.expression.fc.weight",
            Tune::Decoder,
            12
        ));
    }
}
