//! Small things about the rows of a matrix: residual sums and column sums.

use rayon::prelude::*;

use crate::isa::{Isa, dispatch};
use crate::matrix::{size, within};

/// Rows that one task works on. Fixed, because column sums are added task by
/// task and must not depend on the number of threads.
const ROWS: usize = 64;

/// branch = x + scale·branch, where `scales` holds one number for each run of
/// equally many rows, or nothing for 1.
///
/// # Panics
/// When the lengths disagree.
pub fn add_residual(x: &[f32], scales: Option<&[f32]>, branch: &mut [f32]) {
    assert_eq!(x.len(), branch.len(), "add_residual: lengths");
    let one = [1.0];
    let scales = scales.unwrap_or(&one);
    if x.is_empty() {
        return;
    }
    let run = whole(x.len(), scales.len());
    for ((x, branch), &scale) in x.chunks(run).zip(branch.chunks_mut(run)).zip(scales) {
        let isa = Isa::best();
        x.par_chunks(GRAIN)
            .zip(branch.par_chunks_mut(GRAIN))
            .for_each(|(x, y)| dispatch!(isa, add(x: &[f32], scale: f32, y: &mut [f32])));
    }
}

/// x = max(x, 0), element by element; NaN stays.
pub fn positive(x: &mut [f32]) {
    let isa = Isa::best();
    x.par_chunks_mut(GRAIN)
        .for_each(|x| dispatch!(isa, cut(x: &mut [f32])));
}

/// The gradient of [`positive`] where it gave `out`: of nothing where that is 0, as
/// PyTorch's.
///
/// # Panics
/// When the lengths disagree.
pub fn positive_gradient(out: &[f32], grad: &[f32]) -> Vec<f32> {
    assert_eq!(out.len(), grad.len(), "positive_gradient: lengths");
    let mut dx = vec![0.0; grad.len()];
    let isa = Isa::best();
    let parts = out.par_chunks(GRAIN).zip(grad.par_chunks(GRAIN));
    parts
        .zip(dx.par_chunks_mut(GRAIN))
        .for_each(|((out, grad), dx)| {
            dispatch!(isa, choose(out: &[f32], grad: &[f32], dx: &mut [f32]));
        });
    dx
}

#[inline(always)]
fn cut<const FMA: bool>(x: &mut [f32]) {
    for x in x {
        *x = if *x < 0.0 { 0.0 } else { *x };
    }
}

#[inline(always)]
fn choose<const FMA: bool>(out: &[f32], grad: &[f32], dx: &mut [f32]) {
    for ((out, grad), dx) in out.iter().zip(grad).zip(dx) {
        *dx = if *out == 0.0 { 0.0 } else { *grad };
    }
}

/// Elements that one task works on.
const GRAIN: usize = 16 * 1024;

fn whole(len: usize, runs: usize) -> usize {
    assert!(
        runs > 0 && len.is_multiple_of(runs),
        "rows: {len} elements are not {runs} equal runs"
    );
    len / runs
}

#[inline(always)]
fn add<const FMA: bool>(x: &[f32], scale: f32, y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = crate::math::mul_add::<FMA>(scale, *y, *x);
    }
}

/// x · scale, one scale for each run of equally many rows.
///
/// # Panics
/// When the lengths disagree.
pub fn scaled(x: &[f32], scales: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    if !x.is_empty() {
        let run = whole(x.len(), scales.len());
        for ((x, out), &scale) in x.chunks(run).zip(out.chunks_mut(run)).zip(scales) {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = scale * x);
        }
    }
    out
}

/// out (D) = the sums of the columns `from..from + D` of x (rows, `stride`).
///
/// # Panics
/// When x holds no whole rows or they are too short.
pub fn column_sums(x: &[f32], stride: usize, from: usize, out: &mut [f32]) {
    let d = out.len();
    assert!(
        stride > 0 && x.len().is_multiple_of(stride) && within(from, d, stride),
        "column_sums: no rows of {stride}"
    );
    let isa = Isa::best();
    let partial: Vec<Vec<f32>> = x
        .par_chunks(size([ROWS, stride]))
        .map(|x| {
            let mut sums = vec![0.0; d];
            let out = &mut sums[..];
            dispatch!(isa, add_rows(x: &[f32], stride: usize, from: usize, out: &mut [f32]));
            sums
        })
        .collect();
    // In f64, so that the sum over thousands of rows adds no error of its own.
    let mut total = vec![0.0f64; d];
    for sums in &partial {
        for (total, &s) in total.iter_mut().zip(sums) {
            *total += f64::from(s);
        }
    }
    for (out, total) in out.iter_mut().zip(total) {
        *out = total as f32;
    }
}

#[inline(always)]
fn add_rows<const FMA: bool>(x: &[f32], stride: usize, from: usize, out: &mut [f32]) {
    for row in x.chunks_exact(stride) {
        for (out, x) in out.iter_mut().zip(&row[from..]) {
            *out += x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, randn};

    #[test]
    fn column_sums_equal_sums_in_f64() {
        for (rows, stride, from, d) in [(1, 1, 0, 1), (63, 5, 2, 3), (300, 40, 7, 33)] {
            let x = randn(rows * stride, 1);
            let mut out = vec![f32::NAN; d];
            column_sums(&x, stride, from, &mut out);
            let want: Vec<f64> = (0..d)
                .map(|i| (0..rows).map(|r| f64::from(x[r * stride + from + i])).sum())
                .collect();
            compare(&out, &want, 1e-6, "column sums");
        }
    }

    #[test]
    fn what_is_not_positive_becomes_0_and_has_no_gradient() {
        let mut x = [-1.0, 0.0, 2.0, f32::NAN];
        positive(&mut x);
        assert_eq!(x[..3], [0.0, 0.0, 2.0]);
        assert!(x[3].is_nan());
        assert_eq!(positive_gradient(&x, &[5.0; 4]), [0.0, 0.0, 5.0, 5.0]);
    }

    #[test]
    fn residuals_take_their_samples_scale() {
        let mut branch = vec![2.0; 6];
        add_residual(&[1.0; 6], Some(&[0.0, 0.5, 3.0]), &mut branch);
        assert_eq!(branch, [1.0, 1.0, 2.0, 2.0, 7.0, 7.0]);
        add_residual(&[1.0; 6], None, &mut branch);
        assert_eq!(branch, [2.0, 2.0, 3.0, 3.0, 8.0, 8.0]);
        assert_eq!(scaled(&[1.0, 2.0], &[3.0, 4.0]), [3.0, 8.0]);
    }
}
