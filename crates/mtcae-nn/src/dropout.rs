//! Dropout (Srivastava et al., 2014).

use candle_core::{Result, Tensor};
use rand::Rng;

use crate::Pass;

/// In training, sets numbers to 0 with probability `rate` and divides the others by
/// 1 − `rate`; otherwise the identity. It draws from the generator of the [`Pass`].
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    rate: f64,
}

impl Dropout {
    /// A `rate` in [0, 1).
    pub fn new(rate: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&rate) {
            candle_core::bail!("the dropout rate {rate} is not in [0, 1)");
        }
        Ok(Self { rate })
    }

    /// Whether anything is dropped in this pass.
    pub(crate) fn drops(&self, pass: &mut Pass) -> bool {
        self.rate > 0.0 && pass.rng().is_some()
    }

    /// x of any shape.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let Some(rng) = pass.rng().filter(|_| self.rate > 0.0) else {
            return Ok(x.clone());
        };
        let keep = 1.0 - self.rate;
        let mask: Vec<f32> = (0..x.elem_count())
            .map(|_| match rng.random::<f64>() < keep {
                true => (1.0 / keep) as f32,
                false => 0.0,
            })
            .collect();
        x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn drops_numbers_keeps_the_mean_and_repeats_by_seed() -> Result<()> {
        let x = Tensor::ones((50, 80), candle_core::DType::F32, &Device::Cpu)?;
        let run = |seed| -> Result<Vec<f32>> {
            let y = Dropout::new(0.25)?.forward(&x, &mut Pass::training(seed))?;
            y.flatten_all()?.to_vec1()
        };
        let y = run(7)?;
        let dropped = y.iter().filter(|v| **v == 0.0).count();
        // Five standard deviations of a binomial of 4000 draws at 0.25.
        assert!((863..=1137).contains(&dropped), "{dropped} of 4000 dropped");
        assert!(y.iter().all(|v| *v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
        assert_eq!(y, run(7)?);
        assert_ne!(y, run(8)?);
        let same = Dropout::new(0.9)?.forward(&x, &mut Pass::inference())?;
        assert_eq!(same.to_vec2::<f32>()?, x.to_vec2::<f32>()?);
        assert!(Dropout::new(1.0).is_err());
        Ok(())
    }
}
