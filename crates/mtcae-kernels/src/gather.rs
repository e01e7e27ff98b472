//! Rows of a matrix in another order, some of them several times or not at all.

use rayon::prelude::*;

use crate::isa::{Isa, dispatch};
use crate::matrix::size;

/// Which row of a matrix each row of another one is a copy of.
#[derive(Clone, Debug)]
pub struct Gather {
    /// For each row of the result its source; [`Gather::NONE`] for a row of zeros.
    order: Vec<u32>,
    /// For each source where in `copies` its own begin, and the end.
    begins: Vec<u32>,
    /// The rows that are copies of the first source, then of the next.
    copies: Vec<u32>,
}

impl Gather {
    /// In an order: a row of zeros.
    pub const NONE: u32 = u32::MAX;

    /// For each row of the result its source among `sources` rows, or [`Self::NONE`].
    ///
    /// # Panics
    /// When an order names a source that there is not, or there are more than fit `u32`.
    pub fn new(sources: usize, order: Vec<u32>) -> Self {
        assert!(
            sources < Self::NONE as usize && order.len() < Self::NONE as usize,
            "gather: too many rows"
        );
        let mut begins = vec![0; sources + 1];
        let named = || order.iter().filter(|s| **s != Self::NONE);
        for &source in named() {
            begins[source as usize + 1] += 1;
        }
        for i in 0..sources {
            begins[i + 1] += begins[i];
        }
        let mut next = begins.clone();
        let mut copies = vec![0; named().count()];
        for (row, &source) in order.iter().enumerate() {
            if source != Self::NONE {
                let at = &mut next[source as usize];
                copies[*at as usize] = row as u32;
                *at += 1;
            }
        }
        Self {
            order,
            begins,
            copies,
        }
    }

    /// Rows of the source.
    pub fn sources(&self) -> usize {
        self.begins.len() - 1
    }

    /// For each row of the result its source.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// out (B, rows, D) from x (B, sources, D).
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn forward(&self, x: &[f32], width: usize, out: &mut [f32]) {
        let (sources, rows) = (self.sources(), self.order.len());
        self.check(x.len(), width, out.len());
        if out.is_empty() {
            return;
        }
        let work = out.par_chunks_mut(width).with_min_len(MOST.div_ceil(width));
        work.enumerate().for_each(|(i, out)| {
            let (b, source) = (i / rows, self.order[i % rows]);
            match source {
                Self::NONE => out.fill(0.0),
                source => {
                    let from = (b * sources + source as usize) * width;
                    out.copy_from_slice(&x[from..from + width]);
                }
            }
        });
    }

    /// dx (B, sources, D) from the gradient (B, rows, D) of what [`Self::forward`] gave.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn backward(&self, grad: &[f32], width: usize, dx: &mut [f32]) {
        let (sources, rows) = (self.sources(), self.order.len());
        self.check(dx.len(), width, grad.len());
        if dx.is_empty() {
            return;
        }
        let isa = Isa::best();
        let work = dx.par_chunks_mut(width).with_min_len(MOST.div_ceil(width));
        work.enumerate().for_each(|(i, dx)| {
            let (b, source) = (i / sources, i % sources);
            let [begin, end] = [source, source + 1].map(|s| self.begins[s] as usize);
            let row = |copy: &u32| &grad[(b * rows + *copy as usize) * width..][..width];
            match &self.copies[begin..end] {
                [] => dx.fill(0.0),
                [first, rest @ ..] => {
                    dx.copy_from_slice(row(first));
                    for copy in rest {
                        let (row, dx) = (row(copy), &mut *dx);
                        dispatch!(isa, add(row: &[f32], dx: &mut [f32]));
                    }
                }
            }
        });
    }

    fn check(&self, of_sources: usize, width: usize, of_rows: usize) {
        assert!(width > 0, "gather: rows without elements");
        let batch = of_sources / size([self.sources().max(1), width]);
        assert!(
            of_sources == size([batch, self.sources(), width])
                && of_rows == size([batch, self.order.len(), width]),
            "gather: {of_sources} and {of_rows} elements are not {} and {} rows of {width}",
            self.sources(),
            self.order.len()
        );
    }
}

/// Elements that are worth a task of their own.
const MOST: usize = 16 * 1024;

#[inline(always)]
fn add<const FMA: bool>(x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::randn;

    #[test]
    fn rows_are_copies_and_gradients_their_sums() {
        let gather = Gather::new(4, vec![2, Gather::NONE, 0, 2, 3]);
        let (batch, width) = (3, 5);
        let x = randn(batch * 4 * width, 1);
        let grad = randn(batch * 5 * width, 2);
        let (mut out, mut dx) = (vec![f32::NAN; grad.len()], vec![f32::NAN; x.len()]);
        gather.forward(&x, width, &mut out);
        gather.backward(&grad, width, &mut dx);
        for b in 0..batch {
            let row = |data: &[f32], rows: usize, r: usize| -> Vec<f32> {
                data[(b * rows + r) * width..][..width].to_vec()
            };
            for (r, source) in [Some(2), None, Some(0), Some(2), Some(3)]
                .iter()
                .enumerate()
            {
                let want = source.map_or(vec![0.0; width], |s| row(&x, 4, s));
                assert_eq!(row(&out, 5, r), want);
            }
            let (a, c) = (row(&grad, 5, 0), row(&grad, 5, 3));
            let sum: Vec<f32> = a.iter().zip(&c).map(|(a, c)| a + c).collect();
            assert_eq!(row(&dx, 4, 2), sum);
            assert_eq!(row(&dx, 4, 0), row(&grad, 5, 2));
            assert_eq!(row(&dx, 4, 1), [0.0; 5]);
        }
    }
}
