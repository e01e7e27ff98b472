//! Vectors on Candle's devices, over whatever carries them.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use crate::Error;
use crate::group::{Group, Pending};
use crate::reduce::{Carrier, Memory, Values};

/// What can go wrong with vectors on a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// Between the ranks.
    #[error(transparent)]
    Ranks(#[from] Error),
    /// On the device.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// What carries vectors of a device between ranks.
pub trait Wire {
    /// Vectors under way.
    type Pending;

    /// The ranks.
    fn group(&self) -> &dyn Group;

    /// As [`Group::exchange`], of vectors (n).
    ///
    /// # Errors
    /// As there, and when the device has no room.
    fn begin(&self, to: Vec<Tensor>, lengths: Vec<usize>) -> Result<Self::Pending, TensorError>;

    /// As [`Pending::wait`].
    ///
    /// # Errors
    /// As there, and when the device has no room.
    fn end(&self, pending: Self::Pending) -> Result<Vec<Tensor>, TensorError>;
}

/// Over any group, by way of memory.
pub struct ByMemory<'a> {
    group: &'a dyn Group,
    device: Device,
}

impl<'a> ByMemory<'a> {
    /// For vectors of this device.
    pub fn new(group: &'a dyn Group, device: &Device) -> Self {
        let device = device.clone();
        Self { group, device }
    }
}

impl Wire for ByMemory<'_> {
    type Pending = (Pending, Vec<usize>);

    fn group(&self) -> &dyn Group {
        self.group
    }

    fn begin(&self, to: Vec<Tensor>, lengths: Vec<usize>) -> Result<Self::Pending, TensorError> {
        let to = to.iter().map(|t| Ok(Values::new(t.to_vec1()?)));
        let to = to.collect::<Result<_, candle_core::Error>>()?;
        Ok(Memory(self.group).begin(to, lengths)?)
    }

    fn end(&self, pending: Self::Pending) -> Result<Vec<Tensor>, TensorError> {
        let came = Memory(self.group).end(pending)?;
        let came = came.iter().map(|values| {
            let values = values.floats();
            Ok(Tensor::from_slice(&values, values.len(), &self.device)?)
        });
        came.collect()
    }
}

/// Vectors (n) of `f32` on a device, and what carries them.
pub struct Tensors<W>(pub W);

impl<W: Wire> Carrier for Tensors<W> {
    type Vector = Tensor;
    type Pending = W::Pending;
    type Error = TensorError;

    fn rank(&self) -> usize {
        self.0.group().rank()
    }

    fn size(&self) -> usize {
        self.0.group().size()
    }

    fn length(&self, vector: &Tensor) -> usize {
        vector.elem_count()
    }

    fn part(&self, vector: &Tensor, range: Range<usize>) -> Result<Tensor, TensorError> {
        Ok(vector.narrow(0, range.start, range.len())?)
    }

    fn join(&self, parts: Vec<Tensor>) -> Result<Tensor, TensorError> {
        Ok(match &parts[..] {
            [] => Tensor::zeros(0, DType::F32, &Device::Cpu)?,
            [one] => one.clone(),
            all => Tensor::cat(all, 0)?,
        })
    }

    fn add(&self, a: Tensor, b: Tensor) -> Result<Tensor, TensorError> {
        Ok((a + b)?)
    }

    fn begin(&self, to: Vec<Tensor>, lengths: Vec<usize>) -> Result<W::Pending, TensorError> {
        self.0.begin(to, lengths)
    }

    fn end(&self, pending: W::Pending) -> Result<Vec<Tensor>, TensorError> {
        self.0.end(pending)
    }
}
