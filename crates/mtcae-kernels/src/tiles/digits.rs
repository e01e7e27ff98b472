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
//! 2.4e-7 of the product of both largest. What differs further from `f32`
//! arithmetic: a row or column whose largest number is below 1e-30 loses digits,
//! and one with an infinity or NaN gives NaN throughout.
//!
//! A step has 64 terms and two tiles for each digit; a tile's line is a row's 64
//! terms, or four terms of sixteen columns. Behind the steps of a panel stand the
//! factors that lead back from whole numbers, one for each row or column.

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::amx::{configure, release};
use super::{SIDE, SQUARE, SUMS, line, lines, put};
use crate::lanes::transpose;
use crate::matrix::MatRef;

/// Terms of a step.
pub(crate) const TERMS: usize = 64;
/// `f32` that a step takes.
pub(crate) const STEP: usize = 3 * 2 * SQUARE;
/// What the largest number of a row becomes: somewhat less than 127 in each
/// digit, so that rounding never passes that.
const LARGEST: f32 = 8_355_000.0;
/// Below this, rows are scaled as if it were their largest number.
const SMALLEST: f32 = 1e-30;

/// The engine. Holding it proves AMX with bytes, and AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Digits(());

/// Calls `$f(engine, args…)` compiled for the engine. Only where a
/// [`Kind`](crate::format::Kind) proves that the CPU has it.
macro_rules! run {
    ($f:ident($($arg:ident: $ty:ty),* $(,)?)) => {{
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn digits($($arg: $ty),*) {
            // SAFETY: the caller has found the features.
            $f(unsafe { $crate::tiles::digits::Digits::new() }, $($arg),*)
        }
        // SAFETY: as above.
        unsafe { digits($($arg),*) }
    }};
}
pub(crate) use run;

/// Goes over `$n` steps with the four sums in tmm0 to tmm3 and stores them. Each
/// product is given by where its tiles lie within a step: two of the left operand
/// and two of the right.
macro_rules! pass {
    ($a:expr, $b:expr, $n:expr, $sums:expr, $(($a0:literal, $a1:literal, $b0:literal, $b1:literal),)*) => {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            $(
                concat!("tileloadd tmm4, [{a} + {line} + ", $a0, "]"),
                concat!("tileloadd tmm6, [{b} + {line} + ", $b0, "]"),
                "tdpbssd tmm0, tmm4, tmm6",
                concat!("tileloadd tmm7, [{b} + {line} + ", $b1, "]"),
                "tdpbssd tmm1, tmm4, tmm7",
                concat!("tileloadd tmm5, [{a} + {line} + ", $a1, "]"),
                "tdpbssd tmm2, tmm5, tmm6",
                "tdpbssd tmm3, tmm5, tmm7",
            )*
            "add {a}, 6144",
            "add {b}, 6144",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {row}], tmm0",
            "tilestored [{out} + {row} + 64], tmm1",
            "tilestored [{out} + {row} + 2048], tmm2",
            "tilestored [{out} + {row} + 2112], tmm3",
            a = inout(reg) $a => _,
            b = inout(reg) $b => _,
            steps = inout(reg) $n => _,
            out = in(reg) $sums.as_mut_ptr(),
            line = in(reg) 64usize,
            row = in(reg) 128usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}
/// `f32` that a panel of `terms` takes.
pub(crate) const fn panel_len(terms: usize) -> usize {
    terms.div_ceil(TERMS) * STEP + SIDE
}

/// `f32` between the panels of an operand: a panel, or the squares that
/// [`settle`] makes it of.
pub(crate) const fn operand_len(terms: usize) -> usize {
    let (panel, squares) = (panel_len(terms), terms.div_ceil(SIDE) * SUMS);
    if panel > squares { panel } else { squares }
}

/// The factor to whole numbers for a row whose largest magnitude has these bits,
/// and 256 times the factor back: sums of products are in units of 256².
#[inline(always)]
fn factors(largest: i32) -> (f32, f32) {
    let largest = f32::from_bits(largest as u32);
    if !largest.is_finite() {
        return (0.0, f32::NAN);
    }
    let largest = largest.max(SMALLEST);
    (LARGEST / largest, largest * (256.0 / LARGEST))
}

impl Digits {
    /// The engine.
    ///
    /// # Safety
    /// The CPU must have AMX with bytes and AVX-512 F, BW, DQ and VL, and the
    /// process the permission to use AMX.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }

    #[inline(always)]
    pub(crate) fn begin(self) {
        // SAFETY: the engine proves AMX.
        unsafe { configure() }
    }

    #[inline(always)]
    pub(crate) fn end(self) {
        // SAFETY: the engine proves AMX.
        unsafe { release() }
    }

    /// The product of the steps in the range, 32×32 row by row: added to `sums`,
    /// or in their place when they are `fresh`. Both panels are whole.
    #[inline(always)]
    pub(crate) fn multiply(
        self,
        left: &[f32],
        right: &[f32],
        steps: Range<usize>,
        fresh: bool,
        sums: &mut [f32],
    ) {
        let (left, rows) = left.split_at(left.len() - SIDE);
        let (right, cols) = right.split_at(right.len() - SIDE);
        let (left, right) = (
            &left[steps.start * STEP..steps.end * STEP],
            &right[steps.start * STEP..steps.end * STEP],
        );
        let sums = &mut sums[..SUMS];
        if steps.is_empty() {
            if fresh {
                sums.fill(0.0);
            }
            return;
        }
        let mut whole = [const { MaybeUninit::<Aligned>::uninit() }; 3];
        // SAFETY: the engine proves AMX, and `begin` has configured the tiles. The
        // loops read 6 KiB a step from either operand, which the slices hold, and
        // write 32 rows of 128 bytes of each sum, which is all of it.
        let [low, middle, high] = unsafe {
            let [low, middle, high] = &mut whole;
            let (a, b, n) = (left.as_ptr(), right.as_ptr(), steps.len());
            // m·m, h·l and l·h.
            pass!(
                a,
                b,
                n,
                low,
                ("2048", "3072", "2048", "3072"),
                ("0", "1024", "4096", "5120"),
                ("4096", "5120", "0", "1024"),
            );
            // h·m and m·h.
            pass!(
                a,
                b,
                n,
                middle,
                ("0", "1024", "2048", "3072"),
                ("2048", "3072", "0", "1024"),
            );
            // h·h.
            pass!(a, b, n, high, ("0", "1024", "0", "1024"),);
            [
                low.assume_init_ref(),
                middle.assume_init_ref(),
                high.assume_init_ref(),
            ]
        };
        // SAFETY: the engine proves AVX-512; all loads and stores lie within 32
        // rows of 32 and 32 factors.
        unsafe {
            let base = _mm512_set1_ps(256.0);
            for (r, &row) in rows.iter().enumerate() {
                let row = _mm512_set1_ps(row);
                for half in [0, 16] {
                    let at = r * SIDE + half;
                    let y = _mm512_fmadd_ps(sixteen(high, at), base, sixteen(middle, at));
                    let y = _mm512_fmadd_ps(y, base, sixteen(low, at));
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
}

/// Packs a row of a left panel from its terms.
#[inline(always)]
pub(crate) fn pack_row(_: Digits, terms: &[f32], row: usize, panel: &mut [f32]) {
    let (steps, scales) = panel.split_at_mut(panel_len(terms.len()) - SIDE);
    // SAFETY: the engine proves AVX-512.
    unsafe {
        let all = MatRef::new(terms, 1, terms.len(), terms.len());
        let mut largest = _mm512_setzero_si512();
        for k in (0..terms.len()).step_by(16) {
            largest = _mm512_max_epi32(largest, magnitude(line(all, k)));
        }
        let (there, back) = factors(_mm512_reduce_max_epi32(largest));
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
            for (p, digit) in digits.into_iter().enumerate() {
                put(digit, 2 * p + row / 16, row % 16, step);
            }
        }
    }
}

/// Packs at most 32 columns as a right panel. They are given as rows (·, k),
/// each of them contiguous.
#[inline(always)]
pub(crate) fn pack_columns(_: Digits, columns: MatRef<'_>, panel: &mut [f32]) {
    let (steps, scales) = panel.split_at_mut(panel_len(columns.cols) - SIDE);
    for half in 0..2 {
        // SAFETY: the engine proves AVX-512, and the loads and stores lie within
        // arrays of sixteen.
        unsafe {
            let (mut there, mut back) = ([0.0; 16], [0.0; 16]);
            for c in 0..16 {
                let column = half * 16 + c;
                let mut largest = _mm512_setzero_si512();
                if column < columns.rows {
                    let all = columns.part(column, 1, 0, columns.cols);
                    for k in (0..columns.cols).step_by(16) {
                        largest = _mm512_max_epi32(largest, magnitude(line(all, k)));
                    }
                }
                (there[c], back[c]) = factors(_mm512_reduce_max_epi32(largest));
            }
            scales[half * 16..half * 16 + 16].copy_from_slice(&back);
            let there = _mm512_loadu_ps(there.as_ptr());
            for (s, step) in steps.chunks_exact_mut(STEP).enumerate() {
                let mut terms = [[_mm512_setzero_ps(); 16]; 4];
                for (q, terms) in terms.iter_mut().enumerate() {
                    *terms = transpose(lines(columns, half * 16, s * TERMS + q * 16));
                }
                for i in 0..16 {
                    let four = [terms[0][i], terms[1][i], terms[2][i], terms[3][i]];
                    for (p, digit) in digits(four, there).into_iter().enumerate() {
                        put(digit, 2 * p + half, i, step);
                    }
                }
            }
        }
    }
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

/// Packs in place what [`Engine`](super::Engine)s of layers leave of a panel:
/// squares of 32 rows by 32 terms, row by row. `copy` takes as much.
#[inline(always)]
pub(crate) fn settle(engine: Digits, terms: usize, panel: &mut [f32], copy: &mut [f32]) {
    let squares = terms.div_ceil(SIDE);
    let len = squares * SIDE;
    let copy = &mut copy[..len * SIDE];
    // Rows of the copy are contiguous.
    for (s, square) in panel.chunks_exact(SUMS).take(squares).enumerate() {
        for (r, row) in square.chunks_exact(SIDE).enumerate() {
            copy[r * len + s * SIDE..][..SIDE].copy_from_slice(row);
        }
    }
    let panel = &mut panel[..panel_len(terms)];
    for (r, row) in copy.chunks_exact(len).enumerate() {
        pack_row(engine, &row[..terms], r, panel);
    }
}
