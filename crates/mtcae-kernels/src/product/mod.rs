//! Products of matrices, packed into panels and cut into blocks for the caches
//! (Goto and van de Geijn, 2008, "Anatomy of High-Performance Matrix
//! Multiplication"), on the micro-kernel of each instruction set.
//!
//! The result is cut into tasks, and the order in which an element's terms are added
//! follows from the shapes alone: never from the threads.

pub(crate) mod blocks;
pub(crate) mod rectangle;
pub(crate) mod schedule;

use rayon::prelude::*;

use self::blocks::{Job, Rows, Sink};
use self::rectangle::Rectangle;
use crate::format::{Kind, with_kernel};
use crate::isa::Isa;
use crate::matrix::{MatMut, MatRef};
use crate::micro::MicroKernel;
use crate::scratch;

/// Terms of the inner dimension that are packed at a time.
const DEPTH: usize = 1024;

/// What a product starts from.
#[derive(Clone, Copy)]
pub enum Initial<'a> {
    /// Nothing: the result is overwritten.
    Zero,
    /// What the result holds: the product is added to it.
    Result,
    /// A bias (n) for every row.
    Bias(&'a [f32]),
}

/// out (m, n) = start + alpha·lhs (m, k)·rhs (k, n), over rayon's current pool.
///
/// # Panics
/// When the shapes do not chain.
pub fn product(lhs: MatRef<'_>, rhs: MatRef<'_>, alpha: f32, start: Initial<'_>, out: MatMut<'_>) {
    product_with(Isa::best(), lhs, rhs, alpha, start, out);
}

/// [`product`] with a given instruction set.
pub fn product_with(
    isa: Isa,
    lhs: MatRef<'_>,
    rhs: MatRef<'_>,
    alpha: f32,
    start: Initial<'_>,
    out: MatMut<'_>,
) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    assert_eq!(rhs.rows, k, "product: inner dimensions");
    assert!(
        out.rows == m && out.cols == n,
        "product: the result is {m}×{n}"
    );
    let bias = match start {
        Initial::Bias(bias) => {
            assert_eq!(bias.len(), n, "product: the bias has {n} elements");
            bias
        }
        _ => &[],
    };
    if m == 0 || n == 0 {
        return;
    }
    let kind = Kind::of(isa);
    let stride = out.row_stride;
    // The last row ends where its elements do.
    let data = &mut out.data[..(m - 1) * stride + n];
    // At least one slice, so that an empty inner dimension gives the start.
    let slices = k.div_ceil(DEPTH).max(1);
    for i in 0..slices {
        let (first, end) = (k * i / slices, k * (i + 1) / slices);
        let depth = end - first;
        let whole = Rectangle::new(data, stride, m, n);
        let sink = match (i, start) {
            (0, Initial::Zero | Initial::Bias(_)) => Sink::Store(whole),
            _ => Sink::Add(whole),
        };
        scratch::with(packed_len(kind, depth, n), |right| {
            pack(kind, rhs.part(first, depth, 0, n), right);
            let job = Job {
                rows: m,
                cols: n,
                terms: depth,
                left: Rows::Unpacked(lhs.part(0, m, first, depth)),
                right,
                alpha,
                bias: if i == 0 { bias } else { &[] },
                relu: false,
                sink: &sink,
            };
            blocks::multiply(kind, job);
        });
    }
}

/// Elements that a packed right operand (k, n) takes.
pub(crate) fn packed_len(kind: Kind, k: usize, n: usize) -> usize {
    let layout = kind.layout();
    n.div_ceil(layout.cols) * (layout.right_panel)(k)
}

/// Packs a right operand (k, n) into [`packed_len`] elements.
pub(crate) fn pack(kind: Kind, rhs: MatRef<'_>, packed: &mut [f32]) {
    #[inline(always)]
    fn columns<K: MicroKernel>(kernel: K, columns: MatRef<'_>, out: &mut [f32]) {
        kernel.pack_columns(columns, out);
    }
    let layout = kind.layout();
    let (k, n, transposed) = (rhs.rows, rhs.cols, rhs.t());
    if k == 0 {
        return;
    }
    let panels = packed.par_chunks_mut((layout.right_panel)(k)).enumerate();
    panels.for_each(|(j, out)| {
        let from = j * layout.cols;
        let some = transposed.part(from, layout.cols.min(n - from), 0, k);
        with_kernel!(kind, columns(some: MatRef<'_>, out: &mut [f32]));
    });
}

#[cfg(test)]
mod tests;
