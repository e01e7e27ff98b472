//! The transformer encoder layer of Vaswani et al. (2017): norms after the sums, and ReLU.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::linear::WEIGHT_INIT;
use crate::{Dropout, LayerNorm, Linear, Pass, linear, ops};

/// x = norm1(x + drop(attention(x))), then x = norm2(x + drop(ffn(x))), as
/// `torch.nn.TransformerEncoderLayer` with `norm_first=False`, but that attention weights
/// are not dropped.
#[derive(Clone, Debug)]
pub struct EncoderLayer {
    in_proj: Linear,
    out_proj: Linear,
    heads: usize,
    linear1: Linear,
    linear2: Linear,
    norm1: LayerNorm,
    norm2: LayerNorm,
    dropout: Dropout,
}

impl EncoderLayer {
    /// PyTorch's names below `vb`: `self_attn.in_proj_weight` (3·D, D) with rows q, k, v,
    /// `self_attn.in_proj_bias` (3·D), `self_attn.out_proj`, `linear1` (hidden, D),
    /// `linear2` (D, hidden), `norm1` and `norm2`.
    pub fn new(
        width: usize,
        heads: usize,
        hidden: usize,
        eps: f64,
        dropout: f64,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            candle_core::bail!("{heads} heads do not divide the width {width}");
        }
        let attention = vb.pp("self_attn");
        let weight = attention.get_with_hints((3 * width, width), "in_proj_weight", WEIGHT_INIT)?;
        let none = Init::Const(0.0);
        let bias = attention.get_with_hints_dtype(3 * width, "in_proj_bias", none, DType::F32)?;
        Ok(Self {
            in_proj: Linear::new(weight, Some(bias)),
            out_proj: linear(width, width, attention.pp("out_proj"))?,
            heads,
            linear1: linear(width, hidden, vb.pp("linear1"))?,
            linear2: linear(hidden, width, vb.pp("linear2"))?,
            norm1: LayerNorm::new(width, eps, vb.pp("norm1"))?,
            norm2: LayerNorm::new(width, eps, vb.pp("norm2"))?,
            dropout: Dropout::new(dropout)?,
        })
    }

    /// (B, N, D) → (B, N, D).
    ///
    /// # Errors
    /// When x is of another width.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        if !self.dropout.drops(pass) {
            // A sum that nothing is dropped of is part of one operation.
            let (first, second) = (self.in_proj.parts()?, self.out_proj.parts()?);
            let x = ops::attend_norm(x, self.heads, first, second, self.norm1.parts())?;
            let (first, second) = (self.linear1.parts()?, self.linear2.parts()?);
            return ops::feed_norm(&x, first, second, self.norm2.parts());
        }
        let attended = ops::self_attention(&self.in_proj.forward(x)?, self.heads)?;
        let branch = self.out_proj.forward(&attended)?;
        let x = (x + self.dropout.forward(&branch, pass)?)?;
        let x = self.norm1.forward(&x)?;
        let hidden = self.linear1.forward(&x)?.relu()?;
        let hidden = self.dropout.forward(&hidden, pass)?;
        let branch = self.linear2.forward(&hidden)?;
        let x = (&x + self.dropout.forward(&branch, pass)?)?;
        self.norm2.forward(&x)
    }
}
