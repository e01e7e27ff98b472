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

#[cfg(target_arch = "x86_64")]
mod tiles;

use crate::buffer::Buffer;
use crate::format::{Format, Kind, Operand, OperandMut};
use crate::matrix::{MatMut, MatRef};
use crate::product::{self, Finish, Initial};

/// Columns of a panel of packed weights in the formats of tiles.
const COLS: usize = 32;

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
    /// Padded with zeros to whole panels.
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
        bias.resize(outputs.next_multiple_of(COLS), 0.0);
        let rows: Vec<&[f32]> = parts
            .iter()
            .flat_map(|part| part.weight.chunks_exact(inputs))
            .collect();
        let data = match format.0 {
            Kind::Plain(isa) => {
                let whole: Vec<f32> = rows.concat();
                let weights = MatRef::new(&whole, outputs, inputs, inputs).t();
                product::pack_slices(isa, weights)
            }
            #[cfg(target_arch = "x86_64")]
            _ => tiles::pack(format, inputs, &rows),
        };
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
    let Kind::Plain(isa) = w.format.0 else {
        #[cfg(target_arch = "x86_64")]
        tiles::linear(x, w, target);
        return;
    };
    let bias = &w.bias[..w.outputs];
    let (start, finish, out) = match target {
        Target::Store(out) => (Initial::Bias(bias), Finish::None, out),
        Target::Add(out) => (Initial::Residual(bias), Finish::None, out),
        Target::Gelu(out) => {
            let out = MatMut::new(out.data, rows, cols, cols);
            (Initial::Bias(bias), Finish::Gelu, out)
        }
    };
    let lhs = MatRef::new(x.data, x.rows, x.cols, x.cols);
    product::product_slices(isa, lhs, &w.data, start, finish, out);
}

#[cfg(test)]
mod tests;
