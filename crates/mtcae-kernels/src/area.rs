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

/// Rows of a picture that one pass adds up.
const ROWS: usize = 4;

/// Rows whose sum 16 bits hold, whatever their bytes: whole passes of at most 257.
const MOST_ROWS: usize = 256;

/// Pixels that one step writes to planes.
pub const PIXELS: usize = 8;

/// Resamples a [`Picture`] to a size, row by row, for a range of columns.
pub struct Resampler {
    isa: Isa,
    from: (usize, usize),
    to: (usize, usize),
    columns: Range<usize>,
    /// First source column that the columns need.
    first: usize,
    /// Start of each output column's window, in floats from `first`.
    starts: Vec<u32>,
    /// Columns of the widest window; every other has as many or one less.
    widest: usize,
    /// 1 for each window that is as wide, 0 for the others.
    last: Vec<f32>,
    /// Width of the window of each output column.
    widths: Vec<f32>,
    /// Sums over the rows of a window: of up to 256 rows, of all; the latter with
    /// room for what is read past the end.
    partial: Vec<u16>,
    sums: Vec<f32>,
    /// Sums over windows: red, green, blue and one that means nothing.
    totals: Vec<[f32; 4]>,
}

/// Where a row goes.
enum Out<'a> {
    /// (columns, 3).
    Pixels(&'a mut [f32]),
    /// (3, pitch).
    Planes(&'a mut [f32], usize),
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
        let windows = || columns.clone().map(|x| window(x, from.0, to.0));
        let first = window(columns.start, from.0, to.0).start;
        let widest = windows().map(|w| w.len()).max().unwrap_or(1);
        let floats = windows().next_back().map_or(0, |w| (w.end - first) * 3);
        let whole = columns.len().next_multiple_of(PIXELS);
        let mut widths: Vec<f32> = windows().map(|w| w.len() as f32).collect();
        widths.resize(whole, 1.0);
        Self {
            isa,
            from,
            to,
            first,
            starts: windows().map(|w| ((w.start - first) * 3) as u32).collect(),
            widest,
            last: windows()
                .map(|w| if w.len() == widest { 1.0 } else { 0.0 })
                .collect(),
            widths,
            columns,
            partial: vec![0; floats],
            sums: vec![0.0; floats + 4],
            totals: vec![[0.0; 4]; whole],
        }
    }

    /// Output row `y` of `picture` as (value − 127.5)/128, the networks' input:
    /// `out` (columns, 3).
    ///
    /// # Panics
    /// When the picture has not the size `from`, or `y` or `out` not the size `to`.
    pub fn row(&mut self, picture: Picture<'_>, y: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.columns.len() * 3, "area: output");
        self.run(picture, y, Out::Pixels(out));
    }

    /// As [`row`](Self::row), with the channels one after the other, `pitch` floats from
    /// each to the next: `out` (3, pitch). What stands between the columns and the next
    /// multiple of [`PIXELS`] means nothing.
    ///
    /// # Panics
    /// As [`row`](Self::row), or when `pitch` is less than that multiple.
    pub fn planes(&mut self, picture: Picture<'_>, y: usize, out: &mut [f32], pitch: usize) {
        assert!(
            out.len() == size([pitch, 3]) && pitch >= self.widths.len(),
            "area: {} columns in planes of {pitch}, {} floats in all",
            self.columns.len(),
            out.len()
        );
        self.run(picture, y, Out::Planes(out, pitch));
    }

    fn run(&mut self, picture: Picture<'_>, y: usize, out: Out<'_>) {
        assert_eq!((picture.width, picture.height), self.from, "area: picture");
        assert!(y < self.to.1, "area: row {y} of {}", self.to.1);
        let rows = window(y, self.from.1, self.to.1);
        let r = self;
        dispatch!(r.isa, resample(r: &mut Resampler, picture: Picture<'_>, rows: Range<usize>, out: Out<'_>));
    }
}

#[inline(always)]
fn resample<const FMA: bool>(
    r: &mut Resampler,
    picture: Picture<'_>,
    rows: Range<usize>,
    out: Out<'_>,
) {
    let height = rows.len() as f32;
    add_rows(r, picture, rows);
    let windows = r.starts.iter().zip(&r.last);
    let totals = &mut r.totals[..r.starts.len()];
    let sums = &r.sums[..];
    match r.widest {
        1 => add_columns::<1>(sums, windows, totals, 1),
        2 => add_columns::<2>(sums, windows, totals, 2),
        3 => add_columns::<3>(sums, windows, totals, 3),
        4 => add_columns::<4>(sums, windows, totals, 4),
        5 => add_columns::<5>(sums, windows, totals, 5),
        6 => add_columns::<6>(sums, windows, totals, 6),
        widest => add_columns::<0>(sums, windows, totals, widest),
    }
    let value = |sum: f32, width: f32| (sum / height / width - 127.5) * 0.007_812_5;
    match out {
        Out::Pixels(out) => {
            let (pixels, _) = out.as_chunks_mut::<3>();
            for ((pixel, total), &width) in pixels.iter_mut().zip(&r.totals).zip(&r.widths) {
                let values = total.map(|sum| value(sum, width));
                pixel.copy_from_slice(&values[..3]);
            }
        }
        Out::Planes(out, pitch) => {
            let (totals, _) = r.totals.as_chunks::<PIXELS>();
            let (widths, _) = r.widths.as_chunks::<PIXELS>();
            for (i, (totals, widths)) in totals.iter().zip(widths).enumerate() {
                let mut planes = [[0.0; PIXELS]; 3];
                for p in 0..PIXELS {
                    for c in 0..3 {
                        planes[c][p] = totals[p][c];
                    }
                }
                for (c, plane) in planes.iter_mut().enumerate() {
                    for p in 0..PIXELS {
                        plane[p] = value(plane[p], widths[p]);
                    }
                    out[c * pitch + i * PIXELS..][..PIXELS].copy_from_slice(plane);
                }
            }
        }
    }
}

/// Sums of a window's rows, for all columns.
#[inline(always)]
fn add_rows(r: &mut Resampler, picture: Picture<'_>, rows: Range<usize>) {
    let floats = r.partial.len();
    let sums = &mut r.sums[..floats];
    let line = |y: usize| &picture.data[y * picture.stride + r.first * 3..][..floats];
    let y = rows.start;
    match rows.len() {
        1 => {
            for (sum, &v) in sums.iter_mut().zip(line(y)) {
                *sum = f32::from(v);
            }
            return;
        }
        2 => {
            for ((sum, &a), &b) in sums.iter_mut().zip(line(y)).zip(line(y + 1)) {
                *sum = f32::from(u16::from(a) + u16::from(b));
            }
            return;
        }
        3 => {
            let two = line(y).iter().zip(line(y + 1));
            for ((sum, (&a, &b)), &c) in sums.iter_mut().zip(two).zip(line(y + 2)) {
                *sum = f32::from(u16::from(a) + u16::from(b) + u16::from(c));
            }
            return;
        }
        _ => {}
    }
    for start in rows.clone().step_by(MOST_ROWS) {
        let end = (start + MOST_ROWS).min(rows.end);
        let partial = &mut r.partial[..];
        let whole = start + (end - start) / ROWS * ROWS;
        if whole == start {
            partial.fill(0);
        }
        for y in (start..whole).step_by(ROWS) {
            let two = line(y).iter().zip(line(y + 1));
            let four = two.zip(line(y + 2).iter().zip(line(y + 3)));
            let four = four.map(|((&a, &b), (&c, &d))| {
                u16::from(a) + u16::from(b) + (u16::from(c) + u16::from(d))
            });
            if y == start {
                for (sum, four) in partial.iter_mut().zip(four) {
                    *sum = four;
                }
            } else {
                for (sum, four) in partial.iter_mut().zip(four) {
                    *sum += four;
                }
            }
        }
        for y in whole..end {
            for (sum, &v) in partial.iter_mut().zip(line(y)) {
                *sum += u16::from(v);
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
    }
}

/// Sums of windows of `W` columns, or one less; `W` = 0 stands for a width known only at
/// run time.
#[inline(always)]
fn add_columns<'a, const W: usize>(
    sums: &[f32],
    windows: impl Iterator<Item = (&'a u32, &'a f32)>,
    totals: &mut [[f32; 4]],
    widest: usize,
) {
    let widest = if W == 0 { widest } else { W };
    for ((&start, &last), out) in windows.zip(totals) {
        // Three channels, and the next pixel's first.
        let columns = &sums[start as usize..][..3 * widest + 1];
        let mut total = [0.0; 4];
        for x in 0..widest - 1 {
            let column = &columns[3 * x..][..4];
            for c in 0..4 {
                total[c] += column[c];
            }
        }
        let column = &columns[3 * (widest - 1)..][..4];
        for c in 0..4 {
            total[c] += last * column[c];
        }
        *out = total;
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
            ((90, 31), (24, 9)),
            ((127, 20), (24, 4)),
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
                        let pitch = columns.len().next_multiple_of(PIXELS) + 3;
                        let mut planes = vec![f32::NAN; 3 * pitch];
                        r.planes(picture, y, &mut planes, pitch);
                        for (i, v) in out.iter().enumerate() {
                            assert_eq!(planes[i % 3 * pitch + i / 3], *v);
                        }
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
