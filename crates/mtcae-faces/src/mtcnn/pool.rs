//! Memory that tasks hand on to each other.

use std::sync::{Mutex, PoisonError};

/// Values that tasks borrow one at a time: as many as tasks run at once are ever made.
#[derive(Default)]
pub struct Pool<T>(Mutex<Vec<T>>);

impl<T: Default> Pool<T> {
    /// What `task` makes of a value that no other task has.
    pub fn lend<R>(&self, task: impl FnOnce(&mut T) -> R) -> R {
        let free = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut value = free().pop().unwrap_or_default();
        let result = task(&mut value);
        free().push(value);
        result
    }
}
