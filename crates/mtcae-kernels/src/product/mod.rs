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
use crate::fetch::fetch;
use crate::isa::{Isa, Level};
use crate::lanes::{Lanes, vectorise};
use crate::matrix::{MatMut, MatRef, extent, within};
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
    /// Left panels that a task multiplies by a right panel while it is at hand:
    /// for `DEPTH` terms they are to fit the second-level cache.
    const PANELS: usize;

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
    /// `ROWS`×`COLS` sums over `steps` steps, row by row into `out`. What is `ahead` is
    /// needed soon.
    fn tile(self, left: &[f32], right: &[f32], steps: usize, ahead: &[f32], out: &mut Tile);
}

/// The sums of one call of a micro-kernel.
#[repr(align(64))]
pub(crate) struct Tile([f32; 1024]);

/// What a product starts from.
#[derive(Clone, Copy)]
pub enum Initial<'a> {
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

impl Initial<'_> {
    /// For `cols` columns from `col` on.
    #[inline(always)]
    fn from(self, col: usize, cols: usize) -> Self {
        match self {
            Initial::Bias(bias) => Initial::Bias(&bias[col..col + cols]),
            Initial::Residual(bias) => Initial::Residual(&bias[col..col + cols]),
            other => other,
        }
    }
}

/// out (m, n) = start + alpha·lhs (m, k)·rhs (k, n), over rayon's current pool.
///
/// # Panics
/// When the shapes do not chain.
pub fn product(lhs: MatRef<'_>, rhs: MatRef<'_>, alpha: f32, start: Initial<'_>, out: MatMut<'_>) {
    product_with(Isa::best(), lhs, rhs, alpha, start, out);
}

/// [`product`] with a given instruction set.
pub fn product_with(
    isa: Isa,
    lhs: MatRef<'_>,
    rhs: MatRef<'_>,
    alpha: f32,
    start: Initial<'_>,
    out: MatMut<'_>,
) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    assert_eq!(rhs.rows, k, "product: inner dimensions");
    assert!(
        out.rows == m && out.cols == n,
        "product: the result is {m}×{n}"
    );
    if let Initial::Bias(bias) | Initial::Residual(bias) = start {
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
                if i == 0 { start } else { Initial::Result },
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
    start: Initial<'_>,
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
            if i == 0 { start } else { Initial::Result },
            if i + 1 == count { finish } else { Finish::None },
            MatMut::new(out.data, m, n, out.row_stride),
            true,
        );
    }
}

/// Elements that a packed right operand (k, n) takes.
pub(crate) fn packed_len(isa: Isa, k: usize, n: usize) -> usize {
    let sizes = Sizes::of(isa);
    n.div_ceil(sizes.cols) * sizes.right_panel(k)
}

/// Packs a right operand (k, n) into [`packed_len`] elements.
pub(crate) fn pack(isa: Isa, rhs: MatRef<'_>, packed: &mut [f32], threads: bool) {
    let sizes = Sizes::of(isa);
    let (k, n, columns) = (rhs.rows, rhs.cols, rhs.t());
    if k == 0 {
        return;
    }
    let panel = sizes.right_panel(k);
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
    start: Initial<'_>,
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
    // The last row ends where its elements do.
    let data = &mut out.data[..(m - 1) * stride + n];
    let whole = Rectangle::new(data, stride, m, n);
    let (down, across) = (m.div_ceil(sizes.rows), n.div_ceil(sizes.cols));
    let (rows, cols) = sizes.tasks(down, across, threads);
    let (left, right) = (sizes.left_panel(k), sizes.right_panel(k));
    scratch::with(down * left, |lhs_packed| {
        if k > 0 {
            let work = |(i, out): (usize, &mut [f32])| {
                let from = i * sizes.rows;
                pack_left(isa, lhs.part(from, sizes.rows.min(m - from), 0, k), out);
            };
            match threads {
                true => lhs_packed.par_chunks_mut(left).enumerate().for_each(work),
                false => lhs_packed.chunks_mut(left).enumerate().for_each(work),
            }
        }
        let lhs_packed = &*lhs_packed;
        let part = |n: usize, parts: usize, i: usize| n * i / parts..n * (i + 1) / parts;
        let work = |i: usize| {
            let (rows, cols) = (part(down, rows, i / cols), part(across, cols, i % cols));
            let (row, col) = (rows.start * sizes.rows, cols.start * sizes.cols);
            let height = (rows.end * sizes.rows).min(m) - row;
            let width = (cols.end * sizes.cols).min(n) - col;
            // SAFETY: the tasks' rectangles do not overlap, and `whole` is not used
            // otherwise while it lends them out.
            let out = unsafe { whole.part(row, height, col, width) };
            let job = Job {
                left: &lhs_packed[rows.start * left..rows.end * left],
                right: &packed[cols.start * right..cols.end * right],
                steps: k.div_ceil(sizes.step),
                alpha,
                start: start.from(col, width),
                finish,
            };
            block(isa, job, out);
        };
        match threads {
            true => (0..rows * cols).into_par_iter().for_each(work),
            false => (0..rows * cols).for_each(work),
        }
    });
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
        assert!(rows > 0 && cols <= stride && data.len() >= extent(rows, cols, stride));
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
        assert!(rows > 0 && within(row, rows, self.rows) && within(col, cols, self.cols));
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
        assert!(row < self.rows && within(col, cols, self.cols));
        // SAFETY: within the rectangle, which is borrowed mutably meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride + col), cols) }
    }
}

/// Gives the micro-kernel on lanes that has as many sums as there are registers for.
macro_rules! on_kernel {
    ($simd:expr, |$kernel:ident| $work:expr) => {
        if L::ACCUMULATORS >= 24 {
            let $kernel = fma::Wide($simd);
            $work
        } else if L::ACCUMULATORS >= 6 {
            let $kernel = fma::Narrow($simd);
            $work
        } else {
            let $kernel = fma::Small($simd);
            $work
        }
    };
}

/// A kernel's constants, for the code outside of it.
struct Sizes {
    rows: usize,
    cols: usize,
    step: usize,
    left: usize,
    right: usize,
    tail: usize,
    panels: usize,
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
                panels: K::PANELS,
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

    /// `f32` of a left panel of `k` terms.
    fn left_panel(&self, k: usize) -> usize {
        k.div_ceil(self.step) * self.left + self.tail
    }

    /// `f32` of a right panel of `k` terms.
    fn right_panel(&self, k: usize) -> usize {
        k.div_ceil(self.step) * self.right + self.tail
    }

    /// Into how many parts the panels of a result's rows and columns are cut: few,
    /// as each part of the rows reads all right panels; but four tasks a thread,
    /// of four right panels at least.
    fn tasks(&self, rows: usize, cols: usize, threads: bool) -> (usize, usize) {
        let down = rows.div_ceil(self.panels);
        let wanted = match threads {
            true => 4 * rayon::current_num_threads(),
            false => 1,
        };
        (down, wanted.div_ceil(down).clamp(1, cols.div_ceil(4)))
    }
}

/// What a task multiplies.
#[derive(Clone, Copy)]
struct Job<'a> {
    /// The left operand's panels, one after the other.
    left: &'a [f32],
    /// The right operand's.
    right: &'a [f32],
    steps: usize,
    alpha: f32,
    start: Initial<'a>,
    finish: Finish,
}

fn pack_left(isa: Isa, rows: MatRef<'_>, out: &mut [f32]) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if isa.level() == Level::Amx {
        return amx::pack_left(rows, out);
    }
    vectorise!(isa, pack_left_lanes(rows: MatRef<'_>, out: &mut [f32]));
}

#[inline(always)]
fn pack_left_lanes<L: Lanes>(simd: L, rows: MatRef<'_>, out: &mut [f32]) {
    on_kernel!(simd, |kernel| kernel.pack_left(rows, out));
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
    on_kernel!(simd, |kernel| kernel.pack_right(columns, out));
}

/// A rectangle of the result.
fn block(isa: Isa, job: Job<'_>, out: Rectangle<'_>) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if isa.level() == Level::Amx {
        return amx::block(job, out);
    }
    vectorise!(isa, block_lanes(job: Job<'_>, out: Rectangle<'_>));
}

#[inline(always)]
fn block_lanes<L: Lanes>(simd: L, job: Job<'_>, out: Rectangle<'_>) {
    on_kernel!(simd, |kernel| block_on(kernel, job, out));
}

/// Multiplies panel by panel, `RUN` steps at a time.
#[inline(always)]
fn block_on<K: Kernel>(kernel: K, job: Job<'_>, mut out: Rectangle<'_>) {
    let m = out.rows;
    let left = job.steps * K::LEFT + K::TAIL;
    let right = job.steps * K::RIGHT + K::TAIL;
    kernel.begin();
    let mut tile = Tile([0.0; 1024]);
    let runs = job.steps.div_ceil(K::RUN).max(1);
    let mut done = 0;
    for run in 0..runs {
        let end = job.steps * (run + 1) / runs;
        let start = if run == 0 { job.start } else { Initial::Result };
        for (j, column) in (0..out.cols).step_by(K::COLS).enumerate() {
            let b =
                &job.right[j * right..(j + 1) * right][done * K::RIGHT..end * K::RIGHT + K::TAIL];
            let cols = K::COLS.min(out.cols - column);
            let next = job.right.get((j + 1) * right..(j + 2) * right);
            let next = next.map_or(&[][..], |b| &b[done * K::RIGHT..end * K::RIGHT]);
            let mut ahead = next.chunks(next.len().div_ceil(m.div_ceil(K::ROWS)).max(1));
            for (i, row) in (0..m).step_by(K::ROWS).enumerate() {
                let a =
                    &job.left[i * left..(i + 1) * left][done * K::LEFT..end * K::LEFT + K::TAIL];
                let soon = ahead.next().unwrap_or_default();
                let rows = K::ROWS.min(m - row);
                // Asked for before the product, written after it: products of few
                // terms wait for memory otherwise.
                for r in row..row + rows {
                    fetch(out.row(r, column, cols));
                }
                kernel.tile(a, b, end - done, soon, &mut tile);
                let start = start.from(column, cols);
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
fn write(sums: &[f32], alpha: f32, start: Initial<'_>, out: &mut [f32]) {
    match start {
        Initial::Zero => {
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = alpha * sum;
            }
        }
        Initial::Result => {
            for (out, sum) in out.iter_mut().zip(sums) {
                *out += alpha * sum;
            }
        }
        Initial::Bias(bias) => {
            for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                *out = bias + alpha * sum;
            }
        }
        Initial::Residual(bias) => {
            for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                *out += bias + alpha * sum;
            }
        }
    }
}

#[cfg(test)]
mod tests;
