//! Processes that train together, called ranks.
//!
//! - [`Group`]: the ranks of a job and how they exchange bytes. [`Solo`] is one alone,
//!   [`Threads`] are several in one process, `Mpi` (feature `mpi`) those that `mpirun` started.
//! - [`Tree`] and [`Reduction`]: sums of vectors in one order, which the number of ranks does not
//!   change, so that the result is equal to the bit whether one rank adds or many do. No
//!   library's own reduction is used: their order is theirs.
//! - [`gather`], [`broadcast`], [`agree`], [`together`]: what ranks tell each other besides.
//! - [`Launch`]: what the program that started the ranks says of them; [`Meeting`]: how ranks find
//!   each other that no MPI connects.
//! - Feature `candle`: the same sums over tensors of a device. Feature `nccl`: `Nccl`, ranks
//!   that have a GPU each.
//!
//! Vectors are `f32`. Nothing here knows a model, prints or ends a process.

mod error;
mod group;
mod launch;
mod meeting;
#[cfg(feature = "mpi")]
mod over_mpi;
#[cfg(feature = "nccl")]
mod over_nccl;
mod reduce;
mod solo;
#[cfg(feature = "candle")]
mod tensors;
mod threads;
mod tree;
mod words;

pub use error::Error;
pub use group::{Block, Group, Pending};
pub use launch::{Launch, Launcher};
pub use meeting::Meeting;
#[cfg(feature = "mpi")]
pub use over_mpi::Mpi;
#[cfg(feature = "nccl")]
pub use over_nccl::Nccl;
pub use reduce::{Carrier, Deal, Memory, Reduction, Traffic, Values};
pub use solo::Solo;
#[cfg(feature = "candle")]
pub use tensors::{ByMemory, TensorError, Tensors, Wire};
pub use threads::Threads;
pub use tree::{Tree, completed};
pub use words::{agree, barrier, broadcast, gather, together};
