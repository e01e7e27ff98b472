//! Elementary functions that vectorise: straight-line code without branches or
//! table look-ups, so that the compiler turns a loop over them into SIMD.
//!
//! The coefficients are our own minimax fits (`fixtures/kernels/fit.py` prints
//! them). The error bounds are measured by the tests of this file at every 6101st
//! `f32` of the range, and at all of them by `make test-exhaustive`.

/// `a·b + c`, fused where `FMA` says that the target has the instruction.
#[inline(always)]
pub fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// eˣ, within 2e-7 of the exact value relative to it.
///
/// x below −87.33 gives 0 (subnormal results are flushed), x above 88.72 gives
/// +∞, NaN gives NaN. Cody–Waite reduction to |r| ≤ ln2/2, then a polynomial of
/// degree 6 whose fit error is 3.2e-9.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Adding 1.5·2²³ leaves the nearest integer in the low mantissa bits.
    const MAGIC: f32 = 12_582_912.0;
    const P: [f32; 5] = [
        0.499_999_94,
        0.166_665_2,
        0.041_668_404,
        0.008_368_899,
        0.001_381_422_7,
    ];
    let clamped = x.clamp(-87.336_55, 88.722_84);
    let shifted = mul_add::<FMA>(clamped, std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = mul_add::<FMA>(n, -LN2_HI, clamped);
    let r = mul_add::<FMA>(n, -LN2_LO, r);
    let mut p = P[4];
    p = mul_add::<FMA>(p, r, P[3]);
    p = mul_add::<FMA>(p, r, P[2]);
    p = mul_add::<FMA>(p, r, P[1]);
    p = mul_add::<FMA>(p, r, P[0]);
    let e = mul_add::<FMA>(p * r, r, r) + 1.0;
    // n reaches 128, one more than an exponent field holds: scale in two steps.
    let n = shifted.to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
    let half = n >> 1;
    let power = |k: i32| f32::from_bits(((k + 127) as u32) << 23);
    let y = e * power(half) * power(n - half);
    let y = if x < -87.336_55 { 0.0 } else { y };
    let y = if x > 88.722_84 { f32::INFINITY } else { y };
    if x.is_nan() { x } else { y }
}

/// erf(x), within 5e-7 of the exact value, absolute and relative alike.
///
/// An odd rational function of degree 11 over 10 on |x| ≤ 3.925, beyond which
/// erf is ±1 to within 3e-8. The fit error is 1.7e-8; the rest is rounding.
#[inline(always)]
pub fn erf<const FMA: bool>(x: f32) -> f32 {
    let z = x * x;
    let (mut p, mut q) = (ERF_P[5], ERF_Q[5]);
    let mut i = 5;
    while i > 0 {
        i -= 1;
        p = mul_add::<FMA>(p, z, ERF_P[i]);
        q = mul_add::<FMA>(q, z, ERF_Q[i]);
    }
    let y = x * p / q;
    // Exactly ±1 in the tails: GELU multiplies 1 + erf by x, however large.
    let y = if y > 1.0 || x > ERF_ONE { 1.0 } else { y };
    if y < -1.0 || x < -ERF_ONE { -1.0 } else { y }
}

/// erf(x) = x·P(x²)/Q(x²) for |x| up to [`ERF_ONE`].
#[expect(
    clippy::approx_constant,
    clippy::excessive_precision,
    reason = "fitted coefficients, as the script prints them"
)]
pub(crate) const ERF_P: [f32; 6] = [
    1.128_379,
    0.192_973_66,
    0.053_084_49,
    0.003_876_374_1,
    2.874_931_4e-4,
    2.030_858_2e-6,
];
/// The denominator that belongs to [`ERF_P`].
pub(crate) const ERF_Q: [f32; 6] = [
    1.0,
    0.504_350_07,
    0.115_167_91,
    0.015_188_447,
    0.001_189_761_4,
    3.803_138_7e-5,
];
/// Beyond this, erf is 1 in `f32`.
pub(crate) const ERF_ONE: f32 = 3.925;

/// How many independent partial sums a reduction keeps: two AVX-512 registers,
/// four AVX2 ones. Fixed, so that every instruction set adds in the same order.
pub(crate) const LANES: usize = 32;

/// Sums `f(i)` over `0..n` in [`LANES`] partial sums.
#[inline(always)]
pub(crate) fn sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (l, lane) in lanes.iter_mut().enumerate() {
            *lane += f(i + l);
        }
        i += LANES;
    }
    for (l, lane) in lanes.iter_mut().enumerate().take(n - whole) {
        *lane += f(whole + l);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Isa, dispatch};

    /// erf in f64 by its Maclaurin series (|x| < 3) or continued fraction.
    fn erf_f64(x: f64) -> f64 {
        let a = x.abs();
        let y = if a < 3.0 {
            let (mut term, mut sum, mut n) = (a, a, 0.0);
            while term.abs() > 1e-18 {
                n += 1.0;
                term *= -a * a / n;
                sum += term / (2.0 * n + 1.0);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        } else {
            let mut f = 0.0;
            for k in (1..=60).rev() {
                f = k as f64 / 2.0 / (a + f);
            }
            1.0 - (-a * a).exp() / ((a + f) * std::f64::consts::PI.sqrt())
        };
        y.copysign(x)
    }

    #[inline(always)]
    fn map_exp<const FMA: bool>(x: &mut [f32]) {
        for v in x {
            *v = exp::<FMA>(*v);
        }
    }

    #[inline(always)]
    fn map_erf<const FMA: bool>(x: &mut [f32]) {
        for v in x {
            *v = erf::<FMA>(*v);
        }
    }

    /// Every `step`-th f32 between 0 and `limit`, with both signs.
    fn floats(limit: f32, step: usize) -> Vec<f32> {
        (0..limit.to_bits())
            .step_by(step)
            .flat_map(|b| [f32::from_bits(b), -f32::from_bits(b)])
            .collect()
    }

    fn worst(isa: Isa, xs: &[f32], f: fn(Isa, &mut [f32]), exact: fn(f64) -> f64) -> (f64, f64) {
        let mut ys = xs.to_vec();
        f(isa, &mut ys);
        let (mut abs, mut rel) = (0.0f64, 0.0f64);
        for (&x, &y) in xs.iter().zip(&ys) {
            let want = exact(f64::from(x));
            let error = (f64::from(y) - want).abs();
            abs = abs.max(error);
            if want.abs() > f64::from(f32::MIN_POSITIVE) {
                rel = rel.max(error / want.abs());
            }
        }
        (abs, rel)
    }

    const STEP: usize = if cfg!(feature = "exhaustive") {
        1
    } else {
        6101
    };

    #[test]
    fn exp_stays_within_its_stated_bound() {
        let xs: Vec<f32> = floats(88.7, STEP)
            .into_iter()
            .filter(|&x| x > -87.3)
            .collect();
        for isa in Isa::available() {
            let (_, rel) = worst(
                isa,
                &xs,
                |isa, x| dispatch!(isa, map_exp(x: &mut [f32])),
                f64::exp,
            );
            assert!(rel < 2e-7, "{}: relative error {rel:e}", isa.name());
        }
    }

    #[test]
    fn erf_stays_within_its_stated_bound() {
        let xs = floats(8.0, STEP);
        for isa in Isa::available() {
            let (abs, rel) = worst(
                isa,
                &xs,
                |isa, x| dispatch!(isa, map_erf(x: &mut [f32])),
                erf_f64,
            );
            assert!(
                abs < 5e-7 && rel < 5e-7,
                "{}: {abs:e} absolute, {rel:e} relative",
                isa.name()
            );
        }
    }

    #[test]
    fn special_values() {
        for isa in Isa::available() {
            let mut x = [
                f32::NEG_INFINITY,
                -100.0,
                -0.0,
                0.0,
                88.8,
                f32::INFINITY,
                f32::NAN,
            ];
            let input = &mut x[..];
            dispatch!(isa, map_exp(input: &mut [f32]));
            assert_eq!(x[..6], [0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY]);
            assert!(x[6].is_nan());
            let mut x = [f32::NEG_INFINITY, -0.0, 0.0, f32::INFINITY, f32::NAN];
            let input = &mut x[..];
            dispatch!(isa, map_erf(input: &mut [f32]));
            assert_eq!(x[..4], [-1.0, 0.0, 0.0, 1.0]);
            assert!(x[4].is_nan());
        }
    }
}
