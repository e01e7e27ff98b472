//! What is pre-trained, and on what.

use mtcae_nn::weights::shown;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::decoder::Decoder;
use super::mask::{Mask, Masking};
use crate::error::Error;
use crate::family::Families;
use crate::seam::{Config, Group, Input, Layout, Parameter};
use crate::sizes::{Sizes, fault};

/// Everything needed to rebuild a model of masked pre-training, and the masks and targets
/// that it learns from.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub struct MaskedConfig {
    /// The encoder, as it is pre-trained: its features are tokens, mostly behind a norm.
    pub encoder: Config,
    /// The decoder.
    pub decoder: DecoderConfig,
    /// Which tubes are masked.
    pub mask: Masking,
    /// What is predicted of them.
    pub target: Target,
    /// What was subtracted from the RGB channels, between 0 and 1, of the encoder's input.
    pub mean: [f32; 3],
    /// What they were divided by.
    pub std: [f32; 3],
}

/// [`MaskedConfig`] as it is read, before the encoder's family is known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    encoder: Map<String, Value>,
    decoder: DecoderConfig,
    mask: Masking,
    target: Target,
    mean: [f32; 3],
    std: [f32; 3],
}

/// Sizes of the decoder: plain blocks over all tokens of a clip.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Channels of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads; they divide the width.
    pub heads: usize,
    /// Channels inside the MLP.
    pub hidden: usize,
    /// ε of every LayerNorm.
    pub eps: f64,
}

impl Default for DecoderConfig {
    /// MAE-DFER's and SVFAP's: 4 blocks of width 384, 6 heads.
    fn default() -> Self {
        Self {
            width: 384,
            depth: 4,
            heads: 6,
            hidden: 1536,
            eps: 1e-6,
        }
    }
}

/// What is predicted of a masked tube: its numbers in the order (t, h, w, c).
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Its pixels between 0 and 1.
    Pixels,
    /// Its pixels, less their mean over a channel of the tube, by their deviation there
    /// (VideoMAE, SVFAP).
    Normalised,
    /// As [`Self::Normalised`], but of the second frame of a tube the difference from the
    /// first (MAE-DFER).
    NormalisedDifference,
}

impl MaskedConfig {
    /// A config for pixels of ImageNet's mean and deviation.
    pub fn new(
        encoder: impl Into<Config>,
        decoder: DecoderConfig,
        mask: Masking,
        target: Target,
    ) -> Self {
        Self {
            encoder: encoder.into(),
            decoder,
            mask,
            target,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// How the family of an encoder is published to be pre-trained.
    ///
    /// # Errors
    /// [`Error::Field`] names the family that knows no masked pre-training, or the field
    /// that does not fit.
    pub fn of(encoder: &Config) -> Result<Self, Error> {
        encoder.check()?;
        let Some(family) = encoder.pretrained() else {
            return Err(unknown(encoder, ORIGIN));
        };
        let config = family.published();
        config.check(ORIGIN)?;
        Ok(config)
    }

    /// Reads and checks an object of the fields, whose encoder is of one of `families`.
    /// `origin` says where it is from in messages.
    ///
    /// # Errors
    /// [`Error::Field`] or [`Error::Json`] names the field at fault.
    pub fn read(
        fields: Map<String, Value>,
        families: &Families,
        origin: &str,
    ) -> Result<Self, Error> {
        let written: Written = serde_json::from_value(Value::Object(fields))
            .map_err(|e| fault(origin, "masked", shown(&e.to_string())))?;
        let config = Self {
            encoder: families.read(written.encoder, origin)?,
            decoder: written.decoder,
            mask: written.mask,
            target: written.target,
            mean: written.mean,
            std: written.std,
        };
        config.check(origin)?;
        Ok(config)
    }

    /// Checks that the values make a model and fit each other.
    ///
    /// # Errors
    /// [`Error::Field`] names the first field that does not fit.
    pub fn validate(&self) -> Result<(), Error> {
        self.check(ORIGIN)
    }

    /// As [`Self::validate`] of values that come from `origin`.
    pub(super) fn check(&self, origin: &str) -> Result<(), Error> {
        let fail = |field: &str, reason: String| Err(fault(origin, field, reason));
        self.encoder.check()?;
        let Some(family) = self.encoder.pretrained() else {
            return Err(unknown(&self.encoder, origin));
        };
        let input = self.encoder.input();
        let Layout::Tubes { tubelet, .. } = input.layout else {
            return fail("encoder", "its input is not cut into tubes".to_owned());
        };
        if input.channels != 3 {
            let reason = format!("{}; pixels have 3", input.channels);
            return fail("encoder.channels", reason);
        }
        // What the decoder has of its own; the rest was checked as the encoder's.
        match self.decoder_sizes().check(origin) {
            Err(Error::Field { field, reason, .. }) => {
                return fail(&format!("decoder.{field}"), reason);
            }
            checked => checked?,
        }
        let [_, height, width] = self.grid();
        let checked = self.mask.check([height, width]);
        if let Err((field, reason)) = checked {
            return fail(&format!("mask.{field}"), reason);
        }
        if let Err((field, reason)) = family.suits(&self.mask) {
            return fail(field, reason);
        }
        if self.target == Target::NormalisedDifference && tubelet != 2 {
            let reason = format!(
                "\"normalised-difference\" is of tubes of 2 frames, and the encoder's have {tubelet}"
            );
            return fail("target", reason);
        }
        let mut statistics = self.mean.iter().chain(&self.std);
        if !statistics.all(|v| v.is_finite()) {
            return fail("mean", "mean and std must be finite".to_owned());
        }
        if self.std.iter().any(|s| *s <= 0.0) {
            return fail("std", format!("{:?} is not positive", self.std));
        }
        Ok(())
    }

    /// The grid (t, h, w) of a clip's tubes.
    pub fn grid(&self) -> [usize; 3] {
        let Input { frames, size, .. } = self.encoder.input();
        let (tubelet, patch) = self.encoder.input().tube();
        [frames / tubelet, size / patch, size / patch]
    }

    /// Tubes N of a clip.
    pub fn tubes(&self) -> usize {
        self.grid().iter().product()
    }

    /// Tubes V of a clip that the encoder sees.
    pub fn visible(&self) -> usize {
        self.mask.visible(self.grid())
    }

    /// Numbers P of a tube.
    pub fn tube_len(&self) -> usize {
        let input = self.encoder.input();
        input.numbers() / self.tubes()
    }

    /// The mask of a clip, which depends on this config's mask and grid and on `seed`.
    ///
    /// # Errors
    /// As [`Self::validate`].
    pub fn mask(&self, seed: u64) -> Result<Mask, Error> {
        self.validate()?;
        Ok(self.mask.draw(self.grid(), seed))
    }

    /// All parameters, from input to output, below `encoder.` and `decoder.`. The decoder's
    /// depth is that of what follows the encoder's last block.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups = self.encoder.groups();
        for parameter in groups.iter_mut().flat_map(|group| &mut group.parameters) {
            parameter.name = format!("encoder.{}", parameter.name);
        }
        let mut decoder = Decoder::groups(self);
        if let Some(family) = self.encoder.pretrained()
            && let Some(first) = decoder.first_mut()
        {
            let more = family.more().into_iter();
            let more = more.map(|(name, shape)| Parameter::new(name, shape));
            first.parameters.splice(0..0, more);
        }
        for parameter in decoder.iter_mut().flat_map(|group| &mut group.parameters) {
            parameter.name = format!("decoder.{}", parameter.name);
        }
        groups.extend(decoder);
        groups
    }

    /// Names and shapes of all tensors.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let groups = self.groups().into_iter();
        groups
            .flat_map(|group| group.parameters)
            .map(|p| (p.name, p.shape))
            .collect()
    }

    /// Sizes of the decoder's blocks, over clips as the encoder's.
    pub(super) fn decoder_sizes(&self) -> Sizes {
        let input = self.encoder.input();
        let (tubelet, patch) = input.tube();
        let DecoderConfig {
            width,
            depth,
            heads,
            hidden,
            eps,
        } = self.decoder;
        Sizes {
            image_size: input.size,
            frames: input.frames,
            channels: input.channels,
            patch,
            tubelet,
            width,
            depth,
            heads,
            hidden,
            eps,
            drop_path: 0.0,
        }
    }
}

pub(super) const ORIGIN: &str = "masked config";

/// That an encoder's family knows no masked pre-training.
pub(super) fn unknown(encoder: &Config, origin: &str) -> Error {
    let known: Vec<&str> = Families::pretrained().collect();
    let reason = format!(
        "{} has no masked pre-training; families that have: {}",
        shown(encoder.family()),
        known.join(", ")
    );
    fault(origin, "encoder.family", reason)
}
