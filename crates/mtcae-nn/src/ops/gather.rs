//! Rows of each sample in another order.

use std::sync::Arc;

use candle_core::{DType, Result, Shape, Tensor};
use mtcae_kernels::gather::Gather;

use super::backend::Fresh;
use super::cpu::{read, tensor};
use super::kernels;
use super::operation::{Each, Gradients, Operands, Operation, Slot, apply};
use crate::pass::Way;

/// (B, sources, D) → (B, rows, D): each row a copy of that which `order` names, or zeros.
pub fn gather_rows(x: &Tensor, order: &Arc<Gather>) -> Result<Tensor> {
    let (batch, sources, width) = x.dims3()?;
    if sources != order.sources() || width == 0 {
        candle_core::bail!(
            "gather_rows: x {:?} is not (B, {}, D)",
            x.dims(),
            order.sources()
        );
    }
    if !x.device().is_cpu() {
        return composed(x, order);
    }
    let mut operands = Operands::default();
    let op = GatherRows {
        x: operands.activation(x.contiguous()?),
        order: order.clone(),
    };
    let shape = Shape::from((batch, order.order().len(), width));
    apply(op, operands, &shape, &Way::default())
}

/// The same of Candle's operations.
fn composed(x: &Tensor, order: &Gather) -> Result<Tensor> {
    let (batch, sources, width) = x.dims3()?;
    let of = order.order();
    let order: Vec<u32> = of.iter().map(|s| (*s).min(sources as u32)).collect();
    let n = order.len();
    let order = Tensor::from_vec(order, n, x.device())?;
    let x = match of.contains(&Gather::NONE) {
        true => {
            let zeros = Tensor::zeros((batch, 1, width), x.dtype(), x.device())?;
            Tensor::cat(&[x, &zeros], 1)?
        }
        false => x.contiguous()?,
    };
    x.index_select(&order, 1)
}

struct GatherRows {
    x: Slot,
    order: Arc<Gather>,
}

impl Operation for GatherRows {
    fn name(&self) -> &'static str {
        "gather_rows"
    }

    fn forward(&self, inputs: &Each<Tensor>, _: bool) -> Result<Fresh> {
        let x = &inputs[self.x];
        kernels::of(self.name(), x)?;
        let (batch, _, width) = x.dims3()?;
        let shape = Shape::from((batch, self.order.order().len(), width));
        let mut out = vec![0.0; shape.elem_count()];
        read(self.name(), &[x], |v| {
            self.order.forward(v[0], width, &mut out);
        })?;
        Ok(Fresh::on_cpu(out, &shape))
    }

    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        let x = &inputs[self.x];
        let width = x.dim(2)?;
        let grad = grad.to_dtype(DType::F32)?;
        let mut dx = vec![0.0; x.elem_count()];
        read(self.name(), &[&grad], |v| {
            self.order.backward(v[0], width, &mut dx);
        })?;
        grads.set(self.x, tensor(dx, x.shape())?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn both_ways_give_the_same() -> Result<()> {
        let order = Arc::new(Gather::new(4, vec![3, Gather::NONE, 0, 3, 1, 1]));
        let x = Var::from_tensor(&Tensor::arange(0f32, 24., &Device::Cpu)?.reshape((2, 4, 3))?)?;
        let upstream = Tensor::arange(0f32, 36., &Device::Cpu)?.reshape((2, 6, 3))?;
        let mut found = Vec::new();
        for out in [gather_rows(&x, &order)?, composed(&x, &order)?] {
            let grads = (&out * &upstream)?.sum_all()?.backward()?;
            let grad = grads.get(&x).expect("x has a gradient");
            found.push((out.to_vec3::<f32>()?, grad.to_vec3::<f32>()?));
        }
        assert_eq!(found[0], found[1]);
        assert_eq!(found[0].1[0][2], [0.0; 3]);
        Ok(())
    }
}
