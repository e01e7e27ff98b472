//! Where a pre-training begins, and what it leaves.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use mtcae_model::Preprocessing;
use mtcae_model::encoder::masked::{self, Masked, MaskedCheckpoint, MaskedConfig};
use mtcae_nn::ParamStore;
use mtcae_nn::optim::Group;
use serde_json::Map;

use crate::{Error, TrainConfig};

/// A model to pre-train: drawn from the run's seed, or of a checkpoint.
#[derive(Clone)]
pub struct MaskedStart {
    config: MaskedConfig,
    weights: Option<Arc<MaskedCheckpoint>>,
}

impl MaskedStart {
    /// One whose weights are drawn.
    ///
    /// # Errors
    /// Names the field that does not fit.
    pub fn random(config: MaskedConfig) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self {
            config,
            weights: None,
        })
    }

    /// One that was pre-trained before, here or elsewhere.
    ///
    /// # Errors
    /// Names every tensor that is missing, unexpected or of another shape.
    pub fn of(checkpoint: MaskedCheckpoint) -> Result<Self, Error> {
        checkpoint.check()?;
        Ok(Self {
            config: checkpoint.config.clone(),
            weights: Some(Arc::new(checkpoint)),
        })
    }

    /// The same under masks of another share of a clip's places.
    ///
    /// # Errors
    /// When such masks leave nothing to see or nothing to predict.
    pub fn with_mask_ratio(mut self, ratio: f64) -> Result<Self, Error> {
        self.config.mask = self.config.mask.with_ratio(ratio);
        self.config.validate()?;
        Ok(self)
    }

    /// The model's config.
    pub fn config(&self) -> &MaskedConfig {
        &self.config
    }

    /// Reads or draws the weights.
    ///
    /// # Errors
    /// Names the tensor that cannot be read, or the setting that the encoder does not have.
    pub(super) fn build(
        &self,
        config: &TrainConfig,
        device: &Device,
    ) -> Result<(Masked, ParamStore), Error> {
        let store = ParamStore::new(config.seed);
        if let Some(weights) = &self.weights {
            weights.take(&store)?;
        }
        let model = masked::draw(&self.config, &store, device)?;
        Ok((model, store))
    }
}

/// Learning rate factor and weight decay of each parameter: biases, norms and tokens are not
/// decayed unless the config says so.
pub(super) fn group(model: &MaskedConfig, config: &TrainConfig) -> impl Fn(&str, &Var) -> Group {
    let groups = model.groups().into_iter();
    let all = groups.flat_map(|group| group.parameters);
    let decays: BTreeMap<String, bool> = all.map(|p| (p.name, p.decays)).collect();
    let (weight_decay, all_decay) = (config.weight_decay, config.decay_norms);
    move |name, var| {
        let decays = decays.get(name).copied().unwrap_or(var.rank() > 1);
        Group {
            lr_scale: 1.0,
            weight_decay: match decays || all_decay {
                true => weight_decay,
                false => 0.0,
            },
        }
    }
}

/// A pre-training that has come to its end.
pub struct Pretrained {
    pub(super) config: MaskedConfig,
    pub(super) store: ParamStore,
    /// The epoch whose weights are kept, from 0.
    pub epoch: usize,
    /// How many videos it was of.
    pub videos: usize,
}

impl Pretrained {
    /// Writes the model as a folder from which pre-training can go on, and whose encoder `init`
    /// takes.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        let vars = self.store.vars();
        let tensors = vars.iter().map(|(name, var)| (&name[..], var.as_tensor()));
        let preprocessing = Preprocessing {
            mean: self.config.mean,
            std: self.config.std,
            ..Preprocessing::default()
        };
        let described = serde_json::to_value(&preprocessing).map_err(|e| Error::Config {
            field: "preprocessing",
            reason: e.to_string(),
        })?;
        let more = Map::from_iter([("preprocessing".to_owned(), described)]);
        Ok(masked::save(folder, &self.config, more, tensors)?)
    }

    /// All parameters by their names.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let vars = self.store.vars().into_iter();
        vars.map(|(name, var)| (name, var.as_tensor().clone()))
            .collect()
    }
}
