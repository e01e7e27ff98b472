//! What a CPU could do at best: the instructions that a format's products are made
//! of, in a loop on registers alone.

use crate::format::{Format, with_kernel};
use crate::micro::MicroKernel;

/// Goes `loops` times over the multiply-adds of a format on the calling thread and
/// gives the floating-point operations of a product that as many stand for.
pub fn operations(format: Format, loops: usize) -> f64 {
    #[inline(always)]
    fn peak<K: MicroKernel>(kernel: K, loops: usize, out: &mut f64) {
        kernel.begin();
        *out = kernel.peak(loops);
        kernel.end();
    }
    let mut done = 0.0;
    let out = &mut done;
    with_kernel!(format.0, peak(loops: usize, out: &mut f64));
    done
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
