//! Sixteen `f32` at a time, by hand: for kernels whose accumulators must stay
//! in registers, which the compiler's own vectoriser does not promise.
//!
//! A kernel is written once as an `#[inline(always)]` function over a [`Lanes`]
//! token; [`vectorise!`] compiles it under each instruction set. Holding a token
//! is the proof that the CPU has its instructions: tokens are made where an
//! [`Isa`](crate::isa::Isa) or a micro-kernel that stands for them has been matched.

/// Arithmetic on sixteen lanes. The operations are those of IEEE 754 with one
/// rounding each; [`mul_add`](Lanes::mul_add) has one rounding where the
/// instruction set is fused and two where it is not.
pub(crate) trait Lanes: Copy {
    /// Sixteen numbers in registers.
    type F: Copy;

    /// How many accumulators of sixteen lanes the registers hold beside what a
    /// matrix kernel needs for its operands.
    const ACCUMULATORS: usize;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F;
    /// Reads sixteen numbers.
    fn load(self, x: &[f32; 16]) -> Self::F;
    /// Writes sixteen numbers.
    fn store(self, x: Self::F, out: &mut [f32; 16]);
    /// a·b + c.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger of each pair; `b` where one is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller of each pair; `b` where one is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// a + b.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// a − b.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// a·b.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// a/b.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// 1/x for normal numbers, within 1.2e-7 of it relative to it.
    fn reciprocal(self, x: Self::F) -> Self::F;
    /// `yes` where a < b, `no` elsewhere, NaNs included.
    fn if_below(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F;

    /// The nearest whole numbers, for |x| < 2²².
    fn round(self, x: Self::F) -> Self::F;
    /// p·2ⁿ, for p in ½ to 2 and whole n whose result is normal.
    fn scale(self, p: Self::F, n: Self::F) -> Self::F;

    /// 2ˣ for x ≤ 0, within 2e-7 of it relative to it; below −126 it stays 2⁻¹²⁶, which
    /// adds nothing to a sum that holds a 1. The polynomial is a minimax fit of
    /// (2ᶠ − 1)/f on |f| ≤ ½ with an error of 2e-8.
    #[inline(always)]
    fn exp2(self, x: Self::F) -> Self::F {
        const P: [f32; 6] = [
            std::f32::consts::LN_2,
            0.240_226_48,
            0.055_503_324,
            0.009_618_437,
            0.001_339_887_5,
            0.000_153_533_62,
        ];
        // NaN stays: `max` gives its second operand then.
        let x = self.max(self.splat(-126.0), x);
        let n = self.round(x);
        let f = self.sub(x, n);
        let mut p = self.splat(P[5]);
        let mut i = 5;
        while i > 0 {
            i -= 1;
            p = self.mul_add(p, f, self.splat(P[i]));
        }
        self.scale(self.mul_add(p, f, self.splat(1.0)), n)
    }

    /// Does the work in a function of its own, compiled for the instruction set: for
    /// what is too large to be taken in by every caller.
    fn outline(self, work: impl Work<Self>);

    /// Copies as many numbers, for copies too short for a call.
    #[inline(always)]
    fn copy(self, from: &[f32], to: &mut [f32]) {
        let ((from, last), (to, rest)) = (from.as_chunks::<16>(), to.as_chunks_mut::<16>());
        for (from, to) in from.iter().zip(to) {
            self.store(self.load(from), to);
        }
        for (from, to) in last.iter().zip(rest) {
            *to = *from;
        }
    }

    /// Transposes a square.
    #[inline(always)]
    fn transpose(self, x: &mut [[f32; 16]; 16]) {
        turn(x);
    }

    /// Transposes a square of eight.
    #[inline(always)]
    fn transpose_eight(self, x: &mut [[f32; 8]; 8]) {
        turn(x);
    }
}

#[inline(always)]
fn turn<const N: usize>(x: &mut [[f32; N]; N]) {
    let before = *x;
    for (i, row) in x.iter_mut().enumerate() {
        for (j, v) in row.iter_mut().enumerate() {
            *v = before[j][i];
        }
    }
}

/// What [`Lanes::outline`] does.
pub(crate) trait Work<L> {
    /// To be inlined.
    fn run(self, simd: L);
}

/// Plain arrays, for every CPU.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Lanes for Portable {
    type F = [f32; 16];

    const ACCUMULATORS: usize = if cfg!(target_arch = "aarch64") { 6 } else { 2 };

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; 16]
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Self::F {
        *x
    }

    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; 16]) {
        *out = x;
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, mut c: Self::F) -> Self::F {
        for i in 0..16 {
            c[i] = crate::math::mul_add::<{ crate::isa::PORTABLE_FMA }>(a[i], b[i], c[i]);
        }
        c
    }

    #[inline(always)]
    fn max(self, mut a: Self::F, b: Self::F) -> Self::F {
        for i in 0..16 {
            a[i] = if a[i] > b[i] { a[i] } else { b[i] };
        }
        a
    }

    #[inline(always)]
    fn min(self, mut a: Self::F, b: Self::F) -> Self::F {
        for i in 0..16 {
            a[i] = if a[i] < b[i] { a[i] } else { b[i] };
        }
        a
    }

    #[inline(always)]
    fn add(self, mut a: Self::F, b: Self::F) -> Self::F {
        for i in 0..16 {
            a[i] += b[i];
        }
        a
    }

    #[inline(always)]
    fn sub(self, mut a: Self::F, b: Self::F) -> Self::F {
        for i in 0..16 {
            a[i] -= b[i];
        }
        a
    }

    #[inline(always)]
    fn div(self, mut a: Self::F, b: Self::F) -> Self::F {
        for i in 0..16 {
            a[i] /= b[i];
        }
        a
    }

    #[inline(always)]
    fn round(self, mut x: Self::F) -> Self::F {
        // What is added leaves no room for a fraction.
        const ROUND: f32 = (3 << 22) as f32;
        x.iter_mut().for_each(|x| *x = (*x + ROUND) - ROUND);
        x
    }

    #[inline(always)]
    fn scale(self, mut p: Self::F, n: Self::F) -> Self::F {
        for i in 0..16 {
            p[i] = f32::from_bits(p[i].to_bits().wrapping_add((n[i] as i32 as u32) << 23));
        }
        p
    }

    #[inline(always)]
    fn mul(self, mut a: Self::F, b: Self::F) -> Self::F {
        for i in 0..16 {
            a[i] *= b[i];
        }
        a
    }

    #[inline(always)]
    fn reciprocal(self, mut x: Self::F) -> Self::F {
        x.iter_mut().for_each(|x| *x = 1.0 / *x);
        x
    }

    #[inline(always)]
    fn if_below(self, a: Self::F, b: Self::F, yes: Self::F, mut no: Self::F) -> Self::F {
        for i in 0..16 {
            no[i] = if a[i] < b[i] { yes[i] } else { no[i] };
        }
        no
    }

    #[inline(never)]
    fn outline(self, work: impl Work<Self>) {
        work.run(self);
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, transpose};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Lanes, Work};

    /// Functions of two operands, each one instruction.
    macro_rules! whole {
        ($($f:ident: $instruction:ident),+) => { $(
            #[inline(always)]
            fn $f(self, a: Self::F, b: Self::F) -> Self::F {
                // SAFETY: the token proves AVX-512F.
                unsafe { $instruction(a, b) }
            }
        )+ };
    }

    /// As [`whole`], each one instruction for either half.
    macro_rules! halves {
        ($($f:ident: $instruction:ident),+) => { $(
            #[inline(always)]
            fn $f(self, a: Self::F, b: Self::F) -> Self::F {
                // SAFETY: the token proves AVX.
                unsafe { [$instruction(a[0], b[0]), $instruction(a[1], b[1])] }
            }
        )+ };
    }

    /// One 512-bit register.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(());

    impl Avx512 {
        /// The token.
        ///
        /// # Safety
        /// The CPU must have AVX-512 F, DQ and VL, AVX2 and FMA.
        #[inline(always)]
        pub(crate) unsafe fn new() -> Self {
            Self(())
        }
    }

    impl Lanes for Avx512 {
        type F = __m512;

        const ACCUMULATORS: usize = 24;

        #[inline(always)]
        fn splat(self, x: f32) -> __m512 {
            // SAFETY: the token proves AVX-512F.
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        fn load(self, x: &[f32; 16]) -> __m512 {
            // SAFETY: the token proves AVX-512F; the array has 16 elements, and
            // the load needs no alignment.
            unsafe { _mm512_loadu_ps(x.as_ptr()) }
        }

        #[inline(always)]
        fn store(self, x: __m512, out: &mut [f32; 16]) {
            // SAFETY: as for `load`, and `out` is borrowed mutably.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), x) }
        }

        #[inline(always)]
        fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: the token proves AVX-512F.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        whole!(
            max: _mm512_max_ps,
            min: _mm512_min_ps,
            add: _mm512_add_ps,
            sub: _mm512_sub_ps,
            mul: _mm512_mul_ps,
            div: _mm512_div_ps,
            scale: _mm512_scalef_ps
        );

        #[inline(always)]
        fn round(self, x: __m512) -> __m512 {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            // SAFETY: the token proves AVX-512F.
            unsafe { _mm512_roundscale_ps::<NEAREST>(x) }
        }

        /// An estimate of 14 bits, and one step of Newton's.
        #[inline(always)]
        fn reciprocal(self, x: __m512) -> __m512 {
            // SAFETY: the token proves AVX-512F.
            unsafe {
                let r = _mm512_rcp14_ps(x);
                let error = _mm512_fnmadd_ps(x, r, _mm512_set1_ps(1.0));
                _mm512_fmadd_ps(r, error, r)
            }
        }

        #[inline(always)]
        fn if_below(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
            // SAFETY: the token proves AVX-512F.
            unsafe { _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), yes) }
        }

        #[inline(always)]
        fn outline(self, work: impl Work<Self>) {
            #[inline(never)]
            #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
            fn run(simd: Avx512, work: impl Work<Avx512>) {
                work.run(simd);
            }
            // SAFETY: the token proves AVX-512, with what an `Isa` asks beside F.
            unsafe { run(self, work) }
        }

        #[inline(always)]
        fn transpose(self, x: &mut [[f32; 16]; 16]) {
            let mut rows = [self.splat(0.0); 16];
            for i in 0..16 {
                rows[i] = self.load(&x[i]);
            }
            // SAFETY: the token proves AVX-512F.
            let rows = unsafe { transpose(rows) };
            for i in 0..16 {
                self.store(rows[i], &mut x[i]);
            }
        }

        #[inline(always)]
        fn transpose_eight(self, x: &mut [[f32; 8]; 8]) {
            // SAFETY: the token proves AVX2 as well.
            unsafe { Avx2::new() }.transpose_eight(x);
        }
    }

    /// Sixteen rows of sixteen lanes, transposed: first within blocks of 4×4,
    /// then the blocks.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn transpose(x: [__m512; 16]) -> [__m512; 16] {
        let mut y = x;
        for i in (0..16).step_by(4) {
            let (a, b) = (
                _mm512_unpacklo_ps(x[i], x[i + 1]),
                _mm512_unpackhi_ps(x[i], x[i + 1]),
            );
            let (c, d) = (
                _mm512_unpacklo_ps(x[i + 2], x[i + 3]),
                _mm512_unpackhi_ps(x[i + 2], x[i + 3]),
            );
            y[i] = _mm512_shuffle_ps::<0x44>(a, c);
            y[i + 1] = _mm512_shuffle_ps::<0xee>(a, c);
            y[i + 2] = _mm512_shuffle_ps::<0x44>(b, d);
            y[i + 3] = _mm512_shuffle_ps::<0xee>(b, d);
        }
        let mut z = y;
        for i in 0..4 {
            let (a, b) = (
                _mm512_shuffle_f32x4::<0x88>(y[i], y[i + 4]),
                _mm512_shuffle_f32x4::<0xdd>(y[i], y[i + 4]),
            );
            let (c, d) = (
                _mm512_shuffle_f32x4::<0x88>(y[i + 8], y[i + 12]),
                _mm512_shuffle_f32x4::<0xdd>(y[i + 8], y[i + 12]),
            );
            z[i] = _mm512_shuffle_f32x4::<0x88>(a, c);
            z[i + 8] = _mm512_shuffle_f32x4::<0xdd>(a, c);
            z[i + 4] = _mm512_shuffle_f32x4::<0x88>(b, d);
            z[i + 12] = _mm512_shuffle_f32x4::<0xdd>(b, d);
        }
        z
    }

    /// Eight rows of eight lanes, transposed: pairs of rows, of pairs, and halves.
    #[inline]
    #[target_feature(enable = "avx")]
    fn transpose_eight(x: [__m256; 8]) -> [__m256; 8] {
        let mut y = x;
        for i in (0..8).step_by(4) {
            let (a, b) = (
                _mm256_unpacklo_ps(x[i], x[i + 1]),
                _mm256_unpackhi_ps(x[i], x[i + 1]),
            );
            let (c, d) = (
                _mm256_unpacklo_ps(x[i + 2], x[i + 3]),
                _mm256_unpackhi_ps(x[i + 2], x[i + 3]),
            );
            y[i] = _mm256_shuffle_ps::<0x44>(a, c);
            y[i + 1] = _mm256_shuffle_ps::<0xee>(a, c);
            y[i + 2] = _mm256_shuffle_ps::<0x44>(b, d);
            y[i + 3] = _mm256_shuffle_ps::<0xee>(b, d);
        }
        let mut z = y;
        for i in 0..4 {
            z[i] = _mm256_permute2f128_ps::<0x20>(y[i], y[i + 4]);
            z[i + 4] = _mm256_permute2f128_ps::<0x31>(y[i], y[i + 4]);
        }
        z
    }

    /// Two 256-bit registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(());

    impl Avx2 {
        /// The token.
        ///
        /// # Safety
        /// The CPU must have AVX2 and FMA.
        #[inline(always)]
        pub(crate) unsafe fn new() -> Self {
            Self(())
        }
    }

    impl Lanes for Avx2 {
        type F = [__m256; 2];

        const ACCUMULATORS: usize = 6;

        #[inline(always)]
        fn splat(self, x: f32) -> Self::F {
            // SAFETY: the token proves AVX.
            unsafe { [_mm256_set1_ps(x); 2] }
        }

        #[inline(always)]
        fn load(self, x: &[f32; 16]) -> Self::F {
            // SAFETY: the token proves AVX; both halves lie in the array, and
            // the loads need no alignment.
            unsafe {
                [
                    _mm256_loadu_ps(x.as_ptr()),
                    _mm256_loadu_ps(x.as_ptr().add(8)),
                ]
            }
        }

        #[inline(always)]
        fn store(self, x: Self::F, out: &mut [f32; 16]) {
            // SAFETY: as for `load`, and `out` is borrowed mutably.
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr(), x[0]);
                _mm256_storeu_ps(out.as_mut_ptr().add(8), x[1]);
            }
        }

        #[inline(always)]
        fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
            // SAFETY: the token proves FMA.
            unsafe {
                [
                    _mm256_fmadd_ps(a[0], b[0], c[0]),
                    _mm256_fmadd_ps(a[1], b[1], c[1]),
                ]
            }
        }

        halves!(
            max: _mm256_max_ps,
            min: _mm256_min_ps,
            add: _mm256_add_ps,
            sub: _mm256_sub_ps,
            mul: _mm256_mul_ps,
            div: _mm256_div_ps
        );

        #[inline(always)]
        fn round(self, x: Self::F) -> Self::F {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            // SAFETY: the token proves AVX.
            unsafe {
                [
                    _mm256_round_ps::<NEAREST>(x[0]),
                    _mm256_round_ps::<NEAREST>(x[1]),
                ]
            }
        }

        #[inline(always)]
        fn scale(self, p: Self::F, n: Self::F) -> Self::F {
            let mut y = p;
            for h in 0..2 {
                // SAFETY: the token proves AVX2.
                y[h] = unsafe {
                    let n = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n[h]));
                    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p[h]), n))
                };
            }
            y
        }

        #[inline(always)]
        fn reciprocal(self, x: Self::F) -> Self::F {
            // SAFETY: the token proves AVX.
            unsafe {
                let one = _mm256_set1_ps(1.0);
                [_mm256_div_ps(one, x[0]), _mm256_div_ps(one, x[1])]
            }
        }

        #[inline(always)]
        fn if_below(self, a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
            // SAFETY: the token proves AVX.
            unsafe {
                [
                    _mm256_blendv_ps(no[0], yes[0], _mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0])),
                    _mm256_blendv_ps(no[1], yes[1], _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])),
                ]
            }
        }

        #[inline(always)]
        fn outline(self, work: impl Work<Self>) {
            #[inline(never)]
            #[target_feature(enable = "avx2,fma")]
            fn run(simd: Avx2, work: impl Work<Avx2>) {
                work.run(simd);
            }
            // SAFETY: the token proves AVX2 and FMA.
            unsafe { run(self, work) }
        }

        #[inline(always)]
        fn transpose(self, x: &mut [[f32; 16]; 16]) {
            // SAFETY: the token proves AVX.
            unsafe {
                let (a, b) = (load_eight(x, 0, 8), load_eight(x, 8, 0));
                store_eight(transpose_eight(a), x, 8, 0);
                store_eight(transpose_eight(b), x, 0, 8);
                for i in [0, 8] {
                    store_eight(transpose_eight(load_eight(x, i, i)), x, i, i);
                }
            }
        }

        #[inline(always)]
        fn transpose_eight(self, x: &mut [[f32; 8]; 8]) {
            // SAFETY: the token proves AVX.
            unsafe { store_eight(transpose_eight(load_eight(x, 0, 0)), x, 0, 0) }
        }
    }

    /// Eight rows of eight elements, from row `i` and column `j` on.
    #[inline]
    #[target_feature(enable = "avx")]
    fn load_eight<const N: usize>(x: &[[f32; N]; N], i: usize, j: usize) -> [__m256; 8] {
        let mut rows = [_mm256_setzero_ps(); 8];
        for (row, x) in rows.iter_mut().zip(&x[i..i + 8]) {
            // SAFETY: the slice has eight elements.
            *row = unsafe { _mm256_loadu_ps(x[j..j + 8].as_ptr()) };
        }
        rows
    }

    #[inline]
    #[target_feature(enable = "avx")]
    fn store_eight<const N: usize>(rows: [__m256; 8], x: &mut [[f32; N]; N], i: usize, j: usize) {
        for (row, x) in rows.iter().zip(&mut x[i..i + 8]) {
            // SAFETY: as for `load_eight`, borrowed mutably.
            unsafe { _mm256_storeu_ps(x[j..j + 8].as_mut_ptr(), *row) };
        }
    }
}

/// Calls `$f(token, args…)` compiled for the instruction set `$isa`.
///
/// `$f` must be `#[inline(always)]` and generic over its first argument's
/// [`Lanes`], so that its body takes on the features of the wrapper.
macro_rules! vectorise {
    ($isa:expr, $f:ident($($arg:ident: $ty:ty),* $(,)?)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
        fn avx512($($arg: $ty),*) {
            // SAFETY: this function runs only where AVX-512F was found.
            $f(unsafe { $crate::lanes::Avx512::new() }, $($arg),*)
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2($($arg: $ty),*) {
            // SAFETY: this function runs only where AVX2 and FMA were found.
            $f(unsafe { $crate::lanes::Avx2::new() }, $($arg),*)
        }
        match $isa.level() {
            // SAFETY: an `Isa` of this level exists only where the probe found
            // every feature that the function enables.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            $crate::isa::Level::Amx => unsafe { avx512($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::Avx512 => unsafe { avx512($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
            $crate::isa::Level::Portable => $f($crate::lanes::Portable, $($arg),*),
        }
    }};
}
pub(crate) use vectorise;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    #[test]
    fn squares_are_transposed() {
        #[inline(always)]
        fn transpose<L: Lanes>(simd: L, sixteen: &mut [[f32; 16]; 16], eight: &mut [[f32; 8]; 8]) {
            simd.transpose(sixteen);
            simd.transpose_eight(eight);
        }
        fn square<const N: usize>(of: impl Fn(usize, usize) -> usize) -> [[f32; N]; N] {
            std::array::from_fn(|i| std::array::from_fn(|j| of(i, j) as f32))
        }
        for isa in Isa::available() {
            let mut squares = (square(|i, j| 16 * i + j), square(|i, j| 8 * i + j));
            let (sixteen, eight) = (&mut squares.0, &mut squares.1);
            vectorise!(isa, transpose(sixteen: &mut [[f32; 16]; 16], eight: &mut [[f32; 8]; 8]));
            let want = (square(|i, j| i + 16 * j), square(|i, j| i + 8 * j));
            assert!(squares == want, "{}", isa.name());
        }
    }

    #[test]
    fn powers_of_two_are_as_exact_as_promised() {
        #[inline(always)]
        fn powers<L: Lanes>(simd: L, x: &[f32; 16], y: &mut [f32; 16]) {
            simd.store(simd.exp2(simd.load(x)), y);
        }
        for isa in Isa::available() {
            for i in 0..40_000 {
                let xs: [f32; 16] = std::array::from_fn(|j| -((16 * i + j) as f32) * 1.97e-4);
                let mut ys = [0.0; 16];
                let (x, y) = (&xs, &mut ys);
                vectorise!(isa, powers(x: &[f32; 16], y: &mut [f32; 16]));
                for (x, y) in xs.iter().zip(ys) {
                    let exact = f64::from(*x).exp2();
                    let off = (f64::from(y) - exact).abs() / exact;
                    assert!(off < 2e-7 || *x < -126.0, "{}: {x} {off:e}", isa.name());
                }
            }
            let mut ys = [0.0; 16];
            let (x, y) = (&[f32::NAN; 16], &mut ys);
            vectorise!(isa, powers(x: &[f32; 16], y: &mut [f32; 16]));
            assert!(ys.iter().all(|y| y.is_nan()), "{}", isa.name());
        }
    }
}
