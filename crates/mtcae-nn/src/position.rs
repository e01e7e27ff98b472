//! VideoMAE's fixed position table.

use candle_core::{Device, Result, Tensor};

/// The sin-cos table (N, D) over flat token positions: with
/// angle = pos/10000^(2⌊j/2⌋/D), sin(angle) on even channels j, cos on odd ones
/// (`get_sinusoid_encoding_table` of MCG-NJU/VideoMAE). Angles are computed in
/// f64, as there.
pub fn sin_cos_table(tokens: usize, width: usize, device: &Device) -> Result<Tensor> {
    let frequencies: Vec<f64> = (0..width)
        .map(|j| 10_000f64.powf(-(2.0 * (j / 2) as f64) / width as f64))
        .collect();
    let table: Vec<f32> = (0..tokens)
        .flat_map(|position| {
            frequencies.iter().enumerate().map(move |(j, frequency)| {
                let angle = position as f64 * frequency;
                (if j % 2 == 0 { angle.sin() } else { angle.cos() }) as f32
            })
        })
        .collect();
    Tensor::from_vec(table, (tokens, width), device)
}
