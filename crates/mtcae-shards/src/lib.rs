//! Work on many files by many processes, whose results are those of one, to the bit.
//!
//! The work is a list of files, and a row, one line of JSON, of each. It is divided in one of
//! two ways:
//!
//! - [`shard`]: process I of N does its share of the list, and appends the rows to a file of
//!   its own.
//! - [`lease`]: any number of processes, on any number of machines that share a folder, take a
//!   few files at a time, and may be stopped or killed at any moment.
//!
//! [`merge`] puts the rows together in the order of the list, and proves that they are all of
//! it, each once: what was worked on is described by a [`Job`], which holds the list's digest.
//!
//! Only what NFS does in one step is relied on: making a file that must not be there, giving a
//! file a second name that must not be there, and renaming.

mod disk;
mod error;
mod job;
pub mod lease;
pub mod merge;
mod row;
pub mod shard;

pub use error::{Difference, Error};
pub use job::{Job, Listing, as_text};
pub use row::Row;

/// What every process that works on a job knows.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// What is done to what.
    pub job: &'a Job,
    /// The files' names, as their rows have them; each once.
    pub names: &'a [String],
    /// What computes here: device and instruction set. Numbers may differ in their last digits
    /// where this does.
    pub arithmetic: &'a str,
    /// Files that this process works on at once.
    pub at_once: usize,
}
