//! New models to train: a pretrained encoder or a random one, and a random decoder.
//!
//! ```no_run
//! use mtcae_model::candle_core::Device;
//! use mtcae_model::decoder::Structure;
//! use mtcae_model::encoder::{Families, Overrides, open_with};
//! use mtcae_model::{Config, checkpoint, init};
//! use mtcae_nn::ParamStore;
//!
//! let store = ParamStore::new(42);
//! let families = Families::default();
//! let found = open_with("videomae-large", &Overrides::default(), &families)?;
//! let taken = init::take_encoder(&found, "videomae-large", &families, &store)?;
//! let classes = vec!["happy".to_owned(), "sad".to_owned()];
//! let config = Config {
//!     preprocessing: taken.preprocessing,
//!     trained_subjects: taken.trained_subjects,
//!     ..Config::new(found.config, Structure::Cascade, classes)
//! };
//! init::draw(&config, &store, init::Draw::Normal)?;
//! let vars = store.vars();
//! let tensors = vars.iter().map(|(name, var)| (name.as_str(), var.as_tensor()));
//! checkpoint::save("my-model", &config, tensors)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeSet;

use candle_core::Device;
use mtcae_core::Resize as CoreResize;
use mtcae_decoder::Config as DecoderConfig;
use mtcae_encoder::{Checkpoint, Families, OWN, Resize};
use mtcae_nn::{INIT_STD, ParamStore};

use crate::{Config, Error, Mtcae, Preprocessing, TrainedSubjects, checkpoint};

/// Channels of ViT-S, the narrowest encoder that the paper's decoder suits.
const NARROW: usize = 384;

/// How random matrices are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Draw {
    /// With a standard deviation of 0.02, as VideoMAE is fine-tuned.
    #[default]
    Normal,
    /// With a standard deviation of √(2/(inputs + outputs)), as VideoMAE is pre-trained
    /// (Glorot and Bengio, 2010): right for small widths and long tubes.
    Xavier,
}

/// What a pretrained encoder brings to a new model beside its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// How it wants its pixels.
    pub preprocessing: Preprocessing,
    /// Whom it was trained on, where it is of a model of ours: it does not forget them.
    pub trained_subjects: Option<TrainedSubjects>,
    /// What it does not say, and what of it is not used; a sentence each.
    pub notes: Vec<String>,
}

/// Puts a pretrained encoder's tensors into a store, below `encoder.`; `name` is what
/// notes call it.
///
/// # Errors
/// Names the tensor or the file at fault.
pub fn take_encoder(
    found: &Checkpoint,
    name: &str,
    families: &Families,
    store: &ParamStore,
) -> Result<Taken, Error> {
    found.check()?;
    for (tensor, _) in found.config.tensors() {
        let value = found.source().load(&tensor, &Device::Cpu)?;
        store.set(&format!("encoder.{tensor}"), &value)?;
    }
    let mut notes = Vec::new();
    let preprocessing = preprocessing(name, found, &mut notes)?;
    if !found.ignored.is_empty() {
        let names = &found.ignored;
        let shown = names[..names.len().min(3)].join(", ");
        let more = if names.len() > 3 { ", …" } else { "" };
        notes.push(format!(
            "left out, as they are not part of the encoder: {} tensors ({shown}{more})",
            names.len()
        ));
    }
    Ok(Taken {
        preprocessing,
        trained_subjects: subjects(found, families)?,
        notes,
    })
}

/// Draws every parameter that the store does not hold yet, from the store's seed.
///
/// # Errors
/// When the config cannot be used.
pub fn draw(config: &Config, store: &ParamStore, draw: Draw) -> Result<(), Error> {
    let held: BTreeSet<String> = store.vars().into_iter().map(|(name, _)| name).collect();
    Mtcae::new(config, store.builder(&Device::Cpu))?;
    if draw == Draw::Normal {
        return Ok(());
    }
    // By the encoder's groups: positions are no matrix that anything is multiplied by, and
    // what comes before the first block is a convolution.
    let (mut left_alone, mut convolutions) = (held, BTreeSet::new());
    for group in config.encoder.groups() {
        for parameter in group.parameters {
            let name = format!("encoder.{}", parameter.name);
            match (parameter.decays, group.depth) {
                (false, _) => left_alone.insert(name),
                (true, 0) => convolutions.insert(name),
                (true, _) => false,
            };
        }
    }
    for (name, var) in store.vars() {
        if var.rank() > 1 && !left_alone.contains(&name) {
            let outputs = var.dim(0)?;
            let inputs = var.elem_count() / outputs;
            let wanted = match convolutions.contains(&name) {
                // VideoMAE leaves it as PyTorch draws it.
                true => (1.0 / (3 * inputs) as f64).sqrt(),
                false => (2.0 / (inputs + outputs) as f64).sqrt(),
            };
            var.set(&(var.as_tensor() * (wanted / INIT_STD))?)?;
        }
    }
    Ok(())
}

/// The published decoder or, over an encoder narrower than ViT-S, one that is to it what the
/// published one is to a large one: two thirds of its channels, and of the paper's two layers.
pub fn suited_decoder(published: DecoderConfig) -> DecoderConfig {
    if published.features >= NARROW {
        return published;
    }
    const HEAD: usize = 16;
    let width = (2 * published.features / 3).next_multiple_of(HEAD);
    if published.structure.has_stages() {
        return DecoderConfig {
            width,
            depth: 2,
            ..published
        };
    }
    let mut config = DecoderConfig { width, ..published };
    if config.heads > 1 {
        (config.heads, config.head_dim) = (width / HEAD, HEAD);
    }
    if let Some(settings) = &mut config.mnc {
        settings.landmark_hidden = 4 * width;
        settings.region = 8;
    }
    if let Some(settings) = &mut config.mtl_er {
        // What tasks hand on makes up whole heads.
        settings.head = [width, (width / 2).next_multiple_of(HEAD)];
    }
    config
}

/// Whom an encoder of a model of ours was trained on.
fn subjects(found: &Checkpoint, families: &Families) -> Result<Option<TrainedSubjects>, Error> {
    let (OWN, Some(path)) = (found.spelling, &found.config_file) else {
        return Ok(None);
    };
    let (subjects, trained_on) = match checkpoint::read_pretraining(path)? {
        Some(training) => (training.trained_subjects, training.trained_on),
        None => {
            let config = checkpoint::read_config(path, families)?;
            (config.trained_subjects, config.trained_on)
        }
    };
    Ok(match (subjects, trained_on) {
        // It was trained, on whom it does not say.
        (None, Some(_)) => Some(TrainedSubjects {
            complete: false,
            ..TrainedSubjects::new([0; 16])
        }),
        (subjects, _) => subjects,
    })
}

/// The preprocessing that an encoder comes with.
fn preprocessing(
    name: &str,
    found: &Checkpoint,
    notes: &mut Vec<String>,
) -> Result<Preprocessing, Error> {
    if let (OWN, Some(path)) = (found.spelling, &found.config_file)
        && let Some(own) = checkpoint::read_preprocessing(path)?
    {
        return Ok(own);
    }
    let mut given = pixels(name, found, notes);
    if found.classifier.as_ref().is_some_and(|c| c.of_faces) {
        notes.push(format!(
            "{name} was trained on crops of faces; a decoder is trained on what label files \
             hold, which are whole frames"
        ));
    }
    if given.resize != CoreResize::Squash {
        let said = found.preprocessing.as_ref();
        let edge = match said.and_then(|p| p.resize) {
            Some(Resize::ShortestEdge(edge)) => Some(format!("shortest edge of {edge}")),
            Some(Resize::Exact(..)) | None => None,
        };
        let crop = said.and_then(|p| p.crop);
        let crop = crop.map(|(h, w)| format!("centre crop of {h}x{w}"));
        let left: Vec<String> = edge.into_iter().chain(crop).collect();
        notes.push(format!(
            "{name}: its {} is not used: the whole frame is squashed, as in the paper \
             (preprocessing.resize in config.json; shortest-edge crops to the centre)",
            left.join(" with ")
        ));
        given.resize = CoreResize::Squash;
    }
    Ok(given)
}

/// What a file of others says of pixels: how they are normalised, and what part of the
/// frame is seen.
pub(crate) fn pixels(name: &str, found: &Checkpoint, notes: &mut Vec<String>) -> Preprocessing {
    let paper = Preprocessing::default();
    let Some(given) = &found.preprocessing else {
        notes.push(format!(
            "{name} does not say how pixels are normalised: ImageNet's mean and std are used"
        ));
        return paper;
    };
    let pixels = |n: usize| u32::try_from(n).ok();
    let resize = match (given.resize, given.crop) {
        (Some(Resize::ShortestEdge(edge)), Some((height, width)))
            if height == width && height < edge =>
        {
            match (pixels(edge), pixels(height)) {
                (Some(edge), Some(crop)) => CoreResize::CentreCrop { edge, crop },
                _ => CoreResize::ShortestEdgeCrop,
            }
        }
        (Some(Resize::ShortestEdge(_)), _) => CoreResize::ShortestEdgeCrop,
        (Some(Resize::Exact(..)) | None, _) => CoreResize::Squash,
    };
    const BILINEAR: u64 = 2;
    if let Some(filter) = given.resample.filter(|filter| *filter != BILINEAR) {
        notes.push(format!(
            "{name}: frames are resized by a bilinear filter, not by its own (number {filter} of \
             Pillow's)"
        ));
    }
    let is_as_it_says = match (given.resize, given.crop) {
        (Some(Resize::ShortestEdge(edge)), Some((h, w))) => h == w && h <= edge,
        (Some(Resize::Exact(h, w)), crop) => h == w && crop.is_none_or(|crop| crop == (h, w)),
        (Some(Resize::ShortestEdge(_)), None) | (None, None) => true,
        (None, Some(_)) => false,
    };
    if !is_as_it_says {
        notes.push(format!(
            "{name}: its size and crop of frames are not done here as it says them: {resize} is \
             used"
        ));
    }
    Preprocessing {
        mean: given.mean,
        std: given.std,
        resize,
        ..paper
    }
}
