//! LSTM layers over whole sequences, with PyTorch's names.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::ops::{self, LstmWeights};

/// Layers of an LSTM, in one direction or two; what `torch.nn.LSTM` with `batch_first`
/// computes from states of zeros, without dropout between layers.
#[derive(Clone, Debug)]
pub struct Lstm {
    /// The directions of each layer.
    layers: Vec<Vec<Direction>>,
    hidden: usize,
}

/// The parameters of one direction of a layer.
#[derive(Clone, Debug)]
struct Direction {
    input: Tensor,
    hidden: Tensor,
    biases: [Tensor; 2],
}

impl Lstm {
    /// With H = `hidden` and l from 0: `weight_ih_l{l}` (4·H, in), `weight_hh_l{l}`
    /// (4·H, H), `bias_ih_l{l}` and `bias_hh_l{l}` (4·H) below `vb`, whose rows are those of
    /// the gates i, f, g, o; of the second direction with `_reverse` behind. The first
    /// layer's in is `inputs`, of the others it is the width of the layer before.
    pub fn new(
        inputs: usize,
        hidden: usize,
        layers: usize,
        both_directions: bool,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        if inputs == 0 || hidden == 0 || layers == 0 {
            candle_core::bail!(
                "lstm: {inputs} inputs, {hidden} hidden, {layers} layers; all must be at least 1"
            );
        }
        let ends: &[&str] = if both_directions {
            &["", "_reverse"]
        } else {
            &[""]
        };
        // As PyTorch draws them.
        let most = 1.0 / (hidden as f64).sqrt();
        let init = Init::Uniform {
            lo: -most,
            up: most,
        };
        let rows = 4 * hidden;
        let direction = |l: usize, width: usize, end: &str| -> Result<Direction> {
            let weight = |kind: &str, columns: usize| {
                vb.get_with_hints((rows, columns), &format!("weight_{kind}_l{l}{end}"), init)
            };
            let bias = |kind: &str| {
                let name = format!("bias_{kind}_l{l}{end}");
                vb.get_with_hints_dtype(rows, &name, init, DType::F32)
            };
            Ok(Direction {
                input: weight("ih", width)?,
                hidden: weight("hh", hidden)?,
                biases: [bias("ih")?, bias("hh")?],
            })
        };
        let layers = (0..layers).map(|l| {
            let width = if l == 0 { inputs } else { ends.len() * hidden };
            ends.iter().map(|end| direction(l, width, end)).collect()
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            hidden,
        })
    }

    /// Numbers of a state: H, or 2·H of two directions.
    pub fn width(&self) -> usize {
        self.hidden * self.layers.first().map_or(0, Vec::len)
    }

    /// (B, T, inputs) → the last layer's hidden states of each step (B, T, H), or (B, T, 2·H)
    /// with those of the second direction behind.
    ///
    /// # Errors
    /// When x is of another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in &self.layers {
            let weights: Vec<LstmWeights<'_>> = layer
                .iter()
                .map(|of| LstmWeights {
                    input: &of.input,
                    hidden: &of.hidden,
                    biases: [&of.biases[0], &of.biases[1]],
                })
                .collect();
            x = ops::lstm(&x, &weights)?;
        }
        Ok(x)
    }

    /// What [`Self::forward`] gave (B, T, ·) → the state that each direction ends with,
    /// (B, H) or (B, 2·H): of the second that of the first step.
    ///
    /// # Errors
    /// When there are no steps.
    pub fn last(&self, states: &Tensor) -> Result<Tensor> {
        let steps = states.dim(1)?;
        if steps == 0 {
            candle_core::bail!("lstm: there are no steps");
        }
        let part = |step: usize, from: usize| {
            let row = states.narrow(1, step, 1)?.squeeze(1)?;
            row.narrow(1, from, self.hidden)
        };
        let ahead = part(steps - 1, 0)?;
        match self.width() > self.hidden {
            true => Tensor::cat(&[ahead, part(0, self.hidden)?], 1),
            false => ahead.contiguous(),
        }
    }
}
