//! BatchNorm (Ioffe and Szegedy, 2015, arXiv 1502.03167) of rows of channels, with the
//! residual that is added to it and the cut at zero that follows, and the backward of all
//! three.

use rayon::prelude::*;

use crate::isa::{Isa, dispatch};
use crate::math::mul_add;
use crate::matrix::size;

/// Rows that one task works on. Fixed, because what tasks find is added task by task and
/// must not depend on the number of threads.
const ROWS: usize = 128;

/// Mean and variance of each channel of x (rows, channels); the variance is that of these
/// rows (divided by their number), from two passes over a task's rows.
///
/// # Panics
/// When there are no whole rows.
pub fn statistics(x: &[f32], channels: usize) -> [Vec<f32>; 2] {
    let rows = rows(x.len(), channels);
    let isa = Isa::best();
    let parts: Vec<[Vec<f32>; 2]> = x
        .par_chunks(size([ROWS, channels]))
        .map(|x| {
            let mut found = [vec![0.0; channels], vec![0.0; channels]];
            let out = &mut found;
            dispatch!(isa, moments(x: &[f32], out: &mut [Vec<f32>; 2]));
            found
        })
        .collect();
    let mut mean = vec![0.0f64; channels];
    for (i, [means, _]) in parts.iter().enumerate() {
        let share = some_rows(i, rows) as f64 / rows as f64;
        for (mean, &m) in mean.iter_mut().zip(means) {
            *mean += share * f64::from(m);
        }
    }
    let mut variance = vec![0.0f64; channels];
    for (i, [means, squares]) in parts.iter().enumerate() {
        let some = some_rows(i, rows) as f64;
        for c in 0..channels {
            let off = f64::from(means[c]) - mean[c];
            variance[c] += (f64::from(squares[c]) + some * off * off) / rows as f64;
        }
    }
    [mean, variance].map(|all| all.into_iter().map(|v| v as f32).collect())
}

fn rows(len: usize, channels: usize) -> usize {
    assert!(
        channels > 0 && len > 0 && len.is_multiple_of(channels),
        "batch norm: {len} numbers are no rows of {channels}"
    );
    len / channels
}

fn some_rows(task: usize, rows: usize) -> usize {
    ROWS.min(rows - task * ROWS)
}

/// Means of the columns, and sums of the squares of what is off them.
#[inline(always)]
fn moments<const FMA: bool>(x: &[f32], [mean, squares]: &mut [Vec<f32>; 2]) {
    let channels = mean.len();
    // Off the first row, so that a mean far from zero loses no digits.
    let first = &x[..channels];
    for row in x.chunks_exact(channels) {
        for ((m, x), first) in mean.iter_mut().zip(row).zip(first) {
            *m += x - first;
        }
    }
    let share = channels as f32 / x.len() as f32;
    for (m, first) in mean.iter_mut().zip(first) {
        *m = mul_add::<FMA>(*m, share, *first);
    }
    for row in x.chunks_exact(channels) {
        for ((s, m), x) in squares.iter_mut().zip(&*mean).zip(row) {
            *s = mul_add::<FMA>(x - m, x - m, *s);
        }
    }
}

/// Numbers of each channel.
#[derive(Clone, Copy)]
pub struct Channels<'a> {
    /// What is taken off.
    pub mean: &'a [f32],
    /// 1/√(variance + ε).
    pub inverse: &'a [f32],
    /// γ.
    pub gamma: &'a [f32],
    /// β.
    pub beta: &'a [f32],
}

/// γ·(x − mean)·inverse + β of x (rows, channels), plus `residual` if there is one, cut at
/// zero if asked for.
///
/// # Panics
/// When the lengths disagree.
pub fn forward(x: &[f32], of: Channels<'_>, residual: Option<&[f32]>, relu: bool, out: &mut [f32]) {
    let channels = of.mean.len();
    rows(x.len(), channels);
    assert_eq!(out.len(), x.len(), "batch norm: lengths");
    assert!(
        residual.is_none_or(|r| r.len() == x.len()),
        "batch norm: residual"
    );
    let scale: Vec<f32> = scales(of);
    let isa = Isa::best();
    let part = ROWS * channels;
    let (scale, floor) = (&scale[..], if relu { 0.0 } else { f32::NEG_INFINITY });
    out.par_chunks_mut(part).enumerate().for_each(|(i, out)| {
        let x = &x[i * part..][..out.len()];
        let residual = residual.map(|r| &r[i * part..][..out.len()]);
        dispatch!(isa, normalise(x: &[f32], of: Channels<'_>, scale: &[f32], residual: Option<&[f32]>, floor: f32, out: &mut [f32]));
    });
}

fn scales(of: Channels<'_>) -> Vec<f32> {
    let both = of.inverse.iter().zip(of.gamma);
    both.map(|(inverse, gamma)| inverse * gamma).collect()
}

#[inline(always)]
fn normalise<const FMA: bool>(
    x: &[f32],
    of: Channels<'_>,
    scale: &[f32],
    residual: Option<&[f32]>,
    floor: f32,
    out: &mut [f32],
) {
    let c = scale.len();
    let (mean, beta) = (&of.mean[..c], &of.beta[..c]);
    for (i, (x, out)) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)).enumerate() {
        match residual {
            None => {
                for j in 0..c {
                    let y = mul_add::<FMA>(x[j] - mean[j], scale[j], beta[j]);
                    out[j] = if y < floor { floor } else { y };
                }
            }
            Some(residual) => {
                let residual = &residual[i * c..][..c];
                for j in 0..c {
                    let y = mul_add::<FMA>(x[j] - mean[j], scale[j], beta[j]) + residual[j];
                    out[j] = if y < floor { floor } else { y };
                }
            }
        }
    }
}

/// The gradients of β and of γ, from x and the gradient of [`forward`]'s result `y`, where
/// `y` is given if it was cut at zero.
///
/// # Panics
/// When the lengths disagree.
pub fn parameter_gradients(
    x: &[f32],
    of: Channels<'_>,
    y: Option<&[f32]>,
    grad: &[f32],
) -> [Vec<f32>; 2] {
    let channels = of.mean.len();
    rows(x.len(), channels);
    assert!(
        grad.len() == x.len() && y.is_none_or(|y| y.len() == x.len()),
        "batch norm: lengths"
    );
    let isa = Isa::best();
    let part = ROWS * channels;
    let parts: Vec<[Vec<f32>; 2]> = x
        .par_chunks(part)
        .enumerate()
        .map(|(i, x)| {
            let grad = &grad[i * part..][..x.len()];
            let y = y.map(|y| &y[i * part..][..x.len()]);
            let mut sums = [vec![0.0; channels], vec![0.0; channels]];
            let (mean, out) = (of.mean, &mut sums);
            dispatch!(isa, sum(x: &[f32], mean: &[f32], y: Option<&[f32]>, grad: &[f32], out: &mut [Vec<f32>; 2]));
            sums
        })
        .collect();
    let mut total = [vec![0.0f64; channels], vec![0.0f64; channels]];
    for sums in &parts {
        for (total, sums) in total.iter_mut().zip(sums) {
            for (total, &s) in total.iter_mut().zip(sums) {
                *total += f64::from(s);
            }
        }
    }
    for (sum, &inverse) in total[1].iter_mut().zip(of.inverse) {
        *sum *= f64::from(inverse);
    }
    total.map(|all| all.into_iter().map(|v| v as f32).collect())
}

/// The gradient that reaches what was cut at zero.
#[inline(always)]
fn kept(grad: f32, y: f32) -> f32 {
    if y > 0.0 { grad } else { 0.0 }
}

#[inline(always)]
fn sum<const FMA: bool>(
    x: &[f32],
    mean: &[f32],
    y: Option<&[f32]>,
    grad: &[f32],
    [beta, gamma]: &mut [Vec<f32>; 2],
) {
    let c = mean.len();
    let (beta, gamma) = (&mut beta[..c], &mut gamma[..c]);
    let all = x.chunks_exact(c).zip(grad.chunks_exact(c));
    for (i, (x, grad)) in all.enumerate() {
        match y {
            None => {
                for j in 0..c {
                    beta[j] += grad[j];
                    gamma[j] = mul_add::<FMA>(grad[j], x[j] - mean[j], gamma[j]);
                }
            }
            Some(y) => {
                let y = &y[i * c..][..c];
                for j in 0..c {
                    let grad = kept(grad[j], y[j]);
                    beta[j] += grad;
                    gamma[j] = mul_add::<FMA>(grad, x[j] - mean[j], gamma[j]);
                }
            }
        }
    }
}

/// The gradient of x, into `out`. `sums` are [`parameter_gradients`] where mean and variance
/// are those of x itself, and none where they are constants.
///
/// # Panics
/// When the lengths disagree.
pub fn input_gradient(
    x: &[f32],
    of: Channels<'_>,
    y: Option<&[f32]>,
    grad: &[f32],
    sums: Option<&[Vec<f32>; 2]>,
    out: &mut [f32],
) {
    let channels = of.mean.len();
    let rows = rows(x.len(), channels) as f32;
    assert!(
        grad.len() == x.len() && out.len() == x.len() && y.is_none_or(|y| y.len() == x.len()),
        "batch norm: lengths"
    );
    let scale = scales(of);
    let zeros = vec![0.0; channels];
    let shares = sums.map(|[beta, gamma]| {
        let mean: Vec<f32> = beta.iter().map(|b| b / rows).collect();
        let both = gamma.iter().zip(of.inverse);
        let slope: Vec<f32> = both.map(|(g, inverse)| g / rows * inverse).collect();
        (mean, slope)
    });
    let (shift, slope) = match &shares {
        Some((shift, slope)) => (&shift[..], &slope[..]),
        None => (&zeros[..], &zeros[..]),
    };
    let of = Backward {
        mean: of.mean,
        scale: &scale,
        shift,
        slope,
    };
    let isa = Isa::best();
    let part = ROWS * channels;
    out.par_chunks_mut(part).enumerate().for_each(|(i, out)| {
        let x = &x[i * part..][..out.len()];
        let grad = &grad[i * part..][..out.len()];
        let y = y.map(|y| &y[i * part..][..out.len()]);
        dispatch!(isa, back(x: &[f32], of: Backward<'_>, y: Option<&[f32]>, grad: &[f32], out: &mut [f32]));
    });
}

#[derive(Clone, Copy)]
struct Backward<'a> {
    mean: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    slope: &'a [f32],
}

#[inline(always)]
fn back<const FMA: bool>(
    x: &[f32],
    of: Backward<'_>,
    y: Option<&[f32]>,
    grad: &[f32],
    out: &mut [f32],
) {
    let c = of.mean.len();
    let (mean, scale) = (&of.mean[..c], &of.scale[..c]);
    let (shift, slope) = (&of.shift[..c], &of.slope[..c]);
    let all = x.chunks_exact(c).zip(grad.chunks_exact(c));
    for (i, ((x, grad), out)) in all.zip(out.chunks_exact_mut(c)).enumerate() {
        match y {
            None => {
                for j in 0..c {
                    let off = mul_add::<FMA>(mean[j] - x[j], slope[j], grad[j] - shift[j]);
                    out[j] = scale[j] * off;
                }
            }
            Some(y) => {
                let y = &y[i * c..][..c];
                for j in 0..c {
                    let grad = kept(grad[j], y[j]);
                    let off = mul_add::<FMA>(mean[j] - x[j], slope[j], grad - shift[j]);
                    out[j] = scale[j] * off;
                }
            }
        }
    }
}

/// `grad` where `y` is above zero, and zero elsewhere, into `out`.
///
/// # Panics
/// When the lengths disagree.
pub fn cut_gradient(y: &[f32], grad: &[f32], out: &mut [f32]) {
    assert!(
        y.len() == grad.len() && y.len() == out.len(),
        "batch norm: lengths"
    );
    let isa = Isa::best();
    let some = 16 * 1024;
    out.par_chunks_mut(some)
        .zip(y.par_chunks(some).zip(grad.par_chunks(some)))
        .for_each(|(out, (y, grad))| {
            dispatch!(isa, cut(y: &[f32], grad: &[f32], out: &mut [f32]));
        });
}

#[inline(always)]
fn cut<const FMA: bool>(y: &[f32], grad: &[f32], out: &mut [f32]) {
    for ((out, y), grad) in out.iter_mut().zip(y).zip(grad) {
        *out = kept(*grad, *y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, numeric_gradient, randn, widen};

    #[test]
    fn statistics_are_those_of_sums_in_f64_far_from_zero_too() {
        for (rows, c) in [(1, 3), (127, 5), (1000, 33)] {
            let x: Vec<f32> = randn(rows * c, 1).iter().map(|x| x + 300.0).collect();
            let [mean, variance] = statistics(&x, c);
            let column = |j: usize| (0..rows).map(move |r| r * c + j);
            let n = rows as f64;
            let means: Vec<f64> = (0..c)
                .map(|j| column(j).map(|i| f64::from(x[i])).sum::<f64>() / n)
                .collect();
            let squares: Vec<f64> = (0..c)
                .map(|j| {
                    column(j)
                        .map(|i| (f64::from(x[i]) - means[j]).powi(2))
                        .sum::<f64>()
                        / n
                })
                .collect();
            compare(&mean, &means, 1e-7, "mean");
            // Means of tasks are rounded at 300·6e-8.
            compare(&variance, &squares, 1e-5, "variance");
        }
    }

    /// As [`forward`], in f64, with the statistics of x where none are given.
    fn reference(
        x: &[f64],
        c: usize,
        given: Option<[&[f64]; 2]>,
        of: [&[f64]; 2],
        residual: &[f64],
    ) -> Vec<f64> {
        let n = (x.len() / c) as f64;
        let mean = |j: usize| x.iter().skip(j).step_by(c).sum::<f64>() / n;
        let square = |j: usize, m: f64| {
            x.iter()
                .skip(j)
                .step_by(c)
                .map(|x| (x - m).powi(2))
                .sum::<f64>()
                / n
        };
        let of_channel = |j: usize| match given {
            Some([mean, variance]) => (mean[j], variance[j]),
            None => (mean(j), square(j, mean(j))),
        };
        let all: Vec<(f64, f64)> = (0..c).map(of_channel).collect();
        x.iter()
            .enumerate()
            .map(|(i, x)| {
                let (mean, variance) = all[i % c];
                let y = (x - mean) / (variance + 1e-5).sqrt() * of[0][i % c] + of[1][i % c];
                (y + residual[i]).max(0.0)
            })
            .collect()
    }

    #[test]
    fn values_and_gradients_are_those_of_the_definition() {
        let (rows, c) = (9, 5);
        let (x, residual, up) = (randn(rows * c, 1), randn(rows * c, 2), randn(rows * c, 3));
        let (gamma, beta) = (randn(c, 4), randn(c, 5));
        let given = [
            randn(c, 6),
            randn(c, 7).iter().map(|v| v * v + 0.1).collect(),
        ];
        for constant in [false, true] {
            let [mean, variance] = match constant {
                true => given.clone(),
                false => statistics(&x, c),
            };
            let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + 1e-5).sqrt()).collect();
            let of = Channels {
                mean: &mean,
                inverse: &inverse,
                gamma: &gamma,
                beta: &beta,
            };
            let mut y = vec![f32::NAN; x.len()];
            forward(&x, of, Some(&residual), true, &mut y);
            let wide = [&x, &gamma, &beta, &residual].map(|v| widen(v));
            let kept = [widen(&mean), widen(&variance)];
            let kept = constant.then_some([&kept[0][..], &kept[1][..]]);
            let value = |x: &[f64], gamma: &[f64], beta: &[f64], residual: &[f64]| {
                reference(x, c, kept, [gamma, beta], residual)
            };
            let [x64, g64, b64, r64] = &wide;
            compare(&y, &value(x64, g64, b64, r64), 1e-6, "values");
            let loss =
                |y: Vec<f64>| -> f64 { y.iter().zip(&up).map(|(y, &u)| y * f64::from(u)).sum() };
            let sums = parameter_gradients(&x, of, Some(&y), &up);
            let mut dx = vec![f32::NAN; x.len()];
            let own = (!constant).then_some(&sums);
            input_gradient(&x, of, Some(&y), &up, own, &mut dx);
            let mut dr = vec![f32::NAN; x.len()];
            cut_gradient(&y, &up, &mut dr);
            // Central differences are exact to 1e-9 here; the rest is f32.
            let want = numeric_gradient(x64, |x| loss(value(x, g64, b64, r64)));
            compare(&dx, &want, 1e-5, "dx");
            let want = numeric_gradient(g64, |g| loss(value(x64, g, b64, r64)));
            compare(&sums[1], &want, 1e-5, "dγ");
            let want = numeric_gradient(b64, |b| loss(value(x64, g64, b, r64)));
            compare(&sums[0], &want, 1e-5, "dβ");
            let want = numeric_gradient(r64, |r| loss(value(x64, g64, b64, r)));
            compare(&dr, &want, 1e-5, "residual");
        }
    }
}
