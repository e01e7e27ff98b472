//! What one forward pass carries besides tensors.

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The mode of one forward pass: inference or training, and whether named
/// intermediates are recorded.
#[derive(Default)]
pub struct Pass {
    rng: Option<ChaCha8Rng>,
    trace: Option<Vec<(String, Tensor)>>,
}

impl Pass {
    /// Inference: nothing random, nothing recorded.
    pub fn inference() -> Self {
        Self::default()
    }

    /// Training: drop path draws from a generator with this seed. Candle's own
    /// generator cannot be seeded on the CPU.
    pub fn training(seed: u64) -> Self {
        Self {
            rng: Some(ChaCha8Rng::seed_from_u64(seed)),
            trace: None,
        }
    }

    /// Records every named intermediate from here on.
    pub fn traced(mut self) -> Self {
        self.trace = Some(Vec::new());
        self
    }

    /// Whether this pass trains.
    pub fn trains(&self) -> bool {
        self.rng.is_some()
    }

    /// The generator of a training pass.
    pub(crate) fn rng(&mut self) -> Option<&mut ChaCha8Rng> {
        self.rng.as_mut()
    }

    /// Records an intermediate. The name is built only when it is kept.
    pub fn record(&mut self, name: impl FnOnce() -> String, tensor: &Tensor) {
        if let Some(trace) = &mut self.trace {
            trace.push((name(), tensor.clone()));
        }
    }

    /// The recorded intermediates in the order they were computed.
    pub fn into_trace(self) -> Vec<(String, Tensor)> {
        self.trace.unwrap_or_default()
    }
}
