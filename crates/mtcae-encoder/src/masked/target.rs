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
