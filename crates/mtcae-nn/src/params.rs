//! Trainable parameters, drawn from a seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::weights::through;

/// Named trainable parameters in the order of their names.
///
/// A model built on [`ParamStore::builder`] draws each new parameter from a
/// generator of its own, seeded by the store's seed and the parameter's name: the
/// values do not depend on the order in which a model asks for them, nor on what
/// else it holds. `Init::Randn` is truncated at two standard deviations.
#[derive(Clone)]
pub struct ParamStore {
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
    seed: u64,
}

impl ParamStore {
    /// An empty store.
    pub fn new(seed: u64) -> Self {
        Self {
            vars: Arc::default(),
            seed,
        }
    }

    /// A builder that creates the parameters a model asks for, as `f32`.
    pub fn builder(&self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device.clone())
    }

    /// As [`Self::builder`], but the parameters that `frozen` names are handed out
    /// without a gradient: no graph is kept for what they alone compute. They stay
    /// in the store, and [`Self::set`] reaches them.
    pub fn builder_with_frozen(
        &self,
        device: &Device,
        frozen: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> VarBuilder<'static> {
        through(&self.builder(device), move |name, tensor| {
            match frozen(name) {
                true => tensor.detach(),
                false => tensor,
            }
        })
    }

    /// All parameters, sorted by name.
    pub fn vars(&self) -> Vec<(String, Var)> {
        self.lock()
            .iter()
            .map(|(name, var)| (name.clone(), var.clone()))
            .collect()
    }

    /// Makes `tensor` the value of parameter `name`, which models built before
    /// see as well. A name that is new becomes a new parameter.
    ///
    /// # Errors
    /// When the parameter exists with another shape.
    pub fn set(&self, name: &str, tensor: &Tensor) -> Result<()> {
        match self.lock().get(name) {
            Some(var) if var.shape() == tensor.shape() => return var.set(tensor),
            Some(var) => {
                candle_core::bail!(
                    "parameter {name} has shape {:?}, not {:?}",
                    var.shape(),
                    tensor.shape()
                )
            }
            None => {}
        }
        let var = Var::from_tensor(tensor)?;
        self.lock().insert(name.to_owned(), var);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Var>> {
        // A panic elsewhere leaves the map whole: inserts are its only change.
        self.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, shape: &Shape, name: &str, init: Init, device: &Device) -> Result<Tensor> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(fnv1a(name));
        let n = shape.elem_count();
        let values: Vec<f32> = match init {
            Init::Const(value) => vec![value as f32; n],
            Init::Randn { mean, stdev } => (0..n)
                .map(|_| (mean + stdev * truncated_normal(&mut rng)) as f32)
                .collect(),
            Init::Uniform { lo, up } => (0..n).map(|_| rng.random_range(lo..up) as f32).collect(),
            Init::Kaiming { .. } => {
                candle_core::bail!("parameter {name}: Kaiming initialisation is not seeded here")
            }
        };
        Tensor::from_vec(values, shape, device)
    }
}

impl SimpleBackend for ParamStore {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if let Some(var) = self.lock().get(name) {
            if var.shape() != &shape {
                candle_core::bail!(
                    "parameter {name} has shape {:?}, the model wants {shape:?}",
                    var.shape()
                );
            }
            return Ok(var.as_tensor().clone());
        }
        let var = Var::from_tensor(&self.draw(&shape, name, init, device)?.to_dtype(dtype)?)?;
        let tensor = var.as_tensor().clone();
        self.lock().insert(name.to_owned(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        match self.lock().get(name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => candle_core::bail!("there is no parameter {name}"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }
}

/// A standard normal number within ±2 (Box–Muller with rejection).
fn truncated_normal(rng: &mut ChaCha8Rng) -> f64 {
    loop {
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        let x = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        if x.abs() <= 2.0 {
            return x;
        }
    }
}

/// FNV-1a: a hash that never changes between versions or machines.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(store: &ParamStore, name: &str) -> Vec<f32> {
        let init = Init::Randn {
            mean: 0.0,
            stdev: 0.02,
        };
        let vb = store.builder(&Device::Cpu);
        vb.get_with_hints(20_000, name, init)
            .and_then(|t| t.to_vec1())
            .expect("drawn")
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let (first, second) = (ParamStore::new(1), ParamStore::new(1));
        let a = draw(&first, "a");
        let b = draw(&first, "b");
        assert_eq!(draw(&second, "b"), b);
        assert_eq!(draw(&second, "a"), a);
        assert_ne!(a, b);
        assert_ne!(draw(&ParamStore::new(2), "a"), a);
    }

    #[test]
    fn normals_are_truncated_at_two_deviations() {
        let x = draw(&ParamStore::new(3), "w");
        assert!(x.iter().all(|v| v.abs() <= 0.04));
        let variance = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / x.len() as f64;
        // The deviation of a normal truncated at ±2 is 0.8796 of the original's.
        assert!(
            (variance.sqrt() / 0.02 - 0.8796).abs() < 0.02,
            "{}",
            variance.sqrt()
        );
    }

    #[test]
    fn frozen_parameters_have_no_gradient_but_can_be_set() -> Result<()> {
        let store = ParamStore::new(5);
        let vb = store.builder_with_frozen(&Device::Cpu, |name| name == "still");
        let (still, free) = (vb.get(2, "still")?, vb.get(2, "free")?);
        store.set("still", &Tensor::new(&[3f32, 4.], &Device::Cpu)?)?;
        assert_eq!(still.to_vec1::<f32>()?, [3., 4.]);
        let gradients = (&still * &free)?.sum_all()?.backward()?;
        let vars = store.vars();
        assert!(
            gradients
                .get(&vars[0].1)
                .is_some_and(|_| vars[0].0 == "free")
        );
        assert!(gradients.get(&vars[1].1).is_none());
        Ok(())
    }

    #[test]
    fn set_reaches_models_built_before_and_checks_the_shape() -> Result<()> {
        let store = ParamStore::new(4);
        let seen = store.builder(&Device::Cpu).get(3, "x")?;
        store.set("x", &Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
        assert_eq!(seen.to_vec1::<f32>()?, [1., 2., 3.]);
        let error = store
            .set("x", &Tensor::zeros(2, DType::F32, &Device::Cpu)?)
            .expect_err("wrong shape");
        assert!(error.to_string().contains("parameter x"));
        Ok(())
    }
}
