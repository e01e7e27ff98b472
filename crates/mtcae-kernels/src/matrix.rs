//! Strided views of matrices and their product on the gemm crate.

use gemm::Parallelism;

/// A read-only view of a `rows × cols` matrix in a slice.
#[derive(Clone, Copy)]
pub struct MatRef<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> MatRef<'a> {
    /// Views `data` as rows of `row_stride` elements, of which each begins with
    /// `cols` elements of the matrix.
    ///
    /// # Panics
    /// When the matrix does not fit into `data` or rows would overlap.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// The transposed view of the same elements.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// A writable view of a `rows × cols` row-major matrix in a slice.
pub struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// As [`MatRef::new`], for writing.
    ///
    /// # Panics
    /// When the matrix does not fit into `data` or rows would overlap.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Self {
            data,
            rows,
            cols,
            row_stride,
        }
    }
}

fn check(len: usize, rows: usize, cols: usize, row_stride: usize) {
    assert!(
        row_stride >= cols,
        "matrix: a row of {cols} does not fit a row stride of {row_stride}"
    );
    let needed = match rows {
        0 => 0,
        _ => (rows - 1) * row_stride + cols,
    };
    assert!(
        len >= needed,
        "matrix: {rows}×{cols} with row stride {row_stride} needs {needed} elements, not {len}"
    );
}

/// out = alpha·lhs·rhs, or out += alpha·lhs·rhs when `accumulate`, on the
/// calling thread.
///
/// # Panics
/// When the shapes do not chain as (m,k)·(k,n) → (m,n).
pub fn matmul(lhs: MatRef<'_>, rhs: MatRef<'_>, alpha: f32, out: MatMut<'_>, accumulate: bool) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    assert_eq!(rhs.rows, k, "matmul: inner dimensions");
    assert!(
        out.rows == m && out.cols == n,
        "matmul: the result is {m}×{n}"
    );
    // SAFETY: the views were checked to lie within their slices when they were
    // made, `out` is borrowed mutably and so overlaps neither operand, and the
    // shapes were checked to chain just above.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, randn};

    #[test]
    fn strided_transposed_and_accumulating_products() {
        let (m, k, n) = (5, 7, 3);
        let (a, b, c) = (randn(m * 9, 1), randn(n * 11, 2), randn(m * 4, 3));
        let mut out = c.clone();
        // lhs rows lie 9 apart, rhs is read transposed from rows 11 apart.
        matmul(
            MatRef::new(&a, m, k, 9),
            MatRef::new(&b, n, k, 11).t(),
            0.5,
            MatMut::new(&mut out, m, n, 4),
            true,
        );
        let want: Vec<f64> = (0..m * 4)
            .map(|i| {
                let (r, s) = (i / 4, i % 4);
                let dot: f64 = (0..k)
                    .map(|j| f64::from(a[r * 9 + j]) * f64::from(b[s.min(n - 1) * 11 + j]))
                    .sum();
                f64::from(c[i]) + if s < n { 0.5 * dot } else { 0.0 }
            })
            .collect();
        compare(&out, &want, 1e-6, "matmul");
    }

    #[test]
    #[should_panic(expected = "needs 23 elements")]
    fn a_view_that_does_not_fit_is_refused() {
        MatRef::new(&[0.0; 22], 3, 7, 8);
    }
}
