//! Cross-entropy with its softmax in one pass, on a GPU and on the CPU.

use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Tensor};
use mtcae_kernels::cross_entropy;

#[cfg(feature = "cuda")]
use super::cuda;
use super::slice;

/// −Σ_c q_c·log softmax(z)_c of each clip: logits z (B, C) and targets q (B, C) of
/// `f32`, which need not sum to 1 → (B) of `f32`. No gradient passes to the targets.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (clips, classes) = logits.dims2()?;
    if targets.dims() != [clips, classes] || clips * classes == 0 {
        candle_core::bail!(
            "cross_entropy: logits {:?} and targets {:?}",
            logits.dims(),
            targets.dims()
        );
    }
    logits
        .contiguous()?
        .apply_op2(&targets.contiguous()?, CrossEntropy)
}

/// The sum over the clips of −Σ_c q_c·log softmax(z)_c: [`cross_entropy()`] of `f32` on a
/// GPU, where it saves launches, and plain operations of any type elsewhere.
pub fn cross_entropy_sum(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    match logits.device().is_cuda() && logits.dtype() == DType::F32 {
        true => cross_entropy(logits, targets)?.sum_all(),
        false => plain(logits, targets),
    }
}

fn plain(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    // The maximum only shifts: log-softmax does not depend on it, so that no
    // gradient passes through it.
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    shifted
        .broadcast_sub(&log_sum)?
        .mul(targets)?
        .sum_all()?
        .neg()
}

struct CrossEntropy;

impl CustomOp2 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        of_logits: &Layout,
        targets: &CpuStorage,
        of_targets: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (clips, classes) = of_logits.shape().dims2()?;
        let logits = slice(self.name(), logits, of_logits)?;
        let targets = slice(self.name(), targets, of_targets)?;
        let mut losses = vec![0.0; clips];
        cross_entropy::forward(logits, targets, classes, &mut losses);
        Ok((CpuStorage::F32(losses), Shape::from(clips)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        logits: &candle_core::CudaStorage,
        of_logits: &Layout,
        targets: &candle_core::CudaStorage,
        of_targets: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        cuda::cross_entropy_forward(logits, of_logits, targets, of_targets)
    }

    fn bwd(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        #[cfg(feature = "cuda")]
        if logits.device().is_cuda() {
            return Ok((
                Some(cuda::cross_entropy_backward(logits, targets, &grad)?),
                None,
            ));
        }
        let (z, q, g) = (
            logits.flatten_all()?.to_vec1()?,
            targets.flatten_all()?.to_vec1()?,
            grad.to_vec1()?,
        );
        let mut dz = vec![0.0; z.len()];
        cross_entropy::backward(&z, &q, &g, logits.dim(1)?, &mut dz);
        Ok((
            Some(Tensor::from_vec(dz, logits.shape(), logits.device())?),
            None,
        ))
    }
}
