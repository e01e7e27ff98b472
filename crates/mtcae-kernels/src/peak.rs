//! What a CPU could do at best: the instructions that a format's products are made
//! of, in a loop on registers alone.

#[cfg(target_arch = "x86_64")]
use crate::format::with_engine;
use crate::format::{Format, Kind};
use crate::lanes::{Lanes, vectorise};
#[cfg(target_arch = "x86_64")]
use crate::tiles::Engine;

/// Goes `loops` times over the multiply-adds of a format on the calling thread and
/// gives the floating-point operations of a product that as many stand for.
pub fn operations(format: Format, loops: usize) -> f64 {
    let mut done = 0.0;
    let out = &mut done;
    match format.0 {
        Kind::Plain(isa) => vectorise!(isa, multiply_adds(loops: usize, out: &mut f64)),
        #[cfg(target_arch = "x86_64")]
        kind => with_engine!(kind, tiles(loops: usize, out: &mut f64)),
    }
    done
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn tiles<E: Engine>(engine: E, loops: usize, out: &mut f64) {
    engine.begin();
    *out = engine.peak(loops);
    engine.end();
}

#[inline(always)]
fn multiply_adds<L: Lanes>(simd: L, loops: usize, out: &mut f64) {
    let sums = if L::ACCUMULATORS >= 24 {
        chains::<L, 24>(simd, loops)
    } else if L::ACCUMULATORS >= 6 {
        chains::<L, 6>(simd, loops)
    } else {
        chains::<L, 2>(simd, loops)
    };
    *out = (2 * 16 * sums * loops) as f64;
}

/// `N` sums of sixteen lanes, each waiting for itself alone. Gives `N`.
#[inline(always)]
fn chains<L: Lanes, const N: usize>(simd: L, loops: usize) -> usize {
    let (a, b) = std::hint::black_box((0.999, 1e-3));
    let (a, b) = (simd.splat(a), simd.splat(b));
    let mut sums = [simd.splat(1.0); N];
    for _ in 0..loops {
        for sum in &mut sums {
            *sum = simd.mul_add(*sum, a, b);
        }
    }
    let mut kept = [0.0; 16];
    for sum in sums {
        simd.store(sum, &mut kept);
        std::hint::black_box(&kept);
    }
    N
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_peak() {
        for format in Format::available() {
            let (one, ten) = (operations(format, 1), operations(format, 10));
            assert!(one > 0.0 && ten == 10.0 * one, "{}", format.name());
        }
    }
}
