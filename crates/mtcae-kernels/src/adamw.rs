//! AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101) in place, and the two
//! reductions that training needs beside it.
//!
//! The update is that of PyTorch's `torch.optim.AdamW`, in its order:
//! θ ← θ·(1 − lr·λ); m ← m + (1 − β₁)(g − m); v ← β₂v + (1 − β₂)g²;
//! θ ← θ − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε).

use rayon::prelude::*;

use crate::isa::{Isa, dispatch};

/// Elements that one task works on.
const GRAIN: usize = 16 * 1024;

/// What the averages of the gradient need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// β₁: decay of the gradient's average.
    pub beta1: f32,
    /// β₂: decay of the average of its square.
    pub beta2: f32,
    /// 1 − β₁, rounded once from `f64` as PyTorch does.
    pub rest1: f32,
    /// 1 − β₂, likewise.
    pub rest2: f32,
    /// The gradient is multiplied by this first: clipping and averaging.
    pub scale: f32,
}

/// What the step itself needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// 1 − lr·λ.
    pub keep: f32,
    /// lr/(1 − β₁ᵗ).
    pub rate: f32,
    /// √(1 − β₂ᵗ).
    pub root: f32,
    /// ε.
    pub eps: f32,
}

/// Takes a gradient into the averages m and v.
///
/// # Panics
/// When the slices differ in length.
pub fn moments(by: &Moments, m: &mut [f32], v: &mut [f32], gradient: &[f32]) {
    moments_with(Isa::best(), by, m, v, gradient);
}

/// [`moments`] with a given instruction set.
pub fn moments_with(isa: Isa, by: &Moments, m: &mut [f32], v: &mut [f32], gradient: &[f32]) {
    assert_eq!(m.len(), gradient.len(), "adamw: m and gradient differ");
    assert_eq!(v.len(), gradient.len(), "adamw: v and gradient differ");
    m.par_chunks_mut(GRAIN)
        .zip(v.par_chunks_mut(GRAIN))
        .zip(gradient.par_chunks(GRAIN))
        .for_each(|((m, v), g)| {
            dispatch!(isa, moments_chunk(by: &Moments, m: &mut [f32], v: &mut [f32], g: &[f32]));
        });
}

/// Moves the parameter by what the averages say.
///
/// # Panics
/// When the slices differ in length.
pub fn step(by: &Step, parameter: &mut [f32], m: &[f32], v: &[f32]) {
    step_with(Isa::best(), by, parameter, m, v);
}

/// [`step`] with a given instruction set.
pub fn step_with(isa: Isa, by: &Step, parameter: &mut [f32], m: &[f32], v: &[f32]) {
    assert_eq!(m.len(), parameter.len(), "adamw: m and parameter differ");
    assert_eq!(v.len(), parameter.len(), "adamw: v and parameter differ");
    parameter
        .par_chunks_mut(GRAIN)
        .zip(m.par_chunks(GRAIN))
        .zip(v.par_chunks(GRAIN))
        .for_each(|((p, m), v)| {
            dispatch!(isa, step_chunk(by: &Step, p: &mut [f32], m: &[f32], v: &[f32]));
        });
}

/// a ← keep·a + add·x: a moving average where both add up to 1, a sum where both
/// are 1.
///
/// # Panics
/// When the slices differ in length.
pub fn blend(keep: f32, add: f32, a: &mut [f32], x: &[f32]) {
    assert_eq!(a.len(), x.len(), "blend: the slices differ in length");
    a.par_chunks_mut(GRAIN)
        .zip(x.par_chunks(GRAIN))
        .for_each(|(a, x)| {
            dispatch!(Isa::best(), blend_chunk(keep: f32, add: f32, a: &mut [f32], x: &[f32]));
        });
}

/// Σx² in `f64`, added up in the same order whatever the number of threads.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x
        .par_chunks(GRAIN)
        .map(|x| dispatch!(Isa::best(), squares_chunk(x: &[f32]) -> f64))
        .collect();
    parts.iter().sum()
}

#[inline(always)]
fn moments_chunk<const FMA: bool>(by: &Moments, m: &mut [f32], v: &mut [f32], gradient: &[f32]) {
    for ((m, v), &g) in m.iter_mut().zip(v).zip(gradient) {
        let g = g * by.scale;
        *m += by.rest1 * (g - *m);
        *v = by.beta2 * *v + by.rest2 * g * g;
    }
}

#[inline(always)]
fn step_chunk<const FMA: bool>(by: &Step, parameter: &mut [f32], m: &[f32], v: &[f32]) {
    for ((p, &m), &v) in parameter.iter_mut().zip(m).zip(v) {
        *p = *p * by.keep - by.rate * m / (v.sqrt() / by.root + by.eps);
    }
}

#[inline(always)]
fn blend_chunk<const FMA: bool>(keep: f32, add: f32, a: &mut [f32], x: &[f32]) {
    for (a, &x) in a.iter_mut().zip(x) {
        *a = keep * *a + add * x;
    }
}

#[inline(always)]
fn squares_chunk<const FMA: bool>(x: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0f64; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    sums.iter().sum::<f64>() + rest
}

/// The update in `f64`, one element at a time: (θ, m, v) after one step.
#[cfg(test)]
fn reference(by: &Moments, step: &Step, [p, m, v, g]: [f32; 4]) -> [f64; 3] {
    let g = f64::from(g) * f64::from(by.scale);
    let m = f64::from(m) + f64::from(by.rest1) * (g - f64::from(m));
    let v = f64::from(by.beta2) * f64::from(v) + f64::from(by.rest2) * g * g;
    let p = f64::from(p) * f64::from(step.keep)
        - f64::from(step.rate) * m / (v.sqrt() / f64::from(step.root) + f64::from(step.eps));
    [p, m, v]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, randn};

    #[test]
    fn one_step_equals_the_formula() {
        let by = Moments {
            beta1: 0.9,
            beta2: 0.999,
            rest1: 0.1,
            rest2: 0.001,
            scale: 0.5,
        };
        let step = Step {
            keep: 1.0 - 1e-6,
            rate: 1e-3,
            root: 0.04,
            eps: 1e-8,
        };
        for n in [0, 1, 17, GRAIN + 3] {
            let (p, m, g) = (randn(n, 1), randn(n, 2), randn(n, 3));
            let v: Vec<f32> = randn(n, 4).iter().map(|v| v * v).collect();
            let exact: Vec<[f64; 3]> = (0..n)
                .map(|i| reference(&by, &step, [p[i], m[i], v[i], g[i]]))
                .collect();
            let column = |k: usize| exact.iter().map(|e| e[k]).collect::<Vec<f64>>();
            for isa in Isa::available() {
                let (mut p, mut m, mut v) = (p.clone(), m.clone(), v.clone());
                moments_with(isa, &by, &mut m, &mut v, &g);
                step_with(isa, &step, &mut p, &m, &v);
                // A handful of roundings of 6e-8 each.
                compare(&p, &column(0), 5e-7, isa.name());
                compare(&m, &column(1), 5e-7, isa.name());
                compare(&v, &column(2), 5e-7, isa.name());
            }
        }
    }

    #[test]
    fn sums_do_not_depend_on_the_pool() {
        let x = randn(3 * GRAIN + 5, 7);
        let exact: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let wide = sum_of_squares(&x);
        assert!((wide - exact).abs() < 1e-9 * exact);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let narrow = pool.expect("a pool").install(|| sum_of_squares(&x));
        assert_eq!(wide.to_bits(), narrow.to_bits());
    }

    #[test]
    fn blending_averages_and_adds() {
        let (mut a, x) = (vec![1.0, 2.0], [3.0, 4.0]);
        blend(0.75, 0.25, &mut a, &x);
        assert_eq!(a, [1.5, 2.5]);
        blend(1.0, 1.0, &mut a, &x);
        assert_eq!(a, [4.5, 6.5]);
    }
}
