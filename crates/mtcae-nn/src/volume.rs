//! Layers over volumes (B, t, h, w, C): a convolution with the BatchNorm, the residual and
//! the ReLU that follow it.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};
pub use mtcae_kernels::volume::pool::{Kind, Pool};
pub use mtcae_kernels::volume::{Finish, Packed, Shape};

use crate::Pass;
use crate::ops::{self, After, Norm};
pub use crate::ops::{Statistics, pool};
use crate::plan::{Format, values};

/// A convolution without a bias, and the BatchNorm of its result.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    shape: Shape,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: f64,
    statistics: Statistics,
}

impl ConvNorm {
    /// `weight` below `conv`, of five dimensions, or of four without the kernel's first for
    /// convolutions of `pictures`; `weight` (γ), `bias` (β), `running_mean` and
    /// `running_var` below `norm`.
    ///
    /// # Errors
    /// When the shape makes no convolution or a tensor is refused.
    pub fn new(
        shape: Shape,
        pictures: bool,
        eps: f64,
        statistics: Statistics,
        conv: VarBuilder<'_>,
        norm: VarBuilder<'_>,
    ) -> Result<Self> {
        if let Err(reason) = shape.check() {
            candle_core::bail!("convolution: {reason}");
        }
        let of_channels = |name: &str, value: f64| {
            norm.get_with_hints_dtype(shape.outputs, name, Init::Const(value), DType::F32)
        };
        // Kaiming's for a ReLU, by the outputs.
        let fan = shape.outputs * shape.kernel.iter().product::<usize>();
        let init = Init::Randn {
            mean: 0.0,
            stdev: (2.0 / fan as f64).sqrt(),
        };
        Ok(Self {
            weight: conv.get_with_hints(weight_dims(&shape, pictures), "weight", init)?,
            gamma: of_channels("weight", 1.0)?,
            beta: of_channels("bias", 0.0)?,
            mean: of_channels("running_mean", 0.0)?,
            variance: of_channels("running_var", 1.0)?,
            shape,
            eps,
            statistics,
        })
    }

    /// How it reads its input.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// x (B, t, h, w, C) → (B, t′, h′, w′, C′), plus `residual` of that shape, cut at zero if
    /// asked for.
    ///
    /// # Errors
    /// When the shapes do not chain, or the batch is no whole number of groups.
    pub fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let norm = Some(Norm {
            gamma: &self.gamma,
            beta: &self.beta,
            mean: &self.mean,
            variance: &self.variance,
            eps: self.eps,
            statistics: self.statistics,
        });
        let after = After {
            norm,
            residual,
            relu,
        };
        ops::conv(x, &self.weight, &self.shape, after, pass)
    }

    /// This layer for inference on the CPU, the norm folded into weights and a bias, for
    /// results of about `width` pixels a row.
    ///
    /// # Errors
    /// When its tensors cannot be read.
    pub fn plan(&self, format: Format, width: usize) -> Result<Packed> {
        let mut weight = values(&self.weight)?;
        let [gamma, beta, mean, variance] = [
            values(&self.gamma)?,
            values(&self.beta)?,
            values(&self.mean)?,
            values(&self.variance)?,
        ];
        let mut bias = Vec::with_capacity(beta.len());
        let row = weight.len() / beta.len().max(1);
        for (o, kernel) in weight.chunks_exact_mut(row.max(1)).enumerate() {
            let scale = f64::from(gamma[o]) / (f64::from(variance[o]) + self.eps).sqrt();
            for w in kernel {
                *w = (f64::from(*w) * scale) as f32;
            }
            bias.push((f64::from(beta[o]) - f64::from(mean[o]) * scale) as f32);
        }
        Ok(Packed::new(format, self.shape, width, &weight, &bias))
    }
}

/// The dimensions of a weight.
pub fn weight_dims(shape: &Shape, pictures: bool) -> Vec<usize> {
    let [kt, kh, kw] = shape.kernel;
    let c = shape.inputs / shape.groups.max(1);
    match pictures {
        true => vec![shape.outputs, c, kh, kw],
        false => vec![shape.outputs, c, kt, kh, kw],
    }
}

/// Frames (B, T, C, H, W) → (B, T, H, W, C).
///
/// # Errors
/// When there are other dimensions.
pub fn channels_last(frames: &Tensor) -> Result<Tensor> {
    frames.permute((0, 1, 3, 4, 2))?.contiguous()
}
