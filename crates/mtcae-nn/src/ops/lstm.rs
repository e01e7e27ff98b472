//! A layer of an LSTM over whole sequences, in one direction or two.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use candle_core::{Result, Shape, Tensor};
use candle_nn::ops::sigmoid;
use mtcae_kernels::lstm::{self, Dims, Direction};
use mtcae_kernels::matrix::{MatMut, MatRef};
use mtcae_kernels::product::{Initial, product};
use mtcae_kernels::rows::column_sums;
use mtcae_kernels::threads::{both, on_pool};

use super::backend::Fresh;
use super::cpu::{read, tensor};
use super::kernels;
use super::linear::linear;
use super::operation::{Each, Gradients, Operands, Operation, Saved, Slot, apply};
use crate::pass::Way;

/// The parameters of one direction, in PyTorch's order of the gates: i, f, g, o.
#[derive(Clone, Copy, Debug)]
pub struct LstmWeights<'a> {
    /// W_ih (4·H, inputs).
    pub input: &'a Tensor,
    /// W_hh (4·H, H).
    pub hidden: &'a Tensor,
    /// b_ih and b_hh (4·H).
    pub biases: [&'a Tensor; 2],
}

/// x (B, T, inputs) → the hidden states (B, T, directions·H) of each step, from states of
/// zeros: those of the first direction, from the first step to the last, then those of the
/// second, from the last to the first.
pub fn lstm(x: &Tensor, directions: &[LstmWeights<'_>]) -> Result<Tensor> {
    let (batch, steps, inputs) = x.dims3()?;
    if !(1..=2).contains(&directions.len()) {
        candle_core::bail!("lstm: {} directions; there are 1 or 2", directions.len());
    }
    let hidden = directions[0].hidden.dim(1)?;
    for of in directions {
        let biases = of.biases.map(Tensor::dims);
        if hidden == 0
            || inputs == 0
            || of.input.dims() != [4 * hidden, inputs]
            || of.hidden.dims() != [4 * hidden, hidden]
            || biases != [[4 * hidden]; 2]
        {
            candle_core::bail!(
                "lstm: x {:?}, W_ih {:?}, W_hh {:?} and biases {biases:?} do not fit one another",
                x.dims(),
                of.input.dims(),
                of.hidden.dims()
            );
        }
    }
    if !x.device().is_cpu() {
        return composed(x, directions);
    }
    let mut operands = Operands::default();
    let x = operands.activation(x.contiguous()?);
    let mut slots = Vec::with_capacity(directions.len());
    for of in directions {
        slots.push(Parameters {
            input: operands.parameter(of.input)?,
            hidden: operands.parameter(of.hidden)?,
            biases: [
                operands.parameter(of.biases[0])?,
                operands.parameter(of.biases[1])?,
            ],
        });
    }
    let dims = Dims {
        steps,
        batch,
        hidden,
    };
    let shape = Shape::from((batch, steps, directions.len() * hidden));
    let op = Lstm {
        dims,
        inputs,
        x,
        directions: slots,
        saved: Saved::default(),
    };
    apply(op, operands, &shape, &Way::default())
}

/// The same of Candle's operations, step by step.
fn composed(x: &Tensor, directions: &[LstmWeights<'_>]) -> Result<Tensor> {
    let (batch, steps, _) = x.dims3()?;
    let mut all = Vec::with_capacity(directions.len());
    for (of, direction) in directions.iter().zip(BOTH) {
        let width = of.hidden.dim(1)?;
        let products = linear(x, of.input, Some(of.biases[0]))?;
        let mut states: Vec<Tensor> = Vec::with_capacity(steps);
        let mut h = Tensor::zeros((batch, width), x.dtype(), x.device())?;
        let mut c = h.clone();
        for i in 0..steps {
            let step = match direction {
                Direction::Forward => i,
                Direction::Backward => steps - 1 - i,
            };
            let recurrent = linear(&h, of.hidden, Some(of.biases[1]))?;
            let gates = (products.narrow(1, step, 1)?.squeeze(1)? + recurrent)?;
            let gate = |k: usize| gates.narrow(1, k * width, width);
            let kept = (sigmoid(&gate(1)?)? * &c)?;
            c = (kept + (sigmoid(&gate(0)?)? * gate(2)?.tanh()?)?)?;
            h = (sigmoid(&gate(3)?)? * c.tanh()?)?;
            states.push(h.clone());
        }
        if direction == Direction::Backward {
            states.reverse();
        }
        all.push(Tensor::stack(&states, 1)?);
    }
    Tensor::cat(&all, 2)
}

const BOTH: [Direction; 2] = [Direction::Forward, Direction::Backward];

struct Parameters {
    input: Slot,
    hidden: Slot,
    biases: [Slot; 2],
}

struct Lstm {
    dims: Dims,
    inputs: usize,
    x: Slot,
    directions: Vec<Parameters>,
    saved: Saved<Vec<States>>,
}

/// What one direction has computed, as the kernel has it.
#[derive(Default)]
struct States {
    /// (T, B, 4·H).
    gates: Vec<f32>,
    /// (T, B, H) each.
    cells: Vec<f32>,
    hidden: Vec<f32>,
}

impl Lstm {
    /// All states, from x (T·B, inputs).
    fn states(&self, inputs: &Each<Tensor>, x: &[f32]) -> Result<Vec<States>> {
        let (d, rows) = (self.dims, self.dims.steps * self.dims.batch);
        let width = 4 * d.hidden;
        let run = |(of, direction): (&Parameters, Direction)| {
            let [a, b] = of.biases.map(|b| &inputs[b]);
            let weights = [&inputs[of.input], &inputs[of.hidden], a, b];
            read(self.name(), &weights, |v| {
                let bias: Vec<f32> = v[2].iter().zip(v[3]).map(|(a, b)| a + b).collect();
                let mut states = States {
                    gates: vec![0.0; d.gates()],
                    cells: vec![0.0; d.states()],
                    hidden: vec![0.0; d.states()],
                };
                product(
                    MatRef::new(x, rows, self.inputs, self.inputs),
                    MatRef::new(v[0], width, self.inputs, self.inputs).t(),
                    1.0,
                    Initial::Bias(&bias),
                    MatMut::new(&mut states.gates, rows, width, width),
                );
                let States {
                    gates,
                    cells,
                    hidden,
                } = &mut states;
                lstm::forward(d, direction, v[1], gates, cells, hidden);
                states
            })
        };
        self.each(run)
    }

    /// Both directions at once.
    fn each<R: Send>(
        &self,
        run: impl Fn((&Parameters, Direction)) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        on_pool(|| match &self.directions[..] {
            [first, second] => {
                let (a, b) = both(|| run((first, BOTH[0])), || run((second, BOTH[1])));
                Ok(vec![a?, b?])
            }
            all => all.iter().zip(BOTH).map(&run).collect(),
        })
    }

    /// Calls `f` with x as the kernel has its tensors, (T·B, inputs).
    fn in_time<R>(&self, inputs: &Each<Tensor>, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
        read(self.name(), &[&inputs[self.x]], |v| {
            f(&in_parts(self.dims, v[0], self.inputs))
        })
    }
}

/// Rows (B, T, D) as the kernel has them: part after part, each in the order of time.
fn in_parts(dims: Dims, x: &[f32], width: usize) -> Cow<'_, [f32]> {
    if dims.batch == 1 {
        return Cow::Borrowed(x);
    }
    let mut out = Vec::with_capacity(x.len());
    each_row(dims, |b, t| {
        out.extend_from_slice(&x[(b * dims.steps + t) * width..][..width]);
    });
    Cow::Owned(out)
}

/// The reverse of [`in_parts`].
fn in_samples(dims: Dims, x: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    let mut rows = x.chunks_exact(width);
    each_row(dims, |b, t| {
        if let Some(row) = rows.next() {
            out[(b * dims.steps + t) * width..][..width].copy_from_slice(row);
        }
    });
    out
}

/// Calls `each` with the sequence and the step of every row, as the kernel has them.
fn each_row(dims: Dims, mut each: impl FnMut(usize, usize)) {
    let mut first = 0;
    for part in dims.parts() {
        for t in 0..dims.steps {
            for b in first..first + part.batch {
                each(b, t);
            }
        }
        first += part.batch;
    }
}

impl Operation for Lstm {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn forward(&self, inputs: &Each<Tensor>, save: bool) -> Result<Fresh> {
        kernels::of(self.name(), &inputs[self.x])?;
        let (d, count) = (self.dims, self.directions.len());
        let states = self.in_time(inputs, |x| self.states(inputs, x))??;
        let (h, width) = (d.hidden, count * d.hidden);
        let mut out = vec![0.0; count * d.states()];
        let mut row = 0;
        each_row(d, |b, t| {
            let out = &mut out[(b * d.steps + t) * width..][..width];
            for (out, of) in out.chunks_exact_mut(h).zip(&states) {
                out.copy_from_slice(&of.hidden[row * h..(row + 1) * h]);
            }
            row += 1;
        });
        if save {
            self.saved.keep(states);
        }
        let shape = Shape::from((d.batch, d.steps, count * d.hidden));
        Ok(Fresh::on_cpu(out, &shape))
    }

    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        let gradients = self.in_time(inputs, |x| {
            read(self.name(), &[grad], |v| {
                let width = self.directions.len() * self.dims.hidden;
                let grad = in_parts(self.dims, v[0], width);
                self.gradients(inputs, x, &grad, grads.wants(self.x))
            })
        })???;
        let mut dx: Option<Vec<f32>> = None;
        for (of, found) in self.directions.iter().zip(gradients) {
            let shape = |slot: Slot| inputs[slot].shape();
            grads.set(of.input, tensor(found.input, shape(of.input))?);
            grads.set(of.hidden, tensor(found.hidden, shape(of.hidden))?);
            for bias in of.biases {
                grads.set(bias, tensor(found.bias.clone(), shape(bias))?);
            }
            dx = Some(match dx {
                None => found.x,
                Some(mut sum) => {
                    sum.iter_mut().zip(&found.x).for_each(|(a, b)| *a += b);
                    sum
                }
            });
        }
        if let Some(dx) = dx.filter(|_| grads.wants(self.x)) {
            let dx = in_samples(self.dims, &dx, self.inputs);
            grads.set(self.x, tensor(dx, inputs[self.x].shape())?);
        }
        Ok(())
    }
}

impl Lstm {
    /// The gradients of each direction, for that of its hidden states beside those of the
    /// others (T·B, directions·H).
    fn gradients(
        &self,
        inputs: &Each<Tensor>,
        x: &[f32],
        grad: &[f32],
        of_x: bool,
    ) -> Result<Vec<Found>> {
        let (d, count) = (self.dims, self.directions.len());
        let (rows, width) = (d.steps * d.batch, 4 * d.hidden);
        let states = self.saved.take_or(|| self.states(inputs, x))?;
        let states: Vec<_> = states.into_iter().map(Mutex::new).collect();
        let place = |direction| usize::from(direction == Direction::Backward);
        self.each(|(of, direction)| {
            let at = place(direction);
            let taken = states[at].lock();
            let mut states = taken.unwrap_or_else(PoisonError::into_inner);
            let States {
                gates,
                cells,
                hidden,
            } = std::mem::take(&mut *states);
            let mut gates = gates;
            let grad: Vec<f32> = grad
                .chunks_exact(count * d.hidden)
                .flat_map(|row| &row[at * d.hidden..(at + 1) * d.hidden])
                .copied()
                .collect();
            let weights = [&inputs[of.input], &inputs[of.hidden]];
            read(self.name(), &weights, |v| {
                lstm::backward(d, direction, v[1], &cells, &grad, &mut gates);
                let gates = &gates[..];
                let by_rows = MatRef::new(gates, rows, width, width);
                let mut found = Found {
                    input: vec![0.0; width * self.inputs],
                    hidden: vec![0.0; width * d.hidden],
                    bias: vec![0.0; width],
                    x: vec![0.0; if of_x { rows * self.inputs } else { 0 }],
                };
                product(
                    by_rows.t(),
                    MatRef::new(x, rows, self.inputs, self.inputs),
                    1.0,
                    Initial::Zero,
                    MatMut::new(&mut found.input, width, self.inputs, self.inputs),
                );
                column_sums(gates, width, 0, &mut found.bias);
                if of_x {
                    product(
                        by_rows,
                        MatRef::new(v[0], width, self.inputs, self.inputs),
                        1.0,
                        Initial::Zero,
                        MatMut::new(&mut found.x, rows, self.inputs, self.inputs),
                    );
                }
                // The states before each step: zeros before the first.
                let mut before = vec![0.0; hidden.len()];
                let mut first = 0;
                for part in d.parts() {
                    let (all, one) = (part.states(), part.batch * d.hidden);
                    let (from, to) = match direction {
                        Direction::Forward => (first, first + one),
                        Direction::Backward => (first + one, first),
                    };
                    let some = all - one;
                    before[to..to + some].copy_from_slice(&hidden[from..from + some]);
                    first += all;
                }
                product(
                    by_rows.t(),
                    MatRef::new(&before, rows, d.hidden, d.hidden),
                    1.0,
                    Initial::Zero,
                    MatMut::new(&mut found.hidden, width, d.hidden, d.hidden),
                );
                found
            })
        })
    }
}

/// The gradients of one direction; that of x as the kernel has it.
struct Found {
    input: Vec<f32>,
    hidden: Vec<f32>,
    bias: Vec<f32>,
    x: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParamStore;
    use candle_core::{Device, Var};

    #[test]
    fn both_ways_give_the_same() -> Result<()> {
        let (hidden, inputs) = (5, 7);
        let store = ParamStore::new(3);
        let vb = store.builder(&Device::Cpu);
        let init = candle_nn::Init::Uniform { lo: -0.9, up: 0.9 };
        let get = |name: &str, shape: &[usize]| vb.get_with_hints(shape, name, init);
        let mut owned = Vec::new();
        for d in 0..2 {
            owned.push([
                get(&format!("{d}.input"), &[4 * hidden, inputs])?,
                get(&format!("{d}.hidden"), &[4 * hidden, hidden])?,
                get(&format!("{d}.a"), &[4 * hidden])?,
                get(&format!("{d}.b"), &[4 * hidden])?,
            ]);
        }
        let weights: Vec<LstmWeights<'_>> = owned
            .iter()
            .map(|[input, hidden, a, b]| LstmWeights {
                input,
                hidden,
                biases: [a, b],
            })
            .collect();
        let x = Var::from_tensor(&get("x", &[9, 4, inputs])?.detach())?;
        let upstream = get("upstream", &[9, 4, 2 * hidden])?.detach();
        for directions in [&weights[..1], &weights[..]] {
            let upstream = upstream.narrow(2, 0, directions.len() * hidden)?;
            let (a, b) = (lstm(&x, directions)?, composed(&x, directions)?);
            let grads = [&a, &b].map(|out| (out * &upstream)?.sum_all()?.backward());
            let [ga, gb] = grads;
            let (ga, gb) = (ga?, gb?);
            let close = |a: &Tensor, b: &Tensor| -> Result<()> {
                let off = (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
                assert!(off < 1e-5, "{off}");
                Ok(())
            };
            close(&a, &b)?;
            close(ga.get(&x).expect("x"), gb.get(&x).expect("x"))?;
            for t in owned.iter().take(directions.len()).flatten() {
                close(
                    ga.get(t).expect("a parameter"),
                    gb.get(t).expect("a parameter"),
                )?;
            }
        }
        Ok(())
    }
}
