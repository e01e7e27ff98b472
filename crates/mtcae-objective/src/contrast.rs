//! What MTFormer asks of the features of its tasks (Xu et al., ECCV 2022, section 3.4): of one
//! clip they are alike, of two clips they are not.

use mtcae_nn::candle_core::{D, Module, Tensor};
use mtcae_nn::{Linear, VarBuilder, linear, ops};

use crate::masked_mse::widened;
use crate::{Class, Error, cross_entropy};

/// What likenesses are divided by.
const TEMPERATURE: f64 = 0.07;

/// A mapping for each task, which nothing but this loss uses: mean over the tokens, a layer, a
/// ReLU, a layer, length 1.
#[derive(Clone, Debug)]
pub struct Contrast {
    mappings: Vec<[Linear; 2]>,
}

impl Contrast {
    /// Channels that features are mapped to where it was published.
    pub const WIDTH: usize = 128;

    /// Of tasks whose features are `width` wide, mapped to `mapped` channels:
    /// `TASK.0.{weight,bias}` (mapped, width) and `TASK.2.{weight,bias}` (mapped, mapped) below
    /// `vb`.
    ///
    /// # Errors
    /// Names the tensor at fault; [`Error::Config`] where there are fewer than two tasks.
    pub fn new(
        width: usize,
        mapped: usize,
        tasks: &[&str],
        vb: &VarBuilder<'_>,
    ) -> Result<Self, Error> {
        if tasks.len() < 2 {
            return Err(Error::Config {
                field: "contrastive",
                reason: "compares tasks with each other, and the model has but one".to_owned(),
            });
        }
        let mapping = |task: &&str| -> Result<_, Error> {
            let vb = vb.pp(task);
            Ok([
                linear(width, mapped, vb.pp("0"))?,
                linear(mapped, mapped, vb.pp("2"))?,
            ])
        };
        let mappings = tasks.iter().map(mapping).collect::<Result<_, _>>()?;
        Ok(Self { mappings })
    }

    /// The mean over all pairs of tasks (i, j), i ≠ j, and all clips of
    /// −log(exp(zᵢ·zⱼ / τ) / Σₖ exp(zᵢ·zₖⱼ / τ)), where k goes over the clips of the batch, of
    /// features (B, N, width) of each task. One clip alone gives 0.
    ///
    /// MTFormer draws its other clips from a memory of the whole training set, which a run
    /// that is accumulated, dealt to processes or resumed would have to keep alike: here they
    /// are those of the batch.
    ///
    /// # Errors
    /// Names what does not fit the tasks.
    pub fn forward(&self, features: &[Tensor]) -> Result<Tensor, Error> {
        if features.len() != self.mappings.len() {
            return Err(Error::Shape {
                what: "features",
                expected: format!("[{}], one for each task", self.mappings.len()),
                found: vec![features.len()],
            });
        }
        let mapped = self.mappings.iter().zip(features);
        let z: Vec<Tensor> = mapped.map(|(m, f)| map(m, f)).collect::<Result<_, _>>()?;
        let own = Tensor::arange(0, z[0].dim(0)? as u32, z[0].device())?;
        let own = Class::Index(own);
        let mut parts = Vec::with_capacity(z.len() * (z.len() - 1));
        for (i, a) in z.iter().enumerate() {
            for (j, b) in z.iter().enumerate() {
                if i != j {
                    let likeness = (ops::linear(a, b, None)? / TEMPERATURE)?;
                    parts.push(cross_entropy(&likeness, &own, None, 0.0)?);
                }
            }
        }
        Ok(Tensor::stack(&parts, 0)?.mean(0)?)
    }
}

/// (B, N, width) → (B, mapped), each of length 1.
fn map([first, second]: &[Linear; 2], features: &Tensor) -> Result<Tensor, Error> {
    let rows = widened(features)?.mean(1)?;
    let z = second.forward(&first.forward(&rows)?.relu()?)?;
    // As torch.nn.functional.normalize, but that a row of zeros has a slope.
    let length = (z.sqr()?.sum_keepdim(D::Minus1)? + 1e-24)?.sqrt()?;
    Ok(z.broadcast_div(&length)?)
}
