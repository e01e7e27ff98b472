//! Strided views of matrices.

/// A read-only view of a `rows × cols` matrix in a slice.
#[derive(Clone, Copy)]
pub struct MatRef<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
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

    /// `rows` rows from `row` on, of which `cols` columns from `col` on.
    pub(crate) fn part(self, row: usize, rows: usize, col: usize, cols: usize) -> Self {
        debug_assert!(within(row, rows, self.rows) && within(col, cols, self.cols));
        let from = match rows == 0 || cols == 0 {
            true => 0,
            false => row * self.row_stride + col * self.col_stride,
        };
        Self {
            data: &self.data[from..],
            rows,
            cols,
            ..self
        }
    }
}

/// A writable view of a `rows × cols` row-major matrix in a slice.
pub struct MatMut<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
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

/// Elements from the first of `rows` rows of `cols` to the last; more than any slice
/// holds where that is no number.
pub(crate) fn extent(rows: usize, cols: usize, row_stride: usize) -> usize {
    match rows {
        0 => 0,
        _ => (rows - 1).saturating_mul(row_stride).saturating_add(cols),
    }
}

/// Whether `count` from `first` on are among `all`.
#[inline(always)]
pub(crate) fn within(first: usize, count: usize, all: usize) -> bool {
    count <= all && first <= all - count
}

/// The product of all: more than any slice holds where that is no number.
pub(crate) fn size<const N: usize>(dims: [usize; N]) -> usize {
    dims.into_iter().fold(1, usize::saturating_mul)
}

fn check(len: usize, rows: usize, cols: usize, row_stride: usize) {
    assert!(
        row_stride >= cols,
        "matrix: a row of {cols} does not fit a row stride of {row_stride}"
    );
    let needed = extent(rows, cols, row_stride);
    assert!(
        len >= needed,
        "matrix: {rows}×{cols} with row stride {row_stride} needs {needed} elements, not {len}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "needs 23 elements")]
    fn a_view_that_does_not_fit_is_refused() {
        MatRef::new(&[0.0; 22], 3, 7, 8);
    }

    #[test]
    #[should_panic(expected = "needs 18446744073709551615 elements")]
    fn a_view_beyond_all_memory_is_refused() {
        MatMut::new(&mut [0.0; 9], 6, 1, usize::MAX / 5 + 2);
    }
}
