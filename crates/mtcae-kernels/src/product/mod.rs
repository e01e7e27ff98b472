//! Products of matrices, packed into panels and cut into blocks for the caches
//! (Goto and van de Geijn, 2008, "Anatomy of High-Performance Matrix
//! Multiplication"), on micro-kernels for each instruction set.
//!
//! | instruction set | tile | how |
//! |---|---|---|
//! | AMX | 32×32 | each `f32` as three bf16, six products of them ([`amx`]) |
//! | AVX-512 | 14×32 | fused multiply-adds ([`fma`]) |
//! | AVX2 | 6×16 | the same |
//! | portable | 2×16 | multiply and add |
//!
//! The result is cut into blocks of rows, and the order in which an element's
//! terms are added follows from the shapes alone: never from the threads.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod amx;
mod fma;

use rayon::prelude::*;

use crate::isa::{Isa, Level};
use crate::lanes::{Lanes, vectorise};
use crate::matrix::{MatMut, MatRef};
use crate::scratch;

/// Terms of the inner dimension that are packed at a time.
const DEPTH: usize = 2048;

/// A micro-kernel: what it wants its operands packed as, and the product of two
/// panels.
pub(crate) trait Kernel: Copy {
    /// Rows of a panel of the left operand.
    const ROWS: usize;
    /// Columns of a panel of the right operand.
    const COLS: usize;
    /// Terms of the inner dimension that are packed together; panels are padded
    /// with zeros to whole steps.
    const STEP: usize;
    /// `f32` that a step of a left panel takes.
    const LEFT: usize;
    /// `f32` that a step of a right panel takes.
    const RIGHT: usize;
    /// Steps after which sums go to memory, so that panels fit the cache.
    const RUN: usize;

    /// Readies the calling thread for [`Kernel::tile`].
    fn begin(self);
    /// Undoes [`Kernel::begin`].
    fn end(self);
    /// Packs at most `ROWS` rows.
    fn pack_left(self, rows: MatRef<'_>, out: &mut [f32]);
    /// Packs at most `COLS` columns, given as the rows of the transposed view.
    fn pack_right(self, columns: MatRef<'_>, out: &mut [f32]);
    /// `ROWS`×`COLS` sums over `steps` steps, row by row into `out`.
    fn tile(self, left: &[f32], right: &[f32], steps: usize, out: &mut Tile);
}

/// The sums of one call of a micro-kernel.
#[repr(align(64))]
pub(crate) struct Tile([f32; 1024]);

/// What a product starts from.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// Nothing: the result is overwritten.
    Zero,
    /// What the result holds: the product is added to it.
    Result,
    /// A bias (n) for every row.
    Bias(&'a [f32]),
}

/// out (m, n) = start + alpha·lhs (m, k)·rhs (k, n), over rayon's current pool.
///
/// # Panics
/// When the shapes do not chain.
pub fn product(lhs: MatRef<'_>, rhs: MatRef<'_>, alpha: f32, start: Start<'_>, out: MatMut<'_>) {
    product_with(Isa::best(), lhs, rhs, alpha, start, out);
}

/// [`product`] with a given instruction set.
pub fn product_with(
    isa: Isa,
    lhs: MatRef<'_>,
    rhs: MatRef<'_>,
    alpha: f32,
    start: Start<'_>,
    out: MatMut<'_>,
) {
    run(isa, lhs, rhs, alpha, start, out, true);
}

/// As [`product_with`], on the calling thread alone.
pub(crate) fn product_here(
    isa: Isa,
    lhs: MatRef<'_>,
    rhs: MatRef<'_>,
    alpha: f32,
    start: Start<'_>,
    out: MatMut<'_>,
) {
    run(isa, lhs, rhs, alpha, start, out, false);
}

fn run(
    isa: Isa,
    lhs: MatRef<'_>,
    rhs: MatRef<'_>,
    alpha: f32,
    start: Start<'_>,
    out: MatMut<'_>,
    threads: bool,
) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    assert_eq!(rhs.rows, k, "product: inner dimensions");
    assert!(
        out.rows == m && out.cols == n,
        "product: the result is {m}×{n}"
    );
    if let Start::Bias(bias) = start {
        assert_eq!(bias.len(), n, "product: the bias has {n} elements");
    }
    if m == 0 || n == 0 {
        return;
    }
    let sizes = Sizes::of(isa);
    let stride = out.row_stride;
    // The last row ends where its elements do.
    let data = &mut out.data[..(m - 1) * stride + n];
    let slices = k.div_ceil(DEPTH).max(1);
    let slice = k.div_ceil(slices).next_multiple_of(sizes.step);
    for (i, first) in (0..k.max(1)).step_by(slice.max(1)).enumerate() {
        let depth = slice.min(k - first.min(k));
        let steps = depth.div_ceil(sizes.step);
        let right = sizes.right * steps;
        scratch::with(right * n.div_ceil(sizes.cols), |packed| {
            let rhs = rhs.part(first, depth, 0, n).t();
            let pack = |(j, out): (usize, &mut [f32])| {
                let from = j * sizes.cols;
                let columns = rhs.part(from, sizes.cols.min(n - from), 0, depth);
                pack_right(isa, columns, out);
            };
            let job = Job {
                right: &[],
                steps,
                n,
                stride,
                alpha,
                start: if i == 0 { start } else { Start::Result },
            };
            let rows = sizes.block(m);
            let work = |job: Job<'_>, (b, out): (usize, &mut [f32])| {
                let from = b * rows;
                let lhs = lhs.part(from, rows.min(m - from), first, depth);
                block(isa, job, lhs, out);
            };
            if right > 0 {
                match threads {
                    true => packed.par_chunks_mut(right).enumerate().for_each(pack),
                    false => packed.chunks_mut(right).enumerate().for_each(pack),
                }
            }
            let job = Job {
                right: packed,
                ..job
            };
            match threads {
                true => data
                    .par_chunks_mut(rows * stride)
                    .enumerate()
                    .for_each(|x| work(job, x)),
                false => data
                    .chunks_mut(rows * stride)
                    .enumerate()
                    .for_each(|x| work(job, x)),
            }
        });
    }
}

/// A kernel's constants, for the code outside of it.
struct Sizes {
    rows: usize,
    cols: usize,
    step: usize,
    right: usize,
}

impl Sizes {
    fn of(isa: Isa) -> Self {
        fn of<K: Kernel>() -> Sizes {
            Sizes {
                rows: K::ROWS,
                cols: K::COLS,
                step: K::STEP,
                right: K::RIGHT,
            }
        }
        match isa.level() {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Level::Amx => of::<amx::Amx>(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => of::<fma::Wide<crate::lanes::Avx512>>(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => of::<fma::Narrow<crate::lanes::Avx2>>(),
            Level::Portable => of::<fma::Small<crate::lanes::Portable>>(),
        }
    }

    /// Rows that one task works on, of `m`: few enough that every core of a small
    /// machine gets several, many enough that a right panel is used often.
    fn block(&self, m: usize) -> usize {
        (m.div_ceil(self.rows) / 16).clamp(1, 128usize.div_ceil(self.rows)) * self.rows
    }
}

/// What the tasks of one product share.
#[derive(Clone, Copy)]
struct Job<'a> {
    /// The right operand's panels, one after the other.
    right: &'a [f32],
    steps: usize,
    n: usize,
    /// Elements from one row of the result to the next.
    stride: usize,
    alpha: f32,
    start: Start<'a>,
}

fn pack_right(isa: Isa, columns: MatRef<'_>, out: &mut [f32]) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if isa.level() == Level::Amx {
        return amx::pack_right(columns, out);
    }
    vectorise!(isa, pack_right_lanes(columns: MatRef<'_>, out: &mut [f32]));
}

#[inline(always)]
fn pack_right_lanes<L: Lanes>(simd: L, columns: MatRef<'_>, out: &mut [f32]) {
    if L::ACCUMULATORS >= 24 {
        fma::Wide(simd).pack_right(columns, out);
    } else if L::ACCUMULATORS >= 6 {
        fma::Narrow(simd).pack_right(columns, out);
    } else {
        fma::Small(simd).pack_right(columns, out);
    }
}

/// Rows of the result: `lhs` holds their rows of the left operand.
fn block(isa: Isa, job: Job<'_>, lhs: MatRef<'_>, out: &mut [f32]) {
    let sizes = Sizes::of(isa);
    let left = lhs.rows.div_ceil(sizes.rows) * job.steps * left_words(isa);
    scratch::with(left, |packed| {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if isa.level() == Level::Amx {
            return amx::block(job, lhs, packed, out);
        }
        vectorise!(isa, block_lanes(job: Job<'_>, lhs: MatRef<'_>, packed: &mut [f32], out: &mut [f32]));
    });
}

fn left_words(isa: Isa) -> usize {
    match isa.level() {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Level::Amx => amx::Amx::LEFT,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => fma::Wide::<crate::lanes::Avx512>::LEFT,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => fma::Narrow::<crate::lanes::Avx2>::LEFT,
        Level::Portable => fma::Small::<crate::lanes::Portable>::LEFT,
    }
}

#[inline(always)]
fn block_lanes<L: Lanes>(
    simd: L,
    job: Job<'_>,
    lhs: MatRef<'_>,
    packed: &mut [f32],
    out: &mut [f32],
) {
    if L::ACCUMULATORS >= 24 {
        block_on(fma::Wide(simd), job, lhs, packed, out);
    } else if L::ACCUMULATORS >= 6 {
        block_on(fma::Narrow(simd), job, lhs, packed, out);
    } else {
        block_on(fma::Small(simd), job, lhs, packed, out);
    }
}

/// Packs the rows, then multiplies panel by panel, `RUN` steps at a time.
#[inline(always)]
fn block_on<K: Kernel>(
    kernel: K,
    job: Job<'_>,
    lhs: MatRef<'_>,
    packed: &mut [f32],
    out: &mut [f32],
) {
    let (m, depth) = (lhs.rows, lhs.cols);
    let left = job.steps * K::LEFT;
    let right = job.steps * K::RIGHT;
    if depth > 0 {
        for (i, out) in packed.chunks_exact_mut(left).enumerate() {
            let from = i * K::ROWS;
            kernel.pack_left(lhs.part(from, K::ROWS.min(m - from), 0, depth), out);
        }
    }
    kernel.begin();
    let mut tile = Tile([0.0; 1024]);
    let runs = job.steps.div_ceil(K::RUN).max(1);
    let mut done = 0;
    for run in 0..runs {
        let end = job.steps * (run + 1) / runs;
        let start = if run == 0 { job.start } else { Start::Result };
        for (j, column) in (0..job.n).step_by(K::COLS).enumerate() {
            let b = &job.right[j * right..(j + 1) * right][done * K::RIGHT..end * K::RIGHT];
            let cols = K::COLS.min(job.n - column);
            for (i, row) in (0..m).step_by(K::ROWS).enumerate() {
                let a = &packed[i * left..(i + 1) * left][done * K::LEFT..end * K::LEFT];
                kernel.tile(a, b, end - done, &mut tile);
                let out = &mut out[row * job.stride + column..];
                let rows = K::ROWS.min(m - row);
                let from = match start {
                    Start::Bias(bias) => Start::Bias(&bias[column..column + cols]),
                    other => other,
                };
                write::<K>(&tile, rows, cols, job.alpha, from, out, job.stride);
            }
        }
        done = end;
    }
    kernel.end();
}

/// Adds a tile's sums to what the result starts from.
#[inline(always)]
fn write<K: Kernel>(
    tile: &Tile,
    rows: usize,
    cols: usize,
    alpha: f32,
    start: Start<'_>,
    out: &mut [f32],
    stride: usize,
) {
    for (r, sums) in tile.0.chunks_exact(K::COLS).take(rows).enumerate() {
        let out = &mut out[r * stride..r * stride + cols];
        match start {
            Start::Zero => {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = alpha * sum;
                }
            }
            Start::Result => {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out += alpha * sum;
                }
            }
            Start::Bias(bias) => {
                for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                    *out = bias + alpha * sum;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
