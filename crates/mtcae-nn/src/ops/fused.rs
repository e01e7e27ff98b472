//! Operations with any number of inputs and with saved activations.
//!
//! A Candle operation has at most three inputs and saves nothing. Here the
//! operation holds its inputs itself, and the graph sees them through *links*:
//! operations on up to three tensors whose result is a single unused number.
//! Links of links lead up to the operation proper, so that Candle visits it
//! first on the way back; it computes all gradients at once and leaves them with
//! what it shares with the links, which hand them on to their inputs.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Storage,
    Tensor,
};

/// An operation over slices.
pub(super) trait Fused: Send + Sync + 'static {
    /// Its name in errors.
    fn name(&self) -> &'static str;
    /// The result. With `save`, what the backward can use may be saved.
    fn forward(&self, inputs: &[&[f32]], save: bool) -> Vec<f32>;
    /// The gradient of each input that is `wanted`.
    fn backward(&self, inputs: &[&[f32]], wanted: &[bool], grad: &[f32]) -> Vec<Option<Vec<f32>>>;
}

/// Whether the tensors are `f32` on the CPU, where the kernels are.
pub(crate) fn on_cpu(tensors: &[&Tensor]) -> bool {
    tensors
        .iter()
        .all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// Applies an operation whose result has `shape`. The inputs are `f32` on the
/// CPU, and not empty.
pub(super) fn apply(op: impl Fused, inputs: &[&Tensor], shape: &Shape) -> Result<Tensor> {
    let inputs: Vec<Tensor> = inputs
        .iter()
        .map(|t| t.contiguous())
        .collect::<Result<_>>()?;
    let tracks = inputs.iter().any(Tensor::track_op);
    let shared = Arc::new(Shared {
        grads: Mutex::default(),
        shape: shape.clone(),
        op: Box::new(op),
        inputs,
    });
    if !tracks {
        let out = shared.with_inputs(|inputs| shared.op.forward(inputs, false))?;
        return Tensor::from_vec(out, shape, &Device::Cpu);
    }
    let mut nodes = shared.inputs.clone();
    let mut leaves = true;
    while nodes.len() > 3 {
        nodes = nodes
            .chunks(3)
            .enumerate()
            .map(|(i, group)| {
                let link = Link {
                    shared: shared.clone(),
                    leaves: leaves.then_some(3 * i),
                    top: false,
                };
                link.apply(group)
            })
            .collect::<Result<_>>()?;
        leaves = false;
    }
    let link = Link {
        shared,
        leaves: leaves.then_some(0),
        top: true,
    };
    link.apply(&nodes)
}

struct Shared {
    op: Box<dyn Fused>,
    inputs: Vec<Tensor>,
    shape: Shape,
    /// Gradients on their way from the operation to the links.
    grads: Mutex<Vec<Option<Tensor>>>,
}

impl Shared {
    fn with_inputs<R>(&self, f: impl FnOnce(&[&[f32]]) -> R) -> Result<R> {
        let storages: Vec<_> = self.inputs.iter().map(Tensor::storage_and_layout).collect();
        let slices: Vec<&[f32]> = storages
            .iter()
            .map(|(storage, layout)| match &**storage {
                Storage::Cpu(storage) => super::slice(self.op.name(), storage, layout),
                _ => candle_core::bail!("{}: an input is not on the CPU", self.op.name()),
            })
            .collect::<Result<_>>()?;
        Ok(f(&slices))
    }

    fn backward(&self, grad: &Tensor) -> Result<()> {
        let grad = grad.contiguous()?;
        let (storage, layout) = grad.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            candle_core::bail!("{}: the gradient is not on the CPU", self.op.name());
        };
        let grad = super::slice(self.op.name(), storage, layout)?;
        let wanted: Vec<bool> = self.inputs.iter().map(Tensor::track_op).collect();
        let grads = self.with_inputs(|inputs| self.op.backward(inputs, &wanted, grad))?;
        let grads = grads
            .into_iter()
            .zip(&self.inputs)
            .map(|(grad, input)| {
                grad.map(|g| Tensor::from_vec(g, input.shape(), &Device::Cpu))
                    .transpose()
            })
            .collect::<Result<_>>()?;
        *self.grads.lock().unwrap_or_else(PoisonError::into_inner) = grads;
        Ok(())
    }
}

/// A node of the graph: the operation itself at the top, links below it.
struct Link {
    shared: Arc<Shared>,
    /// The first of the inputs below, where those are inputs and not links.
    leaves: Option<usize>,
    top: bool,
}

impl Link {
    fn apply(self, nodes: &[Tensor]) -> Result<Tensor> {
        match nodes {
            [a] => a.apply_op1(self),
            [a, b] => a.apply_op2(b, self),
            [a, b, c] => a.apply_op3(b, c, self),
            _ => candle_core::bail!("{}: it has no inputs", self.shared.op.name()),
        }
    }

    fn name(&self) -> &'static str {
        self.shared.op.name()
    }

    fn forward(&self) -> Result<(CpuStorage, Shape)> {
        if !self.top {
            return Ok((CpuStorage::F32(vec![0.0]), Shape::from(1)));
        }
        let shared = &self.shared;
        let out = shared.with_inputs(|inputs| shared.op.forward(inputs, true))?;
        Ok((CpuStorage::F32(out), shared.shape.clone()))
    }

    fn backward<const N: usize>(&self, grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        if self.top {
            self.shared.backward(grad)?;
        }
        let mut out = [const { None }; N];
        let mut grads = self
            .shared
            .grads
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (i, out) in out.iter_mut().enumerate() {
            *out = match self.leaves {
                Some(first) => grads.get_mut(first + i).and_then(Option::take),
                None => Some(Tensor::zeros(1, DType::F32, &Device::Cpu)?),
            };
        }
        Ok(out)
    }
}

impl CustomOp1 for Link {
    fn name(&self) -> &'static str {
        self.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.backward(grad)?;
        Ok(a)
    }
}

impl CustomOp2 for Link {
    fn name(&self) -> &'static str {
        self.name()
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.backward(grad)?;
        Ok((a, b))
    }
}

impl CustomOp3 for Link {
    fn name(&self) -> &'static str {
        self.name()
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = self.backward(grad)?;
        Ok((a, b, c))
    }
}
