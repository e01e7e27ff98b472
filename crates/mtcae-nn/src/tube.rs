//! Tube embedding: a Conv3d whose stride is its kernel.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::linear::{Linear, linear};

/// Cuts clips into tubes and projects each to D channels.
///
/// Tubes do not overlap, so the convolution is exactly a reshape and a linear
/// layer with the kernel (D, C, t, h, w) viewed as (D, C·t·h·w).
#[derive(Clone, Debug)]
pub struct TubeEmbedding {
    proj: Linear,
    tubelet: usize,
    patch: usize,
}

impl TubeEmbedding {
    /// `proj` (D, `channels`·`tubelet`·`patch`²) with bias below `vb`.
    pub fn new(
        channels: usize,
        tubelet: usize,
        patch: usize,
        width: usize,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        Ok(Self {
            proj: linear(channels * tubelet * patch * patch, width, vb.pp("proj"))?,
            tubelet,
            patch,
        })
    }

    /// The projection of a tube.
    pub fn projection(&self) -> &Linear {
        &self.proj
    }

    /// Clips (B, T, C, H, W) → tubes (B, N, C·t·h·w), tokens in the order
    /// (T/t, H/h, W/w) and the elements of a tube in the order (C, t, h, w).
    pub fn tubes(&self, clips: &Tensor) -> Result<Tensor> {
        tubes(clips, self.tubelet, self.patch)
    }
}

/// Clips (B, T, C, H, W) → tubes (B, N, C·t·p·p) of t = `tubelet` frames and p =
/// `patch` pixels each way: tokens in the order (T/t, H/p, W/p), the elements of a
/// tube in the order (C, t, p, p).
pub fn tubes(clips: &Tensor, tubelet: usize, patch: usize) -> Result<Tensor> {
    let (b, frames, c, h, w) = clips.dims5()?;
    let (t, p) = (tubelet, patch);
    if frames % t != 0 || h % p != 0 || w % p != 0 {
        candle_core::bail!("clips of {frames}×{h}×{w} cannot be cut into tubes of {t}×{p}×{p}");
    }
    let (nt, nh, nw) = (frames / t, h / p, w / p);
    clips
        .reshape(&[b, nt, t, c, nh, p, nw, p][..])?
        .permute(&[0, 1, 4, 6, 3, 2, 5, 7][..])?
        .reshape((b, nt * nh * nw, c * t * p * p))
}

impl Module for TubeEmbedding {
    /// Tubes (B, N, C·t·h·w) → (B, N, D).
    fn forward(&self, tubes: &Tensor) -> Result<Tensor> {
        self.proj.forward(tubes)
    }
}
