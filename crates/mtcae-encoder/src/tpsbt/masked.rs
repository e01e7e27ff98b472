//! TPSBT in masked pre-training, as its paper has it (arXiv 2401.00416): a stage goes back
//! from its bottlenecks, which know of visible tubes alone, and what the decoder gets is of
//! all stages.

use std::sync::Arc;

use mtcae_nn::candle_core::{self, Module, Tensor};
use mtcae_nn::{Gather, LayerNorm, Pass, VarBuilder, ops};

use super::{Tpsbt, TpsbtConfig};
use crate::error::Error;
use crate::masked::{
    DecoderConfig, Mask, MaskedConfig, Masking, Places, Pretrained, Target, Visible,
};
use crate::seam::EncoderConfig;

/// The norm of the sum over the stages, which the encoder alone has not.
const FUSION: &str = "fusion";

impl Pretrained for TpsbtConfig {
    /// Nine places of ten are masked.
    fn published(&self) -> MaskedConfig {
        let decoder = DecoderConfig {
            eps: self.eps,
            ..DecoderConfig::default()
        };
        let mask = Masking::Tube { ratio: 0.9 };
        MaskedConfig::new(self.clone(), decoder, mask, Target::Normalised)
    }

    fn convolutions(&self) -> &'static [&'static str] {
        &["patch_embed.", "temporal_downsamples."]
    }

    fn more(&self) -> Vec<(String, Vec<usize>)> {
        let d = self.width;
        let tensors = [("weight", vec![d]), ("bias", vec![d])].into_iter();
        tensors
            .map(|(name, shape)| (format!("{FUSION}.{name}"), shape))
            .collect()
    }

    fn visible(&self, vb: VarBuilder<'_>, more: VarBuilder<'_>) -> Result<Arc<dyn Visible>, Error> {
        Ok(Arc::new(Pyramid {
            fusion: LayerNorm::new(self.width, self.eps, more.pp(FUSION))?,
            encoder: Tpsbt::new(self, vb)?,
        }))
    }
}

/// The encoder and the norm of what its stages give together.
#[derive(Debug)]
struct Pyramid {
    encoder: Tpsbt,
    fusion: LayerNorm,
}

/// The visible tubes are at the same places in every slice of time, so that time is halved
/// at each of them.
impl Visible for Pyramid {
    fn see(&self, tubes: &Tensor, masks: &[Mask], pass: &mut Pass) -> Result<Tensor, Error> {
        let config = &self.encoder.config;
        config.input().check(tubes)?;
        let slices = config.slices()[0];
        for mask in masks {
            steady(mask, slices, config.places())?;
        }
        let lists: Vec<&[u32]> = masks.iter().map(Mask::visible).collect();
        let places = Places::new(config.sizes().tokens(), &lists)?;
        let each = places.count() / slices;
        let x = self.encoder.embedding.forward_at(tubes, &places, pass)?;
        let (mut sum, later) = self.encoder.pyramid(x, each, pass)?;
        for x in later {
            sum = (sum + stretched(&x, slices, each)?)?;
        }
        let f = self.fusion.forward(&sum)?;
        pass.record(|| "F".to_owned(), &f);
        Ok(f)
    }
}

/// Tokens (B, T·P, D) of fewer slices of time → (B, `slices`·P, D), each slice several times.
fn stretched(x: &Tensor, slices: usize, places: usize) -> candle_core::Result<Tensor> {
    let tokens = x.dim(1)?;
    let times = slices * places / tokens;
    let order = (0..slices * places).map(|i| (i / places / times * places + i % places) as u32);
    ops::gather_rows(x, &Arc::new(Gather::new(tokens, order.collect())))
}

/// Makes sure that a mask shows the same places in every slice of time.
fn steady(mask: &Mask, slices: usize, places: usize) -> Result<(), Error> {
    let visible = mask.visible();
    let each = visible.len() / slices;
    let first = &visible[..each];
    let same = |(slice, tubes): (usize, &[u32])| {
        let from = (slice * places) as u32;
        tubes
            .iter()
            .zip(first)
            .all(|(tube, first)| *tube == first + from)
    };
    let whole = each > 0 && visible.len() == slices * each;
    match whole && visible.chunks(each).enumerate().all(same) {
        true => Ok(()),
        false => Err(Error::Input {
            what: "visible tubes",
            found: vec![visible.len()],
            want: format!("the same places in each of {slices} slices of time"),
        }),
    }
}
