//! Classifiers that others published, as models: the single-task structure with a norm.

use std::path::Path;

use candle_core::{Device, Tensor};
use mtcae_core::Crop;
use mtcae_decoder::{Config as DecoderConfig, Structure, Task};
use mtcae_encoder::{Checkpoint as Found, Classifier, Families, Overrides, open_with};
use mtcae_nn::weights::{self, Faults, Source};

use crate::config::EXPRESSION;
use crate::init::pixels;
use crate::{Config, Error};

/// What a file of others does not say, or is to say in place of what it does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// Names of the classes, in the order of the logits.
    pub classes: Option<Vec<String>>,
    /// Sizes of the encoder.
    pub sizes: Overrides,
    /// What to call it, where its path is that of a cache.
    pub called: Option<String>,
}

impl Given {
    /// Whether nothing is given that a model of ours says itself.
    pub(crate) fn is_empty(&self) -> bool {
        self.classes.is_none() && self.sizes == Overrides::default()
    }
}

/// A published classifier: its config, its tensors under the names of
/// `docs/checkpoint-format.md`, and what it leaves unsaid; a sentence each.
pub(crate) struct Published {
    pub config: Config,
    pub weights: Renamed,
    pub notes: Vec<String>,
}

impl Published {
    /// Opens a file or folder of others.
    ///
    /// # Errors
    /// Names the file, and the field or tensor at fault; [`Error::Classes`] where nothing
    /// names the classes, and [`Error::NoClassifier`] where there is an encoder alone.
    pub fn open(path: &Path, families: &Families, given: &Given) -> Result<Self, Error> {
        let found = open_with(path, &given.sizes, families)?;
        found.check()?;
        let Some(classifier) = found.classifier.clone() else {
            return Err(Error::NoClassifier {
                path: path.to_owned(),
            });
        };
        let classes = classes(path, &classifier, given)?;
        let mut notes = Vec::new();
        let called = given.called.clone();
        let name = called.unwrap_or_else(|| path.display().to_string());
        let mut preprocessing = pixels(&name, &found, &mut notes);
        preprocessing.crop = match classifier.of_faces {
            true => Crop::face(),
            false => Crop::None,
        };
        match &classifier.protocol {
            Some(protocol) => {
                preprocessing.sampling = protocol.sampling;
                preprocessing.resize = protocol.resize;
            }
            None => notes.push(format!(
                "{name} does not say which frames make a clip: they are taken evenly over the \
                 whole video"
            )),
        }
        let encoder = classifier.encoder.clone();
        let tasks = vec![Task::new(EXPRESSION, classes.len())];
        let decoder = DecoderConfig {
            structure: Structure::SingleTask,
            pool: classifier.pool,
            pooled_norm: classifier.norm,
            ..DecoderConfig::cascade(encoder.output().width, tasks)
        };
        let config = Config {
            trained_on: Some(format!("data that {name} does not name")),
            preprocessing,
            decoder,
            ..Config::new(encoder, Structure::SingleTask, classes)
        };
        config.validate().map_err(|e| Error::In {
            path: path.to_owned(),
            source: Box::new(e),
        })?;
        let weights = Renamed { found, classifier };
        weights.check_head(&config)?;
        Ok(Self {
            config,
            weights,
            notes,
        })
    }
}

/// The names of the classes: those that are given, or else those of the file.
fn classes(path: &Path, classifier: &Classifier, given: &Given) -> Result<Vec<String>, Error> {
    let outputs = classifier.outputs;
    let fault = |reason| Error::Classes {
        path: path.to_owned(),
        reason,
    };
    match (&given.classes, &classifier.classes) {
        (Some(names), _) if names.len() != outputs => Err(fault(format!(
            "{} names of classes are given ({}), but its classifier has {outputs} outputs",
            names.len(),
            names.join(", ")
        ))),
        (Some(names), _) | (None, Some(names)) => Ok(names.clone()),
        (None, None) => Err(fault(format!(
            "nothing in it names the {outputs} classes of its classifier: they must be given, in \
             the order of its outputs"
        ))),
    }
}

/// The tensors of a published classifier under our names.
pub(crate) struct Renamed {
    found: Found,
    classifier: Classifier,
}

impl Renamed {
    /// Compares the tensors of the head with what the config needs; every fault comes under
    /// the names of the file. The encoder's were compared before.
    fn check_head(&self, config: &Config) -> Result<(), Error> {
        let mut faults = Faults {
            origin: self.origin(),
            ..Faults::default()
        };
        for (name, want) in config.decoder.tensors()? {
            let name = self.head(&format!("decoder.{name}")).unwrap_or(name);
            match self.found.file().shape(&name) {
                None => faults.missing.push(name),
                Some(found) if found != want => faults.misshapen.push((name, want, found)),
                Some(_) => {}
            }
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(weights::Error::from(faults).into()),
        }
    }

    /// The name of a tensor of the head in the file; `None` for one of the encoder.
    fn head(&self, name: &str) -> Option<String> {
        let rest = name.strip_prefix("decoder.heads.")?;
        let rest = rest.strip_prefix(EXPRESSION)?.strip_prefix('.')?;
        self.classifier.tensor(rest)
    }
}

impl Source for Renamed {
    fn origin(&self) -> String {
        self.found.source().origin()
    }

    fn names(&self) -> Vec<String> {
        let encoder = self.found.config.tensors().into_iter();
        let encoder = encoder.map(|(name, _)| format!("encoder.{name}"));
        let parts = ["norm.weight", "norm.bias", "fc.weight", "fc.bias"];
        let head = parts.map(|part| format!("decoder.heads.{EXPRESSION}.{part}"));
        let mut names: Vec<String> = encoder
            .chain(head)
            .filter(|name| self.shape(name).is_some())
            .collect();
        names.sort_unstable();
        names
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match name.strip_prefix("encoder.") {
            Some(name) => self.found.source().shape(name),
            None => self.found.file().shape(&self.head(name)?),
        }
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor, weights::Error> {
        match (name.strip_prefix("encoder."), self.head(name)) {
            (Some(name), _) => self.found.source().load(name, device),
            (None, Some(name)) => self.found.file().load(&name, device),
            (None, None) => Err(weights::Error::Tensor {
                origin: self.origin(),
                name: name.to_owned(),
                reason: "not in the file".to_owned(),
            }),
        }
    }
}
