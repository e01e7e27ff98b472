//! Opening checkpoints of every known kind.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mtcae_core::files::{self, At, FileError};
use mtcae_nn::candle_core::Device;
use mtcae_nn::weights::{self, Source, TensorFile, load_strict, shown};
use serde_json::Value;

use crate::classifier::Classifier;
use crate::error::Error;
use crate::family::{self, Families};
use crate::json::Fields;
use crate::pickle::TorchFile;
use crate::preprocessing::Preprocessing;
use crate::published::{Foreign, OWN, Overrides, Part, Published, Spelling};
use crate::renamed::Renamed;
use crate::seam::{Config, Encoder};
use crate::source::Shards;

/// An opened checkpoint: what it holds is known, its weights are not yet read.
pub struct Checkpoint {
    /// Sizes, from `config.json` or from the shapes of the tensors.
    pub config: Config,
    /// Whose names its tensors have: `huggingface`, `videomae`, `marlin`,
    /// `mae-dfer`, `svfap`, or [`OWN`].
    pub spelling: &'static str,
    /// How it wants its pixels: from `preprocessor_config.json`, else what the
    /// family's code does. `None` when neither says: published Hugging Face models
    /// differ, and our own say it in [`config_file`](Self::config_file).
    pub preprocessing: Option<Preprocessing>,
    /// The `config.json` that the sizes are from, where there is one.
    pub config_file: Option<PathBuf>,
    /// Names in the file that were recognised but are not part of the encoder:
    /// decoders, mask tokens, heads, biases of keys that are all zero, entries of a
    /// pickle that are no tensors.
    pub ignored: Vec<String>,
    /// The classifier on the encoder, where it is a file of others that has one.
    pub classifier: Option<Classifier>,
    view: Renamed,
}

/// Opens a checkpoint: a file (safetensors, or a zip that `torch.save` wrote) or a
/// folder (Hugging Face's layout, or our own).
///
/// # Errors
/// One line that names the file, field or tensor at fault. Missing, unexpected and
/// wrongly shaped tensors are reported by [`Checkpoint::check`] and
/// [`Checkpoint::load`].
pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint, Error> {
    open_with(path, &Overrides::default(), &Families::default())
}

/// [`open`] with values that the checkpoint does not hold, and with the families that
/// other crates handed over.
///
/// # Errors
/// As [`open`].
pub fn open_with(
    path: impl AsRef<Path>,
    overrides: &Overrides,
    families: &Families,
) -> Result<Checkpoint, Error> {
    Files::find(path.as_ref())?.open(overrides, families)
}

/// The files of a checkpoint.
pub(crate) struct Files {
    pub weights: PathBuf,
    pub config: Option<PathBuf>,
    pub preprocessor: Option<PathBuf>,
}

/// Names of weights in a folder, in the order in which they are looked for.
pub(crate) const WEIGHTS: [&str; 3] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
];

impl Files {
    pub(crate) fn find(path: &Path) -> Result<Self, Error> {
        // What is there and no file is an error when it is opened, not something else.
        let beside = |folder: &Path, name: &str| {
            let path = folder.join(name);
            path.symlink_metadata().is_ok().then_some(path)
        };
        if path.metadata().at(path)?.is_dir() {
            let weights = WEIGHTS
                .iter()
                .find_map(|name| beside(path, name))
                .ok_or_else(|| {
                    let list = WEIGHTS.join(", ");
                    FileError::new(path, format!("the folder has none of {list}"))
                })?;
            return Ok(Self {
                weights,
                config: beside(path, "config.json"),
                preprocessor: beside(path, "preprocessor_config.json"),
            });
        }
        // A file that bears one of a folder's names is taken with its neighbours.
        let name = path.file_name().and_then(|name| name.to_str());
        let folder = path
            .parent()
            .filter(|_| name.is_some_and(|name| WEIGHTS.contains(&name)));
        Ok(Self {
            weights: path.to_owned(),
            config: folder.and_then(|f| beside(f, "config.json")),
            preprocessor: folder.and_then(|f| beside(f, "preprocessor_config.json")),
        })
    }

    pub(crate) fn open(
        &self,
        overrides: &Overrides,
        families: &Families,
    ) -> Result<Checkpoint, Error> {
        let found = self.look(overrides, families)?;
        let names = found.source.names();
        let neighbours = names
            .iter()
            .filter(|name| found.spelling.is_neighbour(name));
        let mut ignored: BTreeSet<String> = neighbours.cloned().collect();
        let left_out = found.spelling.left_out(&*found.source, &found.config)?;
        ignored.extend(left_out);
        Ok(Checkpoint {
            spelling: found.spelling.name(),
            preprocessing: found.preprocessing,
            config_file: self.config.clone(),
            classifier: found.classifier,
            ignored: ignored.iter().cloned().chain(found.skipped).collect(),
            view: Renamed {
                tensors: found.config.tensors(),
                kernel: kernel(&found.config),
                inner: found.source,
                spelling: found.spelling,
                ignored,
            },
            config: found.config,
        })
    }

    /// Opens the weights and finds the encoder among them.
    pub(crate) fn look(&self, overrides: &Overrides, families: &Families) -> Result<Found, Error> {
        let Opened { source, skipped } = open_weights(&self.weights)?;
        let names = source.names();
        let fields = self.config.as_deref().map(Fields::read).transpose()?;
        let mut classifier = None;
        let (spelling, config): (Box<dyn Spelling>, Config) = match &fields {
            // Those of Hugging Face say their type.
            Some(fields) if fields.get("model_type").is_none() => {
                let config = own_config(fields, overrides, families)?;
                (Box::new(Own::of(&config, &names)), config)
            }
            fields => {
                let (fields, source) = (fields.as_ref(), source.as_ref());
                let spelling = published(source, &names)
                    .map_err(|reason| Error::File(FileError::new(&self.weights, reason)))?;
                let (config, found) = spelling.read(fields, source, overrides)?;
                classifier = found;
                (spelling, config)
            }
        };
        let preprocessing = match &self.preprocessor {
            Some(path) => Some(Preprocessing::read_hugging_face(path)?),
            None => spelling.preprocessing(),
        };
        Ok(Found {
            source,
            skipped,
            fields,
            spelling,
            config,
            classifier,
            preprocessing,
        })
    }
}

/// What [`Files`] hold.
pub(crate) struct Found {
    pub source: Box<dyn Source>,
    /// Entries that are no tensors.
    pub skipped: Vec<String>,
    /// Those of the config.json.
    pub fields: Option<Fields>,
    pub spelling: Box<dyn Spelling>,
    /// The encoder's.
    pub config: Config,
    pub classifier: Option<Classifier>,
    pub preprocessing: Option<Preprocessing>,
}

/// The kernel (C, t, p, p) that cuts clips into an encoder's tubes.
pub(crate) fn kernel(config: &Config) -> [usize; 4] {
    let input = config.input();
    let (tubelet, patch) = input.tube();
    [input.channels, tubelet, patch, patch]
}

/// The one encoder of a known family among the tensors of a file; `Err` says what there
/// is instead.
fn published(source: &dyn Source, names: &[String]) -> Result<Box<dyn Foreign>, String> {
    let mut found: Vec<Box<dyn Foreign>> = Vec::new();
    for family in family::published() {
        // What one family knows as its own is none of a family after it.
        let known: Vec<String> = found.iter().map(|one| one.prefix().to_owned()).collect();
        let more = family.find(source, names).into_iter();
        found.extend(more.filter(|one| known.iter().all(|prefix| prefix != one.prefix())));
    }
    match (found.pop(), found.pop()) {
        (Some(one), None) => Ok(one),
        (None, _) => {
            let some: Vec<String> = names.iter().take(3).map(|name| shown(name)).collect();
            let list = match some.as_slice() {
                [] => "it holds no tensors".to_owned(),
                some => format!("its {} tensors begin with {}", names.len(), some.join(", ")),
            };
            let marks: Vec<String> = family::published().map(Published::marks).collect();
            Err(format!(
                "no encoder of a known family: {list}, and none is {}",
                marks.join(" or ")
            ))
        }
        (Some(a), Some(b)) => Err(format!(
            "it holds more than one encoder, below {:?} and {:?}",
            shown(b.prefix()),
            shown(a.prefix())
        )),
    }
}

/// This project's own files: an encoder alone, or a whole model with the encoder's
/// tensors below `encoder.`.
struct Own {
    prefix: &'static str,
}

impl Own {
    fn of(config: &Config, names: &[String]) -> Self {
        let below = |prefix: &str| {
            let tensors = config.tensors().into_iter();
            tensors
                .filter(|(name, _)| names.contains(&format!("{prefix}{name}")))
                .count()
        };
        Self {
            prefix: if below("encoder.") > below("") {
                "encoder."
            } else {
                ""
            },
        }
    }
}

/// The config of an encoder of our own: the whole of a file, or its field `encoder`.
fn own_config(
    fields: &Fields,
    overrides: &Overrides,
    families: &Families,
) -> Result<Config, Error> {
    let mut encoder = match fields.get("encoder") {
        None => fields.map().clone(),
        Some(Value::Object(encoder)) => encoder.clone(),
        Some(_) => return Err(fields.fault("encoder", "should be an object")),
    };
    encoder.extend(overrides.fields());
    families.read(encoder, fields.origin())
}

impl Spelling for Own {
    fn name(&self) -> &'static str {
        OWN
    }

    fn prefix(&self) -> &str {
        self.prefix
    }

    /// Its config.json says it, which is the reader of whole models' to read.
    fn preprocessing(&self) -> Option<Preprocessing> {
        None
    }

    fn parts(&self, name: &str) -> Vec<Part> {
        Part::plain(format!("{}{name}", self.prefix))
    }

    fn is_neighbour(&self, name: &str) -> bool {
        self.prefix == "encoder." && name.starts_with("decoder.")
    }

    fn left_out(&self, _: &dyn Source, _: &Config) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("origin", &self.view.origin())
            .field("spelling", &self.spelling)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// The encoder's tensors under the names of [`Config::tensors`], read from the
    /// file when they are asked for. Tensors that are neither the encoder's nor
    /// known neighbours come under the names they have in the file.
    pub fn source(&self) -> &dyn Source {
        &self.view
    }

    /// The tensors of the file under the names they have there.
    pub fn file(&self) -> &dyn Source {
        self.view.inner.as_ref()
    }

    /// Compares names and shapes with what the encoder needs; reads no weights.
    ///
    /// # Errors
    /// [`weights::Error::Tensors`] with every missing, unexpected and wrongly
    /// shaped tensor, under the names they have in the file.
    pub fn check(&self) -> Result<(), Error> {
        let faults = self.view.faults();
        match faults.is_empty() {
            true => Ok(()),
            false => Err(weights::Error::from(faults).into()),
        }
    }

    /// Reads the weights into an encoder on `device`.
    ///
    /// # Errors
    /// As [`Checkpoint::check`], or when a tensor cannot be read.
    pub fn load(&self, device: &Device) -> Result<Arc<dyn Encoder>, Error> {
        self.check()?;
        load_strict(self.source(), device, |vb| self.config.build(vb))
    }
}

struct Opened {
    source: Box<dyn Source>,
    /// Entries that are no tensors.
    skipped: Vec<String>,
}

/// Opens a file of weights by what it begins with, whatever its name.
fn open_weights(path: &Path) -> Result<Opened, Error> {
    if path.to_string_lossy().ends_with(".index.json") {
        return Ok(Opened {
            source: Box::new(Shards::open(path)?),
            skipped: Vec::new(),
        });
    }
    let refuse = |reason: &str| Err(FileError::new(path, reason).into());
    let mut start = Vec::new();
    let file = files::open(path).at(path)?;
    file.take(64).read_to_end(&mut start).at(path)?;
    if start.starts_with(b"version https://git-lfs") {
        return refuse(
            "this is a Git LFS pointer, not the file it stands for; fetch it with `git lfs pull`",
        );
    }
    if start.starts_with(b"PK\x03\x04") {
        let mut file = TorchFile::open(path)?;
        let skipped = std::mem::take(&mut file.skipped);
        return Ok(Opened {
            source: Box::new(file),
            skipped,
        });
    }
    // A pickle's opcode PROTO. A safetensors file may begin with these bytes too, but
    // then has the brace of its header behind 8 bytes of length.
    if matches!(start[..], [0x80, 2..=5, ..]) && start.get(8) != Some(&b'{') {
        return refuse(
            "this is a pickle in PyTorch's format before 1.6 (no zip); save it again with \
             torch.save(torch.load(path, map_location=\"cpu\"), path) in a newer PyTorch",
        );
    }
    let is_safetensors = path.extension().is_some_and(|e| e == "safetensors");
    if !is_safetensors && start.get(8) != Some(&b'{') {
        return refuse("it is neither a zip that torch.save wrote nor a safetensors file");
    }
    Ok(Opened {
        source: Box::new(TensorFile::open(path)?),
        skipped: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use mtcae_nn::candle_core::{DType, Tensor};
    use mtcae_nn::weights::InMemory;

    use super::*;

    #[test]
    fn none_and_several_encoders_are_refused() {
        let find = |names: &[&str]| {
            let tensor = |name: &&str| {
                let zeros = Tensor::zeros((1, 1, 1, 1, 1), DType::F32, &Device::Cpu);
                ((*name).to_owned(), zeros.expect("zeros"))
            };
            let source = InMemory::new("a map", names.iter().map(tensor));
            published(&source, &source.names()).map(|found| found.prefix().to_owned())
        };
        let error = find(&["conv1.weight"]).expect_err("none");
        assert!(error.contains("conv1.weight"), "{error}");
        let error = find(&[]).expect_err("empty");
        assert!(error.contains("no tensors"), "{error}");
        let error = find(&["a.patch_embed.proj.weight", "b.patch_embed.proj.weight"]);
        let error = error.expect_err("two");
        assert!(
            error.contains("\"a.\"") && error.contains("\"b.\""),
            "{error}"
        );
        assert_eq!(
            find(&["a", "b.patch_embed.proj.weight"]),
            Ok("b.".to_owned())
        );
    }
}
