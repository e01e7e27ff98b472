//! Stochastic gradient descent with momentum.

use candle_core::{Result, Tensor, Var};

use super::parameters::Parameters;
use super::{Gradients, Group, blend};

/// Stochastic gradient descent with momentum, as `torch.optim.SGD` without dampening
/// computes it: b ← μ·b + g + λ·θ; θ ← θ − lr·b.
pub struct Sgd {
    momentum: f64,
    steps: u64,
    parameters: Parameters,
}

impl Sgd {
    /// An optimiser of these parameters, each in the group that `group` says, with a
    /// momentum μ.
    ///
    /// # Errors
    /// When a parameter is not `f32` or a number of a group is not finite.
    pub fn new(
        parameters: &[(String, Var)],
        momentum: f64,
        group: impl Fn(&str, &Var) -> Group,
    ) -> Result<Self> {
        Ok(Self {
            momentum,
            steps: 0,
            parameters: Parameters::new(parameters, 1, group)?,
        })
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Moves every parameter by its gradient times `scale` (1 for none).
    ///
    /// # Errors
    /// When the gradients are not those of the parameters; nothing has moved then.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, scale: f64) -> Result<()> {
        for (parameter, gradient) in self.parameters.with(gradients)? {
            let weights = parameter.var.as_tensor();
            let state = parameter.state.reshape(weights.shape())?;
            blend(&state, gradient, self.momentum, scale)?;
            if parameter.group.weight_decay != 0.0 {
                blend(&state, weights, 1.0, parameter.group.weight_decay)?;
            }
            blend(weights, &state, 1.0, -lr * parameter.group.lr_scale)?;
        }
        self.steps += 1;
        Ok(())
    }

    /// The momentum of each parameter by its name: (1, n).
    pub fn state(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.parameters.state()
    }

    /// Goes on from a state that was saved after `steps` steps.
    ///
    /// # Errors
    /// Names the parameter whose state `load` does not give or gives in another shape.
    pub fn restore(&mut self, steps: u64, load: impl FnMut(&str) -> Result<Tensor>) -> Result<()> {
        self.parameters.restore(load)?;
        self.steps = steps;
        Ok(())
    }
}
