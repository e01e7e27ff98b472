//! What forwards and backwards are made of, on each device: the seam between the
//! operations and the kernels. No graph is kept here.

use candle_core::backend::BackendDevice;
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, Result, Shape, Storage, Tensor};
use mtcae_kernels::attention::Dims;

/// A result that is no tensor yet: its memory can become another result's, or that of a
/// node of the graph.
pub(super) struct Fresh {
    pub(super) storage: Storage,
    pub(super) shape: Shape,
}

impl Fresh {
    /// Values on the CPU.
    pub(super) fn on_cpu(values: Vec<f32>, shape: &Shape) -> Self {
        Self {
            storage: Storage::Cpu(CpuStorage::F32(values)),
            shape: shape.clone(),
        }
    }

    /// Zeros.
    pub(super) fn zeros(shape: &Shape, dtype: DType, device: &Device) -> Result<Self> {
        let storage = match device {
            Device::Cpu => {
                Storage::Cpu(candle_core::cpu_backend::CpuDevice.zeros_impl(shape, dtype)?)
            }
            Device::Cuda(device) => Storage::Cuda(device.zeros_impl(shape, dtype)?),
            Device::Metal(device) => Storage::Metal(device.zeros_impl(shape, dtype)?),
        };
        Ok(Self {
            storage,
            shape: shape.clone(),
        })
    }

    pub(super) fn into_tensor(self) -> Tensor {
        Tensor::from_storage(self.storage, self.shape, BackpropOp::none(), false)
    }
}

/// A bias of `f32` of which only the first columns, the last, or both, are not 0: of
/// packed queries, keys and values the keys have none.
#[derive(Clone)]
pub(super) struct Bias {
    /// From the first column on.
    pub(super) first: Option<Tensor>,
    /// Up to the last column.
    pub(super) last: Option<Tensor>,
}

impl Bias {
    /// One number for each column.
    pub(super) fn whole(bias: &Tensor) -> Self {
        Self {
            first: Some(bias.clone()),
            last: None,
        }
    }
}

/// x + bias, where the bias waits for whoever reads x.
pub(super) struct Biased {
    pub(super) x: Tensor,
    pub(super) bias: Option<Bias>,
}

/// As [`Biased`], of a result.
pub(super) struct Product {
    pub(super) x: Fresh,
    pub(super) bias: Option<Bias>,
}

impl Product {
    /// As something that several read.
    pub(super) fn shared(self) -> Biased {
        Biased {
            x: self.x.into_tensor(),
            bias: self.bias,
        }
    }

    /// With its bias added.
    pub(super) fn settle(self, backend: &dyn Backend) -> Result<Fresh> {
        match self.bias {
            None => Ok(self.x),
            Some(_) => backend.residual(None, self, None),
        }
    }
}

/// A LayerNorm: γ and β (D) of `f32`, and ε.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub(super) gamma: &'a Tensor,
    pub(super) beta: &'a Tensor,
    pub(super) eps: f32,
}

/// Queries, keys and values (B, N, ·) of an attention.
#[derive(Clone, Copy)]
pub(super) enum Heads<'a> {
    /// Side by side in rows (B, N, 3·H·d).
    Packed(&'a Tensor),
    /// Queries (B, N, H·d), and keys beside values (B, M, 2·H·d). On a GPU the latter may
    /// be columns of a wider tensor.
    Apart(&'a Tensor, &'a Tensor),
}

/// What attention gives (B, N, H·d), and what its backward needs of it besides.
pub(super) struct Attended {
    pub(super) out: Fresh,
    /// What the backward needs of the softmax: on GPUs log₂ of each row's sum of
    /// exponentials (B, H, N), on the CPU [`Dims::norms`] (B, H, 2, N).
    pub(super) log_sums: Option<Tensor>,
}

/// The kernels of a device. Operands are contiguous, and weights of the activations'
/// type or `f32`.
pub(super) trait Backend: Sync {
    /// x (…, in) times W (out, in) transposed, and what bias is still to be added.
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<Bias>) -> Result<Product>;

    /// base + s·(x·Wᵀ + bias), as [`Self::residual`] of [`Self::linear`].
    fn linear_onto(
        &self,
        base: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        bias: Bias,
        scales: Option<&[f32]>,
    ) -> Result<Fresh> {
        self.residual(Some(base), self.linear(x, weight, Some(bias))?, scales)
    }

    /// [`Self::weight_gradient`] and [`Self::column_sums`] of grad.
    fn layer_gradients(&self, grad: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.weight_gradient(grad, x)?, self.column_sums(grad)?))
    }

    /// grad (…, out) times W (out, in): the gradient of x (…, in).
    fn input_gradient(&self, grad: &Tensor, weight: &Tensor) -> Result<Fresh>;

    /// grad (…, out) transposed times x (…, in): the gradient of W (out, in), in `f32`.
    fn weight_gradient(&self, grad: &Tensor, x: &Tensor) -> Result<Tensor>;

    /// The sums of the columns of x (…, D) → (D) of `f32`: the gradient of a bias.
    fn column_sums(&self, x: &Tensor) -> Result<Tensor>;

    /// base + s·(branch + its bias), with one s for each sample in `scales`, or none for
    /// 1; without `base`, of zeros.
    fn residual(
        &self,
        base: Option<&Tensor>,
        branch: Product,
        scales: Option<&[f32]>,
    ) -> Result<Fresh>;

    /// [`Self::residual`], and its LayerNorm.
    fn residual_norm(
        &self,
        base: &Tensor,
        branch: Product,
        scales: Option<&[f32]>,
        norm: Norm<'_>,
    ) -> Result<(Tensor, Tensor)>;

    /// s·x, as in [`Self::residual`].
    fn scaled(&self, x: &Tensor, scales: &[f32]) -> Result<Tensor>;

    /// LayerNorm of x (…, D).
    fn norm(&self, x: &Tensor, norm: Norm<'_>) -> Result<Fresh>;

    /// dx, to which `residual` is added, dγ and dβ.
    fn norm_backward(
        &self,
        x: &Tensor,
        norm: Norm<'_>,
        grad: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<[Tensor; 3]>;

    /// GELU of x + bias, element by element.
    fn gelu(&self, x: &Biased) -> Result<Fresh>;

    /// The gradient of x + bias.
    fn gelu_gradient(&self, x: &Biased, grad: &Tensor) -> Result<Tensor>;

    /// [`Self::gelu_gradient`], and GELU of x + bias once more.
    fn gelu_backward(&self, x: &Biased, grad: Fresh) -> Result<(Tensor, Tensor)>;

    /// softmax(Q·Kᵀ/√d)·V of each head.
    fn attention(&self, dims: Dims, of: Heads<'_>) -> Result<Attended>;

    /// The gradients of what `of` holds: of q, k and v packed, or of q and of k and v.
    fn attention_backward(
        &self,
        dims: Dims,
        of: Heads<'_>,
        out: &Tensor,
        log_sums: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>)>;
}
