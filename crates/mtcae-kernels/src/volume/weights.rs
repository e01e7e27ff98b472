//! The gradient of a convolution's weights: some inputs times some output channels stay in
//! registers while the pixels go by.
//!
//! A task is a block of outputs, a chunk of inputs and a frame of the kernel, over all
//! pixels: no sums of tasks are added to each other.

use rayon::prelude::*;

use super::Shape;
use super::taps::blocks;
use super::window::{CHUNK, Region, Volume, pitch};
use crate::isa::Isa;
use crate::lanes::{Lanes, Work, vectorise};
use crate::product::rectangle::Rectangle;
use crate::scratch;

/// Numbers of inputs and gradients that are gone over for every tap.
const STRIP: usize = 24 * 1024;

/// Pixels of a strip and their gradients.
#[derive(Clone, Copy)]
struct Job<'a> {
    window: &'a [f32],
    /// (row, pixel, lane).
    grad: &'a [f32],
    vectors: usize,
    rows: usize,
    cols: usize,
    /// From one pixel to the next, and from one row to the next.
    step: usize,
    line: usize,
    /// From one row of the kernel to the next in the window, and numbers of one: taps and
    /// channels, side by side.
    tap_line: usize,
    run: usize,
}

pub(super) fn gradient(
    isa: Isa,
    shape: &Shape,
    clips: usize,
    [input, output]: [[usize; 3]; 2],
    x: &[f32],
    grad: &[f32],
    out: &mut [f32],
) {
    let [kt, kh, kw] = shape.kernel;
    let to = shape.outputs / shape.groups;
    let vectors = if isa.has_avx512() && to > 16 { 2 } else { 1 };
    let tasks: Vec<_> = blocks(shape.groups, shape.inputs, shape.outputs, vectors)
        .flat_map(|(outputs, inputs)| {
            let chunks = inputs.start / CHUNK..inputs.end.div_ceil(CHUNK);
            chunks.map(move |chunk| (outputs.clone(), chunk))
        })
        .flat_map(|(outputs, chunk)| (0..kt).map(move |k| (outputs.clone(), chunk, k)))
        .collect();
    let from = shape.inputs / shape.groups;
    let plane = kh * kw;
    let whole = Rectangle::new(out, kt * plane, shape.outputs * from, kt * plane);
    let pitch = pitch(shape.inputs);
    let (lanes, run) = (vectors * 16, kw * pitch);
    let [depth, height, width] = output;
    let cols = (width - 1) * shape.stride[2] + kw;
    // Of each row of the output; what the last taps read beside.
    let line = shape.stride[1] * cols * pitch + width * lanes;
    let most = STRIP.saturating_sub(kh * cols * pitch) / line;
    let strips = height.div_ceil(most.clamp(1, height));
    let volume = input.iter().product::<usize>() * shape.inputs;
    tasks.into_par_iter().for_each(|(outputs, chunk, k)| {
        let region = |rows: usize| Region {
            first: [0, 0, -(shape.padding[2] as isize)],
            len: [1, (rows - 1) * shape.stride[1] + kh, cols],
        };
        let rows = height.div_ceil(strips);
        let lengths = [
            kh * run * lanes,
            region(rows).chunk(pitch),
            rows * width * lanes,
        ];
        scratch::with(lengths.iter().sum::<usize>() + 48, |scratch| {
            let [sums, window, packed] = scratch::split(scratch, lengths);
            sums.fill(0.0);
            packed.fill(0.0);
            for at in 0..clips * depth * strips {
                let (plane, strip) = (at / strips, at % strips);
                let (clip, t) = (plane / depth, plane % depth);
                let t_in = (t * shape.stride[0] + k) as isize - shape.padding[0] as isize;
                if !(0..input[0] as isize).contains(&t_in) {
                    continue;
                }
                let (first, end) = (height * strip / strips, height * (strip + 1) / strips);
                let mut region = region(end - first);
                region.first[0] = t_in;
                region.first[1] = (first * shape.stride[1]) as isize - shape.padding[1] as isize;
                let x = Volume {
                    data: &x[clip * volume..][..volume],
                    size: input,
                    channels: shape.inputs,
                };
                let window = &mut window[..region.chunk(pitch)];
                x.copy(isa, region, chunk..chunk + 1, window);
                let rows = (plane * height + first) * width..(plane * height + end) * width;
                let of_rows = &grad[rows.start * shape.outputs..rows.end * shape.outputs];
                for (pixel, packed) in of_rows
                    .chunks_exact(shape.outputs)
                    .zip(packed.chunks_exact_mut(lanes))
                {
                    match (
                        packed.first_chunk_mut::<32>(),
                        pixel[outputs.start..].first_chunk(),
                    ) {
                        (Some(packed), Some(pixel)) if outputs.len() == 32 => *packed = *pixel,
                        _ => packed[..outputs.len()].copy_from_slice(&pixel[outputs.clone()]),
                    }
                }
                let job = Job {
                    window,
                    grad: packed,
                    vectors,
                    rows: end - first,
                    cols: width,
                    step: shape.stride[2] * pitch,
                    line: shape.stride[1] * cols * pitch,
                    tap_line: cols * pitch,
                    run,
                };
                let sums = &mut *sums;
                vectorise!(isa, tiles(job: Job<'_>, sums: &mut [f32]));
            }
            for (lane, o) in outputs.clone().enumerate() {
                let group = o / to;
                for i in group * from..(group + 1) * from {
                    if i / CHUNK != chunk {
                        continue;
                    }
                    // SAFETY: each task has outputs, inputs or frames of the kernel of its own.
                    let mut row = unsafe { whole.part(o * from + i % from, 1, k * plane, plane) };
                    for (tap, out) in row.row(0, 0, plane).iter_mut().enumerate() {
                        let at = tap / kw * run + tap % kw * pitch + i % CHUNK;
                        *out = sums[at * lanes + lane];
                    }
                }
            }
        });
    });
}

#[inline(always)]
fn tiles<L: Lanes>(simd: L, job: Job<'_>, sums: &mut [f32]) {
    match job.vectors {
        2 if const { L::ACCUMULATORS >= 24 } => runs::<L, 2>(simd, job, sums),
        _ => runs::<L, 1>(simd, job, sums),
    }
}

/// Cuts the runs of taps into tiles.
#[inline(always)]
fn runs<L: Lanes, const V: usize>(simd: L, job: Job<'_>, sums: &mut [f32]) {
    let (sums, _) = sums.as_chunks_mut::<16>();
    for (tap, sums) in sums.chunks_exact_mut(job.run * V).enumerate() {
        let mut at = 0;
        while at < job.run {
            let from = tap * job.tap_line + at;
            let sums = &mut sums[at * V..];
            macro_rules! sizes {
                ($($n:literal)*) => {
                    match job.run - at {
                        $($n.. if const { $n * V <= L::ACCUMULATORS } => {
                            simd.outline(Tile::<V, $n> { job, from, sums });
                            at += $n;
                        })*
                        _ => at = job.run,
                    }
                };
            }
            sizes!(16 8 4 2 1);
        }
    }
}

/// `N` inputs times `V` vectors of outputs.
struct Tile<'a, const V: usize, const N: usize> {
    job: Job<'a>,
    from: usize,
    sums: &'a mut [[f32; 16]],
}

impl<L: Lanes, const V: usize, const N: usize> Work<L> for Tile<'_, V, N> {
    #[inline(always)]
    fn run(self, simd: L) {
        let Self { job, from, sums } = self;
        let out = &mut sums[..N * V];
        let mut sums = [[simd.splat(0.0); V]; N];
        let (grad, _) = job.grad.as_chunks::<16>();
        let rows = grad.chunks_exact(job.cols * V).take(job.rows);
        for (row, grad) in rows.enumerate() {
            let x = &job.window[from + row * job.line..];
            for (pixel, grad) in grad.chunks_exact(V).enumerate() {
                let x = &x[pixel * job.step..][..N];
                let mut g = [simd.splat(0.0); V];
                for v in 0..V {
                    g[v] = simd.load(&grad[v]);
                }
                for n in 0..N {
                    let a = simd.splat(x[n]);
                    for v in 0..V {
                        sums[n][v] = simd.mul_add(a, g[v], sums[n][v]);
                    }
                }
            }
        }
        for n in 0..N {
            for v in 0..V {
                let sum = simd.add(simd.load(&out[n * V + v]), sums[n][v]);
                simd.store(sum, &mut out[n * V + v]);
            }
        }
    }
}
