//! Weights that are drawn, once for all sections, and the folder where they lie.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, safetensors};
use mtcae_kernels::cuda::checks::splitmix;
use mtcae_model::{Checkpoint, Config, checkpoint};
use mtcae_nn::ParamStore;
use rayon::prelude::*;

use crate::Fault;

/// Hard weights: biases that are not 0, norms that are not 1, and logits of attention
/// with a deviation of 2 and more, so that mistakes show.
pub fn draw(config: &Config, seed: u64) -> Result<Vec<(String, Tensor)>, Fault> {
    let tensors = config.tensors()?;
    tensors
        .into_iter()
        .enumerate()
        .map(|(i, (name, shape))| {
            let (scale, centre) = match shape[..] {
                [_] => {
                    let of_norm = name.ends_with("norm.weight")
                        || name.contains("norm1.w")
                        || name.contains("norm2.w");
                    (0.2, if of_norm { 1.0 } else { 0.0 })
                }
                [_, inputs, ..] => {
                    let of_logits = name.contains("attn.q") || name.contains("attn.kv");
                    let gain = if of_logits { 1.5 } else { 0.7 };
                    (gain / (inputs as f32).sqrt(), 0.0)
                }
                [] => (1.0, 0.0),
            };
            let n: usize = shape.iter().product();
            let of_this = splitmix(seed, i as u64);
            let values = (0..n as u64)
                .into_par_iter()
                .map(|k| centre + scale * bell(of_this, k))
                .collect::<Vec<f32>>();
            Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
        })
        .collect()
}

/// The k-th of numbers that are all but normal, with mean 0 and deviation 1: four numbers
/// of 16 bits, summed. No logarithms, as of hundreds of millions they take seconds.
pub fn bell(seed: u64, k: u64) -> f32 {
    let bits = splitmix(seed, k);
    let sum: u64 = (0..4).map(|i| (bits >> (16 * i)) & 0xffff).sum();
    // Four numbers of [0, 2¹⁶) have the mean 2·(2¹⁶ − 1) and the variance 2³²/3.
    (sum as f32 - 131_070.0) * (3.0f32.sqrt() / 65_536.0)
}

/// Parameters of these values on a device.
pub fn store(tensors: &[(String, Tensor)], device: &Device) -> Result<ParamStore, Fault> {
    let store = ParamStore::new(1);
    for (name, tensor) in tensors {
        store.set(name, &tensor.to_device(device)?)?;
    }
    Ok(store)
}

/// A checkpoint folder: one that was given, or one that is drawn and removed again.
pub struct Folder {
    path: PathBuf,
    drawn: bool,
}

impl Folder {
    /// That of `given`, if it holds a model of this config, else a new one.
    pub fn of(given: Option<&Path>, config: &Config) -> Result<Self, Fault> {
        if let Some(path) = given {
            let found = Checkpoint::open(path)?;
            if serde_json::to_value(found.config())? != serde_json::to_value(config)? {
                let path = path.display();
                return Err(format!("{path}: weights of a model of another size").into());
            }
            return Ok(Self {
                path: path.to_owned(),
                drawn: false,
            });
        }
        let path = std::env::temp_dir().join(format!("mtcae-gpu-{}", std::process::id()));
        let folder = Self { path, drawn: true };
        save(folder.path(), config, &draw(config, 1)?)?;
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Parameters on a device.
    pub fn store(&self, device: &Device) -> Result<ParamStore, Fault> {
        let tensors = safetensors::load(self.path.join("model.safetensors"), device)?;
        let store = ParamStore::new(1);
        for (name, tensor) in tensors {
            store.set(&name, &tensor)?;
        }
        Ok(store)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.drawn {
            // Left behind, it is the temporary folder's.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Writes a checkpoint folder.
pub fn save(to: &Path, config: &Config, tensors: &[(String, Tensor)]) -> Result<(), Fault> {
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    Ok(checkpoint::save(to, config, named)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_have_mean_0_and_deviation_1_and_depend_on_the_seed() {
        let of = |seed| {
            (0..100_000)
                .map(|k| f64::from(bell(seed, k)))
                .collect::<Vec<_>>()
        };
        let values = of(3);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let square = values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64;
        assert!(
            mean.abs() < 0.01 && (square - 1.0).abs() < 0.02,
            "{mean} {square}"
        );
        assert_ne!(values[..10], of(4)[..10]);
    }

    #[test]
    fn weights_that_are_given_must_be_of_the_model() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = crate::Size::Tiny.config();
        save(folder.path(), &config, &draw(&config, 1).expect("drawn")).expect("saved");
        let given = Folder::of(Some(folder.path()), &config).expect("they fit");
        let vars = given.store(&Device::Cpu).expect("loaded").vars();
        assert_eq!(vars.len(), config.tensors().expect("valid").len());
        drop(given);
        assert!(folder.path().join("config.json").exists());
        let other = crate::Size::Small.config();
        let error = Folder::of(Some(folder.path()), &other)
            .err()
            .expect("another size");
        assert!(error.to_string().contains("another size"), "{error}");
        let drawn = Folder::of(None, &config).expect("drawn");
        let path = drawn.path().to_owned();
        assert!(path.exists());
        drop(drawn);
        assert!(!path.exists());
    }
}
