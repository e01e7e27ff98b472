//! GELU in its erf form (Hendrycks and Gimpel, 2016, arXiv 1606.08415):
//! gelu(x) = x·Φ(x) = x/2·(1 + erf(x/√2)), with dgelu/dx = Φ(x) + x·φ(x).

use rayon::prelude::*;

use crate::isa::{Isa, dispatch};
use crate::lanes::{Lanes, vectorise};
use crate::math::{ERF_ONE, ERF_P, ERF_Q, erf, exp};

/// Elements that one task works on: large enough to hide the cost of a task,
/// small enough to stay in the second-level cache.
const GRAIN: usize = 16 * 1024;

const FRAC_1_SQRT_TAU: f32 = 0.398_942_3;

/// out = gelu(x), element by element. Within 1e-6·(1 + |x|) of the exact value.
///
/// # Panics
/// When the slices differ in length.
pub fn forward(x: &[f32], out: &mut [f32]) {
    forward_with(Isa::best(), x, out);
}

/// [`forward`] with a given instruction set.
pub fn forward_with(isa: Isa, x: &[f32], out: &mut [f32]) {
    assert_eq!(
        x.len(),
        out.len(),
        "gelu: input and output differ in length"
    );
    x.par_chunks(GRAIN)
        .zip(out.par_chunks_mut(GRAIN))
        .for_each(|(x, out)| vectorise!(isa, apply(x: &[f32], out: &mut [f32])));
}

/// dx = grad · (Φ(x) + x·φ(x)), element by element.
///
/// # Panics
/// When the slices differ in length.
pub fn backward(x: &[f32], grad: &[f32], dx: &mut [f32]) {
    backward_with(Isa::best(), x, grad, dx);
}

/// [`backward`] with a given instruction set.
pub fn backward_with(isa: Isa, x: &[f32], grad: &[f32], dx: &mut [f32]) {
    assert_eq!(
        x.len(),
        dx.len(),
        "gelu: input and gradient differ in length"
    );
    assert_eq!(grad.len(), dx.len(), "gelu: gradients differ in length");
    x.par_chunks(GRAIN)
        .zip(grad.par_chunks(GRAIN))
        .zip(dx.par_chunks_mut(GRAIN))
        .for_each(|((x, grad), dx)| {
            dispatch!(isa, backward_chunk(x: &[f32], grad: &[f32], dx: &mut [f32]));
        });
}

/// grad = grad · (Φ(x) + x·φ(x)), element by element.
///
/// # Panics
/// When the slices differ in length.
pub fn backward_in_place(x: &[f32], grad: &mut [f32]) {
    assert_eq!(
        x.len(),
        grad.len(),
        "gelu: input and gradient differ in length"
    );
    let isa = Isa::best();
    x.par_chunks(GRAIN)
        .zip(grad.par_chunks_mut(GRAIN))
        .for_each(|(x, grad)| dispatch!(isa, backward_chunk_in_place(x: &[f32], grad: &mut [f32])));
}

#[inline(always)]
fn apply<L: Lanes>(simd: L, x: &[f32], out: &mut [f32]) {
    let (whole, rest) = x.as_chunks::<16>();
    let (outs, last) = out.as_chunks_mut::<16>();
    for (x, out) in whole.iter().zip(outs) {
        simd.store(gelu(simd, simd.load(x)), out);
    }
    last.copy_from_slice(rest);
    in_place(simd, last);
}

/// x = gelu(x), element by element.
#[inline(always)]
pub(crate) fn in_place<L: Lanes>(simd: L, x: &mut [f32]) {
    let (whole, rest) = x.as_chunks_mut::<16>();
    for x in whole {
        simd.store(gelu(simd, simd.load(x)), x);
    }
    if !rest.is_empty() {
        let mut last = [0.0; 16];
        last[..rest.len()].copy_from_slice(rest);
        simd.store(gelu(simd, simd.load(&last)), &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// gelu(x) of sixteen numbers: [`erf`], with a reciprocal in place of its
/// division.
#[inline(always)]
pub(crate) fn gelu<L: Lanes>(simd: L, x: L::F) -> L::F {
    let (one, limit) = (simd.splat(1.0), simd.splat(ERF_ONE));
    let (minus_one, minus_limit) = (simd.splat(-1.0), simd.splat(-ERF_ONE));
    let t = simd.mul(x, simd.splat(std::f32::consts::FRAC_1_SQRT_2));
    // Without the clamp a large x would give ∞/∞.
    let z = simd.max(minus_limit, simd.min(limit, t));
    let square = simd.mul(z, z);
    let (mut p, mut q) = (simd.splat(ERF_P[5]), simd.splat(ERF_Q[5]));
    let mut i = 5;
    while i > 0 {
        i -= 1;
        p = simd.mul_add(p, square, simd.splat(ERF_P[i]));
        q = simd.mul_add(q, square, simd.splat(ERF_Q[i]));
    }
    let y = simd.mul(simd.mul(z, p), simd.reciprocal(q));
    let y = simd.max(minus_one, simd.min(one, y));
    // Exactly ±1 in the tails: 1 + erf is multiplied by x, however large.
    let y = simd.if_below(limit, t, one, y);
    let y = simd.if_below(t, minus_limit, minus_one, y);
    let half = simd.mul(x, simd.splat(0.5));
    simd.mul_add(half, y, half)
}

#[inline(always)]
fn backward_chunk<const FMA: bool>(x: &[f32], grad: &[f32], dx: &mut [f32]) {
    for ((dx, &x), &grad) in dx.iter_mut().zip(x).zip(grad) {
        *dx = grad * slope::<FMA>(x);
    }
}

#[inline(always)]
fn backward_chunk_in_place<const FMA: bool>(x: &[f32], grad: &mut [f32]) {
    for (grad, &x) in grad.iter_mut().zip(x) {
        *grad *= slope::<FMA>(x);
    }
}

/// Φ(x) + x·φ(x).
#[inline(always)]
fn slope<const FMA: bool>(x: f32) -> f32 {
    let cdf = 0.5 * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2));
    let pdf = FRAC_1_SQRT_TAU * exp::<FMA>(-0.5 * x * x);
    cdf + x * pdf
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, randn};

    /// Φ(x) by Simpson's rule over the density, and φ(x): no erf involved.
    fn cdf_pdf(x: f64) -> (f64, f64) {
        let density = |t: f64| (-0.5 * t * t).exp() / std::f64::consts::TAU.sqrt();
        let n = 400;
        let h = x / f64::from(n);
        let sum: f64 = (0..n)
            .map(|i| {
                let a = h * f64::from(i);
                (density(a) + 4.0 * density(a + h / 2.0) + density(a + h)) * h / 6.0
            })
            .sum();
        (0.5 + sum, density(x))
    }

    #[test]
    fn both_directions_equal_the_integral_of_the_density() {
        for n in [0, 1, 31, 33, 4099] {
            let x: Vec<f32> = randn(n, 1).iter().map(|v| v * 2.5).collect();
            let grad = randn(n, 2);
            let exact: Vec<(f64, f64)> = x.iter().map(|&x| cdf_pdf(x.into())).collect();
            let y: Vec<f64> = x
                .iter()
                .zip(&exact)
                .map(|(&x, e)| f64::from(x) * e.0)
                .collect();
            let dx: Vec<f64> = x
                .iter()
                .zip(&exact)
                .zip(&grad)
                .map(|((&x, e), &g)| f64::from(g) * (e.0 + f64::from(x) * e.1))
                .collect();
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; n];
                forward_with(isa, &x, &mut out);
                compare(&out, &y, 5e-7, isa.name());
                backward_with(isa, &x, &grad, &mut out);
                compare(&out, &dx, 5e-7, isa.name());
            }
            let mut in_place = grad.clone();
            backward_in_place(&x, &mut in_place);
            compare(&in_place, &dx, 5e-7, "in place");
        }
    }

    #[test]
    fn special_values() {
        let x = [f32::INFINITY, -1e30, -0.0, 1e30, f32::NAN];
        for isa in Isa::available() {
            let mut y = [0.0; 5];
            forward_with(isa, &x, &mut y);
            assert_eq!(y[..4], [f32::INFINITY, 0.0, 0.0, 1e30], "{}", isa.name());
            assert!(y[4].is_nan());
        }
    }
}
