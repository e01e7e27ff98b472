//! P-Net: a fully convolutional network that scores every 12×12 window of a
//! pyramid level at stride 2.
//!
//! A tile of its output is computed in one go, row after row, so that what the
//! layers hand to each other stays in the cache and the pyramid levels never
//! exist as images.

use std::ops::Range;

use candle_core::Result;
use mtcae_kernels::conv::Conv;
use mtcae_kernels::isa::Isa;
use mtcae_kernels::pool;
use mtcae_nn::VarBuilder;

use super::weights::{conv, heads};

/// The network.
pub struct PNet {
    pub(super) conv1: Conv,
    pub(super) conv2: Conv,
    pub(super) conv3: Conv,
    pub(super) heads: Conv,
}

/// Rows that one layer hands to the next, reused from tile to tile.
#[derive(Default)]
pub struct Scratch {
    input: [Vec<f32>; 4],
    conv1: [Vec<f32>; 2],
    pooled: [Vec<f32>; 3],
    conv2: [Vec<f32>; 3],
    conv3: Vec<f32>,
    heads: Vec<f32>,
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
        Ok(Self {
            conv1: conv(vb, "conv1", Some("prelu1"), [10, 3, 3], 3)?,
            conv2: conv(vb, "conv2", Some("prelu2"), [16, 10, 3], 16)?,
            conv3: conv(vb, "conv3", Some("prelu3"), [32, 16, 3], 16)?,
            heads: heads(vb, &[("conv4_1", 2), ("conv4_2", 4)], 32, &[1, 1])?,
        })
    }

    /// Computes the outputs `rows` × `columns` of an image of `height` ×
    /// `width` ≥ 12×12.
    ///
    /// `source(y, row)` writes the columns [`input_columns`] of row y, as (x −
    /// 127.5)/128 in RGB; it is called with y growing. `sink(y, x, v)` gets the
    /// two logits and the four box offsets of every output, row by row.
    pub fn tile(
        &self,
        (height, width): (usize, usize),
        (rows, columns): (Range<usize>, Range<usize>),
        scratch: &mut Scratch,
        mut source: impl FnMut(usize, &mut [f32]),
        mut sink: impl FnMut(usize, usize, [f32; 6]),
    ) {
        let isa = Isa::best();
        let input_width = input_columns(&columns, width).len();
        let n = columns.len();
        let s = scratch;
        s.input
            .iter_mut()
            .for_each(|r| r.resize(input_width * 3, 0.0));
        s.conv1
            .iter_mut()
            .for_each(|r| r.resize((input_width - 2) * 16, 0.0));
        s.pooled
            .iter_mut()
            .for_each(|r| r.resize((n + 4) * 16, 0.0));
        s.conv2.iter_mut().for_each(|r| r.resize((n + 2) * 16, 0.0));
        s.conv3.resize(n * 32, 0.0);
        s.heads.resize(n * 16, 0.0);
        let mut next = 2 * rows.start;
        for p in rows.start..rows.end + 4 {
            let last = (2 * p + 4).min(height);
            while next < last {
                source(next, &mut s.input[next % 4]);
                next += 1;
            }
            // The last window of an odd height has one row.
            let count = (height - 2 - 2 * p).min(2);
            for (i, out) in s.conv1.iter_mut().enumerate().take(count) {
                let y = 2 * p + i;
                self.conv1.row(&ring(&s.input, [y, y + 1, y + 2]), out);
            }
            let made: [&[f32]; 2] = [&s.conv1[0], &s.conv1[1]];
            pool::row(isa, &made[..count], 2, 16, &mut s.pooled[p % 3]);
            if p < rows.start + 2 {
                continue;
            }
            let q = p - 2;
            self.conv2
                .row(&ring(&s.pooled, [q, q + 1, q + 2]), &mut s.conv2[q % 3]);
            if p < rows.start + 4 {
                continue;
            }
            let y = p - 4;
            self.conv3
                .row(&ring(&s.conv2, [y, y + 1, y + 2]), &mut s.conv3);
            self.heads.row(&[&s.conv3], &mut s.heads);
            for (x, v) in s.heads.chunks_exact(16).enumerate() {
                sink(y, columns.start + x, [v[0], v[1], v[2], v[3], v[4], v[5]]);
            }
        }
    }
}

/// Rows of a ring buffer by their number in the image.
fn ring<const N: usize>(buffer: &[Vec<f32>; N], rows: [usize; 3]) -> [&[f32]; 3] {
    rows.map(|y| &buffer[y % N][..])
}
