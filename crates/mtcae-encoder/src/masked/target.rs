//! What is predicted of masked tubes, and back to pixels.

use mtcae_nn::candle_core::{D, DType, Result, Tensor};

use super::config::{MaskedConfig, Target};

/// Added to a deviation that divides.
const LEAST: f64 = 1e-6;

/// Mean and deviation of each channel of each tube (B, M, C, 1), in pixels between 0 and 1.
pub(super) struct Statistics {
    mean: Tensor,
    deviation: Tensor,
}

/// Normalised tubes (B, M, P) in the order (c, t, h, w) → pixels (B, M, C, P/C).
pub(super) fn pixels(tubes: &Tensor, config: &MaskedConfig) -> Result<Tensor> {
    let (batch, count, length) = tubes.dims3()?;
    let channels =
        |values: &[f32; 3]| Tensor::from_slice(values, (1, 1, values.len(), 1), tubes.device());
    let channel = (batch, count, config.mean.len(), length / config.mean.len());
    tubes
        .detach()
        .to_dtype(DType::F32)?
        .reshape(channel)?
        .broadcast_mul(&channels(&config.std)?)?
        .broadcast_add(&channels(&config.mean)?)
}

/// Pixels (B, M, C, n), less their mean over a channel, by its deviation (of n − 1, as
/// PyTorch has it), and both of them.
pub(super) fn normalised(pixels: &Tensor) -> Result<(Tensor, Statistics)> {
    // Less the first of them: what is even stays so, whatever a sum rounds to.
    let first = pixels.narrow(D::Minus1, 0, 1)?;
    let from_first = pixels.broadcast_sub(&first)?;
    let mean = from_first.mean_keepdim(D::Minus1)?;
    let centred = from_first.broadcast_sub(&mean)?;
    let freedom = pixels.dim(D::Minus1)?.saturating_sub(1).max(1) as f64;
    let deviation = ((centred.sqr()?.sum_keepdim(D::Minus1)? / freedom)?.sqrt()? + LEAST)?;
    let statistics = Statistics {
        mean: (mean + first)?,
        deviation: deviation.clone(),
    };
    Ok((centred.broadcast_div(&deviation)?, statistics))
}

/// Normalised tubes (B, M, P) in the order (c, t, h, w) → what is predicted of them,
/// (B, M, P) in the order (t, h, w, c).
pub(super) fn target(tubes: &Tensor, config: &MaskedConfig) -> Result<Tensor> {
    match tubes.device().is_cpu() {
        true => on_cpu(tubes, config),
        false => composed(tubes, config),
    }
}

/// The same of Candle's operations.
fn composed(tubes: &Tensor, config: &MaskedConfig) -> Result<Tensor> {
    let pixels = pixels(tubes, config)?;
    let values = match config.target {
        Target::Pixels => pixels,
        Target::Normalised => normalised(&pixels)?.0,
        Target::NormalisedDifference => {
            let (values, _) = normalised(&pixels)?;
            let [first, second] = frames(&values)?;
            Tensor::cat(&[&first, &(&second - &first)?], D::Minus1)?
        }
    };
    values.transpose(2, 3)?.reshape(tubes.shape())
}

/// The same in one pass, tube by tube: of Candle's operations it would take a tenth of a
/// step's time.
fn on_cpu(tubes: &Tensor, config: &MaskedConfig) -> Result<Tensor> {
    let length = tubes.dim(2)?;
    let channels = config.mean.len();
    let numbers = tubes.detach().to_dtype(DType::F32)?.flatten_all()?;
    let mut numbers: Vec<f32> = numbers.to_vec1()?;
    let (n, half) = (length / channels, length / 2);
    let mut tube = vec![0.0; length];
    for values in numbers.chunks_exact_mut(length) {
        for (c, values) in values.chunks_exact_mut(n).enumerate() {
            let (mean, std) = (config.mean[c], config.std[c]);
            values.iter_mut().for_each(|v| *v = *v * std + mean);
            if config.target != Target::Pixels {
                normalise(values);
            }
            for (to, value) in tube[c..].iter_mut().step_by(channels).zip(values) {
                *to = *value;
            }
        }
        if config.target == Target::NormalisedDifference {
            let (first, second) = tube.split_at_mut(half);
            second.iter_mut().zip(first).for_each(|(b, a)| *b -= *a);
        }
        values.copy_from_slice(&tube);
    }
    Tensor::from_vec(numbers, tubes.shape(), tubes.device())
}

/// As [`normalised`], in place.
fn normalise(values: &mut [f32]) {
    let first = values.first().copied().unwrap_or(0.0);
    values.iter_mut().for_each(|v| *v -= first);
    let mean = sum(values, |v| v) / values.len() as f32;
    values.iter_mut().for_each(|v| *v -= mean);
    let freedom = values.len().saturating_sub(1).max(1) as f32;
    let deviation = (sum(values, |v| v * v) / freedom).sqrt() + LEAST as f32;
    values.iter_mut().for_each(|v| *v /= deviation);
}

/// A sum of as many parts as a vector has lanes.
fn sum(values: &[f32], each: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for values in whole {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane += each(*value);
        }
    }
    let rest: f32 = rest.iter().map(|v| each(*v)).sum();
    lanes.iter().sum::<f32>() + rest
}

/// What was predicted of tubes, (B, M, P) in the order (t, h, w, c), and the pixels
/// (B, M, C, P/C) that they had → pixels of the same shape, whose mean and deviation over a
/// tube, which nobody asks to be predicted, are put back.
pub(super) fn restored(
    predicted: &Tensor,
    pixels: &Tensor,
    config: &MaskedConfig,
) -> Result<Tensor> {
    let (batch, count, channels, numbers) = pixels.dims4()?;
    let values = predicted
        .detach()
        .to_dtype(DType::F32)?
        .reshape((batch, count, numbers, channels))?
        .transpose(2, 3)?
        .contiguous()?;
    let values = match config.target {
        Target::Pixels => return Ok(values),
        Target::Normalised => values,
        Target::NormalisedDifference => {
            let [first, difference] = frames(&values)?;
            Tensor::cat(&[&first, &(&first + &difference)?], D::Minus1)?
        }
    };
    let (_, statistics) = normalised(pixels)?;
    values
        .broadcast_mul(&statistics.deviation)?
        .broadcast_add(&statistics.mean)
}

/// The first and the second frame of tubes (B, M, C, 2·p·p).
fn frames(values: &Tensor) -> Result<[Tensor; 2]> {
    let half = values.dim(D::Minus1)? / 2;
    let frame = |i: usize| values.narrow(D::Minus1, i * half, half)?.contiguous();
    Ok([frame(0)?, frame(1)?])
}

#[cfg(test)]
mod tests {
    use mtcae_nn::candle_core::Device;

    use super::*;
    use crate::{Config, LgiFormerConfig};

    #[test]
    fn both_ways_give_the_same() {
        let encoder = Config::from(LgiFormerConfig::tiny());
        let published = MaskedConfig::of(&encoder).expect("a config");
        let shape = (2, 3, published.tube_len());
        let tubes: Vec<f32> = (0..shape.0 * shape.1 * shape.2)
            .map(|i| (i * 7919 % 251) as f32 / 60.0 - 2.0)
            .collect();
        let tubes = Tensor::from_vec(tubes, shape, &Device::Cpu).expect("tubes");
        for target in [
            Target::Pixels,
            Target::Normalised,
            Target::NormalisedDifference,
        ] {
            let config = MaskedConfig {
                target,
                ..published.clone()
            };
            let numbers = |t: Result<Tensor>| -> Vec<f32> {
                let flat = t.and_then(|t| t.flatten_all()?.to_vec1());
                flat.expect("numbers")
            };
            let (a, b) = (
                numbers(on_cpu(&tubes, &config)),
                numbers(composed(&tubes, &config)),
            );
            // Values up to 2 by sums of 512 numbers in another order.
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}
