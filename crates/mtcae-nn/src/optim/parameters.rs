//! What every optimiser has of its parameters: their groups and their state.

use candle_core::{DType, Result, Tensor, Var, bail};

use super::{Gradients, Group};

/// One parameter.
pub(super) struct Parameter {
    pub name: String,
    pub var: Var,
    pub group: Group,
    /// (K, n): the K averages that an optimiser keeps of its gradient.
    pub state: Tensor,
}

/// Those that an optimiser moves.
pub(super) struct Parameters(pub Vec<Parameter>);

impl Parameters {
    /// Each in the group that `group` says, with `averages` of its gradient, which are 0.
    pub fn new(
        parameters: &[(String, Var)],
        averages: usize,
        group: impl Fn(&str, &Var) -> Group,
    ) -> Result<Self> {
        let parameters = parameters.iter().map(|(name, var)| {
            let group = group(name, var);
            if !(group.lr_scale.is_finite() && group.weight_decay.is_finite()) {
                bail!("parameter {name}: {group:?} is not finite");
            }
            if var.dtype() != DType::F32 {
                bail!("parameter {name} is {:?}; optimisers take f32", var.dtype());
            }
            let size = (averages, var.elem_count());
            Ok(Parameter {
                name: name.clone(),
                var: var.clone(),
                group,
                state: Tensor::zeros(size, DType::F32, var.device())?,
            })
        });
        Ok(Self(parameters.collect::<Result<_>>()?))
    }

    /// Each with its gradient.
    ///
    /// # Errors
    /// When the gradients are not those of the parameters.
    pub fn with<'a>(
        &'a self,
        gradients: &'a Gradients,
    ) -> Result<impl Iterator<Item = (&'a Parameter, &'a Tensor)>> {
        if gradients.0.len() != self.0.len() {
            let (n, m) = (gradients.0.len(), self.0.len());
            bail!("{n} gradients for {m} parameters");
        }
        for (parameter, (name, gradient)) in self.0.iter().zip(&gradients.0) {
            if parameter.name != *name || gradient.shape() != parameter.var.shape() {
                bail!(
                    "gradient {name} {:?} where that of {} {:?} belongs",
                    gradient.shape(),
                    parameter.name,
                    parameter.var.shape()
                );
            }
        }
        let gradients = gradients.0.iter().map(|(_, gradient)| gradient);
        Ok(self.0.iter().zip(gradients))
    }

    /// The averages of each by its name.
    pub fn state(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|p| (p.name.as_str(), &p.state))
    }

    /// Takes up averages that were saved.
    ///
    /// # Errors
    /// Names the parameter whose state `load` does not give or gives in another shape.
    pub fn restore(&mut self, mut load: impl FnMut(&str) -> Result<Tensor>) -> Result<()> {
        let mut states = Vec::with_capacity(self.0.len());
        for parameter in &self.0 {
            let state = load(&parameter.name)?;
            if state.shape() != parameter.state.shape() {
                bail!(
                    "optimiser state of {} has shape {:?}, not {:?}",
                    parameter.name,
                    state.shape(),
                    parameter.state.shape()
                );
            }
            states.push(state.contiguous()?);
        }
        for (parameter, state) in self.0.iter_mut().zip(states) {
            parameter.state = state;
        }
        Ok(())
    }
}
