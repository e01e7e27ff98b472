//! Reconstructions to look at.

use mtcae_nn::candle_core::{DType, Device, Result, Tensor};

use super::Reconstruction;
use super::config::MaskedConfig;
use super::mask::{Mask, Places};
use super::target;
use crate::error::Error;

/// Clips as they were, as the encoder saw them, and as they were reconstructed: each
/// (B, T, H, W, 3) of 8 bits, on the CPU.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// What was there.
    pub original: Tensor,
    /// The same, masked tubes grey.
    pub masked: Tensor,
    /// The same, masked tubes as they were predicted. Their mean and deviation, which the
    /// targets leave out, are those of the original.
    pub reconstructed: Tensor,
}

/// What a masked tube is shown as, between 0 and 1.
const GREY: f32 = 0.5;

impl Pictures {
    /// Pictures of what a model of `config` made of `tubes` (B, N, P) under `masks`.
    ///
    /// # Errors
    /// When the three do not belong to each other.
    pub fn new(
        config: &MaskedConfig,
        tubes: &Tensor,
        masks: &[Mask],
        reconstruction: &Reconstruction,
    ) -> std::result::Result<Self, Error> {
        config.encoder.input().check(tubes)?;
        let lists: Vec<&[u32]> = masks.iter().map(Mask::masked).collect();
        let places = Places::new(config.tubes(), &lists)?;
        let tubes = tubes.to_device(&Device::Cpu)?;
        let predicted = reconstruction.predicted.to_device(&Device::Cpu)?;
        let original = target::pixels(&tubes, config)?;
        let hidden = target::pixels(&places.pick(&tubes.to_dtype(DType::F32)?)?, config)?;
        let restored = target::restored(&predicted, &hidden, config)?;
        let grey = (hidden.zeros_like()? + f64::from(GREY))?;
        Ok(Self {
            masked: levels(
                &places.put(&original.flatten_from(2)?, &grey.flatten_from(2)?)?,
                config,
            )?,
            reconstructed: levels(
                &places.put(&original.flatten_from(2)?, &restored.flatten_from(2)?)?,
                config,
            )?,
            original: levels(&original.flatten_from(2)?, config)?,
        })
    }
}

/// Pixels (B, N, P) between 0 and 1 in the order (c, t, h, w) → (B, T, H, W, 3) of 8 bits.
fn levels(pixels: &Tensor, config: &MaskedConfig) -> Result<Tensor> {
    let [t, h, w] = config.grid();
    let input = config.encoder.input();
    let (tubelet, patch) = input.tube();
    let batch = pixels.dim(0)?;
    let tubes = [batch, t, h, w, input.channels, tubelet, patch, patch];
    let clips = [batch, input.frames, input.size, input.size, input.channels];
    ((pixels * 255.0)? + 0.5)?
        .clamp(0f32, 255f32)?
        .to_dtype(DType::U8)?
        .reshape(&tubes[..])?
        .permute(&[0, 1, 5, 2, 6, 3, 7, 4][..])?
        .reshape(&clips[..])
}
