//! y = x·Wᵀ + b.

use candle_core::{Result, Shape, Tensor};

use super::backend::{self, Bias, Fresh};
use super::operation::{Operation, apply};
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
    let weight = weight.contiguous()?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let parameters: Vec<&Tensor> = [&weight].into_iter().chain(&bias).collect();
    let x = x.contiguous()?;
    apply(
        Linear,
        &[&x],
        &parameters,
        &Shape::from(shape),
        &Way::default(),
    )
}

struct Linear;

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, inputs: &[Tensor], _: bool) -> Result<Fresh> {
        let k = backend::of(self.name(), &inputs[0])?;
        k.linear(&inputs[0], &inputs[1], inputs.get(2).map(Bias::whole))?
            .settle(k)
    }

    fn backward(
        &self,
        inputs: &[Tensor],
        wanted: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let k = backend::of(self.name(), &inputs[0])?;
        let mut grads = vec![None; inputs.len()];
        if wanted[0] {
            grads[0] = Some(k.input_gradient(grad, &inputs[1])?.into_tensor());
        }
        match (wanted[1], wanted.get(2) == Some(&true)) {
            (true, true) => {
                let (weight, bias) = k.layer_gradients(grad, &inputs[0])?;
                (grads[1], grads[2]) = (Some(weight), Some(bias));
            }
            (true, false) => grads[1] = Some(k.weight_gradient(grad, &inputs[0])?),
            (false, true) => grads[2] = Some(k.column_sums(grad)?),
            (false, false) => {}
        }
        Ok(grads)
    }
}
