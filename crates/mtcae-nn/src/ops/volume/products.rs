//! A convolution put together of Candle's own operations: a product for each tap, for devices
//! without a kernel of ours. Each has a backward.

use candle_core::{Result, Tensor};
use mtcae_kernels::volume::Shape;

/// Places `first`, `first` + `step`, … of an axis, `count` of them.
fn places(x: &Tensor, axis: usize, first: usize, step: usize, count: usize) -> Result<Tensor> {
    if step == 1 {
        return x.narrow(axis, first, count);
    }
    let indices: Vec<u32> = (0..count).map(|i| (first + i * step) as u32).collect();
    let indices = Tensor::from_vec(indices, count, x.device())?;
    x.contiguous()?.index_select(&indices, axis)
}

/// x (B, t, h, w, C) by `weight` → `output`.
pub(super) fn conv(
    x: &Tensor,
    weight: &Tensor,
    shape: &Shape,
    output: [usize; 5],
) -> Result<Tensor> {
    let Shape {
        groups,
        inputs,
        outputs,
        kernel: [kt, kh, kw],
        stride,
        padding,
    } = *shape;
    let (c, k) = (inputs / groups, outputs / groups);
    let weight = weight
        .to_dtype(x.dtype())?
        .reshape((groups, k, c, kt * kh * kw))?;
    let mut x = x.clone();
    for (axis, &zeros) in padding.iter().enumerate() {
        if zeros > 0 {
            x = x.pad_with_zeros(axis + 1, zeros, zeros)?;
        }
    }
    let rows = output[..4].iter().product::<usize>();
    let mut sum: Option<Tensor> = None;
    for t in 0..kt {
        let x = places(&x, 1, t, stride[0], output[1])?;
        for h in 0..kh {
            let x = places(&x, 2, h, stride[1], output[2])?;
            for w in 0..kw {
                // (groups, rows, c) by (groups, c, k).
                let x = places(&x, 3, w, stride[2], output[3])?
                    .reshape((rows, groups, c))?
                    .transpose(0, 1)?
                    .contiguous()?;
                let tap = weight.narrow(3, (t * kh + h) * kw + w, 1)?.squeeze(3)?;
                let product = x.matmul(&tap.transpose(1, 2)?.contiguous()?)?;
                sum = Some(match sum {
                    Some(sum) => (sum + product)?,
                    None => product,
                });
            }
        }
    }
    match sum {
        Some(sum) => sum.transpose(0, 1)?.reshape(output.to_vec()),
        None => candle_core::bail!("convolution: a kernel without taps"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use mtcae_testing::assert_close;

    use super::*;
    use crate::Pass;
    use crate::ops::volume::{After, Norm, Statistics, norm};

    /// Normal numbers would need a generator; these fill [−1, 1).
    fn some(dims: &[usize], seed: u32) -> Tensor {
        let n = dims.iter().product::<usize>() as u32;
        let number = |i: u32| {
            let bits = (i + seed * 7919).wrapping_mul(2_654_435_761);
            (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..n).map(number).collect();
        Tensor::from_vec(values, dims, &Device::Cpu).expect("numbers")
    }

    /// What runs on GPUs and what runs on CPUs are each other's reference: values, all
    /// gradients and the running statistics.
    #[test]
    fn products_and_kernels_agree_in_values_and_gradients() {
        let shape = |groups, stride, kernel, padding| Shape {
            groups,
            inputs: 8,
            outputs: 12,
            kernel,
            stride,
            padding,
        };
        let cases = [
            shape(1, [1; 3], [3; 3], [1; 3]),
            shape(4, [2; 3], [3; 3], [1; 3]),
            shape(2, [1, 2, 2], [1, 3, 3], [0, 1, 1]),
            shape(1, [2; 3], [1; 3], [0; 3]),
        ];
        for (shape, relu) in cases.into_iter().flat_map(|s| [(s, false), (s, true)]) {
            for statistics in [
                Statistics::Frozen,
                Statistics::Groups {
                    clips: 2,
                    momentum: 0.1,
                },
            ] {
                let [t, h, w] = shape.output([3, 5, 6]).expect("an output");
                let output = [4, t, h, w, 12];
                let [kt, kh, kw] = shape.kernel;
                let operands = [
                    some(&[4, 3, 5, 6, 8], 1),
                    some(&[12, 8 / shape.groups, kt, kh, kw], 2),
                    some(&[12], 3),
                    some(&[12], 4),
                    some(&output, 5),
                ];
                let up = some(&output, 6);
                let run = |by_products: bool| {
                    let vars = operands
                        .each_ref()
                        .map(|t| Var::from_tensor(t).expect("a var"));
                    let [x, weight, gamma, beta, residual] = vars.each_ref();
                    let mean = some(&[12], 7);
                    let variance = some(&[12], 8).sqr().expect("squares");
                    let norm = Norm {
                        gamma,
                        beta,
                        mean: &mean,
                        variance: &variance,
                        eps: 1e-5,
                        statistics,
                    };
                    let residual = Some(residual.as_tensor());
                    let y = match by_products {
                        true => {
                            let z = conv(x, weight, &shape, output).expect("products");
                            norm::by_products(&z, norm, residual, relu, None)
                        }
                        false => {
                            let norm = Some(norm);
                            let after = After {
                                norm,
                                residual,
                                relu,
                            };
                            super::super::conv(x, weight, &shape, after, &mut Pass::training(0))
                        }
                    };
                    let y = y.expect("a result");
                    let loss = (&y * &up).and_then(|l| l.sum_all()).expect("a loss");
                    let grads = loss.backward().expect("gradients");
                    let mut all = vec![y, mean, variance];
                    all.extend(
                        vars.iter()
                            .map(|v| grads.get(v).expect("a gradient").clone()),
                    );
                    all
                };
                for (i, (got, want)) in run(false).iter().zip(&run(true)).enumerate() {
                    // Sums of some hundred terms in another order; gradients of statistics
                    // cancel.
                    let what = format!("{i} of {shape:?} {statistics:?} {relu}");
                    assert_close(&what, got, want, 2e-5);
                }
            }
        }
    }
}
