//! The halves of a block whose norms come after the sums (Vaswani et al., 2017), each one
//! operation as the blocks with norms before are.

use candle_core::{Device, Result, Tensor};
use mtcae_kernels::rows::{positive, positive_gradient};

use super::backend::{Backend, Bias, Fresh, Heads, Norm};
use super::cpu::{read, tensor, values};
use super::kernels;
use super::linear::layer_gradients;
use super::operation::{Each, Gradients, Operands, Operation, Saved, Slot, apply};
use crate::pass::Way;

/// A linear layer: W (out, in) and b (out).
pub(crate) type Layer<'a> = (&'a Tensor, &'a Tensor);

/// γ and β (D) of a LayerNorm, and its ε.
pub(crate) type NormAfter<'a> = (&'a Tensor, &'a Tensor, f64);

/// LayerNorm(x + attention(x)) of x (B, N, D): packed queries, keys and values by `first`
/// (3·D, D), what is attended to by `second`.
pub(crate) fn attend_norm(
    x: &Tensor,
    heads: usize,
    first: Layer<'_>,
    second: Layer<'_>,
    norm: NormAfter<'_>,
) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    let dims = super::attention::dims(
        "self_attention",
        batch,
        heads,
        tokens,
        tokens,
        first.0.dim(0)?,
        3,
    )?;
    if dims.width() != width {
        candle_core::bail!(
            "self_attention: {:?} rows for x {:?}",
            first.0.dims(),
            x.dims()
        );
    }
    half(x, Some(dims), [first, second], norm)
}

/// LayerNorm(x + second(max(first(x), 0))) of x (…, D).
pub(crate) fn feed_norm(
    x: &Tensor,
    first: Layer<'_>,
    second: Layer<'_>,
    norm: NormAfter<'_>,
) -> Result<Tensor> {
    half(x, None, [first, second], norm)
}

type Dims = mtcae_kernels::attention::Dims;

fn half(
    x: &Tensor,
    attention: Option<Dims>,
    [first, second]: [Layer<'_>; 2],
    (gamma, beta, eps): NormAfter<'_>,
) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0);
    let (hidden, inputs) = first.0.dims2()?;
    let between = match attention {
        Some(dims) => dims.width(),
        None => hidden,
    };
    if width == 0
        || inputs != width
        || second.0.dims() != [width, between]
        || first.1.dims() != [hidden]
        || [second.1, gamma, beta].iter().any(|t| t.dims() != [width])
    {
        candle_core::bail!(
            "post_norm: x {:?} and layers {:?} and {:?} do not chain",
            x.dims(),
            first.0.dims(),
            second.0.dims()
        );
    }
    let mut operands = Operands::default();
    let x_slot = operands.activation(x.contiguous()?);
    let mut layer = |(weight, bias): Layer<'_>| -> Result<_> {
        Ok(LayerSlots {
            weight: operands.parameter(weight)?,
            bias: operands.parameter(bias)?,
        })
    };
    let (first, second) = (layer(first)?, layer(second)?);
    let op = Half {
        x: x_slot,
        attention,
        first,
        second,
        gamma: operands.parameter(gamma)?,
        beta: operands.parameter(beta)?,
        eps: eps as f32,
        saved: Saved::default(),
    };
    apply(op, operands, x.shape(), &Way::default())
}

#[derive(Clone, Copy)]
struct LayerSlots {
    weight: Slot,
    bias: Slot,
}

struct Half {
    x: Slot,
    /// None where ReLU lies between the layers.
    attention: Option<Dims>,
    first: LayerSlots,
    second: LayerSlots,
    gamma: Slot,
    beta: Slot,
    eps: f32,
    saved: Saved<Computed>,
}

/// What the backward needs.
struct Computed {
    /// What the first layer gives, of attention alone: packed queries, keys and values.
    packed: Option<Tensor>,
    /// What the softmax leaves for its backward.
    log_sums: Option<Tensor>,
    /// What the second layer reads.
    hidden: Tensor,
    /// What the norm reads.
    sum: Tensor,
}

impl Half {
    fn norm<'a>(&self, inputs: &'a Each<Tensor>) -> Norm<'a> {
        Norm {
            gamma: &inputs[self.gamma],
            beta: &inputs[self.beta],
            eps: self.eps,
        }
    }

    fn compute(&self, k: &dyn Backend, inputs: &Each<Tensor>) -> Result<Computed> {
        let x = &inputs[self.x];
        let bias = |layer: LayerSlots| Bias::whole(&inputs[layer.bias]);
        let first = k
            .linear(x, &inputs[self.first.weight], Some(bias(self.first)))?
            .settle(k)?;
        let (packed, log_sums, hidden) = match self.attention {
            Some(dims) => {
                let packed = first.into_tensor();
                let attended = k.attention(dims, Heads::Packed(&packed))?;
                (Some(packed), attended.log_sums, attended.out.into_tensor())
            }
            None => (None, None, cut(first)?),
        };
        let weight = &inputs[self.second.weight];
        let sum = k.linear_onto(x, &hidden, weight, bias(self.second), None)?;
        Ok(Computed {
            packed,
            log_sums,
            hidden,
            sum: sum.into_tensor(),
        })
    }
}

/// max(x, 0) in the place of x.
fn cut(x: Fresh) -> Result<Tensor> {
    if !matches!(&x.storage, candle_core::Storage::Cpu(_)) {
        return x.into_tensor().relu();
    }
    let (mut x, shape) = values("relu", x)?;
    positive(&mut x);
    tensor(x, &shape)
}

/// The gradient of what was cut, where `hidden` is left of it.
fn uncut(hidden: &Tensor, grad: Fresh) -> Result<Tensor> {
    let grad = grad.into_tensor();
    if !matches!(hidden.device(), Device::Cpu) {
        return grad.mul(&hidden.gt(0f64)?.to_dtype(grad.dtype())?);
    }
    let dx = read("relu", &[hidden, &grad], |v| positive_gradient(v[0], v[1]))?;
    tensor(dx, hidden.shape())
}

impl Operation for Half {
    fn name(&self) -> &'static str {
        "post_norm"
    }

    fn forward(&self, inputs: &Each<Tensor>, save: bool) -> Result<Fresh> {
        let k = kernels::of(self.name(), &inputs[self.x])?;
        let computed = self.compute(k, inputs)?;
        let out = k.norm(&computed.sum, self.norm(inputs))?;
        if save {
            self.saved.keep(computed);
        }
        Ok(out)
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
        let computed = self.saved.take_or(|| self.compute(k, inputs))?;
        let hidden = &computed.hidden;
        let [sum, dgamma, dbeta] = k.norm_backward(&computed.sum, self.norm(inputs), grad, None)?;
        grads.set(self.gamma, dgamma);
        grads.set(self.beta, dbeta);
        let mut layer = |of: LayerSlots, grad: &Tensor, x: &Tensor| {
            let weight = &inputs[of.weight];
            let width = weight.dim(0)?;
            layer_gradients(k, grads, of.weight, &[(of.bias, 0)], width, grad, x)?;
            k.input_gradient(grad, weight)
        };
        let between = layer(self.second, &sum, hidden)?;
        let first = match (self.attention, &computed.packed) {
            (Some(dims), Some(packed)) => {
                let (of, between) = (Heads::Packed(packed), between.into_tensor());
                let log_sums = computed.log_sums.as_ref();
                k.attention_backward(dims, of, hidden, log_sums, &between)?
                    .0
            }
            _ => uncut(hidden, between)?,
        };
        let by_first = layer(self.first, &first, x)?.into_tensor();
        grads.set(self.x, (by_first + sum)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    #[test]
    fn layers_that_do_not_chain_are_refused() -> Result<()> {
        let of = |shape: &[usize]| Var::zeros(shape, candle_core::DType::F32, &Device::Cpu);
        let (x, w1, b1) = (of(&[2, 3, 4])?, of(&[6, 4])?, of(&[6])?);
        let (w2, b2, norm) = (of(&[4, 5])?, of(&[4])?, of(&[4])?);
        let said = feed_norm(&x, (&w1, &b1), (&w2, &b2), (&norm, &norm, 1e-5));
        let said = said.expect_err("5 of 6").to_string();
        assert!(
            said.contains("layers [6, 4] and [4, 5] do not chain"),
            "{said}"
        );
        Ok(())
    }
}
