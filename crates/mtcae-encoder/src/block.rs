//! The plain block of a vision transformer.

use mtcae_nn::candle_core::{Result, Tensor};
use mtcae_nn::plan::{self, Format, Norm, Workspace};
use mtcae_nn::{DropPath, LayerNorm, Mlp, Pass, SelfAttention, VarBuilder};

use crate::sizes::Sizes;

/// x + attn(norm1(x)), then x + mlp(norm2(x)).
#[derive(Clone, Debug)]
pub(crate) struct Block {
    norm1: LayerNorm,
    attn: SelfAttention,
    norm2: LayerNorm,
    mlp: Mlp,
    drop_path: DropPath,
}

impl Block {
    /// `norm1`, `attn`, `norm2` and `mlp` below `vb`.
    pub fn new(sizes: &Sizes, drop_path: f64, vb: VarBuilder<'_>) -> Result<Self> {
        let (width, eps) = (sizes.width, sizes.eps);
        Ok(Self {
            norm1: LayerNorm::new(width, eps, vb.pp("norm1"))?,
            attn: SelfAttention::new(width, sizes.heads, vb.pp("attn"))?,
            norm2: LayerNorm::new(width, eps, vb.pp("norm2"))?,
            mlp: Mlp::new(width, sizes.hidden, vb.pp("mlp"))?,
            drop_path: DropPath::new(drop_path)?,
        })
    }

    /// The tensors that [`Self::new`] asks for, below `name`.
    pub fn tensors(sizes: &Sizes, name: &str) -> Vec<(String, Vec<usize>)> {
        let d = sizes.width;
        [
            norm(name, "norm1", d),
            self_attention(name, "attn", d),
            norm(name, "norm2", d),
            mlp(name, d, sizes.hidden),
        ]
        .concat()
    }

    /// (B, N, D) → (B, N, D).
    pub fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let norms = [&self.norm1, &self.norm2];
        self.attn.block(x, norms, &self.mlp, &self.drop_path, pass)
    }

    pub fn plan(&self, format: Format) -> Result<BlockPlan> {
        Ok(BlockPlan {
            norm1: self.norm1.plan()?,
            attn: self.attn.plan(format)?,
            norm2: self.norm2.plan()?,
            mlp: self.mlp.plan(format)?,
        })
    }
}

/// [`Block`], packed.
#[derive(Debug)]
pub(crate) struct BlockPlan {
    norm1: Norm,
    attn: plan::SelfAttention,
    norm2: Norm,
    mlp: plan::Mlp,
}

impl BlockPlan {
    /// y (N, D), in place.
    pub fn forward(&self, y: &mut [f32], room: &mut Workspace<'_>) {
        self.attn.residual(&self.norm1, y, room);
        self.mlp.residual(&self.norm2, y, room);
    }
}

/// Names and shapes of a LayerNorm's tensors, `part` of `name`.
pub(crate) fn norm(name: &str, part: &str, d: usize) -> Vec<(String, Vec<usize>)> {
    listed(name, part, [("weight", vec![d]), ("bias", vec![d])])
}

/// Those of a packed self attention.
pub(crate) fn self_attention(name: &str, part: &str, d: usize) -> Vec<(String, Vec<usize>)> {
    let tensors = [
        ("qkv.weight", vec![3 * d, d]),
        ("q_bias", vec![d]),
        ("v_bias", vec![d]),
        ("proj.weight", vec![d, d]),
        ("proj.bias", vec![d]),
    ];
    listed(name, part, tensors)
}

/// Those of a cross attention as wide as its tokens.
pub(crate) fn cross_attention(name: &str, part: &str, d: usize) -> Vec<(String, Vec<usize>)> {
    let tensors = [
        ("q.weight", vec![d, d]),
        ("q.bias", vec![d]),
        ("kv.weight", vec![2 * d, d]),
        ("v_bias", vec![d]),
        ("proj.weight", vec![d, d]),
        ("proj.bias", vec![d]),
    ];
    listed(name, part, tensors)
}

/// Those of a block's MLP.
pub(crate) fn mlp(name: &str, d: usize, hidden: usize) -> Vec<(String, Vec<usize>)> {
    let tensors = [
        ("fc1.weight", vec![hidden, d]),
        ("fc1.bias", vec![hidden]),
        ("fc2.weight", vec![d, hidden]),
        ("fc2.bias", vec![d]),
    ];
    listed(name, "mlp", tensors)
}

fn listed<const N: usize>(
    name: &str,
    part: &str,
    tensors: [(&str, Vec<usize>); N],
) -> Vec<(String, Vec<usize>)> {
    let tensors = tensors.into_iter();
    tensors
        .map(|(tensor, shape)| (format!("{name}.{part}.{tensor}"), shape))
        .collect()
}
