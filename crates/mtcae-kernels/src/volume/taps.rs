//! A convolution by its taps: a tile of pixels of a row times vectors of output channels
//! stays in registers while taps and input channels go by.
//!
//! The gradient of an input is one as well, of the gradient of the output; of a stride s the
//! outputs of each residue of s read taps of their own.

use std::ops::Range;

use rayon::prelude::*;

use super::Shape;
use super::tile::{Finish, Job, finish_row, tiles};
use super::window::{CHUNK, Region, Volume, pitch};
use crate::buffer::Buffer;
use crate::isa::Isa;
use crate::lanes::{Lanes, vectorise};
use crate::product::rectangle::Rectangle;
use crate::product::schedule;
use crate::scratch;

/// Numbers of a window that a task reads: a part of the second-level cache.
const WINDOW: usize = 64 * 1024;
/// Numbers of the weights that are read again for each row of a task, in the rest of it.
const WEIGHTS: usize = 64 * 1024;
/// Tasks that a thread is to have at least.
const TASKS: usize = 4;

/// How outputs along one axis read inputs. Output o = `phases`·q + φ reads `step`·q + offset
/// for each tap (index in the kernel, offset) of phase φ; the offsets are a run of whole
/// numbers, up or down.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    step: usize,
    phases: Vec<Vec<(usize, isize)>>,
}

impl Axis {
    fn forward(kernel: usize, stride: usize, padding: usize) -> Self {
        let taps = (0..kernel).map(|k| (k, k as isize - padding as isize));
        Self {
            step: stride,
            phases: vec![taps.collect()],
        }
    }

    /// Input u = s·q + φ meets output (u + padding − k)/s by tap k, where that is whole.
    fn backward(kernel: usize, stride: usize, padding: usize) -> Self {
        let phase = |phase: usize| {
            let first = (phase + padding) % stride;
            let taps = (first..kernel).step_by(stride);
            let offset = |k: usize| ((phase + padding) as isize - k as isize) / stride as isize;
            taps.map(|k| (k, offset(k))).collect()
        };
        Self {
            step: 1,
            phases: (0..stride).map(phase).collect(),
        }
    }

    /// Outputs of a phase among `n`.
    fn count(&self, n: usize, phase: usize) -> usize {
        n.saturating_sub(phase).div_ceil(self.phases.len())
    }
}

/// Of some taps: the lowest offset, and how many places from it to the highest.
fn extent(taps: &[(usize, isize)]) -> (isize, usize) {
    let offsets = || taps.iter().map(|tap| tap.1);
    let (low, high) = (offsets().min().unwrap_or(0), offsets().max().unwrap_or(0));
    (low, (high - low) as usize + 1)
}

/// Output channels that are computed together, and the inputs that they read.
#[derive(Clone, Debug)]
struct Block {
    outputs: Range<usize>,
    inputs: Range<usize>,
}

impl Block {
    fn chunks(&self) -> Range<usize> {
        self.inputs.start / CHUNK..self.inputs.end.div_ceil(CHUNK)
    }

    /// The first channel that is read of a chunk, and how many.
    fn of_chunk(&self, chunk: usize) -> (usize, usize) {
        let first = self.inputs.start.max(chunk * CHUNK);
        let end = self.inputs.end.min((chunk + 1) * CHUNK);
        (first - chunk * CHUNK, end - first)
    }
}

/// Packed weights.
#[derive(Debug)]
pub(super) struct Taps {
    isa: Isa,
    inputs: usize,
    outputs: usize,
    axes: [Axis; 3],
    /// Vectors of a block.
    vectors: usize,
    blocks: Vec<Block>,
    /// Where the weights of each block of each phase begin: (phase, block).
    starts: Vec<usize>,
    /// (phase, block, chunk, tap, channel, lane).
    weights: Buffer,
    /// A number for each lane of each block, or none.
    bias: Vec<f32>,
}

/// Vectors of outputs for which tiles of rows of `width` pixels fill the registers.
fn vectors(isa: Isa, outputs: usize, width: usize) -> usize {
    match outputs {
        _ if !isa.has_avx512() => 1,
        64.. if width <= 7 => 4,
        17.. => 2,
        _ => 1,
    }
}

/// Blocks of `vectors` vectors, of `groups` from inputs to outputs.
pub(super) fn blocks(
    groups: usize,
    inputs: usize,
    outputs: usize,
    vectors: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let (from, to, lanes) = (inputs / groups, outputs / groups, vectors * 16);
    (0..outputs).step_by(lanes).map(move |first| {
        let end = outputs.min(first + lanes);
        let inputs = first / to * from..((end - 1) / to + 1) * from;
        (first..end, inputs)
    })
}

impl Taps {
    /// The convolution of a shape.
    pub(super) fn forward(
        isa: Isa,
        shape: &Shape,
        width: usize,
        weight: &[f32],
        bias: &[f32],
    ) -> Self {
        let axes =
            [0, 1, 2].map(|i| Axis::forward(shape.kernel[i], shape.stride[i], shape.padding[i]));
        let (inputs, outputs) = (shape.inputs, shape.outputs);
        Self::pack(
            isa,
            shape,
            [inputs, outputs, width],
            axes,
            bias,
            weight,
            false,
        )
    }

    /// The gradient of its input.
    pub(super) fn backward(isa: Isa, shape: &Shape, width: usize, weight: &[f32]) -> Self {
        let axes =
            [0, 1, 2].map(|i| Axis::backward(shape.kernel[i], shape.stride[i], shape.padding[i]));
        let (inputs, outputs) = (shape.outputs, shape.inputs);
        let width = width.div_ceil(shape.stride[2]);
        Self::pack(
            isa,
            shape,
            [inputs, outputs, width],
            axes,
            &[],
            weight,
            true,
        )
    }

    fn pack(
        isa: Isa,
        shape: &Shape,
        [inputs, outputs, width]: [usize; 3],
        axes: [Axis; 3],
        bias: &[f32],
        weight: &[f32],
        reversed: bool,
    ) -> Self {
        let groups = shape.groups;
        let (from, to) = (inputs / groups, outputs / groups);
        let vectors = vectors(isa, to, width);
        let lanes = vectors * 16;
        let blocks: Vec<Block> = blocks(groups, inputs, outputs, vectors)
            .map(|(outputs, inputs)| Block { outputs, inputs })
            .collect();
        let mut starts = Vec::new();
        let mut len = 0;
        let mut phases = Vec::new();
        for t in &axes[0].phases {
            for h in &axes[1].phases {
                for w in &axes[2].phases {
                    let [_, kh, kw] = shape.kernel;
                    let taps: Vec<usize> = t
                        .iter()
                        .flat_map(|t| h.iter().map(move |h| t.0 * kh + h.0))
                        .flat_map(|th| w.iter().map(move |w| th * kw + w.0))
                        .collect();
                    for block in &blocks {
                        starts.push(len);
                        len += taps.len() * block.inputs.len() * lanes;
                    }
                    phases.push(taps);
                }
            }
        }
        let mut weights = Buffer::zeroed(len);
        let all: usize = shape.kernel.iter().product();
        let mut parts = Vec::new();
        let mut rest = &mut weights[..];
        for (i, start) in starts.iter().enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(len);
            let (part, later) = std::mem::take(&mut rest).split_at_mut(end - start);
            parts.push((&phases[i / blocks.len()], &blocks[i % blocks.len()], part));
            rest = later;
        }
        let some = parts.into_par_iter().filter(|part| !part.0.is_empty());
        some.for_each(|(taps, block, part)| {
            if groups == 1 {
                let strides = match reversed {
                    false => [inputs, 1],
                    true => [1, outputs],
                };
                let mut places = vec![None; all];
                for (place, &tap) in taps.iter().enumerate() {
                    places[tap] = Some(place);
                }
                let packing = Packing {
                    weight,
                    all,
                    strides,
                    block,
                    taps: taps.len(),
                    places: &places,
                    lanes,
                };
                vectorise!(isa, pack_dense(packing: Packing<'_>, part: &mut [f32]));
                return;
            }
            for (lane, o) in block.outputs.clone().enumerate() {
                let group = o / to;
                for i in group * from..(group + 1) * from {
                    // The weight's own order of channels.
                    let row = match reversed {
                        false => o * from + i % from,
                        true => i * to + o % to,
                    };
                    let kernel = &weight[row * all..][..all];
                    let (first, some) = block.of_chunk(i / CHUNK);
                    let before = (i / CHUNK * CHUNK + first) - block.inputs.start;
                    let at = before * taps.len() + (i % CHUNK - first);
                    let column = part[at * lanes + lane..].iter_mut();
                    for (out, &tap) in column.step_by(some * lanes).zip(taps) {
                        *out = kernel[tap];
                    }
                }
            }
        });
        let mut bias = bias.to_vec();
        if !bias.is_empty() {
            bias.resize(blocks.len() * lanes, 0.0);
        }
        Self {
            isa,
            inputs,
            outputs,
            axes,
            vectors,
            blocks,
            starts,
            weights,
            bias,
        }
    }

    /// x (clips, input, inputs) → out (clips, output, outputs).
    pub(super) fn run(
        &self,
        clips: usize,
        input: [usize; 3],
        output: [usize; 3],
        x: &[f32],
        finish: Finish,
        out: &mut [f32],
    ) {
        let [depth, height, width] = output;
        let pitch = pitch(self.inputs);
        let [_, of_h, of_w] = &self.axes;
        // Rows of a strip, counted without their residues.
        let places = |axis: &Axis| axis.phases.iter().map(|p| extent(p).1).max().unwrap_or(1);
        let rows = of_h.count(height, 0);
        let chunks = self.blocks.iter().map(|b| b.chunks().len()).max();
        let line = chunks.unwrap_or(1)
            * places(&self.axes[0]).min(input[0])
            * (of_w.count(width, 0) * of_w.step + places(of_w))
            * pitch;
        let most = (WINDOW / line).saturating_sub(places(of_h)) / of_h.step;
        let strips = rows.div_ceil(most.clamp(1, rows));
        let planes = clips * depth;
        let wanted = TASKS * rayon::current_num_threads();
        let across = wanted.div_ceil(planes * strips).clamp(1, self.blocks.len());
        let volume = input.iter().product::<usize>() * self.inputs;
        let whole = Rectangle::new(out, self.outputs, planes * height * width, self.outputs);
        (0..planes * strips * across)
            .into_par_iter()
            .for_each(|task| {
                let (task, part) = (task / across, task % across);
                let (plane, strip) = (task / strips, task % strips);
                let x = Volume {
                    data: &x[plane / depth * volume..][..volume],
                    size: input,
                    channels: self.inputs,
                };
                let blocks = schedule::part(self.blocks.len(), across, part);
                let strip = Strip {
                    of: self,
                    x,
                    plane,
                    output,
                    rows: schedule::part(rows, strips, strip),
                    blocks,
                    finish,
                };
                strip.compute(&whole);
            });
    }
}

/// How one block of one group is packed.
#[derive(Clone, Copy)]
struct Packing<'a> {
    weight: &'a [f32],
    /// Taps of the whole kernel.
    all: usize,
    /// Kernels from one output to the next, and from one input to the next.
    strides: [usize; 2],
    block: &'a Block,
    /// Taps that are packed, and where each of all goes.
    taps: usize,
    places: &'a [Option<usize>],
    lanes: usize,
}

/// Sixteen taps of sixteen outputs at a time, transposed.
#[inline(always)]
fn pack_dense<L: Lanes>(simd: L, of: Packing<'_>, part: &mut [f32]) {
    let (outputs, lanes) = (&of.block.outputs, of.lanes);
    for i in of.block.inputs.clone() {
        let chunk = i / CHUNK;
        let some = of.block.of_chunk(chunk).1;
        let at = chunk * CHUNK * of.taps + i % CHUNK;
        for first in outputs.clone().step_by(16) {
            for (tap, places) in (0..of.all).step_by(16).zip(of.places.chunks(16)) {
                let mut square = [[0.0; 16]; 16];
                for o in first..outputs.end.min(first + 16) {
                    let kernel = (o * of.strides[0] + i * of.strides[1]) * of.all;
                    let from = &of.weight[kernel + tap..];
                    match from.first_chunk() {
                        Some(taps) => square[o - first] = *taps,
                        None => square[o - first][..from.len()].copy_from_slice(from),
                    }
                }
                simd.transpose(&mut square);
                for (lanes_of, place) in square.iter().zip(places) {
                    if let Some(place) = place {
                        let at = (at + place * some) * lanes + first - outputs.start;
                        part[at..at + 16].copy_from_slice(lanes_of);
                    }
                }
            }
        }
    }
}

/// The work of one task: some rows of a plane, some blocks of outputs.
struct Strip<'a> {
    of: &'a Taps,
    x: Volume<'a>,
    /// The plane, counted over all volumes.
    plane: usize,
    output: [usize; 3],
    /// Rows, counted without their residues.
    rows: Range<usize>,
    blocks: Range<usize>,
    finish: Finish,
}

impl Strip<'_> {
    fn compute(&self, whole: &Rectangle<'_>) {
        let of = self.of;
        let [depth, height, width] = self.output;
        let t = self.plane % depth;
        let [of_t, of_h, of_w] = &of.axes;
        let (phase_t, at_t) = (t % of_t.phases.len(), t / of_t.phases.len());
        let base = (at_t * of_t.step) as isize;
        let inside = |tap: &(usize, isize)| (0..self.x.size[0] as isize).contains(&(base + tap.1));
        let taps_t = &of_t.phases[phase_t];
        let used = taps_t.iter().position(inside).unwrap_or(0);
        let end = taps_t
            .iter()
            .rposition(inside)
            .map_or(used, |last| last + 1);
        for phase_h in 0..of_h.phases.len() {
            let rows = self.rows.start..self.rows.end.min(of_h.count(height, phase_h));
            if rows.is_empty() {
                continue;
            }
            for phase_w in 0..of_w.phases.len() {
                let cols = of_w.count(width, phase_w);
                if cols == 0 {
                    continue;
                }
                let phases = [phase_t, phase_h, phase_w];
                self.phase(phases, base, used..end, rows.clone(), cols, whole);
            }
        }
    }

    fn phase(
        &self,
        phases: [usize; 3],
        base: isize,
        used: Range<usize>,
        rows: Range<usize>,
        cols: usize,
        whole: &Rectangle<'_>,
    ) {
        let of = self.of;
        let pitch = pitch(of.inputs);
        let [of_t, of_h, of_w] = &of.axes;
        let all_t = &of_t.phases[phases[0]];
        let (taps_t, taps_h, taps_w) = (
            &all_t[used.clone()],
            &of_h.phases[phases[1]],
            &of_w.phases[phases[2]],
        );
        let (low_t, len_t) = extent(taps_t);
        let (low_h, len_h) = extent(taps_h);
        let (low_w, len_w) = extent(taps_w);
        let region = Region {
            first: [
                base + low_t,
                (rows.start * of_h.step) as isize + low_h,
                low_w,
            ],
            len: [
                len_t,
                (rows.len() - 1) * of_h.step + len_h,
                (cols - 1) * of_w.step + len_w,
            ],
        };
        let taps: Vec<usize> = taps_t
            .iter()
            .flat_map(|t| taps_h.iter().map(move |h| (t.1 - low_t, h.1 - low_h)))
            .flat_map(|(t, h)| taps_w.iter().map(move |w| [t, h, w.1 - low_w]))
            .map(|at| {
                let [t, h, w] = at.map(|n| n as usize);
                ((t * region.len[1] + h) * region.len[2] + w) * pitch
            })
            .collect();
        let plane = taps_h.len() * taps_w.len();
        let (all, skipped) = (all_t.len() * plane, used.start * plane);
        let lanes = of.vectors * 16;
        let phase = (phases[0] * of_h.phases.len() + phases[1]) * of_w.phases.len() + phases[2];
        let mut chunks = self.blocks.clone().map(|b| of.blocks[b].chunks().len());
        let most = chunks.by_ref().max().unwrap_or(0);
        let room = most * region.chunk(pitch);
        scratch::with(room + rows.len() * cols * lanes + 16, |scratch| {
            let [window, sums] = scratch::split(scratch, [room, rows.len() * cols * lanes]);
            let mut held = 0..0;
            for b in self.blocks.clone() {
                let block = &of.blocks[b];
                let chunks = block.chunks();
                if taps.is_empty() {
                    sums.fill(0.0);
                } else if held != chunks {
                    let len = chunks.len() * region.chunk(pitch);
                    self.x
                        .copy(of.isa, region, chunks.clone(), &mut window[..len]);
                    held = chunks.clone();
                }
                let mut weights = &of.weights[of.starts[phase * of.blocks.len() + b]..];
                let group = (WEIGHTS / (taps.len().max(1) * CHUNK * lanes)).max(1);
                let mut from = chunks.start;
                while from < chunks.end && !taps.is_empty() {
                    let to = chunks.end.min(from + group);
                    let places: Vec<(usize, usize)> = (from..to)
                        .map(|chunk| {
                            let (first, some) = block.of_chunk(chunk);
                            ((chunk - chunks.start) * region.chunk(pitch) + first, some)
                        })
                        .collect();
                    let job = Job {
                        window,
                        chunks: &places,
                        taps: &taps,
                        weights,
                        all,
                        skipped,
                        vectors: of.vectors,
                        step: of_w.step * pitch,
                        line: of_h.step * region.len[2] * pitch,
                        cols,
                        fresh: from == chunks.start,
                    };
                    let out = &mut *sums;
                    vectorise!(of.isa, tiles(job: Job<'_>, out: &mut [f32]));
                    let some: usize = places.iter().map(|place| place.1).sum();
                    weights = &weights[some * all * lanes..];
                    from = to;
                }
                self.put(phases, rows.clone(), cols, b, sums, whole);
            }
        });
    }

    /// Writes the sums of a block.
    fn put(
        &self,
        phases: [usize; 3],
        rows: Range<usize>,
        cols: usize,
        block: usize,
        sums: &[f32],
        whole: &Rectangle<'_>,
    ) {
        let of = self.of;
        let [_, height, width] = self.output;
        let [_, of_h, of_w] = &of.axes;
        let outputs = of.blocks[block].outputs.clone();
        let lanes = of.vectors * 16;
        let bias = of.bias.get(block * lanes..(block + 1) * lanes);
        let (isa, finish) = (of.isa, self.finish);
        for (row, sums) in rows.zip(sums.chunks_exact(cols * lanes)) {
            let h = row * of_h.phases.len() + phases[1];
            let first = (self.plane * height + h) * width;
            // SAFETY: each task has rows of its own, or else channels of its own.
            let mut line = unsafe { whole.part(first, width, outputs.start, outputs.len()) };
            let step = of_w.phases.len();
            let (line, from) = (&mut line, phases[2]);
            vectorise!(isa, finish_row(line: &mut Rectangle<'_>, from: usize, step: usize, lanes: usize, bias: Option<&[f32]>, sums: &[f32], finish: Finish));
        }
    }
}
