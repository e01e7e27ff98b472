//! Linear layers: y = x·Wᵀ + b, with W of shape (out, in) as in PyTorch.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::ops;

/// Weights are drawn from a normal distribution of this standard deviation,
/// truncated at two of them; biases start at 0 (VideoMAE's initialisation).
pub const INIT_STD: f64 = 0.02;

pub(crate) const WEIGHT_INIT: Init = Init::Randn {
    mean: 0.0,
    stdev: INIT_STD,
};

/// y = x·Wᵀ + b.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer of `weight` (out, in) and `bias` (out).
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// W (out, in).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// W and b.
    pub(crate) fn parts(&self) -> Result<(&Tensor, &Tensor)> {
        match &self.bias {
            Some(bias) => Ok((&self.weight, bias)),
            None => candle_core::bail!("a layer of {:?} has no bias", self.weight.dims()),
        }
    }

    /// b (out).
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl Module for Linear {
    /// (…, in) → (…, out).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }
}

/// `weight` (out, in) and `bias` (out) below `vb`; the bias is `f32` whatever its type.
pub fn linear(inputs: usize, outputs: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    let bias = bias(outputs, "bias", &vb)?;
    Ok(Linear::new(weight(inputs, outputs, &vb)?, Some(bias)))
}

/// `weight` (out, in) below `vb`.
pub fn linear_no_bias(inputs: usize, outputs: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    Ok(Linear::new(weight(inputs, outputs, &vb)?, None))
}

/// A bias by its name, `f32` as the kernels that add it take it.
pub(crate) fn bias(outputs: usize, name: &str, vb: &VarBuilder<'_>) -> Result<Tensor> {
    vb.get_with_hints_dtype(outputs, name, Init::Const(0.0), DType::F32)
}

fn weight(inputs: usize, outputs: usize, vb: &VarBuilder<'_>) -> Result<Tensor> {
    vb.get_with_hints((outputs, inputs), "weight", WEIGHT_INIT)
}
