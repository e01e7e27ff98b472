//! `f32` as whole numbers of three digits, which AMX's tiles of bytes multiply.
//!
//! A row of the left operand and a column of the right one is scaled so that its
//! largest number becomes ±8,355,000 and rounded; in base 256, with digits from
//! −128 to 127, that is three bytes h, m and l. Of the nine products of two such
//! numbers six are taken, h·h, h·m, m·h, m·m, h·l and l·h, and their sums are
//! exact: this is the Ozaki scheme (Ozaki et al., 2012; on integer matrix units:
//! Ootomo, Ozaki and Yokota, 2024, arXiv 2306.11975). A tile product takes 16
//! cycles for 64 terms, twice what bf16 does in that time.
//!
//! A factor is thus rounded by at most 6e-8 of the largest of its row or column,
//! where `f32` rounds by 6e-8 of itself, and the products left out are below
//! 1.3e-7 of the product of both largest: a sum of K terms is off by up to K·2e-7 of
//! that. It comes near it only where errors agree, as those of many equal numbers far
//! below the largest do (a flat background under a peak: 1.6e-4 for K = 1568);
//! where they are random, they grow by √K. What differs further from `f32` arithmetic:
//! a row or column whose largest number is below 1e-30 loses digits, one with an
//! infinity or NaN gives NaN throughout, and a sum is infinite where K times the
//! largest of the right operand's column passes 2e36, however small the left one is.
//!
//! A step has 64 terms and two tiles for each digit; a tile's line is a row's 64
//! terms, or four terms of sixteen columns. Behind the steps of a panel stand the
//! factors that lead back from whole numbers, one for each row or column.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::amx::{configure, on_registers, release, soon};
use super::squares::{SIDE, SQUARE, SUMS, each, line, lines, put};
use super::{Left, MicroKernel};
use crate::fetch::fetch;
use crate::lanes::transpose;
use crate::matrix::MatRef;

/// Terms of a step.
const TERMS: usize = 64;
/// `f32` that a step takes.
const STEP: usize = 3 * 2 * SQUARE;
/// Steps whose sums of three products, below 2¹⁴ each, surely fit 32 bits.
const MOST: usize = 256;
/// Steps whose tiles the first-level cache holds, beside the sums, while they are
/// multiplied for the three sums in turn.
const TURN: usize = 3;
/// What the largest number of a row becomes: somewhat less than 127 in each
/// digit, so that rounding never passes that.
const LARGEST: f32 = 8_355_000.0;
/// Below this, rows are scaled as if it were their largest number.
const SMALLEST: f32 = 1e-30;

/// The micro-kernel. Holding it proves AMX with bytes, and AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Digits(());

/// Goes over `$n` steps with the four sums in tmm0 to tmm3, which start as `$start`
/// says, and stores them. Each product is given by where its tiles lie within a step:
/// two of the left operand and two of the right.
macro_rules! pass {
    ($start:ident, [$a:ident, $b:ident, $p:ident, $n:ident], $sums:ident, $(($a0:literal, $a1:literal, $b0:literal, $b1:literal),)*) => {
        asm!(
            pass!($start "0", ""),
            pass!($start "1", " + 64"),
            pass!($start "2", " + 2048"),
            pass!($start "3", " + 2112"),
            "2:",
            "prefetcht1 [{p}]",
            "prefetcht1 [{p} + 64]",
            "prefetcht1 [{p} + 128]",
            "prefetcht1 [{p} + 192]",
            $(
                // All loads first: a tenth less where another thread shares the core.
                concat!("tileloadd tmm4, [{a} + {line} + ", $a0, "]"),
                concat!("tileloadd tmm5, [{a} + {line} + ", $a1, "]"),
                concat!("tileloadd tmm6, [{b} + {line} + ", $b0, "]"),
                concat!("tileloadd tmm7, [{b} + {line} + ", $b1, "]"),
                "tdpbssd tmm0, tmm4, tmm6",
                "tdpbssd tmm1, tmm4, tmm7",
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
            )*
            "add {a}, 6144",
            "add {b}, 6144",
            "add {p}, 256",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {row}], tmm0",
            "tilestored [{out} + {row} + 64], tmm1",
            "tilestored [{out} + {row} + 2048], tmm2",
            "tilestored [{out} + {row} + 2112], tmm3",
            a = inout(reg) $a => _,
            b = inout(reg) $b => _,
            p = inout(reg) $p,
            steps = inout(reg) $n => _,
            out = in(reg) $sums,
            line = in(reg) 64usize,
            row = in(reg) 128usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
    (zero $tile:literal, $at:literal) => {
        concat!("tilezero tmm", $tile)
    };
    (stored $tile:literal, $at:literal) => {
        concat!("tileloadd tmm", $tile, ", [{out} + {row}", $at, "]")
    };
}

/// The three sums of whole numbers in turn: m·m, h·l and l·h; h·m and m·h; h·h.
macro_rules! passes {
    ($start:ident, $at:tt, $low:ident, $middle:ident, $high:ident) => {
        pass!(
            $start,
            $at,
            $low,
            ("2048", "3072", "2048", "3072"),
            ("0", "1024", "4096", "5120"),
            ("4096", "5120", "0", "1024"),
        );
        pass!(
            $start,
            $at,
            $middle,
            ("0", "1024", "2048", "3072"),
            ("2048", "3072", "0", "1024"),
        );
        pass!($start, $at, $high, ("0", "1024", "0", "1024"),);
    };
}

/// The factor to whole numbers for a row whose largest magnitude has these bits,
/// and 256² times the factor back: sums of products are in units of 256⁴.
#[inline(always)]
fn factors(largest: i32) -> (f32, f32) {
    let largest = f32::from_bits(largest as u32);
    if !largest.is_finite() {
        return (0.0, f32::NAN);
    }
    let largest = largest.max(SMALLEST);
    (LARGEST / largest, largest * (65_536.0 / LARGEST))
}

impl Digits {
    /// The kernel.
    ///
    /// # Safety
    /// The CPU must have AMX with bytes, AVX-512 F, BW, DQ and VL, AVX2 and FMA, and the
    /// process the permission to use AMX.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }

    /// The product of the steps in the range of two panels with their factors.
    #[inline(always)]
    fn product(
        self,
        left: &[f32],
        right: &[f32],
        steps: Range<usize>,
        fresh: bool,
        ahead: &[f32],
        sums: &mut [f32],
    ) {
        let (left, rows) = left.split_at(left.len() - SIDE);
        let (right, cols) = right.split_at(right.len() - SIDE);
        let some = steps.start * STEP..steps.end * STEP;
        let (left, right) = (&left[some.clone()], &right[some]);
        if steps.is_empty() && fresh {
            sums[..SUMS].fill(0.0);
        }
        let mut fresh = fresh;
        for (left, right) in left.chunks(MOST * STEP).zip(right.chunks(MOST * STEP)) {
            // SAFETY: the kernel proves AMX; callers of `multiply` have begun.
            unsafe { add([left, rows], [right, cols], fresh, ahead, sums) };
            fresh = false;
        }
    }

    /// Packs at most 32 columns (k, ·), of which each term's are contiguous.
    #[inline(always)]
    fn pack_terms(self, terms: MatRef<'_>, panel: &mut [f32]) {
        let (steps, scales) = panel.split_at_mut(Self::left_panel(terms.rows) - SIDE);
        // SAFETY: the kernel proves AVX-512.
        let largest = unsafe { largest_of_columns(terms) };
        for (half, largest) in largest.into_iter().enumerate() {
            let mut there = [0.0; 16];
            // SAFETY: as above, and the array holds sixteen numbers.
            unsafe {
                for (c, there) in there.iter_mut().enumerate() {
                    (*there, scales[half * 16 + c]) = factors(largest[c]);
                }
                let there = _mm512_loadu_ps(there.as_ptr());
                for (s, step) in steps.chunks_exact_mut(STEP).enumerate() {
                    put_right(sixteens(terms, s * TERMS, half * 16), there, half, step);
                }
            }
        }
    }
}

/// The sums of whole numbers of the products of two panels' steps: low, middle, high.
///
/// The three sums take turns every [`TURN`] steps: their tiles are read from the
/// second-level cache once, not for each sum, and a tile's product takes 8.9 ns where
/// it took 10.7 (16 steps; 7.0 where all lies in the first-level cache), by a C program
/// with the same loops.
///
/// # Safety
/// The CPU must have AMX, and [`MicroKernel::begin`] have configured the tiles.
#[inline(never)]
unsafe fn multiply(left: &[f32], right: &[f32], ahead: &[f32], sums: &mut Whole) {
    let steps = left.len() / STEP;
    assert!(steps > 0 && left.len() == right.len());
    let [low, middle, high] = sums.each_mut().map(MaybeUninit::as_mut_ptr);
    let (mut a, mut b, mut p) = (left.as_ptr(), right.as_ptr(), soon(ahead, right));
    let mut left = steps;
    let mut n = left.min(TURN);
    // SAFETY: the caller's promise. The loops read 6 KiB a step from either operand,
    // which the slices hold, and write 32 rows of 128 bytes of each sum, which is all
    // of it, before they read it.
    unsafe {
        passes!(zero, [a, b, p, n], low, middle, high);
        while left > n {
            (a, b) = (a.add(n * STEP), b.add(n * STEP));
            left -= n;
            n = left.min(TURN);
            passes!(stored, [a, b, p, n], low, middle, high);
        }
    }
    let _ = p;
}

/// Three sums, low, middle and high.
type Whole = [MaybeUninit<Aligned>; 3];

/// [`Digits::product`] of at most [`MOST`] steps: each operand is its steps and its
/// factors.
///
/// # Safety
/// As for [`multiply`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add(
    [left, rows]: [&[f32]; 2],
    [right, cols]: [&[f32]; 2],
    fresh: bool,
    ahead: &[f32],
    sums: &mut [f32],
) {
    let sums = &mut sums[..SUMS];
    assert!(rows.len() >= SIDE && cols.len() >= SIDE);
    let mut whole = [const { MaybeUninit::uninit() }; 3];
    // SAFETY: the caller's promise; the function writes all of the sums.
    let [low, middle, high] = unsafe {
        multiply(left, right, ahead, &mut whole);
        whole.each_ref().map(|sums| sums.assume_init_ref())
    };
    // SAFETY: all loads and stores lie within 32 rows of 32 and 32 factors.
    unsafe {
        let base = _mm512_set1_ps(1.0 / 256.0);
        for (r, &row) in rows[..SIDE].iter().enumerate() {
            let row = _mm512_set1_ps(row);
            for half in [0, 16] {
                let at = r * SIDE + half;
                let y = _mm512_fmadd_ps(sixteen(low, at), base, sixteen(middle, at));
                let y = _mm512_fmadd_ps(y, base, sixteen(high, at));
                // Weights' factors first: they are neither huge nor tiny.
                let y = _mm512_mul_ps(y, _mm512_loadu_ps(cols.as_ptr().add(half)));
                let out = sums.as_mut_ptr().add(at);
                let y = match fresh {
                    true => _mm512_mul_ps(y, row),
                    false => _mm512_fmadd_ps(y, row, _mm512_loadu_ps(out)),
                };
                _mm512_storeu_ps(out, y);
            }
        }
    }
}

impl MicroKernel for Digits {
    type Simd = crate::lanes::Avx512;

    const ROWS: usize = SIDE;
    const COLS: usize = SIDE;
    const TERMS: usize = TERMS;
    const LEFT: usize = STEP;
    const RIGHT: usize = STEP;
    const TAIL: usize = SIDE;
    const PUT: usize = SUMS;
    const PANELS: usize = 13;
    const RUN: usize = 1024;
    const BLOCK: usize = 320 * 1024;

    #[inline(always)]
    fn simd(self) -> Self::Simd {
        // SAFETY: the kernel proves these features.
        unsafe { crate::lanes::Avx512::new() }
    }

    #[inline(always)]
    fn begin(self) {
        // SAFETY: the kernel proves AMX.
        unsafe { configure() }
    }

    #[inline(always)]
    fn end(self) {
        // SAFETY: the kernel proves AMX.
        unsafe { release() }
    }

    #[inline(always)]
    fn multiply(
        self,
        left: Left<'_>,
        right: &[f32],
        terms: Range<usize>,
        fresh: bool,
        ahead: &[f32],
        sums: &mut [f32],
    ) {
        let steps = terms.start / TERMS..terms.end.div_ceil(TERMS);
        for (left, sums) in each(left, right.len(), sums) {
            self.product(left, right, steps.clone(), fresh, ahead, sums);
        }
    }

    #[inline(always)]
    fn pack_row(self, terms: &[f32], row: usize, panel: &mut [f32]) {
        let (steps, scales) = panel.split_at_mut(Self::left_panel(terms.len()) - SIDE);
        // SAFETY: the kernel proves AVX-512.
        unsafe {
            let all = MatRef::new(terms, 1, terms.len(), terms.len());
            let (there, back) = factors(largest_of(terms));
            scales[row] = back;
            let there = _mm512_set1_ps(there);
            for (s, step) in steps.chunks_exact_mut(STEP).enumerate() {
                let k = s * TERMS;
                let terms = [
                    line(all, k),
                    line(all, k + 16),
                    line(all, k + 32),
                    line(all, k + 48),
                ];
                let digits = digits(terms, there);
                put_digits(digits, row / 16, row % 16, step);
            }
        }
    }

    #[inline(always)]
    fn pack_rows(self, rows: MatRef<'_>, panel: &mut [f32]) {
        if rows.col_stride == 1 {
            for row in 0..rows.rows {
                let (terms, after) = rows.data[row * rows.row_stride..].split_at(rows.cols);
                // The next row comes from memory while this one is worked on.
                let next = after
                    .get(rows.row_stride.saturating_sub(rows.cols)..)
                    .unwrap_or_default();
                fetch(&next[..rows.cols.min(next.len())]);
                self.pack_row(terms, row, panel);
            }
            return;
        }
        let (steps, scales) = panel.split_at_mut(Self::left_panel(rows.cols) - SIDE);
        let terms = rows.t();
        // SAFETY: the kernel proves AVX-512.
        let largest = unsafe { largest_of_columns(terms) };
        for (half, largest) in largest.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                let mut there = [0.0; 16];
                for (i, there) in there.iter_mut().enumerate() {
                    (*there, scales[half * 16 + i]) = factors(largest[i]);
                }
                for (s, step) in steps.chunks_exact_mut(STEP).enumerate() {
                    let four = sixteens(terms, s * TERMS, half * 16);
                    let four = [
                        transpose(four[0]),
                        transpose(four[1]),
                        transpose(four[2]),
                        transpose(four[3]),
                    ];
                    for (i, &there) in there.iter().enumerate() {
                        let row = [four[0][i], four[1][i], four[2][i], four[3][i]];
                        put_digits(digits(row, _mm512_set1_ps(there)), half, i, step);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn pack_columns(self, columns: MatRef<'_>, panel: &mut [f32]) {
        if columns.col_stride != 1 {
            return self.pack_terms(columns.t(), panel);
        }
        let (steps, scales) = panel.split_at_mut(Self::left_panel(columns.cols) - SIDE);
        for half in 0..2 {
            let mut there = [0.0; 16];
            // SAFETY: the kernel proves AVX-512, and the array holds sixteen numbers.
            unsafe {
                for (c, there) in there.iter_mut().enumerate() {
                    let column = half * 16 + c;
                    let largest = match column < columns.rows {
                        true => {
                            largest_of(&columns.data[column * columns.row_stride..][..columns.cols])
                        }
                        false => 0,
                    };
                    (*there, scales[column]) = factors(largest);
                }
                let there = _mm512_loadu_ps(there.as_ptr());
                for (s, step) in steps.chunks_exact_mut(STEP).enumerate() {
                    let k = s * TERMS;
                    let four = [
                        transpose(lines(columns, half * 16, k)),
                        transpose(lines(columns, half * 16, k + 16)),
                        transpose(lines(columns, half * 16, k + 32)),
                        transpose(lines(columns, half * 16, k + 48)),
                    ];
                    put_right(four, there, half, step);
                }
            }
        }
    }

    fn peak(self, loops: usize) -> f64 {
        // SAFETY: the kernel proves AMX, and `begin` has configured the tiles.
        unsafe { on_registers!("tdpbssd", 6 * loops) }
        (4 * 2 * 16 * 16 * TERMS * loops) as f64
    }

    /// The row's largest number is not known yet.
    #[inline(always)]
    fn put(self, terms: &[f32], row: usize, square: &mut [f32]) {
        square[row * SIDE..][..SIDE].copy_from_slice(terms);
    }

    #[inline(always)]
    fn settle(self, terms: usize, panel: &mut [f32], copy: &mut [f32]) {
        let squares = terms.div_ceil(SIDE);
        let len = squares * SIDE;
        let copy = &mut copy[..len * SIDE];
        // Rows of the copy are contiguous.
        for (s, square) in panel.chunks_exact(SUMS).take(squares).enumerate() {
            for (r, row) in square.chunks_exact(SIDE).enumerate() {
                copy[r * len + s * SIDE..][..SIDE].copy_from_slice(row);
            }
        }
        let panel = &mut panel[..Self::left_panel(terms)];
        for (r, row) in copy.chunks_exact(len).enumerate() {
            self.pack_row(&row[..terms], r, panel);
        }
    }

    #[inline(always)]
    fn put_weights(self, weights: &[f32], step: &mut [f32]) {
        let weights = MatRef::new(weights, TERMS, SIDE, SIDE);
        for half in 0..2 {
            // SAFETY: the kernel proves AVX-512.
            unsafe {
                let there = _mm512_set1_ps(LARGEST);
                put_right(sixteens(weights, 0, half * 16), there, half, step);
            }
        }
    }

    #[inline(always)]
    fn finish_weights(self, panel: &mut [f32]) {
        let steps = panel.len() - SIDE;
        panel[steps..].fill(65_536.0 / LARGEST);
    }
}

/// 64 terms, from `k` on, of sixteen columns of (k, ·).
#[inline]
#[target_feature(enable = "avx512f")]
fn sixteens(terms: MatRef<'_>, k: usize, col: usize) -> [[__m512; 16]; 4] {
    [
        lines(terms, k, col),
        lines(terms, k + 16, col),
        lines(terms, k + 32, col),
        lines(terms, k + 48, col),
    ]
}

/// Writes a step's lines of sixteen columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn put_right(four: [[__m512; 16]; 4], there: __m512, half: usize, step: &mut [f32]) {
    let [a, b, c, d] = four;
    for i in 0..16 {
        let terms = [a[i], b[i], c[i], d[i]];
        put_digits(digits(terms, there), half, i, step);
    }
}

/// Writes line `i` of a half's tiles, one for each digit.
#[inline(always)]
fn put_digits(digits: [__m512; 3], half: usize, i: usize, step: &mut [f32]) {
    for (p, digit) in digits.into_iter().enumerate() {
        put(digit, 2 * p + half, i, step);
    }
}

/// The largest of all [`magnitude`]s.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest_of(terms: &[f32]) -> i32 {
    let all = MatRef::new(terms, 1, terms.len(), terms.len());
    let mut largest = _mm512_setzero_si512();
    for k in (0..terms.len()).step_by(16) {
        largest = _mm512_max_epi32(largest, magnitude(line(all, k)));
    }
    _mm512_reduce_max_epi32(largest)
}

/// The same of each of 32 columns (k, ·). Their rows lie far apart in memory, where
/// nothing foresees the next, so it is asked for some rows ahead.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest_of_columns(terms: MatRef<'_>) -> [[i32; 16]; 2] {
    const AHEAD: usize = 32;
    let mut largest = [_mm512_setzero_si512(); 2];
    for k in (0..terms.rows).step_by(16) {
        for row in k + AHEAD..(k + AHEAD + 16).min(terms.rows) {
            let row = &terms.data[row * terms.row_stride..];
            for col in (0..terms.cols).step_by(16) {
                _mm_prefetch::<_MM_HINT_T0>(row[col..].as_ptr().cast());
            }
        }
        for (half, largest) in largest.iter_mut().enumerate() {
            for line in lines(terms, k, half * 16) {
                *largest = _mm512_max_epi32(*largest, magnitude(line));
            }
        }
    }
    let mut out = [[0; 16]; 2];
    for (out, largest) in out.iter_mut().zip(largest) {
        // SAFETY: the array holds sixteen numbers.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), largest) }
    }
    out
}

/// Sums of tiles of bytes.
#[repr(align(64))]
struct Aligned([i32; SUMS]);

/// Sixteen of the sums.
///
/// # Safety
/// They must end before the sums do.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn sixteen(sums: &Aligned, at: usize) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(sums.0.as_ptr().add(at).cast())) }
}

/// The bits of |x|, whose order is that of numbers, with infinities and NaN last.
#[inline]
#[target_feature(enable = "avx512f")]
fn magnitude(x: __m512) -> __m512i {
    _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fff_ffff))
}

/// The digits h, m and l of four numbers a lane, each digit as four bytes a lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn digits(four: [__m512; 4], there: __m512) -> [__m512; 3] {
    // With 128 added to every digit none borrows from the next.
    let half = _mm512_set1_epi32(0x0080_8080);
    let mut n = [_mm512_setzero_si512(); 4];
    for (n, x) in n.iter_mut().zip(four) {
        let whole = _mm512_cvtps_epi32(_mm512_mul_ps(x, there));
        *n = _mm512_xor_si512(_mm512_add_epi32(whole, half), half);
    }
    const BYTES: __mmask64 = 0xaaaa_aaaa_aaaa_aaaa;
    const WORDS: __mmask32 = 0xaaaa_aaaa;
    // Bytes l, l, h, h of two numbers, and their bytes m, m.
    let lh = _mm512_mask_blend_epi8(BYTES, n[0], _mm512_slli_epi32::<8>(n[1]));
    let lh2 = _mm512_mask_blend_epi8(BYTES, n[2], _mm512_slli_epi32::<8>(n[3]));
    let m = _mm512_mask_blend_epi8(BYTES, _mm512_srli_epi32::<8>(n[0]), n[1]);
    let m2 = _mm512_mask_blend_epi8(BYTES, _mm512_srli_epi32::<8>(n[2]), n[3]);
    let h = _mm512_mask_blend_epi16(WORDS, _mm512_srli_epi32::<16>(lh), lh2);
    let m = _mm512_mask_blend_epi16(WORDS, m, _mm512_slli_epi32::<16>(m2));
    let l = _mm512_mask_blend_epi16(WORDS, lh, _mm512_slli_epi32::<16>(lh2));
    [
        _mm512_castsi512_ps(h),
        _mm512_castsi512_ps(m),
        _mm512_castsi512_ps(l),
    ]
}
