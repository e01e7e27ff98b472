//! What one forward pass carries besides tensors.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::ops::Followed;

/// Gradients of parameters that go past Candle's graph.
pub(crate) type Store = Arc<Mutex<GradStore>>;

/// What running statistics are to follow.
pub(crate) type Apart = Arc<Mutex<Vec<Followed>>>;

/// How blocks take part in the backward.
#[derive(Clone, Default)]
pub(crate) struct Way {
    /// Where the gradients of their parameters go, if not through the graph.
    pub(crate) store: Option<Store>,
    /// Whether they keep their inputs alone and compute the rest again.
    pub(crate) recompute: bool,
}

/// The mode of one forward pass: inference or training, and whether named
/// intermediates are recorded.
#[derive(Default)]
pub struct Pass {
    rng: Option<ChaCha8Rng>,
    trace: Option<Vec<(String, Tensor)>>,
    way: Way,
    apart: Option<Apart>,
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

    /// Whether it trains.
    pub fn is_training(&self) -> bool {
        self.rng.is_some()
    }

    /// Records every named intermediate from here on.
    pub fn traced(mut self) -> Self {
        self.trace = Some(Vec::new());
        self
    }

    /// Keeps of each block its input alone and computes the rest again on the way back
    /// (Chen et al., 2016, arXiv 1604.06174): the memory of one block in place of all,
    /// for a third more work.
    pub fn recomputing(mut self) -> Self {
        self.way.recompute = true;
        self
    }

    /// Hands the gradients of blocks' parameters to the pass and not through Candle's
    /// graph, which fills a tensor with zeros and adds to it for each.
    /// [`Self::into_gradients`] then belongs to every backward.
    pub fn collecting(mut self) -> Self {
        self.way.store = Some(Arc::default());
        self
    }

    /// After a backward: the gradients that a pass that is [`Self::collecting`] has been
    /// given; of any other, none. They add to what the backward gave.
    pub fn into_gradients(self) -> GradStore {
        let store = self.way.store.unwrap_or_default();
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *store)
    }

    /// Leaves running statistics as they are: what they should follow is kept, for
    /// [`Self::take_followed`].
    pub fn apart(mut self) -> Self {
        self.apart = Some(Arc::default());
        self
    }

    /// What running statistics should follow, in the order it was computed in; of a pass that is
    /// not [`Self::apart`], nothing.
    pub fn take_followed(&self) -> Vec<Followed> {
        let Some(apart) = &self.apart else {
            return Vec::new();
        };
        std::mem::take(&mut *apart.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where what running statistics should follow is kept.
    pub(crate) fn kept_apart(&self) -> Option<&Apart> {
        self.apart.as_ref()
    }

    /// How blocks take part in the backward.
    pub(crate) fn way(&self) -> &Way {
        &self.way
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
