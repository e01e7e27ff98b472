//! Multi-head attention with packed projections.
//!
//! The key has no bias: softmax over the keys is invariant to a shift of all
//! logits of a query, so a key bias would change nothing and get no gradient.

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use crate::linear::{Linear, bias, linear, linear_no_bias};
use crate::plan::{self, Format, Packed};
use crate::{DropPath, LayerNorm, Mlp, Pass, ops};

/// Self attention over one packed projection (VideoMAE's block).
#[derive(Clone, Debug)]
pub struct SelfAttention {
    qkv: Linear,
    q_bias: Tensor,
    v_bias: Tensor,
    proj: Linear,
    heads: usize,
}

impl SelfAttention {
    /// `qkv.weight` (3D, D) with rows q, k, v; `q_bias` and `v_bias` (D); `proj`
    /// (D, D) with bias, below `vb`. The head dimension is D/`heads`.
    pub fn new(width: usize, heads: usize, vb: VarBuilder<'_>) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            candle_core::bail!("{heads} heads do not divide the width {width}");
        }
        Ok(Self {
            qkv: linear_no_bias(width, 3 * width, vb.pp("qkv"))?,
            q_bias: bias(width, "q_bias", &vb)?,
            v_bias: bias(width, "v_bias", &vb)?,
            proj: linear(width, width, vb.pp("proj"))?,
            heads,
        })
    }

    /// This layer for inference on the CPU, packed for `format`.
    ///
    /// # Errors
    /// When its tensors cannot be read.
    pub fn plan(&self, format: Format) -> Result<plan::SelfAttention> {
        Ok(plan::SelfAttention {
            format,
            qkv: plan::pack_tensors(format, &[(self.qkv.weight(), Some(&self.bias()?))])?,
            proj: plan::pack(format, &[&self.proj])?,
            heads: self.heads,
        })
    }

    /// The bias (3D) of the packed projection.
    fn bias(&self) -> Result<Tensor> {
        Tensor::cat(&[&self.q_bias, &self.v_bias.zeros_like()?, &self.v_bias], 0)
    }

    /// A block on x (B, N, D): x + drop(attention(norm1(x))), then x + drop(mlp(norm2(x))),
    /// as one operation that keeps little for its backward.
    ///
    /// # Errors
    /// When x is of another width.
    pub fn block(
        &self,
        x: &Tensor,
        [norm1, norm2]: [&LayerNorm; 2],
        mlp: &Mlp,
        drop: &DropPath,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let samples = x.dim(0)?;
        let attention = self.half(norm1.branch(drop, samples, pass))?;
        let mlp = mlp.half(norm2.branch(drop, samples, pass))?;
        ops::block(x, Some(attention), Some(mlp), pass.way())
    }

    /// x + drop(attention(norm(x))) for x (B, N, D): a block's first half alone.
    ///
    /// # Errors
    /// When x is of another width.
    pub fn residual(
        &self,
        x: &Tensor,
        norm: &LayerNorm,
        drop: &DropPath,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let half = self.half(norm.branch(drop, x.dim(0)?, pass))?;
        ops::block(x, Some(half), None, pass.way())
    }

    fn half<'a>(&'a self, branch: ops::Branch<'a>) -> Result<ops::Attention<'a>> {
        Ok(ops::Attention {
            branch,
            heads: self.heads,
            projection: ops::Projection::Own {
                weight: self.qkv.weight(),
                q_bias: &self.q_bias,
                v_bias: &self.v_bias,
            },
            proj: self.proj.parts()?.into(),
        })
    }
}

impl Module for SelfAttention {
    /// (B, N, D) → (B, N, D).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let qkv = ops::linear(x, self.qkv.weight(), Some(&self.bias()?))?;
        self.proj.forward(&ops::self_attention(&qkv, self.heads)?)
    }
}

/// Cross attention: queries from one sequence, keys and values from another.
/// The head dimension is free and need not divide the width.
#[derive(Clone, Debug)]
pub struct CrossAttention {
    q: Linear,
    kv: Linear,
    v_bias: Tensor,
    proj: Linear,
    heads: usize,
}

impl CrossAttention {
    /// With w = `width`, H = `heads` and d = `head_dim`: `q` (H·d, w) with bias;
    /// `kv.weight` (2·H·d, w) with rows k, v; `v_bias` (H·d); `proj` (w, H·d) with
    /// bias, below `vb`.
    pub fn new(width: usize, heads: usize, head_dim: usize, vb: VarBuilder<'_>) -> Result<Self> {
        // Keys and values lie side by side.
        let both = heads.checked_mul(head_dim).and_then(|n| n.checked_mul(2));
        let Some(both @ 1..) = both else {
            candle_core::bail!(
                "cross attention: {heads} heads of {head_dim} channels; both must be at least 1"
            );
        };
        let inner = both / 2;
        Ok(Self {
            q: linear(width, inner, vb.pp("q"))?,
            kv: linear_no_bias(width, both, vb.pp("kv"))?,
            v_bias: bias(inner, "v_bias", &vb)?,
            proj: linear(inner, width, vb.pp("proj"))?,
            heads,
        })
    }

    /// This layer for inference on the CPU, packed for `format`; its keys and
    /// values are projected by [`CrossAttention::plan_keys_and_values`].
    ///
    /// # Errors
    /// When its tensors cannot be read.
    pub fn plan(&self, format: Format) -> Result<plan::CrossAttention> {
        Ok(plan::CrossAttention {
            format,
            q: plan::pack(format, &[&self.q])?,
            proj: plan::pack(format, &[&self.proj])?,
            heads: self.heads,
        })
    }

    /// The projections of keys and values of several layers as one: k and v (H·d
    /// each) of the first, then those of the next.
    ///
    /// # Errors
    /// When their widths differ or tensors cannot be read.
    pub fn plan_keys_and_values(format: Format, layers: &[&Self]) -> Result<Packed> {
        let biases: Vec<Tensor> = layers.iter().map(|l| l.bias()).collect::<Result<_>>()?;
        let tensors: Vec<_> = layers
            .iter()
            .zip(&biases)
            .map(|(layer, bias)| (layer.kv.weight(), Some(bias)))
            .collect();
        plan::pack_tensors(format, &tensors)
    }

    /// The bias (2·H·d) of the packed keys and values.
    fn bias(&self) -> Result<Tensor> {
        Tensor::cat(&[&self.v_bias.zeros_like()?, &self.v_bias], 0)
    }

    /// Queries of `y` (B, N, w) over keys and values of `x` (B, M, w) → (B, N, w).
    pub fn forward(&self, y: &Tensor, x: &Tensor) -> Result<Tensor> {
        let kv = ops::linear(x, self.kv.weight(), Some(&self.bias()?))?;
        self.proj
            .forward(&ops::cross_attention(&self.q.forward(y)?, &kv, self.heads)?)
    }

    /// The keys and values (B, M, 2·H·d) of each layer over the same `x` (B, M, w), as
    /// columns of one product. For inference: as a gradient the columns would each be
    /// as wide as all of them.
    pub fn keys_and_values(layers: &[&Self], x: &Tensor) -> Result<Vec<Tensor>> {
        let weights: Vec<&Tensor> = layers.iter().map(|l| l.kv.weight()).collect();
        let mut biases = Vec::with_capacity(2 * layers.len());
        for layer in layers {
            biases.extend([layer.v_bias.zeros_like()?, layer.v_bias.clone()]);
        }
        let weight = Tensor::cat(&weights, 0)?;
        let all = ops::linear(x, &weight, Some(&Tensor::cat(&biases, 0)?))?;
        let mut from = 0;
        weights
            .iter()
            .map(|weight| {
                let width = weight.dim(0)?;
                from += width;
                all.narrow(2, from - width, width)
            })
            .collect()
    }

    /// [`Self::keys_and_values`] where that is sooner and nothing trains: many small products
    /// leave a GPU idle, while a CPU gains nothing by a larger one.
    pub fn shared_keys_and_values(layers: &[&Self], x: &Tensor) -> Result<Option<Vec<Tensor>>> {
        let trains = x.track_op() || layers.iter().any(|l| l.trains_keys());
        match x.device().is_cuda() && !trains {
            true => Self::keys_and_values(layers, x).map(Some),
            false => Ok(None),
        }
    }

    /// Whether a gradient of the keys' and values' parameters is asked for.
    fn trains_keys(&self) -> bool {
        self.kv.weight().track_op() || self.v_bias.track_op()
    }

    /// A block on y (B, N, w) over what it attends to: y + drop(attention(norm1(y), ·)),
    /// then y + drop(mlp(norm2(y))), as one operation that keeps little for its
    /// backward.
    ///
    /// # Errors
    /// When an operand is of another width.
    pub fn block(
        &self,
        y: &Tensor,
        over: Over<'_>,
        [norm1, norm2]: [&LayerNorm; 2],
        mlp: &Mlp,
        drop: &DropPath,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let samples = y.dim(0)?;
        let attention = self.half(over, norm1.branch(drop, samples, pass))?;
        let mlp = mlp.half(norm2.branch(drop, samples, pass))?;
        ops::block(y, Some(attention), Some(mlp), pass.way())
    }

    /// y + drop(attention(norm(y), ·)) for y (B, N, w): a block's first half alone.
    ///
    /// # Errors
    /// When an operand is of another width.
    pub fn residual(
        &self,
        y: &Tensor,
        over: Over<'_>,
        norm: &LayerNorm,
        drop: &DropPath,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let half = self.half(over, norm.branch(drop, y.dim(0)?, pass))?;
        ops::block(y, Some(half), None, pass.way())
    }

    fn half<'a>(&'a self, over: Over<'a>, branch: ops::Branch<'a>) -> Result<ops::Attention<'a>> {
        let (q, q_bias) = self.q.parts()?;
        let projection = match over {
            Over::Features(x) => ops::Projection::Of {
                x,
                q,
                q_bias,
                kv: self.kv.weight(),
                v_bias: &self.v_bias,
            },
            Over::KeysAndValues(kv) => ops::Projection::Over { kv, q, q_bias },
        };
        Ok(ops::Attention {
            branch,
            heads: self.heads,
            projection,
            proj: self.proj.parts()?.into(),
        })
    }
}

/// What a block attends to.
#[derive(Clone, Copy, Debug)]
pub enum Over<'a> {
    /// X (B, M, w), of which it computes keys and values.
    Features(&'a Tensor),
    /// The keys and values (B, M, 2·H·d) of its layer, as
    /// [`CrossAttention::keys_and_values`] gives them.
    KeysAndValues(&'a Tensor),
}
