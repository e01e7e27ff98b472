//! Area resampling of 8-bit RGB, equal to PyTorch's `interpolate(mode="area")`
//! (adaptive average pooling) to the bit: output i is the mean over the pixels
//! ⌊i·n/m⌋ … ⌈(i+1)·n/m⌉ − 1 of n scaled to m, the sum divided first by the
//! window's height, then by its width.
//!
//! Sums of up to 65,793 bytes are exact in `f32`, so their order is free; larger
//! windows differ from PyTorch in the last bits.

use std::ops::Range;

use crate::isa::{Isa, dispatch};
use crate::matrix::size;

/// A rectangle of an interleaved 8-bit RGB picture.
#[derive(Clone, Copy)]
pub struct Picture<'a> {
    data: &'a [u8],
    /// Bytes from one row to the next.
    stride: usize,
    width: usize,
    height: usize,
}

impl<'a> Picture<'a> {
    /// A whole picture (height, width, 3).
    ///
    /// # Panics
    /// When `data` is not height·width·3 long.
    pub fn new(data: &'a [u8], width: usize, height: usize) -> Self {
        assert_eq!(data.len(), size([width, height, 3]), "area: picture");
        Self {
            data,
            stride: width * 3,
            width,
            height,
        }
    }

    /// The part x, y of it.
    ///
    /// # Panics
    /// When it is empty or does not lie within the picture.
    pub fn crop(self, x: Range<usize>, y: Range<usize>) -> Self {
        assert!(
            x.start < x.end && x.end <= self.width && y.start < y.end && y.end <= self.height,
            "area: a crop of {x:?}, {y:?} from {}×{}",
            self.width,
            self.height
        );
        Self {
            data: &self.data[y.start * self.stride + x.start * 3..],
            width: x.len(),
            height: y.len(),
            ..self
        }
    }

    /// Width in pixels.
    pub fn width(self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(self) -> usize {
        self.height
    }
}

/// A rectangle of one of several pictures, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Which picture.
    pub picture: usize,
    /// Its first column.
    pub x: usize,
    /// Its first row.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// The window of output `i` when `from` pixels become `to`.
fn window(i: usize, from: usize, to: usize) -> Range<usize> {
    i * from / to..((i + 1) * from).div_ceil(to)
}

/// The longest side: low enough that no product of two is more than a number holds.
const MOST: usize = 1 << 24;

/// Resamples a [`Picture`] to a size, row by row, for a range of columns.
pub struct Resampler {
    isa: Isa,
    from: (usize, usize),
    to: (usize, usize),
    columns: Range<usize>,
    /// First source column that the columns need.
    first: usize,
    /// (start, end) of each output column's window, in floats from `first`.
    windows: Vec<(u32, u32)>,
    /// Width of the window of each output float.
    widths: Vec<f32>,
    /// Sums over the rows of a window: of up to 257 rows, of all; the latter with
    /// room for a read past the end.
    partial: Vec<u16>,
    sums: Vec<f32>,
}

impl Resampler {
    /// From `from` = (width, height) to `to`, computing the output columns
    /// `columns` alone.
    ///
    /// # Panics
    /// When a size is 0 or above 2²⁴, or the columns lie outside of `to`.
    pub fn new(from: (usize, usize), to: (usize, usize), columns: Range<usize>) -> Self {
        Self::with(Isa::best(), from, to, columns)
    }

    /// [`new`](Self::new) for a given instruction set.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with(isa: Isa, from: (usize, usize), to: (usize, usize), columns: Range<usize>) -> Self {
        assert!(
            [from.0, from.1, to.0, to.1]
                .iter()
                .all(|n| (1..=MOST).contains(n)),
            "area: {from:?} to {to:?}: a size is not within 1 and {MOST}"
        );
        assert!(
            columns.start <= columns.end && columns.end <= to.0,
            "area: columns {columns:?} of {}",
            to.0
        );
        let first = window(columns.start, from.0, to.0).start;
        let mut windows = Vec::with_capacity(columns.len());
        let mut widths = Vec::with_capacity(columns.len() * 3);
        let mut last = first;
        for x in columns.clone() {
            let window = window(x, from.0, to.0);
            last = window.end;
            windows.push((
                ((window.start - first) * 3) as u32,
                ((window.end - first) * 3) as u32,
            ));
            widths.extend([window.len() as f32; 3]);
        }
        let floats = (last - first) * 3;
        Self {
            isa,
            from,
            to,
            columns,
            first,
            windows,
            widths,
            partial: vec![0; floats],
            sums: vec![0.0; floats + 1],
        }
    }

    /// Output row `y` of `picture` as (value − 127.5)/128, the networks' input:
    /// `out` (columns, 3).
    ///
    /// # Panics
    /// When the picture has not the size `from`, or `y` or `out` not the size `to`.
    pub fn row(&mut self, picture: Picture<'_>, y: usize, out: &mut [f32]) {
        assert_eq!((picture.width, picture.height), self.from, "area: picture");
        assert!(y < self.to.1, "area: row {y} of {}", self.to.1);
        assert_eq!(out.len(), self.columns.len() * 3, "area: output");
        let rows = window(y, self.from.1, self.to.1);
        let r = self;
        dispatch!(r.isa, resample(r: &mut Resampler, picture: Picture<'_>, rows: Range<usize>, out: &mut [f32]));
    }
}

#[inline(always)]
fn resample<const FMA: bool>(
    r: &mut Resampler,
    picture: Picture<'_>,
    rows: Range<usize>,
    out: &mut [f32],
) {
    let floats = r.partial.len();
    let line = |y: usize| &picture.data[y * picture.stride + r.first * 3..][..floats];
    let sums = &mut r.sums[..floats];
    let height = rows.len() as f32;
    let mut start = rows.start;
    while start < rows.end {
        let end = (start + 257).min(rows.end);
        let partial = &mut r.partial[..];
        let begin = line(start);
        if end - start == 1 {
            for (sum, &v) in partial.iter_mut().zip(begin) {
                *sum = u16::from(v);
            }
        } else {
            for ((sum, &a), &b) in partial.iter_mut().zip(begin).zip(line(start + 1)) {
                *sum = u16::from(a) + u16::from(b);
            }
            for y in start + 2..end {
                for (sum, &v) in partial.iter_mut().zip(line(y)) {
                    *sum += u16::from(v);
                }
            }
        }
        if start == rows.start {
            for (sum, &v) in sums.iter_mut().zip(&*partial) {
                *sum = f32::from(v);
            }
        } else {
            for (sum, &v) in sums.iter_mut().zip(&*partial) {
                *sum += f32::from(v);
            }
        }
        start = end;
    }
    // Three channels and one that is overwritten by the next pixel.
    let sums = &r.sums[..];
    let quad = |at: usize| -> [f32; 4] {
        let s = &sums[at..at + 4];
        [s[0], s[1], s[2], s[3]]
    };
    for (x, &(start, end)) in r.windows.iter().enumerate() {
        let mut total = quad(start as usize);
        for at in (start as usize + 3..end as usize).step_by(3) {
            let v = quad(at);
            for c in 0..4 {
                total[c] += v[c];
            }
        }
        match out.get_mut(x * 3..x * 3 + 4) {
            Some(four) => four.copy_from_slice(&total),
            None => out[x * 3..].copy_from_slice(&total[..3]),
        }
    }
    for (v, &width) in out.iter_mut().zip(&r.widths) {
        *v = (*v / height / width - 127.5) * 0.007_812_5;
    }
}

/// The definition, in f64.
pub mod reference {
    use super::{Picture, window};

    /// (to.1, to.0, 3), values (v − 127.5)/128.
    pub fn resample(picture: Picture<'_>, to: (usize, usize)) -> Vec<f64> {
        let mut out = Vec::new();
        for y in 0..to.1 {
            for x in 0..to.0 {
                for c in 0..3 {
                    let rows = window(y, picture.height, to.1);
                    let columns = window(x, picture.width, to.0);
                    let mut sum = 0.0;
                    for y in rows.clone() {
                        for x in columns.clone() {
                            sum += f64::from(picture.data[y * picture.stride + x * 3 + c]);
                        }
                    }
                    let mean = sum / (rows.len() * columns.len()) as f64;
                    out.push((mean - 127.5) / 128.0);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: usize, height: usize) -> Vec<u8> {
        (0..width * height * 3)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect()
    }

    #[test]
    fn equals_the_definition_down_up_and_cropped() {
        for (from, to) in [
            ((37, 53), (23, 32)),
            ((37, 53), (37, 53)),
            ((5, 3), (24, 24)),
            ((1, 1), (24, 24)),
            ((300, 700), (24, 2)),
            ((101, 64), (1, 1)),
        ] {
            let (w, h) = (from.0 + 7, from.1 + 4);
            let data = noise(w, h);
            let picture = Picture::new(&data, w, h).crop(5..5 + from.0, 3..3 + from.1);
            let want = reference::resample(picture, to);
            for isa in Isa::available() {
                for columns in [0..to.0, to.0 / 3..to.0, to.0 / 4..to.0 / 2 + 1] {
                    let mut r = Resampler::with(isa, from, to, columns.clone());
                    for y in 0..to.1 {
                        let mut out = vec![f32::NAN; columns.len() * 3];
                        r.row(picture, y, &mut out);
                        let row = &want[y * to.0 * 3..][columns.start * 3..columns.end * 3];
                        for (x, (&got, &want)) in out.iter().zip(row).enumerate() {
                            // Half a unit in the last place of a mean of 255, /128, twice.
                            let error = (f64::from(got) - want).abs();
                            assert!(
                                error < 2.5e-7,
                                "{from:?} to {to:?}: {x}, {y}: {got}, {want}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a crop of")]
    fn a_crop_outside_is_refused() {
        let data = noise(4, 4);
        Picture::new(&data, 4, 4).crop(2..5, 0..4);
    }
}
