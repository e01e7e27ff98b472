//! The ranks of a job, and how they exchange bytes.

use std::sync::Arc;

use crate::Error;

/// Bytes that are sent: shared, so that a block goes to many ranks without being copied.
pub type Block = Arc<Vec<u8>>;

/// The ranks of a job, as one of them sees it.
///
/// All ranks begin the same exchanges in the same order; several may be under way.
pub trait Group: Send + Sync {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// Begins to send `to[r]` to each rank r, and to receive `lengths[r]` bytes from each: as
    /// many as that rank sends to this one. What is for the rank itself comes back as it is.
    ///
    /// # Errors
    /// When there are not as many blocks as ranks, or a rank has failed.
    fn exchange(&self, to: Vec<Block>, lengths: Vec<usize>) -> Result<Pending, Error>;

    /// Tells all others that this rank has failed: whatever they wait for ends with
    /// [`Error::Stopped`]. Gives false where a rank before it has told them the same, which need
    /// not be said twice.
    fn fail(&self, reason: &str) -> bool;
}

/// An exchange under way.
pub struct Pending(Box<dyn FnOnce() -> Result<Vec<Block>, Error> + Send>);

impl Pending {
    /// One that is waited for so.
    pub(crate) fn new(wait: impl FnOnce() -> Result<Vec<Block>, Error> + Send + 'static) -> Self {
        Self(Box::new(wait))
    }

    /// Waits for its end: a block from each rank.
    ///
    /// # Errors
    /// When a rank has failed or ended.
    pub fn wait(self) -> Result<Vec<Block>, Error> {
        (self.0)()
    }
}

/// Refuses an exchange that is none.
pub(crate) fn check(size: usize, to: &[Block], lengths: &[usize]) -> Result<(), Error> {
    if to.len() == size && lengths.len() == size {
        return Ok(());
    }
    Err(Error::Deal(format!(
        "{} blocks to send and {} to receive, among {size} ranks",
        to.len(),
        lengths.len()
    )))
}
