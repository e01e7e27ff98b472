//! What one forward pass carries besides tensors.

use std::sync::{Arc, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::recompute::{self, Store};

/// The mode of one forward pass: inference or training, and whether named
/// intermediates are recorded.
#[derive(Default)]
pub struct Pass {
    rng: Option<ChaCha8Rng>,
    trace: Option<Vec<(String, Tensor)>>,
    recompute: Option<Store>,
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
            ..Self::default()
        }
    }

    /// Records every named intermediate from here on.
    pub fn traced(mut self) -> Self {
        self.trace = Some(Vec::new());
        self
    }

    /// Keeps of each block its input alone and computes the rest again on the way
    /// back: the memory of one block in place of all, for a third more work.
    /// [`Self::into_gradients`] then belongs to every backward.
    pub fn recomputing(mut self) -> Self {
        self.recompute = Some(Arc::default());
        self
    }

    /// After a backward: the gradients of the parameters inside of blocks that were
    /// computed again; empty where none were. They add to what the backward gave.
    pub fn into_gradients(self) -> GradStore {
        let store = self.recompute.unwrap_or_default();
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *store)
    }

    /// A block: `segment` of y and x, which is computed again on the way back where
    /// the pass recomputes. What a model's block refers to, `segment` holds itself.
    ///
    /// # Errors
    /// Those of `segment`.
    pub fn block(
        &mut self,
        y: &Tensor,
        x: &Tensor,
        segment: impl Fn(&Tensor, &Tensor, &mut Self) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Result<Tensor> {
        recompute::run(y, x, self, segment)
    }

    /// Where gradients of blocks go, if they are computed again.
    pub(crate) fn recomputes(&self) -> Option<Store> {
        self.recompute.clone()
    }

    /// The same pass from here on, for a block that is computed again.
    pub(crate) fn again(&self) -> Self {
        Self {
            rng: self.rng.clone(),
            ..Self::default()
        }
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
