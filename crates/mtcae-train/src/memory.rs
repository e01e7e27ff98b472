//! Things kept in memory up to a bound, so that they are made once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Error;
use crate::view::Frames;

/// What has a size in memory.
pub trait Sized {
    /// Bytes.
    fn bytes(&self) -> usize;
}

impl Sized for Frames {
    fn bytes(&self) -> usize {
        self.pixels.len()
    }
}

/// Keeps what it is given until it is full, then keeps what it has.
pub struct Memory<T> {
    limit: usize,
    kept: Mutex<(usize, HashMap<usize, Arc<T>>)>,
}

impl<T: Sized> Memory<T> {
    /// Room for `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Mutex::default(),
        }
    }

    /// What is kept under `key`, or else what `make` makes.
    pub fn get(
        &self,
        key: usize,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Arc<T>, Error> {
        if let Some(kept) = self.lock().1.get(&key) {
            return Ok(kept.clone());
        }
        let made = Arc::new(make()?);
        let mut kept = self.lock();
        if kept.0 + made.bytes() <= self.limit {
            kept.0 += made.bytes();
            kept.1.insert(key, made.clone());
        }
        Ok(made)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (usize, HashMap<usize, Arc<T>>)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
