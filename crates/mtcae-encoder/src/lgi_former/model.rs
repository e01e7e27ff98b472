//! LGI-Former, local-global interaction (Sun et al., 2023, arXiv 2307.02227;
//! sunlicai/MAE-DFER, `modeling_finetune.py`): a ViT over tubes whose attention stays
//! within R regions of L tubes, each with a token that speaks for it.
//!
//! x is (B·R, 1 + L, D): in each region its own token m, the messenger, before those of
//! its tubes l.

use candle_nn::Init;
use mtcae_nn::candle_core::{Module, Result, Tensor};
use mtcae_nn::{
    CrossAttention, DropPath, INIT_STD, LayerNorm, Mlp, Over, Pass, SelfAttention, VarBuilder,
};

use super::config::{Features, LgiFormerConfig};
use crate::embedding::{Embedding, Position};
use crate::error::Error;
use crate::seam::EncoderConfig;

/// 1. x ← x + first(norm(x)), within each region;
/// 2. m ← m + second(norm(m)), between the regions;
/// 3. l ← l + third(norm0(l), norm1(m)), from the regions to all tubes;
/// 4. x ← x + mlp(norm2(x)).
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) first: (LayerNorm, SelfAttention),
    pub(super) second: (LayerNorm, SelfAttention),
    /// The norms of queries, and of keys and values.
    pub(super) third: (LayerNorm, LayerNorm, CrossAttention),
    pub(super) norm2: LayerNorm,
    pub(super) mlp: Mlp,
    drop_path: DropPath,
}

impl Block {
    pub(super) fn new(
        config: &LgiFormerConfig,
        drop_path: f64,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let (width, heads) = (config.width, config.heads);
        let norm = |name: &str| LayerNorm::new(width, config.eps, vb.pp(name));
        let attention = |name: &str| SelfAttention::new(width, heads, vb.pp(name));
        Ok(Self {
            first: (norm("first_attn_norm0")?, attention("first_attn")?),
            second: (norm("second_attn_norm0")?, attention("second_attn")?),
            third: (
                norm("third_attn_norm0")?,
                norm("third_attn_norm1")?,
                CrossAttention::new(width, heads, width / heads, vb.pp("third_attn"))?,
            ),
            norm2: norm("norm2")?,
            mlp: Mlp::new(width, config.hidden, vb.pp("mlp"))?,
            drop_path: DropPath::new(drop_path)?,
        })
    }

    /// Steps 1 and 2 of x (B·R, 1 + L, D), R = `regions`: m (B, R, D), and l (B, R·L, D)
    /// region after region. Drop path drops regions in steps 1 and 4, samples in 2 and 3.
    fn between_regions(
        &self,
        x: &Tensor,
        regions: usize,
        name: impl Fn(&str) -> String,
        pass: &mut Pass,
    ) -> Result<(Tensor, Tensor)> {
        let (norm, attention) = &self.first;
        let x = attention.residual(x, norm, &self.drop_path, pass)?;
        pass.record(|| name(".first"), &x);
        let (all, tokens, width) = x.dims3()?;
        let batch = all / regions;
        let m = x.narrow(1, 0, 1)?.reshape((batch, regions, width))?;
        let l = x.narrow(1, 1, tokens - 1)?;
        let l = l.reshape((batch, regions * (tokens - 1), width))?;
        let (norm, attention) = &self.second;
        let m = attention.residual(&m, norm, &self.drop_path, pass)?;
        pass.record(|| name(".messengers"), &m);
        Ok((m, l))
    }

    /// Steps 3 and 4 of m and l, as [`Self::between_regions`] gives them: x.
    fn to_tubes(&self, m: &Tensor, l: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let (queries, keys, attention) = &self.third;
        let over = keys.forward(m)?;
        let l = attention.residual(l, Over::Features(&over), queries, &self.drop_path, pass)?;
        let (batch, regions, width) = m.dims3()?;
        let m = m.reshape((batch * regions, 1, width))?;
        let l = l.reshape((batch * regions, (), width))?;
        self.token_mlp(&Tensor::cat(&[m, l], 1)?, pass)
    }

    /// Step 4.
    fn token_mlp(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        self.mlp.residual(x, &self.norm2, &self.drop_path, pass)
    }
}

/// The encoder: tubes in, features F out.
#[derive(Clone, Debug)]
pub struct LgiFormer {
    pub(super) config: LgiFormerConfig,
    pub(super) parts: Parts,
    pub(super) blocks: Vec<Block>,
}

/// What stands before and after the blocks.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) embedding: Embedding,
    /// (R, D)
    pub(super) region_tokens: Tensor,
    pub(super) norm: Option<LayerNorm>,
}

impl Parts {
    pub(super) fn new(config: &LgiFormerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let init = Init::Randn {
            mean: 0.0,
            stdev: INIT_STD,
        };
        let shape = (config.region_count(), config.width);
        let norm = match config.final_norm {
            true => Some(LayerNorm::new(config.width, config.eps, vb.pp("norm"))?),
            false => None,
        };
        Ok(Self {
            embedding: Embedding::new(&config.sizes(), Position::SinCos, vb)?,
            region_tokens: vb.get_with_hints(shape, "lg_region_tokens", init)?,
            norm,
        })
    }
}

impl LgiFormer {
    /// Asks `vb` for the tensors of the config's groups.
    ///
    /// # Errors
    /// When the configuration is not valid or `vb` refuses a tensor.
    pub fn new(config: &LgiFormerConfig, vb: VarBuilder<'_>) -> std::result::Result<Self, Error> {
        config.validate()?;
        let drop_path = |i| config.sizes().drop_path(i);
        let blocks = (0..config.depth)
            .map(|i| Block::new(config, drop_path(i), vb.pp("blocks").pp(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            parts: Parts::new(config, &vb)?,
            blocks,
        })
    }

    /// Tubes (B, N, C·t·p·p) → F.
    pub(super) fn forward(&self, tubes: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let x = self.in_regions(&self.parts.embedding.forward(tubes, pass)?)?;
        let x = self.over_regions(&x, pass)?;
        let f = match self.config.features {
            Features::Regions => x,
            Features::Tokens => self.in_grid(&x)?,
        };
        self.finish(f, pass)
    }

    /// The blocks over tokens (B·R, L, D) by regions, whatever their number L in each: the
    /// same tokens, or those of the regions (B, R, D) where they are the features.
    pub(super) fn over_regions(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let c = &self.config;
        let (regions, width) = (c.region_count(), c.width);
        let (all, tokens, _) = x.dims3()?;
        let batch = all / regions;
        let messengers = self.parts.region_tokens.to_dtype(x.dtype())?;
        let messengers = messengers.broadcast_as((batch, regions, width))?.reshape((
            batch * regions,
            1,
            width,
        ))?;
        let mut x = Tensor::cat(&[&messengers, x], 1)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let name = |part: &str| format!("encoder.blocks.{i}{part}");
            let (m, l) = block.between_regions(&x, regions, name, pass)?;
            if i + 1 == c.depth && c.features == Features::Regions {
                // F is the messengers: nothing reaches it from the last block's tubes.
                let m = m.reshape((batch * regions, 1, width))?;
                let m = block.token_mlp(&m, pass)?;
                return m.reshape((batch, regions, width));
            }
            x = block.to_tubes(&m, &l, pass)?;
            pass.record(|| name(""), &x);
        }
        x.narrow(1, 1, tokens)
    }

    /// What follows the last block.
    pub(super) fn finish(&self, f: Tensor, pass: &mut Pass) -> Result<Tensor> {
        let f = match &self.parts.norm {
            Some(norm) => norm.forward(&f)?,
            None => f,
        };
        pass.record(|| "F".to_owned(), &f);
        Ok(f)
    }

    /// Tokens (B, N, D) in the grid's order → (B·R, L, D) by regions.
    fn in_regions(&self, x: &Tensor) -> Result<Tensor> {
        let [grid, regions] = [self.config.sizes().grid(), self.config.regions];
        let size = [0, 1, 2].map(|axis| grid[axis] / regions[axis]);
        let (batch, _, width) = x.dims3()?;
        let shape = [
            batch, regions[0], size[0], regions[1], size[1], regions[2], size[2], width,
        ];
        x.reshape(&shape[..])?
            .permute(&[0, 1, 3, 5, 2, 4, 6, 7][..])?
            .reshape(((), size.iter().product::<usize>(), width))
    }

    /// Tokens (B·R, L, D) by regions → (B, N, D) in the grid's order.
    fn in_grid(&self, x: &Tensor) -> Result<Tensor> {
        let [grid, regions] = [self.config.sizes().grid(), self.config.regions];
        let size = [0, 1, 2].map(|axis| grid[axis] / regions[axis]);
        let (all, _, width) = x.dims3()?;
        let batch = all / self.config.region_count();
        let shape = [
            batch, regions[0], regions[1], regions[2], size[0], size[1], size[2], width,
        ];
        x.reshape(&shape[..])?
            .permute(&[0, 1, 4, 2, 5, 3, 6, 7][..])?
            .reshape((batch, grid.iter().product::<usize>(), width))
    }
}
