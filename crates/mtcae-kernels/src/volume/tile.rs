//! What a convolution by its taps computes in registers: a tile of pixels of a row times
//! vectors of output channels; and what becomes of the sums.

use crate::lanes::{Lanes, Work};
use crate::product::rectangle::Rectangle;

/// What becomes of the sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// They are added to what is there, and not stored over it.
    pub add: bool,
    /// What is below zero becomes zero, after that.
    pub relu: bool,
}

/// What the sums of some rows of one phase are made of.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) window: &'a [f32],
    /// Where each chunk of the window begins, and how many channels of it are read.
    pub(super) chunks: &'a [(usize, usize)],
    /// Where each tap's pixels begin.
    pub(super) taps: &'a [usize],
    /// Weights of all taps of the first chunk begin here.
    pub(super) weights: &'a [f32],
    /// Of each chunk: numbers of all its taps, and those before the first that is used.
    pub(super) all: usize,
    pub(super) skipped: usize,
    pub(super) vectors: usize,
    /// From one pixel to the next, from one row to the next.
    pub(super) step: usize,
    pub(super) line: usize,
    pub(super) cols: usize,
    pub(super) fresh: bool,
}

#[expect(clippy::too_many_arguments)]
#[inline(always)]
pub(super) fn finish_row<L: Lanes>(
    simd: L,
    line: &mut Rectangle<'_>,
    from: usize,
    step: usize,
    lanes: usize,
    bias: Option<&[f32]>,
    sums: &[f32],
    finish: Finish,
) {
    let zero = simd.splat(0.0);
    let cols = line.cols();
    for (i, sums) in sums.chunks_exact(lanes).enumerate() {
        let out = line.row(from + i * step, 0, cols);
        let (sums, _) = sums.as_chunks::<16>();
        for (v, (out, sums)) in out.chunks_mut(16).zip(sums).enumerate() {
            let mut y = simd.load(sums);
            if let Some(bias) = bias
                && let Some(bias) = bias[v * 16..].first_chunk()
            {
                y = simd.add(y, simd.load(bias));
            }
            if let Some(out) = out.first_chunk_mut::<16>() {
                if finish.add {
                    y = simd.add(y, simd.load(out));
                }
                if finish.relu {
                    y = simd.max(zero, y);
                }
                simd.store(y, out);
                continue;
            }
            let mut all = [0.0; 16];
            if finish.add {
                all[..out.len()].copy_from_slice(out);
                y = simd.add(y, simd.load(&all));
            }
            if finish.relu {
                y = simd.max(zero, y);
            }
            simd.store(y, &mut all);
            out.copy_from_slice(&all[..out.len()]);
        }
    }
}

/// Pixels times vectors that the registers hold.
const fn most<L: Lanes>() -> usize {
    match L::ACCUMULATORS {
        24.. => 28,
        some => some,
    }
}

#[inline(always)]
pub(super) fn tiles<L: Lanes>(simd: L, job: Job<'_>, sums: &mut [f32]) {
    match (job.vectors, job.step) {
        (4, 16) if const { L::ACCUMULATORS >= 24 } => rows::<L, 4, 16>(simd, job, sums),
        (4, 32) if const { L::ACCUMULATORS >= 24 } => rows::<L, 4, 32>(simd, job, sums),
        (4, _) if const { L::ACCUMULATORS >= 24 } => rows::<L, 4, 0>(simd, job, sums),
        (2, 8) if const { L::ACCUMULATORS >= 24 } => rows::<L, 2, 8>(simd, job, sums),
        (2, 16) if const { L::ACCUMULATORS >= 24 } => rows::<L, 2, 16>(simd, job, sums),
        (2, 32) if const { L::ACCUMULATORS >= 24 } => rows::<L, 2, 32>(simd, job, sums),
        (2, _) if const { L::ACCUMULATORS >= 24 } => rows::<L, 2, 0>(simd, job, sums),
        (_, 8) => rows::<L, 1, 8>(simd, job, sums),
        (_, 16) => rows::<L, 1, 16>(simd, job, sums),
        (_, 32) => rows::<L, 1, 32>(simd, job, sums),
        _ => rows::<L, 1, 0>(simd, job, sums),
    }
}

/// Cuts the rows into tiles. `S` is the step from pixel to pixel, 0 for one known only at
/// run time.
#[inline(always)]
fn rows<L: Lanes, const V: usize, const S: usize>(simd: L, job: Job<'_>, sums: &mut [f32]) {
    let (sums, _) = sums.as_chunks_mut::<16>();
    let step = if S == 0 { job.step } else { S };
    for (row, sums) in sums.chunks_exact_mut(job.cols * V).enumerate() {
        let mut x = 0;
        while x < job.cols {
            let from = row * job.line + x * step;
            let sums = &mut sums[x * V..];
            macro_rules! sizes {
                ($($p:literal)*) => {
                    match job.cols - x {
                        $($p.. if const { $p * V <= most::<L>() && ($p <= 4 || S > 0) } => {
                            simd.outline(Tile::<V, S, $p> { job, from, sums });
                            x += $p;
                        })*
                        _ => x = job.cols,
                    }
                };
            }
            sizes!(14 8 7 6 4 2 1);
        }
    }
}

struct Tile<'a, const V: usize, const S: usize, const P: usize> {
    job: Job<'a>,
    from: usize,
    sums: &'a mut [[f32; 16]],
}

impl<L: Lanes, const V: usize, const S: usize, const P: usize> Work<L> for Tile<'_, V, S, P> {
    #[inline(always)]
    fn run(self, simd: L) {
        let Self { job, from, sums } = self;
        let s = if S == 0 { job.step } else { S };
        let out = &mut sums[..P * V];
        let mut sums = [[simd.splat(0.0); V]; P];
        if !job.fresh {
            for p in 0..P {
                for v in 0..V {
                    sums[p][v] = simd.load(&out[p * V + v]);
                }
            }
        }
        let (mut weights, _) = job.weights.as_chunks::<16>();
        for &(at, some) in job.chunks {
            let (now, rest) = weights.split_at(job.all * some * V);
            weights = rest;
            let mut now = &now[job.skipped * some * V..];
            let base = &job.window[at + from..];
            for &tap in job.taps {
                let (of_tap, rest) = now.split_at(some * V);
                now = rest;
                let x = &base[tap..][..some + (P - 1) * s];
                for (i, weight) in of_tap.chunks_exact(V).enumerate() {
                    // No closure here: it would not take on the instruction set.
                    let mut w = [simd.splat(0.0); V];
                    for v in 0..V {
                        w[v] = simd.load(&weight[v]);
                    }
                    let x = &x[i..i + (P - 1) * s + 1];
                    for p in 0..P {
                        let a = simd.splat(x[p * s]);
                        for v in 0..V {
                            sums[p][v] = simd.mul_add(a, w[v], sums[p][v]);
                        }
                    }
                }
            }
        }
        for p in 0..P {
            for v in 0..V {
                simd.store(sums[p][v], &mut out[p * V + v]);
            }
        }
    }
}
