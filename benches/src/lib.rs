//! What the benchmarks share. Run them with `cargo bench`; `docs/performance.md`
//! holds what they gave and on which machine.

use mtcae_nn::candle_core::{Device, Result, Tensor};

/// Numbers in [−1, 1) that are the same in every run, without a generator.
pub fn tensor(shape: &[usize]) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let data: Vec<f32> = (0..n as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu)
}
