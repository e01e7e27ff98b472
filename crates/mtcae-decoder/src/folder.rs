//! A decoder as a folder: `config.json` and `model.safetensors`.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use mtcae_core::files::{self, At, FileError};
use mtcae_nn::weights::{self, CONFIG, TensorFile, WEIGHTS, compare, load_strict, shown};

use crate::{Config, Error, MultiTaskDecoder};

/// A hundred times what any config takes.
const LONGEST_CONFIG: u64 = 1 << 20;

impl MultiTaskDecoder {
    /// Writes the decoder into a folder, which is created if need be: its [`Config`] as
    /// `config.json`, its tensors as `f32` under their names in `model.safetensors`. Each
    /// file is written whole or not at all, the weights before the config.
    ///
    /// ```
    /// use mtcae_decoder::candle_core::Device;
    /// use mtcae_decoder::nn::ParamStore;
    /// use mtcae_decoder::{Config, MultiTaskDecoder, Task};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = std::env::temp_dir().join(format!("decoder-{}", std::process::id()));
    /// let config = Config {
    ///     depth: 1,
    ///     ..Config::cascade(96, vec![Task::new("age", 1), Task::new("mood", 5)])
    /// };
    /// let params = ParamStore::new(0);
    /// let decoder = MultiTaskDecoder::new(&config, params.builder(&Device::Cpu))?;
    /// decoder.save(&folder)?;
    /// let again = MultiTaskDecoder::load(&folder, &Device::Cpu)?;
    /// assert_eq!(again.config(), decoder.config());
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let tensors: Vec<(&str, Tensor)> = self
            .tensors()
            .iter()
            .map(|(name, tensor)| Ok((name.as_str(), tensor.to_dtype(DType::F32)?)))
            .collect::<candle_core::Result<_>>()?;
        let tensors = tensors.iter().map(|(name, tensor)| (*name, tensor));
        Ok(weights::save_folder(
            folder,
            self.config(),
            tensors,
            BTreeMap::new(),
        )?)
    }

    /// Reads a folder that [`Self::save`] wrote, for inference on `device`. To train on,
    /// build the decoder on a [`ParamStore`](crate::nn::ParamStore) and
    /// [`set`](crate::nn::ParamStore::set) its parameters to [`Self::tensors`].
    ///
    /// # Errors
    /// Names the file, and the field or every tensor that is missing, unexpected or of
    /// another shape than the config's, before any of them is read.
    pub fn load(folder: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let folder = folder.as_ref();
        let path = folder.join(CONFIG);
        let text = files::read_to_string(&path, LONGEST_CONFIG).at(&path)?;
        let fault = |reason: String| Error::File(FileError::new(&path, shown(&reason)));
        let config: Config = serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
        let wanted = config.tensors().map_err(|e| fault(e.to_string()))?;
        let weights = TensorFile::open(folder.join(WEIGHTS))?;
        compare(&weights, wanted)?;
        load_strict(&weights, device, |vb| Self::new(&config, vb))
    }
}
