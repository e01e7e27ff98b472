//! A result that several threads write.

use std::marker::PhantomData;

use crate::matrix::{MatMut, extent, within};

/// A rectangle of a result that one task alone writes.
pub(crate) struct Rectangle<'a> {
    data: *mut f32,
    stride: usize,
    rows: usize,
    cols: usize,
    lent: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for an exclusive borrow of its elements.
unsafe impl Send for Rectangle<'_> {}
// SAFETY: through a shared reference its elements are reachable by `part` alone, which
// is unsafe.
unsafe impl Sync for Rectangle<'_> {}

impl<'a> Rectangle<'a> {
    pub(crate) fn new(data: &'a mut [f32], stride: usize, rows: usize, cols: usize) -> Self {
        assert!(rows > 0 && cols <= stride && data.len() >= extent(rows, cols, stride));
        Self {
            data: data.as_mut_ptr(),
            stride,
            rows,
            cols,
            lent: PhantomData,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// All of a matrix.
    pub(crate) fn of(m: MatMut<'a>) -> Self {
        Self::new(m.data, m.row_stride, m.rows, m.cols)
    }

    /// The rectangle of `rows` rows from `row` on, of columns from `col` on.
    ///
    /// # Safety
    /// No two parts in use at a time may overlap.
    pub(crate) unsafe fn part(&self, row: usize, rows: usize, col: usize, cols: usize) -> Self {
        assert!(rows > 0 && within(row, rows, self.rows) && within(col, cols, self.cols));
        Self {
            // SAFETY: within the rectangle, as just asserted.
            data: unsafe { self.data.add(row * self.stride + col) },
            rows,
            cols,
            ..*self
        }
    }

    /// `cols` elements of a row from `col` on.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize, col: usize, cols: usize) -> &mut [f32] {
        assert!(row < self.rows && within(col, cols, self.cols));
        // SAFETY: within the rectangle, which is borrowed mutably meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride + col), cols) }
    }
}
