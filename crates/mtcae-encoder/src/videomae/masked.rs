//! VideoMAE in masked pre-training (arXiv 2203.12602; MCG-NJU/VideoMAE,
//! `modeling_pretrain.py`).

use std::sync::Arc;

use mtcae_nn::candle_core::Tensor;
use mtcae_nn::{Pass, VarBuilder};

use super::{VideoMae, VideoMaeConfig};
use crate::error::Error;
use crate::masked::{
    DecoderConfig, Mask, MaskedConfig, Masking, Places, Pretrained, Target, Visible,
};
use crate::seam::EncoderConfig;

impl Pretrained for VideoMaeConfig {
    /// A decoder of 4 blocks, half as wide as the encoder; nine places of ten are masked.
    fn published(&self) -> MaskedConfig {
        let width = self.width / 2;
        let heads = match width {
            // `pretrain_videomae_huge_patch16_224`; all others have heads of 64 channels.
            640 => 8,
            _ if width.is_multiple_of(64) => width / 64,
            _ => self.heads,
        };
        let encoder = Self {
            final_norm: true,
            ..self.clone()
        };
        let decoder = DecoderConfig {
            width,
            depth: 4,
            heads,
            hidden: 4 * width,
            eps: self.eps,
        };
        let mask = Masking::Tube { ratio: 0.9 };
        MaskedConfig::new(encoder, decoder, mask, Target::Normalised)
    }

    fn visible(&self, vb: VarBuilder<'_>, _: VarBuilder<'_>) -> Result<Arc<dyn Visible>, Error> {
        Ok(Arc::new(VideoMae::new(self, vb)?))
    }
}

/// Attention over the visible tokens alone.
impl Visible for VideoMae {
    fn see(&self, tubes: &Tensor, masks: &[Mask], pass: &mut Pass) -> Result<Tensor, Error> {
        self.config.input().check(tubes)?;
        let lists: Vec<&[u32]> = masks.iter().map(Mask::visible).collect();
        let places = Places::new(self.config.tokens(), &lists)?;
        let tokens = self.parts.embedding.forward_at(tubes, &places, pass)?;
        self.encode(&tokens, pass)
    }
}
