//! BatchNorm: what it is of, and how it is computed of Candle's own operations.

use std::sync::PoisonError;

use candle_core::{D, DType, Result, Tensor};
use mtcae_kernels::batch_norm::Channels;

use crate::Pass;
use crate::pass::Apart;

/// Whose mean and variance a BatchNorm takes in training. Inference always takes the
/// running ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Statistics {
    /// The running ones, which stay as they are.
    #[default]
    Frozen,
    /// Those of each `clips` clips, one group after the other, so that neither the size of
    /// a batch nor what it is accumulated with changes a result; the running ones follow
    /// them by `momentum`, as PyTorch's do.
    Groups {
        /// Clips of a group; a batch is a whole number of them.
        clips: usize,
        /// The share of the new in the running ones.
        momentum: f64,
    },
}

/// A BatchNorm over the last dimension: γ, β, running mean and variance, all (C), and ε.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    /// γ.
    pub gamma: &'a Tensor,
    /// β.
    pub beta: &'a Tensor,
    /// The running mean.
    pub mean: &'a Tensor,
    /// The running variance.
    pub variance: &'a Tensor,
    /// ε.
    pub eps: f64,
    /// Whose mean and variance it takes in training.
    pub statistics: Statistics,
}

impl Norm<'_> {
    pub(super) fn check(&self, channels: usize) -> Result<()> {
        let all = [self.gamma, self.beta, self.mean, self.variance];
        match all.iter().all(|t| t.dims() == [channels]) {
            true => Ok(()),
            false => candle_core::bail!(
                "batch norm: γ, β, mean and variance of {:?} for {channels} channels",
                all.map(Tensor::dims)
            ),
        }
    }

    /// With the statistics that a pass takes of a batch of `clips`.
    pub(super) fn settled(self, clips: usize, pass: &mut Pass) -> Result<Self> {
        let statistics = match (pass.rng(), self.statistics) {
            (
                Some(_),
                Statistics::Groups {
                    clips: each,
                    momentum,
                },
            ) if clips < each => {
                // A group that is smaller.
                Statistics::Groups { clips, momentum }
            }
            (Some(_), Statistics::Groups { clips: each, .. }) => {
                if each == 0 || !clips.is_multiple_of(each) {
                    candle_core::bail!(
                        "batch norm over groups of {each} clips: a batch of {clips} is no whole \
                         number of them"
                    );
                }
                self.statistics
            }
            _ => Statistics::Frozen,
        };
        Ok(Self { statistics, ..self })
    }
}

/// How many groups a batch of `clips` is.
pub(super) fn groups(statistics: Statistics, clips: usize) -> usize {
    match statistics {
        Statistics::Frozen => 1,
        Statistics::Groups { clips: each, .. } => clips / each.max(1),
    }
}

/// Mean and variance of each channel.
pub(super) struct Moments {
    mean: Vec<f32>,
    variance: Vec<f32>,
    inverse: Vec<f32>,
}

impl Moments {
    pub(super) fn new(mean: Vec<f32>, variance: Vec<f32>, eps: f64) -> Self {
        let inverse = |v: &f32| (1.0 / (f64::from(*v) + eps).sqrt()) as f32;
        Self {
            inverse: variance.iter().map(inverse).collect(),
            mean,
            variance,
        }
    }

    pub(super) fn channels<'a>(&'a self, gamma: &'a [f32], beta: &'a [f32]) -> Channels<'a> {
        Channels {
            mean: &self.mean,
            inverse: &self.inverse,
            gamma,
            beta,
        }
    }
}

/// What a BatchNorm's running mean and variance are to follow: those of the groups of a batch, one
/// after the other. The variance that is followed is that of what the rows are drawn from.
#[derive(Clone, Debug)]
pub struct Followed {
    mean: Tensor,
    variance: Tensor,
    /// Rows of a group.
    rows: usize,
    momentum: f64,
    /// Mean and variance (C) of each group.
    groups: Vec<[Vec<f32>; 2]>,
}

impl Followed {
    pub(super) fn new(
        mean: &Tensor,
        variance: &Tensor,
        groups: &[Moments],
        rows: usize,
        momentum: f64,
    ) -> Self {
        let of_group = |m: &Moments| [m.mean.clone(), m.variance.clone()];
        Self {
            mean: mean.clone(),
            variance: variance.clone(),
            rows,
            momentum,
            groups: groups.iter().map(of_group).collect(),
        }
    }

    /// Moves the running statistics.
    ///
    /// # Errors
    /// When their device fails.
    pub fn apply(&self) -> Result<()> {
        let unbiased = self.rows as f64 / self.rows.saturating_sub(1).max(1) as f64;
        for (part, running, scale) in [(0, &self.mean, 1.0), (1, &self.variance, unbiased)] {
            let mut values: Vec<f32> = running.to_dtype(DType::F32)?.to_vec1()?;
            for group in &self.groups {
                for (value, &new) in values.iter_mut().zip(&group[part]) {
                    let new = self.momentum * scale * f64::from(new);
                    *value = ((1.0 - self.momentum) * f64::from(*value) + new) as f32;
                }
            }
            let new = Tensor::from_vec(values, running.shape(), running.device())?;
            running.slice_set(&new.to_dtype(running.dtype())?, 0, 0)?;
        }
        Ok(())
    }

    /// What is followed, as bytes that another process can [take up](Self::of_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = (self.rows as u64).to_le_bytes().to_vec();
        let values = self.groups.as_flattened().iter().flatten();
        bytes.extend(values.flat_map(|v| v.to_le_bytes()));
        bytes
    }

    /// The same running statistics, to follow what another batch gave as bytes.
    ///
    /// # Errors
    /// When these are not of so many channels.
    pub fn of_bytes(&self, bytes: &[u8]) -> Result<Self> {
        let channels = self.mean.elem_count();
        let parts = bytes.split_first_chunk::<8>();
        let parts = parts.filter(|(_, v)| channels > 0 && v.len().is_multiple_of(8 * channels));
        let Some((rows, values)) = parts else {
            candle_core::bail!(
                "batch norm: {} bytes to follow, of {channels} channels",
                bytes.len()
            );
        };
        let value = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
        let values: Vec<f32> = values.as_chunks().0.iter().map(value).collect();
        let groups = values.chunks(2 * channels).map(|group| {
            let (mean, variance) = group.split_at(channels);
            [mean.to_vec(), variance.to_vec()]
        });
        Ok(Self {
            rows: u64::from_le_bytes(*rows) as usize,
            groups: groups.collect(),
            ..self.clone()
        })
    }

    /// Keeps it where a pass wants it kept, or applies it at once.
    pub(super) fn settle(self, apart: Option<&Apart>) -> Result<()> {
        match apart {
            Some(apart) => {
                let mut kept = apart.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push(self);
                Ok(())
            }
            None => self.apply(),
        }
    }
}

/// The norm of z (B, t, h, w, C) and what follows it, of Candle's operations, in `f32`.
pub(super) fn by_products(
    z: &Tensor,
    norm: Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    apart: Option<&Apart>,
) -> Result<Tensor> {
    let wide = |t: &Tensor| t.to_dtype(DType::F32);
    let dims = z.dims5()?;
    let groups = groups(norm.statistics, dims.0);
    let x = wide(z)?.reshape((groups, (), dims.4))?;
    let (mean, variance) = match norm.statistics {
        Statistics::Frozen => {
            let given = |t: &Tensor| wide(t)?.detach().reshape((1, 1, dims.4));
            (given(norm.mean)?, given(norm.variance)?)
        }
        Statistics::Groups { momentum, .. } => {
            let mean = x.mean_keepdim(1)?;
            let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?;
            let values = |t: &Tensor| t.detach().reshape((groups, dims.4))?.to_vec2::<f32>();
            let all = values(&mean)?.into_iter().zip(values(&variance)?);
            let all: Vec<Moments> = all.map(|(m, v)| Moments::new(m, v, norm.eps)).collect();
            let (to, v) = (norm.mean.detach(), norm.variance.detach());
            Followed::new(&to, &v, &all, x.dim(1)?, momentum).settle(apart)?;
            (mean, variance)
        }
    };
    let deviation = (variance + norm.eps)?.sqrt()?;
    let mut y = x
        .broadcast_sub(&mean)?
        .broadcast_div(&deviation)?
        .broadcast_mul(&wide(norm.gamma)?)?
        .broadcast_add(&wide(norm.beta)?)?
        .reshape(z.shape())?;
    if let Some(residual) = residual {
        y = (y + wide(residual)?)?;
    }
    if relu {
        // Candle's own lets the gradient through at zero.
        let above = y.detach().gt(0.0)?.to_dtype(DType::F32)?;
        y = (y * above)?;
    }
    debug_assert_eq!(y.dim(D::Minus1)?, dims.4);
    y.to_dtype(z.dtype())
}
