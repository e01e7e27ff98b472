//! AdamW with parameter groups and a state that can be saved.
//!
//! Candle's own has one weight decay for all parameters, skips those without a
//! gradient in silence, and keeps its state to itself.

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, Var, bail};
use mtcae_kernels::adamw;

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

/// What holds for one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// The learning rate is multiplied by this.
    pub lr_scale: f64,
    /// λ: decoupled weight decay.
    pub weight_decay: f64,
}

/// The gradients of named parameters, one for each.
#[derive(Clone, Debug)]
pub struct Gradients(Vec<(String, Tensor)>);

impl Gradients {
    /// Takes the gradients of `parameters` out of what `backward` gave.
    ///
    /// # Errors
    /// Names every parameter that has none: such a parameter would silently stay
    /// as it is.
    pub fn take(parameters: &[(String, Var)], store: &mut GradStore) -> Result<Self> {
        let mut missing = Vec::new();
        let mut found = Vec::with_capacity(parameters.len());
        for (name, var) in parameters {
            match store.remove(var) {
                Some(gradient) => found.push((name.clone(), gradient.contiguous()?)),
                None => missing.push(name.as_str()),
            }
        }
        if !missing.is_empty() {
            bail!("no gradient reaches {}", missing.join(", "));
        }
        Ok(Self(found))
    }

    /// Adds gradients of the same parameters, in place.
    ///
    /// # Errors
    /// When they are of other parameters.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        if self.0.len() != other.0.len() {
            bail!(
                "gradients of {} and {} parameters",
                self.0.len(),
                other.0.len()
            );
        }
        for ((name, sum), (other_name, gradient)) in self.0.iter_mut().zip(&other.0) {
            if name != other_name {
                bail!("the gradient of {other_name} where that of {name} belongs");
            }
            // A gradient may share its storage with another: make a new one.
            *sum = (&*sum + gradient)?;
        }
        Ok(())
    }

    /// The Euclidean norm over all of them.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn norm(&self) -> Result<f64> {
        #[cfg(feature = "cuda")]
        if self.0.iter().all(|(_, g)| on_gpu(g)) {
            let tensors: Vec<&Tensor> = self.0.iter().map(|(_, g)| g).collect();
            return Ok(cuda::sums_of_squares(&tensors)?.sqrt());
        }
        let mut sum = 0.0;
        for (_, gradient) in &self.0 {
            sum += sum_of_squares(gradient)?;
        }
        Ok(sum.sqrt())
    }

    /// The gradients by the names of their parameters.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0
            .iter()
            .map(|(name, gradient)| (name.as_str(), gradient))
    }
}

/// Σx² over a tensor, in `f64`.
///
/// # Errors
/// When a tensor operation fails.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    let x = x.contiguous()?;
    #[cfg(feature = "cuda")]
    if on_gpu(&x) {
        return cuda::sums_of_squares(&[&x]);
    }
    if x.device().is_cpu() && x.dtype() == DType::F32 {
        let (storage, layout) = x.storage_and_layout();
        if let candle_core::Storage::Cpu(storage) = &*storage {
            return Ok(adamw::sum_of_squares(slice("norm", storage, layout)?));
        }
    }
    Ok(f64::from(
        x.sqr()?
            .sum_all()?
            .to_dtype(DType::F32)?
            .to_scalar::<f32>()?,
    ))
}

/// a ← keep·a + add·x, in place: what a moving average of the weights needs.
///
/// # Errors
/// When the tensors differ in size or are not contiguous `f32`.
pub fn blend(a: &Tensor, x: &Tensor, keep: f64, add: f64) -> Result<()> {
    #[cfg(feature = "cuda")]
    if on_gpu(a) {
        return cuda::blend(a, &x.contiguous()?, keep as f32, add as f32);
    }
    a.inplace_op2(&x.contiguous()?, &Blend(keep as f32, add as f32))
}

/// Whether a tensor is `f32` on a GPU, where one launch serves all parameters.
#[cfg(feature = "cuda")]
fn on_gpu(x: &Tensor) -> bool {
    x.device().is_cuda() && x.dtype() == DType::F32
}

/// AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101), as PyTorch computes it.
pub struct AdamW {
    config: AdamWConfig,
    steps: u64,
    parameters: Vec<Parameter>,
}

struct Parameter {
    name: String,
    var: Var,
    group: Group,
    /// (2, n): m and v.
    state: Tensor,
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
        let parameters = parameters
            .iter()
            .map(|(name, var)| {
                let group = group(name, var);
                if !(group.lr_scale.is_finite() && group.weight_decay.is_finite()) {
                    bail!("parameter {name}: {group:?} is not finite");
                }
                if var.dtype() != DType::F32 {
                    bail!("parameter {name} is {:?}; AdamW takes f32", var.dtype());
                }
                Ok(Parameter {
                    name: name.clone(),
                    var: var.clone(),
                    group,
                    state: Tensor::zeros((2, var.elem_count()), DType::F32, var.device())?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            config,
            steps: 0,
            parameters,
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
        if gradients.0.len() != self.parameters.len() {
            let (n, m) = (gradients.0.len(), self.parameters.len());
            bail!("{n} gradients for {m} parameters");
        }
        for (parameter, (name, gradient)) in self.parameters.iter().zip(&gradients.0) {
            if parameter.name != *name || gradient.shape() != parameter.var.shape() {
                bail!(
                    "gradient {name} {:?} where that of {} {:?} belongs",
                    gradient.shape(),
                    parameter.name,
                    parameter.var.shape()
                );
            }
        }
        self.steps += 1;
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
        #[cfg(feature = "cuda")]
        if self.parameters.iter().all(|p| on_gpu(&p.state)) {
            let moved: Vec<_> = self
                .parameters
                .iter()
                .zip(&gradients.0)
                .map(|(parameter, (_, gradient))| {
                    let lr = lr * parameter.group.lr_scale;
                    cuda::Moved {
                        parameter: parameter.var.as_tensor(),
                        gradient,
                        state: &parameter.state,
                        keep: (1.0 - lr * parameter.group.weight_decay) as f32,
                        rate: (lr / corrected1) as f32,
                    }
                })
                .collect();
            return cuda::adamw_step(&moved, &moments, corrected2.sqrt() as f32, eps as f32);
        }
        for (parameter, (_, gradient)) in self.parameters.iter().zip(&gradients.0) {
            let lr = lr * parameter.group.lr_scale;
            let step = adamw::Step {
                keep: (1.0 - lr * parameter.group.weight_decay) as f32,
                rate: (lr / corrected1) as f32,
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
        self.parameters.iter().map(|p| (p.name.as_str(), &p.state))
    }

    /// Goes on from a state that was saved after `steps` steps.
    ///
    /// # Errors
    /// Names the parameter whose state `load` does not give or gives in another
    /// shape.
    pub fn restore(
        &mut self,
        steps: u64,
        mut load: impl FnMut(&str) -> Result<Tensor>,
    ) -> Result<()> {
        let mut states = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
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
        for (parameter, state) in self.parameters.iter_mut().zip(states) {
            parameter.state = state;
        }
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

struct Blend(f32, f32);

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "blend"
    }

    fn cpu_fwd(&self, a: &mut CpuStorage, la: &Layout, x: &CpuStorage, lx: &Layout) -> Result<()> {
        let x = slice(self.name(), x, lx)?;
        let a = slice_mut(self.name(), a, la)?;
        if a.len() != x.len() {
            bail!("blend: {} elements and {}", a.len(), x.len());
        }
        adamw::blend(self.0, self.1, a, x);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn parameters() -> Result<Vec<(String, Var)>> {
        let var = |values: &[f32]| Var::from_tensor(&Tensor::new(values, &Device::Cpu)?);
        Ok(vec![
            ("a".to_owned(), var(&[1.0, -2.0])?),
            ("b".to_owned(), var(&[0.5])?),
        ])
    }

    fn gradients(parameters: &[(String, Var)]) -> Result<Gradients> {
        let loss = (parameters[0].1.sqr()?.sum_all()? + parameters[1].1.sqr()?.sum_all()?)?;
        Gradients::take(parameters, &mut loss.backward()?)
    }

    fn values(parameters: &[(String, Var)]) -> Result<Vec<f32>> {
        let all: Vec<Tensor> = parameters
            .iter()
            .map(|(_, v)| v.as_tensor().clone())
            .collect();
        Tensor::cat(&all, 0)?.to_vec1()
    }

    #[test]
    fn the_first_step_has_the_size_of_the_learning_rate() -> Result<()> {
        let p = parameters()?;
        let mut adam = AdamW::new(&p, AdamWConfig::default(), |name, _| Group {
            lr_scale: if name == "b" { 0.5 } else { 1.0 },
            weight_decay: if name == "b" { 0.1 } else { 0.0 },
        })?;
        adam.step(&gradients(&p)?, 0.1, 1.0)?;
        let want = [0.9, -1.9, 0.5 * (1.0 - 0.05 * 0.1) - 0.05];
        for (got, want) in values(&p)?.iter().zip(want) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
        Ok(())
    }

    #[test]
    fn a_restored_optimiser_goes_on_to_the_bit() -> Result<()> {
        let group = |_: &str, _: &Var| Group {
            lr_scale: 1.0,
            weight_decay: 0.01,
        };
        let p = parameters()?;
        let mut adam = AdamW::new(&p, AdamWConfig::default(), group)?;
        for _ in 0..3 {
            adam.step(&gradients(&p)?, 0.05, 0.5)?;
        }
        let q: Vec<(String, Var)> = p
            .iter()
            .map(|(n, v)| Ok((n.clone(), Var::from_tensor(&v.as_tensor().copy()?)?)))
            .collect::<Result<_>>()?;
        let mut other = AdamW::new(&q, AdamWConfig::default(), group)?;
        let saved: Vec<(String, Tensor)> = adam
            .state()
            .map(|(n, t)| Ok((n.to_owned(), t.copy()?)))
            .collect::<Result<_>>()?;
        other.restore(adam.steps(), |name| {
            match saved.iter().find(|(n, _)| n == name) {
                Some((_, t)) => t.copy(),
                None => bail!("no state of {name}"),
            }
        })?;
        for _ in 0..3 {
            adam.step(&gradients(&p)?, 0.05, 0.5)?;
            other.step(&gradients(&q)?, 0.05, 0.5)?;
        }
        assert_eq!(values(&p)?, values(&q)?);
        Ok(())
    }

    #[test]
    fn a_parameter_that_no_gradient_reaches_is_named() -> Result<()> {
        let p = parameters()?;
        let loss = p[0].1.sqr()?.sum_all()?;
        let error = Gradients::take(&p, &mut loss.backward()?).expect_err("b has none");
        assert!(error.to_string().contains("reaches b"), "{error}");
        Ok(())
    }

    #[test]
    fn gradients_add_up_and_have_a_norm() -> Result<()> {
        let p = parameters()?;
        let mut g = gradients(&p)?;
        g.add(&gradients(&p)?)?;
        // Gradients 2x, twice: 4·(1, −2, 0.5).
        assert!((g.norm()? - 4.0 * (1.0f64 + 4.0 + 0.25).sqrt()).abs() < 1e-6);
        Ok(())
    }
}
