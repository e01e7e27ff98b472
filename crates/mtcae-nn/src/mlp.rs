//! The transformer's MLP.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::{Linear, linear, ops};

/// fc2(gelu(fc1(x))) with GELU in its erf form.
#[derive(Clone, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// `fc1` (hidden, D) and `fc2` (D, hidden), with biases, below `vb`.
    pub fn new(width: usize, hidden: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            fc1: linear(width, hidden, vb.pp("fc1"))?,
            fc2: linear(hidden, width, vb.pp("fc2"))?,
        })
    }
}

impl Module for Mlp {
    /// (…, D) → (…, D).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&ops::gelu(&self.fc1.forward(x)?)?)
    }
}
