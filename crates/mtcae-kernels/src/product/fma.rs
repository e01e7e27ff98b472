//! Micro-kernels on multiply-adds: a tile's sums stay in registers while the
//! terms of the inner dimension pass by.

use super::{Kernel, Tile};
use crate::lanes::Lanes;
use crate::matrix::MatRef;

macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident: $rows:literal, $vectors:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(super) struct $name<L>(pub(super) L);

        impl<L: Lanes> Kernel for $name<L> {
            const ROWS: usize = $rows;
            const COLS: usize = 16 * $vectors;
            const STEP: usize = 1;
            const LEFT: usize = $rows;
            const RIGHT: usize = 16 * $vectors;
            const RUN: usize = 256;
            const PANELS: usize = 192 / $rows;

            #[inline(always)]
            fn begin(self) {}

            #[inline(always)]
            fn end(self) {}

            #[inline(always)]
            fn pack_left(self, rows: MatRef<'_>, out: &mut [f32]) {
                pack::<L, $rows>(self.0, rows, out);
            }

            #[inline(always)]
            fn pack_right(self, columns: MatRef<'_>, out: &mut [f32]) {
                pack::<L, { 16 * $vectors }>(self.0, columns, out);
            }

            #[inline(always)]
            fn gelu(self, row: &mut [f32]) {
                crate::gelu::in_place(self.0, row);
            }

            #[inline(always)]
            fn tile(self, left: &[f32], right: &[f32], steps: usize, _: &[f32], out: &mut Tile) {
                tile::<L, $rows, $vectors>(self.0, left, right, steps, out);
            }
        }
    )*};
}

kernels! {
    /// For 32 registers of sixteen lanes.
    Wide: 14, 2;
    /// For sixteen registers of eight lanes.
    Narrow: 6, 1;
    /// For few or narrow registers.
    Small: 2, 1;
}

#[inline(always)]
fn tile<L: Lanes, const R: usize, const V: usize>(
    simd: L,
    left: &[f32],
    right: &[f32],
    steps: usize,
    out: &mut Tile,
) {
    let (left, _) = left[..steps * R].as_chunks::<R>();
    let (right, _) = right[..steps * V * 16].as_chunks::<16>();
    let mut sums = [[simd.splat(0.0); V]; R];
    for (a, b) in left.iter().zip(right.chunks_exact(V)) {
        // No closures here: they would not take on the instruction set.
        let mut columns = [simd.splat(0.0); V];
        for v in 0..V {
            columns[v] = simd.load(&b[v]);
        }
        for r in 0..R {
            let x = simd.splat(a[r]);
            for v in 0..V {
                sums[r][v] = simd.mul_add(x, columns[v], sums[r][v]);
            }
        }
    }
    let (out, _) = out.0.as_chunks_mut::<16>();
    for r in 0..R {
        for v in 0..V {
            simd.store(sums[r][v], &mut out[r * V + v]);
        }
    }
}

/// Rows (at most `W`, k) → (k, W), the missing ones as zeros.
#[inline(always)]
fn pack<L: Lanes, const W: usize>(simd: L, rows: MatRef<'_>, out: &mut [f32]) {
    let MatRef {
        data,
        rows: count,
        cols: depth,
        row_stride,
        col_stride,
    } = rows;
    let (out, _) = out.as_chunks_mut::<W>();
    if row_stride == 1 && count == W {
        for (k, out) in out.iter_mut().enumerate() {
            let from = k * col_stride;
            out.copy_from_slice(&data[from..from + W]);
        }
    } else if col_stride == 1 {
        let whole = depth / 16 * 16;
        for first in (0..count).step_by(16) {
            let width = (W - first).min(16);
            let some = (count - first).min(width);
            let mut square = [[0.0; 16]; 16];
            for k in (0..whole).step_by(16) {
                for (r, row) in square.iter_mut().take(some).enumerate() {
                    let from = (first + r) * row_stride + k;
                    row.copy_from_slice(&data[from..from + 16]);
                }
                let turned = simd.transpose(&square);
                for (out, turned) in out[k..k + 16].iter_mut().zip(&turned) {
                    out[first..first + width].copy_from_slice(&turned[..width]);
                }
            }
        }
        for first in (count.next_multiple_of(16)..W).step_by(16) {
            for out in &mut out[..whole] {
                out[first..].fill(0.0);
            }
        }
        for (k, out) in out.iter_mut().enumerate().skip(whole) {
            for (r, out) in out.iter_mut().enumerate() {
                *out = if r < count {
                    data[r * row_stride + k]
                } else {
                    0.0
                };
            }
        }
    } else {
        for (k, out) in out.iter_mut().enumerate() {
            for (r, out) in out.iter_mut().enumerate() {
                *out = if r < count {
                    data[r * row_stride + k * col_stride]
                } else {
                    0.0
                };
            }
        }
    }
}
