//! Convolution over volumes of pixels: grouped, strided and padded along time, height and
//! width, with what its backward needs. A convolution of pictures is one whose kernel is one
//! frame long.
//!
//! Pixels are stored channels last, (clip, t, h, w, channel), and weights as PyTorch has
//! them, (output, input of the group, kt, kh, kw). What a few output rows read is copied, with
//! zeros around it, into a window that the caches hold (`window.rs`); no row of the matrix that
//! the convolution stands for is ever written down.
//!
//! | kernel | computed by |
//! |---|---|
//! | 1×1×1 in one group | [`product`](crate::product) |
//! | all others | `taps.rs`, `tile.rs`: a tile of pixels times output channels stays in registers while the taps go by |
//! | gradient of the input | the same, on the gradient of the output, for each residue of the stride |
//! | gradient of the weights | `weights.rs`: a tile of inputs times output channels stays in registers while the pixels go by |
//!
//! Groups of fewer channels than the lanes are computed together, with zeros for the weights
//! between them.

pub mod pool;
mod taps;
mod tile;
mod weights;
mod window;

#[cfg(test)]
mod tests;

use rayon::prelude::*;

use self::taps::Taps;
pub use self::tile::Finish;
use crate::format::Format;
use crate::isa::Isa;
use crate::linear::{self, Part};
use crate::matrix::{MatMut, MatRef, size};
use crate::product::{Initial, product_with};

/// How a convolution reads its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Groups, which divide both channels.
    pub groups: usize,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Length of the kernel along (t, h, w).
    pub kernel: [usize; 3],
    /// Steps along (t, h, w).
    pub stride: [usize; 3],
    /// Zeros before the first and after the last place along (t, h, w).
    pub padding: [usize; 3],
}

impl Shape {
    /// What of this shape makes no convolution, in words.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), String> {
        let Self {
            groups,
            inputs,
            outputs,
            ..
        } = *self;
        if groups == 0 || inputs == 0 || outputs == 0 {
            return Err(format!(
                "{inputs} → {outputs} channels in {groups} groups: none may be 0"
            ));
        }
        if !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
            return Err(format!(
                "{inputs} → {outputs} channels are no {groups} equal groups"
            ));
        }
        if self.kernel.contains(&0) || self.stride.contains(&0) {
            let (kernel, stride) = (self.kernel, self.stride);
            return Err(format!(
                "kernel {kernel:?} and stride {stride:?}: no length may be 0"
            ));
        }
        match (0..3).all(|i| self.padding[i] < self.kernel[i]) {
            true => Ok(()),
            false => Err(format!(
                "padding {:?} should be less than the kernel {:?}",
                self.padding, self.kernel
            )),
        }
    }

    /// (t, h, w) of the output of volumes of (t, h, w); `None` where the kernel is larger
    /// than the padded volume.
    pub fn output(&self, input: [usize; 3]) -> Option<[usize; 3]> {
        let mut out = [0; 3];
        for i in 0..3 {
            let padded = input[i].checked_add(2 * self.padding[i])?;
            out[i] = padded.checked_sub(self.kernel[i])? / self.stride[i] + 1;
        }
        Some(out)
    }

    /// Numbers of the weights.
    pub fn weights(&self) -> usize {
        let [kt, kh, kw] = self.kernel;
        size([self.outputs, self.inputs / self.groups, kt, kh, kw])
    }

    /// Whether it is a product of matrices.
    fn is_product(&self) -> bool {
        self.kernel == [1; 3] && self.groups == 1
    }

    /// Makes sure that the lengths are those of `clips` volumes of `input`, and gives the
    /// output's (t, h, w).
    fn checked(&self, clips: usize, input: [usize; 3], x: usize, out: usize) -> [usize; 3] {
        if let Err(reason) = self.check() {
            panic!("convolution: {reason}");
        }
        let output = self.output(input);
        let Some(output) = output.filter(|_| clips > 0 && !input.contains(&0)) else {
            panic!("convolution: {clips} volumes of {input:?} for {self:?}");
        };
        let numbers = |[t, h, w]: [usize; 3], channels| size([clips, t, h, w, channels]);
        assert_eq!(x, numbers(input, self.inputs), "convolution: input");
        assert_eq!(out, numbers(output, self.outputs), "convolution: output");
        output
    }
}

/// A convolution whose weights are packed once.
#[derive(Debug)]
pub struct Packed {
    shape: Shape,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Product(linear::Packed),
    Taps(Taps),
}

impl Packed {
    /// Packs `weight` and `bias` (outputs), for outputs of about `width` pixels a row.
    ///
    /// # Panics
    /// When the lengths disagree with `shape`, or [`Shape::check`] finds a fault.
    pub fn new(format: Format, shape: Shape, width: usize, weight: &[f32], bias: &[f32]) -> Self {
        if let Err(reason) = shape.check() {
            panic!("convolution: {reason}");
        }
        assert_eq!(weight.len(), shape.weights(), "convolution: weight");
        assert_eq!(bias.len(), shape.outputs, "convolution: bias");
        let way = match shape.is_product() {
            true => {
                let bias = Some(bias);
                Way::Product(linear::Packed::new(
                    format,
                    shape.inputs,
                    &[Part { weight, bias }],
                ))
            }
            false => Way::Taps(Taps::forward(Isa::best(), &shape, width, weight, bias)),
        };
        Self { shape, way }
    }

    /// The shape it was made with.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Numbers that [`Self::run`] works in.
    pub fn room(&self, input: [usize; 3]) -> usize {
        match (&self.way, self.shape.output(input)) {
            (Way::Product(_), Some([t, h, w])) if self.shape.stride != [1; 3] => {
                size([t, h, w, self.shape.inputs])
            }
            _ => 0,
        }
    }

    /// One volume x (t, h, w, inputs) → `out` (t′, h′, w′, outputs), which the convolution is
    /// stored to, or added to, as `finish` says. `room` has [`Self::room`] numbers.
    ///
    /// # Panics
    /// When the lengths disagree.
    pub fn run(
        &self,
        input: [usize; 3],
        x: &[f32],
        finish: Finish,
        room: &mut [f32],
        out: &mut [f32],
    ) {
        let output = self.shape.checked(1, input, x.len(), out.len());
        match &self.way {
            Way::Taps(taps) => taps.run(1, input, output, x, finish, out),
            Way::Product(packed) => {
                let x = match self.shape.stride == [1; 3] {
                    true => x,
                    false => {
                        let room = &mut room[..self.room(input)];
                        gather(&self.shape, input, output, x, room);
                        room
                    }
                };
                let (inputs, outputs) = (self.shape.inputs, self.shape.outputs);
                let rows = out.len() / outputs;
                let x = MatRef::new(x, rows, inputs, inputs);
                let out = MatMut::new(out, rows, outputs, outputs);
                linear::rows(x, packed, finish.add, finish.relu, out);
            }
        }
    }
}

/// x (clips, t, h, w, inputs) → (clips, t′, h′, w′, outputs).
///
/// # Panics
/// When the lengths disagree or [`Shape::check`] finds a fault.
pub fn forward(
    isa: Isa,
    shape: &Shape,
    clips: usize,
    input: [usize; 3],
    x: &[f32],
    weight: &[f32],
    out: &mut [f32],
) {
    let output = shape.checked(clips, input, x.len(), out.len());
    assert_eq!(weight.len(), shape.weights(), "convolution: weight");
    if !shape.is_product() {
        let taps = Taps::forward(isa, shape, output[2], weight, &[]);
        taps.run(clips, input, output, x, Finish::default(), out);
        return;
    }
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    let rows = out.len() / outputs;
    strided(shape, clips, input, output, x, |x| {
        product_with(
            isa,
            MatRef::new(x, rows, inputs, inputs),
            MatRef::new(weight, outputs, inputs, inputs).t(),
            1.0,
            Initial::Zero,
            MatMut::new(out, rows, outputs, outputs),
        );
    });
}

/// The gradient of x, from `grad` (clips, t′, h′, w′, outputs).
///
/// # Panics
/// As [`forward`].
pub fn input_gradient(
    isa: Isa,
    shape: &Shape,
    clips: usize,
    input: [usize; 3],
    grad: &[f32],
    weight: &[f32],
    out: &mut [f32],
) {
    let output = shape.checked(clips, input, out.len(), grad.len());
    assert_eq!(weight.len(), shape.weights(), "convolution: weight");
    if !shape.is_product() {
        let taps = Taps::backward(isa, shape, input[2], weight);
        taps.run(clips, output, input, grad, Finish::default(), out);
        return;
    }
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    let rows = grad.len() / outputs;
    let multiply = |out: &mut [f32]| {
        product_with(
            isa,
            MatRef::new(grad, rows, outputs, outputs),
            MatRef::new(weight, outputs, inputs, inputs),
            1.0,
            Initial::Zero,
            MatMut::new(out, rows, inputs, inputs),
        );
    };
    if shape.stride == [1; 3] {
        return multiply(out);
    }
    let mut few = vec![0.0; size([rows, inputs])];
    multiply(&mut few);
    scatter(shape, input, output, &few, out);
}

/// The gradient of the weights.
///
/// # Panics
/// As [`forward`].
pub fn weight_gradient(
    isa: Isa,
    shape: &Shape,
    clips: usize,
    input: [usize; 3],
    x: &[f32],
    grad: &[f32],
    out: &mut [f32],
) {
    let output = shape.checked(clips, input, x.len(), grad.len());
    assert_eq!(out.len(), shape.weights(), "convolution: weight");
    if !shape.is_product() {
        weights::gradient(isa, shape, clips, [input, output], x, grad, out);
        return;
    }
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    let rows = grad.len() / outputs;
    strided(shape, clips, input, output, x, |x| {
        product_with(
            isa,
            MatRef::new(grad, rows, outputs, outputs).t(),
            MatRef::new(x, rows, inputs, inputs),
            1.0,
            Initial::Zero,
            MatMut::new(out, outputs, inputs, inputs),
        );
    });
}

/// Calls `f` with the pixels of x that a kernel of one pixel meets.
fn strided(
    shape: &Shape,
    clips: usize,
    input: [usize; 3],
    output: [usize; 3],
    x: &[f32],
    f: impl FnOnce(&[f32]),
) {
    if shape.stride == [1; 3] {
        return f(x);
    }
    let [t, h, w] = output;
    let mut few = vec![0.0; size([clips, t, h, w, shape.inputs])];
    gather(shape, input, output, x, &mut few);
    f(&few);
}

/// A row of pixels of the output, and where its pixels lie in the input: from which row on,
/// both counted over all volumes.
fn source_row(shape: &Shape, input: [usize; 3], output: [usize; 3], row: usize) -> usize {
    let (plane, y) = (row / output[1], row % output[1]);
    let (clip, t) = (plane / output[0], plane % output[0]);
    (clip * input[0] + t * shape.stride[0]) * input[1] + y * shape.stride[1]
}

/// The pixels that a kernel of one pixel meets.
fn gather(shape: &Shape, input: [usize; 3], output: [usize; 3], x: &[f32], few: &mut [f32]) {
    let c = shape.inputs;
    let (line, to) = (input[2] * c, output[2] * c);
    few.par_chunks_mut(to).enumerate().for_each(|(row, out)| {
        let from = &x[source_row(shape, input, output, row) * line..][..line];
        let pixels = from.chunks_exact(c).step_by(shape.stride[2]);
        for (out, pixel) in out.chunks_exact_mut(c).zip(pixels) {
            out.copy_from_slice(pixel);
        }
    });
}

/// The reverse of [`gather`]: zeros for pixels that no kernel meets.
fn scatter(shape: &Shape, input: [usize; 3], output: [usize; 3], few: &[f32], out: &mut [f32]) {
    let c = shape.inputs;
    let (line, from) = (input[2] * c, output[2] * c);
    let [st, sh, sw] = shape.stride;
    out.par_chunks_mut(line).enumerate().for_each(|(row, out)| {
        out.fill(0.0);
        let (plane, y) = (row / input[1], row % input[1]);
        let (clip, t) = (plane / input[0], plane % input[0]);
        if !t.is_multiple_of(st) || !y.is_multiple_of(sh) {
            return;
        }
        let (t, y) = (t / st, y / sh);
        if t >= output[0] || y >= output[1] {
            return;
        }
        let row = (clip * output[0] + t) * output[1] + y;
        let pixels = few[row * from..][..from].chunks_exact(c);
        for (out, pixel) in out.chunks_exact_mut(c).step_by(sw).zip(pixels) {
            out.copy_from_slice(pixel);
        }
    });
}

/// The definition, in f64.
#[doc(hidden)]
pub mod reference {
    use super::Shape;

    /// Calls `f` with the indices of every product: of x, of the weights, of the output.
    fn each(
        shape: &Shape,
        clips: usize,
        input: [usize; 3],
        mut f: impl FnMut(usize, usize, usize),
    ) {
        let output = shape.output(input).unwrap_or_default();
        let (c, k) = (shape.inputs / shape.groups, shape.outputs / shape.groups);
        let [kt, kh, kw] = shape.kernel;
        let places = |n: [usize; 3]| {
            (0..n[0])
                .flat_map(move |t| (0..n[1]).flat_map(move |h| (0..n[2]).map(move |w| [t, h, w])))
        };
        for clip in 0..clips {
            for to in places(output) {
                let flat = |n: [usize; 3], at: [usize; 3]| {
                    ((clip * n[0] + at[0]) * n[1] + at[1]) * n[2] + at[2]
                };
                for tap in places([kt, kh, kw]) {
                    let at = [0, 1, 2]
                        .map(|i| (to[i] * shape.stride[i] + tap[i]).wrapping_sub(shape.padding[i]));
                    if (0..3).any(|i| at[i] >= input[i]) {
                        continue;
                    }
                    for o in 0..shape.outputs {
                        for i in 0..c {
                            f(
                                flat(input, at) * shape.inputs + o / k * c + i,
                                (((o * c + i) * kt + tap[0]) * kh + tap[1]) * kw + tap[2],
                                flat(output, to) * shape.outputs + o,
                            );
                        }
                    }
                }
            }
        }
    }

    /// As [`super::forward`].
    pub fn forward(
        shape: &Shape,
        clips: usize,
        input: [usize; 3],
        x: &[f64],
        weight: &[f64],
        out: &mut [f64],
    ) {
        each(shape, clips, input, |i, w, o| out[o] += x[i] * weight[w]);
    }

    /// As [`super::input_gradient`].
    pub fn input_gradient(
        shape: &Shape,
        clips: usize,
        input: [usize; 3],
        grad: &[f64],
        weight: &[f64],
        out: &mut [f64],
    ) {
        each(shape, clips, input, |i, w, o| out[i] += grad[o] * weight[w]);
    }

    /// As [`super::weight_gradient`].
    pub fn weight_gradient(
        shape: &Shape,
        clips: usize,
        input: [usize; 3],
        x: &[f64],
        grad: &[f64],
        out: &mut [f64],
    ) {
        each(shape, clips, input, |i, w, o| out[w] += x[i] * grad[o]);
    }
}
