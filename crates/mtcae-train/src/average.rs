//! An exponential moving average of the trained weights, which is then what is
//! validated and kept.

use candle_core::{Tensor, Var};
use mtcae_nn::optim::blend;

use crate::Error;

/// One average for each trained parameter, in their order.
pub struct Average {
    decay: f64,
    tensors: Vec<(String, Tensor)>,
}

impl Average {
    /// Begins at the weights as they are.
    pub fn new(decay: f64, trained: &[(String, Var)]) -> Result<Self, Error> {
        let tensors = copies(trained)?;
        Ok(Self { decay, tensors })
    }

    /// a ← decay · a + (1 − decay) · w.
    pub fn update(&self, trained: &[(String, Var)]) -> Result<(), Error> {
        for ((_, average), (_, var)) in self.tensors.iter().zip(trained) {
            blend(average, var.as_tensor(), self.decay, 1.0 - self.decay)?;
        }
        Ok(())
    }

    /// The averages by the parameters' names.
    pub fn tensors(&self) -> &[(String, Tensor)] {
        &self.tensors
    }

    /// Puts other averages in place of these.
    pub fn restore(
        &mut self,
        mut read: impl FnMut(&str) -> Result<Tensor, Error>,
    ) -> Result<(), Error> {
        for (name, tensor) in &mut self.tensors {
            *tensor = read(name)?;
        }
        Ok(())
    }

    /// Runs `f` with the averages in the weights' place.
    pub fn instead<R>(
        &self,
        trained: &[(String, Var)],
        f: impl FnOnce() -> Result<R, Error>,
    ) -> Result<R, Error> {
        let own = copies(trained)?;
        put(trained, &self.tensors)?;
        let result = f();
        put(trained, &own)?;
        result
    }

    /// Makes the averages the weights.
    pub fn keep(&self, trained: &[(String, Var)]) -> Result<(), Error> {
        put(trained, &self.tensors)
    }
}

/// Copies that later changes of the parameters do not reach.
fn copies(vars: &[(String, Var)]) -> Result<Vec<(String, Tensor)>, Error> {
    vars.iter()
        .map(|(name, var)| Ok((name.clone(), var.as_tensor().copy()?.detach())))
        .collect()
}

fn put(vars: &[(String, Var)], tensors: &[(String, Tensor)]) -> Result<(), Error> {
    for ((_, var), (_, tensor)) in vars.iter().zip(tensors) {
        var.set(tensor)?;
    }
    Ok(())
}
