//! Operations with any number of inputs and with saved activations.
//!
//! A Candle operation has at most three inputs and saves nothing. Here the
//! operation holds its inputs itself, and the graph sees them through *links*:
//! operations on up to three tensors whose result is a single unused number.
//! Links of links lead up to the operation proper, so that Candle visits it
//! first on the way back; it computes all gradients at once and leaves them with
//! what it shares with the links, which hand them on to their inputs.
//!
//! For each input that Candle's backward reaches it fills a tensor with zeros and adds
//! the gradient. A pass that collects is given those of the parameters past the graph.

use std::ops::Index;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Storage,
    Tensor,
};

use super::backend::Fresh;
use crate::pass::{Store, Way};

/// The place of an operand, known to whoever listed it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Slot {
    Activation(usize),
    Parameter(usize),
}

/// The operands of an operation, as they are listed.
#[derive(Default)]
pub(super) struct Operands {
    activations: Vec<Tensor>,
    parameters: Vec<Tensor>,
}

impl Operands {
    /// Lists an activation, as the kernels read it; there are three at most.
    pub(super) fn activation(&mut self, tensor: Tensor) -> Slot {
        self.activations.push(tensor);
        Slot::Activation(self.activations.len() - 1)
    }

    /// Lists a parameter.
    pub(super) fn parameter(&mut self, tensor: &Tensor) -> Result<Slot> {
        self.parameters.push(tensor.contiguous()?);
        Ok(Slot::Parameter(self.parameters.len() - 1))
    }
}

/// Something of each operand: activations, then parameters.
#[derive(Clone)]
pub(super) struct Each<T> {
    all: Vec<T>,
    activations: usize,
}

impl<T> Each<T> {
    /// The same of something else.
    pub(super) fn map<U>(&self, f: impl FnMut(&T) -> Result<U>) -> Result<Each<U>> {
        Ok(Each {
            all: self.all.iter().map(f).collect::<Result<_>>()?,
            activations: self.activations,
        })
    }

    fn place(&self, slot: Slot) -> usize {
        match slot {
            Slot::Activation(i) => i,
            Slot::Parameter(i) => self.activations + i,
        }
    }
}

impl<T> Index<Slot> for Each<T> {
    type Output = T;

    fn index(&self, slot: Slot) -> &T {
        &self.all[self.place(slot)]
    }
}

/// The gradients that are asked for.
pub(super) struct Gradients {
    wanted: Each<bool>,
    found: Vec<Option<Tensor>>,
}

impl Gradients {
    pub(super) fn wants(&self, slot: Slot) -> bool {
        self.wanted[slot]
    }

    /// Keeps the gradient of an operand, if it is asked for: what nobody has asked for,
    /// Candle would add to zeros and keep.
    pub(super) fn set(&mut self, slot: Slot, grad: Tensor) {
        if self.wants(slot) {
            self.found[self.wanted.place(slot)] = Some(grad);
        }
    }
}

/// An operation over contiguous tensors of one device, on which no graph is kept.
pub(super) trait Operation: Send + Sync + 'static {
    /// Its name in errors.
    fn name(&self) -> &'static str;
    /// The result. With `save`, what the backward can use may be saved.
    fn forward(&self, inputs: &Each<Tensor>, save: bool) -> Result<Fresh>;
    /// The gradients that are asked for, from that of the result.
    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<()>;
}

/// What an operation has saved, until its backward takes it.
pub(super) struct Saved<T>(Mutex<Option<T>>);

impl<T> Default for Saved<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Saved<T> {
    pub(super) fn keep(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    /// What was kept, or `again`: of a second backward over the same graph, or of a pass
    /// that recomputes.
    pub(super) fn take_or(&self, again: impl FnOnce() -> Result<T>) -> Result<T> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.map_or_else(again, Ok)
    }
}

/// Applies an operation to its operands. `shape` is the result's where an activation is
/// empty, and the result zeros.
pub(super) fn apply(
    op: impl Operation,
    operands: Operands,
    shape: &Shape,
    way: &Way,
) -> Result<Tensor> {
    let Operands {
        activations,
        parameters,
    } = operands;
    // The store is for parameters proper, and the graph has to lead here without them.
    let past = activations.iter().any(Tensor::track_op)
        && parameters.iter().all(|p| p.is_variable() || !p.track_op());
    let nothing = activations.iter().any(|t| t.elem_count() == 0);
    let nodes = Each {
        activations: activations.len(),
        all: [activations, parameters].concat(),
    };
    let inputs = nodes.map(|t| Ok(t.detach()))?;
    let wanted = nodes.map(|t| Ok(t.track_op()))?;
    let nodes = nodes.all;
    let tracks = wanted.all.contains(&true);
    let out = match nothing {
        true => Fresh::zeros(shape, nodes[0].dtype(), nodes[0].device())?,
        false => op.forward(&inputs, tracks && !way.recompute)?,
    };
    if !tracks {
        return Ok(out.into_tensor());
    }
    let store = way.store.clone().filter(|_| past);
    let shared = Arc::new(Shared {
        op: Box::new(op),
        grads: Mutex::default(),
        out: Mutex::new(Some(out)),
        nodes: nodes.clone(),
        inputs,
        wanted,
        nothing,
        store,
    });
    let mut below = nodes;
    if shared.store.is_some() {
        below.truncate(shared.inputs.activations);
    }
    let mut leaves = true;
    while below.len() > 3 {
        below = below
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
    link.apply(&below)
}

struct Shared {
    op: Box<dyn Operation>,
    /// The inputs as the graph knows them.
    nodes: Vec<Tensor>,
    /// The same without a graph.
    inputs: Each<Tensor>,
    wanted: Each<bool>,
    /// Whether there is nothing to compute.
    nothing: bool,
    /// The result, until it is part of the graph.
    out: Mutex<Option<Fresh>>,
    /// Gradients on their way from the operation to the links.
    grads: Mutex<Vec<Option<Tensor>>>,
    store: Option<Store>,
}

impl Shared {
    fn backward(&self, result: &Tensor, grad: &Tensor) -> Result<()> {
        let mut grads = Gradients {
            wanted: self.wanted.clone(),
            found: vec![None; self.nodes.len()],
        };
        match self.nothing {
            true => {
                let zeros = self.inputs.all.iter().map(|i| i.zeros_like().map(Some));
                grads.found = zeros.collect::<Result<_>>()?;
            }
            false => {
                let (result, grad) = (result.detach(), grad.contiguous()?);
                self.op.backward(&self.inputs, &mut grads, &result, &grad)?;
            }
        }
        let mut grads = grads
            .found
            .into_iter()
            .zip(&self.nodes)
            .map(|(grad, node)| grad.map(|g| g.to_dtype(node.dtype())).transpose())
            .collect::<Result<Vec<_>>>()?;
        if let Some(store) = &self.store {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            for (grad, node) in grads
                .iter_mut()
                .zip(&self.nodes)
                .skip(self.inputs.activations)
            {
                let Some(grad) = grad.take() else {
                    continue;
                };
                let sum = match store.remove(node) {
                    Some(before) => (before + grad)?,
                    None => grad,
                };
                store.insert(node, sum);
            }
        }
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

    /// The result, or the number of a link.
    fn result(&self) -> Result<Fresh> {
        if !self.top {
            return Fresh::zeros(&Shape::from(1), DType::F32, self.device());
        }
        let out = self.shared.out.lock();
        let out = out.unwrap_or_else(PoisonError::into_inner).take();
        out.ok_or_else(|| candle_core::Error::Msg(format!("{}: it ran twice", self.name())))
    }

    fn on_cpu(&self) -> Result<(CpuStorage, Shape)> {
        let out = self.result()?;
        match out.storage {
            Storage::Cpu(storage) => Ok((storage, out.shape)),
            _ => candle_core::bail!("{}: its inputs are on several devices", self.name()),
        }
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self) -> Result<(candle_core::CudaStorage, Shape)> {
        let out = self.result()?;
        match out.storage {
            Storage::Cuda(storage) => Ok((storage, out.shape)),
            _ => candle_core::bail!("{}: its inputs are on several devices", self.name()),
        }
    }

    fn backward<const N: usize>(
        &self,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        if self.top {
            self.shared.backward(result, grad)?;
        }
        let mut out = [const { None }; N];
        let grads = self.shared.grads.lock();
        let mut grads = grads.unwrap_or_else(PoisonError::into_inner);
        for (i, out) in out.iter_mut().enumerate() {
            *out = match self.leaves {
                Some(first) => grads.get_mut(first + i).and_then(Option::take),
                None => Some(Tensor::zeros(1, DType::F32, self.device())?),
            };
        }
        Ok(out)
    }

    fn device(&self) -> &Device {
        self.shared.nodes[0].device()
    }
}

/// Candle has a trait for each number of operands.
macro_rules! custom_op {
    ($op:ident, $($operand:ident),+ => $grads:ty) => {
        impl $op for Link {
            fn name(&self) -> &'static str {
                self.name()
            }

            fn cpu_fwd(
                &self,
                $(#[allow(unused)] $operand: &CpuStorage, _: &Layout,)+
            ) -> Result<(CpuStorage, Shape)> {
                self.on_cpu()
            }

            #[cfg(feature = "cuda")]
            fn cuda_fwd(
                &self,
                $(#[allow(unused)] $operand: &candle_core::CudaStorage, _: &Layout,)+
            ) -> Result<(candle_core::CudaStorage, Shape)> {
                self.on_gpu()
            }

            fn bwd(
                &self,
                $(#[allow(unused)] $operand: &Tensor,)+
                result: &Tensor,
                grad: &Tensor,
            ) -> Result<$grads> {
                Ok(self.backward(result, grad)?.into())
            }
        }
    };
}

custom_op!(CustomOp2, a, b => (Option<Tensor>, Option<Tensor>));
custom_op!(CustomOp3, a, b, c => (Option<Tensor>, Option<Tensor>, Option<Tensor>));

impl CustomOp1 for Link {
    fn name(&self) -> &'static str {
        self.name()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.on_gpu()
    }

    fn bwd(&self, _: &Tensor, result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.backward(result, grad)?;
        Ok(a)
    }
}
