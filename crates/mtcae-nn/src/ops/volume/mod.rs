//! Convolution over volumes with the BatchNorm, the residual and the ReLU that follow it, and
//! pooling. Pixels are channels last: x is (B, t, h, w, C), a picture a volume of one frame.
//!
//! On the CPU each is one operation on the kernels of `mtcae_kernels::volume`; elsewhere it
//! is put together of Candle's own (`products`), which have a backward.

mod norm;
mod pool;
mod products;

use candle_core::{DType, Device, Result, Shape, Tensor};
use mtcae_kernels::batch_norm;
use mtcae_kernels::isa::Isa;
use mtcae_kernels::volume;

pub use self::norm::{Followed, Norm, Statistics};
pub use self::pool::pool;

use self::norm::{Moments, groups};
use super::backend::Fresh;
use super::cpu::{read, tensor};
use super::operation::{Each, Gradients, Operands, Operation, Saved, Slot, apply};
use crate::Pass;
use crate::pass::Apart;

/// What follows a convolution.
#[derive(Clone, Copy, Default)]
pub struct After<'a> {
    /// BatchNorm.
    pub norm: Option<Norm<'a>>,
    /// What is added to its result, of the same shape; only after a norm.
    pub residual: Option<&'a Tensor>,
    /// Whether what is below zero becomes zero, last; only after a norm.
    pub relu: bool,
}

/// x (B, t, h, w, inputs) by `weight` (outputs, inputs/groups, kt, kh, kw), or without kt
/// where it is 1, and what follows → (B, t′, h′, w′, outputs). There is no bias: BatchNorm
/// has one.
///
/// A training pass whose norm has [`Statistics::Groups`] moves its running mean and
/// variance, a group after the other; one that is [`Pass::apart`] keeps what they should follow.
///
/// # Errors
/// When the shapes do not chain, or the batch is no whole number of groups.
pub fn conv(
    x: &Tensor,
    weight: &Tensor,
    shape: &volume::Shape,
    after: After<'_>,
    pass: &mut Pass,
) -> Result<Tensor> {
    let output = check(x, weight, shape, after)?;
    let norm = match after.norm {
        Some(norm) => Some(norm.settled(x.dim(0)?, pass)?),
        None => None,
    };
    if !matches!(x.device(), Device::Cpu) {
        let z = products::conv(x, weight, shape, output)?;
        return match norm {
            Some(norm) => {
                let apart = pass.kept_apart();
                norm::by_products(&z, norm, after.residual, after.relu, apart)
            }
            None => Ok(z),
        };
    }
    let mut operands = Operands::default();
    let op = Conv {
        shape: *shape,
        x: operands.activation(x.contiguous()?),
        residual: match after.residual {
            Some(residual) => Some(operands.activation(residual.contiguous()?)),
            None => None,
        },
        weight: operands.parameter(weight)?,
        norm: match norm {
            Some(norm) => Some(NormOf {
                gamma: operands.parameter(norm.gamma)?,
                beta: operands.parameter(norm.beta)?,
                mean: norm.mean.detach(),
                variance: norm.variance.detach(),
                eps: norm.eps,
                statistics: norm.statistics,
                apart: pass.kept_apart().cloned(),
            }),
            None => None,
        },
        relu: after.relu,
        saved: Saved::default(),
    };
    apply(op, operands, &Shape::from(output.to_vec()), pass.way())
}

/// Makes sure that all fits, and gives the result's shape.
fn check(
    x: &Tensor,
    weight: &Tensor,
    shape: &volume::Shape,
    after: After<'_>,
) -> Result<[usize; 5]> {
    let (b, t, h, w, c) = x.dims5()?;
    if let Err(reason) = shape.check() {
        candle_core::bail!("convolution: {reason}");
    }
    let [kt, kh, kw] = shape.kernel;
    let all = [shape.outputs, shape.inputs / shape.groups, kt, kh, kw];
    let flat = [all[0], all[1], kh, kw];
    if weight.dims() != all && (kt != 1 || weight.dims() != flat) {
        candle_core::bail!(
            "convolution: a weight of {:?}, should be {all:?}",
            weight.dims()
        );
    }
    let output = shape.output([t, h, w]).filter(|_| c == shape.inputs);
    let Some([t, h, w]) = output else {
        candle_core::bail!("convolution: x of {:?} for {shape:?}", x.dims());
    };
    let output = [b, t, h, w, shape.outputs];
    if let Some(residual) = after.residual
        && (after.norm.is_none() || residual.dims() != output)
    {
        candle_core::bail!(
            "convolution: a residual of {:?} onto {output:?}{}",
            residual.dims(),
            if after.norm.is_none() {
                " without a norm"
            } else {
                ""
            }
        );
    }
    if after.relu && after.norm.is_none() {
        candle_core::bail!("convolution: a ReLU without a norm before it");
    }
    if let Some(norm) = after.norm {
        norm.check(shape.outputs)?;
    }
    if x.device().is_cpu() && x.dtype() != DType::F32 {
        candle_core::bail!(
            "convolution: {}",
            crate::Unsupported::OnCpu(x.dtype().as_str())
        );
    }
    Ok(output)
}

struct NormOf {
    gamma: Slot,
    beta: Slot,
    mean: Tensor,
    variance: Tensor,
    eps: f64,
    statistics: Statistics,
    /// Where what the running statistics should follow is kept.
    apart: Option<Apart>,
}

/// Shapes are checked by [`conv`].
struct Conv {
    shape: volume::Shape,
    x: Slot,
    residual: Option<Slot>,
    weight: Slot,
    norm: Option<NormOf>,
    relu: bool,
    saved: Saved<(Tensor, Vec<Moments>)>,
}

/// Clips and (t, h, w) of a batch.
fn sizes(x: &Tensor) -> Result<(usize, [usize; 3])> {
    let (b, t, h, w, _) = x.dims5()?;
    Ok((b, [t, h, w]))
}

impl Conv {
    fn convolve(&self, inputs: &Each<Tensor>) -> Result<(Vec<f32>, Shape)> {
        let x = &inputs[self.x];
        let (b, size) = sizes(x)?;
        let output = self.shape.output(size).unwrap_or_default();
        let dims = [b, output[0], output[1], output[2], self.shape.outputs];
        let mut z = vec![0.0; dims.iter().product()];
        read("convolution", &[x, &inputs[self.weight]], |v| {
            volume::forward(Isa::best(), &self.shape, b, size, v[0], v[1], &mut z);
        })?;
        Ok((z, Shape::from(dims.to_vec())))
    }

    /// Mean and deviation of each group of clips in z.
    fn moments(&self, norm: &NormOf, z: &[f32], clips: usize) -> Result<Vec<Moments>> {
        let channels = self.shape.outputs;
        match norm.statistics {
            Statistics::Frozen => {
                let given = read("batch norm", &[&norm.mean, &norm.variance], |v| {
                    Moments::new(v[0].to_vec(), v[1].to_vec(), norm.eps)
                })?;
                Ok(vec![given])
            }
            Statistics::Groups { .. } => {
                let groups = groups(norm.statistics, clips);
                let of_group = |z: &[f32]| {
                    let [mean, variance] = batch_norm::statistics(z, channels);
                    Moments::new(mean, variance, norm.eps)
                };
                Ok(z.chunks(z.len() / groups).map(of_group).collect())
            }
        }
    }
}

impl Operation for Conv {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn forward(&self, inputs: &Each<Tensor>, save: bool) -> Result<Fresh> {
        let (z, shape) = self.convolve(inputs)?;
        let Some(norm) = &self.norm else {
            return Ok(Fresh::on_cpu(z, &shape));
        };
        let clips = inputs[self.x].dim(0)?;
        let moments = self.moments(norm, &z, clips)?;
        let mut y = vec![0.0; z.len()];
        let part = z.len() / moments.len();
        let mut operands = vec![&inputs[norm.gamma], &inputs[norm.beta]];
        operands.extend(self.residual.map(|r| &inputs[r]));
        read("batch norm", &operands, |v| {
            let parts = z.chunks(part).zip(y.chunks_mut(part)).zip(&moments);
            for (i, ((z, y), moments)) in parts.enumerate() {
                let residual = v.get(2).map(|r| &r[i * part..][..part]);
                let of = moments.channels(v[0], v[1]);
                batch_norm::forward(z, of, residual, self.relu, y);
            }
        })?;
        if let Statistics::Groups { momentum, .. } = norm.statistics {
            let rows = part / self.shape.outputs;
            Followed::new(&norm.mean, &norm.variance, &moments, rows, momentum)
                .settle(norm.apart.as_ref())?;
        }
        if save {
            self.saved.keep((tensor(z, &shape)?, moments));
        }
        Ok(Fresh::on_cpu(y, &shape))
    }

    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        let (x, weight) = (&inputs[self.x], &inputs[self.weight]);
        let (b, size) = sizes(x)?;
        let dz = match &self.norm {
            None => grad.clone(),
            Some(norm) => self.norm_backward(norm, inputs, grads, result, grad)?,
        };
        let (isa, shape) = (Isa::best(), &self.shape);
        if grads.wants(self.weight) {
            let mut dw = vec![0.0; weight.elem_count()];
            read("convolution", &[x, &dz], |v| {
                volume::weight_gradient(isa, shape, b, size, v[0], v[1], &mut dw);
            })?;
            grads.set(self.weight, tensor(dw, weight.shape())?);
        }
        if grads.wants(self.x) {
            let mut dx = vec![0.0; x.elem_count()];
            read("convolution", &[&dz, weight], |v| {
                volume::input_gradient(isa, shape, b, size, v[0], v[1], &mut dx);
            })?;
            grads.set(self.x, tensor(dx, x.shape())?);
        }
        Ok(())
    }
}

impl Conv {
    /// The gradient of what the norm is of; those of its parameters and of the residual.
    fn norm_backward(
        &self,
        norm: &NormOf,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<Tensor> {
        let (z, moments) = self.saved.take_or(|| {
            let (z, shape) = self.convolve(inputs)?;
            let moments = self.moments(norm, &z, inputs[self.x].dim(0)?)?;
            Ok((tensor(z, &shape)?, moments))
        })?;
        let channels = self.shape.outputs;
        let own = norm.statistics != Statistics::Frozen;
        let mut totals = [vec![0.0f32; channels], vec![0.0f32; channels]];
        let mut dz = vec![0.0; z.elem_count()];
        let part = dz.len() / moments.len();
        let operands = [&z, result, grad, &inputs[norm.gamma], &inputs[norm.beta]];
        read("batch norm", &operands, |v| {
            for (i, moments) in moments.iter().enumerate() {
                let [z, y, grad] = [0, 1, 2].map(|j| &v[j][i * part..][..part]);
                let y = self.relu.then_some(y);
                let of = moments.channels(v[3], v[4]);
                let sums = batch_norm::parameter_gradients(z, of, y, grad);
                let dz = &mut dz[i * part..][..part];
                batch_norm::input_gradient(z, of, y, grad, own.then_some(&sums), dz);
                for (total, sums) in totals.iter_mut().zip(&sums) {
                    total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
                }
            }
        })?;
        let [beta, gamma] = totals;
        grads.set(norm.beta, tensor(beta, &Shape::from(channels))?);
        grads.set(norm.gamma, tensor(gamma, &Shape::from(channels))?);
        if let Some(residual) = self.residual
            && grads.wants(residual)
        {
            let cut = match self.relu {
                false => grad.clone(),
                true => {
                    let mut cut = vec![0.0; grad.elem_count()];
                    read("batch norm", &[result, grad], |v| {
                        batch_norm::cut_gradient(v[0], v[1], &mut cut);
                    })?;
                    tensor(cut, grad.shape())?
                }
            };
            grads.set(residual, cut);
        }
        tensor(dz, z.shape())
    }
}
