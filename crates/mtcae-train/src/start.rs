//! Where a run's weights begin, and which of them it trains.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor, Var};
use mtcae_model::decoder::{Kind, KvOrder, Structure};
use mtcae_model::encoder::{EncoderConfig, Parameter};
use mtcae_model::init::suited_decoder;
use mtcae_model::{Checkpoint, Config as ModelConfig, Engine, Mtcae, checkpoint};
use mtcae_nn::ParamStore;
use mtcae_nn::optim::Group;

use crate::digest::{self, Identity};
use crate::loss::LEARNED;
use crate::people::trained_subjects;
use crate::view::one_view;
use crate::{Dataset, Error, Split, TrainConfig, Tune};

/// What the names of the encoder's tensors begin with.
const ENCODER: &str = "encoder.";

/// A checkpoint to begin with, and what becomes of its decoder.
#[derive(Clone)]
pub struct Start {
    weights: Arc<Weights>,
    config: ModelConfig,
    keeps_decoder: bool,
    /// Fields of the checkpoint's config that do not hold any more.
    left_out: Vec<&'static str>,
}

/// The weights of a checkpoint, and their digests once they were asked for: starts of
/// other decoders on the same encoder share them.
struct Weights {
    checkpoint: Checkpoint,
    encoder: OnceLock<String>,
    decoder: OnceLock<String>,
}

/// A model about to be trained.
pub struct Started {
    /// The model, built on `store`. An encoder that is frozen as a whole is no part of
    /// it.
    pub model: Mtcae,
    /// All its parameters.
    pub store: ParamStore,
    /// Those that are trained, sorted by name.
    pub trained: Vec<(String, Var)>,
    /// Those that training moves without a gradient, as running means; none of an encoder that
    /// is frozen as a whole.
    pub followed: Vec<(String, Var)>,
    /// A digest of all that are not trained, as they were at the beginning.
    pub frozen: String,
    /// The encoder, frozen as a whole, where clips come as videos.
    pub encoder: Option<Engine>,
    weights: Arc<Weights>,
}

impl Weights {
    /// A digest of the tensors whose names begin so, read one at a time.
    fn digest(&self, prefix: &str, known: &OnceLock<String>) -> Result<String, Error> {
        if let Some(digest) = known.get() {
            return Ok(digest.clone());
        }
        let file = self.checkpoint.weights();
        let mut identity = Identity::new("tensors", 1);
        for name in file.names().iter().filter(|n| n.starts_with(prefix)) {
            identity.tensor(name, &file.load(name, &Device::Cpu)?)?;
        }
        Ok(known.get_or_init(|| identity.finish()).clone())
    }

    fn encoder_digest(&self) -> Result<String, Error> {
        self.digest(ENCODER, &self.encoder)
    }
}

impl Start {
    /// Encoder and decoder of a checkpoint. Its calibration, and the confidence that it asks
    /// for, were measured on what it answers now, and are left out.
    pub fn of(checkpoint: Checkpoint) -> Self {
        let mut config = checkpoint.config().clone();
        let left_out = config.take_measured();
        Self {
            config,
            keeps_decoder: true,
            left_out,
            weights: Arc::new(Weights {
                checkpoint,
                encoder: OnceLock::new(),
                decoder: OnceLock::new(),
            }),
        }
    }

    /// Encoder and decoder of a checkpoint folder of ours.
    ///
    /// # Errors
    /// Names the file and the field at fault.
    pub fn checkpoint(folder: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self::of(Checkpoint::open_ours(folder)?))
    }

    /// The same encoder; a decoder of this structure, for these classes and action units
    /// (none: no such task), drawn from the run's seed.
    ///
    /// # Errors
    /// Names the field at fault.
    pub fn with_decoder(
        &self,
        structure: Structure,
        classes: &[String],
        units: &[String],
    ) -> Result<Self, Error> {
        let mut config = self.config.clone();
        let tasks = ModelConfig::new(config.encoder.clone(), structure, classes.to_vec())
            .with_action_units(units.to_vec());
        let before = config.decoder.structure;
        if before != structure && !(before.has_stages() && structure.has_stages()) {
            // Sizes of one say nothing of the other's.
            config.decoder = suited_decoder(tasks.decoder.clone());
        }
        config.decoder.structure = structure;
        if structure.kind() != Some(Kind::Vit) {
            // It has no keys and values to order.
            config.decoder.kv_order = KvOrder::default();
        }
        if structure != Structure::SingleTask {
            // What a published classifier has before its linear layer.
            config.decoder.pool = tasks.decoder.pool;
            config.decoder.pooled_norm = tasks.decoder.pooled_norm;
        }
        config.decoder.tasks = tasks.decoder.tasks;
        config.classes = classes.to_vec();
        config.action_units = units.to_vec();
        config.validate()?;
        Ok(Self {
            weights: self.weights.clone(),
            config,
            keeps_decoder: false,
            left_out: self.left_out.clone(),
        })
    }

    /// The number of parameters of the checkpoint, encoder and decoder.
    pub(crate) fn parameters(&self) -> usize {
        let file = self.weights.checkpoint.weights();
        let names = file.names().into_iter();
        names
            .filter_map(|name| Some(file.shape(&name)?.iter().product::<usize>()))
            .sum()
    }

    /// The model's config.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What of the checkpoint's config does not hold once it is trained, in words.
    pub(crate) fn left_out(&self) -> Option<String> {
        let fields = self.left_out.join("` and `");
        (!fields.is_empty()).then(|| {
            format!(
                "`{fields}` of the checkpoint's config was measured before this training, and is \
                 left out: `mtcae calibrate` measures it anew"
            )
        })
    }

    /// Whether the model takes one view of each clip, as training does.
    ///
    /// # Errors
    /// Names the field of the config that says otherwise, and what would be right.
    pub fn check(&self) -> Result<(), Error> {
        one_view(&self.config)
    }

    /// The encoder as it is, on a device.
    pub(crate) fn engine(&self, config: &TrainConfig, device: &Device) -> Result<Engine, Error> {
        Ok(self.weights.checkpoint.encoder(device, config.precision)?)
    }

    /// A digest of the encoder's weights; it is taken once.
    pub(crate) fn encoder_digest(&self) -> Result<String, Error> {
        self.weights.encoder_digest()
    }

    /// A digest of all weights that are kept; it is taken once.
    pub(crate) fn digest(&self) -> Result<String, Error> {
        let encoder = self.encoder_digest()?;
        Ok(match self.keeps_decoder {
            true => encoder + &self.weights.digest("decoder.", &self.weights.decoder)?,
            false => encoder,
        })
    }

    /// Reads and draws the weights. An encoder that is frozen as a whole is read where
    /// clips come as videos, and not where features are `cached`.
    ///
    /// # Errors
    /// Names the setting that the encoder does not have, or the tensor that cannot be
    /// read.
    pub fn build(
        &self,
        config: &TrainConfig,
        cached: bool,
        device: &Device,
    ) -> Result<Started, Error> {
        let fault = |field, reason| Error::Config { field, reason };
        let depth = self.config.encoder.depth();
        if let Tune::Last(n) = config.tune
            && !(1..=depth).contains(&n)
        {
            let reason = format!("last:{n}, but the encoder has {depth} blocks");
            return Err(fault("tune", reason));
        }
        let mut model = self.config.clone();
        model.decoder.drop_path = config.drop_path;
        let frozen = config.tune == Tune::Decoder;
        // An encoder that is frozen as a whole is not disturbed, nor one that knows none.
        let rate = if frozen { 0.0 } else { config.drop_path };
        if let Some(encoder) = model.encoder.with_drop_path(rate) {
            model.encoder = encoder;
        }
        let store = ParamStore::new(config.seed);
        let weights = self.weights.checkpoint.weights();
        for name in weights.names() {
            let kept = match name.starts_with(ENCODER) {
                true => !frozen,
                false => self.keeps_decoder,
            };
            if kept {
                store.set(&name, &weights.load(&name, device)?)?;
            }
        }
        let places = places(&*model.encoder);
        let tune = config.tune;
        // What F does not depend on stays as it is.
        let follows: BTreeSet<String> = places
            .iter()
            .filter(|(_, place)| place.follows)
            .map(|(name, _)| name.clone())
            .collect();
        let is_frozen = move |name: &str| match (tune, places.get(name)) {
            (Tune::Last(n), Some(place)) => !place.used || place.depth <= depth - n,
            (_, Some(place)) => !place.used,
            (_, None) => false,
        };
        let is_frozen = Arc::new(is_frozen);
        let asked = is_frozen.clone();
        let vb = store.builder_with_frozen(device, move |name| asked(name));
        let (model, encoder) = match frozen {
            false => (Mtcae::new(&model, vb)?, None),
            true => {
                let model = Mtcae::without_encoder(&model, vb)?;
                let encoder = match cached {
                    true => None,
                    false => Some(self.engine(config, device)?),
                };
                (model, encoder)
            }
        };
        let (rest, trained): (Vec<_>, Vec<_>) = store
            .vars()
            .into_iter()
            .partition(|(name, _)| is_frozen(name));
        let frozen = match frozen {
            true => self.encoder_digest()?,
            false => digest::tensors(rest.iter().map(|(n, v)| (n.as_str(), v.as_tensor())))?,
        };
        let followed = rest.into_iter().filter(|(name, _)| follows.contains(name));
        Ok(Started {
            model,
            store,
            trained,
            followed: followed.collect(),
            frozen,
            encoder,
            weights: self.weights.clone(),
        })
    }
}

impl Started {
    /// The model as it is now, for inference on its device.
    ///
    /// # Errors
    /// When the device has no room for it.
    pub fn engine(&self, config: &TrainConfig, device: &Device) -> Result<Engine, Error> {
        Ok(match &self.encoder {
            Some(encoder) => encoder.with_decoder_of(&self.model)?,
            None => Engine::of(&self.model, device, config.precision)?,
        })
    }

    /// Writes the model as a checkpoint folder, which says what it was trained on: the
    /// training and validation clips of a split. Gives the config that it wrote.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn save(
        &self,
        folder: &Path,
        data: &Dataset,
        split: &Split,
        held_out: Option<u32>,
    ) -> Result<ModelConfig, Error> {
        // Validation chooses weights and settings: those people are no strangers either.
        let seen = [&split.train[..], &split.validation].concat();
        let start = self.model.config();
        let config = ModelConfig {
            trained_on: Some(data.in_words(held_out, &split.train)),
            trained_subjects: Some(trained_subjects(start, self.salt()?, &data.people(&seen))),
            ..start.clone()
        };
        let mut tensors: BTreeMap<String, Tensor> = self
            .store
            .vars()
            .into_iter()
            .map(|(name, var)| (name, var.as_tensor().clone()))
            .collect();
        if self.model.encoder().is_none() {
            let file = self.weights.checkpoint.weights();
            for name in file.names().into_iter().filter(|n| n.starts_with(ENCODER)) {
                let tensor = file.load(&name, &Device::Cpu)?;
                tensors.insert(name, tensor);
            }
        }
        let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        checkpoint::save(folder, &config, tensors)?;
        Ok(config)
    }

    /// A salt that no other model has, and that a run which is resumed has again: of its
    /// weights.
    fn salt(&self) -> Result<[u8; 16], Error> {
        let trained = self.trained.iter();
        let weights = digest::tensors(trained.map(|(n, v)| (n.as_str(), v.as_tensor())))?;
        let mut identity = Identity::new("salt", 1);
        Ok(identity.text(&self.frozen).text(&weights).first())
    }
}

/// Where a parameter of the encoder is, as its family says.
struct Place {
    depth: usize,
    rate_depth: usize,
    decays: bool,
    used: bool,
    follows: bool,
}

/// Of each parameter of the encoder, by its name in the model.
fn places(encoder: &dyn EncoderConfig) -> BTreeMap<String, Place> {
    let groups = encoder.groups().into_iter();
    groups
        .flat_map(|group| {
            let (depth, rate_depth) = (group.depth, group.rate_depth);
            let place = move |p: Parameter| {
                let place = Place {
                    depth,
                    rate_depth,
                    decays: p.decays,
                    used: p.used,
                    follows: p.follows,
                };
                (format!("{ENCODER}{}", p.name), place)
            };
            group.parameters.into_iter().map(place)
        })
        .collect()
}

/// Learning rate factor and weight decay of each parameter: layer-wise decay as BEiT and
/// VideoMAE count it, the decoder being the top, and the encoder's own factor; biases, norms and positions are not
/// decayed unless the config says so.
pub fn group(encoder: &dyn EncoderConfig, config: &TrainConfig) -> impl Fn(&str, &Var) -> Group {
    let (places, top) = (places(encoder), encoder.depth() + 1);
    let (layer_decay, weight_decay) = (config.layer_decay, config.weight_decay);
    let (all_decay, encoder_lr) = (config.decay_norms, config.encoder_lr);
    move |name, var| {
        let (depth, decays, factor) = match places.get(name) {
            Some(place) => (place.rate_depth, place.decays, encoder_lr),
            None => (top, var.rank() > 1, 1.0),
        };
        Group {
            lr_scale: factor * layer_decay.powi(top.saturating_sub(depth) as i32),
            weight_decay: match (decays || all_decay) && !name.starts_with(LEARNED) {
                true => weight_decay,
                false => 0.0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use mtcae_model::encoder::{Families, Overrides};

    use super::*;

    #[test]
    fn layers_are_counted_as_their_families_do() {
        type Want = (&'static str, &'static str, usize, usize);
        let wanted: [Want; 8] = [
            ("videomae", "patch_embed.proj.weight", 0, 0),
            ("videomae", "blocks.0.norm1.weight", 1, 1),
            ("videomae", "blocks.11.mlp.fc2.bias", 12, 12),
            ("videomae", "norm.weight", 13, 13),
            // MAE-DFER: 17 − id, region tokens at the full rate.
            ("lgi-former", "lg_region_tokens", 0, 17),
            ("lgi-former", "blocks.15.third_attn.q.bias", 16, 16),
            // SVFAP: 22 − id, down-sampling at the full rate.
            ("tpsbt", "temporal_downsamples.0.weight", 13, 22),
            ("tpsbt", "blocks.20.cross_norm2.bias", 21, 21),
        ];
        for (family, name, depth, rate_depth) in wanted {
            let config = Families::preset(family, "base", &Overrides::default());
            let places = places(&**config.as_ref().expect("a preset"));
            let place = &places[&format!("encoder.{name}")];
            assert_eq!(
                (place.depth, place.rate_depth),
                (depth, rate_depth),
                "{name}"
            );
            assert!(!places.contains_key("decoder.stages.face_box.dense.weight"));
        }
    }
}
