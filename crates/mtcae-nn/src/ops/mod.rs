//! The kernels as Candle operations, with a backward but for those that pictures and
//! face detectors need.
//!
//! An operation records a graph only when one of its inputs tracks one, so the
//! same call serves training and inference. What it computes, forward and backward, it
//! asks of a device's kernels (`backend`), which `kernels` finds.
//!
//! On the CPU all operations take `f32`; other types are an error. On a GPU they take
//! `f32`, `bf16` and `f16`; sums and statistics are `f32` throughout, parameters `f32`
//! or of the activations' type.

mod area;
mod attention;
mod backend;
mod block;
mod conv;
mod cpu;
mod cross_entropy;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod gather;
mod gelu;
mod kernels;
mod layer_norm;
mod limit;
mod linear;
mod lstm;
mod operation;
mod pool;
mod post_norm;
mod tubes;
mod volume;
mod window;

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{CpuStorage, Layout, Result};

use crate::{Isa, Unsupported};

pub use area::area_resample;
pub use attention::{cross_attention, self_attention};
pub(crate) use block::{Attention, Branch, Mlp, Projection, block};
pub use conv::conv_prelu;
pub use cross_entropy::{cross_entropy, cross_entropy_sum};
pub use gather::gather_rows;
pub use gelu::gelu;
pub use layer_norm::layer_norm;
pub use limit::limit_gradient;
pub use linear::linear;
pub use lstm::{LstmWeights, lstm};
pub use pool::max_pool;
pub(crate) use post_norm::{NormAfter, attend_norm, feed_norm};
pub use tubes::{tubes, tubes_of_levels};
pub use volume::{After, Followed, Norm, Statistics, conv, pool};
pub use window::{Windowed, window_attention};

/// Whether products on GPUs take along what follows them.
static EPILOGUES: AtomicBool = AtomicBool::new(false);

/// Lets the matrix products on GPUs add biases and residuals themselves, and sum the
/// gradients of biases, by cuBLASLt: fewer passes over memory. Where it has no such
/// product, or rows are no whole numbers of 16 bytes, they stay passes of their own. Off
/// at first; a setting of the whole process, which changes results by a rounding.
pub fn fuse_epilogues(on: bool) {
    EPILOGUES.store(on, Ordering::Relaxed);
}

/// As [`fuse_epilogues`] was told.
#[cfg(feature = "cuda")]
fn fuses_epilogues() -> bool {
    EPILOGUES.load(Ordering::Relaxed)
}

/// The elements of a contiguous operand, for a kernel of the CPU: none is called before
/// it is known that the process may use its instructions.
pub(crate) fn slice<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    Isa::held().map_err(candle_core::Error::wrap)?;
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!(
            "{op}: operand of shape {:?} is not contiguous",
            layout.shape()
        );
    };
    let CpuStorage::F32(data) = storage else {
        use candle_core::backend::BackendStorage;
        let error = Unsupported::OnCpu(storage.dtype().as_str());
        candle_core::bail!("{op}: {error}");
    };
    Ok(&data[start..end])
}

/// The elements of a contiguous operand that is changed in place.
pub(crate) fn slice_mut<'a>(
    op: &str,
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<&'a mut [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!(
            "{op}: operand of shape {:?} is not contiguous",
            layout.shape()
        );
    };
    match storage {
        CpuStorage::F32(data) => Ok(&mut data[start..end]),
        _ => candle_core::bail!("{op}: the CPU kernel takes f32"),
    }
}
