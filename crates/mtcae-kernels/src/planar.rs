//! Convolution and pooling of rows whose channels lie one after the other, for networks of
//! few channels over wide rows: pixels are the vector's lanes, so that ten or six channels
//! take the time of ten or six, where [`conv`](crate::conv) takes that of sixteen.
//!
//! A row is planes of `pitch` floats, one a channel. Outputs are computed sixteen pixels at
//! a time: what stands between the last pixel and the next multiple of sixteen is read and
//! written too, and means nothing. Sums run in the order of [`conv`](crate::conv), and come
//! out equal to its to the bit.

use std::ops::Range;

use crate::conv::{Conv, Shape};
use crate::isa::{Isa, Level, dispatch};
use crate::lanes::{Lanes, Portable, vectorise};
use crate::matrix::size;
use crate::pool::output;

/// Pixels computed together.
pub const LANES: usize = 16;

/// Pixels for which a block's weights are read once: few enough that what they read stays
/// in the first-level cache, and a multiple of every block's.
const STRETCH: usize = 6 * LANES;

/// Rows of channels one after the other.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The rows, (channels, pitch) each.
    pub rows: &'a [&'a [f32]],
    /// Floats from one channel to the next.
    pub pitch: usize,
}

/// A convolution's parameters, packed for pixels as lanes.
pub struct PlanarConv {
    isa: Isa,
    shape: Shape,
    /// Channels of each block: nearly the same number, as large as the registers allow.
    blocks: Vec<usize>,
    /// (block, ky, kx, input, channel of the block).
    weights: Vec<f32>,
    bias: Vec<f32>,
    slope: Vec<f32>,
}

impl PlanarConv {
    /// The channels `outputs` of a convolution.
    ///
    /// # Panics
    /// When it has not these channels, or `outputs` is empty.
    pub fn new(conv: &Conv, outputs: Range<usize>) -> Self {
        let (isa, shape) = (conv.isa(), conv.shape());
        assert!(
            outputs.start < outputs.end && outputs.end <= shape.outputs,
            "planar: channels {outputs:?} of {}",
            shape.outputs
        );
        let columns = conv.columns();
        let rows: Vec<&[f32]> = columns
            .chunks_exact(conv.output_stride())
            .map(|row| &row[outputs.clone()])
            .collect();
        let (taps, ends) = rows.split_at(shape.taps());
        let count = outputs.len().div_ceil(widest(isa));
        let edge = |i: usize| outputs.len() * i / count;
        let blocks: Vec<Range<usize>> = (0..count).map(|i| edge(i)..edge(i + 1)).collect();
        Self {
            isa,
            shape: Shape {
                outputs: outputs.len(),
                ..shape
            },
            weights: blocks
                .iter()
                .flat_map(|block| taps.iter().flat_map(|tap| &tap[block.clone()]))
                .copied()
                .collect(),
            blocks: blocks.iter().map(Range::len).collect(),
            bias: ends[0].to_vec(),
            slope: ends[1].to_vec(),
        }
    }

    /// The outputs `pixels` of a row from `height` input rows, on the calling thread:
    /// channel c of pixel x to out[c·pitch + x].
    ///
    /// # Panics
    /// When there are not `height` input rows, of `inputs` planes each, `out` has not a
    /// plane an output, or planes are too short for the pixels, rounded up to whole
    /// [`LANES`].
    pub fn row(&self, from: Rows<'_>, pixels: Range<usize>, out: &mut [f32], pitch: usize) {
        let Shape {
            height,
            width,
            inputs,
            outputs,
            ..
        } = self.shape;
        assert_eq!(from.rows.len(), height, "planar: input rows");
        let all = size([inputs, from.pitch]);
        assert!(
            from.rows.iter().all(|row| row.len() == all),
            "planar: an input row is not of {inputs} planes of {}",
            from.pitch
        );
        assert_eq!(out.len(), size([outputs, pitch]), "planar: output");
        let whole = pixels.len().checked_next_multiple_of(LANES);
        let end = pixels.start.saturating_add(whole.unwrap_or(usize::MAX));
        assert!(
            end <= pitch && end.saturating_add(width - 1) <= from.pitch,
            "planar: pixels up to {end} of planes of {} to {pitch}",
            from.pitch
        );
        let conv = self;
        vectorise!(self.isa, convolve(conv: &PlanarConv, from: Rows<'_>, pixels: Range<usize>, out: &mut [f32], pitch: usize));
    }
}

/// Channels at most that one block computes.
fn widest(isa: Isa) -> usize {
    match isa.level() {
        // Of two vectors of pixels.
        _ if isa.has_avx512() => 12,
        Level::Portable => Portable::ACCUMULATORS,
        _ => 6,
    }
}

#[inline(always)]
fn convolve<L: Lanes>(
    simd: L,
    conv: &PlanarConv,
    from: Rows<'_>,
    pixels: Range<usize>,
    out: &mut [f32],
    pitch: usize,
) {
    let taps = conv.shape.taps();
    let mut start = pixels.start;
    while start < pixels.end {
        let vectors = (pixels.end - start).min(STRETCH).div_ceil(LANES);
        let mut first = 0;
        for &channels in &conv.blocks {
            let block = Block {
                kernel: conv.shape.width,
                inputs: conv.shape.inputs,
                weights: &conv.weights[first * taps..][..channels * taps],
                bias: &conv.bias[first..][..channels],
                slope: &conv.slope[first..][..channels],
            };
            let out = &mut out[first * pitch..][..channels * pitch];
            macro_rules! sizes {
                ($($o:literal: $wide:literal $narrow:literal),*) => {
                    match channels {
                        $($o if const { L::ACCUMULATORS >= 24 } => {
                            stretch::<L, $o, $wide>(simd, block, from, start, vectors, out, pitch)
                        })*
                        $($o if const { L::ACCUMULATORS < 24 && $o <= 6 } => {
                            stretch::<L, $o, $narrow>(simd, block, from, start, vectors, out, pitch)
                        })*
                        _ => {}
                    }
                };
            }
            // Vectors of pixels for as many channels: with 32 registers, and with 16.
            sizes!(1: 3 3, 2: 3 3, 3: 3 2, 4: 3 1, 5: 3 1, 6: 3 1,
                7: 3 1, 8: 3 1, 9: 2 1, 10: 2 1, 11: 2 1, 12: 2 1);
            first += channels;
        }
        start += vectors * LANES;
    }
}

/// The parameters of a block of channels.
#[derive(Clone, Copy)]
struct Block<'a> {
    /// Kernel width.
    kernel: usize,
    inputs: usize,
    weights: &'a [f32],
    bias: &'a [f32],
    slope: &'a [f32],
}

/// `O` channels of `vectors`·[`LANES`] pixels from `x`, `V` vectors at a time.
#[inline(always)]
fn stretch<L: Lanes, const O: usize, const V: usize>(
    simd: L,
    block: Block<'_>,
    from: Rows<'_>,
    x: usize,
    vectors: usize,
    out: &mut [f32],
    pitch: usize,
) {
    let whole = vectors / V * V;
    for v in (0..whole).step_by(V) {
        pixel_block::<L, O, V>(simd, block, from, x + v * LANES, out, pitch);
    }
    for v in whole..vectors {
        pixel_block::<L, O, 1>(simd, block, from, x + v * LANES, out, pitch);
    }
}

/// `O` channels of `V` vectors of pixels from `x`.
#[inline(always)]
fn pixel_block<L: Lanes, const O: usize, const V: usize>(
    simd: L,
    block: Block<'_>,
    from: Rows<'_>,
    x: usize,
    out: &mut [f32],
    pitch: usize,
) {
    let mut sums = [[simd.splat(0.0); V]; O];
    for (sums, &bias) in sums.iter_mut().zip(block.bias) {
        *sums = [simd.splat(bias); V];
    }
    let (weights, _) = block.weights.as_chunks::<O>();
    let mut weights = weights;
    for row in from.rows {
        for kx in 0..block.kernel {
            let (now, rest) = weights.split_at(block.inputs);
            weights = rest;
            let mut at = x + kx;
            for weights in now {
                let (taps, _) = row[at..][..V * LANES].as_chunks::<LANES>();
                at += from.pitch;
                // No closure here: it would not take on the instruction set.
                let mut a = [simd.splat(0.0); V];
                for v in 0..V {
                    a[v] = simd.load(&taps[v]);
                }
                for o in 0..O {
                    let w = simd.splat(weights[o]);
                    for v in 0..V {
                        sums[o][v] = simd.mul_add(a[v], w, sums[o][v]);
                    }
                }
            }
        }
    }
    let zero = simd.splat(0.0);
    for (o, sums) in sums.iter().enumerate() {
        let slope = simd.splat(block.slope[o]);
        let (pixels, _) = out[o * pitch + x..][..V * LANES].as_chunks_mut::<LANES>();
        for v in 0..V {
            let y = simd.mul_add(slope, simd.min(zero, sums[v]), simd.max(zero, sums[v]));
            simd.store(y, &mut pixels[v]);
        }
    }
}

/// Max pooling of `width` pixels with windows of 2×2 at stride 2 in PyTorch's ceil mode, as
/// [`pool::row`](crate::pool::row) does it: one output row, of planes of `pitch` floats,
/// from the two rows of its windows, or from one at the lower border.
///
/// # Panics
/// When there are not one or two rows of as many planes as `out`, or planes are too short
/// for the pixels, rounded up to whole [`LANES`] of the output.
pub fn pool(isa: Isa, from: Rows<'_>, width: usize, out: &mut [f32], pitch: usize) {
    assert!(
        matches!(from.rows.len(), 1 | 2) && width > 0,
        "planar: {} rows of {width} pixels to pool",
        from.rows.len()
    );
    let pixels = output(width, 2).next_multiple_of(LANES);
    assert!(
        pixels <= pitch && pixels <= from.pitch / 2,
        "planar: {width} pixels of planes of {} to {pitch}",
        from.pitch
    );
    let planes = out.len() / pitch;
    assert!(
        out.len() == planes * pitch && from.rows.iter().all(|r| r.len() == planes * from.pitch),
        "planar: rows of other planes"
    );
    dispatch!(isa, pairs(from: Rows<'_>, width: usize, out: &mut [f32], pitch: usize));
}

/// The larger of two; a NaN that stands there, or comes, stays.
#[inline(always)]
fn larger(best: f32, v: f32) -> f32 {
    if best > v || best >= f32::INFINITY || best.is_nan() {
        best
    } else {
        v
    }
}

#[inline(always)]
fn pairs<const FMA: bool>(from: Rows<'_>, width: usize, out: &mut [f32], pitch: usize) {
    let pixels = output(width, 2);
    let (upper, lower) = (from.rows[0], from.rows[from.rows.len() - 1]);
    let planes = upper
        .chunks_exact(from.pitch)
        .zip(lower.chunks_exact(from.pitch));
    for ((upper, lower), out) in planes.zip(out.chunks_exact_mut(pitch)) {
        let (upper, _) = upper.as_chunks::<{ 2 * LANES }>();
        let (lower, _) = lower.as_chunks::<{ 2 * LANES }>();
        let (blocks, _) = out.as_chunks_mut::<LANES>();
        let blocks = &mut blocks[..pixels.div_ceil(LANES)];
        for ((out, a), b) in blocks.iter_mut().zip(upper).zip(lower) {
            let mut both = [0.0; 2 * LANES];
            for i in 0..2 * LANES {
                both[i] = larger(a[i], b[i]);
            }
            for i in 0..LANES {
                out[i] = larger(both[2 * i], both[2 * i + 1]);
            }
        }
        if width % 2 == 1 {
            let (a, b) = (upper.as_flattened(), lower.as_flattened());
            out[pixels - 1] = larger(a[width - 1], b[width - 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::randn;

    /// (w, channels) → (channels, pitch), with what is no number between the planes.
    fn planar(row: &[f32], stride: usize, channels: usize, pitch: usize) -> Vec<f32> {
        let mut planes = vec![f32::NAN; channels * pitch];
        for (x, pixel) in row.chunks_exact(stride).enumerate() {
            for c in 0..channels {
                planes[c * pitch + x] = pixel[c];
            }
        }
        planes
    }

    /// `conv` is tested by its definition.
    #[test]
    fn equals_the_convolution_of_pixels_to_the_bit() {
        for (seed, ([height, width, inputs, outputs], pixels)) in [
            ([3, 3, 3, 10], 210),
            ([3, 3, 10, 16], 33),
            ([3, 3, 16, 32], 250),
            ([1, 1, 32, 6], 61),
            ([2, 5, 7, 25], 1),
            ([1, 1, 1, 1], 100),
            ([1, 2, 2, 3], 64),
        ]
        .into_iter()
        .enumerate()
        {
            let shape = Shape {
                height,
                width,
                inputs,
                input_stride: inputs,
                outputs,
            };
            let seed = 10 * seed as u64;
            let weight = randn(outputs * shape.taps(), seed);
            let (bias, slope) = (randn(outputs, seed + 1), randn(outputs, seed + 2));
            let line = (pixels + width - 1) * inputs;
            let rows = randn(height * line, seed + 3);
            let rows: Vec<&[f32]> = rows.chunks_exact(line).collect();
            let pitch = pixels.next_multiple_of(LANES) + LANES + width;
            let planes: Vec<Vec<f32>> = rows
                .iter()
                .map(|row| planar(row, inputs, inputs, pitch))
                .collect();
            let planes: Vec<&[f32]> = planes.iter().map(|row| &row[..]).collect();
            for isa in Isa::available() {
                let conv = Conv::with(isa, shape, &weight, &bias, Some(&slope));
                let stride = conv.output_stride();
                let mut out = vec![0.0; pixels * stride];
                conv.row(&rows, &mut out);
                for (channels, part) in [
                    (0..outputs, 0..pixels),
                    (outputs / 2..outputs, pixels / 3..pixels),
                ] {
                    let pitch_out = pixels.next_multiple_of(LANES) + LANES;
                    let mut got = vec![f32::NAN; channels.len() * pitch_out];
                    let from = Rows {
                        rows: &planes,
                        pitch,
                    };
                    let of_planes = PlanarConv::new(&conv, channels.clone());
                    of_planes.row(from, part.clone(), &mut got, pitch_out);
                    for x in part {
                        for (c, channel) in channels.clone().enumerate() {
                            let (got, want) = (got[c * pitch_out + x], out[x * stride + channel]);
                            assert_eq!(got, want, "{shape:?} {} {x} {c}", isa.name());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn pools_as_pixels_are_pooled() {
        for (width, channels) in [(1, 1), (2, 3), (31, 10), (32, 2), (33, 4), (100, 10)] {
            let mut rows = randn(2 * width * 16, width as u64);
            for spoilt in [5 * channels, 3 * width + 1, 40 * width / 3] {
                let last = rows.len() - 1;
                rows[spoilt.min(last)] = f32::NAN;
            }
            let rows: Vec<&[f32]> = rows.chunks_exact(width * 16).collect();
            let pitch = output(width, 2).next_multiple_of(LANES) * 2 + 5;
            let planes: Vec<Vec<f32>> = rows
                .iter()
                .map(|row| planar(row, 16, channels, pitch))
                .collect();
            let planes: Vec<&[f32]> = planes.iter().map(|row| &row[..]).collect();
            for isa in Isa::available() {
                for count in [1, 2] {
                    let mut want = vec![0.0; output(width, 2) * 16];
                    crate::pool::row(isa, &rows[..count], 2, 16, &mut want);
                    let pitch_out = output(width, 2).next_multiple_of(LANES);
                    let mut out = vec![0.0; channels * pitch_out];
                    let from = Rows {
                        rows: &planes[..count],
                        pitch,
                    };
                    pool(isa, from, width, &mut out, pitch_out);
                    for x in 0..output(width, 2) {
                        for c in 0..channels {
                            let (got, want) = (out[c * pitch_out + x], want[x * 16 + c]);
                            assert_eq!(got.to_bits(), want.to_bits(), "{width} {count} {x} {c}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "planar: pixels up to 16")]
    fn planes_that_end_too_early_are_refused() {
        let shape = Shape {
            height: 1,
            width: 2,
            inputs: 1,
            input_stride: 1,
            outputs: 1,
        };
        let conv = Conv::new(shape, &[1.0; 2], &[0.0], None);
        let rows = Rows {
            rows: &[&[0.0; 16]],
            pitch: 16,
        };
        PlanarConv::new(&conv, 0..1).row(rows, 0..3, &mut [0.0; 16], 16);
    }
}
