//! Which systems are compared, and what is known of each: `systems.toml`, and files like it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use mtcae_core::files::{self, At, FileError};
use mtcae_core::{Crop, Sampling};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::Track;
use crate::{Error, Recipe, TrainConfig};

/// The systems of the paper's tables.
const KNOWN: &str = include_str!("systems.toml");
/// Bytes of the largest file of systems.
const LARGEST: u64 = 1 << 20;

/// How the figures of a system were come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Trained here, as its code or its paper has it.
    #[serde(rename = "re-trained")]
    Retrained,
    /// What is not published of it, or does not fit these tasks, is ours.
    Adapted,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retrained => "re-trained",
            Self::Adapted => "our adaptation",
        })
    }
}

/// In which sizes systems are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// Those of the papers.
    Full,
    /// Toys of less than five million parameters at 64², to compare by on a laptop.
    Small,
}

/// A system: an encoder and a decoder, and how they are trained.
#[derive(Clone, Debug, PartialEq)]
pub struct System {
    /// What it is asked for by, and its folder's name.
    pub name: String,
    /// Its name in tables.
    pub title: String,
    /// Family and size of its encoder, where no weights are given.
    pub encoder: Preset,
    /// The same at [`Size::Small`].
    pub small: Preset,
    /// Name of its decoder.
    pub decoder: String,
    /// Defaults of its settings.
    pub recipe: Recipe,
    /// What of the recipe is otherwise, by the names of [`crate::FIELDS`].
    pub settings: Table,
    /// A pretrained encoder: file, folder or `hub:ORG/NAME`.
    pub weights: Option<String>,
    /// How its figures were come by.
    pub status: Status,
    /// Its row in the paper's tables.
    pub published: Option<String>,
    /// Under which protocol that row was measured.
    pub under: Option<String>,
    /// What else must be known.
    pub note: Option<String>,
    /// What its own code shows it.
    pub native: Option<Native>,
}

/// An encoder by family and size, written `FAMILY:SIZE`, or with more to say of it
/// `{ preset = "FAMILY:SIZE", FIELD = … }`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Spelt")]
pub struct Preset {
    /// Its family.
    pub family: String,
    /// Its size by name.
    pub size: String,
    /// Fields of its config that are others than of that size.
    pub fields: Table,
}

/// A [`Preset`] as it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelt {
    Name(String),
    Table {
        preset: String,
        #[serde(flatten)]
        fields: Table,
    },
}

impl TryFrom<Spelt> for Preset {
    type Error = String;

    fn try_from(spelt: Spelt) -> Result<Self, String> {
        let (text, fields) = match spelt {
            Spelt::Name(name) => (name, Table::new()),
            Spelt::Table { preset, fields } => (preset, fields),
        };
        match text.split_once(':') {
            Some((family, size)) if !family.is_empty() && !size.is_empty() => Ok(Self {
                family: family.to_owned(),
                size: size.to_owned(),
                fields,
            }),
            _ => Err(format!("{text:?} is not FAMILY:SIZE, as videomae:large")),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.family, self.size)?;
        match self.fields.is_empty() {
            true => Ok(()),
            false => {
                let fields = self.fields.iter();
                let fields: Vec<String> = fields.map(|(k, v)| format!("{k} = {v}")).collect();
                write!(f, " with {}", fields.join(", "))
            }
        }
    }
}

/// What a system is shown by its own code.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Native {
    /// What part of a frame.
    pub crop: Crop,
    /// Height and width of its input, in pixels; at [`Size::Small`] those of all.
    pub image_size: usize,
    /// Which frames in training.
    pub sampling: Sampling,
    /// Which frames in the test; `None` for the same.
    #[serde(default)]
    pub test: Option<Sampling>,
}

/// A system in a file: what is not said is as it was, or as it usually is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: Option<String>,
    encoder: Option<Preset>,
    small: Option<Preset>,
    decoder: Option<String>,
    recipe: Option<Recipe>,
    #[serde(default)]
    settings: Table,
    weights: Option<String>,
    status: Option<Status>,
    published: Option<String>,
    under: Option<String>,
    note: Option<String>,
    native: Option<Native>,
}

/// The systems that can be asked for, in the order of the tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Systems(Vec<System>);

impl Systems {
    /// Those of the paper's tables, and the cascade on two other encoders.
    ///
    /// # Errors
    /// None, but that the list is read as a file of a user's is.
    pub fn known() -> Result<Self, Error> {
        let mut systems = Self(Vec::new());
        systems.read(KNOWN, Path::new("systems.toml"))?;
        Ok(systems)
    }

    /// Changes or adds what a file says.
    ///
    /// # Errors
    /// Names the file, the system and the field at fault.
    pub fn define(&mut self, path: &Path) -> Result<(), Error> {
        let text = files::read_to_string(path, LARGEST).at(path)?;
        self.read(&text, path)
    }

    fn read(&mut self, text: &str, path: &Path) -> Result<(), Error> {
        let fault = |reason: String| Error::File(FileError::new(path, reason));
        let table: Table = toml::from_str(text).map_err(|e| fault(e.to_string()))?;
        // In the order of the file, which a table does not keep.
        let mut names: Vec<&String> = table.keys().collect();
        let place = |name: &str| text.find(&format!("[{name}")).unwrap_or(usize::MAX);
        names.sort_by_key(|name| place(name));
        for name in names {
            let about = |e: &dyn fmt::Display| fault(format!("[{name}]: {e}"));
            let usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || !name.chars().all(usable) || name.starts_with('.') {
                let reason = "is to be a folder's name too: letters, digits, - _ and . alone";
                return Err(about(&reason));
            }
            let written: Result<Written, _> = table[name].clone().try_into();
            let written = written.map_err(|e: toml::de::Error| about(&e.message()))?;
            let known = self.0.iter_mut().find(|system| system.name == **name);
            match known {
                Some(system) => system.change(written),
                None => {
                    let system = System::new(name, written).map_err(|e| about(&e))?;
                    self.0.push(system);
                }
            }
        }
        for system in &self.0 {
            let settings = system.settings(&Table::new());
            settings.map_err(|e| fault(format!("[{}.settings]: {e}", system.name)))?;
        }
        Ok(())
    }

    /// All of them.
    pub fn all(&self) -> &[System] {
        &self.0
    }

    /// Those of these names, in this order.
    ///
    /// # Errors
    /// Names the system that there is not, or that is named twice.
    pub fn named(&self, names: &[String]) -> Result<Vec<System>, Error> {
        let fault = |reason| Error::Config {
            field: "systems",
            reason,
        };
        let mut found: Vec<System> = Vec::with_capacity(names.len());
        for name in names {
            if found.iter().any(|system| system.name == *name) {
                return Err(fault(format!("{name} is named twice")));
            }
            let system = self.0.iter().find(|system| system.name == *name);
            let system = system.ok_or_else(|| {
                let known: Vec<&str> = self.0.iter().map(|s| s.name.as_str()).collect();
                fault(format!("there is no {name:?}; known: {}", known.join(", ")))
            })?;
            found.push(system.clone());
        }
        match found.is_empty() {
            true => Err(fault("none is named".to_owned())),
            false => Ok(found),
        }
    }
}

impl System {
    fn new(name: &str, written: Written) -> Result<Self, String> {
        let need = |what: &str| format!("`{what}` is missing");
        let encoder = written.encoder.ok_or_else(|| need("encoder"))?;
        Ok(Self {
            name: name.to_owned(),
            title: written.title.unwrap_or_else(|| name.to_owned()),
            small: written.small.unwrap_or_else(|| encoder.clone()),
            encoder,
            decoder: written.decoder.ok_or_else(|| need("decoder"))?,
            recipe: written.recipe.unwrap_or(Recipe::Paper),
            settings: written.settings,
            weights: written.weights,
            status: written.status.unwrap_or(Status::Adapted),
            published: written.published,
            under: written.under,
            note: written.note,
            native: written.native,
        })
    }

    fn change(&mut self, written: Written) {
        fn set<T>(to: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *to = given;
            }
        }
        fn put<T>(to: &mut Option<T>, given: Option<T>) {
            if given.is_some() {
                *to = given;
            }
        }
        set(&mut self.title, written.title);
        set(&mut self.encoder, written.encoder);
        set(&mut self.small, written.small);
        set(&mut self.decoder, written.decoder);
        set(&mut self.recipe, written.recipe);
        set(&mut self.status, written.status);
        self.settings.extend(written.settings);
        put(&mut self.weights, written.weights);
        put(&mut self.published, written.published);
        put(&mut self.under, written.under);
        put(&mut self.note, written.note);
        put(&mut self.native, written.native);
    }

    /// The encoder's preset at a size.
    pub fn preset(&self, size: Size) -> &Preset {
        match size {
            Size::Full => &self.encoder,
            Size::Small => &self.small,
        }
    }

    /// Its settings: the recipe's, those of its own over them, and those given over all.
    ///
    /// # Errors
    /// Names the setting that there is not, or whose value cannot be used.
    pub fn settings(&self, given: &Table) -> Result<TrainConfig, Error> {
        let named: BTreeMap<&str, &'static str> =
            crate::FIELDS.iter().map(|f| (f.name, f.name)).collect();
        let fault = |name: &str, reason: String| match named.get(name) {
            Some(field) => Error::Config { field, reason },
            None => Error::Config {
                field: "settings",
                reason,
            },
        };
        let recipe = match given.get("recipe") {
            Some(recipe) => {
                let recipe = recipe.clone().try_into();
                recipe.map_err(|e: toml::de::Error| fault("recipe", e.message().to_owned()))?
            }
            None => self.recipe,
        };
        let mut table = Table::try_from(TrainConfig::recipe(recipe))
            .map_err(|e| fault("recipe", e.to_string()))?;
        // What a recipe has by the epoch is meant of its own number of them.
        let own = self.settings.get("epochs").or(table.get("epochs"));
        let factor = match (own, given.get("epochs")) {
            (Some(Value::Integer(own)), Some(Value::Integer(epochs))) if *own > 0 => {
                *epochs as f64 / *own as f64
            }
            _ => 1.0,
        };
        let mut stretched = Table::new();
        for table in [&table, &self.settings] {
            if let Some(Value::Float(warmup)) = table.get("warmup") {
                stretched.insert("warmup".to_owned(), Value::Float(warmup * factor));
            }
            if let Some(Value::String(drops)) = table.get("drops") {
                let drops = drops
                    .split(',')
                    .filter_map(|n| n.trim().parse::<f64>().ok());
                // After the first, before the last, and none twice.
                let last = own.and_then(Value::as_integer).unwrap_or(1) as f64 * factor - 1.0;
                let at = |n: f64| (n * factor).round().min(last).max(1.0) as u64;
                let mut drops: Vec<u64> = drops.map(at).collect();
                drops.dedup();
                let epochs: Vec<String> = drops.iter().map(u64::to_string).collect();
                stretched.insert("drops".to_owned(), Value::String(epochs.join(",")));
            }
        }
        if self.weights.is_none() && !self.settings.contains_key("tune") {
            // Of an encoder that is drawn nothing would come.
            stretched.insert("tune".to_owned(), Value::String("all".to_owned()));
        }
        let settings = self.settings.iter().chain(&stretched).chain(given);
        for (name, value) in settings {
            let Some(default) = table.get(name) else {
                return Err(fault(name, format!("there is no setting {name:?}")));
            };
            // 1 is a number too where 1.0 is asked for.
            let value = match (default, value) {
                (Value::Float(_), Value::Integer(n)) => Value::Float(*n as f64),
                (_, value) => value.clone(),
            };
            table.insert(name.clone(), value);
            let read: Result<TrainConfig, _> = table.clone().try_into();
            read.map_err(|e: toml::de::Error| fault(name, e.message().to_owned()))?;
        }
        let config: TrainConfig = table
            .try_into()
            .map_err(|e: toml::de::Error| fault("", e.message().to_owned()))?;
        config.validate()?;
        Ok(config)
    }

    /// What its own code shows it, where that is asked for.
    ///
    /// # Errors
    /// When it is, and nothing is known of it.
    pub fn shown(&self, track: Track) -> Result<Option<&Native>, Error> {
        match (track, &self.native) {
            (Track::Paper, _) => Ok(None),
            (Track::Native, Some(native)) => Ok(Some(native)),
            (Track::Native, None) => Err(Error::Config {
                field: "track",
                reason: format!(
                    "native, but nothing is known of how {} is shown its clips: say it as \
                     [{}.native] (--define), or take --track paper",
                    self.title, self.name
                ),
            }),
        }
    }
}
