//! A gradient that is not let beyond a bound.

use candle_core::{Result, Shape, Tensor};

use super::backend::Fresh;
use super::operation::{Each, Gradients, Operands, Operation, Slot, apply};
use crate::pass::Way;

/// x as it is; each number of its gradient is kept within ±`most`.
pub fn limit_gradient(x: &Tensor, most: f64) -> Result<Tensor> {
    if !(most > 0.0 && most.is_finite()) {
        candle_core::bail!("limit_gradient: {most} must be above 0");
    }
    if !x.track_op() {
        return Ok(x.clone());
    }
    let mut operands = Operands::default();
    let shape: Shape = x.shape().clone();
    let op = Limit {
        x: operands.activation(x.contiguous()?),
        most,
    };
    apply(op, operands, &shape, &Way::default())
}

struct Limit {
    x: Slot,
    most: f64,
}

impl Operation for Limit {
    fn name(&self) -> &'static str {
        "limit_gradient"
    }

    fn forward(&self, inputs: &Each<Tensor>, _: bool) -> Result<Fresh> {
        let x = &inputs[self.x];
        let (storage, layout) = x.storage_and_layout();
        Ok(Fresh {
            storage: storage.try_clone(layout)?,
            shape: x.shape().clone(),
        })
    }

    fn backward(
        &self,
        _: &Each<Tensor>,
        grads: &mut Gradients,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        grads.set(self.x, grad.clamp(-self.most, self.most)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn values_stay_and_gradients_are_bounded() -> Result<()> {
        let x = Var::from_tensor(&Tensor::new(&[1f32, -2., 3.], &Device::Cpu)?)?;
        let by = Tensor::new(&[0.01f32, -5., 0.3], &Device::Cpu)?;
        let y = limit_gradient(&x, 0.25)?;
        assert_eq!(y.to_vec1::<f32>()?, [1., -2., 3.]);
        let grads = (y * by)?.sum_all()?.backward()?;
        let grad = grads.get(&x).expect("x has a gradient");
        assert_eq!(grad.to_vec1::<f32>()?, [0.01, -0.25, 0.25]);
        assert!(limit_gradient(&x, 0.0).is_err());
        Ok(())
    }
}
