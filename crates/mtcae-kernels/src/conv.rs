//! Convolution with few channels, without padding, stride 1, fused with bias
//! and PReLU (He et al., 2015, arXiv 1502.01852), one or two output rows at a time.
//!
//! Pixels are stored channels last, each output pixel in a multiple of sixteen
//! floats, so that output channels are the vector's lanes and neither im2col nor
//! a transpose is needed: a block of pixels times all output channels stays in
//! registers while the taps go by. Every output is summed in one order, bias
//! first, then (ky, kx, channel), whatever the block it falls into, so results
//! do not depend on how an image is cut into rows, tiles or batches.
//!
//! A fully connected layer is the same with a 1×1 kernel and one pixel a sample.

use crate::isa::Isa;
use crate::lanes::{Lanes, vectorise};
use crate::matrix::size;

/// How a convolution reads its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Kernel height.
    pub height: usize,
    /// Kernel width.
    pub width: usize,
    /// Input channels.
    pub inputs: usize,
    /// Floats from one input pixel to the next, at least `inputs`.
    pub input_stride: usize,
    /// Output channels.
    pub outputs: usize,
}

impl Shape {
    /// Products that make one output; more than any slice holds where that is no
    /// number, as all sizes here.
    pub fn taps(self) -> usize {
        size([self.height, self.width, self.inputs])
    }

    /// Floats from one output pixel to the next: the outputs rounded up to a
    /// multiple of sixteen.
    pub fn output_stride(self) -> usize {
        self.outputs
            .checked_next_multiple_of(16)
            .unwrap_or(usize::MAX)
    }

    /// (images, h', w', output_stride) of `images` planes of `height` × `width`; none
    /// where the kernel is larger than they.
    pub fn output(self, images: usize, height: usize, width: usize) -> [usize; 4] {
        let places = |all: usize, kernel: usize| {
            let more = all.checked_sub(kernel);
            more.map_or(0, |more| more.saturating_add(1))
        };
        [
            images,
            places(height, self.height),
            places(width, self.width),
            self.output_stride(),
        ]
    }
}

/// A convolution's parameters, packed for one instruction set.
pub struct Conv {
    isa: Isa,
    shape: Shape,
    /// Vectors of sixteen channels that one block computes.
    vectors: usize,
    /// (block, ky, kx, input, vector).
    weights: Vec<[f32; 16]>,
    bias: Vec<[f32; 16]>,
    /// PReLU's slope per channel; 1 where there is no PReLU.
    slope: Vec<[f32; 16]>,
}

impl Conv {
    /// Packs `weight` (outputs, inputs, height, width), `bias` (outputs) and, if
    /// PReLU follows, `slope` (outputs).
    ///
    /// # Panics
    /// When the lengths disagree with `shape` or a dimension is 0.
    pub fn new(shape: Shape, weight: &[f32], bias: &[f32], slope: Option<&[f32]>) -> Self {
        Self::with(Isa::best(), shape, weight, bias, slope)
    }

    /// [`new`](Self::new) for a given instruction set.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with(
        isa: Isa,
        shape: Shape,
        weight: &[f32],
        bias: &[f32],
        slope: Option<&[f32]>,
    ) -> Self {
        let Shape {
            height,
            width,
            inputs,
            input_stride,
            outputs,
        } = shape;
        let taps = shape.taps();
        assert!(taps > 0 && outputs > 0, "conv: an empty dimension");
        assert!(
            input_stride >= inputs,
            "conv: {inputs} inputs do not fit a stride of {input_stride}"
        );
        assert_eq!(weight.len(), size([outputs, taps]), "conv: weight");
        assert_eq!(bias.len(), outputs, "conv: bias");
        assert!(slope.is_none_or(|s| s.len() == outputs), "conv: slope");
        let groups = outputs.div_ceil(16);
        let vectors = vectors(isa, input_stride, groups);
        let lanes = |of: &dyn Fn(usize) -> f32| -> Vec<[f32; 16]> {
            (0..groups)
                .map(|g| {
                    std::array::from_fn(|l| match g * 16 + l {
                        o if o < outputs => of(o),
                        _ => 0.0,
                    })
                })
                .collect()
        };
        let mut packed = Vec::with_capacity(taps * groups);
        for block in (0..groups).step_by(vectors) {
            for tap in 0..taps {
                let (kernel, input) = (tap / inputs, tap % inputs);
                for group in block..block + vectors {
                    packed.push(std::array::from_fn(|l| match group * 16 + l {
                        o if o < outputs => weight[(o * inputs + input) * height * width + kernel],
                        _ => 0.0,
                    }));
                }
            }
        }
        Self {
            isa,
            shape,
            vectors,
            weights: packed,
            bias: lanes(&|o| bias[o]),
            slope: lanes(&|o| slope.map_or(1.0, |s| s[o])),
        }
    }

    /// The shape it was made with.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The instruction set that it was packed for.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// [`Shape::output_stride`]. The channels above the outputs are 0.
    pub fn output_stride(&self) -> usize {
        self.bias.len() * 16
    }

    /// The parameters as GPUs take them, (taps + 2, output_stride): the weights of all
    /// channels by (ky, kx, input), then the bias, then PReLU's slopes.
    pub fn columns(&self) -> Vec<f32> {
        let (stride, block) = (self.output_stride(), self.vectors * 16);
        let taps = self.shape.taps();
        let mut columns = vec![0.0; (taps + 2) * stride];
        for (i, lanes) in self.weights.iter().enumerate() {
            let (row, vector) = (i / self.vectors, i % self.vectors);
            let at = row % taps * stride + row / taps * block + vector * 16;
            columns[at..at + 16].copy_from_slice(lanes);
        }
        let (bias, slope) = columns[taps * stride..].split_at_mut(stride);
        bias.copy_from_slice(self.bias.as_flattened());
        slope.copy_from_slice(self.slope.as_flattened());
        columns
    }

    /// The convolution whose [`columns`](Self::columns) these are.
    ///
    /// # Panics
    /// When the length disagrees with `shape` or a dimension is 0.
    pub fn from_columns(shape: Shape, columns: &[f32]) -> Self {
        let (stride, taps) = (shape.output_stride(), shape.taps());
        let rows = taps.saturating_add(2);
        assert_eq!(columns.len(), size([rows, stride]), "conv: columns");
        let kernel = shape.height * shape.width;
        let weight: Vec<f32> = (0..shape.outputs * taps)
            .map(|i| {
                let (o, input, k) = (i / taps, i % taps / kernel, i % kernel);
                columns[(k * shape.inputs + input) * stride + o]
            })
            .collect();
        let (bias, slope) = columns[taps * stride..].split_at(stride);
        let n = shape.outputs;
        Self::new(shape, &weight, &bias[..n], Some(&slope[..n]))
    }

    /// One output row of `out.len() / output_stride()` pixels from `height`
    /// input rows, on the calling thread.
    ///
    /// # Panics
    /// When there are not `height` rows, a row is too short for the pixels, or
    /// `out` is no whole number of them.
    pub fn row(&self, rows: &[&[f32]], out: &mut [f32]) {
        let Shape {
            height,
            width,
            inputs,
            input_stride,
            ..
        } = self.shape;
        let stride = self.output_stride();
        assert_eq!(rows.len(), height, "conv: input rows");
        assert_eq!(out.len() % stride, 0, "conv: no whole output pixels");
        let pixels = out.len() / stride;
        if pixels == 0 {
            return;
        }
        let needed = size([pixels + width - 2, input_stride]).saturating_add(inputs);
        assert!(
            rows.iter().all(|r| r.len() >= needed),
            "conv: {pixels} pixels need input rows of {needed} floats"
        );
        let conv = self;
        vectorise!(self.isa, lines(conv: &Conv, rows: &[&[f32]], out: &mut [f32]));
    }

    /// A whole plane: input (h, w, input_stride), output
    /// (h − height + 1, w − width + 1, output_stride), on the calling thread.
    ///
    /// # Panics
    /// When the lengths disagree or the kernel is larger than the input.
    pub fn plane(&self, input: &[f32], w: usize, out: &mut [f32]) {
        let line = size([w, self.shape.input_stride]);
        assert!(
            line > 0 && input.len().is_multiple_of(line),
            "conv: no whole input rows"
        );
        let h = input.len() / line;
        assert!(
            h >= self.shape.height && w >= self.shape.width,
            "conv: the kernel is larger than the input"
        );
        let out_line = (w - self.shape.width + 1) * self.output_stride();
        assert_eq!(
            out.len(),
            (h - self.shape.height + 1) * out_line,
            "conv: output"
        );
        let input: Vec<&[f32]> = input.chunks_exact(line).collect();
        let conv = self;
        for (y, out) in out.chunks_mut(2 * out_line).enumerate() {
            let rows = &input[2 * y..][..self.shape.height - 1 + out.len() / out_line];
            vectorise!(self.isa, lines(conv: &Conv, rows: &[&[f32]], out: &mut [f32]));
        }
    }
}

/// Vectors a block for which [`lines`] has a kernel.
fn vectors(isa: Isa, stride: usize, groups: usize) -> usize {
    if !isa.has_avx512() {
        return 1; // the registers hold no more
    }
    let wide = match stride {
        3 | 16 => 2,
        32 if groups == 3 => 3,
        32 | 48 | 64 | 576 | 1152 => 4,
        _ => 1,
    };
    if groups.is_multiple_of(wide) { wide } else { 1 }
}

/// One or two output rows, as many as input rows suffice for.
#[inline(always)]
fn lines<L: Lanes>(simd: L, conv: &Conv, rows: &[&[f32]], out: &mut [f32]) {
    // `const`, here and below: what is never reached is not compiled either.
    if const { L::ACCUMULATORS >= 24 } {
        match (conv.shape.input_stride, conv.vectors) {
            (3, 1) => blocks::<L, 3, 1>(simd, conv, rows, out),
            (3, 2) => blocks::<L, 3, 2>(simd, conv, rows, out),
            (16, 1) => blocks::<L, 16, 1>(simd, conv, rows, out),
            (16, 2) => blocks::<L, 16, 2>(simd, conv, rows, out),
            (32, 1) => blocks::<L, 32, 1>(simd, conv, rows, out),
            (32, 3) => blocks::<L, 32, 3>(simd, conv, rows, out),
            (32, 4) => blocks::<L, 32, 4>(simd, conv, rows, out),
            (48, 4) => blocks::<L, 48, 4>(simd, conv, rows, out),
            (64, 4) => blocks::<L, 64, 4>(simd, conv, rows, out),
            (576, 4) => blocks::<L, 576, 4>(simd, conv, rows, out),
            (1152, 4) => blocks::<L, 1152, 4>(simd, conv, rows, out),
            _ => blocks::<L, 0, 1>(simd, conv, rows, out),
        }
    } else {
        match conv.shape.input_stride {
            3 => blocks::<L, 3, 1>(simd, conv, rows, out),
            16 => blocks::<L, 16, 1>(simd, conv, rows, out),
            32 => blocks::<L, 32, 1>(simd, conv, rows, out),
            48 => blocks::<L, 48, 1>(simd, conv, rows, out),
            64 => blocks::<L, 64, 1>(simd, conv, rows, out),
            _ => blocks::<L, 0, 1>(simd, conv, rows, out),
        }
    }
}

/// Two rows together where that fills the registers with fewer blocks, which is where
/// rows are short. `S` is the input stride, 0 for one known only at run time.
#[inline(always)]
fn blocks<L: Lanes, const S: usize, const V: usize>(
    simd: L,
    conv: &Conv,
    rows: &[&[f32]],
    out: &mut [f32],
) {
    let lines = rows.len() + 1 - conv.shape.height;
    let line = out.len() / lines;
    let pixels = line / conv.output_stride();
    let most = (L::ACCUMULATORS / V).min(12);
    let (alone, together) = (pixels.div_ceil(most), pixels.div_ceil((most / 2).max(1)));
    if lines == 2 && together < 2 * alone {
        row_blocks::<L, S, V, 2>(simd, conv, rows, out, together);
    } else {
        for (r, out) in out.chunks_exact_mut(line).enumerate() {
            let rows = &rows[r..r + conv.shape.height];
            row_blocks::<L, S, V, 1>(simd, conv, rows, out, alone);
        }
    }
}

/// Cuts `R` rows into `count` blocks of pixels of nearly equal size.
#[inline(always)]
fn row_blocks<L: Lanes, const S: usize, const V: usize, const R: usize>(
    simd: L,
    conv: &Conv,
    rows: &[&[f32]],
    out: &mut [f32],
    count: usize,
) {
    let stride = conv.output_stride();
    let pixels = out.len() / stride / R;
    let taps = conv.weights.len() / conv.bias.len();
    for block in 0..conv.bias.len() / V {
        let weights = &conv.weights[block * taps * V..(block + 1) * taps * V];
        let mut x = 0;
        for i in 0..count {
            let end = pixels * (i + 1) / count;
            let out = &mut out[x * stride + block * V * 16..];
            macro_rules! sizes {
                ($($p:literal)*) => {
                    match end - x {
                        $($p if const { $p == 1 || R * $p * V <= L::ACCUMULATORS } => {
                            pixel_block::<L, S, V, R, $p>(simd, conv, block, weights, rows, x, out, pixels);
                        })*
                        _ => {}
                    }
                };
            }
            sizes!(1 2 3 4 5 6 7 8 9 10 11 12);
            x = end;
        }
    }
}

/// `R` rows of `P` pixels from `x`, of `pixels` in all, times `V` vectors of channels.
#[expect(clippy::too_many_arguments)]
#[inline(always)]
fn pixel_block<L: Lanes, const S: usize, const V: usize, const R: usize, const P: usize>(
    simd: L,
    conv: &Conv,
    block: usize,
    weights: &[[f32; 16]],
    rows: &[&[f32]],
    x: usize,
    out: &mut [f32],
    pixels: usize,
) {
    let Shape {
        height,
        width,
        inputs,
        ..
    } = conv.shape;
    let s = if S == 0 { conv.shape.input_stride } else { S };
    let bias = &conv.bias[block * V..(block + 1) * V];
    let mut sums = [[[simd.splat(0.0); V]; P]; R];
    for sums in sums.as_flattened_mut() {
        for v in 0..V {
            sums[v] = simd.load(&bias[v]);
        }
    }
    // Pixels without a gap between them: one run of taps a row.
    let (runs, run) = if s == inputs {
        (1, width * inputs)
    } else {
        (width, inputs)
    };
    let mut weights = weights;
    for ky in 0..height {
        for kx in 0..runs {
            let (now, rest) = weights.split_at(run * V);
            weights = rest;
            let start = (x + kx) * s;
            let mut taps = [&rows[ky][..0]; R];
            for r in 0..R {
                taps[r] = &rows[ky + r][start..start + run + (P - 1) * s];
            }
            for (i, weight) in now.chunks_exact(V).enumerate() {
                // No closure here: it would not take on the instruction set.
                let mut w = [simd.splat(0.0); V];
                for v in 0..V {
                    w[v] = simd.load(&weight[v]);
                }
                for r in 0..R {
                    let tap = &taps[r][i..i + (P - 1) * s + 1];
                    for p in 0..P {
                        let a = simd.splat(tap[p * s]);
                        for v in 0..V {
                            sums[r][p][v] = simd.mul_add(a, w[v], sums[r][p][v]);
                        }
                    }
                }
            }
        }
    }
    let slope = &conv.slope[block * V..(block + 1) * V];
    let stride = conv.output_stride();
    let zero = simd.splat(0.0);
    for (r, sums) in sums.iter().enumerate() {
        for (p, sums) in sums.iter().enumerate() {
            let at = (r * pixels + p) * stride;
            let (pixel, _) = out[at..at + V * 16].as_chunks_mut::<16>();
            for v in 0..V {
                let slope = simd.load(&slope[v]);
                let y = simd.mul_add(slope, simd.min(zero, sums[v]), simd.max(zero, sums[v]));
                simd.store(y, &mut pixel[v]);
            }
        }
    }
}

/// The definition, in f64.
pub mod reference {
    use super::Shape;

    /// Input (h, w, input_stride) → output (h', w', outputs), without padding
    /// channels; `weight` (outputs, inputs, height, width).
    pub fn plane(
        shape: Shape,
        weight: &[f64],
        bias: &[f64],
        slope: Option<&[f64]>,
        input: &[f64],
        w: usize,
    ) -> Vec<f64> {
        let h = input.len() / (w * shape.input_stride);
        let mut out = Vec::new();
        for y in 0..=h - shape.height {
            for x in 0..=w - shape.width {
                for o in 0..shape.outputs {
                    let mut sum = bias[o];
                    for i in 0..shape.inputs {
                        for ky in 0..shape.height {
                            for kx in 0..shape.width {
                                sum += weight[((o * shape.inputs + i) * shape.height + ky)
                                    * shape.width
                                    + kx]
                                    * input[((y + ky) * w + x + kx) * shape.input_stride + i];
                            }
                        }
                    }
                    out.push(match slope {
                        Some(slope) if sum < 0.0 => sum * slope[o],
                        _ => sum,
                    });
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, randn, widen};

    fn shape(height: usize, width: usize, inputs: usize, stride: usize, outputs: usize) -> Shape {
        Shape {
            height,
            width,
            inputs,
            input_stride: stride,
            outputs,
        }
    }

    /// Every stride and block width that has a kernel of its own, and others.
    #[test]
    fn equals_the_definition() {
        let cases = [
            (shape(3, 3, 3, 3, 10), 11, 7),
            (shape(3, 3, 3, 3, 28), 24, 5),
            (shape(3, 3, 10, 16, 16), 31, 4),
            (shape(3, 3, 16, 16, 32), 30, 3),
            (shape(1, 1, 32, 32, 6), 13, 2),
            (shape(3, 3, 28, 32, 48), 11, 4),
            (shape(3, 3, 32, 32, 64), 23, 3),
            (shape(2, 2, 48, 48, 64), 4, 4),
            (shape(3, 3, 64, 64, 64), 10, 3),
            (shape(2, 2, 64, 64, 128), 4, 3),
            (shape(1, 1, 576, 576, 128), 7, 1),
            (shape(1, 1, 1152, 1152, 256), 13, 1),
            (shape(1, 1, 256, 256, 16), 5, 1),
            (shape(5, 2, 7, 9, 33), 17, 6),
            (shape(1, 3, 1, 1, 1), 3, 1),
        ];
        for (seed, (shape, w, h)) in cases.into_iter().enumerate() {
            let taps = shape.height * shape.width * shape.inputs;
            let seed = seed as u64 * 10;
            let weight = randn(shape.outputs * taps, seed);
            let (bias, slope) = (
                randn(shape.outputs, seed + 1),
                randn(shape.outputs, seed + 2),
            );
            let input = randn(h * w * shape.input_stride, seed + 3);
            for slope in [None, Some(&slope[..])] {
                let want = reference::plane(
                    shape,
                    &widen(&weight),
                    &widen(&bias),
                    slope.map(widen).as_deref(),
                    &widen(&input),
                    w,
                );
                for isa in Isa::available() {
                    let conv = Conv::with(isa, shape, &weight, &bias, slope);
                    let columns = conv.columns();
                    assert_eq!(Conv::from_columns(shape, &columns).columns(), columns);
                    let stride = conv.output_stride();
                    let pixels = (h - shape.height + 1) * (w - shape.width + 1);
                    let mut out = vec![f32::NAN; pixels * stride];
                    conv.plane(&input, w, &mut out);
                    let got: Vec<f32> = out
                        .chunks_exact(stride)
                        .flat_map(|p| {
                            assert!(p[shape.outputs..].iter().all(|&v| v == 0.0));
                            &p[..shape.outputs]
                        })
                        .copied()
                        .collect();
                    compare(&got, &want, 2e-6, &format!("{shape:?} {}", isa.name()));
                }
            }
        }
    }

    #[test]
    fn nan_is_not_cut_off_at_zero() {
        let shape = shape(1, 1, 1, 1, 3);
        for isa in Isa::available() {
            let conv = Conv::with(isa, shape, &[1.0; 3], &[0.0; 3], Some(&[0.25; 3]));
            let mut out = vec![0.0; 2 * conv.output_stride()];
            conv.plane(&[f32::NAN, -1.0], 2, &mut out);
            let (spoilt, whole) = out.split_at(conv.output_stride());
            assert!(spoilt[..3].iter().all(|y| y.is_nan()), "{}", isa.name());
            assert_eq!(whole[..3], [-0.25; 3], "{}", isa.name());
        }
    }

    #[test]
    fn a_pixel_does_not_depend_on_its_block() {
        let shape = shape(3, 3, 16, 16, 32);
        let (weight, bias) = (randn(32 * 144, 1), randn(32, 2));
        let input = randn(3 * 40 * 16, 3);
        let rows: Vec<&[f32]> = input.chunks_exact(40 * 16).collect();
        let conv = Conv::new(shape, &weight, &bias, None);
        let mut all = vec![0.0; 38 * 32];
        conv.row(&rows, &mut all);
        for x in 0..38 {
            let rows: Vec<&[f32]> = rows.iter().map(|r| &r[x * 16..]).collect();
            let mut one = [0.0; 32];
            conv.row(&rows, &mut one);
            assert_eq!(one, all[x * 32..(x + 1) * 32], "pixel {x}");
        }
    }

    /// A plane is computed two rows at a time, and its last by itself where it is odd.
    #[test]
    fn a_row_does_not_depend_on_the_next() {
        for (shape, w, h) in [
            (shape(3, 3, 28, 32, 48), 11, 11),
            (shape(2, 2, 48, 48, 64), 4, 4),
            (shape(3, 3, 3, 3, 10), 24, 8),
        ] {
            let weight = randn(shape.outputs * shape.taps(), 1);
            let bias = randn(shape.outputs, 2);
            let line = w * shape.input_stride;
            let input = randn(h * line, 3);
            let rows: Vec<&[f32]> = input.chunks_exact(line).collect();
            for isa in Isa::available() {
                let conv = Conv::with(isa, shape, &weight, &bias, None);
                let out_line = (w - shape.width + 1) * conv.output_stride();
                let mut all = vec![0.0; (h - shape.height + 1) * out_line];
                conv.plane(&input, w, &mut all);
                for (rows, want) in rows.windows(shape.height).zip(all.chunks_exact(out_line)) {
                    let mut one = vec![f32::NAN; out_line];
                    conv.row(rows, &mut one);
                    assert_eq!(one, want, "{shape:?} {}", isa.name());
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "need input rows of")]
    fn a_short_row_is_refused() {
        let conv = Conv::new(shape(1, 3, 1, 1, 1), &[1.0; 3], &[0.0], None);
        conv.row(&[&[0.0; 5]], &mut [0.0; 64]);
    }
}
