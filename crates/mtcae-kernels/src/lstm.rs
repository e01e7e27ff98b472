//! A layer of an LSTM in one direction (Hochreiter and Schmidhuber, 1997), with
//! PyTorch's gates in the order i, f, g, o:
//!
//! i, f, o = σ(·), g = tanh(·) of x·W_ihᵀ + b + h₋·W_hhᵀ; c = f∘c₋ + i∘g; h = o∘tanh(c),
//!
//! where h₋ and c₋ are of the step before, and 0 before the first. What x gives is a
//! product of all steps at once, and the caller's; here are the steps, which wait for one
//! another.
//!
//! Sequences are cut into [parts](Dims::parts) of a few, which wait for nobody: each goes
//! through all steps by itself. Tensors hold part after part, and each part is in the order
//! of time: (T, B, ·), B being its sequences.

use std::ops::Range;

use rayon::prelude::*;

use crate::format::Kind;
use crate::isa::{Isa, dispatch};
use crate::lanes::{Lanes, vectorise};
use crate::math::exp;
use crate::matrix::{MatMut, MatRef, size};
use crate::product::blocks::{self, Job, Rows, Sink};
use crate::product::rectangle::Rectangle;
use crate::product::{pack, packed_len};
use crate::scratch;

/// The size of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// T: steps.
    pub steps: usize,
    /// B: sequences.
    pub batch: usize,
    /// H: numbers of a state.
    pub hidden: usize,
}

impl Dims {
    /// Numbers of all states (T, B, H).
    pub fn states(&self) -> usize {
        size([self.steps, self.batch, self.hidden])
    }

    /// Numbers of all gates (T, B, 4·H).
    pub fn gates(&self) -> usize {
        size([self.states(), 4])
    }

    /// The sizes of the parts that sequences are cut into. They follow from the sizes alone,
    /// never from the threads.
    pub fn parts(&self) -> Vec<Self> {
        let most = self.batch.div_ceil(2).clamp(4, 8);
        let parts = (0..self.batch).step_by(most);
        parts
            .map(|first| Self {
                batch: most.min(self.batch - first),
                ..*self
            })
            .collect()
    }

    fn state(&self, step: usize) -> Range<usize> {
        let one = self.batch * self.hidden;
        step * one..(step + 1) * one
    }

    fn gate(&self, step: usize) -> Range<usize> {
        let one = 4 * self.batch * self.hidden;
        step * one..(step + 1) * one
    }

    fn check(&self) {
        assert!(
            self.steps > 0 && self.batch > 0 && self.hidden > 0,
            "lstm: every dimension must be at least 1: {self:?}"
        );
    }
}

/// Which step follows which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first to the last.
    Forward,
    /// From the last to the first.
    Backward,
}

impl Direction {
    /// The `i`th step that is computed.
    fn step(self, i: usize, steps: usize) -> usize {
        match self {
            Self::Forward => i,
            Self::Backward => steps - 1 - i,
        }
    }
}

/// Computes all steps. `gates` (T, B, 4·H) holds x·W_ihᵀ + b and is left with the gates;
/// `cells` and `hidden` (T, B, H) are given c and h. W_hh is (4·H, H). All are in parts.
///
/// # Panics
/// When a slice has not the length that `dims` says or a dimension is 0.
pub fn forward(
    dims: Dims,
    direction: Direction,
    w_hh: &[f32],
    gates: &mut [f32],
    cells: &mut [f32],
    hidden: &mut [f32],
) {
    forward_with(Isa::best(), dims, direction, w_hh, gates, cells, hidden);
}

/// [`forward`] with a given instruction set.
pub fn forward_with(
    isa: Isa,
    dims: Dims,
    direction: Direction,
    w_hh: &[f32],
    gates: &mut [f32],
    cells: &mut [f32],
    hidden: &mut [f32],
) {
    dims.check();
    let h = dims.hidden;
    assert_eq!(gates.len(), dims.gates(), "lstm: gates");
    assert!(
        cells.len() == dims.states() && hidden.len() == dims.states(),
        "lstm: states"
    );
    // Of one step there is nothing to multiply.
    let weights = MatRef::new(w_hh, 4 * h, h, h).t();
    Steps::packed(isa, weights, |steps| {
        let parts = dims.parts();
        let states = cut(&parts, Dims::states, cells).zip(cut(&parts, Dims::states, hidden));
        let work = cut(&parts, Dims::gates, gates).zip(states).zip(&parts);
        let work: Vec<_> = work.collect();
        work.into_par_iter()
            .with_max_len(1)
            .for_each(|((gates, (cells, hidden)), dims)| {
                part_forward(isa, *dims, direction, steps, gates, cells, hidden);
            });
    });
}

/// What belongs to each part of a tensor whose parts have so many numbers.
fn cut<'a>(
    parts: &'a [Dims],
    numbers: fn(&Dims) -> usize,
    mut data: &'a mut [f32],
) -> impl Iterator<Item = &'a mut [f32]> {
    parts.iter().map(move |part| {
        let (now, rest) = std::mem::take(&mut data).split_at_mut(numbers(part));
        data = rest;
        now
    })
}

/// [`forward`] of one part.
fn part_forward(
    isa: Isa,
    dims: Dims,
    direction: Direction,
    steps: &Steps<'_>,
    gates: &mut [f32],
    cells: &mut [f32],
    hidden: &mut [f32],
) {
    let h = dims.hidden;
    for i in 0..dims.steps {
        let now = direction.step(i, dims.steps);
        let gates = &mut gates[dims.gate(now)];
        let mut before: &[f32] = &[];
        if i > 0 {
            let then = direction.step(i - 1, dims.steps);
            steps.add(dims.batch, &hidden[dims.state(then)], gates);
            before = &cells[dims.state(then)];
        }
        // The cells of the step before lie beside those of this one.
        let before = before.to_vec();
        let cells = &mut cells[dims.state(now)];
        let hidden = &mut hidden[dims.state(now)];
        let rows = gates
            .par_chunks_mut(4 * h)
            .zip(cells.par_chunks_mut(h))
            .zip(hidden.par_chunks_mut(h))
            .with_min_len(GRAIN.div_ceil(h))
            .enumerate();
        rows.for_each(|(row, ((gates, cells), hidden))| {
                let before = before.get(row * h..).and_then(|b| b.get(..h));
                let before = before.unwrap_or(&[]);
                dispatch!(isa, states(before: &[f32], gates: &mut [f32], cells: &mut [f32], hidden: &mut [f32]));
            });
    }
}

/// The gradients of what [`forward`] was given in `gates`, in the place of the gates that
/// it left there, for the gradient of `hidden` (T, B, H).
///
/// That of W_hh is their product with the hidden states of the steps before, of all steps
/// at once, and the caller's.
///
/// # Panics
/// As [`forward`].
pub fn backward(
    dims: Dims,
    direction: Direction,
    w_hh: &[f32],
    cells: &[f32],
    grad: &[f32],
    gates: &mut [f32],
) {
    backward_with(Isa::best(), dims, direction, w_hh, cells, grad, gates);
}

/// [`backward`] with a given instruction set.
pub fn backward_with(
    isa: Isa,
    dims: Dims,
    direction: Direction,
    w_hh: &[f32],
    cells: &[f32],
    grad: &[f32],
    gates: &mut [f32],
) {
    dims.check();
    let h = dims.hidden;
    assert_eq!(gates.len(), dims.gates(), "lstm: gates");
    assert!(
        cells.len() == dims.states() && grad.len() == dims.states(),
        "lstm: states"
    );
    let weights = MatRef::new(w_hh, 4 * h, h, h);
    Steps::packed(isa, weights, |steps| {
        let parts = dims.parts();
        let mut from = 0;
        let work = cut(&parts, Dims::gates, gates)
            .zip(&parts)
            .map(|(gates, part)| {
                let states = from..from + part.states();
                from = states.end;
                (gates, &cells[states.clone()], &grad[states], part)
            });
        let work: Vec<_> = work.collect();
        work.into_par_iter()
            .with_max_len(1)
            .for_each(|(gates, cells, grad, dims)| {
                part_backward(isa, *dims, direction, steps, cells, grad, gates);
            });
    });
}

/// [`backward`] of one part.
fn part_backward(
    isa: Isa,
    dims: Dims,
    direction: Direction,
    steps: &Steps<'_>,
    cells: &[f32],
    grad: &[f32],
    gates: &mut [f32],
) {
    let h = dims.hidden;
    let one = dims.batch * h;
    // The gradients of h and of c that later steps hand back.
    let (mut dh, mut dc) = (vec![0.0; one], vec![0.0; one]);
    for i in (0..dims.steps).rev() {
        let now = direction.step(i, dims.steps);
        let before = match i {
            0 => &[],
            _ => &cells[dims.state(direction.step(i - 1, dims.steps))],
        };
        let (cells, grad) = (&cells[dims.state(now)], &grad[dims.state(now)]);
        let gates = &mut gates[dims.gate(now)];
        let rows = gates
            .par_chunks_mut(4 * h)
            .zip(dh.par_chunks_mut(h))
            .zip(dc.par_chunks_mut(h))
            .with_min_len(GRAIN.div_ceil(h))
            .enumerate();
        rows.for_each(|(row, ((gates, dh), dc))| {
                let some = row * h..(row + 1) * h;
                let before = before.get(some.clone()).unwrap_or(&[]);
                let (cells, grad) = (&cells[some.clone()], &grad[some]);
                dispatch!(isa, differentiate(before: &[f32], cells: &[f32], grad: &[f32], gates: &mut [f32], dh: &mut [f32], dc: &mut [f32]));
            });
        if i > 0 {
            steps.store(dims.batch, gates, &mut dh);
        }
    }
}

/// Elements of a state that are worth a task of their own.
const GRAIN: usize = 4096;

/// Products that are worth a task of their own.
const ROW: usize = 64 * 1024;

/// A weight, packed once for the products of all steps.
struct Steps<'a> {
    kind: Kind,
    terms: usize,
    cols: usize,
    right: &'a [f32],
}

impl Steps<'_> {
    fn packed(isa: Isa, weights: MatRef<'_>, work: impl FnOnce(&Steps<'_>)) {
        let kind = Kind::of(isa);
        let (terms, cols) = (weights.rows, weights.cols);
        scratch::with(packed_len(kind, terms, cols), |right| {
            pack(kind, weights, right);
            work(&Steps {
                kind,
                terms,
                cols,
                right,
            });
        });
    }

    /// out (rows, cols) += x (rows, terms)·W.
    fn add(&self, rows: usize, x: &[f32], out: &mut [f32]) {
        if let (1, Kind::Plain(isa)) = (rows, self.kind) {
            return self.row(isa, x, true, out);
        }
        let out = Rectangle::of(MatMut::new(out, rows, self.cols, self.cols));
        self.multiply(rows, x, &Sink::Add(out));
    }

    /// out (rows, cols) = x (rows, terms)·W.
    fn store(&self, rows: usize, x: &[f32], out: &mut [f32]) {
        if let (1, Kind::Plain(isa)) = (rows, self.kind) {
            return self.row(isa, x, false, out);
        }
        let out = Rectangle::of(MatMut::new(out, rows, self.cols, self.cols));
        self.multiply(rows, x, &Sink::Store(out));
    }

    /// [`Self::add`] or [`Self::store`] of one row, which leaves a tile's other rows idle:
    /// sums of several terms at a time keep the multiply-adds from waiting for each other.
    fn row(&self, isa: Isa, x: &[f32], onto: bool, out: &mut [f32]) {
        let cols = self.kind.layout().cols;
        let panels = self
            .right
            .par_chunks_exact(self.terms.next_multiple_of(cols) * cols);
        panels
            .zip(out.par_chunks_mut(cols))
            .with_min_len(ROW.div_ceil(self.terms * cols))
            .for_each(|(panel, out)| match cols {
                32 => {
                    vectorise!(isa, row_of_two(x: &[f32], panel: &[f32], onto: bool, out: &mut [f32]));
                }
                _ => {
                    vectorise!(isa, row_of_one(x: &[f32], panel: &[f32], onto: bool, out: &mut [f32]));
                }
            });
    }

    fn multiply(&self, rows: usize, x: &[f32], sink: &Sink<'_>) {
        let job = Job {
            rows,
            cols: self.cols,
            terms: self.terms,
            left: Rows::Unpacked(MatRef::new(x, rows, self.terms, self.terms)),
            right: self.right,
            alpha: 1.0,
            relu: false,
            bias: &[],
            sink,
        };
        blocks::multiply(self.kind, job);
    }
}

#[inline(always)]
fn row_of_one<L: Lanes>(simd: L, x: &[f32], panel: &[f32], onto: bool, out: &mut [f32]) {
    row_of::<L, 1>(simd, x, panel, onto, out);
}

#[inline(always)]
fn row_of_two<L: Lanes>(simd: L, x: &[f32], panel: &[f32], onto: bool, out: &mut [f32]) {
    row_of::<L, 2>(simd, x, panel, onto, out);
}

/// x times a right panel of `V` vectors, of which `out` has the first columns.
#[inline(always)]
fn row_of<L: Lanes, const V: usize>(
    simd: L,
    x: &[f32],
    panel: &[f32],
    onto: bool,
    out: &mut [f32],
) {
    let mut sums = [[simd.splat(0.0); V]; 4];
    let (vectors, _) = panel.as_chunks::<16>();
    let (fours, rest) = x.as_chunks::<4>();
    for (x, terms) in fours.iter().zip(vectors.chunks_exact(4 * V)) {
        for i in 0..4 {
            let x = simd.splat(x[i]);
            for v in 0..V {
                sums[i][v] = simd.mul_add(x, simd.load(&terms[i * V + v]), sums[i][v]);
            }
        }
    }
    let terms = vectors[4 * V * fours.len()..].chunks_exact(V);
    for (x, term) in rest.iter().zip(terms) {
        let x = simd.splat(*x);
        for v in 0..V {
            sums[0][v] = simd.mul_add(x, simd.load(&term[v]), sums[0][v]);
        }
    }
    for (v, out) in out.chunks_mut(16).enumerate() {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| sums[i][v]);
        let sum = simd.add(simd.add(a, b), simd.add(c, d));
        let mut lanes = [0.0; 16];
        simd.store(sum, &mut lanes);
        for (out, sum) in out.iter_mut().zip(lanes) {
            *out = if onto { *out + sum } else { sum };
        }
    }
}

#[inline(always)]
fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Within 2e-7 of the exact value, absolutely.
#[inline(always)]
fn tanh<const FMA: bool>(x: f32) -> f32 {
    2.0 * sigmoid::<FMA>(2.0 * x) - 1.0
}

/// The gates of one row from what is under their σ and tanh, and its states.
#[inline(always)]
fn states<const FMA: bool>(
    before: &[f32],
    gates: &mut [f32],
    cells: &mut [f32],
    hidden: &mut [f32],
) {
    let n = cells.len();
    let (i, rest) = gates.split_at_mut(n);
    let (f, rest) = rest.split_at_mut(n);
    let (g, o) = rest.split_at_mut(n);
    let (o, hidden) = (&mut o[..n], &mut hidden[..n]);
    for j in 0..n {
        i[j] = sigmoid::<FMA>(i[j]);
        f[j] = sigmoid::<FMA>(f[j]);
        g[j] = tanh::<FMA>(g[j]);
        o[j] = sigmoid::<FMA>(o[j]);
        cells[j] = i[j] * g[j];
    }
    for ((cell, f), before) in cells.iter_mut().zip(&*f).zip(before) {
        *cell += f * before;
    }
    for j in 0..n {
        hidden[j] = o[j] * tanh::<FMA>(cells[j]);
    }
}

/// The gradients of what is under the gates of one row, in their place; `dc` becomes that
/// of the cells before.
#[inline(always)]
fn differentiate<const FMA: bool>(
    before: &[f32],
    cells: &[f32],
    grad: &[f32],
    gates: &mut [f32],
    dh: &mut [f32],
    dc: &mut [f32],
) {
    let n = cells.len();
    let (i, rest) = gates.split_at_mut(n);
    let (f, rest) = rest.split_at_mut(n);
    let (g, o) = rest.split_at_mut(n);
    let (o, grad, dh, dc) = (&mut o[..n], &grad[..n], &dh[..n], &mut dc[..n]);
    let before = &before[..n.min(before.len())];
    for j in 0..n {
        let dh = grad[j] + dh[j];
        let t = tanh::<FMA>(cells[j]);
        let d = dc[j] + dh * o[j] * (1.0 - t * t);
        o[j] = dh * t * o[j] * (1.0 - o[j]);
        let (a, b) = (i[j], g[j]);
        i[j] = d * b * a * (1.0 - a);
        g[j] = d * a * (1.0 - b * b);
        dc[j] = d * f[j];
        // Of f all but the cells before.
        f[j] = d * f[j] * (1.0 - f[j]);
    }
    match before.is_empty() {
        true => f.fill(0.0),
        false => f.iter_mut().zip(before).for_each(|(f, c)| *f *= c),
    }
}

/// The readable twin in f64 that defines the kernel.
pub mod reference {
    use super::{Dims, Direction};

    /// Hidden states (T, B, H) of `gates` (T, B, 4·H), as [`super::forward`] is given them.
    pub fn forward(dims: Dims, direction: Direction, w_hh: &[f64], gates: &[f64]) -> Vec<f64> {
        let Dims {
            steps,
            batch,
            hidden,
        } = dims;
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut out = vec![0.0; dims.states()];
        for b in 0..batch {
            let (mut h, mut c) = (vec![0.0; hidden], vec![0.0; hidden]);
            for i in 0..steps {
                let t = direction.step(i, steps);
                let under: Vec<f64> = (0..4 * hidden)
                    .map(|r| {
                        let row = &w_hh[r * hidden..(r + 1) * hidden];
                        let dot: f64 = row.iter().zip(&h).map(|(w, h)| w * h).sum();
                        gates[(t * batch + b) * 4 * hidden + r] + dot
                    })
                    .collect();
                for j in 0..hidden {
                    let gate = |k: usize| under[k * hidden + j];
                    c[j] = sigmoid(gate(1)) * c[j] + sigmoid(gate(0)) * gate(2).tanh();
                    h[j] = sigmoid(gate(3)) * c[j].tanh();
                    out[(t * batch + b) * hidden + j] = h[j];
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, numeric_gradient, randn, widen};

    const BOTH: [Direction; 2] = [Direction::Forward, Direction::Backward];

    fn dims(steps: usize, batch: usize, hidden: usize) -> Dims {
        Dims {
            steps,
            batch,
            hidden,
        }
    }

    /// Gates of deviation 2 and recurrent weights that keep them there: σ and tanh are
    /// used over most of their range.
    fn drawn(d: Dims) -> (Vec<f32>, Vec<f32>) {
        let scale = 2.0 / (d.hidden as f32).sqrt();
        let w = randn(4 * d.hidden * d.hidden, 1);
        let gates = randn(d.gates(), 2);
        (
            w.iter().map(|v| v * scale).collect(),
            gates.iter().map(|v| v * 2.0).collect(),
        )
    }

    /// The reference of each part.
    fn by_parts(d: Dims, direction: Direction, w_hh: &[f64], mut gates: &[f64]) -> Vec<f64> {
        let mut all = Vec::new();
        for part in d.parts() {
            let (now, rest) = gates.split_at(part.gates());
            all.extend(reference::forward(part, direction, w_hh, now));
            gates = rest;
        }
        all
    }

    #[test]
    fn parts_are_of_a_few_sequences_and_hold_them_all() {
        let of =
            |batch| -> Vec<usize> { dims(2, batch, 3).parts().iter().map(|p| p.batch).collect() };
        assert_eq!([of(1), of(4), of(5)], [vec![1], vec![4], vec![4, 1]]);
        assert_eq!(
            [of(8), of(11), of(17)],
            [vec![4, 4], vec![6, 5], vec![8, 8, 1]]
        );
    }

    #[test]
    fn states_equal_the_reference() {
        for d in [
            dims(1, 1, 1),
            dims(7, 1, 45),
            dims(3, 1, 300),
            dims(5, 3, 7),
            dims(16, 2, 33),
            dims(9, 40, 130),
        ] {
            let (w, under) = drawn(d);
            for direction in BOTH {
                let want = by_parts(d, direction, &widen(&w), &widen(&under));
                for isa in Isa::available() {
                    let mut gates = under.clone();
                    let mut cells = vec![f32::NAN; d.states()];
                    let mut hidden = cells.clone();
                    forward_with(isa, d, direction, &w, &mut gates, &mut cells, &mut hidden);
                    // A state of 130 terms goes through up to 16 steps.
                    compare(&hidden, &want, 5e-6, &format!("{} {d:?}", isa.name()));
                }
            }
        }
    }

    #[test]
    fn gradients_equal_differences() {
        for d in [dims(1, 2, 3), dims(5, 1, 7), dims(4, 3, 5), dims(6, 2, 17)] {
            let (w, under) = drawn(d);
            let grad = randn(d.states(), 3);
            for direction in BOTH {
                let (w64, grad64) = (widen(&w), widen(&grad));
                let want = numeric_gradient(&widen(&under), |gates| {
                    let hidden = by_parts(d, direction, &w64, gates);
                    hidden.iter().zip(&grad64).map(|(h, g)| h * g).sum()
                });
                for isa in Isa::available() {
                    let mut gates = under.clone();
                    let mut cells = vec![f32::NAN; d.states()];
                    let mut hidden = cells.clone();
                    forward_with(isa, d, direction, &w, &mut gates, &mut cells, &mut hidden);
                    backward_with(isa, d, direction, &w, &cells, &grad, &mut gates);
                    compare(&gates, &want, 1e-5, &format!("{} {d:?}", isa.name()));
                }
            }
        }
    }
}
