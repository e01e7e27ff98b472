//! Tokens to one row.

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::plan;

/// How tokens become one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// Their mean.
    #[default]
    Mean,
    /// The first of them.
    First,
}

impl Pool {
    /// (B, N, D) → (B, D), in `f32` where tokens are narrower.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        // A mean over a thousand tokens would lose most of bf16's eight bits. Nothing is
        // done where x is wide already.
        let wide = |x: &Tensor| match x.dtype() {
            DType::BF16 | DType::F16 => x.to_dtype(DType::F32),
            _ => Ok(x.clone()),
        };
        match self {
            Self::Mean => wide(x)?.mean(1),
            Self::First => wide(&x.narrow(1, 0, 1)?)?.squeeze(1),
        }
    }

    /// x (N, D) → (D), for inference on the CPU.
    pub fn row(self, x: &[f32], width: usize) -> Vec<f32> {
        match self {
            Self::Mean => plan::mean(x, width),
            Self::First => x.iter().take(width).copied().collect(),
        }
    }
}
