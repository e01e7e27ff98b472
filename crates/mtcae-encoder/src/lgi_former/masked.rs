//! LGI-Former in masked pre-training (arXiv 2307.02227; sunlicai/MAE-DFER,
//! `modeling_pretrain.py`).

use std::sync::Arc;

use mtcae_nn::candle_core::Tensor;
use mtcae_nn::{Pass, VarBuilder};

use super::config::Features;
use super::{LgiFormer, LgiFormerConfig};
use crate::error::Error;
use crate::masked::{
    DecoderConfig, Mask, MaskedConfig, Masking, Places, Pretrained, Target, Visible,
};
use crate::seam::EncoderConfig;

impl Pretrained for LgiFormerConfig {
    /// Nine places of ten are masked in each region, frames and their differences are
    /// predicted, and F is all tokens.
    fn published(&self) -> MaskedConfig {
        let [_, rows, columns] = self.regions;
        let encoder = Self {
            features: Features::Tokens,
            final_norm: true,
            ..self.clone()
        };
        let decoder = DecoderConfig {
            eps: self.eps,
            ..DecoderConfig::default()
        };
        let mask = Masking::PartWindow {
            ratio: 0.9,
            windows: [rows, columns],
        };
        MaskedConfig::new(encoder, decoder, mask, Target::NormalisedDifference)
    }

    /// Every region sees as many tubes, and F is all of them.
    fn suits(&self, mask: &Masking) -> Result<(), (&'static str, String)> {
        if self.features != Features::Tokens {
            let reason = "should be \"tokens\": those of regions reconstruct nothing";
            return Err(("encoder.features", reason.to_owned()));
        }
        let [_, rows, columns] = self.regions;
        let [r, c] = mask.windows();
        match r.is_multiple_of(rows) && c.is_multiple_of(columns) {
            true => Ok(()),
            false => {
                let reason = format!(
                    "{r}×{c} windows are masked, and {rows}×{columns} regions would not see as \
                     many tubes each; should be \"part-window\" with \"windows\": [{rows}, \
                     {columns}]"
                );
                Err(("mask.windows", reason))
            }
        }
    }

    fn visible(&self, vb: VarBuilder<'_>, _: VarBuilder<'_>) -> Result<Arc<dyn Visible>, Error> {
        Ok(Arc::new(LgiFormer::new(self, vb)?))
    }
}

/// Each region keeps its own token and those of its visible tubes.
impl Visible for LgiFormer {
    fn see(&self, tubes: &Tensor, masks: &[Mask], pass: &mut Pass) -> Result<Tensor, Error> {
        self.config.input().check(tubes)?;
        let (all, regions) = (self.config.sizes().tokens(), self.config.region_count());
        let order = self.config.order();
        let (mut by_region, mut by_grid) = (Vec::new(), Vec::new());
        for mask in masks {
            let (list, back) = in_regions(mask, &order, regions)?;
            by_region.push(list);
            by_grid.push(back);
        }
        let places = Places::new(all, &by_region)?;
        let seen = places.count();
        let x = self.parts.embedding.forward_at(tubes, &places, pass)?;
        let width = self.config.width;
        let x = x.reshape((masks.len() * regions, seen / regions, width))?;
        let x = self.over_regions(&x, pass)?;
        let x = x.reshape((masks.len(), seen, width))?;
        let x = Places::new(seen, &by_grid)?.pick(&x)?;
        Ok(self.finish(x, pass)?)
    }
}

/// The visible tubes of a clip region after region, and where each of them is in that list.
fn in_regions(mask: &Mask, order: &[usize], regions: usize) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let mut rank = vec![None; order.len()];
    for (i, tube) in (0u32..).zip(mask.visible()) {
        if let Some(rank) = rank.get_mut(*tube as usize) {
            *rank = Some(i);
        }
    }
    let each = order.len() / regions;
    let counts = order
        .chunks(each)
        .map(|region| region.iter().filter(|tube| rank[**tube].is_some()).count());
    let counts: Vec<usize> = counts.collect();
    if counts.iter().any(|n| *n == 0 || *n != counts[0]) {
        return Err(Error::Input {
            what: "visible tubes of regions",
            found: counts,
            want: "as many in each, at least one".to_owned(),
        });
    }
    let mut list = Vec::with_capacity(mask.visible().len());
    let mut back = vec![0; mask.visible().len()];
    for tube in order {
        if let Some(i) = rank[*tube] {
            back[i as usize] = list.len() as u32;
            list.push(*tube as u32);
        }
    }
    Ok((list, back))
}
