//! What layers with norms after their sums are made of beside linear ones: ReLU, and
//! LayerNorm of a sum.

use candle_core::{Result, Tensor};
use mtcae_kernels::rows::{positive, positive_gradient};

use super::backend::{Fresh, Norm, Product};
use super::cpu::{read, tensor};
use super::kernels;
use super::layer_norm::layer_norm;
use super::operation::{Each, Gradients, Operands, Operation, Saved, Slot, apply};
use crate::pass::Way;

/// max(x, 0); its gradient at 0 is 0.
pub(crate) fn relu(x: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return x.relu();
    }
    let mut operands = Operands::default();
    let op = Relu {
        x: operands.activation(x.contiguous()?),
    };
    apply(op, operands, x.shape(), &Way::default())
}

struct Relu {
    x: Slot,
}

impl Operation for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn forward(&self, inputs: &Each<Tensor>, _: bool) -> Result<Fresh> {
        let x = &inputs[self.x];
        kernels::of(self.name(), x)?;
        let mut out = read(self.name(), &[x], |v| v[0].to_vec())?;
        positive(&mut out);
        Ok(Fresh::on_cpu(out, x.shape()))
    }

    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        let shape = inputs[self.x].shape();
        let dx = read(self.name(), &[result, grad], |v| {
            positive_gradient(v[0], v[1])
        })?;
        grads.set(self.x, tensor(dx, shape)?);
        Ok(())
    }
}

/// LayerNorm of x + branch, both (…, D).
pub(crate) fn add_norm(
    x: &Tensor,
    branch: &Tensor,
    [gamma, beta]: [&Tensor; 2],
    eps: f64,
) -> Result<Tensor> {
    if x.dims() != branch.dims() || !x.device().is_cpu() {
        return layer_norm(&(x + branch)?, gamma, beta, eps);
    }
    let mut operands = Operands::default();
    let op = AddNorm {
        x: operands.activation(x.contiguous()?),
        branch: operands.activation(branch.contiguous()?),
        gamma: operands.parameter(gamma)?,
        beta: operands.parameter(beta)?,
        eps: eps as f32,
        sum: Saved::default(),
    };
    apply(op, operands, x.shape(), &Way::default())
}

struct AddNorm {
    x: Slot,
    branch: Slot,
    gamma: Slot,
    beta: Slot,
    eps: f32,
    sum: Saved<Tensor>,
}

impl AddNorm {
    fn norm<'a>(&self, inputs: &'a Each<Tensor>) -> Norm<'a> {
        Norm {
            gamma: &inputs[self.gamma],
            beta: &inputs[self.beta],
            eps: self.eps,
        }
    }

    /// The sum and its norm.
    fn compute(&self, inputs: &Each<Tensor>) -> Result<(Tensor, Fresh)> {
        let (x, branch) = (&inputs[self.x], &inputs[self.branch]);
        let k = kernels::of(self.name(), x)?;
        let copy = read(self.name(), &[branch], |v| v[0].to_vec())?;
        let branch = Product {
            x: Fresh::on_cpu(copy, x.shape()),
            bias: None,
        };
        let sum = k.residual(Some(x), branch, None)?.into_tensor();
        let normed = k.norm(&sum, self.norm(inputs))?;
        Ok((sum, normed))
    }
}

impl Operation for AddNorm {
    fn name(&self) -> &'static str {
        "add_norm"
    }

    fn forward(&self, inputs: &Each<Tensor>, save: bool) -> Result<Fresh> {
        let (sum, normed) = self.compute(inputs)?;
        if save {
            self.sum.keep(sum);
        }
        Ok(normed)
    }

    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        let k = kernels::of(self.name(), grad)?;
        let sum = self.sum.take_or(|| Ok(self.compute(inputs)?.0))?;
        let [dx, dgamma, dbeta] = k.norm_backward(&sum, self.norm(inputs), grad, None)?;
        grads.set(self.x, dx.clone());
        grads.set(self.branch, dx);
        grads.set(self.gamma, dgamma);
        grads.set(self.beta, dbeta);
        Ok(())
    }
}
