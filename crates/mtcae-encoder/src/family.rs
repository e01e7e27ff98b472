//! Which families of encoders there are, and how their configs are read.

use std::collections::BTreeMap;

use mtcae_nn::weights::shown;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::lgi_former::{self, LgiFormerConfig};
use crate::published::{Overrides, Published};
use crate::release::Released;
use crate::resnet::{self, ResNetConfig};
use crate::seam::{Config, EncoderConfig};
use crate::sizes::fault;
use crate::tpsbt::{self, TpsbtConfig};
use crate::videomae::{self, VideoMaeConfig};

/// One family of this crate.
struct Family {
    name: &'static str,
    /// Its configs, as they are read.
    read: Factory,
    /// Its encoders in the files of others.
    published: &'static dyn Published,
    /// Its sizes by name, the smallest first.
    presets: &'static [Preset],
}

/// A config by its name.
pub(crate) type Preset = (&'static str, fn() -> Config);

/// The families of this crate. Where the tensors of a file could be of several, the first
/// of them has it.
const FAMILIES: [Family; 4] = [
    Family {
        name: lgi_former::FAMILY,
        read: read::<LgiFormerConfig>,
        published: &Released::<lgi_former::MaeDfer>::NEW,
        presets: &lgi_former::PRESETS,
    },
    Family {
        name: tpsbt::FAMILY,
        read: read::<TpsbtConfig>,
        published: &Released::<tpsbt::Svfap>::NEW,
        presets: &tpsbt::PRESETS,
    },
    Family {
        name: videomae::FAMILY,
        read: read::<VideoMaeConfig>,
        published: &videomae::Spellings,
        presets: &videomae::PRESETS,
    },
    Family {
        name: resnet::FAMILY,
        read: read::<ResNetConfig>,
        published: &resnet::Spellings,
        presets: &resnet::PRESETS,
    },
];

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
        Self(FAMILIES.map(|family| (family.name, family.read)).into())
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

    /// The names of the families, and of the sizes that [`Self::preset`] knows.
    pub fn presets() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
        let sizes = |family: &Family| family.presets.iter().map(|(size, _)| *size).collect();
        FAMILIES
            .iter()
            .map(move |family| (family.name, sizes(family)))
    }

    /// The names of the families that know masked pre-training.
    pub fn pretrained() -> impl Iterator<Item = &'static str> {
        let knows = |family: &&Family| {
            let smallest = family.presets.first();
            smallest.is_some_and(|(_, preset)| preset().pretrained().is_some())
        };
        FAMILIES.iter().filter(knows).map(|family| family.name)
    }

    /// A family's encoder of a published size, with what is given in place of its own.
    ///
    /// # Errors
    /// [`Error::Field`] names the family or the size that there is not, or the field that
    /// does not fit.
    pub fn preset(family: &str, size: &str, given: &Overrides) -> Result<Config, Error> {
        let none = |field: &str, name: &str, of: &str, known: Vec<&str>| {
            let reason = format!("there is no {name:?}{of}; known: {}", known.join(", "));
            fault("encoder", field, shown(&reason))
        };
        let found = FAMILIES.iter().find(|known| known.name == family);
        let found = found.ok_or_else(|| {
            let known = Self::presets().map(|(name, _)| name).collect();
            none("family", family, "", known)
        })?;
        let preset = found.presets.iter().find(|(name, _)| *name == size);
        let (_, preset) = preset.ok_or_else(|| {
            let known = found.presets.iter().map(|(name, _)| *name).collect();
            none("size", size, &format!(" of the family {family}"), known)
        })?;
        let mut fields = match preset().fields() {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        fields.extend(given.fields());
        fields.insert("family".to_owned(), family.into());
        Self::default().read(fields, "encoder")
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
    FAMILIES.iter().map(|family| family.published)
}

fn read<C: EncoderConfig + DeserializeOwned>(fields: Value) -> serde_json::Result<Config> {
    Ok(serde_json::from_value::<C>(fields)?.into())
}
