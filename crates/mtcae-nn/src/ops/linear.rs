//! y = x·Wᵀ + b.

use candle_core::{Result, Shape, Tensor};

use super::backend::{Backend, Bias, Fresh};
use super::kernels;
use super::operation::{Each, Gradients, Operands, Operation, Slot, apply};
use crate::pass::Way;

/// x (…, in) times W (out, in) transposed, plus b (out) → (…, out). The type of x
/// decides: parameters of `f32` serve bf16 as well, and get gradients of `f32`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    if inputs == 0 || outputs == 0 {
        candle_core::bail!("linear: a weight of {:?} has no elements", weight.dims());
    }
    if x.dims().last() != Some(&inputs) || bias.is_some_and(|b| b.dims() != [outputs]) {
        candle_core::bail!(
            "linear: x {:?}, weight {:?} and bias {:?} do not chain",
            x.dims(),
            weight.dims(),
            bias.map(Tensor::dims)
        );
    }
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let mut operands = Operands::default();
    let op = Linear {
        x: operands.activation(x.contiguous()?),
        weight: operands.parameter(weight)?,
        bias: bias.map(|b| operands.parameter(b)).transpose()?,
    };
    apply(op, operands, &Shape::from(shape), &Way::default())
}

struct Linear {
    x: Slot,
    weight: Slot,
    bias: Option<Slot>,
}

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, inputs: &Each<Tensor>, _: bool) -> Result<Fresh> {
        let x = &inputs[self.x];
        let k = kernels::of(self.name(), x)?;
        let bias = self.bias.map(|b| Bias::whole(&inputs[b]));
        k.linear(x, &inputs[self.weight], bias)?.settle(k)
    }

    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        let (x, weight) = (&inputs[self.x], &inputs[self.weight]);
        let k = kernels::of(self.name(), x)?;
        if grads.wants(self.x) {
            grads.set(self.x, k.input_gradient(grad, weight)?.into_tensor());
        }
        let biases: Vec<_> = self.bias.map(|b| (b, 0)).into_iter().collect();
        let columns = weight.dim(0)?;
        layer_gradients(k, grads, self.weight, &biases, columns, grad, x)
    }
}

/// The gradients of a weight and of biases of `width` columns each, from a column on,
/// from the gradient of what they give for x.
pub(super) fn layer_gradients(
    k: &dyn Backend,
    grads: &mut Gradients,
    weight: Slot,
    biases: &[(Slot, usize)],
    width: usize,
    grad: &Tensor,
    x: &Tensor,
) -> Result<()> {
    let sums = match (
        grads.wants(weight),
        biases.iter().any(|&(bias, _)| grads.wants(bias)),
    ) {
        (true, true) => {
            let (d_weight, sums) = k.layer_gradients(grad, x)?;
            grads.set(weight, d_weight);
            sums
        }
        (true, false) => {
            grads.set(weight, k.weight_gradient(grad, x)?);
            return Ok(());
        }
        (false, true) => k.column_sums(grad)?,
        (false, false) => return Ok(()),
    };
    for &(bias, from) in biases {
        grads.set(bias, sums.narrow(0, from, width)?);
    }
    Ok(())
}
