//! Ranks that are threads of one process.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::Error;
use crate::group::{Block, Group, Pending, check};

/// One of several ranks in one process, as tests have them. When it is dropped, the others
/// find it gone.
pub struct Threads {
    rank: usize,
    hall: Arc<Hall>,
}

/// What the ranks share.
struct Hall {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// From rank a to rank b at `a * size + b`: what b has not taken yet, by the exchange's
    /// number.
    boxes: Vec<VecDeque<(u64, Block)>>,
    /// Exchanges that each rank has begun.
    begun: Vec<u64>,
    gone: Vec<bool>,
    failed: Option<(usize, String)>,
}

impl Threads {
    /// So many ranks, in order: one for each thread.
    pub fn new(size: usize) -> Vec<Self> {
        let hall = Arc::new(Hall {
            size,
            state: Mutex::new(State {
                boxes: vec![VecDeque::new(); size * size],
                begun: vec![0; size],
                gone: vec![false; size],
                failed: None,
            }),
            changed: Condvar::new(),
        });
        let rank = |rank| Self {
            rank,
            hall: hall.clone(),
        };
        (0..size).map(rank).collect()
    }
}

impl Hall {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a rank has sent to this one in an exchange.
    fn take(&self, from: usize, to: usize, number: u64, length: usize) -> Result<Block, Error> {
        let mut state = self.lock();
        loop {
            let held = &mut state.boxes[from * self.size + to];
            if let Some(at) = held.iter().position(|(n, _)| *n == number) {
                let Some((_, block)) = held.remove(at) else {
                    continue;
                };
                return match block.len() == length {
                    true => Ok(block),
                    false => Err(Error::Message {
                        rank: from,
                        what: format!("{} bytes, not {length}", block.len()),
                    }),
                };
            }
            if let Some((rank, reason)) = &state.failed
                && *rank != to
            {
                let (rank, reason) = (*rank, reason.clone());
                return Err(Error::Stopped { rank, reason });
            }
            if state.gone[from] {
                return Err(Error::Gone { rank: from });
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Group for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.hall.size
    }

    fn exchange(&self, to: Vec<Block>, lengths: Vec<usize>) -> Result<Pending, Error> {
        let (rank, hall) = (self.rank, self.hall.clone());
        check(hall.size, &to, &lengths)?;
        let mut state = hall.lock();
        let number = state.begun[rank];
        state.begun[rank] += 1;
        for (r, block) in to.into_iter().enumerate() {
            state.boxes[rank * hall.size + r].push_back((number, block));
        }
        drop(state);
        hall.changed.notify_all();
        Ok(Pending::new(move || {
            let from = lengths.into_iter().enumerate();
            from.map(|(r, length)| hall.take(r, rank, number, length))
                .collect()
        }))
    }

    fn fail(&self, reason: &str) -> bool {
        let mut state = self.hall.lock();
        let said =
            matches!(&state.failed, Some((rank, known)) if *rank != self.rank && known == reason);
        state
            .failed
            .get_or_insert_with(|| (self.rank, reason.to_owned()));
        drop(state);
        self.hall.changed.notify_all();
        !said
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.hall.lock().gone[self.rank] = true;
        self.hall.changed.notify_all();
    }
}
