//! Building a model from all tensors of a source, or from none.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use super::{Error, Faults, Source};

/// Builds a model from all tensors of a source.
///
/// `build` asks its builder for every tensor of the model, and may fail with whatever
/// error [`Error`] can become. All faults are gathered before any is reported.
///
/// # Errors
/// [`Error::Tensors`] with every missing, unexpected and wrongly shaped tensor;
/// otherwise what the source or `build` report.
pub fn load_strict<M, E: From<Error>>(
    source: &dyn Source,
    device: &Device,
    build: impl FnOnce(VarBuilder<'_>) -> Result<M, E>,
) -> Result<M, E> {
    load_strict_as(source, device, DType::F32, build)
}

/// As [`load_strict`], with the tensors rounded to a type; those of norms stay `f32`.
///
/// # Errors
/// As [`load_strict`].
pub fn load_strict_as<M, E: From<Error>>(
    source: &dyn Source,
    device: &Device,
    dtype: DType,
    build: impl FnOnce(VarBuilder<'_>) -> Result<M, E>,
) -> Result<M, E> {
    let state = Arc::new(Mutex::new(State::default()));
    let backend = Strict {
        source,
        state: state.clone(),
    };
    let model = build(VarBuilder::from_backend(
        Box::new(backend),
        dtype,
        device.clone(),
    ));
    let mut state = std::mem::take(&mut *state.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(error) = state.failed.take() {
        return Err(error.into());
    }
    let mut faults = state.faults;
    // A model that failed half way has not asked for the rest.
    if model.is_ok() {
        faults.unexpected = source
            .names()
            .into_iter()
            .filter(|n| !state.asked.contains(n))
            .collect();
    }
    if !faults.is_empty() {
        faults.origin = source.origin();
        return Err(Error::from(faults).into());
    }
    model
}

#[derive(Default)]
struct State {
    asked: BTreeSet<String>,
    faults: Faults,
    failed: Option<Error>,
}

/// Serves a model under construction, noting what is at fault and putting zeros
/// in its place, so that the construction goes on and finds the other faults.
struct Strict<'a> {
    source: &'a dyn Source,
    state: Arc<Mutex<State>>,
}

impl SimpleBackend for Strict<'_> {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> CandleResult<Tensor> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.insert(name.to_owned());
        match self.source.shape(name) {
            Some(found) if found == shape.dims() => match self.source.load(name, device) {
                Ok(tensor) => return tensor.to_dtype(dtype),
                Err(error) => {
                    let message = error.to_string();
                    state.failed = Some(error);
                    return Err(candle_core::Error::Msg(message));
                }
            },
            Some(found) => {
                let fault = (name.to_owned(), shape.dims().to_vec(), found);
                state.faults.misshapen.push(fault);
            }
            None => state.faults.missing.push(name.to_owned()),
        }
        placeholder(shape, dtype, device)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        let shape = self.source.shape(name).unwrap_or_default();
        self.get(Shape::from(shape), name, Init::Const(0.0), dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.source.shape(name).is_some()
    }
}

/// Zeros of any shape in the memory of one.
fn placeholder(shape: Shape, dtype: DType, device: &Device) -> CandleResult<Tensor> {
    Tensor::zeros(1, dtype, device)?.broadcast_as(shape)
}

/// Compares the names and shapes of a source with those that a model asks for, before
/// anything is read or packed.
///
/// # Errors
/// [`Error::Tensors`] with every missing, unexpected and wrongly shaped tensor.
pub fn compare(
    source: &dyn Source,
    wanted: impl IntoIterator<Item = (String, Vec<usize>)>,
) -> Result<(), Error> {
    let mut faults = Faults::default();
    let mut asked = BTreeSet::new();
    for (name, want) in wanted {
        match source.shape(&name) {
            Some(found) if found == want => {}
            Some(found) => faults.misshapen.push((name.clone(), want, found)),
            None => faults.missing.push(name.clone()),
        }
        asked.insert(name);
    }
    let names = source.names().into_iter();
    faults.unexpected = names.filter(|n| !asked.contains(n)).collect();
    if faults.is_empty() {
        return Ok(());
    }
    faults.origin = source.origin();
    Err(faults.into())
}

/// Names and shapes of the tensors that a model asks for, in the order in which it does.
/// They take no memory: the model is built on zeros and dropped.
///
/// # Errors
/// What `build` reports.
pub fn asked_for<M, E>(
    build: impl FnOnce(VarBuilder<'_>) -> Result<M, E>,
) -> Result<Vec<(String, Vec<usize>)>, E> {
    let zeros = VarBuilder::from_backend(Box::new(Placeholders), DType::F32, Device::Cpu);
    let (builder, record) = recorded(&zeros);
    build(builder)?;
    let tensors = record.take().into_iter();
    Ok(tensors.map(|(n, t)| (n, t.dims().to_vec())).collect())
}

struct Placeholders;

impl SimpleBackend for Placeholders {
    fn get(
        &self,
        shape: Shape,
        _: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> CandleResult<Tensor> {
        placeholder(shape, dtype, device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> CandleResult<Tensor> {
        candle_core::bail!("the shape of {name} is not known")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// What a model under construction has asked for.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Vec<(String, Tensor)>>>);

impl Record {
    /// The tensors by their names below the recorded builder, in the order in which they
    /// were asked for. They share their memory with the model's.
    pub fn take(&self) -> Vec<(String, Tensor)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A builder that hands on what `vb` gives, and the record of it.
pub fn recorded<'a>(vb: &VarBuilder<'a>) -> (VarBuilder<'a>, Record) {
    let record = Record::default();
    let kept = record.clone();
    let builder = through(vb, move |name, tensor| {
        let mut kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push((name.to_owned(), tensor.clone()));
        tensor
    });
    (builder, record)
}

/// A builder that gives what `each` makes of the tensors of `vb`, by their names.
pub(crate) fn through<'a>(
    vb: &VarBuilder<'a>,
    each: impl Fn(&str, Tensor) -> Tensor + Send + Sync + 'a,
) -> VarBuilder<'a> {
    let inner = vb.clone();
    let backend = Box::new(Through { inner, each });
    VarBuilder::from_backend(backend, vb.dtype(), vb.device().clone())
}

struct Through<'a, F> {
    inner: VarBuilder<'a>,
    each: F,
}

impl<F: Fn(&str, Tensor) -> Tensor + Send + Sync> SimpleBackend for Through<'_, F> {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        _: &Device,
    ) -> CandleResult<Tensor> {
        let tensor = self.inner.get_with_hints_dtype(shape, name, init, dtype)?;
        Ok((self.each)(name, tensor))
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> CandleResult<Tensor> {
        let tensor = self.inner.get_unchecked_dtype(name, dtype)?;
        Ok((self.each)(name, tensor))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.inner.contains_tensor(name)
    }
}
