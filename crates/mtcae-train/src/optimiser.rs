//! Which optimiser moves the weights.

use candle_core::{Result, Tensor, Var};
use mtcae_nn::optim::{AdamW, AdamWConfig, Gradients, Group, Sgd};
use serde::{Deserialize, Serialize};

use crate::TrainConfig;

/// How weights are moved by their gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Adam with a weight decay of its own.
    #[default]
    AdamW,
    /// Adam with the weight decay in the gradient.
    Adam,
    /// Stochastic gradient descent with momentum, the weight decay in the gradient.
    Sgd,
}

/// An optimiser of a run.
pub enum Optimiser {
    Adam(AdamW),
    Sgd(Sgd),
}

impl Optimiser {
    /// Of these parameters, as the settings say.
    ///
    /// # Errors
    /// When a parameter is not `f32`.
    pub fn new(
        parameters: &[(String, Var)],
        config: &TrainConfig,
        group: impl Fn(&str, &Var) -> Group,
    ) -> Result<Self> {
        let adam = AdamWConfig {
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
        };
        Ok(match config.optimiser {
            Method::AdamW => Self::Adam(AdamW::new(parameters, adam, group)?),
            Method::Adam => Self::Adam(AdamW::coupled(parameters, adam, group)?),
            Method::Sgd => Self::Sgd(Sgd::new(parameters, config.momentum, group)?),
        })
    }

    /// Moves every parameter by its gradient times `scale`.
    ///
    /// # Errors
    /// When the gradients are not those of the parameters.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, scale: f64) -> Result<()> {
        match self {
            Self::Adam(adam) => adam.step(gradients, lr, scale),
            Self::Sgd(sgd) => sgd.step(gradients, lr, scale),
        }
    }

    /// What it has to be given to go on, by the names under which it is saved.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let folder = self.folder();
        let named = |(name, state): (&str, &Tensor)| (format!("{folder}/{name}"), state.clone());
        match self {
            Self::Adam(adam) => adam.state().map(named).collect(),
            Self::Sgd(sgd) => sgd.state().map(named).collect(),
        }
    }

    /// Goes on from a state that was saved after `steps` steps.
    ///
    /// # Errors
    /// Names the parameter whose state `load` does not give or gives in another shape.
    pub fn restore(&mut self, steps: u64, load: impl Fn(&str) -> Result<Tensor>) -> Result<()> {
        let folder = self.folder();
        let load = |name: &str| load(&format!("{folder}/{name}"));
        match self {
            Self::Adam(adam) => adam.restore(steps, load),
            Self::Sgd(sgd) => sgd.restore(steps, load),
        }
    }

    /// What the names of its state begin with.
    fn folder(&self) -> &'static str {
        match self {
            Self::Adam(_) => "adamw",
            Self::Sgd(_) => "sgd",
        }
    }
}
