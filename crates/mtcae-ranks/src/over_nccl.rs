//! Ranks that have a GPU each, over NCCL.
//!
//! One thread calls NCCL. Sends and receipts go in groups through the device's own stream, so
//! that they come after what was computed before them and before what is computed next; NCCL's
//! reductions, whose order is theirs, are not used.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::cuda_backend::cudarc::nccl::{
    Comm, Id, group_end, group_start, result::NcclError,
};
use candle_core::cuda_backend::{CudaDevice, CudaStorage};
use candle_core::op::BackpropOp;
use candle_core::{Device, Storage, Tensor};

use crate::group::{Block, Group, Pending, check};
use crate::meeting::{BYTES, Meeting};
use crate::tensors::{TensorError, Wire};
use crate::{Error, broadcast};

/// The ranks of a job, each with a GPU of its own.
///
/// A rank that ends is found by the launcher, which ends the others; what one of them waits for
/// on the GPU does not end by itself.
pub struct Nccl {
    rank: usize,
    size: usize,
    orders: Mutex<Sender<Order>>,
}

enum Order {
    Bytes {
        to: Vec<Block>,
        lengths: Vec<usize>,
        done: Sender<Result<Vec<Block>, Error>>,
    },
    Vectors {
        to: Vec<Tensor>,
        lengths: Vec<usize>,
        done: Sender<Result<Vec<Tensor>, TensorError>>,
    },
}

impl Nccl {
    /// Connects ranks that meet as the environment says.
    ///
    /// # Errors
    /// As [`Meeting::hand_over`], and what NCCL says.
    pub fn meet(meeting: &Meeting, device: &Device) -> Result<Self, Error> {
        let id = meeting.hand_over(new_id)?;
        Self::connect(id, meeting.rank(), meeting.ranks(), device)
    }

    /// Connects the ranks of a group, by which the id travels.
    ///
    /// # Errors
    /// As [`broadcast`], and what NCCL says.
    pub fn of(group: &dyn Group, device: &Device) -> Result<Self, Error> {
        let own = match group.rank() {
            0 => Some(new_id()?.to_vec()),
            _ => None,
        };
        let id = broadcast(group, own)?;
        let id = id[..].try_into().map_err(|_| Error::Message {
            rank: 0,
            what: format!("{} bytes for NCCL's id, not {BYTES}", id.len()),
        })?;
        Self::connect(id, group.rank(), group.size(), device)
    }

    fn connect(id: [u8; BYTES], rank: usize, size: usize, device: &Device) -> Result<Self, Error> {
        let Device::Cuda(cuda) = device else {
            return Err(fault("connects GPUs alone: --device cuda:N".to_owned()));
        };
        let (orders, inbox) = channel();
        let (ready, started) = channel();
        let cuda = cuda.clone();
        let thread = std::thread::Builder::new().name("nccl".to_owned());
        let thread = thread.spawn(move || {
            let id = Id::uninit(id.map(|byte| byte as std::ffi::c_char));
            let bound = cuda.cuda_stream().context().bind_to_thread();
            let bound = bound.map_err(|e| fault(e.to_string()));
            let comm = bound.and_then(|()| {
                Comm::from_rank(cuda.cuda_stream(), rank, size, id).map_err(|e| said(&e))
            });
            match comm {
                Ok(comm) => {
                    drop(ready.send(Ok(())));
                    serve(&comm, &cuda, &inbox);
                }
                Err(e) => drop(ready.send(Err(e))),
            }
        });
        thread.map_err(|e| fault(format!("no thread for it: {e}")))?;
        let started = started.recv();
        started.map_err(|_| fault("does not start".to_owned()))??;
        let orders = Mutex::new(orders);
        Ok(Self { rank, size, orders })
    }

    fn order(&self, order: Order) -> Result<(), Error> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.send(order).map_err(|_| ended())
    }
}

fn new_id() -> Result<[u8; BYTES], Error> {
    let id = Id::new().map_err(|e| said(&e))?;
    Ok(id.internal().map(|byte| byte as u8))
}

fn fault(reason: String) -> Error {
    Error::Library {
        library: "NCCL",
        reason,
    }
}

fn said(error: &NcclError) -> Error {
    fault(format!("{:?}; NCCL_DEBUG=WARN says more", error.0))
}

fn ended() -> Error {
    fault("has ended".to_owned())
}

impl Group for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, to: Vec<Block>, lengths: Vec<usize>) -> Result<Pending, Error> {
        check(self.size, &to, &lengths)?;
        let (done, result) = channel();
        self.order(Order::Bytes { to, lengths, done })?;
        Ok(Pending::new(move || {
            result.recv().unwrap_or_else(|_| Err(ended()))
        }))
    }

    fn fail(&self, _: &str) -> bool {
        true
    }
}

impl Wire for &Nccl {
    type Pending = Receiver<Result<Vec<Tensor>, TensorError>>;

    fn group(&self) -> &dyn Group {
        *self
    }

    fn begin(&self, to: Vec<Tensor>, lengths: Vec<usize>) -> Result<Self::Pending, TensorError> {
        let (done, result) = channel();
        self.order(Order::Vectors { to, lengths, done })?;
        Ok(result)
    }

    fn end(&self, pending: Self::Pending) -> Result<Vec<Tensor>, TensorError> {
        pending.recv().unwrap_or_else(|_| Err(ended().into()))
    }
}

/// The thread that calls NCCL.
fn serve(comm: &Comm, device: &CudaDevice, inbox: &Receiver<Order>) {
    while let Ok(order) = inbox.recv() {
        match order {
            Order::Bytes { to, lengths, done } => {
                drop(done.send(bytes(comm, device, to, &lengths)));
            }
            Order::Vectors { to, lengths, done } => {
                drop(done.send(vectors(comm, device, to, &lengths)));
            }
        }
    }
}

fn bytes(
    comm: &Comm,
    device: &CudaDevice,
    to: Vec<Block>,
    lengths: &[usize],
) -> Result<Vec<Block>, Error> {
    let (rank, stream) = (comm.rank(), comm.stream());
    let on_device = |e: &dyn std::fmt::Display| fault(e.to_string());
    let others = |n: usize, r: usize| n > 0 && r != rank;
    let mut sent: Vec<Option<CudaSlice<u8>>> = Vec::with_capacity(to.len());
    for (r, block) in to.iter().enumerate() {
        sent.push(match others(block.len(), r) {
            true => Some(stream.clone_htod(&block[..]).map_err(|e| on_device(&e))?),
            false => None,
        });
    }
    let mut came: Vec<Option<CudaSlice<u8>>> = Vec::with_capacity(to.len());
    for (r, length) in lengths.iter().enumerate() {
        came.push(match others(*length, r) {
            true => Some(device.alloc_zeros(*length).map_err(|e| on_device(&e))?),
            false => None,
        });
    }
    exchange(comm, &sent, &mut came)?;
    let mut blocks = Vec::with_capacity(to.len());
    for (r, (came, own)) in came.iter().zip(to).enumerate() {
        blocks.push(match came {
            Some(came) => Arc::new(stream.clone_dtoh(came).map_err(|e| on_device(&e))?),
            None if r == rank => own,
            None => Block::default(),
        });
    }
    Ok(blocks)
}

fn vectors(
    comm: &Comm,
    device: &CudaDevice,
    to: Vec<Tensor>,
    lengths: &[usize],
) -> Result<Vec<Tensor>, TensorError> {
    let rank = comm.rank();
    // A vector is a stretch of the memory that it lies in.
    let locked: Vec<_> = to.iter().map(Tensor::storage_and_layout).collect();
    let mut sent = Vec::with_capacity(to.len());
    for (r, (storage, layout)) in locked.iter().enumerate() {
        let values = layout.shape().elem_count();
        sent.push(match &**storage {
            Storage::Cuda(storage) if r != rank && values > 0 => {
                let (from, end) = layout
                    .contiguous_offsets()
                    .ok_or_else(|| fault("a vector does not lie in one piece".to_owned()))?;
                Some(storage.as_cuda_slice::<f32>()?.slice(from..end))
            }
            _ => None,
        });
    }
    let mut came: Vec<Option<CudaSlice<f32>>> = Vec::with_capacity(to.len());
    for (r, length) in lengths.iter().enumerate() {
        came.push(match r != rank && *length > 0 {
            true => Some(device.alloc_zeros(*length)?),
            false => None,
        });
    }
    exchange(comm, &sent, &mut came)?;
    let none = || Tensor::zeros(0, candle_core::DType::F32, &Device::Cuda(device.clone()));
    let came = came.into_iter().enumerate().map(|(r, came)| match came {
        Some(came) => {
            let storage = CudaStorage::wrap_cuda_slice(came, device.clone());
            let storage = Storage::Cuda(storage);
            Ok(Tensor::from_storage(
                storage,
                lengths[r],
                BackpropOp::none(),
                false,
            ))
        }
        None if r == rank => Ok(to[r].clone()),
        None => Ok(none()?),
    });
    came.collect()
}

/// Sends to and receives from each rank for which there is something.
fn exchange<T, S>(
    comm: &Comm,
    sent: &[Option<S>],
    came: &mut [Option<CudaSlice<T>>],
) -> Result<(), Error>
where
    T: candle_core::cuda_backend::cudarc::nccl::safe::NcclType,
    S: DevicePtr<T>,
{
    group_start().map_err(|e| said(&e))?;
    let mut all = || -> Result<(), NcclError> {
        for (r, sent) in sent.iter().enumerate() {
            if let Some(sent) = sent {
                comm.send(sent, r as i32)?;
            }
        }
        for (r, came) in came.iter_mut().enumerate() {
            if let Some(came) = came {
                comm.recv(came, r as i32)?;
            }
        }
        Ok(())
    };
    let queued = all();
    // It must end whatever was queued.
    let ended = group_end();
    queued.map_err(|e| said(&e))?;
    ended.map_err(|e| said(&e))?;
    Ok(())
}
