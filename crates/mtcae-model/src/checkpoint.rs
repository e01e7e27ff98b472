//! Checkpoint folders: `config.json` and `model.safetensors`, as described in
//! `docs/checkpoint-format.md`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use mtcae_core::files;
use mtcae_nn::Unsupported;
use mtcae_nn::weights::{
    TensorFile, compare, load_strict, load_strict_as, save as save_tensors, shown,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Config, Error, InferencePlan, Mtcae, Precision, Preprocessing};

/// The config's file name.
pub const CONFIG: &str = "config.json";
/// The weights' file name.
pub const WEIGHTS: &str = "model.safetensors";

/// A hundred times what any config takes.
const LONGEST_CONFIG: u64 = 4 << 20;

/// Reads and checks the config of a checkpoint folder.
///
/// # Errors
/// Names the file and the field at fault.
pub fn load_config(folder: impl AsRef<Path>) -> Result<Config, Error> {
    read_config(folder.as_ref().join(CONFIG))
}

/// Reads and checks a config.
///
/// # Errors
/// Names the file and the field at fault.
pub fn read_config(path: impl AsRef<Path>) -> Result<Config, Error> {
    let path = path.as_ref();
    let config: Config = parse(path)?;
    config.validate().map_err(|e| Error::In {
        path: path.to_owned(),
        source: Box::new(e),
    })?;
    Ok(config)
}

/// Reads and checks the preprocessing of a config, which may be one of another model or
/// of an encoder alone; `None` where it says nothing of it.
///
/// # Errors
/// Names the file and the field at fault.
pub fn read_preprocessing(path: impl AsRef<Path>) -> Result<Option<Preprocessing>, Error> {
    let path = path.as_ref();
    let Part { preprocessing } = parse(path)?;
    if let Some(given) = &preprocessing {
        given.validate().map_err(|e| Error::In {
            path: path.to_owned(),
            source: Box::new(e),
        })?;
    }
    Ok(preprocessing)
}

/// What [`read_preprocessing`] reads of a config.
#[derive(Deserialize)]
struct Part {
    preprocessing: Option<Preprocessing>,
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let text = match files::read_to_string(path, LONGEST_CONFIG) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(elsewhere(path).unwrap_or_else(|| io(error)));
        }
        text => text.map_err(io)?,
    };
    serde_json::from_str(&text).map_err(|e| match foreign(path, &text) {
        Some(error) => error,
        None => Error::Json {
            path: path.to_owned(),
            reason: shown(&e.to_string()),
        },
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

/// Where a config that is none of ours is one of Hugging Face's.
fn foreign(path: &Path, text: &str) -> Option<Error> {
    let config: serde_json::Value = serde_json::from_str(text).ok()?;
    let model_type = config.get("model_type")?.as_str()?;
    config.get("format").is_none().then(|| Error::HuggingFace {
        path: path.to_owned(),
        model_type: shown(model_type),
    })
}

/// Loads the model of a checkpoint folder onto a device, as `f32`.
///
/// # Errors
/// Names the file, and the field or every tensor at fault.
pub fn load(folder: impl AsRef<Path>, device: &Device) -> Result<Mtcae, Error> {
    load_as(folder, device, DType::F32)
}

/// As [`load`], with weights rounded to a type; those of norms stay `f32`. For
/// inference on a GPU in bf16, which then need not round them for every clip.
///
/// # Errors
/// As [`load`], and [`Error::Precision`] for another type than `f32` on the CPU, where
/// [`load_plan`] is what computes in bf16.
pub fn load_as(folder: impl AsRef<Path>, device: &Device, dtype: DType) -> Result<Mtcae, Error> {
    let folder = folder.as_ref();
    if device.is_cpu() && dtype != DType::F32 {
        return Err(Unsupported::OnCpu(dtype).into());
    }
    let (config, weights) = open(folder)?;
    load_strict_as(&weights, device, dtype, |vb| Mtcae::new(&config, vb))
}

/// Loads the model of a checkpoint folder for inference on the CPU. Tensors are
/// packed as they are read, so that the weights are held once.
///
/// # Errors
/// As [`load`], and [`Error::Precision`] where the CPU lacks what the precision
/// needs.
pub fn load_plan(folder: impl AsRef<Path>, precision: Precision) -> Result<InferencePlan, Error> {
    let folder = folder.as_ref();
    mtcae_nn::plan::format(precision)?;
    let (config, weights) = open(folder)?;
    load_strict(&weights, &Device::Cpu, |vb| {
        InferencePlan::new(&config, precision, vb)
    })
}

/// Config and weights of a folder, which fit each other. What does not is refused here,
/// before memory is had for what a config asks for and no file may hold.
fn open(folder: &Path) -> Result<(Config, TensorFile), Error> {
    let config = load_config(folder)?;
    let weights = TensorFile::open(folder.join(WEIGHTS))?;
    compare(&weights, config.tensors()?)?;
    Ok((config, weights))
}

/// Writes a checkpoint folder, which is created if need be. Each file is written
/// atomically, the weights before the config.
///
/// # Errors
/// When the config cannot be used, or names the file that cannot be written.
pub fn save<'a>(
    folder: impl AsRef<Path>,
    config: &Config,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<(), Error> {
    let folder = folder.as_ref();
    config.validate()?;
    std::fs::create_dir_all(folder).map_err(|source| Error::Io {
        path: folder.to_owned(),
        source,
    })?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    save_tensors(folder.join(WEIGHTS), tensors, metadata)?;
    let path = folder.join(CONFIG);
    let json = serde_json::to_string_pretty(config).map_err(|e| Error::Json {
        path: path.clone(),
        reason: e.to_string(),
    })?;
    files::write_atomically(&path, |temporary| {
        let mut file = std::fs::File::create(temporary)?;
        writeln!(file, "{json}")
    })
    .map_err(|source| Error::Io { path, source })
}
