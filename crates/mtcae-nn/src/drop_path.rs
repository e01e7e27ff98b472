//! Drop path, or stochastic depth (Huang et al., 2016, arXiv 1603.09382).

use candle_core::{Result, Tensor};
use rand::Rng;

use crate::Pass;

/// In training, drops a residual branch of whole samples with probability `rate`
/// and divides the kept ones by 1 − `rate`; otherwise the identity.
#[derive(Clone, Copy, Debug)]
pub struct DropPath {
    rate: f64,
}

impl DropPath {
    /// A `rate` in [0, 1).
    pub fn new(rate: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&rate) {
            candle_core::bail!("the drop path rate {rate} is not in [0, 1)");
        }
        Ok(Self { rate })
    }

    /// (B, N, D) → (B, N, D).
    pub fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let Some(mask) = self.scales(x.dim(0)?, pass) else {
            return Ok(x.clone());
        };
        let shape = [&[mask.len()], vec![1; x.rank() - 1].as_slice()].concat();
        x.broadcast_mul(&Tensor::from_vec(mask, shape, x.device())?.to_dtype(x.dtype())?)
    }

    /// What each of `samples` samples is multiplied by: 0 or 1/(1 − `rate`).
    /// Nothing where the branch is the identity.
    pub(crate) fn scales(&self, samples: usize, pass: &mut Pass) -> Option<Vec<f32>> {
        let rng = pass.rng().filter(|_| self.rate > 0.0)?;
        let keep = 1.0 - self.rate;
        let scales = (0..samples).map(|_| match rng.random::<f64>() < keep {
            true => (1.0 / keep) as f32,
            false => 0.0,
        });
        Some(scales.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn drops_whole_samples_keeps_the_mean_and_repeats_by_seed() -> Result<()> {
        let x = Tensor::ones((4000, 2, 3), candle_core::DType::F32, &Device::Cpu)?;
        let run = |seed| {
            DropPath::new(0.25)?
                .forward(&x, &mut Pass::training(seed))?
                .to_vec3::<f32>()
        };
        let y = run(7)?;
        for sample in &y {
            let first = sample[0][0];
            assert!(first == 0.0 || (first - 4.0 / 3.0).abs() < 1e-6);
            assert!(sample.iter().flatten().all(|&v| v == first));
        }
        let dropped = y.iter().filter(|s| s[0][0] == 0.0).count();
        // Five standard deviations of a binomial of 4000 draws at 0.25.
        assert!((863..=1137).contains(&dropped), "{dropped} of 4000 dropped");
        assert_eq!(y, run(7)?);
        assert_ne!(y, run(8)?);
        Ok(())
    }

    #[test]
    fn inference_is_the_identity() -> Result<()> {
        let x = Tensor::ones((3, 1), candle_core::DType::F32, &Device::Cpu)?;
        let y = DropPath::new(0.9)?.forward(&x, &mut Pass::inference())?;
        assert_eq!(y.to_vec2::<f32>()?, x.to_vec2::<f32>()?);
        assert!(DropPath::new(1.0).is_err());
        Ok(())
    }
}
