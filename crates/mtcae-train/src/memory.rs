//! Decoded clips kept in memory up to a bound, so that they are decoded once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Error;
use crate::view::Frames;

/// Keeps what it is given until it is full, then keeps what it has.
pub struct Memory {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    clips: HashMap<usize, Arc<Frames>>,
}

impl Memory {
    /// Room for `limit` bytes of pixels.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Mutex::default(),
        }
    }

    /// The clip that is kept under a number, or else what `decode` makes.
    pub fn get(
        &self,
        number: usize,
        decode: impl FnOnce() -> Result<Frames, Error>,
    ) -> Result<Arc<Frames>, Error> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = lock().clips.get(&number) {
            return Ok(kept.clone());
        }
        let made = Arc::new(decode()?);
        let mut kept = lock();
        let bytes = kept.bytes + made.pixels.len();
        // Another thread may have decoded it meanwhile.
        if bytes <= self.limit
            && let Entry::Vacant(place) = kept.clips.entry(number)
        {
            place.insert(made.clone());
            kept.bytes = bytes;
        }
        Ok(made)
    }
}
