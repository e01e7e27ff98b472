//! Opening checkpoints of every known kind.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use mtcae_core::files;
use mtcae_nn::ParamStore;
use mtcae_nn::candle_core::{Device, Tensor};
use mtcae_nn::weights::{self, Source, TensorFile, load_strict};

use crate::hugging_face::MARLIN_EPS;
use crate::json::Fields;
use crate::names::Layout;
use crate::pickle::TorchFile;
use crate::renamed::Renamed;
use crate::source::Shards;
use crate::{Config, Encoder, Error, Position, Preprocessing, Spelling};

/// What a checkpoint without a configuration cannot say. Values given here win
/// over those of a `config.json` too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Attention heads. Known for the widths 384, 768, 1024 and 1280.
    pub heads: Option<usize>,
    /// Height and width of a frame in pixels; otherwise 224.
    pub image_size: Option<usize>,
    /// Frames of a clip; otherwise 16.
    pub frames: Option<usize>,
    /// ε of the LayerNorms; otherwise that of the checkpoint's family.
    pub eps: Option<f64>,
    /// Drop path rate in training; otherwise 0.
    pub drop_path: Option<f64>,
}

/// An opened checkpoint: what it holds is known, its weights are not yet read.
pub struct Checkpoint {
    /// Sizes, from `config.json` or from the shapes of the tensors.
    pub config: Config,
    /// How its tensors are named.
    pub spelling: Spelling,
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
    open_with(path, &Overrides::default())
}

/// [`open`] with values that the checkpoint does not hold.
///
/// # Errors
/// As [`open`].
pub fn open_with(path: impl AsRef<Path>, overrides: &Overrides) -> Result<Checkpoint, Error> {
    Files::find(path.as_ref())?.open(overrides)
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
    fn find(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        // What is there and no file is an error when it is opened, not something else.
        let beside = |folder: &Path, name: &str| {
            let path = folder.join(name);
            path.symlink_metadata().is_ok().then_some(path)
        };
        if path.metadata().map_err(io)?.is_dir() {
            let weights = WEIGHTS
                .iter()
                .find_map(|name| beside(path, name))
                .ok_or_else(|| Error::Checkpoint {
                    path: path.to_owned(),
                    reason: format!("the folder has none of {}", WEIGHTS.join(", ")),
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

    pub(crate) fn open(&self, overrides: &Overrides) -> Result<Checkpoint, Error> {
        let Opened { source, skipped } = open_weights(&self.weights)?;
        let names = source.names();
        let mut layout = Layout::detect(&names).map_err(|reason| Error::Checkpoint {
            path: self.weights.clone(),
            reason,
        })?;
        let patch = format!("{}patch_embed.proj.weight", layout.prefix);
        if layout.spelling == Spelling::VideoMae
            && source.shape(&patch).is_some_and(|shape| shape.len() == 2)
        {
            layout.spelling = Spelling::Own;
        }
        let mut config = match &self.config {
            Some(path) => read_config(path, layout.spelling)?,
            None => infer(source.as_ref(), &names, &layout, overrides)?,
        };
        overrides.apply(&mut config);
        let origin = self.config.as_ref().unwrap_or(&self.weights).display();
        config.validate_from(&origin.to_string())?;
        let preprocessing = match &self.preprocessor {
            Some(path) => Some(Preprocessing::read_hugging_face(path)?),
            None => match layout.spelling {
                Spelling::VideoMae => Some(Preprocessing::imagenet()),
                Spelling::Marlin => Some(Preprocessing::plain()),
                Spelling::HuggingFace | Spelling::Own => None,
            },
        };
        let mut ignored: BTreeSet<String> = names
            .iter()
            .filter(|name| layout.is_neighbour(name))
            .cloned()
            .collect();
        ignored.extend(zero_key_biases(source.as_ref(), &layout, config.depth)?);
        Ok(Checkpoint {
            config: config.clone(),
            spelling: layout.spelling,
            preprocessing,
            config_file: self.config.clone(),
            ignored: ignored.iter().cloned().chain(skipped).collect(),
            view: Renamed {
                inner: source,
                layout,
                config,
                ignored,
            },
        })
    }
}

impl Overrides {
    fn apply(&self, config: &mut Config) {
        config.heads = self.heads.unwrap_or(config.heads);
        config.image_size = self.image_size.unwrap_or(config.image_size);
        config.frames = self.frames.unwrap_or(config.frames);
        config.eps = self.eps.unwrap_or(config.eps);
        config.drop_path = self.drop_path.unwrap_or(config.drop_path);
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

    /// Compares names and shapes with what the encoder needs; reads no weights.
    ///
    /// # Errors
    /// [`weights::Error::Tensors`] with every missing, unexpected and wrongly
    /// shaped tensor, under the names they have in the file.
    pub fn check(&self) -> Result<(), Error> {
        let faults = self.view.faults();
        let none = faults.missing.is_empty()
            && faults.unexpected.is_empty()
            && faults.misshapen.is_empty();
        match none {
            true => Ok(()),
            false => Err(weights::Error::from(faults).into()),
        }
    }

    /// Reads the weights into an encoder on `device`.
    ///
    /// # Errors
    /// As [`Checkpoint::check`], or when a tensor cannot be read.
    pub fn load(&self, device: &Device) -> Result<Encoder, Error> {
        self.check()?;
        load_strict(self.source(), device, |vb| {
            Encoder::new(&self.config, vb).map_err(Error::from)
        })
    }

    /// Reads the weights into the trainable parameters of `store`, below `prefix`
    /// (which includes the dot), one tensor at a time. An encoder that was built on
    /// the store before sees them.
    ///
    /// # Errors
    /// As [`Checkpoint::load`], or when the store has a parameter of this name and
    /// another shape.
    pub fn load_into(
        &self,
        store: &ParamStore,
        prefix: &str,
        device: &Device,
    ) -> Result<(), Error> {
        self.check()?;
        for (name, _) in self.config.tensors() {
            let tensor: Tensor = self.view.load(&name, device)?;
            store.set(&format!("{prefix}{name}"), &tensor)?;
        }
        Ok(())
    }
}

struct Opened {
    source: Box<dyn Source>,
    /// Entries that are no tensors.
    skipped: Vec<String>,
}

/// Opens a file of weights by what it begins with, whatever its name.
fn open_weights(path: &Path) -> Result<Opened, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    if path.to_string_lossy().ends_with(".index.json") {
        return Ok(Opened {
            source: Box::new(Shards::open(path)?),
            skipped: Vec::new(),
        });
    }
    let refuse = |reason: &str| {
        Err(Error::Checkpoint {
            path: path.to_owned(),
            reason: reason.to_owned(),
        })
    };
    let mut start = Vec::new();
    let file = files::open(path).map_err(io)?;
    file.take(64).read_to_end(&mut start).map_err(io)?;
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

fn read_config(path: &Path, spelling: Spelling) -> Result<Config, Error> {
    if spelling != Spelling::Own {
        return Config::read_hugging_face(path);
    }
    let origin = path.display().to_string();
    let json = |source| Error::Json {
        origin: origin.clone(),
        source,
    };
    let text = crate::read_text(path)?;
    let fields = Fields::parse(&text, &origin)?;
    // A whole model's configuration has the encoder's as one of its fields.
    match fields.get("encoder") {
        Some(encoder) => serde_json::from_value(encoder.clone())
            .map_err(|error| fields.fault("encoder", error.to_string())),
        None => serde_json::from_str(&text).map_err(json),
    }
}

/// Sizes from the shapes of the tensors.
fn infer(
    source: &dyn Source,
    names: &[String],
    layout: &Layout,
    overrides: &Overrides,
) -> Result<Config, Error> {
    let origin = source.origin();
    let fault = |field: &str, reason: String| Error::Field {
        origin: origin.clone(),
        field: field.to_owned(),
        reason,
    };
    let find = |canonical: &str| {
        let part = layout.parts(canonical).into_iter().next()?;
        let found = part.names.iter().find_map(|name| source.shape(name));
        found.map(|shape| (part.names.join(" or "), shape))
    };
    let needs = |canonical: &str, field: &str| {
        find(canonical).ok_or_else(|| {
            let reason = format!("there is no config.json and no tensor {canonical} to tell it");
            fault(field, reason)
        })
    };
    let (name, patch) = needs("patch_embed.proj.weight", "width")?;
    let (width, channels, tubelet, patch) = match patch[..] {
        [width, channels, tubelet, h, w] if h == w => (width, channels, tubelet, h),
        // The only tube of this length in use.
        [width, 1536] => (width, 3, 2, 16),
        _ => {
            let reason = format!(
                "{name} of shape {patch:?} is neither (D, C, t, p, p) nor (D, 1536), \
                 and there is no config.json to tell its tubes"
            );
            return Err(fault("patch", reason));
        }
    };
    let depth = layout.depth(names).ok_or_else(|| {
        fault(
            "depth",
            "there is no config.json and no tensor of a block to tell it".to_owned(),
        )
    })?;
    let hidden = needs("blocks.0.mlp.fc1.weight", "hidden")?.1;
    let heads = overrides.heads.or(Config::known_heads(width));
    let heads = heads.ok_or_else(|| Error::Heads {
        origin: origin.clone(),
        width,
    })?;
    let positions = find("pos_embed");
    let config = Config {
        image_size: 224,
        frames: 16,
        channels,
        patch,
        tubelet,
        width,
        depth,
        heads,
        hidden: hidden.first().copied().unwrap_or(0),
        eps: match layout.spelling {
            Spelling::Marlin => MARLIN_EPS,
            // The default of transformers' VideoMAEConfig.
            Spelling::HuggingFace => 1e-12,
            Spelling::VideoMae | Spelling::Own => 1e-6,
        },
        final_norm: find("norm.weight").is_some(),
        position: match positions {
            Some(_) => Position::Stored,
            None => Position::SinCos,
        },
        drop_path: 0.0,
    };
    Ok(config)
}

/// The biases of keys in the file, which must be zero: softmax does not see them,
/// but they would come back in whatever is trained on.
fn zero_key_biases(
    source: &dyn Source,
    layout: &Layout,
    depth: usize,
) -> Result<Vec<String>, Error> {
    let mut zero = Vec::new();
    for name in (0..depth).flat_map(|i| layout.key_biases(i)) {
        if source.shape(&name).is_none() {
            continue;
        }
        let values = source.load(&name, &Device::Cpu)?;
        let values: Vec<f32> = values.flatten_all()?.to_vec1()?;
        if values.iter().any(|&v| v != 0.0) {
            return Err(weights::Error::Tensor {
                origin: source.origin(),
                name,
                reason: "the bias of keys is not zero, and this encoder has none".to_owned(),
            }
            .into());
        }
        zero.push(name);
    }
    Ok(zero)
}
