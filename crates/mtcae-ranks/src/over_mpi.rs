//! Ranks that `mpirun` started, over MPI.
//!
//! One thread calls MPI, from its beginning to its end (`MPI_THREAD_FUNNELED`); the others hand
//! it exchanges, which it carries out one after the other. While it waits, it looks for a word of
//! a rank that has failed, and sleeps between looks so that it takes no core from those that
//! compute.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mpi::point_to_point::{Destination, Source};
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::{Tag, Threading};

use crate::Error;
use crate::group::{Block, Group, Pending, check};

/// Exchanges, and the word of a rank that has failed.
const EXCHANGE: Tag = 0;
const FAILURE: Tag = 1;

/// Bytes of a message: few enough that one ends every millisecond or so, by which is seen that data
/// flow, and the wait for the next is a short one. Far below C's `int`, by which MPI counts.
const LARGEST: usize = 1 << 20;

/// Bytes of what a rank says of its failure.
const WORD: usize = 2000;

/// How long a rank that fails waits for the others to hear of it, and listens whether one before
/// it has failed at the same.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The ranks of `MPI_COMM_WORLD`. There is one in a process.
///
/// Dropped after a run that went well, it ends MPI; the process must not end before. After a
/// failure it does not, since the other ranks may never get there.
pub struct Mpi {
    rank: usize,
    size: usize,
    orders: Option<Mutex<Sender<Order>>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Whether this rank or another has failed.
    failed: Arc<AtomicBool>,
}

enum Order {
    Exchange {
        to: Vec<Block>,
        lengths: Vec<usize>,
        done: Sender<Result<Vec<Block>, Error>>,
    },
    Fail {
        reason: String,
        done: Sender<bool>,
    },
}

impl Mpi {
    /// Starts MPI.
    ///
    /// # Errors
    /// [`Error::Library`] when MPI was started before in this process, or is built without
    /// threads.
    pub fn start() -> Result<Self, Error> {
        let (orders, inbox) = channel();
        let (ready, started) = channel();
        let failed = Arc::new(AtomicBool::new(false));
        let told = failed.clone();
        let thread = std::thread::Builder::new()
            .name("mpi".to_owned())
            .spawn(move || serve(&ready, inbox, told));
        let thread = thread.map_err(|e| fault(format!("no thread for it: {e}")))?;
        let started = started.recv();
        let (rank, size) = started.map_err(|_| fault("does not start".to_owned()))??;
        Ok(Self {
            rank,
            size,
            orders: Some(Mutex::new(orders)),
            thread: Some(thread),
            failed,
        })
    }

    fn order(&self, order: Order) -> Result<(), Error> {
        let orders = self
            .orders
            .as_ref()
            .ok_or_else(|| fault("has ended".to_owned()))?;
        let orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders
            .send(order)
            .map_err(|_| fault("has ended".to_owned()))
    }
}

fn fault(reason: String) -> Error {
    Error::Library {
        library: "MPI",
        reason,
    }
}

impl Group for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, to: Vec<Block>, lengths: Vec<usize>) -> Result<Pending, Error> {
        check(self.size, &to, &lengths)?;
        let (done, result) = channel();
        self.order(Order::Exchange { to, lengths, done })?;
        Ok(Pending::new(move || {
            let result = result.recv();
            result.unwrap_or_else(|_| Err(fault("has ended".to_owned())))
        }))
    }

    fn fail(&self, reason: &str) -> bool {
        let (done, said) = channel();
        let reason = reason.to_owned();
        match self.order(Order::Fail { reason, done }) {
            Ok(()) => said.recv().unwrap_or(true),
            Err(_) => true,
        }
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && !self.failed.load(Ordering::Acquire)
            && !std::thread::panicking()
        {
            drop(thread.join());
        }
    }
}

/// The thread that calls MPI.
fn serve(
    ready: &Sender<Result<(usize, usize), Error>>,
    inbox: Receiver<Order>,
    failed: Arc<AtomicBool>,
) {
    let Some((universe, level)) = mpi::initialize_with_threading(Threading::Funneled) else {
        drop(ready.send(Err(fault("was started before".to_owned()))));
        return;
    };
    if level < Threading::Funneled {
        let reason = "is built without threads; a build with MPI_THREAD_FUNNELED is needed";
        drop(ready.send(Err(fault(reason.to_owned()))));
        return;
    }
    let world = universe.world();
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    if ready.send(Ok((rank, size))).is_err() {
        return;
    }
    let talk = Talk {
        world,
        rank,
        size,
        inbox,
        failed,
    };
    while let Ok(order) = talk.inbox.recv() {
        match order {
            Order::Exchange { to, lengths, done } => talk.exchange(to, &lengths, &done),
            Order::Fail { reason, done } => talk.fail(&reason, &done),
        }
    }
}

struct Talk {
    world: SimpleCommunicator,
    rank: usize,
    size: usize,
    inbox: Receiver<Order>,
    failed: Arc<AtomicBool>,
}

impl Talk {
    fn exchange(
        &self,
        to: Vec<Block>,
        lengths: &[usize],
        done: &Sender<Result<Vec<Block>, Error>>,
    ) {
        let mut came: Vec<Vec<u8>> = (0..self.size)
            .map(|r| vec![0; if r == self.rank { 0 } else { lengths[r] }])
            .collect();
        mpi::request::scope(|scope| {
            let mut open = Vec::new();
            for (r, bytes) in came.iter_mut().enumerate() {
                let from = self.world.process_at_rank(r as i32);
                for part in bytes.chunks_mut(LARGEST) {
                    open.push(from.immediate_receive_into_with_tag(scope, part, EXCHANGE));
                }
            }
            let mut sent = Vec::new();
            for (r, bytes) in to.iter().enumerate().filter(|(r, _)| *r != self.rank) {
                let to = self.world.process_at_rank(r as i32);
                for part in bytes.chunks(LARGEST) {
                    sent.push(to.immediate_send_with_tag(scope, part, EXCHANGE));
                }
            }
            let mut wait = Wait::new();
            while !open.is_empty() || !sent.is_empty() {
                let before = open.len() + sent.len();
                open = open.into_iter().filter_map(|r| r.test().err()).collect();
                sent = sent.into_iter().filter_map(|r| r.test().err()).collect();
                if open.len() + sent.len() < before {
                    wait = Wait::new();
                } else if wait.is_long()
                    && let Some((rank, reason)) = self.heard()
                {
                    self.failed.store(true, Ordering::Release);
                    drop(done.send(Err(Error::Stopped { rank, reason })));
                    // What is under way never ends, nor may its memory be given back.
                    self.end();
                }
                wait.a_moment();
            }
        });
        let came = came.into_iter().zip(to).enumerate();
        let came = came.map(|(r, (came, own))| match r == self.rank {
            true => own,
            false => Arc::new(came),
        });
        drop(done.send(Ok(came.collect())));
    }

    /// The word of a rank that has failed, if there is one.
    fn heard(&self) -> Option<(usize, String)> {
        let any = self.world.any_process();
        let (message, _) = any.immediate_matched_probe_with_tag(FAILURE)?;
        let mut word = vec![0; WORD];
        let status = message.matched_receive_into(&mut word[..]);
        let end = word.iter().position(|b| *b == 0).unwrap_or(WORD);
        let reason = String::from_utf8_lossy(&word[..end]).into_owned();
        Some((status.source_rank() as usize, reason))
    }

    fn fail(&self, reason: &str, done: &Sender<bool>) {
        self.failed.store(true, Ordering::Release);
        let mut word = reason.as_bytes().to_vec();
        word.resize(WORD, 0);
        mpi::request::scope(|scope| {
            let others = (0..self.size).filter(|r| *r != self.rank);
            let mut open: Vec<_> = others
                .map(|r| {
                    let to = self.world.process_at_rank(r as i32);
                    to.immediate_send_with_tag(scope, &word[..], FAILURE)
                })
                .collect();
            let (since, mut said) = (Instant::now(), false);
            // The first has nobody to listen for, and speaks at once.
            while since.elapsed() < LAST_WORDS && !said && !(self.rank == 0 && open.is_empty()) {
                open = open.into_iter().filter_map(|r| r.test().err()).collect();
                let same = |(rank, other): &(usize, String)| {
                    *rank < self.rank && word.starts_with(other.as_bytes())
                };
                said = self.heard().as_ref().is_some_and(same);
                std::thread::sleep(Duration::from_millis(1));
            }
            done.send(!said).unwrap_or_default();
            self.end()
        });
    }

    /// Refuses all further orders until the process ends.
    fn end(&self) -> ! {
        loop {
            match self.inbox.recv() {
                Ok(Order::Exchange { done, .. }) => {
                    drop(done.send(Err(fault("has ended after a failure".to_owned()))));
                }
                Ok(Order::Fail { done, .. }) => done.send(true).unwrap_or_default(),
                Err(_) => std::thread::park(),
            }
        }
    }
}

/// Waiting: first by yielding, while data flow or are about to, then by sleeping.
struct Wait(Instant);

impl Wait {
    /// How long it looks without sleeping.
    const AWAKE: Duration = Duration::from_millis(2);

    fn new() -> Self {
        Self(Instant::now())
    }

    fn is_long(&self) -> bool {
        self.0.elapsed() > Self::AWAKE
    }

    fn a_moment(&self) {
        match self.is_long() {
            true => std::thread::sleep(Duration::from_micros(50)),
            false => std::thread::yield_now(),
        }
    }
}
