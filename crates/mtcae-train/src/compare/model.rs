//! The model that a system begins with: its encoder, drawn or pretrained, and a drawn decoder.

use std::path::Path;

use mtcae_core::Sampling;
use mtcae_model::encoder::{Config as EncoderConfig, Families, Overrides, Progress, open_named};
use mtcae_model::init::{Draw, draw, suited_decoder, take_encoder};
use mtcae_model::{Config as ModelConfig, Preprocessing, checkpoint};
use mtcae_nn::ParamStore;
use serde_json::Value;

use super::{Preset, Size, System, Track};
use crate::Error;

/// Height and width of what small systems are shown, in pixels.
const SMALL: usize = 64;

/// How systems are built.
#[derive(Clone, Debug)]
pub struct Build<'a> {
    /// In which sizes.
    pub size: Size,
    /// Under which protocol.
    pub track: Track,
    /// Names of the classes.
    pub classes: &'a [String],
    /// Seed of what is drawn.
    pub seed: u64,
}

/// Writes the checkpoint that a system begins with, and gives what was noticed of its
/// encoder.
///
/// # Errors
/// Names the family, size, decoder, file or tensor at fault.
pub fn write_start(
    system: &System,
    build: &Build<'_>,
    folder: &Path,
    progress: &mut Progress<'_>,
) -> Result<Vec<String>, Error> {
    let store = ParamStore::new(build.seed);
    let (config, notes) = model(system, build, &store, progress)?;
    // Toys learn from nothing only where their matrices are drawn to their size.
    let how = match build.size {
        Size::Full => Draw::Normal,
        Size::Small => Draw::Xavier,
    };
    draw(&config, &store, how)?;
    let vars = store.vars();
    let tensors = vars.iter().map(|(name, var)| (&name[..], var.as_tensor()));
    checkpoint::save(folder, &config, tensors)?;
    Ok(notes)
}

/// The config of a system's model, and what was noticed; what is pretrained of it is put
/// into the store.
fn model(
    system: &System,
    build: &Build<'_>,
    store: &ParamStore,
    progress: &mut Progress<'_>,
) -> Result<(ModelConfig, Vec<String>), Error> {
    let fault = |field, reason| Error::Config { field, reason };
    let native = system.shown(build.track)?;
    let sizes = Overrides {
        image_size: match (build.size, native) {
            (Size::Small, _) => Some(SMALL),
            (Size::Full, native) => native.map(|native| native.image_size),
        },
        ..Overrides::default()
    };
    let families = Families::default();
    let structure = system.decoder.parse().map_err(|e| {
        let name = &system.name;
        fault("decoder", format!("of {name}: {e}"))
    })?;
    let classes = build.classes.to_vec();
    let (mut config, notes) = match &system.weights {
        None => {
            let preset = system.preset(build.size);
            let encoder = drawn(preset, &sizes, &families)
                .map_err(|e| fault("encoder", format!("{preset}: {e}")))?;
            let note = format!("{}: its encoder is drawn, not pretrained", system.title);
            (ModelConfig::new(encoder, structure, classes), vec![note])
        }
        Some(name) => {
            let found = open_named(name, &sizes, &families, progress)?;
            let taken = take_encoder(&found, name, &families, store)?;
            let mut config = ModelConfig::new(found.config, structure, classes);
            // How pixels are normalised goes with the weights; which are seen, with the
            // protocol.
            let Preprocessing { mean, std, .. } = taken.preprocessing;
            (config.preprocessing.mean, config.preprocessing.std) = (mean, std);
            config.trained_subjects = taken.trained_subjects;
            (config, taken.notes)
        }
    };
    if let Some(native) = native {
        config.preprocessing.crop = native.crop;
        config.preprocessing.sampling = native.sampling;
    }
    config.decoder = suited_decoder(config.decoder);
    config.validate()?;
    Ok((config, notes))
}

/// An encoder's config by its preset.
fn drawn(
    preset: &Preset,
    sizes: &Overrides,
    families: &Families,
) -> Result<EncoderConfig, mtcae_model::encoder::Error> {
    let config = Families::preset(&preset.family, &preset.size, sizes)?;
    let (Ok(Value::Object(mut fields)), Ok(Value::Object(more))) = (
        serde_json::to_value(&config),
        serde_json::to_value(&preset.fields),
    ) else {
        return Ok(config);
    };
    fields.extend(more);
    families.read(fields, "systems")
}

/// Which frames a system is tested on, where they are others than those it was trained on.
///
/// # Errors
/// As [`System::shown`].
pub fn test_sampling(system: &System, track: Track) -> Result<Option<Sampling>, Error> {
    Ok(system.shown(track)?.and_then(|native| native.test))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Systems;

    #[test]
    fn every_known_system_makes_a_model_in_both_sizes_and_on_both_tracks() {
        let classes: Vec<String> = ["angry", "happy", "sad"].map(str::to_owned).to_vec();
        for system in Systems::known().expect("the paper's").all() {
            for (size, track) in [
                (Size::Full, Track::Paper),
                (Size::Full, Track::Native),
                (Size::Small, Track::Paper),
                (Size::Small, Track::Native),
            ] {
                let build = Build {
                    size,
                    track,
                    classes: &classes,
                    seed: 0,
                };
                let store = ParamStore::new(0);
                let made = model(system, &build, &store, &mut |_, _, _| ());
                let (config, _) = made.unwrap_or_else(|e| panic!("{}: {e}", system.name));
                if (size, track) == (Size::Small, Track::Paper) {
                    draw(&config, &store, Draw::Xavier).expect("drawn");
                    let vars = store.vars().into_iter();
                    let numbers: usize = vars.map(|(_, var)| var.elem_count()).sum();
                    assert!(numbers < 5_000_000, "{}: {numbers}", system.name);
                }
            }
        }
    }
}
