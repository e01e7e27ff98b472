//! The state of a run on disk: all that is needed to go on to the bit.
//!
//! `state.safetensors` holds the trained weights (`weights/…`), the optimiser's averages
//! (`adamw/…` of both kinds of Adam, `sgd/…`) and the moving average of the weights (`ema/…`); its metadata say
//! where the run stood, what it is a run of, and a digest of the tensors. It is
//! written atomically. Random numbers need no state: see `random`.

use mtcae_core::files::{At, FileError};
use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use mtcae_nn::weights::{Source as _, TensorFile, save};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Clock;
use crate::{Error, TrainConfig, digest};

/// Who changes what identifies a run raises it.
const FORMAT: &str = "mtcae-train/2";
const KEY: &str = "mtcae-train";

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position<S> {
    /// Steps of the optimiser.
    pub step: u64,
    /// The epoch that the next step belongs to.
    pub epoch: usize,
    /// Steps of that epoch already taken.
    pub step_in_epoch: usize,
    /// Bytes of the log.
    pub log: u64,
    /// Bytes of the event file.
    #[serde(default)]
    pub events: u64,
    /// What the epoch has added up so far.
    pub sums: Tally<S>,
    /// Highest score on the validation clips so far, and its epoch.
    pub best: Option<(f64, usize)>,
}

/// Sums over clips, and the time that they took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally<S> {
    #[serde(flatten)]
    pub numbers: S,
    #[serde(flatten)]
    pub clock: Clock,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About<S> {
    format: String,
    /// What the run is of: configs, data, frozen weights.
    run: BTreeMap<String, String>,
    position: Position<S>,
    digest: String,
}

/// A state that was read.
pub struct State<S> {
    pub position: Position<S>,
    /// Of all its tensors.
    pub digest: String,
    tensors: TensorFile,
}

/// Writes a state.
pub fn write<S: Serialize + Clone>(
    path: &Path,
    run: &BTreeMap<String, String>,
    position: &Position<S>,
    tensors: &[(String, Tensor)],
) -> Result<(), Error> {
    let mut sorted: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
    sorted.sort_by_key(|(name, _)| *name);
    let about = About {
        format: FORMAT.to_owned(),
        run: run.clone(),
        position: position.clone(),
        digest: digest::tensors(sorted.iter().copied())?,
    };
    let json = serde_json::to_string(&about).at(path)?;
    save(path, sorted, BTreeMap::from([(KEY.to_owned(), json)]))?;
    Ok(())
}

/// Reads a state and makes sure that it is whole and one of this run.
pub fn read<S: DeserializeOwned>(
    path: &Path,
    run: &BTreeMap<String, String>,
) -> Result<State<S>, Error> {
    let fault = |reason: String| Error::File(FileError::new(path, reason));
    let tensors = TensorFile::open(path)?;
    let metadata = tensors.metadata();
    let json = metadata
        .get(KEY)
        .ok_or_else(|| fault("is not a saved state of a training run".to_owned()))?;
    let about: About<S> =
        serde_json::from_str(json).map_err(|e| fault(format!("its description is broken: {e}")))?;
    if about.format != FORMAT {
        return Err(fault(format!(
            "is of format {}, not {FORMAT}; go on with the version of this program that wrote \
             it, or take another folder",
            about.format
        )));
    }
    let differing: Vec<String> = run
        .iter()
        .filter_map(|(key, value)| {
            // Configs are kept as JSON; all else is a digest, which says nothing.
            let parse = |text: &String| serde_json::from_str::<Value>(text).ok();
            let found = about.run.get(key);
            let old = found.and_then(parse).map(|old| match key.as_str() {
                "config" => TrainConfig::of_before(&old),
                _ => old,
            });
            match (old, parse(value)) {
                (Some(old), Some(new)) => (old != new).then(|| differences(key, Some(&old), &new)),
                _ => (found != Some(value)).then(|| format!("other {key}")),
            }
        })
        .collect();
    if !differing.is_empty() {
        return Err(fault(format!(
            "belongs to another run ({}); go on with its settings or take another folder",
            differing.join("; ")
        )));
    }
    let names = tensors.names();
    let all: Vec<Tensor> = names
        .iter()
        .map(|name| tensors.load(name, &Device::Cpu))
        .collect::<Result<_, _>>()?;
    if digest::tensors(names.iter().map(String::as_str).zip(&all))? != about.digest {
        return Err(fault("is damaged: its digest is wrong".to_owned()));
    }
    Ok(State {
        position: about.position,
        digest: about.digest,
        tensors,
    })
}

impl<S> State<S> {
    /// A tensor of the state.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor, Error> {
        Ok(self.tensors.load(name, device)?)
    }
}

/// Where two values differ, by the names of the fields.
pub fn differences(key: &str, old: Option<&Value>, new: &Value) -> String {
    if let (Some(Value::Object(old)), Value::Object(new)) = (old, new) {
        let fields = new
            .iter()
            .filter(|(name, value)| old.get(*name) != Some(value));
        let fields = fields.map(|(name, value)| match old.get(name) {
            Some(was) if !was.is_object() => format!("{key}.{name} was {was}, is {value}"),
            _ => format!("{key}.{name}"),
        });
        return fields.collect::<Vec<_>>().join(", ");
    }
    let was = old.map_or("nothing".to_owned(), Value::to_string);
    format!("{key} was {was}, is {new}")
}
