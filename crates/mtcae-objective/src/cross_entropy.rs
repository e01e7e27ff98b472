//! The cross-entropy of the expression.

use mtcae_nn::candle_core::{DType, Tensor};
use mtcae_nn::ops;

use crate::Error;
use crate::masked_mse::widened;

/// The expression of each clip.
#[derive(Clone, Debug)]
pub enum Class {
    /// One class a clip: (B) of `u32`, counted from 0.
    Index(Tensor),
    /// One distribution a clip: (B, C), each row summing to 1. For mixup.
    Soft(Tensor),
}

/// Mean cross-entropy of logits (B, C) with one class or one distribution a
/// clip, as a scalar; PyTorch's `cross_entropy` with `weight` and
/// `label_smoothing`.
///
/// With q the one-hot or given distribution, smoothed to
/// (1 − ε)·q + ε/C, the loss of a clip is −Σ_c w_c · q_c · log p_c. The mean
/// divides by Σ w_y over the clips when classes are given, and by B when
/// distributions are: both are PyTorch's definition. A batch of classes of weight
/// 0 alone gives 0, where PyTorch gives NaN.
///
/// The logarithm is taken as z − max z − log Σ exp(z − max z), which no size of
/// logits overflows. Half precision is computed in `f32`. Distributions are used
/// as they are; that they sum to 1 is the caller's matter.
///
/// # Errors
/// [`Error::Shape`] names the tensor whose shape does not fit, [`Error::Class`]
/// the clip whose class does not exist, [`Error::Config`] says that the class
/// weights are not C.
pub fn cross_entropy(
    logits: &Tensor,
    class: &Class,
    class_weights: Option<&[f64]>,
    label_smoothing: f64,
) -> Result<Tensor, Error> {
    let shape = |what, expected: &[usize], found: &[usize]| Error::Shape {
        what,
        expected: format!("{expected:?}"),
        found: found.to_vec(),
    };
    let &[clips, classes] = logits.dims() else {
        return Err(Error::Shape {
            what: "logits",
            expected: "(B, C)".to_owned(),
            found: logits.dims().to_vec(),
        });
    };
    if clips == 0 || classes == 0 {
        return Err(Error::Empty { what: "logits" });
    }
    let logits = widened(logits)?;
    let (dtype, device) = (logits.dtype(), logits.device());

    let weights = match class_weights {
        Some(w) if w.len() != classes => {
            return Err(Error::Config {
                field: "class_weights",
                reason: format!("{} given for {classes} classes", w.len()),
            });
        }
        Some(w) => Some(Tensor::new(w, device)?.to_dtype(dtype)?.unsqueeze(0)?),
        None => None,
    };
    let (target, by_weight) = match class {
        Class::Index(index) => {
            if index.dims() != [clips] {
                return Err(shape("targets.class", &[clips], index.dims()));
            }
            (one_hot(index, classes)?.to_dtype(dtype)?, true)
        }
        Class::Soft(soft) => {
            if soft.dims() != [clips, classes] {
                return Err(shape("targets.class", &[clips, classes], soft.dims()));
            }
            (soft.detach().to_dtype(dtype)?, false)
        }
    };
    // Each target's share of the denominator: its class's weight, or 1.
    let total = match &weights {
        Some(w) if by_weight => Some(target.broadcast_mul(w)?.sum_all()?),
        _ => None,
    };
    let mut target = target.affine(1.0 - label_smoothing, label_smoothing / classes as f64)?;
    if let Some(w) = &weights {
        target = target.broadcast_mul(w)?;
    }

    let sum = ops::cross_entropy_sum(&logits, &target)?;
    Ok(match total {
        None => (sum / clips as f64)?,
        Some(total) => {
            // 0 · sum / 1 where the total weight is 0.
            let none = total.eq(0f64)?.to_dtype(dtype)?;
            sum.mul(&none.affine(-1.0, 1.0)?)?.div(&(total + none)?)?
        }
    })
}

/// (B) → (B, C) of 0 and 1. Classes are checked here because a comparison would
/// make an all-zero row, and so a loss of 0, of one that does not exist.
fn one_hot(index: &Tensor, classes: usize) -> Result<Tensor, Error> {
    let index = index.detach().to_dtype(DType::U32)?;
    let fault = index
        .to_vec1::<u32>()?
        .into_iter()
        .enumerate()
        .find(|(_, class)| *class as usize >= classes);
    if let Some((index, class)) = fault {
        return Err(Error::Class {
            what: "targets.class",
            index,
            class: class as usize,
            classes,
        });
    }
    let all = Tensor::arange(0u32, classes as u32, index.device())?.unsqueeze(0)?;
    Ok(index.unsqueeze(1)?.broadcast_eq(&all)?)
}

#[cfg(test)]
mod tests {
    use mtcae_nn::candle_core::{Device, Var};
    use mtcae_testing::deviation;

    use super::*;

    /// With targets that are smoothed and weighted, so that they do not sum to 1.
    #[test]
    fn one_pass_and_plain_operations_agree() -> Result<(), Error> {
        let numbers = |seed: u32| -> Vec<f32> {
            let bits = (seed..seed + 35).map(|i| i.wrapping_mul(2_654_435_761) >> 8);
            bits.map(|b| b as f32 / (1 << 23) as f32).collect()
        };
        let target = Tensor::from_vec(numbers(7), (5, 7), &Device::Cpu)?;
        let logits = (Tensor::from_vec(numbers(99), (5, 7), &Device::Cpu)? * 30.0)?;
        let logits = Var::from_tensor(&logits)?;
        let one = ops::cross_entropy(&logits, &target)?.sum_all()?;
        let plain = ops::cross_entropy_sum(&logits, &target)?;
        assert!(deviation(&one, &plain) < 1e-6, "{one}, {plain}");
        let gradient = |of: &Tensor| -> Result<Tensor, Error> {
            Ok(of.backward()?.get(&logits).expect("a gradient").clone())
        };
        assert!(deviation(&gradient(&one)?, &gradient(&plain)?) < 1e-6);
        Ok(())
    }
}
