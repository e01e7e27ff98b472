//! Models to be trained: an encoder that is there, or is drawn, and a decoder that is
//! drawn.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use mtcae_decoder::{Config as DecoderConfig, Structure};
use mtcae_encoder::{Checkpoint, EncoderConfig, Families, OWN, Resize, VideoMaeConfig};
use mtcae_nn::{INIT_STD, ParamStore};

use crate::{Config, Error, Mtcae, Preprocessing, TrainedSubjects, checkpoint};

/// A model about to be written.
///
/// ```no_run
/// use mtcae_model::decoder::Structure;
/// use mtcae_model::init::{DecoderSize, NewModel};
/// use mtcae_model::encoder;
///
/// # fn main() -> Result<(), mtcae_model::Error> {
/// let encoder = encoder::open("videomae-large")?;
/// let classes = ["calm", "glad"].map(str::to_owned).to_vec();
/// let size = DecoderSize::default();
/// let model = NewModel::of("videomae-large", &encoder, Structure::Cascade, &size, classes, 0)?;
/// model.save("checkpoint")?;
/// # Ok(())
/// # }
/// ```
pub struct NewModel {
    config: Config,
    store: ParamStore,
    notes: Vec<String>,
}

/// How random matrices are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Draw {
    /// With a deviation of 0.02, as VideoMAE is fine-tuned.
    #[default]
    Normal,
    /// With a deviation of √(2/(inputs + outputs)), as VideoMAE is pre-trained
    /// (Glorot and Bengio, 2010): right for small widths and long tubes.
    Xavier,
}

/// Sizes of a decoder; those that are not given follow the paper's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecoderSize {
    /// Channels: 512; over an encoder of fewer than 384, two thirds of its channels.
    pub width: Option<usize>,
    /// Layers: 5; over such an encoder 2.
    pub depth: Option<usize>,
    /// Attention heads: 3.
    pub heads: Option<usize>,
    /// Channels of a head: the width over the heads, rounded up to a multiple of 8.
    pub head_dim: Option<usize>,
}

impl DecoderSize {
    /// The paper's decoder, or one that is to a small encoder what that is to a large
    /// one; with the sizes that were given.
    fn of(&self, paper: DecoderConfig) -> DecoderConfig {
        let small = paper.features < VideoMaeConfig::small().width;
        let fitting = match small {
            true => ((2 * paper.features / 3).next_multiple_of(16), 2),
            false => (paper.width, paper.depth),
        };
        let width = self.width.unwrap_or(fitting.0);
        let heads = self.heads.unwrap_or(paper.heads);
        let head_dim = width.div_ceil(heads.max(1)).next_multiple_of(8);
        DecoderConfig {
            width,
            depth: self.depth.unwrap_or(fitting.1),
            heads,
            head_dim: self.head_dim.unwrap_or(head_dim),
            ..paper
        }
    }
}

impl NewModel {
    /// A model of this config, all of it drawn from `seed`.
    ///
    /// # Errors
    /// Names the field of the config at fault.
    pub fn drawn(config: Config, draw: Draw, seed: u64) -> Result<Self, Error> {
        let model = Self {
            store: ParamStore::new(seed),
            config: Config {
                trained_on: None,
                ..config
            },
            notes: Vec::new(),
        };
        model.draw(draw)?;
        Ok(model)
    }

    /// An encoder that is drawn, and its decoder.
    ///
    /// # Errors
    /// As [`Self::drawn`].
    pub fn of_drawn_encoder(
        encoder: impl EncoderConfig,
        structure: Structure,
        size: &DecoderSize,
        classes: Vec<String>,
        draw: Draw,
        seed: u64,
    ) -> Result<Self, Error> {
        let mut config = Config::new(encoder, structure, classes);
        config.decoder = size.of(config.decoder);
        Self::drawn(config, draw, seed)
    }

    /// The encoder of a checkpoint, whatever its spelling, with its preprocessing and
    /// whom it was trained on; a decoder drawn from `seed`. What is not taken over is in
    /// [`Self::notes`], which call the encoder `name`.
    ///
    /// # Errors
    /// Names the file, and the field or the tensors at fault.
    pub fn of(
        name: &str,
        encoder: &Checkpoint,
        structure: Structure,
        size: &DecoderSize,
        classes: Vec<String>,
        seed: u64,
    ) -> Result<Self, Error> {
        encoder.check()?;
        let mut config = Config::new(encoder.config.clone(), structure, classes);
        config.decoder = size.of(config.decoder);
        let mut notes = Vec::new();
        config.preprocessing = preprocessing_of(name, encoder, &mut notes)?;
        config.trained_subjects = subjects_of(encoder)?;
        let ignored = &encoder.ignored;
        if !ignored.is_empty() {
            let shown = ignored[..ignored.len().min(3)].join(", ");
            let more = if ignored.len() > 3 { ", …" } else { "" };
            let count = ignored.len();
            notes.push(format!(
                "left out, since no part of the encoder: {count} tensors ({shown}{more})"
            ));
        }
        let store = ParamStore::new(seed);
        for (tensor, _) in encoder.config.tensors() {
            let values = encoder.source().load(&tensor, &Device::Cpu)?;
            store.set(&format!("encoder.{tensor}"), &values)?;
        }
        let model = Self {
            config,
            store,
            notes,
        };
        model.draw(Draw::Normal)?;
        Ok(model)
    }

    /// The model's config.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What was not taken over of an encoder, in words.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Numbers of all tensors together, and of tensors.
    pub fn parameters(&self) -> (usize, usize) {
        let vars = self.store.vars();
        (vars.iter().map(|(_, v)| v.elem_count()).sum(), vars.len())
    }

    /// Writes the model as a checkpoint folder, which is created if need be.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        let vars = self.store.vars();
        let tensors = vars
            .iter()
            .map(|(name, var)| (name.as_str(), var.as_tensor()));
        checkpoint::save(folder, &self.config, tensors)
    }

    /// Draws what the store does not hold yet.
    fn draw(&self, draw: Draw) -> Result<(), Error> {
        Mtcae::new(&self.config, self.store.builder(&Device::Cpu))?;
        if draw == Draw::Normal {
            return Ok(());
        }
        let encoder: BTreeMap<String, (usize, bool)> = self
            .config
            .encoder
            .groups()
            .into_iter()
            .flat_map(|group| {
                let depth = group.depth;
                group
                    .parameters
                    .into_iter()
                    .map(move |p| (format!("encoder.{}", p.name), (depth, p.decays)))
            })
            .collect();
        for (name, var) in self.store.vars() {
            let (depth, decays) = encoder.get(&name).copied().unwrap_or((1, true));
            // Positions are no matrix that anything is multiplied by.
            if var.rank() < 2 || !decays {
                continue;
            }
            let outputs = var.dim(0)?;
            let inputs = var.elem_count() / outputs;
            let deviation = match depth {
                // A convolution, which VideoMAE leaves as PyTorch draws it.
                0 => (1.0 / (3 * inputs) as f64).sqrt(),
                _ => (2.0 / (inputs + outputs) as f64).sqrt(),
            };
            let drawn: Tensor = (var.as_tensor() * (deviation / INIT_STD))?;
            var.set(&drawn)?;
        }
        Ok(())
    }
}

/// Whom an encoder of a model of ours was trained on: it does not forget them.
fn subjects_of(encoder: &Checkpoint) -> Result<Option<TrainedSubjects>, Error> {
    let (OWN, Some(path)) = (encoder.spelling, &encoder.config_file) else {
        return Ok(None);
    };
    let config = checkpoint::read_config(path, &Families::default())?;
    Ok(match (config.trained_subjects, config.trained_on) {
        // It was trained, on whom it does not say.
        (None, Some(_)) => Some(TrainedSubjects {
            complete: false,
            ..TrainedSubjects::new([0; 16])
        }),
        (subjects, _) => subjects,
    })
}

/// The preprocessing that an encoder comes with; what of it is not taken is noted.
fn preprocessing_of(
    name: &str,
    encoder: &Checkpoint,
    notes: &mut Vec<String>,
) -> Result<Preprocessing, Error> {
    if let (OWN, Some(path)) = (encoder.spelling, &encoder.config_file)
        && let Some(own) = checkpoint::read_preprocessing(path)?
    {
        return Ok(own);
    }
    let paper = Preprocessing::default();
    let Some(given) = &encoder.preprocessing else {
        notes.push(format!(
            "{name} does not say how it wants its pixels: ImageNet's mean and std are taken"
        ));
        return Ok(paper);
    };
    let edge = match given.resize {
        Some(Resize::ShortestEdge(edge)) => Some(format!("shortest edge of {edge}")),
        Some(Resize::Exact(..)) | None => None,
    };
    let crop = given.crop.map(|(h, w)| format!("centre crop of {h}x{w}"));
    let left: Vec<String> = edge.into_iter().chain(crop).collect();
    if !left.is_empty() {
        notes.push(format!(
            "{name}: its {} is not taken: the whole frame is squashed, as in the paper \
             (preprocessing.resize in config.json; shortest-edge crops to the centre)",
            left.join(" with ")
        ));
    }
    Ok(Preprocessing {
        mean: given.mean,
        std: given.std,
        ..paper
    })
}
