//! Checkpoint folders: `config.json` and `model.safetensors`, as described in
//! `docs/checkpoint-format.md`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use mtcae_core::files::{self, At, FileError};
use mtcae_core::{Crop, Resize, Sampling};
use mtcae_encoder::{Families, masked};
pub use mtcae_nn::weights::{CONFIG, WEIGHTS};
use mtcae_nn::weights::{
    InMemory, Source, TensorFile, compare, load_strict_as, save_folder, shown,
};
use serde::Deserialize;

use crate::card;
use crate::identity::hashes;
use crate::published::{Given, Published};
use crate::{Config, Engine, Error, Identity, Mtcae, Precision, Preprocessing, TrainedSubjects};

/// Weights in folders of others alone.
const TORCH_WEIGHTS: &str = "pytorch_model.bin";

/// A hundred times what any config takes.
const LONGEST_CONFIG: u64 = 4 << 20;

/// Where a checkpoint is.
enum Place {
    /// A folder; of a file of others, the file.
    Path(PathBuf),
    /// Inside the program: the SHA-256 of what would be its files.
    Inside(BTreeMap<String, String>),
}

/// An opened checkpoint. Config and weights fit each other; no weight is read yet.
pub struct Checkpoint {
    place: Place,
    config: Config,
    weights: Box<dyn Source>,
    notes: Vec<String>,
}

impl Checkpoint {
    /// Opens a folder of ours, or a classifier that others published, whose encoder is of
    /// a family of `mtcae-encoder`.
    ///
    /// # Errors
    /// Names the file, and the field or every tensor at fault.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, &Families::default())
    }

    /// As [`Self::open`], with the families that other crates handed over.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(path: impl AsRef<Path>, families: &Families) -> Result<Self, Error> {
        Self::open_given(path, families, &Given::default())
    }

    /// As [`Self::open_with`], with what a file of others does not say.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::Classes`] where the classes of a published classifier
    /// are not named, and [`Error::Ours`] where a model of ours is given what it says itself.
    pub fn open_given(
        path: impl AsRef<Path>,
        families: &Families,
        given: &Given,
    ) -> Result<Self, Error> {
        let path = folder_of(path.as_ref());
        let metadata = path.metadata().at(path)?;
        let config = path.join(CONFIG);
        let is_of_others = match config.is_file() {
            true => is_of_others(&read(&config)?),
            // A folder of a training run has no weights of its own.
            false => metadata.is_file() || path.join(TORCH_WEIGHTS).is_file(),
        };
        if is_of_others {
            let found = Published::open(path, families, given)?;
            return Ok(Self {
                place: Place::Path(path.to_owned()),
                config: found.config,
                weights: Box::new(found.weights),
                notes: found.notes,
            });
        }
        let opened = Self::open_folder(path, families)?;
        match given.is_empty() {
            true => Ok(opened),
            false => Err(Error::Ours {
                path: path.to_owned(),
            }),
        }
    }

    /// Opens a folder of ours, to be trained.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::NotOurs`] for a file or folder of others.
    pub fn open_ours(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder_of(folder.as_ref());
        let config = folder.join(CONFIG);
        let is_file = folder.metadata().at(folder)?.is_file();
        if is_file || (config.is_file() && is_of_others(&read(&config)?)) {
            return Err(Error::NotOurs {
                path: folder.to_owned(),
            });
        }
        Self::open_folder(folder, &Families::default())
    }

    fn open_folder(folder: &Path, families: &Families) -> Result<Self, Error> {
        let config = read_config(folder.join(CONFIG), families)?;
        let weights = TensorFile::open(folder.join(WEIGHTS))?;
        // Before memory is taken for what a config asks for and no file may hold.
        compare(&weights, config.tensors()?)?;
        Ok(Self {
            place: Place::Path(folder.to_owned()),
            config,
            weights: Box::new(weights),
            notes: Vec::new(),
        })
    }

    /// The same model, which sees other frames or another part of them than its config says.
    ///
    /// # Errors
    /// [`Error::Config`] for [`Sampling::All`], which is no clip.
    pub fn seeing(
        mut self,
        sampling: Option<Sampling>,
        resize: Option<Resize>,
    ) -> Result<Self, Error> {
        let seen = &mut self.config.preprocessing;
        seen.sampling = sampling.unwrap_or(seen.sampling);
        seen.resize = resize.unwrap_or(seen.resize);
        seen.validate()?;
        Ok(self)
    }

    /// The same model, which names a class only from another confidence on than its config
    /// says ([`Answers::least_confidence`](crate::Answers::least_confidence)); 0 for always.
    ///
    /// # Errors
    /// [`Error::Config`] for a confidence below 0, or of 1 and more.
    pub fn sure_from(mut self, least: f64) -> Result<Self, Error> {
        let asked = Some(least).filter(|v| *v != 0.0);
        if asked.is_some() || self.config.answers.is_some() {
            let answers = self.config.answers.get_or_insert_default();
            answers.least_confidence = asked;
            answers.validate()?;
        }
        Ok(self)
    }

    /// The same model, whose logits become probabilities as they are.
    #[must_use]
    pub fn uncalibrated(mut self) -> Self {
        self.config.calibration = None;
        self
    }

    /// The same weights, which look at another part of each frame.
    #[must_use]
    pub fn cropping(mut self, crop: Crop) -> Self {
        self.config.preprocessing.crop = crop;
        self
    }

    /// The model's config.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Opens a checkpoint that a program has inside: the text of its config and the content
    /// of its weights' file. Errors name it by `name`.
    ///
    /// # Errors
    /// Names the field or every tensor at fault.
    pub fn inside(name: &str, config: &str, weights: &[u8]) -> Result<Self, Error> {
        let files = BTreeMap::from([
            (CONFIG.to_owned(), files::sha256_of(config.as_bytes())),
            (WEIGHTS.to_owned(), files::sha256_of(weights)),
        ]);
        let config = Config::parse(config, &Families::default(), name)?;
        let tensors = candle_core::safetensors::load_buffer(weights, &Device::Cpu)?;
        let widened = tensors
            .into_iter()
            .map(|(name, t)| Ok((name, t.to_dtype(DType::F32)?)));
        let weights = InMemory::new(name, widened.collect::<candle_core::Result<Vec<_>>>()?);
        compare(&weights, config.tensors()?)?;
        Ok(Self {
            place: Place::Inside(files),
            config,
            weights: Box::new(weights),
            notes: Vec::new(),
        })
    }

    /// The folder that it was opened in; of a file of others, the file. `None` where a
    /// program has it inside.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Path(path) => Some(path),
            Place::Inside(_) => None,
        }
    }

    /// Which model it is, called `name`. Its files are read for it, which takes about a second
    /// a gigabyte.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn identity(&self, name: &str) -> Result<Identity, Error> {
        Ok(Identity {
            name: name.to_owned(),
            files: match &self.place {
                Place::Path(path) => hashes(path)?,
                Place::Inside(files) => files.clone(),
            },
            trained_on: self.config.trained_on.clone(),
        })
    }

    /// The tensors, under the names of [`Config::tensors`].
    pub fn weights(&self) -> &dyn Source {
        &*self.weights
    }

    /// What a file of others leaves unsaid, and what of it is not used; a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Loads the model onto a device, as `f32`.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn model(&self, device: &Device) -> Result<Mtcae, Error> {
        self.model_as(device, DType::F32)
    }

    /// As [`Self::model`], with weights rounded to a type; those of norms stay `f32`.
    ///
    /// # Errors
    /// As [`Self::model`].
    pub fn model_as(&self, device: &Device, dtype: DType) -> Result<Mtcae, Error> {
        load_strict_as(&*self.weights, device, dtype, |vb| {
            Mtcae::new(&self.config, vb)
        })
    }

    /// Loads the encoder alone, as [`Self::engine`] loads it.
    ///
    /// # Errors
    /// As [`Self::engine`].
    pub fn encoder(&self, device: &Device, precision: Precision) -> Result<Engine, Error> {
        Engine::load_encoder(&self.config, &*self.weights, device, precision)
    }

    /// Loads the model for inference on a device: on the CPU packed as it is read, so
    /// that the weights are held once; elsewhere rounded to the precision, but for those
    /// of norms.
    ///
    /// # Errors
    /// As [`Self::model`], or names what the device lacks for the precision.
    pub fn engine(&self, device: &Device, precision: Precision) -> Result<Engine, Error> {
        Engine::load(&self.config, &*self.weights, device, precision)
    }
}

/// Reads and checks a config, whose encoder is of one of `families`.
///
/// # Errors
/// Names the file and the field at fault.
pub fn read_config(path: impl AsRef<Path>, families: &Families) -> Result<Config, Error> {
    let path = path.as_ref();
    let text = read(path)?;
    Config::parse(&text, families, &path.display().to_string()).map_err(|e| {
        match (foreign(path, &text), e) {
            (Some(foreign), _) => foreign,
            (None, e @ (Error::Json { .. } | Error::Encoder(_))) => e,
            (None, e) => Error::In {
                path: path.to_owned(),
                source: Box::new(e),
            },
        }
    })
}

/// Reads and checks the preprocessing of a config, which may be one of another model or
/// of an encoder alone; `None` where it says nothing of it.
///
/// # Errors
/// Names the file and the field at fault.
pub fn read_preprocessing(path: impl AsRef<Path>) -> Result<Option<Preprocessing>, Error> {
    let path = path.as_ref();
    let text = read(path)?;
    let Part { preprocessing } = serde_json::from_str(&text).map_err(|e| Error::Json {
        origin: path.display().to_string(),
        reason: shown(&e.to_string()),
    })?;
    if let Some(given) = &preprocessing {
        given.validate().map_err(|e| Error::In {
            path: path.to_owned(),
            source: Box::new(e),
        })?;
    }
    Ok(preprocessing)
}

/// What a config of masked pre-training says of its weights' training; `None` for one of
/// another kind.
pub(crate) fn read_pretraining(path: &Path) -> Result<Option<Training>, Error> {
    let text = read(path)?;
    if !is_masked(&text) {
        return Ok(None);
    }
    let training = serde_json::from_str(&text).map_err(|e| Error::Json {
        origin: path.display().to_string(),
        reason: shown(&e.to_string()),
    })?;
    Ok(Some(training))
}

/// What [`read_pretraining`] reads of a config.
#[derive(Deserialize)]
pub(crate) struct Training {
    pub(crate) trained_on: Option<String>,
    pub(crate) trained_subjects: Option<TrainedSubjects>,
}

/// What [`read_preprocessing`] reads of a config.
#[derive(Deserialize)]
struct Part {
    preprocessing: Option<Preprocessing>,
}

fn read(path: &Path) -> Result<String, Error> {
    files::read_to_string(path, LONGEST_CONFIG).map_err(|source| {
        let elsewhere = match source.kind() {
            ErrorKind::NotFound => elsewhere(path),
            _ => None,
        };
        elsewhere.unwrap_or_else(|| {
            Error::File(FileError {
                path: path.to_owned(),
                reason: source,
            })
        })
    })
}

/// Where the folder of a config that is not there is one of a training run, whose
/// model lies in a folder of its own.
fn elsewhere(config: &Path) -> Option<Error> {
    let folder = config.parent()?;
    let model = folder.join("model");
    let there = config.file_name()? == CONFIG && model.join(CONFIG).is_file();
    there.then(|| Error::TrainingRun {
        folder: folder.to_owned(),
        model,
    })
}

/// Where a config that is none of ours is one of Hugging Face's, or of masked pre-training.
fn foreign(path: &Path, text: &str) -> Option<Error> {
    if is_masked(text) {
        return Some(Error::Masked {
            path: path.to_owned(),
        });
    }
    let model_type = model_type(text)?;
    Some(Error::HuggingFace {
        path: path.to_owned(),
        model_type,
    })
}

/// The folder of a checkpoint by this path: of a file that bears one of a folder's names,
/// its own.
fn folder_of(path: &Path) -> &Path {
    let name = path.file_name().and_then(|name| name.to_str());
    match (name, path.parent()) {
        (Some(CONFIG | WEIGHTS), Some(folder)) if path.is_file() => folder,
        _ => path,
    }
}

/// Whether the text of a config is one of Hugging Face's.
fn is_of_others(text: &str) -> bool {
    model_type(text).is_some()
}

/// Whether the text of a config is one of masked pre-training.
fn is_masked(text: &str) -> bool {
    let config: Option<serde_json::Value> = serde_json::from_str(text).ok();
    config.is_some_and(|config| config.get("format").is_some_and(|f| f == masked::FORMAT))
}

fn model_type(text: &str) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(text).ok()?;
    let model_type = config.get("model_type")?.as_str()?;
    config.get("format").is_none().then(|| shown(model_type))
}

/// Writes a checkpoint folder, which is created if need be, with a [card]. Each file is
/// written atomically, the weights before the config.
///
/// # Errors
/// When the config cannot be used, or names the file that cannot be written.
pub fn save<'a>(
    folder: impl AsRef<Path>,
    config: &Config,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<(), Error> {
    config.validate()?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let folder = folder.as_ref();
    save_folder(folder, config, tensors, metadata)?;
    // What was measured of weights that were here before says nothing of these.
    card::write(folder, config, &[])
}
