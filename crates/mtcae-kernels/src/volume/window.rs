//! The part of a volume that some outputs read, copied together with zeros around it: chunks
//! of sixteen channels, so that pixels of a chunk lie at distances known beforehand.

use std::ops::Range;

use crate::isa::{Isa, dispatch};

/// Channels of a chunk.
pub(super) const CHUNK: usize = 16;

/// Numbers from one pixel of a chunk to the next, of volumes of so many channels.
pub(super) fn pitch(channels: usize) -> usize {
    match channels {
        0..=4 => 4,
        5..=8 => 8,
        _ => CHUNK,
    }
}

/// A box of places along (t, h, w), some of which may lie outside of the volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) first: [isize; 3],
    pub(super) len: [usize; 3],
}

impl Region {
    /// Numbers of a chunk.
    pub(super) fn chunk(&self, pitch: usize) -> usize {
        self.len.iter().product::<usize>() * pitch
    }
}

/// A volume (t, h, w, channels).
#[derive(Clone, Copy)]
pub(super) struct Volume<'a> {
    pub(super) data: &'a [f32],
    pub(super) size: [usize; 3],
    pub(super) channels: usize,
}

impl Volume<'_> {
    /// Writes a region's chunks, (chunk, t, h, w, [`pitch`]), zeros outside of the volume and
    /// beyond its channels.
    pub(super) fn copy(self, isa: Isa, region: Region, chunks: Range<usize>, out: &mut [f32]) {
        let of = self;
        dispatch!(isa, copy(of: Volume<'_>, region: Region, chunks: Range<usize>, out: &mut [f32]));
    }
}

#[inline(always)]
fn copy<const FMA: bool>(of: Volume<'_>, region: Region, chunks: Range<usize>, out: &mut [f32]) {
    let Volume {
        data,
        size: [depth, height, width],
        channels,
    } = of;
    let pitch = pitch(channels);
    let (first, len) = (region.first, region.len);
    // Pixels before the volume, and in it.
    let before = (-first[2]).clamp(0, len[2] as isize) as usize;
    let from = first[2].max(0) as usize;
    let within = width.saturating_sub(from).min(len[2] - before);
    let line = len[2] * pitch;
    for (chunk, out) in chunks.zip(out.chunks_exact_mut(region.chunk(pitch))) {
        let some = CHUNK.min(channels - chunk * CHUNK);
        for (i, out) in out.chunks_exact_mut(line).enumerate() {
            let t = first[0] + (i / len[1]) as isize;
            let h = first[1] + (i % len[1]) as isize;
            let inside = |at: isize, n: usize| at >= 0 && (at as usize) < n;
            if !inside(t, depth) || !inside(h, height) || within == 0 {
                out.fill(0.0);
                continue;
            }
            let row = (t as usize * height + h as usize) * width + from;
            let (zeros, out) = out.split_at_mut(before * pitch);
            let (out, after) = out.split_at_mut(within * pitch);
            zeros.fill(0.0);
            after.fill(0.0);
            let row = &data[row * channels + chunk * CHUNK..];
            if some == CHUNK {
                let (out, _) = out.as_chunks_mut::<CHUNK>();
                for (pixel, out) in row.chunks(channels).zip(out) {
                    if let Some(pixel) = pixel.first_chunk() {
                        *out = *pixel;
                    }
                }
            } else {
                for (pixel, out) in row.chunks(channels).zip(out.chunks_exact_mut(pitch)) {
                    let (out, rest) = out.split_at_mut(some);
                    out.copy_from_slice(&pixel[..some]);
                    rest.fill(0.0);
                }
            }
        }
    }
}
