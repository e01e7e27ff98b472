//! Which families of encoders there are, and how their configs are read.

use std::collections::BTreeMap;

use mtcae_nn::weights::shown;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::published::Published;
use crate::seam::{Config, EncoderConfig};
use crate::videomae::{self, VideoMaeConfig};

/// The families of this crate, each with its config and the files of others that hold
/// such encoders.
const FAMILIES: [(&str, Factory, &dyn Published); 1] = [(
    videomae::FAMILY,
    read::<VideoMaeConfig>,
    &videomae::Spellings,
)];

/// The family of configs that do not say, which are those of format version 1.
const FIRST: &str = videomae::FAMILY;

/// Makes a config of the fields of a `config.json`, an object without `family`.
pub type Factory = fn(Value) -> serde_json::Result<Config>;

/// The families that a program reads: those of this crate, and those whose factories
/// other crates hand over.
#[derive(Clone, Debug)]
pub struct Families(BTreeMap<&'static str, Factory>);

impl Default for Families {
    /// Those of this crate.
    fn default() -> Self {
        let own = FAMILIES.map(|(name, factory, _)| (name, factory));
        Self(own.into())
    }
}

impl Families {
    /// And one more, whose configs are read as a `C`; it takes the place of one of the
    /// same name.
    #[must_use]
    pub fn with<C: EncoderConfig + DeserializeOwned>(mut self, family: &'static str) -> Self {
        self.0.insert(family, read::<C>);
        self
    }

    /// Reads the encoder's part of a `config.json`. One without `family` is VideoMAE's, as
    /// format version 1 has it. `origin` says where it is from in messages.
    ///
    /// # Errors
    /// [`Error::Field`] names the family that is not known, or the field at fault.
    pub fn read(&self, mut fields: Map<String, Value>, origin: &str) -> Result<Config, Error> {
        let fault = |field: &str, reason: String| Error::Field {
            origin: origin.to_owned(),
            field: field.to_owned(),
            reason: shown(&reason),
        };
        let family = match fields.remove("family") {
            None => FIRST.to_owned(),
            Some(Value::String(family)) => family,
            Some(other) => {
                let reason = format!("should be the name of a family, not {other}");
                return Err(fault("encoder.family", reason));
            }
        };
        let Some(factory) = self.0.get(family.as_str()) else {
            let known: Vec<&str> = self.0.keys().copied().collect();
            let reason = format!(
                "unknown family {family:?}; this program knows: {}",
                known.join(", ")
            );
            return Err(fault("encoder.family", reason));
        };
        let config = factory(Value::Object(fields));
        let config = config.map_err(|e| fault("encoder", e.to_string()))?;
        if config.family() != family {
            let other = config.family();
            let reason = format!("is {family:?}, whose factory makes encoders of {other:?}");
            return Err(fault("encoder.family", reason));
        }
        match config.check() {
            // The file stands in front of the field.
            Err(Error::Field { field, reason, .. }) => Err(fault(&field, reason)),
            checked => checked.map(|()| config),
        }
    }
}

/// The files of others that hold encoders of this crate's families.
pub(crate) fn published() -> impl Iterator<Item = &'static dyn Published> {
    FAMILIES.iter().map(|(_, _, published)| *published)
}

fn read<C: EncoderConfig + DeserializeOwned>(fields: Value) -> serde_json::Result<Config> {
    Ok(serde_json::from_value::<C>(fields)?.into())
}
