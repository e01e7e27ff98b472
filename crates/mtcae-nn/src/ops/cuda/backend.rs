//! A GPU's half of [`Backend`].

use candle_core::{Result, Storage, Tensor};
use mtcae_kernels::attention::Dims;

use super::super::backend::{Attended, Backend, Bias, Biased, Fresh, Heads, Norm, Product};
use super::{attention, gelu, layer_norm, linear, rows};

pub(in crate::ops) struct Gpu;

impl Backend for Gpu {
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<Bias>) -> Result<Product> {
        if let Some(bias) = &bias
            && let Some(x) = linear::product_onto(x, weight, bias, None)?
        {
            return Ok(Product { x, bias: None });
        }
        let x = linear::product(x, weight)?;
        Ok(Product { x, bias })
    }

    fn linear_onto(
        &self,
        base: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        bias: Bias,
        scales: Option<&[f32]>,
    ) -> Result<Fresh> {
        if scales.is_none()
            && let Some(sum) = linear::product_onto(x, weight, &bias, Some(base))?
        {
            return Ok(sum);
        }
        self.residual(Some(base), self.linear(x, weight, Some(bias))?, scales)
    }

    fn layer_gradients(&self, grad: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
        match linear::gradients(grad, x)? {
            Some(both) => Ok(both),
            None => Ok((self.weight_gradient(grad, x)?, self.column_sums(grad)?)),
        }
    }

    fn input_gradient(&self, grad: &Tensor, weight: &Tensor) -> Result<Fresh> {
        linear::gradient_of_input(grad, weight)
    }

    fn weight_gradient(&self, grad: &Tensor, x: &Tensor) -> Result<Tensor> {
        linear::gradient_of_weight(grad, x)
    }

    fn column_sums(&self, x: &Tensor) -> Result<Tensor> {
        rows::column_sums(x)
    }

    fn residual(
        &self,
        base: Option<&Tensor>,
        branch: Product,
        scales: Option<&[f32]>,
    ) -> Result<Fresh> {
        let Biased { x, bias } = branch.shared();
        rows::residual(base, &x, bias.as_ref(), scales)
    }

    fn residual_norm(
        &self,
        base: &Tensor,
        branch: Product,
        scales: Option<&[f32]>,
        norm: Norm<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let Biased { x, bias } = branch.shared();
        layer_norm::residual(base, &x, bias.as_ref(), scales, norm)
    }

    fn scaled(&self, x: &Tensor, scales: &[f32]) -> Result<Tensor> {
        Ok(rows::residual(None, x, None, Some(scales))?.into_tensor())
    }

    fn norm(&self, x: &Tensor, norm: Norm<'_>) -> Result<Fresh> {
        layer_norm::forward(x, norm)
    }

    fn norm_backward(
        &self,
        x: &Tensor,
        norm: Norm<'_>,
        grad: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<[Tensor; 3]> {
        layer_norm::backward(x, norm, grad, residual)
    }

    fn gelu(&self, x: &Biased) -> Result<Fresh> {
        gelu::forward(x)
    }

    fn gelu_gradient(&self, x: &Biased, grad: &Tensor) -> Result<Tensor> {
        gelu::gradient(x, grad)
    }

    fn gelu_backward(&self, x: &Biased, grad: Fresh) -> Result<(Tensor, Tensor)> {
        gelu::backward(x, grad)
    }

    fn attention(&self, dims: Dims, of: Heads<'_>) -> Result<Attended> {
        let (out, log_sums) = attention::forward(dims, of)?;
        Ok(Attended {
            out: Fresh {
                storage: Storage::Cuda(out),
                shape: (dims.batch, dims.queries, dims.width()).into(),
            },
            log_sums: Some(log_sums),
        })
    }

    fn attention_backward(
        &self,
        dims: Dims,
        of: Heads<'_>,
        out: &Tensor,
        log_sums: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>)> {
        attention::backward(dims, of, out, log_sums, grad)
    }
}
