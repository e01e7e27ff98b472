//! Micro-kernels on multiply-adds: a tile's sums stay in registers while the terms of
//! the inner dimension pass by.
//!
//! A step of a left panel is `ROWS` rows of `TERMS` numbers, a step of a right panel
//! `TERMS` rows of `COLS`; as `TERMS` is `COLS`, rows of a result are both as they are.

use std::ops::Range;

use super::{Left, MicroKernel};
use crate::lanes::{Lanes, Work};
use crate::matrix::MatRef;

/// `R` rows by `V` vectors of sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct Fma<L, const R: usize, const V: usize> {
    pub(crate) simd: L,
}

/// For 32 registers of sixteen lanes.
pub(crate) type Wide<L> = Fma<L, 14, 2>;
/// For sixteen registers of eight lanes.
pub(crate) type Narrow<L> = Fma<L, 6, 1>;
/// For few or narrow registers.
pub(crate) type Small<L> = Fma<L, { if cfg!(target_arch = "aarch64") { 6 } else { 2 } }, 1>;

const fn common_multiple(a: usize, b: usize) -> usize {
    let mut n = a;
    while !n.is_multiple_of(b) {
        n += a;
    }
    n
}

impl<L: Lanes, const R: usize, const V: usize> MicroKernel for Fma<L, R, V> {
    type Simd = L;

    const ROWS: usize = R;
    const COLS: usize = 16 * V;
    const TERMS: usize = 16 * V;
    const LEFT: usize = R * 16 * V;
    const RIGHT: usize = 256 * V * V;
    const PLAIN: bool = true;
    const PANELS: usize = 192 / R;
    const RUN: usize = 1024;
    const FETCH: bool = true;
    const BLOCK: usize = 128 * 1024;
    /// Whole panels and steps whose logits stay in a first-level cache of 32 KB.
    const KEYS: usize = {
        let unit = common_multiple(R, 16 * V);
        let most = 6 * 1024 / (16 * V);
        if most > unit {
            most / unit * unit
        } else {
            unit
        }
    };

    #[inline(always)]
    fn simd(self) -> L {
        self.simd
    }

    #[inline(always)]
    fn pack_row(self, terms: &[f32], row: usize, panel: &mut [f32]) {
        let steps = panel.chunks_exact_mut(Self::LEFT);
        for (terms, step) in terms.chunks(Self::TERMS).zip(steps) {
            self.simd
                .copy(terms, &mut step[row * Self::TERMS..][..terms.len()]);
        }
    }

    #[inline(always)]
    fn pack_rows(self, rows: MatRef<'_>, panel: &mut [f32]) {
        if rows.col_stride == 1 {
            for r in 0..rows.rows {
                let terms = &rows.data[r * rows.row_stride..][..rows.cols];
                self.pack_row(terms, r, panel);
            }
        } else {
            let terms = rows.t();
            for (step, out) in panel.chunks_exact_mut(Self::LEFT).enumerate() {
                let first = step * Self::TERMS;
                for t in (first..rows.cols.min(first + Self::TERMS)).step_by(8) {
                    for r in (0..rows.rows).step_by(8) {
                        let mut turned = square::<8>(terms, t, r);
                        self.simd.transpose_eight(&mut turned);
                        for (i, row) in turned.iter().enumerate().take(rows.rows - r) {
                            let at = (r + i) * Self::TERMS + t - first;
                            out[at..at + 8].copy_from_slice(row);
                        }
                    }
                }
            }
        }
        for step in panel.chunks_exact_mut(Self::LEFT) {
            step[rows.rows * Self::TERMS..].fill(0.0);
        }
    }

    #[inline(always)]
    fn pack_columns(self, columns: MatRef<'_>, panel: &mut [f32]) {
        let (depth, count) = (columns.cols, columns.rows);
        if columns.col_stride == 1 {
            transpose(self.simd, columns, Self::COLS, panel);
            return;
        }
        let terms = panel.chunks_exact_mut(Self::COLS).take(depth);
        for (k, out) in terms.enumerate() {
            let (out, rest) = out.split_at_mut(count);
            self.simd
                .copy(&columns.data[k * columns.col_stride..][..count], out);
            rest.fill(0.0);
        }
    }

    #[inline(always)]
    fn put(self, terms: &[f32], row: usize, square: &mut [f32]) {
        self.simd
            .copy(terms, &mut square[row * Self::COLS..][..Self::COLS]);
    }

    #[inline(always)]
    fn put_weights(self, weights: &[f32], step: &mut [f32]) {
        step.copy_from_slice(weights);
    }

    #[inline(always)]
    fn multiply(
        self,
        left: Left<'_>,
        right: &[f32],
        terms: Range<usize>,
        fresh: bool,
        _: &[f32],
        sums: &mut [f32],
    ) {
        self.simd.outline(Strips::<R, V> {
            left,
            right,
            terms,
            fresh,
            sums,
        });
    }

    fn peak(self, loops: usize) -> f64 {
        let mut done = 0.0;
        let out = &mut done;
        self.simd.outline(Peak { loops, out });
        done
    }
}

/// [`MicroKernel::multiply`].
struct Strips<'a, const R: usize, const V: usize> {
    left: Left<'a>,
    right: &'a [f32],
    terms: Range<usize>,
    fresh: bool,
    sums: &'a mut [f32],
}

impl<L: Lanes, const R: usize, const V: usize> Work<L> for Strips<'_, R, V> {
    #[inline(always)]
    fn run(self, simd: L) {
        let Self { left, fresh, .. } = self;
        let width = 16 * V;
        let first = self.terms.start / width;
        let right = &self.right[first * width * width..];
        let terms = self.terms.len();
        let mut rows = left.rows;
        let sums = self.sums.chunks_exact_mut(R * width);
        for (i, sums) in sums.enumerate().take(left.rows.div_ceil(R)) {
            let data = &left.data[i * left.panel + first * left.step..];
            let (sums, _) = sums.as_chunks_mut::<16>();
            // Few rows of a last panel take less time.
            macro_rules! some {
                ($($n:literal)*) => {
                    match rows {
                        $(..=$n if $n < R => {
                            strip::<L, R, $n, V>(simd, data, left.step, right, terms, fresh, sums);
                        })*
                        _ => strip::<L, R, R, V>(simd, data, left.step, right, terms, fresh, sums),
                    }
                };
            }
            some!(2 4 6 8 10 12);
            rows -= rows.min(R);
        }
    }
}

/// The sums of `N` rows of a left panel of `R`.
#[inline(always)]
fn strip<L: Lanes, const R: usize, const N: usize, const V: usize>(
    simd: L,
    left: &[f32],
    step: usize,
    right: &[f32],
    terms: usize,
    fresh: bool,
    out: &mut [[f32; 16]],
) {
    let width = 16 * V;
    let out = &mut out[..R * V];
    let mut sums = [[simd.splat(0.0); V]; N];
    if !fresh {
        for r in 0..N {
            for v in 0..V {
                sums[r][v] = simd.load(&out[r * V + v]);
            }
        }
    }
    let (whole, rest) = (terms / width, terms % width);
    for s in 0..whole {
        let (a, _) = left[s * step..][..R * width].as_chunks::<16>();
        let (b, _) = right[s * width * width..][..width * width].as_chunks::<16>();
        add::<L, R, N, V>(simd, a, b, &mut sums);
    }
    if rest > 0 {
        let (a, _) = left[whole * step..][..R * width].as_chunks::<16>();
        let (b, _) = right[whole * width * width..][..rest * width].as_chunks::<16>();
        add::<L, R, N, V>(simd, a, b, &mut sums);
    }
    for r in 0..N {
        for v in 0..V {
            simd.store(sums[r][v], &mut out[r * V + v]);
        }
    }
}

/// Adds the products of a step's terms, as many as `b` has.
#[inline(always)]
fn add<L: Lanes, const R: usize, const N: usize, const V: usize>(
    simd: L,
    a: &[[f32; 16]],
    b: &[[f32; 16]],
    sums: &mut [[L::F; V]; N],
) {
    let a = &a[..R * V];
    // No closures here: they would not take on the instruction set.
    for (t, b) in b.chunks_exact(V).enumerate() {
        let mut columns = [simd.splat(0.0); V];
        for v in 0..V {
            columns[v] = simd.load(&b[v]);
        }
        for r in 0..N {
            let x = simd.splat(a[r * V + t / 16 % V][t % 16]);
            for v in 0..V {
                sums[r][v] = simd.mul_add(x, columns[v], sums[r][v]);
            }
        }
    }
}

/// Up to `N` rows from `row` on, of which up to `N` elements each from `col` on; what
/// lies beyond them is of no use.
#[inline(always)]
fn square<const N: usize>(m: MatRef<'_>, row: usize, col: usize) -> [[f32; N]; N] {
    let first = row * m.row_stride + col;
    let mut out = [[0.0; N]; N];
    if row + N <= m.rows
        && let Some(data) = m.data.get(first..first + (N - 1) * m.row_stride + N)
    {
        for (i, out) in out.iter_mut().enumerate() {
            if let Some(some) = data[i * m.row_stride..].first_chunk() {
                *out = *some;
            }
        }
    } else {
        rest(m, row, col, &mut out);
    }
    out
}

/// [`square`] at the end of a matrix.
#[cold]
#[inline(never)]
fn rest<const N: usize>(m: MatRef<'_>, row: usize, col: usize, out: &mut [[f32; N]; N]) {
    for (i, out) in out.iter_mut().enumerate().take(m.rows - row) {
        let from = (row + i) * m.row_stride + col;
        let some = (m.cols - col).min(N);
        out[..some].copy_from_slice(&m.data[from..from + some]);
    }
}

/// Columns (at most `width`), each contiguous over k, → (k, width), the missing ones as
/// zeros.
#[inline(always)]
fn transpose<L: Lanes>(simd: L, columns: MatRef<'_>, width: usize, out: &mut [f32]) {
    let (count, depth) = (columns.rows, columns.cols);
    for first in (0..width).step_by(16) {
        for k in (0..depth).step_by(16) {
            let mut turned = [[0.0; 16]; 16];
            if first < count {
                turned = square(columns, first, k);
                simd.transpose(&mut turned);
            }
            for (t, terms) in turned.iter().enumerate().take(depth - k) {
                simd.copy(terms, &mut out[(k + t) * width + first..][..16]);
            }
        }
    }
}

/// [`MicroKernel::peak`].
struct Peak<'a> {
    loops: usize,
    out: &'a mut f64,
}

impl<L: Lanes> Work<L> for Peak<'_> {
    #[inline(always)]
    fn run(self, simd: L) {
        let sums = if const { L::ACCUMULATORS >= 24 } {
            chains::<L, 24>(simd, self.loops)
        } else if const { L::ACCUMULATORS >= 6 } {
            chains::<L, 6>(simd, self.loops)
        } else {
            chains::<L, 2>(simd, self.loops)
        };
        *self.out = (2 * 16 * sums * self.loops) as f64;
    }
}

/// `N` sums of sixteen lanes, each waiting for itself alone. Gives `N`.
#[inline(always)]
fn chains<L: Lanes, const N: usize>(simd: L, loops: usize) -> usize {
    let (a, b) = std::hint::black_box((0.999, 1e-3));
    let (a, b) = (simd.splat(a), simd.splat(b));
    let mut sums = [simd.splat(1.0); N];
    for _ in 0..loops {
        for sum in &mut sums {
            *sum = simd.mul_add(*sum, a, b);
        }
    }
    let mut kept = [0.0; 16];
    for sum in sums {
        simd.store(sum, &mut kept);
        std::hint::black_box(&kept);
    }
    N
}
