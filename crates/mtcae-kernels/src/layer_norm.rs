//! LayerNorm over the last dimension (Ba, Kiros and Hinton, 2016, arXiv
//! 1607.06450): y = (x − μ)/√(σ² + ε)·γ + β, with μ and the biased variance σ²
//! of each row. The statistics take two passes, as PyTorch's do: `E[x²] − μ²` loses
//! half the digits when |μ| is much larger than σ.

use rayon::prelude::*;

use crate::fetch::fetch;
use crate::format::OperandMut;
use crate::isa::Isa;
use crate::lanes::{Lanes, vectorise};
use crate::math::sum;
use crate::matrix::extent;

/// Rows that one task works on. Fixed, because the parameters' gradient is
/// summed task by task and must not depend on the number of threads.
const ROWS: usize = 32;

/// out = LayerNorm(x) for x and out of shape (rows, D), γ and β of shape (D).
///
/// # Panics
/// When the lengths disagree or D is 0.
pub fn forward(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) {
    forward_with(Isa::best(), x, gamma, beta, eps, out);
}

/// [`forward`] with a given instruction set.
pub fn forward_with(isa: Isa, x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) {
    let d = gamma.len();
    check(x, d);
    assert_eq!(beta.len(), d, "layer_norm: gamma and beta differ in length");
    assert_eq!(
        x.len(),
        out.len(),
        "layer_norm: input and output differ in length"
    );
    x.par_chunks(ROWS * d)
        .zip(out.par_chunks_mut(ROWS * d))
        .for_each(|(x, out)| {
            vectorise!(isa, forward_rows(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]));
        });
}

/// LayerNorm of x (rows, D) as the left operand of a product, in one pass. Rows
/// of x begin `stride` elements apart.
///
/// # Panics
/// When x is too short, or γ, β and the operand's rows differ in length.
pub fn forward_into(
    x: &[f32],
    stride: usize,
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    mut out: OperandMut<'_>,
) {
    let d = gamma.len();
    check(&[], d);
    assert!(
        beta.len() == d && out.cols == d && stride >= d,
        "layer_norm: gamma, beta and the operand differ in length"
    );
    assert!(
        x.len() >= extent(out.rows, d, stride),
        "layer_norm: {} rows of {d}, {stride} apart, do not fit {} elements",
        out.rows,
        x.len()
    );
    let isa = out.format.isa();
    out.fill_rows(|r, out| {
        let row = &x[r * stride..r * stride + d];
        // The last row's stride may lead beyond all memory.
        let rest = x.get(r * stride..).and_then(|x| x.get(stride..));
        fetch(rest.and_then(|x| x.get(..d)).unwrap_or_default());
        vectorise!(isa, forward_rows(row: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]));
    });
}

/// The gradients of LayerNorm: dx (rows, D), and dγ and dβ (D) summed over rows.
///
/// With x̂ = (x − μ)·r, r = 1/√(σ² + ε) and a = grad·γ:
/// dx = r·(a − mean(a) − x̂·mean(a·x̂)), dγ = Σ grad·x̂, dβ = Σ grad.
///
/// # Panics
/// When the lengths disagree or D is 0.
pub fn backward(
    x: &[f32],
    gamma: &[f32],
    grad: &[f32],
    eps: f32,
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    backward_with(Isa::best(), x, gamma, grad, eps, dx, dgamma, dbeta);
}

/// [`backward`] with a given instruction set.
#[expect(clippy::too_many_arguments)]
pub fn backward_with(
    isa: Isa,
    x: &[f32],
    gamma: &[f32],
    grad: &[f32],
    eps: f32,
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let d = gamma.len();
    check(x, d);
    assert_eq!(
        x.len(),
        grad.len(),
        "layer_norm: input and gradient differ in length"
    );
    assert_eq!(x.len(), dx.len(), "layer_norm: gradients differ in length");
    assert!(
        dgamma.len() == d && dbeta.len() == d,
        "layer_norm: parameter gradients must have length {d}"
    );
    let partial: Vec<Vec<f32>> = x
        .par_chunks(ROWS * d)
        .zip(grad.par_chunks(ROWS * d))
        .zip(dx.par_chunks_mut(ROWS * d))
        .map(|((x, grad), dx)| {
            let mut sums = vec![0.0; 2 * d];
            let out = &mut sums[..];
            vectorise!(isa, backward_rows(x: &[f32], gamma: &[f32], grad: &[f32], eps: f32, dx: &mut [f32], out: &mut [f32]));
            sums
        })
        .collect();
    // Thousands of rows add up here: in f64, so that the sum adds no error of its own.
    let mut total = vec![0.0f64; 2 * d];
    for sums in &partial {
        for (total, &s) in total.iter_mut().zip(sums) {
            *total += f64::from(s);
        }
    }
    for (i, (dgamma, dbeta)) in dgamma.iter_mut().zip(dbeta).enumerate() {
        *dgamma = total[i] as f32;
        *dbeta = total[d + i] as f32;
    }
}

fn check(x: &[f32], d: usize) {
    assert!(d > 0, "layer_norm: the last dimension is empty");
    assert_eq!(
        x.len() % d,
        0,
        "layer_norm: {} elements are not whole rows of {d}",
        x.len()
    );
}

#[inline(always)]
fn forward_rows<L: Lanes>(
    simd: L,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let d = gamma.len();
    let (gammas, gamma_tail) = gamma.as_chunks::<16>();
    let (betas, beta_tail) = beta.as_chunks::<16>();
    let mut later = x.chunks_exact(d).skip(1);
    for (row, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
        // Its statistics hold back the row: the next one is to be there by then.
        fetch(later.next().unwrap_or_default());
        let mean = moment::<L, false>(simd, row, 0.0) / d as f32;
        let variance = moment::<L, true>(simd, row, mean) / d as f32;
        let r = 1.0 / (variance + eps).sqrt();
        let (rows, tail) = row.as_chunks::<16>();
        let (outs, out_tail) = out.as_chunks_mut::<16>();
        let (minus, scale) = (simd.splat(-mean), simd.splat(r));
        for (((x, out), gamma), beta) in rows.iter().zip(outs).zip(gammas).zip(betas) {
            let normed = simd.mul(simd.add(simd.load(x), minus), scale);
            let y = simd.mul_add(normed, simd.load(gamma), simd.load(beta));
            simd.store(y, out);
        }
        for (((x, out), gamma), beta) in tail.iter().zip(out_tail).zip(gamma_tail).zip(beta_tail) {
            *out = (x - mean) * r * gamma + beta;
        }
    }
}

/// Σ (x − shift), or with `SQUARES` Σ (x − shift)², of a row, in four sums of
/// sixteen lanes.
#[inline(always)]
fn moment<L: Lanes, const SQUARES: bool>(simd: L, row: &[f32], shift: f32) -> f32 {
    let minus = simd.splat(-shift);
    let mut sums = [simd.splat(0.0); 4];
    let (rows, tail) = row.as_chunks::<16>();
    let (fours, rest) = rows.as_chunks::<4>();
    for four in fours {
        for (x, sum) in four.iter().zip(&mut sums) {
            *sum = add::<L, SQUARES>(simd, *sum, x, minus);
        }
    }
    for (x, sum) in rest.iter().zip(&mut sums) {
        *sum = add::<L, SQUARES>(simd, *sum, x, minus);
    }
    let [a, b, c, d] = sums;
    let mut lanes = [0.0; 16];
    simd.store(simd.add(simd.add(a, b), simd.add(c, d)), &mut lanes);
    for (lane, x) in lanes.iter_mut().zip(tail) {
        let x = x - shift;
        *lane += if SQUARES { x * x } else { x };
    }
    sum(16, |i| lanes[i])
}

#[inline(always)]
fn add<L: Lanes, const SQUARES: bool>(simd: L, sum: L::F, x: &[f32; 16], minus: L::F) -> L::F {
    let x = simd.add(simd.load(x), minus);
    match SQUARES {
        true => simd.mul_add(x, x, sum),
        false => simd.add(x, sum),
    }
}

#[inline(always)]
fn backward_rows<L: Lanes>(
    simd: L,
    x: &[f32],
    gamma: &[f32],
    grad: &[f32],
    eps: f32,
    dx: &mut [f32],
    sums: &mut [f32],
) {
    let d = gamma.len();
    let (dgamma, dbeta) = sums.split_at_mut(d);
    let (gammas, gamma_tail) = gamma.as_chunks::<16>();
    let rows = x.chunks_exact(d).zip(grad.chunks_exact(d));
    let mut later = rows.clone().skip(1);
    for ((row, grad), dx) in rows.zip(dx.chunks_exact_mut(d)) {
        if let Some((row, grad)) = later.next() {
            fetch(row);
            fetch(grad);
        }
        let mean = moment::<L, false>(simd, row, 0.0) / d as f32;
        let variance = moment::<L, true>(simd, row, mean) / d as f32;
        let r = 1.0 / (variance + eps).sqrt();
        let (minus, scale) = (simd.splat(-mean), simd.splat(r));
        let (xs, x_tail) = row.as_chunks::<16>();
        let (grads, grad_tail) = grad.as_chunks::<16>();
        let (mut a, mut ax) = (simd.splat(0.0), simd.splat(0.0));
        for ((x, grad), gamma) in xs.iter().zip(grads).zip(gammas) {
            let normed = simd.mul(simd.add(simd.load(x), minus), scale);
            let scaled = simd.mul(simd.load(grad), simd.load(gamma));
            a = simd.add(a, scaled);
            ax = simd.mul_add(scaled, normed, ax);
        }
        let (mut lanes_a, mut lanes_ax) = ([0.0; 16], [0.0; 16]);
        simd.store(a, &mut lanes_a);
        simd.store(ax, &mut lanes_ax);
        for (i, ((x, grad), gamma)) in x_tail.iter().zip(grad_tail).zip(gamma_tail).enumerate() {
            lanes_a[i] += grad * gamma;
            lanes_ax[i] += grad * gamma * ((x - mean) * r);
        }
        let mean_a = sum(16, |i| lanes_a[i]) / d as f32;
        let mean_ax = sum(16, |i| lanes_ax[i]) / d as f32;

        // dx = r·(grad·γ) − r·mean(a) − x̂·(r·mean(a·x̂))
        let (minus_a, minus_ax) = (simd.splat(-mean_a * r), simd.splat(-mean_ax * r));
        let (dxs, dx_tail) = dx.as_chunks_mut::<16>();
        let (dgammas, dgamma_tail) = dgamma.as_chunks_mut::<16>();
        let (dbetas, dbeta_tail) = dbeta.as_chunks_mut::<16>();
        let inputs = xs.iter().zip(grads).zip(gammas);
        let outputs = dxs.iter_mut().zip(dgammas).zip(dbetas);
        for (((x, grad), gamma), ((dx, dgamma), dbeta)) in inputs.zip(outputs) {
            let normed = simd.mul(simd.add(simd.load(x), minus), scale);
            let grad = simd.load(grad);
            let scaled = simd.mul(simd.mul(grad, simd.load(gamma)), scale);
            let y = simd.add(simd.mul_add(normed, minus_ax, scaled), minus_a);
            simd.store(y, dx);
            simd.store(simd.mul_add(grad, normed, simd.load(dgamma)), dgamma);
            simd.store(simd.add(grad, simd.load(dbeta)), dbeta);
        }
        let inputs = x_tail.iter().zip(grad_tail).zip(gamma_tail);
        let outputs = dx_tail.iter_mut().zip(dgamma_tail).zip(dbeta_tail);
        for (((x, grad), gamma), ((dx, dgamma), dbeta)) in inputs.zip(outputs) {
            let normed = (x - mean) * r;
            *dx = r * (grad * gamma - mean_a - normed * mean_ax);
            *dgamma += grad * normed;
            *dbeta += grad;
        }
    }
}

/// The readable twin in f64 that defines the kernel.
pub mod reference {
    /// LayerNorm of (rows, D), as [`super::forward`].
    pub fn forward(x: &[f64], gamma: &[f64], beta: &[f64], eps: f64) -> Vec<f64> {
        let d = gamma.len();
        x.chunks_exact(d)
            .flat_map(|row| {
                let mean = row.iter().sum::<f64>() / d as f64;
                let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64;
                (0..d).map(move |i| (row[i] - mean) / (variance + eps).sqrt() * gamma[i] + beta[i])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, numeric_gradient, randn, widen};

    const EPS: f32 = 1e-6;

    /// Both directions at odd sizes, with a mean a hundred times the deviation
    /// (where one-pass statistics would fail); f32 rounds x itself at 6e-6 of σ.
    #[test]
    fn both_directions_equal_the_reference() {
        for (rows, d) in [(1, 1), (3, 5), (33, 31), (70, 97), (2, 1024)] {
            let x: Vec<f32> = randn(rows * d, 3).iter().map(|v| v + 4.0).collect();
            let gamma: Vec<f32> = randn(d, 4).iter().map(|v| 1.0 + 0.3 * v).collect();
            let beta = randn(d, 5);
            let grad = randn(rows * d, 6);
            let (x64, g64, b64, u64) = (widen(&x), widen(&gamma), widen(&beta), widen(&grad));
            let want = reference::forward(&x64, &g64, &b64, EPS.into());
            let loss = |x: &[f64], g: &[f64], b: &[f64]| -> f64 {
                let y = reference::forward(x, g, b, EPS.into());
                y.iter().zip(&u64).map(|(y, u)| y * u).sum()
            };
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; rows * d];
                forward_with(isa, &x, &gamma, &beta, EPS, &mut out);
                compare(&out, &want, 5e-6, isa.name());
                let (mut dgamma, mut dbeta) = (vec![f32::NAN; d], vec![f32::NAN; d]);
                backward_with(
                    isa,
                    &x,
                    &gamma,
                    &grad,
                    EPS,
                    &mut out,
                    &mut dgamma,
                    &mut dbeta,
                );
                if rows * d > 400 || d == 1 {
                    continue; // the numeric gradient costs a forward an element
                }
                compare(
                    &out,
                    &numeric_gradient(&x64, |x| loss(x, &g64, &b64)),
                    2e-5,
                    isa.name(),
                );
                compare(
                    &dgamma,
                    &numeric_gradient(&g64, |g| loss(&x64, g, &b64)),
                    2e-5,
                    isa.name(),
                );
                compare(
                    &dbeta,
                    &numeric_gradient(&b64, |b| loss(&x64, &g64, b)),
                    2e-5,
                    isa.name(),
                );
            }
        }
    }

    #[test]
    fn two_pass_statistics_survive_a_large_mean() {
        let x: Vec<f32> = (0..64).map(|i| 8192.0 + (i % 2) as f32).collect();
        let mut out = vec![0.0; 64];
        forward(&x, &[1.0; 64], &[0.0; 64], EPS, &mut out);
        compare(
            &out,
            &(0..64)
                .map(|i| f64::from(i % 2) * 2.0 - 1.0)
                .collect::<Vec<_>>(),
            1e-5,
            "mean 8192",
        );
    }

    #[test]
    fn a_constant_row_gives_beta() {
        let mut out = [9.0; 3];
        forward(&[5.0; 3], &[2.0; 3], &[0.5, 0.0, -0.5], EPS, &mut out);
        assert_eq!(out, [0.5, 0.0, -0.5]);
    }
}
