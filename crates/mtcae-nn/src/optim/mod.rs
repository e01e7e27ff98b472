//! Optimisers with parameter groups and a state that can be saved: [`AdamW`], which is
//! [`AdamW::coupled`] Adam as well, and [`Sgd`].
//!
//! Candle's own have one weight decay for all parameters, skip those without a
//! gradient in silence, and keep their state to themselves.

mod adamw;
mod parameters;
mod sgd;

pub use adamw::{AdamW, AdamWConfig};
pub use sgd::Sgd;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, Var, bail};
use mtcae_kernels::adamw as kernels;

#[cfg(feature = "cuda")]
use crate::ops::cuda;
use crate::ops::{slice, slice_mut};

/// What holds for one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// The learning rate is multiplied by this.
    pub lr_scale: f64,
    /// λ: weight decay.
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

    /// All of them one after the other (n).
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn flat(&self) -> Result<Tensor> {
        let flat = self.0.iter().map(|(_, gradient)| gradient.flatten_all());
        let flat = flat.collect::<Result<Vec<_>>>()?;
        match &flat[..] {
            [one] => Ok(one.clone()),
            all => Tensor::cat(all, 0),
        }
    }

    /// The gradients of these parameters, which lie one after the other (n).
    ///
    /// # Errors
    /// When they are more or fewer.
    pub fn of_flat(parameters: &[(String, Var)], flat: &Tensor) -> Result<Self> {
        let all: usize = parameters.iter().map(|(_, var)| var.elem_count()).sum();
        if flat.dims() != [all] {
            bail!("{:?} values for {all} of the parameters", flat.dims());
        }
        let mut from = 0;
        let gradients = parameters.iter().map(|(name, var)| {
            let own = flat.narrow(0, from, var.elem_count())?;
            from += var.elem_count();
            Ok((name.clone(), own.reshape(var.shape())?))
        });
        Ok(Self(gradients.collect::<Result<_>>()?))
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
            return Ok(kernels::sum_of_squares(slice("norm", storage, layout)?));
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
        kernels::blend(self.0, self.1, a, x);
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

    /// Adam or SGD, behind what both can do.
    trait Steps {
        fn step(&mut self, gradients: &Gradients) -> Result<()>;
        fn saved(&self) -> Result<(u64, Vec<(String, Tensor)>)>;
        fn restore(&mut self, steps: u64, saved: &[(String, Tensor)]) -> Result<()>;
    }

    macro_rules! steps {
        ($name:ty) => {
            impl Steps for $name {
                fn step(&mut self, gradients: &Gradients) -> Result<()> {
                    <$name>::step(self, gradients, 0.05, 0.5)
                }

                fn saved(&self) -> Result<(u64, Vec<(String, Tensor)>)> {
                    let state = self.state().map(|(n, t)| Ok((n.to_owned(), t.copy()?)));
                    Ok((self.steps(), state.collect::<Result<_>>()?))
                }

                fn restore(&mut self, steps: u64, saved: &[(String, Tensor)]) -> Result<()> {
                    <$name>::restore(self, steps, |name| {
                        match saved.iter().find(|(n, _)| n == name) {
                            Some((_, t)) => t.copy(),
                            None => bail!("no state of {name}"),
                        }
                    })
                }
            }
        };
    }

    steps!(AdamW);
    steps!(Sgd);

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
        type Make = fn(&[(String, Var)], fn(&str, &Var) -> Group) -> Result<Box<dyn Steps>>;
        let makes: [Make; 3] = [
            |p, group| Ok(Box::new(AdamW::new(p, AdamWConfig::default(), group)?)),
            |p, group| Ok(Box::new(AdamW::coupled(p, AdamWConfig::default(), group)?)),
            |p, group| Ok(Box::new(Sgd::new(p, 0.9, group)?)),
        ];
        for make in makes {
            let p = parameters()?;
            let mut first = make(&p, group)?;
            for _ in 0..3 {
                first.step(&gradients(&p)?)?;
            }
            let q: Vec<(String, Var)> = p
                .iter()
                .map(|(n, v)| Ok((n.clone(), Var::from_tensor(&v.as_tensor().copy()?)?)))
                .collect::<Result<_>>()?;
            let mut other = make(&q, group)?;
            let (steps, saved) = first.saved()?;
            other.restore(steps, &saved)?;
            for _ in 0..3 {
                first.step(&gradients(&p)?)?;
                other.step(&gradients(&q)?)?;
            }
            assert_eq!(values(&p)?, values(&q)?);
            let error = other.restore(0, &saved[..1]).expect_err("b has none");
            assert!(error.to_string().contains("no state of b"), "{error}");
        }
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
