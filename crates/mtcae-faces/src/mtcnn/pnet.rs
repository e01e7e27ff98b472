//! P-Net: a fully convolutional network that scores every 12×12 window of a
//! pyramid level at stride 2.
//!
//! A tile of its output is computed in one go, row after row, so that what the
//! layers hand to each other stays in the cache and the pyramid levels never
//! exist as images. Rows are wide and channels few: they lie one after the other.

use std::ops::Range;

use candle_core::Result;
use mtcae_kernels::conv::Conv;
use mtcae_kernels::isa::Isa;
use mtcae_kernels::planar::{self, LANES, PlanarConv, Rows};
use mtcae_kernels::pool;
use mtcae_nn::VarBuilder;

use super::weights::{conv, heads};

/// Channels of what the layers hand on.
const CHANNELS: [usize; 4] = [3, 10, 16, 32];

/// The network.
pub struct PNet {
    /// The three convolutions and the heads, as GPUs take them.
    pub(super) layers: [Conv; 4],
    convolutions: [PlanarConv; 3],
    logits: PlanarConv,
    offsets: PlanarConv,
}

/// Rows that one layer hands to the next, reused from tile to tile.
#[derive(Default)]
pub struct Scratch {
    input: [Vec<f32>; 4],
    conv1: [Vec<f32>; 2],
    pooled: [Vec<f32>; 3],
    conv2: [Vec<f32>; 3],
    conv3: [Vec<f32>; 1],
    logits: Vec<f32>,
    offsets: Vec<f32>,
}

/// Output pixels of the network along an axis of `n` ≥ 12 input pixels.
pub fn output(n: usize) -> usize {
    pool::output(n - 2, 2) - 4
}

/// Input columns that the output columns need.
pub fn input_columns(columns: &Range<usize>, width: usize) -> Range<usize> {
    2 * columns.start..(2 * (columns.end + 4) + 2).min(width)
}

impl PNet {
    /// Reads the parameters below `vb`.
    pub fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let layers = [
            conv(vb, "conv1", Some("prelu1"), [10, 3, 3], 3)?,
            conv(vb, "conv2", Some("prelu2"), [16, 10, 3], 16)?,
            conv(vb, "conv3", Some("prelu3"), [32, 16, 3], 16)?,
            heads(vb, &[("conv4_1", 2), ("conv4_2", 4)], 32, &[1, 1])?,
        ];
        let whole = |i: usize| PlanarConv::new(&layers[i], 0..CHANNELS[i + 1]);
        Ok(Self {
            convolutions: [whole(0), whole(1), whole(2)],
            logits: PlanarConv::new(&layers[3], 0..2),
            offsets: PlanarConv::new(&layers[3], 2..6),
            layers,
        })
    }

    /// Computes the outputs `rows` × `columns` of an image of `height` ×
    /// `width` ≥ 12×12.
    ///
    /// `source(y, row, pitch)` writes the columns [`input_columns`] of row y, as (x −
    /// 127.5)/128, to planes of red, green and blue, of `pitch` floats each; it is called
    /// with y growing. `sink(y, x, v)` gets the two logits and the four box offsets of
    /// every output whose second logit is larger than its first by at least `margin`, row
    /// by row.
    pub fn tile(
        &self,
        (height, width): (usize, usize),
        (rows, columns): (Range<usize>, Range<usize>),
        margin: f32,
        scratch: &mut Scratch,
        mut source: impl FnMut(usize, &mut [f32], usize),
        mut sink: impl FnMut(usize, usize, [f32; 6]),
    ) {
        let isa = Isa::best();
        let n = columns.len();
        let made = input_columns(&columns, width).len() - 2;
        // Whole vectors of pixels, and the next layer's kernel and windows beyond them.
        let pitch = |pixels: usize| pixels.next_multiple_of(LANES) + LANES;
        let (wide, narrow) = (pitch(made), pitch(n + 4));
        let s = scratch;
        let fit = |rows: &mut [Vec<f32>], channels: usize, pitch: usize| {
            rows.iter_mut()
                .for_each(|r| r.resize(channels * pitch, 0.0));
        };
        fit(&mut s.input, CHANNELS[0], wide);
        fit(&mut s.conv1, CHANNELS[1], wide);
        fit(&mut s.pooled, CHANNELS[1], narrow);
        fit(&mut s.conv2, CHANNELS[2], narrow);
        fit(&mut s.conv3, CHANNELS[3], narrow);
        s.logits.resize(2 * narrow, 0.0);
        s.offsets.resize(4 * narrow, 0.0);
        let [conv1, conv2, conv3] = &self.convolutions;
        let mut next = 2 * rows.start;
        for p in rows.start..rows.end + 4 {
            let last = (2 * p + 4).min(height);
            while next < last {
                source(next, &mut s.input[next % 4], wide);
                next += 1;
            }
            // The last window of an odd height has one row.
            let count = (height - 2 - 2 * p).min(2);
            for (i, out) in s.conv1.iter_mut().enumerate().take(count) {
                let rows = ring(&s.input, 2 * p + i);
                conv1.row(planes(&rows, wide), 0..made, out, wide);
            }
            let pairs: [&[f32]; 2] = [&s.conv1[0], &s.conv1[1]];
            let out = &mut s.pooled[p % 3];
            planar::pool(isa, planes(&pairs[..count], wide), made, out, narrow);
            if p < rows.start + 2 {
                continue;
            }
            let q = p - 2;
            let from = ring(&s.pooled, q);
            conv2.row(planes(&from, narrow), 0..n + 2, &mut s.conv2[q % 3], narrow);
            if p < rows.start + 4 {
                continue;
            }
            let y = p - 4;
            let from = ring(&s.conv2, y);
            conv3.row(planes(&from, narrow), 0..n, &mut s.conv3[0], narrow);
            let last: [&[f32]; 1] = [&s.conv3[0]];
            let last = planes(&last, narrow);
            self.logits.row(last, 0..n, &mut s.logits, narrow);
            let (no, yes) = s.logits.split_at(narrow);
            for x in (0..n).step_by(LANES) {
                let block = x..(x + LANES).min(n);
                let sure = |x: usize| yes[x] - no[x] >= margin;
                // Few are, and the others' offsets are never computed.
                if !block.clone().any(sure) {
                    continue;
                }
                self.offsets
                    .row(last, block.clone(), &mut s.offsets, narrow);
                for x in block.filter(|&x| sure(x)) {
                    let offset = |c: usize| s.offsets[c * narrow + x];
                    let v = [no[x], yes[x], offset(0), offset(1), offset(2), offset(3)];
                    sink(y, columns.start + x, v);
                }
            }
        }
    }
}

fn planes<'a>(rows: &'a [&'a [f32]], pitch: usize) -> Rows<'a> {
    Rows { rows, pitch }
}

/// Three rows of a ring buffer from the row `y` of the image on.
fn ring<const N: usize>(buffer: &[Vec<f32>; N], y: usize) -> [&[f32]; 3] {
    [y, y + 1, y + 2].map(|y| &buffer[y % N][..])
}
