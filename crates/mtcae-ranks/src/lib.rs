//! Processes that train together, called ranks.
//!
//! - [`Group`]: the ranks of a job and how they exchange bytes. [`Solo`] is one alone,
//!   [`Threads`] are several in one process, [`Mpi`] (feature `mpi`) those that `mpirun` started.
//! - [`Tree`] and [`Reduction`]: sums of vectors in one order, which the number of ranks does not
//!   change, so that the result is equal to the bit whether one rank adds or many do. No
//!   library's own reduction is used: their order is theirs.
//! - [`gather`], [`broadcast`], [`agree`], [`together`]: what ranks tell each other besides.
//! - [`Launch`]: what the program that started the ranks says of them.
//!
//! Vectors are `f32` in memory. Nothing here knows a model, prints or ends a process.

mod error;
mod group;
mod launch;
#[cfg(feature = "mpi")]
mod over_mpi;
mod reduce;
mod solo;
mod threads;
mod tree;
mod words;

pub use error::Error;
pub use group::{Block, Group, Pending};
pub use launch::Launch;
#[cfg(feature = "mpi")]
pub use over_mpi::Mpi;
pub use reduce::{Carrier, Deal, Memory, Reduction, Traffic, Values};
pub use solo::Solo;
pub use threads::Threads;
pub use tree::{Node, Tree};
pub use words::{agree, barrier, broadcast, gather, together};
