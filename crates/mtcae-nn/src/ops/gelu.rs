//! GELU in its erf form.

use candle_core::{Result, Tensor};

use super::backend::{self, Biased, Fresh};
use super::operation::{Operation, apply};
use crate::pass::Way;

/// x·Φ(x), element by element; any shape.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    apply(Gelu, &[&x], &[], x.shape(), &Way::default())
}

struct Gelu;

fn unbiased(x: &Tensor) -> Biased {
    Biased {
        x: x.clone(),
        bias: None,
    }
}

impl Operation for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn forward(&self, inputs: &[Tensor], _: bool) -> Result<Fresh> {
        backend::of(self.name(), &inputs[0])?.gelu(&unbiased(&inputs[0]))
    }

    fn backward(
        &self,
        inputs: &[Tensor],
        _: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let k = backend::of(self.name(), &inputs[0])?;
        Ok(vec![Some(k.gelu_gradient(&unbiased(&inputs[0]), grad)?)])
    }
}
