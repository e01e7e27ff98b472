//! Linear layers: y = x·Wᵀ + b, with W of shape (out, in) as in PyTorch.

use candle_core::Result;
use candle_nn::{Init, VarBuilder};

pub use candle_nn::Linear;

use crate::INIT_STD;

pub(crate) const WEIGHT_INIT: Init = Init::Randn {
    mean: 0.0,
    stdev: INIT_STD,
};

/// `weight` (out, in) and `bias` (out) below `vb`.
pub fn linear(inputs: usize, outputs: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    let bias = vb.get_with_hints(outputs, "bias", Init::Const(0.0))?;
    Ok(Linear::new(weight(inputs, outputs, &vb)?, Some(bias)))
}

/// `weight` (out, in) below `vb`.
pub fn linear_no_bias(inputs: usize, outputs: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    Ok(Linear::new(weight(inputs, outputs, &vb)?, None))
}

fn weight(inputs: usize, outputs: usize, vb: &VarBuilder<'_>) -> Result<candle_core::Tensor> {
    vb.get_with_hints((outputs, inputs), "weight", WEIGHT_INIT)
}
