//! The transformer's MLP.

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

use crate::plan::{self, Format};
use crate::{DropPath, LayerNorm, Linear, Pass, linear, ops};

/// fc2(gelu(fc1(x))) with GELU in its erf form.
#[derive(Clone, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// `fc1` (hidden, D) and `fc2` (D, hidden), with biases, below `vb`.
    pub fn new(width: usize, hidden: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Self::between([width, hidden, width], vb)
    }

    /// `fc1` (hidden, inputs) and `fc2` (outputs, hidden), with biases, below `vb`: one
    /// that gives as many channels as it is asked for.
    pub fn between([inputs, hidden, outputs]: [usize; 3], vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            fc1: linear(inputs, hidden, vb.pp("fc1"))?,
            fc2: linear(hidden, outputs, vb.pp("fc2"))?,
        })
    }

    /// This layer for inference on the CPU, packed for `format`.
    ///
    /// # Errors
    /// When its tensors cannot be read.
    pub fn plan(&self, format: Format) -> Result<plan::Mlp> {
        Ok(plan::Mlp {
            format,
            fc1: plan::pack(format, &[&self.fc1])?,
            fc2: plan::pack(format, &[&self.fc2])?,
        })
    }

    /// y + drop(mlp(norm(y))) for y (B, N, D): a block's second half, as one operation
    /// that keeps the hidden layer alone for its backward.
    ///
    /// # Errors
    /// When y is of another width.
    pub fn residual(
        &self,
        y: &Tensor,
        norm: &LayerNorm,
        drop: &DropPath,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let half = self.half(norm.branch(drop, y.dim(0)?, pass))?;
        ops::block(y, None, Some(half), pass.way())
    }

    /// The second half of a block.
    pub(crate) fn half<'a>(&'a self, branch: ops::Branch<'a>) -> Result<ops::Mlp<'a>> {
        let (w1, b1) = self.fc1.parts()?;
        let (w2, b2) = self.fc2.parts()?;
        Ok(ops::Mlp {
            branch,
            layers: [w1, b1, w2, b2],
        })
    }
}

impl Module for Mlp {
    /// (…, inputs) → (…, outputs).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&ops::gelu(&self.fc1.forward(x)?)?)
    }
}
