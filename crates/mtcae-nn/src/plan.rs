//! Layers of inference over plain slices.
//!
//! A layer of a plan has its weights packed once, for one [`Format`] of the CPU,
//! and works in memory that it is given: a forward allocates nothing that grows
//! with its input. The layers of the crate's root remain the readable reference,
//! for training and for other devices; each makes its plan by `plan`.

use candle_core::{Result, Tensor};
use mtcae_kernels::attention::{Dims, Rows, forward_in};
use mtcae_kernels::buffer::Buffer;
pub use mtcae_kernels::buffer::{give_back, keep_freed};
pub use mtcae_kernels::format::{Factors, Format};
use mtcae_kernels::format::{Operand, OperandMut};
use mtcae_kernels::isa::Isa;
use mtcae_kernels::layer_norm;
pub use mtcae_kernels::linear::Packed;
use mtcae_kernels::linear::{Part, Target, linear};
use mtcae_kernels::matrix::{MatMut, MatRef};

use crate::Linear;
pub use crate::{Precision, Unsupported};

/// The fastest format of a precision that the process may use on this CPU.
///
/// # Errors
/// [`Unsupported`] for tf32, for bf16 where this CPU has no bf16 dot products or the
/// process may not use them, and as [`Isa::held`].
pub fn format(precision: Precision) -> std::result::Result<Format, Unsupported> {
    let factors = match precision {
        Precision::F32 => Factors::F32,
        Precision::Bf16 => Factors::Bf16,
        Precision::Tf32 => return Err(Unsupported::Tf32),
    };
    let held = Isa::held()?.name();
    Format::new(factors).ok_or_else(|| match Format::needs(factors) {
        Some(with) => Unsupported::Bf16Held {
            held,
            with: with.name(),
        },
        None => Unsupported::Bf16,
    })
}

/// The memory that forwards work in. It grows to what the largest of them needs
/// and is used again by the next.
#[derive(Debug, Default)]
pub struct Arena(Buffer);

impl Arena {
    /// Slices of these lengths, side by side, that hold whatever an earlier
    /// forward left there.
    pub fn split<const N: usize>(&mut self, lengths: [usize; N]) -> [&mut [f32]; N] {
        let lines = lengths.map(|n| n.next_multiple_of(16));
        let total = lines.iter().sum();
        if self.0.len() < total {
            // Given back first, so that both are never held at a time.
            self.0 = Buffer::default();
            self.0 = Buffer::zeroed(total);
        }
        let mut rest = &mut self.0[..];
        let mut i = 0;
        lines.map(|line| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(line);
            rest = later;
            i += 1;
            &mut now[..lengths[i - 1]]
        })
    }
}

/// What a block's halves work in, beside y itself.
pub struct Workspace<'a> {
    /// An operand of N rows of the widest input.
    pub operand: &'a mut [f32],
    /// Projections and attended values, or the hidden layer.
    pub wide: &'a mut [f32],
}

impl Workspace<'_> {
    /// Lengths of `operand` and `wide` for N = `tokens` rows: blocks of `width`
    /// channels, attention of `inner` whose rows of projections hold
    /// `projections` numbers, and `hidden` channels inside the MLP.
    pub fn lengths(
        format: Format,
        tokens: usize,
        width: usize,
        inner: usize,
        projections: usize,
        hidden: usize,
    ) -> [usize; 2] {
        let attention = tokens * (projections + inner);
        [
            format.operand_len(tokens, width.max(inner)),
            attention.max(format.operand_len(tokens, hidden)),
        ]
    }
}

/// The values of a tensor, in order.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor
        .to_dtype(candle_core::DType::F32)?
        .flatten_all()?
        .to_vec1()
}

/// Packs linear layers of the same input as one, whose outputs lie side by side.
///
/// # Errors
/// When their inputs differ.
pub fn pack(format: Format, layers: &[&Linear]) -> Result<Packed> {
    let tensors: Vec<_> = layers.iter().map(|l| (l.weight(), l.bias())).collect();
    pack_tensors(format, &tensors)
}

/// As [`pack`], from weights (out, in) and biases (out).
pub(crate) fn pack_tensors(
    format: Format,
    layers: &[(&Tensor, Option<&Tensor>)],
) -> Result<Packed> {
    let mut inputs = None;
    let mut owned = Vec::new();
    for (weight, bias) in layers {
        let (_, k) = weight.dims2()?;
        if *inputs.get_or_insert(k) != k {
            candle_core::bail!("linear layers of different inputs cannot be packed as one");
        }
        owned.push((values(weight)?, bias.map(values).transpose()?));
    }
    let parts: Vec<Part<'_>> = owned
        .iter()
        .map(|(weight, bias)| Part {
            weight,
            bias: bias.as_deref(),
        })
        .collect();
    let outputs = owned.iter().any(|(weight, _)| !weight.is_empty());
    match inputs {
        Some(inputs) if inputs > 0 && outputs => Ok(Packed::new(format, inputs, &parts)),
        _ => candle_core::bail!("a linear layer without inputs or outputs cannot be packed"),
    }
}

/// LayerNorm.
#[derive(Debug)]
pub struct Norm {
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Vec<f32>,
    pub(crate) eps: f32,
}

impl Norm {
    /// x (N, D) → (N, D).
    pub fn forward(&self, x: &[f32], out: &mut [f32]) {
        layer_norm::forward(x, &self.gamma, &self.beta, self.eps, out);
    }

    /// The mean (D) over the rows of LayerNorm(x), x (N, D).
    pub fn mean(&self, x: &[f32]) -> Vec<f32> {
        let width = self.gamma.len();
        let mut sums = vec![0.0f64; width];
        let mut normed = vec![0.0; width];
        for row in x.chunks_exact(width) {
            layer_norm::forward(row, &self.gamma, &self.beta, self.eps, &mut normed);
            add(&mut sums, &normed);
        }
        divided(sums, x.len() / width)
    }

    /// x, whose N rows of D begin `stride` elements apart, as an operand (N, D).
    pub fn operand(&self, x: &[f32], stride: usize, out: OperandMut<'_>) {
        layer_norm::forward_into(x, stride, &self.gamma, &self.beta, self.eps, out);
    }
}

/// The mean (D) over the rows of x (N, D).
pub fn mean(x: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; width];
    for row in x.chunks_exact(width) {
        add(&mut sums, row);
    }
    divided(sums, x.len() / width.max(1))
}

/// In f64, so that a sum over thousands of rows adds no error of its own.
fn add(sums: &mut [f64], row: &[f32]) {
    for (sum, &x) in sums.iter_mut().zip(row) {
        *sum += f64::from(x);
    }
}

fn divided(sums: Vec<f64>, rows: usize) -> Vec<f32> {
    let rows = rows.max(1) as f64;
    sums.into_iter().map(|sum| (sum / rows) as f32).collect()
}

/// x (N, D), whose rows begin `stride` elements apart, times a layer, into `out`
/// (N, outputs).
pub fn project(
    format: Format,
    x: &[f32],
    stride: usize,
    layer: &Packed,
    room: &mut [f32],
    out: &mut [f32],
) {
    let (inputs, outputs) = (layer.inputs(), layer.outputs());
    let rows = out.len() / outputs.max(1);
    let mut operand = OperandMut::new(format, rows, inputs, room);
    operand.pack(MatRef::new(x, rows, inputs, stride));
    let out = MatMut::new(out, rows, outputs, outputs);
    linear(operand.finish(), layer, Target::Store(out));
}

/// norm(x) times a layer, into `out` (N, outputs). Rows of x begin `stride`
/// elements apart.
pub fn project_normed(
    format: Format,
    x: &[f32],
    stride: usize,
    norm: &Norm,
    layer: &Packed,
    room: &mut [f32],
    out: &mut [f32],
) {
    let (inputs, outputs) = (layer.inputs(), layer.outputs());
    let rows = out.len() / outputs.max(1);
    let mut operand = OperandMut::new(format, rows, inputs, &mut *room);
    norm.operand(x, stride, operand.reborrow());
    let out = MatMut::new(out, rows, outputs, outputs);
    linear(operand.finish(), layer, Target::Store(out));
}

/// y (N, D) += x (N, inputs of the layer) times the layer.
fn add_projected(format: Format, x: &[f32], layer: &Packed, room: &mut [f32], y: &mut [f32]) {
    let (inputs, outputs) = (layer.inputs(), layer.outputs());
    let rows = y.len() / outputs.max(1);
    let mut operand = OperandMut::new(format, rows, inputs, room);
    operand.pack(MatRef::new(x, rows, inputs, inputs));
    let y = MatMut::new(y, rows, outputs, outputs);
    linear(operand.finish(), layer, Target::Add(y));
}

/// Attention of queries to keys and values, by the logits' usual scale 1/√d.
fn attend(format: Format, dims: Dims, [q, k, v]: [Rows<'_>; 3], out: &mut [f32]) {
    forward_in(format, dims, q, k, v, dims.scale(), out);
}

/// Self attention over one packed projection.
#[derive(Debug)]
pub struct SelfAttention {
    pub(crate) format: Format,
    pub(crate) qkv: Packed,
    pub(crate) proj: Packed,
    pub(crate) heads: usize,
}

impl SelfAttention {
    /// y (N, D) += attention(norm(y)).
    pub fn residual(&self, norm: &Norm, y: &mut [f32], room: &mut Workspace<'_>) {
        self.residual_within(1, norm, y, room);
    }

    /// As [`Self::residual`] of y (S·N, D), S = `sequences` of N tokens one after the
    /// other, each of which attends to itself alone.
    pub fn residual_within(
        &self,
        sequences: usize,
        norm: &Norm,
        y: &mut [f32],
        room: &mut Workspace<'_>,
    ) {
        let width = self.proj.outputs();
        let tokens = y.len() / width;
        let (qkv, attended) = room.wide.split_at_mut(tokens * 3 * width);
        let attended = &mut attended[..tokens * width];
        project_normed(self.format, y, width, norm, &self.qkv, room.operand, qkv);
        let dims = Dims {
            batch: sequences,
            heads: self.heads,
            queries: tokens / sequences,
            keys: tokens / sequences,
            head_dim: width / self.heads,
        };
        let qkv = [0, 1, 2].map(|i| Rows::columns(qkv, 3 * width, i * width));
        attend(self.format, dims, qkv, attended);
        add_projected(self.format, attended, &self.proj, room.operand, y);
    }
}

/// Cross attention whose keys and values are projected beforehand.
#[derive(Debug)]
pub struct CrossAttention {
    pub(crate) format: Format,
    pub(crate) q: Packed,
    pub(crate) proj: Packed,
    pub(crate) heads: usize,
}

impl CrossAttention {
    /// H·d, the width of queries, keys and values.
    pub fn inner(&self) -> usize {
        self.q.outputs()
    }

    /// y (N, w) += attention of norm(y) to the keys and values in `kv`, whose M
    /// rows of `stride` elements hold k and then v (H·d each) from `from` on.
    pub fn residual(
        &self,
        norm: &Norm,
        y: &mut [f32],
        kv: &[f32],
        stride: usize,
        from: usize,
        room: &mut Workspace<'_>,
    ) {
        let (width, inner) = (self.proj.outputs(), self.inner());
        let tokens = y.len() / width;
        let (q, attended) = room.wide.split_at_mut(tokens * inner);
        let attended = &mut attended[..tokens * inner];
        project_normed(self.format, y, width, norm, &self.q, room.operand, q);
        let dims = Dims {
            batch: 1,
            heads: self.heads,
            queries: tokens,
            keys: kv.len() / stride,
            head_dim: inner / self.heads,
        };
        let q = Rows::columns(q, inner, 0);
        let k = Rows::columns(kv, stride, from);
        let v = Rows::columns(kv, stride, from + inner);
        attend(self.format, dims, [q, k, v], attended);
        add_projected(self.format, attended, &self.proj, room.operand, y);
    }
}

/// The transformer's MLP.
#[derive(Debug)]
pub struct Mlp {
    pub(crate) format: Format,
    pub(crate) fc1: Packed,
    pub(crate) fc2: Packed,
}

impl Mlp {
    /// Channels of the hidden layer.
    pub fn hidden(&self) -> usize {
        self.fc1.outputs()
    }

    /// y (N, D) += fc2(gelu(fc1(norm(y)))).
    pub fn residual(&self, norm: &Norm, y: &mut [f32], room: &mut Workspace<'_>) {
        let (width, tokens) = (self.fc2.outputs(), y.len() / self.fc2.outputs());
        let hidden = self.hidden_of(norm, y, room);
        let y = MatMut::new(y, tokens, width, width);
        linear(hidden, &self.fc2, Target::Add(y));
    }

    /// fc2(gelu(fc1(norm(x)))) of x (N, inputs), into `out` (N, outputs).
    pub fn forward(&self, norm: &Norm, x: &[f32], room: &mut Workspace<'_>, out: &mut [f32]) {
        let (outputs, tokens) = (self.fc2.outputs(), x.len() / self.fc1.inputs());
        let hidden = self.hidden_of(norm, x, room);
        let out = MatMut::new(out, tokens, outputs, outputs);
        linear(hidden, &self.fc2, Target::Store(out));
    }

    /// gelu(fc1(norm(x))), as the second layer takes it.
    fn hidden_of<'a>(&self, norm: &Norm, x: &[f32], room: &'a mut Workspace<'_>) -> Operand<'a> {
        let (inputs, hidden) = (self.fc1.inputs(), self.hidden());
        let tokens = x.len() / inputs;
        let mut normed = OperandMut::new(self.format, tokens, inputs, &mut *room.operand);
        norm.operand(x, inputs, normed.reborrow());
        let mut wide = OperandMut::new(self.format, tokens, hidden, &mut *room.wide);
        linear(normed.finish(), &self.fc1, Target::Gelu(wide.reborrow()));
        wide.finish()
    }
}
