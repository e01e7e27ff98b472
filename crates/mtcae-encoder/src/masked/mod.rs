//! Masked pre-training: an encoder that sees a tenth of a clip's tubes, and a decoder that
//! predicts the others (VideoMAE, Tong et al., 2022, arXiv 2203.12602; MAE-DFER, Sun et al.,
//! 2023, arXiv 2307.02227; SVFAP, Sun et al., 2024, arXiv 2401.00416).
//!
//! ```
//! use mtcae_encoder::candle_core::{DType, Device, Tensor};
//! use mtcae_encoder::masked::{self, MaskedConfig};
//! use mtcae_encoder::nn::{ParamStore, Pass};
//! use mtcae_encoder::{Config, VideoMaeConfig};
//!
//! # fn main() -> Result<(), mtcae_encoder::Error> {
//! let config = MaskedConfig::of(&Config::from(VideoMaeConfig::tiny()))?;
//! let model = masked::draw(&config, &ParamStore::new(42), &Device::Cpu)?;
//! // Normalised tubes (B, N, P), and a mask drawn for each clip from a seed of its own.
//! let tubes = Tensor::zeros((1, config.tubes(), config.tube_len()), DType::F32, &Device::Cpu)?;
//! let masks = [config.mask(7)?];
//! let reconstruction = model.forward(&tubes, &masks, &mut Pass::training(1))?;
//! let gradients = reconstruction.loss()?.backward()?;
//! # Ok(())
//! # }
//! ```

mod config;
mod decoder;
mod draw;
mod files;
mod mask;
mod names;
mod picture;
mod target;

use std::fmt::Debug;
use std::sync::Arc;

use mtcae_nn::candle_core::{DType, Tensor};
use mtcae_nn::{Pass, VarBuilder};

pub use config::{DecoderConfig, MaskedConfig, Target};
pub use draw::draw;
pub use files::{FORMAT, MaskedCheckpoint, open, save};
pub use mask::{Mask, Masking, Places};
pub use picture::Pictures;

use crate::error::Error;
use crate::seam::EncoderConfig;
use decoder::Decoder;

/// What a family of encoders knows of its masked pre-training.
pub trait Pretrained: EncoderConfig {
    /// The published settings for an encoder of these sizes.
    fn published(&self) -> MaskedConfig;

    /// Whether the encoder can be trained under such masks; `Err` is the field at fault and
    /// the reason.
    ///
    /// # Errors
    /// When it cannot.
    fn suits(&self, _mask: &Masking) -> Result<(), (&'static str, String)> {
        Ok(())
    }

    /// What names of the encoder's convolutions begin with, which are drawn as such.
    fn convolutions(&self) -> &'static [&'static str] {
        &["patch_embed."]
    }

    /// Names and shapes of what only pre-training has beside the encoder and the decoder.
    fn more(&self) -> Vec<(String, Vec<usize>)> {
        Vec::new()
    }

    /// The encoder of the tensors below `vb`, and of [`Self::more`] below `more`.
    ///
    /// # Errors
    /// As [`EncoderConfig::build`].
    fn visible(&self, vb: VarBuilder<'_>, more: VarBuilder<'_>) -> Result<Arc<dyn Visible>, Error>;
}

/// An encoder that sees some tubes of a clip.
pub trait Visible: Debug + Send + Sync {
    /// Normalised tubes (B, N, P) of whole clips → features (B, V, D) of the visible ones, in
    /// the order in which the masks name them.
    ///
    /// # Errors
    /// [`Error::Input`] when the tubes are of other clips, or the masks none for this encoder.
    fn see(&self, tubes: &Tensor, masks: &[Mask], pass: &mut Pass) -> Result<Tensor, Error>;
}

/// An encoder and the decoder that it is pre-trained with.
#[derive(Clone, Debug)]
pub struct Masked {
    config: MaskedConfig,
    encoder: Arc<dyn Visible>,
    decoder: Decoder,
}

/// What was predicted of masked tubes, and what they are: (B, M, P) each, in `f32`.
#[derive(Clone, Debug)]
pub struct Reconstruction {
    /// What the decoder gives.
    pub predicted: Tensor,
    /// What it should give; a constant.
    pub target: Tensor,
}

impl Masked {
    /// Asks `vb` for the tensors of the config's groups.
    ///
    /// # Errors
    /// When the configuration is not valid or `vb` refuses a tensor.
    pub fn new(config: &MaskedConfig, vb: VarBuilder<'_>) -> Result<Self, Error> {
        config.validate()?;
        let family = config.encoder.pretrained();
        let family = family.ok_or_else(|| config::unknown(&config.encoder, config::ORIGIN))?;
        Ok(Self {
            config: config.clone(),
            encoder: family.visible(vb.pp("encoder"), vb.pp("decoder"))?,
            decoder: Decoder::new(config, &vb.pp("decoder"))?,
        })
    }

    /// What it was built with.
    pub fn config(&self) -> &MaskedConfig {
        &self.config
    }

    /// The encoder alone.
    pub fn encoder(&self) -> &dyn Visible {
        &*self.encoder
    }

    /// Normalised tubes (B, N, P), as [`Input::cut`](crate::Input::cut) gives them, and a mask
    /// for each clip, all of as many tubes → what was predicted of the masked ones. Records
    /// what the encoder and the decoder do.
    ///
    /// # Errors
    /// [`Error::Input`] when the tubes are of other clips, or the masks are not theirs.
    pub fn forward(
        &self,
        tubes: &Tensor,
        masks: &[Mask],
        pass: &mut Pass,
    ) -> Result<Reconstruction, Error> {
        self.config.encoder.input().check(tubes)?;
        let all = self.config.tubes();
        let (batch, own) = (tubes.dim(0)?, |mask: &Mask| mask.tubes() == all);
        if masks.len() != batch || !masks.iter().all(own) {
            return Err(Error::Input {
                what: "masks",
                found: masks.iter().map(Mask::tubes).collect(),
                want: format!("{batch}, of {all} tubes each"),
            });
        }
        let lists = |list: fn(&Mask) -> &[u32]| -> Vec<&[u32]> { masks.iter().map(list).collect() };
        let visible = Places::new(all, &lists(Mask::visible))?;
        let masked = Places::new(all, &lists(Mask::masked))?;
        let features = self.encoder.see(tubes, masks, pass)?;
        let predicted = self.decoder.forward(&features, &visible, &masked, pass)?;
        Ok(Reconstruction {
            predicted: predicted.to_dtype(DType::F32)?,
            target: target::target(&masked.pick(&tubes.detach())?, &self.config)?,
        })
    }
}

impl Reconstruction {
    /// The mean squared error over all numbers of all masked tubes, a scalar.
    ///
    /// # Errors
    /// When the two are not alike.
    pub fn loss(&self) -> Result<Tensor, Error> {
        Ok((&self.predicted - &self.target)?.sqr()?.mean_all()?)
    }
}
