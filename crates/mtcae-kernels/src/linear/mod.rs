//! Linear layers of inference: y = x·Wᵀ + b with W packed once, and what follows
//! the product done while its sums are at hand.
//!
//! | target | y |
//! |---|---|
//! | [`Target::Store`] | is stored |
//! | [`Target::Add`] | is added to what is there: a residual |
//! | [`Target::Gelu`] | goes through GELU and becomes the next product's operand |
//!
//! A [`Packed`] takes the memory of its weights; for AMX an `f32` takes three
//! bytes.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::format::{Format, Kind, Operand, OperandMut, with_kernel};
use crate::matrix::{MatMut, MatRef};
use crate::micro::MicroKernel;
use crate::product::blocks::{self, Job, Rows, Sink, Squares};
use crate::product::rectangle::Rectangle;
use crate::scratch;

/// Rows of a weight matrix: W (out, in), row by row, and b (out), zeros where
/// there is none.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// W (out, in).
    pub weight: &'a [f32],
    /// b (out).
    pub bias: Option<&'a [f32]>,
}

/// Weights and bias of a linear layer, packed for one [`Format`].
#[derive(Debug)]
pub struct Packed {
    format: Format,
    inputs: usize,
    outputs: usize,
    data: Buffer,
    bias: Vec<f32>,
}

impl Packed {
    /// Packs layers of the same input as one, whose outputs lie side by side in
    /// the order of `parts`.
    ///
    /// # Panics
    /// When there are no inputs or no outputs, a weight is no matrix of `inputs` columns,
    /// or a bias has another length than its weight has rows.
    pub fn new(format: Format, inputs: usize, parts: &[Part<'_>]) -> Self {
        assert!(inputs > 0, "linear: no inputs");
        let mut bias = Vec::new();
        for part in parts {
            let outputs = part.weight.len() / inputs;
            assert_eq!(outputs * inputs, part.weight.len(), "linear: weight");
            match part.bias {
                Some(b) => {
                    assert_eq!(b.len(), outputs, "linear: bias");
                    bias.extend_from_slice(b);
                }
                None => bias.resize(bias.len() + outputs, 0.0),
            }
        }
        let outputs = bias.len();
        // Without one, nothing says that `inputs` is the width of anything.
        assert!(outputs > 0, "linear: no outputs");
        let rows: Vec<&[f32]> = parts
            .iter()
            .flat_map(|part| part.weight.chunks_exact(inputs))
            .collect();
        let layout = format.0.layout();
        let panel = (layout.right_panel)(inputs);
        let mut data = Buffer::zeroed(outputs.div_ceil(layout.cols) * panel);
        data.par_chunks_mut(panel)
            .zip(rows.par_chunks(layout.cols))
            .for_each(|(out, rows)| {
                let columns = rows.concat();
                let columns = MatRef::new(&columns, rows.len(), inputs, inputs);
                with_kernel!(format.0, pack_columns(columns: MatRef<'_>, out: &mut [f32]));
            });
        Self {
            format,
            inputs,
            outputs,
            data,
            bias,
        }
    }

    /// Numbers in a row of the operand.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Numbers in a row of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        (self.data.len() + self.bias.len()) * size_of::<f32>()
    }
}

#[inline(always)]
fn pack_columns<K: MicroKernel>(kernel: K, columns: MatRef<'_>, out: &mut [f32]) {
    kernel.pack_columns(columns, out);
}

/// What becomes of y = x·Wᵀ + b.
pub enum Target<'a> {
    /// The result is y.
    Store(MatMut<'a>),
    /// y is added to the result.
    Add(MatMut<'a>),
    /// The operand is gelu(y).
    Gelu(OperandMut<'a>),
}

/// x (m, in)·Wᵀ + b into `target` (m, out), over rayon's current pool.
///
/// # Panics
/// When the sizes do not chain or the formats differ.
pub fn linear(x: Operand<'_>, w: &Packed, target: Target<'_>) {
    assert_eq!(x.format, w.format, "linear: formats");
    assert_eq!(x.cols, w.inputs, "linear: inputs");
    let (rows, cols) = match &target {
        Target::Store(out) | Target::Add(out) => (out.rows, out.cols),
        Target::Gelu(out) => {
            assert_eq!(out.format, w.format, "linear: formats");
            (out.rows, out.cols)
        }
    };
    assert!(
        (rows, cols) == (x.rows, w.outputs),
        "linear: the result is {}×{}",
        x.rows,
        w.outputs
    );
    if rows == 0 || cols == 0 {
        return;
    }
    let kind = w.format.0;
    let mut hidden = None;
    let sink = match target {
        Target::Store(out) => Sink::Store(Rectangle::of(out)),
        Target::Add(out) => Sink::Add(Rectangle::of(out)),
        Target::Gelu(out) => Sink::Gelu(Squares::new(hidden.insert(out))),
    };
    let job = Job {
        rows,
        cols,
        terms: w.inputs,
        left: Rows::Packed(x.data),
        right: &w.data,
        alpha: 1.0,
        bias: &w.bias,
        relu: false,
        sink: &sink,
    };
    blocks::multiply(kind, job);
    if let Some(hidden) = hidden
        && kind.layout().settles
    {
        settle(kind, hidden);
    }
}

/// x (m, in)·Wᵀ + b, stored to `out` (m, out) or added to it, and after that cut at zero if
/// asked for, over rayon's current pool. Each task packs the rows that it reads: for
/// products that read them once.
pub(crate) fn rows(x: MatRef<'_>, w: &Packed, add: bool, relu: bool, out: MatMut<'_>) {
    let (rows, cols) = (out.rows, out.cols);
    assert!(
        (x.rows, x.cols, cols) == (rows, w.inputs, w.outputs),
        "linear: the result is {rows}×{cols}"
    );
    if rows == 0 || cols == 0 {
        return;
    }
    let out = Rectangle::of(out);
    let sink = if add {
        Sink::Add(out)
    } else {
        Sink::Store(out)
    };
    let job = Job {
        rows,
        cols,
        terms: w.inputs,
        left: Rows::Unpacked(x),
        right: &w.data,
        alpha: 1.0,
        bias: &w.bias,
        relu,
        sink: &sink,
    };
    blocks::multiply(w.format.0, job);
}

/// Packs the squares of all panels.
fn settle(kind: Kind, hidden: OperandMut<'_>) {
    #[inline(always)]
    fn settle<K: MicroKernel>(kernel: K, terms: usize, panel: &mut [f32], copy: &mut [f32]) {
        kernel.settle(terms, panel, copy);
    }
    let terms = hidden.cols;
    let len = (kind.layout().operand_panel)(terms);
    hidden.data.par_chunks_mut(len).for_each(|panel| {
        scratch::with(len, |copy| {
            with_kernel!(kind, settle(terms: usize, panel: &mut [f32], copy: &mut [f32]));
        });
    });
}

#[cfg(test)]
mod tests;
