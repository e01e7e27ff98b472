//! GELU in its erf form.

use candle_core::{Result, Tensor};

use super::backend::{Biased, Fresh};
use super::kernels;
use super::operation::{Each, Gradients, Operands, Operation, Slot, apply};
use crate::pass::Way;

/// x·Φ(x), element by element; any shape.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let mut operands = Operands::default();
    let op = Gelu {
        x: operands.activation(x.contiguous()?),
    };
    apply(op, operands, x.shape(), &Way::default())
}

struct Gelu {
    x: Slot,
}

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

    fn forward(&self, inputs: &Each<Tensor>, _: bool) -> Result<Fresh> {
        let x = &inputs[self.x];
        kernels::of(self.name(), x)?.gelu(&unbiased(x))
    }

    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        let x = &inputs[self.x];
        let k = kernels::of(self.name(), x)?;
        grads.set(self.x, k.gelu_gradient(&unbiased(x), grad)?);
        Ok(())
    }
}
