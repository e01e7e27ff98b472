//! Products of matrices, packed into panels and cut into blocks for the caches
//! (Goto and van de Geijn, 2008, "Anatomy of High-Performance Matrix
//! Multiplication"), on micro-kernels for each instruction set.
//!
//! | instruction set | tile | how |
//! |---|---|---|
//! | AMX | 32×32 | each `f32` as three digits, six products of them (`amx`) |
//! | AVX-512 | 14×32 | fused multiply-adds (`fma`) |
//! | AVX2 | 6×16 | the same |
//! | portable | 2×16 | multiply and add |
//!
//! The result is cut into blocks of rows, and the order in which an element's
//! terms are added follows from the shapes alone: never from the threads.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod fma;

use std::marker::PhantomData;

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::isa::{Isa, Level};
use crate::lanes::{Lanes, vectorise};
use crate::matrix::{MatMut, MatRef};
use crate::scratch;

/// Terms of the inner dimension that are packed at a time: a task's packed rows
/// are to fit the second-level cache.
const DEPTH: usize = 1024;

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
    /// `f32` that stand behind the steps of a panel. Panels that have some are of
    /// one run.
    const TAIL: usize = 0;
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
    /// Puts GELU in the place of each element.
    fn gelu(self, row: &mut [f32]);
    /// Asks the caches for a part of a right panel that is needed soon.
    #[inline(always)]
    fn fetch(self, _: &[f32]) {}
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
    /// What the result holds, and a bias (n) for every row.
    Residual(&'a [f32]),
}

/// What is done with an element once all of its terms are added.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Nothing.
    None,
    /// It becomes its GELU.
    Gelu,
}

impl Start<'_> {
    /// For `cols` columns from `col` on.
    #[inline(always)]
    fn from(self, col: usize, cols: usize) -> Self {
        match self {
            Start::Bias(bias) => Start::Bias(&bias[col..col + cols]),
            Start::Residual(bias) => Start::Residual(&bias[col..col + cols]),
            other => other,
        }
    }
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
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    assert_eq!(rhs.rows, k, "product: inner dimensions");
    assert!(
        out.rows == m && out.cols == n,
        "product: the result is {m}×{n}"
    );
    if let Start::Bias(bias) | Start::Residual(bias) = start {
        assert_eq!(bias.len(), n, "product: the bias has {n} elements");
    }
    if m == 0 || n == 0 {
        return;
    }
    let MatMut {
        data, row_stride, ..
    } = out;
    let (count, slice) = slices(isa, k);
    for i in 0..count {
        let first = (i * slice).min(k);
        let depth = slice.min(k - first);
        let rhs = rhs.part(first, depth, 0, n);
        scratch::with(packed_len(isa, depth, n), |packed| {
            pack(isa, rhs, packed, true);
            product_packed(
                isa,
                lhs.part(0, m, first, depth),
                packed,
                alpha,
                if i == 0 { start } else { Start::Result },
                Finish::None,
                MatMut::new(data, m, n, row_stride),
                true,
            );
        });
    }
}

/// The slices of the inner dimension that [`pack_slices`] packs: how many, and
/// the terms of each but the last.
fn slices(isa: Isa, k: usize) -> (usize, usize) {
    // At least one slice, so that an empty inner dimension gives the start.
    let slices = k.div_ceil(DEPTH).max(1);
    (
        slices,
        k.div_ceil(slices).next_multiple_of(Sizes::of(isa).step),
    )
}

/// Packs a whole right operand (k, n), a slice of the inner dimension after the
/// other.
pub(crate) fn pack_slices(isa: Isa, rhs: MatRef<'_>) -> Buffer {
    let (k, n) = (rhs.rows, rhs.cols);
    let (count, slice) = slices(isa, k);
    let depth = |i: usize| slice.min(k.saturating_sub(i * slice));
    let lengths = (0..count).map(|i| packed_len(isa, depth(i), n));
    let mut packed = Buffer::zeroed(lengths.sum());
    let mut rest = &mut packed[..];
    for i in 0..count {
        let (now, later) = rest.split_at_mut(packed_len(isa, depth(i), n));
        pack(isa, rhs.part((i * slice).min(k), depth(i), 0, n), now, true);
        rest = later;
    }
    packed
}

/// out (m, n) = start + lhs (m, k)·rhs, then `finish`, with a right operand of
/// [`pack_slices`], over rayon's current pool.
pub(crate) fn product_slices(
    isa: Isa,
    lhs: MatRef<'_>,
    packed: &[f32],
    start: Start<'_>,
    finish: Finish,
    out: MatMut<'_>,
) {
    let (m, k, n) = (lhs.rows, lhs.cols, out.cols);
    let (count, slice) = slices(isa, k);
    let mut rest = packed;
    for i in 0..count {
        let first = (i * slice).min(k);
        let depth = slice.min(k - first);
        let (now, later) = rest.split_at(packed_len(isa, depth, n));
        rest = later;
        product_packed(
            isa,
            lhs.part(0, m, first, depth),
            now,
            1.0,
            if i == 0 { start } else { Start::Result },
            if i + 1 == count { finish } else { Finish::None },
            MatMut::new(out.data, m, n, out.row_stride),
            true,
        );
    }
}

/// Elements that a packed right operand (k, n) takes.
pub(crate) fn packed_len(isa: Isa, k: usize, n: usize) -> usize {
    let sizes = Sizes::of(isa);
    n.div_ceil(sizes.cols) * sizes.panel(k)
}

/// Packs a right operand (k, n) into [`packed_len`] elements.
pub(crate) fn pack(isa: Isa, rhs: MatRef<'_>, packed: &mut [f32], threads: bool) {
    let sizes = Sizes::of(isa);
    let (k, n, columns) = (rhs.rows, rhs.cols, rhs.t());
    if k == 0 {
        return;
    }
    let panel = sizes.panel(k);
    let work = |(j, out): (usize, &mut [f32])| {
        let from = j * sizes.cols;
        pack_right(isa, columns.part(from, sizes.cols.min(n - from), 0, k), out);
    };
    match threads {
        true => packed.par_chunks_mut(panel).enumerate().for_each(work),
        false => packed.chunks_mut(panel).enumerate().for_each(work),
    }
}

/// As [`product_with`], with a right operand that [`pack`] has packed for the
/// same instruction set; over rayon's current pool with `threads`.
#[expect(clippy::too_many_arguments)]
pub(crate) fn product_packed(
    isa: Isa,
    lhs: MatRef<'_>,
    packed: &[f32],
    alpha: f32,
    start: Start<'_>,
    finish: Finish,
    out: MatMut<'_>,
    threads: bool,
) {
    let (m, k, n) = (lhs.rows, lhs.cols, out.cols);
    assert_eq!(
        packed.len(),
        packed_len(isa, k, n),
        "product: packed operand"
    );
    if m == 0 || n == 0 {
        return;
    }
    let sizes = Sizes::of(isa);
    let stride = out.row_stride;
    let job = Job {
        right: packed,
        steps: k.div_ceil(sizes.step),
        alpha,
        start,
        finish,
    };
    // The last row ends where its elements do.
    let data = &mut out.data[..(m - 1) * stride + n];
    let whole = Rectangle::new(data, stride, m, n);
    let (rows, cols) = sizes.task(m, n);
    let across = n.div_ceil(cols);
    let work = |i: usize| {
        let (row, col) = (i / across * rows, i % across * cols);
        let (rows, cols) = (rows.min(m - row), cols.min(n - col));
        // SAFETY: the tasks' rectangles do not overlap, and `whole` is not used
        // otherwise while it lends them out.
        let out = unsafe { whole.part(row, rows, col, cols) };
        block(isa, job, lhs.part(row, rows, 0, k), col, out);
    };
    let tasks = 0..m.div_ceil(rows) * across;
    match threads {
        true => tasks.into_par_iter().for_each(work),
        false => tasks.for_each(work),
    }
}

/// A rectangle of a result that one task alone writes.
pub(crate) struct Rectangle<'a> {
    data: *mut f32,
    stride: usize,
    rows: usize,
    cols: usize,
    lent: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for an exclusive borrow of its elements.
unsafe impl Send for Rectangle<'_> {}
// SAFETY: through a shared reference only `part` is reachable, which is unsafe.
unsafe impl Sync for Rectangle<'_> {}

impl<'a> Rectangle<'a> {
    pub(crate) fn new(data: &'a mut [f32], stride: usize, rows: usize, cols: usize) -> Self {
        assert!(rows > 0 && cols <= stride && data.len() >= (rows - 1) * stride + cols);
        Self {
            data: data.as_mut_ptr(),
            stride,
            rows,
            cols,
            lent: PhantomData,
        }
    }

    /// The rectangle of `rows` rows from `row` on, of columns from `col` on.
    ///
    /// # Safety
    /// No two parts in use at a time may overlap.
    pub(crate) unsafe fn part(&self, row: usize, rows: usize, col: usize, cols: usize) -> Self {
        assert!(row + rows <= self.rows && col + cols <= self.cols);
        Self {
            // SAFETY: within the rectangle, as just asserted.
            data: unsafe { self.data.add(row * self.stride + col) },
            rows,
            cols,
            ..*self
        }
    }

    /// `cols` elements of a row from `col` on.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize, col: usize, cols: usize) -> &mut [f32] {
        assert!(row < self.rows && col + cols <= self.cols);
        // SAFETY: within the rectangle, which is borrowed mutably meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride + col), cols) }
    }
}

/// A kernel's constants, for the code outside of it.
struct Sizes {
    rows: usize,
    cols: usize,
    step: usize,
    left: usize,
    right: usize,
    tail: usize,
}

impl Sizes {
    fn of(isa: Isa) -> Self {
        fn of<K: Kernel>() -> Sizes {
            Sizes {
                rows: K::ROWS,
                cols: K::COLS,
                step: K::STEP,
                left: K::LEFT,
                right: K::RIGHT,
                tail: K::TAIL,
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

    /// `f32` of a right panel of `k` terms.
    fn panel(&self, k: usize) -> usize {
        k.div_ceil(self.step) * self.right + self.tail
    }

    /// Rows and columns that one task works on, of a result (m, n): many rows, so
    /// that a right panel is used often; all columns, so that rows are packed
    /// once, unless that gives fewer than eight tasks.
    fn task(&self, m: usize, n: usize) -> (usize, usize) {
        let most: usize = if m >= 2048 { 192 } else { 128 };
        let rows = most.div_ceil(self.rows).min(m.div_ceil(self.rows)) * self.rows;
        let across = 8usize.div_ceil(m.div_ceil(rows));
        let panels = n.div_ceil(self.cols).div_ceil(across).max(4);
        (rows, panels * self.cols)
    }
}

/// What the tasks of one product share.
#[derive(Clone, Copy)]
struct Job<'a> {
    /// The right operand's panels, one after the other.
    right: &'a [f32],
    steps: usize,
    alpha: f32,
    start: Start<'a>,
    finish: Finish,
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

/// A rectangle of the result, from column `col` on: `lhs` holds its rows of the
/// left operand.
fn block(isa: Isa, job: Job<'_>, lhs: MatRef<'_>, col: usize, out: Rectangle<'_>) {
    let sizes = Sizes::of(isa);
    let left = lhs.rows.div_ceil(sizes.rows) * (job.steps * sizes.left + sizes.tail);
    let job = Job {
        right: &job.right[col / sizes.cols * sizes.panel(lhs.cols)..],
        start: job.start.from(col, out.cols),
        ..job
    };
    scratch::with(left, |packed| {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if isa.level() == Level::Amx {
            return amx::block(job, lhs, packed, out);
        }
        vectorise!(isa, block_lanes(job: Job<'_>, lhs: MatRef<'_>, packed: &mut [f32], out: Rectangle<'_>));
    });
}

#[inline(always)]
fn block_lanes<L: Lanes>(
    simd: L,
    job: Job<'_>,
    lhs: MatRef<'_>,
    packed: &mut [f32],
    out: Rectangle<'_>,
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
    mut out: Rectangle<'_>,
) {
    let (m, depth) = (lhs.rows, lhs.cols);
    let left = job.steps * K::LEFT + K::TAIL;
    let right = job.steps * K::RIGHT + K::TAIL;
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
        for (j, column) in (0..out.cols).step_by(K::COLS).enumerate() {
            let b =
                &job.right[j * right..(j + 1) * right][done * K::RIGHT..end * K::RIGHT + K::TAIL];
            let cols = K::COLS.min(out.cols - column);
            let next = job.right.get((j + 1) * right..(j + 2) * right);
            let next = next.map_or(&[][..], |b| &b[done * K::RIGHT..end * K::RIGHT]);
            let mut ahead = next.chunks(next.len().div_ceil(m.div_ceil(K::ROWS)).max(1));
            for (i, row) in (0..m).step_by(K::ROWS).enumerate() {
                kernel.fetch(ahead.next().unwrap_or_default());
                let a = &packed[i * left..(i + 1) * left][done * K::LEFT..end * K::LEFT + K::TAIL];
                kernel.tile(a, b, end - done, &mut tile);
                let start = start.from(column, cols);
                let rows = K::ROWS.min(m - row);
                for (r, sums) in tile.0.chunks_exact(K::COLS).enumerate().take(rows) {
                    let out = out.row(row + r, column, cols);
                    write(sums, job.alpha, start, out);
                    if run + 1 == runs && job.finish == Finish::Gelu {
                        kernel.gelu(out);
                    }
                }
            }
        }
        done = end;
    }
    kernel.end();
}

/// Adds a row of a tile's sums to what the result starts from.
#[inline(always)]
fn write(sums: &[f32], alpha: f32, start: Start<'_>, out: &mut [f32]) {
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
        Start::Residual(bias) => {
            for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                *out += bias + alpha * sum;
            }
        }
    }
}

#[cfg(test)]
mod tests;
