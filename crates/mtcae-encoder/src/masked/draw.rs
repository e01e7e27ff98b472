//! The first values of a model that is pre-trained from nothing.

use std::collections::BTreeMap;

use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;
use mtcae_nn::candle_core::{DType, Device, Result, Shape, Tensor};
use mtcae_nn::{ParamStore, VarBuilder};

use super::Masked;
use super::config::MaskedConfig;
use crate::error::Error;

/// A model of `config` whose parameters are those of the store; those that it lacks are drawn
/// into it from its seed, as VideoMAE is pre-trained: matrices between ±√(6/(inputs +
/// outputs)) (Glorot and Bengio, 2010), weights and biases of convolutions between
/// ±1/√inputs, as PyTorch leaves them; other biases are 0, and tokens are normal with a
/// deviation of 0.02.
///
/// # Errors
/// When the config cannot be used, or the store holds another shape.
pub fn draw(config: &MaskedConfig, store: &ParamStore, device: &Device) -> Drawn<Masked> {
    let backend = Drawing {
        inner: store.builder(device),
        inits: inits(config)?,
    };
    let vb = VarBuilder::from_backend(Box::new(backend), DType::F32, device.clone());
    Masked::new(config, vb)
}

type Drawn<T> = std::result::Result<T, Error>;

/// How parameters are drawn that are not as they ask for it themselves.
fn inits(config: &MaskedConfig) -> Drawn<BTreeMap<String, Init>> {
    config.validate()?;
    let family = config.encoder.pretrained();
    let convolutions = family.map_or(&[][..], |family| family.convolutions());
    let within = |bound: f64| Init::Uniform {
        lo: -bound,
        up: bound,
    };
    let mut inits = BTreeMap::new();
    let groups = config.groups();
    for parameter in groups.iter().flat_map(|group| &group.parameters) {
        let below = parameter.name.strip_prefix("encoder.");
        let convolution =
            below.is_some_and(|name| convolutions.iter().any(|c| name.starts_with(c)));
        let [outputs, inputs] = parameter.shape[..] else {
            continue;
        };
        if convolution {
            let init = within((1.0 / inputs as f64).sqrt());
            if let Some(module) = parameter.name.strip_suffix("weight") {
                inits.insert(format!("{module}bias"), init);
            }
            inits.insert(parameter.name.clone(), init);
        } else if parameter.decays {
            inits.insert(
                parameter.name.clone(),
                within((6.0 / (inputs + outputs) as f64).sqrt()),
            );
        }
    }
    Ok(inits)
}

/// A store's builder that draws some parameters otherwise than they ask for it.
struct Drawing {
    inner: VarBuilder<'static>,
    inits: BTreeMap<String, Init>,
}

impl SimpleBackend for Drawing {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        _: &Device,
    ) -> Result<Tensor> {
        let init = self.inits.get(name).copied().unwrap_or(init);
        self.inner.get_with_hints_dtype(shape, name, init, dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        self.inner.get_unchecked_dtype(name, dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.inner.contains_tensor(name)
    }
}
