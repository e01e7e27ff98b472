//! Checkpoints of whole models of masked pre-training: published ones, and folders of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use mtcae_core::files::FileError;
use mtcae_nn::ParamStore;
use mtcae_nn::candle_core::{Device, Tensor};
use mtcae_nn::weights::{self, Source, load_strict, save_folder};
use serde_json::{Map, Value, json};

use super::config::{MaskedConfig, Target};
use super::names::Whole;
use super::{Masked, config};
use crate::checkpoint::{Files, Found, kernel};
use crate::error::Error;
use crate::family::Families;
use crate::json::Fields;
use crate::preprocessing::Preprocessing;
use crate::published::{OWN, Overrides, Spelling};
use crate::renamed::Renamed;
use crate::seam::Config;
use crate::sizes::fault;

/// The value of `format` in the config.json of a folder of ours.
pub const FORMAT: &str = "mtcae-masked";
const VERSION: u32 = 1;

/// An opened checkpoint of a whole model: what it holds is known, its weights are not yet
/// read.
pub struct MaskedCheckpoint {
    /// Sizes, masks and targets. What a published file does not say is as its family is
    /// published.
    pub config: MaskedConfig,
    /// Whose names its tensors have.
    pub spelling: &'static str,
    /// How it wants its pixels, where a file of others says it. Their mean and deviation are
    /// those of `config`.
    pub preprocessing: Option<Preprocessing>,
    /// The `config.json` that the sizes are from, where there is one.
    pub config_file: Option<PathBuf>,
    /// Names in the file that were recognised but are not part of the model.
    pub ignored: Vec<String>,
    view: Renamed,
}

/// Opens a checkpoint of a whole model: a published file or folder of VideoMAE, MAE-DFER or
/// SVFAP as they were pre-trained, or a folder of ours.
///
/// # Errors
/// One line that names the file, field or tensor at fault. Missing, unexpected and wrongly
/// shaped tensors are reported by [`MaskedCheckpoint::check`] and [`MaskedCheckpoint::load`].
pub fn open(
    path: impl AsRef<Path>,
    overrides: &Overrides,
    families: &Families,
) -> Result<MaskedCheckpoint, Error> {
    let files = Files::find(path.as_ref())?;
    let Found {
        source,
        skipped,
        fields,
        spelling,
        config,
        preprocessing,
        ..
    } = files.look(overrides, families)?;
    let spelt = spelling.name();
    let Some(whole) = Whole::of(spelling) else {
        let reason = format!("the decoder of a checkpoint of {spelt} is not known here");
        return Err(FileError::new(&files.weights, reason).into());
    };
    let config = match (spelt, &fields) {
        (OWN, Some(fields)) => own_config(fields, &config, families)?,
        (OWN, None) => {
            let reason = "a model of this project without its config.json";
            return Err(FileError::new(&files.weights, reason).into());
        }
        (_, fields) => {
            let origin = source.origin();
            let family = config.pretrained();
            let family = family.ok_or_else(|| config::unknown(&config, &origin))?;
            let published = family.published();
            let mut found = MaskedConfig {
                decoder: whole.decoder(
                    fields.as_ref(),
                    &*source,
                    overrides,
                    published.decoder.eps,
                )?,
                // As the file has it, and not as it would be published.
                encoder: config,
                ..published
            };
            if let Some(fields) = fields
                && !fields.flag_or("norm_pix_loss", true)?
            {
                found.target = Target::Pixels;
            }
            if let Some(given) = &preprocessing {
                (found.mean, found.std) = (given.mean, given.std);
            }
            found.check(&origin)?;
            found
        }
    };
    let names = source.names();
    let spelling: &dyn Spelling = &whole;
    let neighbours = names.iter().filter(|name| spelling.is_neighbour(name));
    let mut ignored: BTreeSet<String> = neighbours.cloned().collect();
    ignored.extend(spelling.left_out(&*source, &config.encoder)?);
    Ok(MaskedCheckpoint {
        spelling: spelt,
        preprocessing,
        config_file: files.config.clone(),
        ignored: ignored.iter().cloned().chain(skipped).collect(),
        view: Renamed {
            tensors: config.tensors(),
            kernel: kernel(&config.encoder),
            inner: source,
            spelling: Box::new(whole),
            ignored,
        },
        config,
    })
}

/// The config of a folder of ours.
fn own_config(
    fields: &Fields,
    encoder: &Config,
    families: &Families,
) -> Result<MaskedConfig, Error> {
    let origin = fields.origin();
    if fields.text("format") != Some(FORMAT) {
        let reason = format!(
            "is not {FORMAT:?}: this is a model of another kind, of which a model that is \
             pre-trained cannot be made whole"
        );
        return Err(fields.fault("format", reason));
    }
    let version = fields.get("version").and_then(Value::as_u64);
    if version != Some(u64::from(VERSION)) {
        let reason = format!("should be {VERSION}, the only one that this program reads");
        return Err(fields.fault("version", reason));
    }
    let Some(Value::Object(written)) = fields.get("masked") else {
        return Err(fields.fault("masked", "missing; should be an object"));
    };
    let mut written = written.clone();
    let encoder = serde_json::to_value(encoder)
        .map_err(|e| fault(origin, "encoder", weights::shown(&e.to_string())))?;
    written.insert("encoder".to_owned(), encoder);
    MaskedConfig::read(written, families, origin)
}

impl fmt::Debug for MaskedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskedCheckpoint")
            .field("origin", &self.view.origin())
            .field("spelling", &self.spelling)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl MaskedCheckpoint {
    /// The model's tensors under the names of [`MaskedConfig::tensors`], read from the file
    /// when they are asked for.
    pub fn source(&self) -> &dyn Source {
        &self.view
    }

    /// Compares names and shapes with what the model needs; reads no weights.
    ///
    /// # Errors
    /// [`weights::Error::Tensors`] with every missing, unexpected and wrongly shaped tensor,
    /// under the names they have in the file.
    pub fn check(&self) -> Result<(), Error> {
        let faults = self.view.faults();
        match faults.is_empty() {
            true => Ok(()),
            false => Err(weights::Error::from(faults).into()),
        }
    }

    /// Reads the weights into a model on `device`.
    ///
    /// # Errors
    /// As [`Self::check`], or when a tensor cannot be read.
    pub fn load(&self, device: &Device) -> Result<Masked, Error> {
        self.check()?;
        load_strict(self.source(), device, |vb| Masked::new(&self.config, vb))
    }

    /// Puts the weights into a store, under the names of [`MaskedConfig::tensors`].
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn take(&self, store: &ParamStore) -> Result<(), Error> {
        self.check()?;
        for (name, _) in self.config.tensors() {
            store.set(&name, &self.source().load(&name, &Device::Cpu)?)?;
        }
        Ok(())
    }
}

/// Writes a folder that [`open`] reads, and of which [`open_with`](crate::open_with) reads the
/// encoder; it is created if need be, and each file is written atomically, the weights before
/// the config. `more` are fields of the config.json that others read, as `preprocessing`.
///
/// # Errors
/// When the config cannot be used, `more` holds a field of ours, or a file cannot be written.
pub fn save<'a>(
    folder: impl AsRef<Path>,
    config: &MaskedConfig,
    more: Map<String, Value>,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<(), Error> {
    config.validate()?;
    let MaskedConfig {
        encoder,
        decoder,
        mask,
        target,
        mean,
        std,
    } = config;
    let own = json!({
        "format": FORMAT,
        "version": VERSION,
        "encoder": encoder,
        "masked": {
            "decoder": decoder,
            "mask": mask,
            "target": target,
            "mean": mean,
            "std": std,
        },
    });
    let Value::Object(mut fields) = own else {
        return Err(fault("config.json", "format", "no object".to_owned()));
    };
    for (field, value) in more {
        if fields.insert(field.clone(), value).is_some() {
            let reason = "is one of the format's own".to_owned();
            return Err(fault("config.json", &field, reason));
        }
    }
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    save_folder(folder.as_ref(), &fields, tensors, metadata)?;
    Ok(())
}
