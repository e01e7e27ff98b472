//! What the tests of this workspace share. Never a normal dependency.
//!
//! Everything here fails by panicking with a message, as test code should.

#![allow(clippy::unwrap_used)]

mod face_model;

pub use face_model::write_face_model;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};

/// The folder `fixtures/` of the workspace.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Reference tensors written by a script in `fixtures/`, all as `f32`.
pub struct Fixture {
    name: String,
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
}

impl Fixture {
    /// Reads `fixtures/{name}`.
    pub fn load(name: &str) -> Self {
        Self::open(&fixtures().join(name))
    }

    /// Reads a file of reference tensors from anywhere.
    pub fn open(path: &Path) -> Self {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .unwrap_or_else(|e| panic!("{name}: {e}"))
            .into_iter()
            .map(|(name, tensor)| (name, tensor.to_dtype(DType::F32).unwrap()))
            .collect();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header
            .metadata()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        Self {
            name,
            tensors,
            metadata,
        }
    }

    /// One tensor.
    pub fn get(&self, name: &str) -> &Tensor {
        let all = || self.tensors.keys().cloned().collect::<Vec<_>>().join(", ");
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("{}: no tensor {name} among {}", self.name, all()))
    }

    /// All tensors whose names start with `prefix`, without it.
    pub fn below(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        self.tensors
            .iter()
            .filter_map(|(name, tensor)| {
                Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
            })
            .collect()
    }

    /// A text of the file's metadata.
    pub fn text(&self, key: &str) -> &str {
        self.metadata
            .get(key)
            .unwrap_or_else(|| panic!("{}: no metadata {key}", self.name))
    }

    /// The metadata `config` as JSON.
    pub fn config(&self) -> serde_json::Value {
        serde_json::from_str(self.text("config"))
            .unwrap_or_else(|e| panic!("{}: config: {e}", self.name))
    }
}

/// The devices that tests run on: the CPU and, where MTCAE_TEST_DEVICE says `cuda:N` and
/// the build has CUDA, that GPU.
pub fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    if let Ok(name) = std::env::var("MTCAE_TEST_DEVICE") {
        let ordinal = name
            .strip_prefix("cuda:")
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("MTCAE_TEST_DEVICE={name:?} is not a cuda:N"));
        // One stream, whichever thread a test computes on; `mtcae_nn::device::open` says why.
        devices
            .push(Device::new_cuda_with_stream(ordinal).unwrap_or_else(|e| panic!("{name}: {e}")));
    }
    devices
}

/// max|Δ| / max|reference|: the measure of every parity test. Infinite when the
/// shapes differ or a value is not a number.
pub fn deviation(got: &Tensor, reference: &Tensor) -> f64 {
    if got.dims() != reference.dims() {
        return f64::INFINITY;
    }
    let flat = |t: &Tensor| {
        t.flatten_all()
            .unwrap()
            .to_dtype(DType::F64)
            .unwrap()
            .to_vec1::<f64>()
            .unwrap()
    };
    let (got, reference) = (flat(got), flat(reference));
    let scale = reference
        .iter()
        .fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    got.iter().zip(&reference).fold(0.0, |worst: f64, (g, r)| {
        let error = (g - r).abs() / scale;
        if error.is_nan() {
            f64::INFINITY
        } else {
            worst.max(error)
        }
    })
}

/// Asserts [`deviation`] ≤ `tolerance`.
pub fn assert_close(name: &str, got: &Tensor, reference: &Tensor, tolerance: f64) {
    let error = deviation(got, reference);
    assert!(
        error <= tolerance,
        "{name}: max|Δ|/max|ref| = {error:e} > {tolerance:e} (shapes {:?}, {:?})",
        got.dims(),
        reference.dims()
    );
}

/// Asserts `|got − want| ≤ atol + rtol·|want|` element by element, the formula of
/// `torch.allclose`.
pub fn assert_allclose(name: &str, got: &[f64], want: &[f64], rtol: f64, atol: f64) {
    assert_eq!(got.len(), want.len(), "{name}: lengths");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(
            (g - w).abs() <= atol + rtol * w.abs(),
            "{name}[{i}]: {g} is not close to {w}"
        );
    }
}

/// The named parameters whose gradient is missing or zero throughout.
pub fn without_gradient(params: &[(String, Var)], grads: &GradStore) -> Vec<String> {
    params
        .iter()
        .filter(|(_, var)| {
            let largest = grads.get(var).map(|g| {
                let flat = g.abs().unwrap().flatten_all().unwrap();
                flat.max(0)
                    .unwrap()
                    .to_dtype(DType::F32)
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap()
            });
            // A NaN is no gradient either.
            !largest.is_some_and(|g| g > 0.0)
        })
        .map(|(name, _)| name.clone())
        .collect()
}
