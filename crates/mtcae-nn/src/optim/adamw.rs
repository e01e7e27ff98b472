//! AdamW, and Adam with the weight decay in the gradient.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var};
use mtcae_kernels::adamw;

use super::parameters::{Parameter, Parameters};
use super::{Gradients, Group, blend};
#[cfg(feature = "cuda")]
use crate::ops::cuda;
use crate::ops::{slice, slice_mut};

/// What AdamW is set to beside its learning rate; PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// β₁: decay of the average of the gradient.
    pub beta1: f64,
    /// β₂: decay of the average of its square.
    pub beta2: f64,
    /// ε: added to the root of the second average.
    pub eps: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
        }
    }
}

/// AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101), as PyTorch computes it.
pub struct AdamW {
    config: AdamWConfig,
    /// Whether the weight decay is a part of the gradient.
    coupled: bool,
    steps: u64,
    parameters: Parameters,
}

impl AdamW {
    /// An optimiser of these parameters, each in the group that `group` says.
    ///
    /// # Errors
    /// When a parameter is not `f32` or a number of a group is not finite.
    pub fn new(
        parameters: &[(String, Var)],
        config: AdamWConfig,
        group: impl Fn(&str, &Var) -> Group,
    ) -> Result<Self> {
        Ok(Self {
            config,
            coupled: false,
            steps: 0,
            parameters: Parameters::new(parameters, 2, group)?,
        })
    }

    /// Adam (Kingma and Ba, 2015, arXiv 1412.6980): the weight decay λ·θ is added to the
    /// gradient, and its averages are of the sum, as in `torch.optim.Adam`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn coupled(
        parameters: &[(String, Var)],
        config: AdamWConfig,
        group: impl Fn(&str, &Var) -> Group,
    ) -> Result<Self> {
        Ok(Self {
            coupled: true,
            ..Self::new(parameters, config, group)?
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
        let pairs = self.parameters.with(gradients)?;
        if !self.coupled {
            let pairs: Vec<_> = pairs.map(|(p, gradient)| (p, gradient.clone())).collect();
            self.steps += 1;
            return self.moved(&pairs, lr, scale);
        }
        let decayed = pairs.map(|(parameter, gradient)| {
            // A gradient may share its storage with another.
            let sum = gradient.copy()?;
            let decay = parameter.group.weight_decay;
            blend(&sum, parameter.var.as_tensor(), scale, decay)?;
            Ok((parameter, sum))
        });
        let pairs = decayed.collect::<Result<Vec<_>>>()?;
        self.steps += 1;
        self.moved(&pairs, lr, 1.0)
    }

    fn moved(&self, pairs: &[(&Parameter, Tensor)], lr: f64, scale: f64) -> Result<()> {
        let AdamWConfig { beta1, beta2, eps } = self.config;
        let moments = adamw::Moments {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            rest1: (1.0 - beta1) as f32,
            rest2: (1.0 - beta2) as f32,
            scale: scale as f32,
        };
        let power = self.steps as f64;
        let (corrected1, corrected2) = (1.0 - beta1.powf(power), 1.0 - beta2.powf(power));
        let rates = |group: &Group| {
            let lr = lr * group.lr_scale;
            let decay = if self.coupled {
                0.0
            } else {
                group.weight_decay
            };
            ((1.0 - lr * decay) as f32, (lr / corrected1) as f32)
        };
        #[cfg(feature = "cuda")]
        if pairs.iter().all(|(p, _)| super::on_gpu(&p.state)) {
            let moved: Vec<_> = pairs
                .iter()
                .map(|(parameter, gradient)| {
                    let (keep, rate) = rates(&parameter.group);
                    cuda::Moved {
                        parameter: parameter.var.as_tensor(),
                        gradient,
                        state: &parameter.state,
                        keep,
                        rate,
                    }
                })
                .collect();
            return cuda::adamw_step(&moved, &moments, corrected2.sqrt() as f32, eps as f32);
        }
        for (parameter, gradient) in pairs {
            let (keep, rate) = rates(&parameter.group);
            let step = adamw::Step {
                keep,
                rate,
                root: corrected2.sqrt() as f32,
                eps: eps as f32,
            };
            parameter
                .state
                .inplace_op2(&gradient.contiguous()?, &UpdateMoments(moments))?;
            parameter
                .var
                .inplace_op2(&parameter.state, &TakeStep(step))?;
        }
        Ok(())
    }

    /// The averages of each parameter by its name: (2, n), m and v.
    pub fn state(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.parameters.state()
    }

    /// Goes on from a state that was saved after `steps` steps.
    ///
    /// # Errors
    /// Names the parameter whose state `load` does not give or gives in another
    /// shape.
    pub fn restore(&mut self, steps: u64, load: impl FnMut(&str) -> Result<Tensor>) -> Result<()> {
        self.parameters.restore(load)?;
        self.steps = steps;
        Ok(())
    }
}

struct UpdateMoments(adamw::Moments);

impl InplaceOp2 for UpdateMoments {
    fn name(&self) -> &'static str {
        "adamw-moments"
    }

    fn cpu_fwd(
        &self,
        state: &mut CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        of_gradient: &Layout,
    ) -> Result<()> {
        let gradient = slice(self.name(), gradient, of_gradient)?;
        let state = slice_mut(self.name(), state, layout)?;
        let (m, v) = state.split_at_mut(gradient.len());
        adamw::moments(&self.0, m, v, gradient);
        Ok(())
    }
}

struct TakeStep(adamw::Step);

impl InplaceOp2 for TakeStep {
    fn name(&self) -> &'static str {
        "adamw-step"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        layout: &Layout,
        state: &CpuStorage,
        of_state: &Layout,
    ) -> Result<()> {
        let parameter = slice_mut(self.name(), parameter, layout)?;
        let (m, v) = slice(self.name(), state, of_state)?.split_at(parameter.len());
        adamw::step(&self.0, parameter, m, v);
        Ok(())
    }
}
