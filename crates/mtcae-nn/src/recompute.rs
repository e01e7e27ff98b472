//! Activation checkpointing (Chen et al., 2016, arXiv 1604.06174): a segment keeps its
//! inputs alone and computes the rest again on the way back.
//!
//! A Candle operation can give gradients to its inputs but not to parameters that its
//! inside refers to. Those go to the store that the [`Pass`] holds, and the trainer
//! takes them from there.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, Var};

use crate::Pass;

/// The gradients of parameters inside of segments.
pub(crate) type Store = Arc<Mutex<GradStore>>;

type Segment = dyn Fn(&Tensor, &Tensor, &mut Pass) -> Result<Tensor> + Send + Sync;

/// The result of `segment` on y and x. Where the pass recomputes and y tracks
/// gradients, no activations are kept.
pub(crate) fn run(
    y: &Tensor,
    x: &Tensor,
    pass: &mut Pass,
    segment: impl Fn(&Tensor, &Tensor, &mut Pass) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let Some(store) = pass.recomputes().filter(|_| y.track_op()) else {
        return segment(y, x, pass);
    };
    let op = Recomputed {
        before: pass.again(),
        out: Mutex::new(Some(segment(&y.detach(), &x.detach(), pass)?.detach())),
        segment: Box::new(segment),
        store,
        x_tracks: x.track_op(),
    };
    y.contiguous()?.apply_op2(&x.contiguous()?, op)
}

struct Recomputed {
    segment: Box<Segment>,
    /// The pass as it was before the segment, so that drop path draws the same.
    before: Pass,
    /// The result, computed before the operation was recorded, until it is.
    out: Mutex<Option<Tensor>>,
    store: Store,
    x_tracks: bool,
}

impl Recomputed {
    fn result(&self) -> Result<Tensor> {
        let result = self
            .out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        result.ok_or_else(|| candle_core::Error::Msg("recomputed: ran twice".to_owned()))
    }
}

impl CustomOp2 for Recomputed {
    fn name(&self) -> &'static str {
        "recomputed"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let out = self.result()?;
        let (storage, layout) = out.storage_and_layout();
        match &*storage {
            candle_core::Storage::Cpu(storage) => {
                let data = crate::ops::slice(self.name(), storage, layout)?.to_vec();
                Ok((CpuStorage::F32(data), out.shape().clone()))
            }
            _ => candle_core::bail!("recomputed: the result is not on the CPU"),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &candle_core::CudaStorage,
        _: &Layout,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        let out = self.result()?.contiguous()?;
        let (storage, layout) = out.storage_and_layout();
        match &*storage {
            candle_core::Storage::Cuda(storage) if layout.start_offset() == 0 => {
                Ok((storage.try_clone(layout)?, out.shape().clone()))
            }
            _ => {
                candle_core::bail!("recomputed: the result is not at the start of the GPU's memory")
            }
        }
    }

    fn bwd(
        &self,
        y: &Tensor,
        x: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let y = Var::from_tensor(&y.detach())?;
        let x = match self.x_tracks {
            true => Var::from_tensor(&x.detach())?.into_inner(),
            false => x.detach(),
        };
        let out = (self.segment)(y.as_tensor(), &x, &mut self.before.again())?;
        // The gradient of this sum by `out` is `grad`.
        let mut grads = (out * grad.detach())?.sum_all()?.backward()?;
        let (dy, dx) = (grads.remove(&y), grads.remove(&x));
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.extend(grads)?;
        Ok((dy, dx))
    }
}
