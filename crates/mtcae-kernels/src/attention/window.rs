//! Attention within windows of a grid (Liu et al., 2021, arXiv 2103.14030; in three
//! dimensions 2022, arXiv 2106.13230): where tokens lie, how windows are shifted, and a
//! bias for each relative position from a table.
//!
//! A window is a problem of [`attention`](super); its tokens lie together in *window
//! order*, t, h, w within a window and the windows in the order t, h, w as well.

use std::ops::Range;

use rayon::prelude::*;

use crate::matrix::size;

/// A grid, its windows, and by how much these are shifted along each axis; each (t, h, w).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens along each axis.
    pub grid: [usize; 3],
    /// Tokens of a window along each axis, which divide the grid's.
    pub window: [usize; 3],
    /// By how many tokens the grid is rolled before it is cut, fewer than a window has.
    pub shift: [usize; 3],
}

impl Windows {
    /// Windows that a grid is cut into.
    pub fn count(&self) -> usize {
        (0..3).map(|a| self.grid[a] / self.window[a]).product()
    }

    /// Tokens of a window.
    pub fn tokens(&self) -> usize {
        size(self.window)
    }

    /// Rows of the table: relative positions that two tokens of a window can have.
    pub fn positions(&self) -> usize {
        self.window.iter().map(|w| 2 * w - 1).product()
    }

    /// Whether windows divide the grid and are shifted by less than themselves.
    pub fn is_whole(&self) -> bool {
        (0..3).all(|a| {
            let (n, w, s) = (self.grid[a], self.window[a], self.shift[a]);
            w > 0 && n > 0 && n.is_multiple_of(w) && s < w
        })
    }

    /// For each token in window order, its place in the grid's order t, h, w.
    ///
    /// # Panics
    /// When the windows are not [whole](Self::is_whole).
    pub fn order(&self) -> Vec<u32> {
        let mut order = Vec::with_capacity(size(self.grid));
        self.each(|place| {
            let at = |a: usize| (place[a] + self.shift[a]) % self.grid[a];
            order.push(((at(0) * self.grid[1] + at(1)) * self.grid[2] + at(2)) as u32);
        });
        order
    }

    /// For each token in window order the number of the region that it attends to: shifted
    /// windows hold tokens of opposite ends of the grid, which are no neighbours. None where
    /// nothing is shifted.
    ///
    /// # Panics
    /// As [`Self::order`].
    pub fn regions(&self) -> Vec<f32> {
        if self.shift == [0; 3] {
            return Vec::new();
        }
        let mut regions = Vec::with_capacity(size(self.grid));
        self.each(|place| {
            let part = |a: usize| match self.shift[a] {
                0 => 0,
                _ if place[a] < self.grid[a] - self.window[a] => 0,
                shift if place[a] < self.grid[a] - shift => 1,
                _ => 2,
            };
            regions.push((9 * part(0) + 3 * part(1) + part(2)) as f32);
        });
        regions
    }

    /// Visits the places of the rolled grid in window order.
    fn each(&self, mut visit: impl FnMut([usize; 3])) {
        assert!(self.is_whole(), "windows: {self:?} are not whole");
        let span = |i: usize, a: usize| i * self.window[a]..(i + 1) * self.window[a];
        let along = |a: usize| 0..self.grid[a] / self.window[a];
        for i in along(0) {
            for j in along(1) {
                for k in along(2) {
                    for t in span(i, 0) {
                        for h in span(j, 1) {
                            for w in span(k, 2) {
                                visit([t, h, w]);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The bias (H, L, L) of each head, key and query of a window of L tokens, from a table
    /// (positions, H): row ((Δt + t − 1)·(2h − 1) + Δh + h − 1)·(2w − 1) + Δw + w − 1 is of
    /// a query that lies (Δt, Δh, Δw) after the key.
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn expand(&self, table: &[f32], heads: usize, bias: &mut [f32]) {
        let one = self.tokens() * self.tokens();
        self.check(table.len(), heads, bias.len());
        let columns = transposed(table, heads);
        let tables = columns.par_chunks_exact(self.positions());
        tables
            .zip(bias.par_chunks_exact_mut(one))
            .for_each(|(table, bias)| {
                self.runs(|row, run| bias[run.clone()].copy_from_slice(&table[row..][..run.len()]));
            });
    }

    /// The gradient of a table, to which it is added, from that of its bias.
    ///
    /// # Panics
    /// As [`Self::expand`].
    pub fn collapse(&self, dbias: &[f32], heads: usize, dtable: &mut [f32]) {
        let one = self.tokens() * self.tokens();
        self.check(dtable.len(), heads, dbias.len());
        let mut columns = vec![0.0f64; dtable.len()];
        let tables = columns.par_chunks_exact_mut(self.positions());
        tables
            .zip(dbias.par_chunks_exact(one))
            .for_each(|(table, dbias)| {
                self.runs(|row, run| {
                    let grads = &dbias[run.clone()];
                    for (to, grad) in table[row..][..run.len()].iter_mut().zip(grads) {
                        *to += f64::from(*grad);
                    }
                });
            });
        for (h, column) in columns.chunks_exact(self.positions()).enumerate() {
            for (row, sum) in dtable.chunks_exact_mut(heads).zip(column) {
                row[h] += *sum as f32;
            }
        }
    }

    /// The table's row for each query and key of a window (L, L).
    pub fn pairs(&self) -> Vec<u32> {
        let tokens = self.tokens();
        let mut pairs = vec![0; tokens * tokens];
        self.runs(|row, run| {
            for (i, place) in run.enumerate() {
                pairs[place % tokens * tokens + place / tokens] = (row + i) as u32;
            }
        });
        pairs
    }

    fn check(&self, table: usize, heads: usize, bias: usize) {
        assert!(heads > 0, "windows: no heads");
        assert_eq!(table, size([self.positions(), heads]), "windows: table");
        let one = size([self.tokens(), self.tokens()]);
        assert_eq!(bias, size([heads, one]), "windows: bias");
    }

    /// Calls `each` with the first row of the table and the place in (L, L) of runs of
    /// queries that lie beside one another, whose rows do too.
    fn runs(&self, mut each: impl FnMut(usize, Range<usize>)) {
        let [t, h, w] = self.window;
        let mut at = 0;
        for kt in 0..t {
            for kh in 0..h {
                for kw in 0..w {
                    for qt in 0..t {
                        for qh in 0..h {
                            let row = (qt + t - 1 - kt) * (2 * h - 1) + qh + h - 1 - kh;
                            each(row * (2 * w - 1) + w - 1 - kw, at..at + w);
                            at += w;
                        }
                    }
                }
            }
        }
    }
}

/// (rows, columns) → (columns, rows).
fn transposed(x: &[f32], columns: usize) -> Vec<f32> {
    (0..columns)
        .flat_map(|c| x.iter().skip(c).step_by(columns).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Bias, Dims, Rows, biased_backward_with, biased_forward_with};
    use super::*;
    use crate::isa::Isa;
    use crate::testing::{compare, numeric_gradient, randn, widen};

    const SHIFTED: Windows = Windows {
        grid: [2, 4, 6],
        window: [2, 2, 3],
        shift: [0, 1, 1],
    };

    #[test]
    fn tokens_attend_within_their_window_to_their_neighbours_alone() {
        let mut order = SHIFTED.order();
        assert_eq!(order.len(), 48);
        // The first window begins one token in along h and w.
        assert_eq!(order[..3], [7, 8, 9]);
        // The last one holds the last rows and columns, and the first.
        let last = 36;
        assert_eq!(order[last..last + 6], [22, 23, 18, 4, 5, 0]);
        let regions = SHIFTED.regions();
        assert_eq!(regions[last..last + 6], [4., 4., 5., 7., 7., 8.]);
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(i, o)| i == *o as usize));
        let plain = Windows {
            shift: [0; 3],
            ..SHIFTED
        };
        assert!(plain.regions().is_empty());
        assert_eq!(plain.order()[..6], [0, 1, 2, 6, 7, 8]);
    }

    /// By the definition: every pair's row of the table, and logits in f64.
    fn reference(of: &Windows, d: Dims, [q, k, v, table]: [&[f64]; 4], scale: f64) -> Vec<f64> {
        let (tokens, width) = (of.tokens(), d.width());
        let [_, wh, ww] = of.window;
        let place = |i: usize| [i / (wh * ww), i / ww % wh, i % ww];
        let regions = of.regions();
        let mut out = vec![0.0; d.batch * tokens * width];
        for b in 0..d.batch {
            let region = |i: usize| regions.get(b % of.count() * tokens + i).copied();
            for h in 0..d.heads {
                for i in 0..tokens {
                    let at = |x: usize| (b * tokens + x) * width + h * d.head_dim;
                    let mut weights = vec![0.0; tokens];
                    for (j, weight) in weights.iter_mut().enumerate() {
                        let (a, c) = (place(i), place(j));
                        let row = (0..3).fold(0, |row, x| {
                            row * (2 * of.window[x] - 1) + a[x] + of.window[x] - 1 - c[x]
                        });
                        let dot: f64 = (0..d.head_dim).map(|x| q[at(i) + x] * k[at(j) + x]).sum();
                        if region(i) == region(j) {
                            *weight = (dot * scale + table[row * d.heads + h]).exp();
                        }
                    }
                    let total: f64 = weights.iter().sum();
                    for (j, weight) in weights.iter().enumerate() {
                        for x in 0..d.head_dim {
                            out[at(i) + x] += weight / total * v[at(j) + x];
                        }
                    }
                }
            }
        }
        out
    }

    #[test]
    fn both_directions_equal_the_definition() {
        let wide = Windows {
            grid: [3, 10, 10],
            window: [3, 5, 5],
            shift: [0, 2, 2],
        };
        for (of, clips, heads, head_dim) in [(SHIFTED, 2, 3, 5), (wide, 1, 2, 20)] {
            let d = Dims {
                batch: clips * of.count(),
                heads,
                queries: of.tokens(),
                keys: of.tokens(),
                head_dim,
            };
            let (n, scale) = (d.batch * d.queries * d.width(), 2.0 * d.scale());
            let [q, k, v, grad] = [1, 2, 3, 4].map(|seed| randn(n, seed));
            let table = randn(of.positions() * heads, 5);
            let [q64, k64, v64, g64, t64] = [&q, &k, &v, &grad, &table].map(|x| widen(x));
            let want = reference(&of, d, [&q64, &k64, &v64, &t64], scale.into());
            let loss = |x: [&[f64]; 4]| -> f64 {
                let out = reference(&of, d, x, scale.into());
                out.iter().zip(&g64).map(|(o, g)| o * g).sum()
            };
            let numeric = match n {
                ..2000 => Some([
                    numeric_gradient(&q64, |q| loss([q, &k64, &v64, &t64])),
                    numeric_gradient(&k64, |k| loss([&q64, k, &v64, &t64])),
                    numeric_gradient(&v64, |v| loss([&q64, &k64, v, &t64])),
                    numeric_gradient(&t64, |t| loss([&q64, &k64, &v64, t])),
                ]),
                _ => None,
            };
            let rows = |data| Rows {
                data,
                stride: d.width(),
            };
            let mut values = vec![f32::NAN; heads * of.tokens() * of.tokens()];
            of.expand(&table, heads, &mut values);
            let regions = of.regions();
            let bias = Bias {
                values: &values,
                regions: &regions,
            };
            for isa in Isa::available() {
                let (mut out, mut norms) = (vec![f32::NAN; n], vec![f32::NAN; d.norms()]);
                let (q, k, v) = (rows(&q), rows(&k), rows(&v));
                let save = Some(&mut norms[..]);
                biased_forward_with(isa, d, q, k, v, scale, bias, &mut out, save);
                compare(&out, &want, 3e-6, isa.name());
                let Some([dq, dk, dv, dtable]) = &numeric else {
                    continue; // a numeric gradient costs a forward an element
                };
                let (mut got_q, mut got_kv) = (vec![f32::NAN; n], vec![f32::NAN; 2 * n]);
                let mut dvalues = vec![0.0; values.len()];
                biased_backward_with(
                    isa,
                    d,
                    q,
                    k,
                    v,
                    bias,
                    &out,
                    &norms,
                    &grad,
                    scale,
                    &mut got_q,
                    &mut got_kv,
                    &mut dvalues,
                );
                let half = |from: usize| -> Vec<f32> {
                    let rows = got_kv.chunks_exact(2 * d.width());
                    rows.flat_map(|r| r[from..from + d.width()].to_vec())
                        .collect()
                };
                let mut got_table = vec![0.0; table.len()];
                of.collapse(&dvalues, heads, &mut got_table);
                compare(&got_q, dq, 2e-5, isa.name());
                compare(&half(0), dk, 2e-5, isa.name());
                compare(&half(d.width()), dv, 2e-5, isa.name());
                compare(&got_table, dtable, 2e-5, isa.name());
            }
        }
    }
}
