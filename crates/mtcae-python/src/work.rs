//! Work on a thread of its own, while the interpreter goes on and heeds signals.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::errors::fault;

/// How long a signal waits for the interpreter to look.
const LOOK: Duration = Duration::from_millis(50);

/// The process that this module was last used in.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// Jobs that run in it.
static RUNNING: AtomicUsize = AtomicUsize::new(0);
/// Whether it was forked while a job ran, whose thread and locks it then lacks.
static TORN: AtomicBool = AtomicBool::new(false);

/// Notes a fork, and refuses to go on where it cut through a job.
///
/// # Errors
/// `RuntimeError`.
pub fn heed_fork() -> PyResult<()> {
    let now = std::process::id();
    let before = PROCESS.swap(now, Ordering::SeqCst);
    if before != 0 && before != now && RUNNING.swap(0, Ordering::SeqCst) > 0 {
        TORN.store(true, Ordering::SeqCst);
    }
    match TORN.load(Ordering::SeqCst) {
        false => Ok(()),
        true => Err(PyRuntimeError::new_err(
            "the process was forked while mtcae was at work in another thread, which the fork \
             does not have: fork before the work begins or after it is done, or start \
             processes by the method `spawn`",
        )),
    }
}

/// A pool of threads that is made anew in a forked process, which has none of them.
pub struct Pool {
    threads: usize,
    made: RwLock<(u32, Arc<ThreadPool>)>,
}

impl Pool {
    /// A pool of so many threads; `None` for one a core, or as many as `RAYON_NUM_THREADS`
    /// says.
    ///
    /// # Errors
    /// `ArgumentError` for none or more than 1024 of them, or what the system says.
    pub fn new(py: Python<'_>, threads: Option<usize>) -> PyResult<Self> {
        heed_fork()?;
        if threads.is_some_and(|n| !(1..=1024).contains(&n)) {
            let text = "threads: must be at least 1 and at most 1024";
            return Err(fault(py, "ArgumentError", text));
        }
        let threads = threads.unwrap_or(0);
        let pool = make(py, threads)?;
        Ok(Self {
            threads,
            made: RwLock::new((std::process::id(), pool)),
        })
    }

    /// The pool of this process.
    ///
    /// # Errors
    /// As [`heed_fork`], or what the system says.
    pub fn get(&self, py: Python<'_>) -> PyResult<Arc<ThreadPool>> {
        heed_fork()?;
        let now = std::process::id();
        let (process, pool) = {
            let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
            (made.0, made.1.clone())
        };
        if process == now {
            return Ok(pool);
        }
        // Its threads are the parent's: nobody could end them here.
        std::mem::forget(pool);
        let pool = make(py, self.threads)?;
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        *made = (now, pool.clone());
        Ok(pool)
    }
}

fn make(py: Python<'_>, threads: usize) -> PyResult<Arc<ThreadPool>> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|e| fault(py, "Error", &format!("threads: {e}")))?;
    Ok(Arc::new(pool))
}

/// What a job says while it runs.
pub enum Event<T> {
    /// So much of so much is done; `None` where the end is not known.
    Reached(f64, Option<f64>),
    /// It is over.
    Done(T),
}

/// A job's way to say how far it is, and to hear whether anybody still wants to know.
pub struct Teller<T> {
    events: Sender<Event<T>>,
    stop: Arc<AtomicBool>,
}

impl<T> Teller<T> {
    /// Says that so much of so much is done; breaks where the job is to end.
    pub fn reached(&self, done: f64, total: Option<f64>) -> ControlFlow<()> {
        let told = self.events.send(Event::Reached(done, total));
        match self.stop.load(Ordering::Relaxed) || told.is_err() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Counts a job from when it begins until its thread is done with it.
pub struct Running(());

impl Running {
    /// One more.
    pub fn begin() -> Self {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Starts a thread for a job.
///
/// # Errors
/// `RuntimeError` where the system has none.
pub fn start(name: &str, job: impl FnOnce() + Send + 'static) -> PyResult<()> {
    let running = Running::begin();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || {
        let _running = running;
        job();
    });
    match started {
        Ok(_) => Ok(()),
        Err(e) => Err(PyRuntimeError::new_err(format!("no thread: {e}"))),
    }
}

/// Runs a job on a thread of its own without the interpreter's lock. While it runs, signals
/// are looked for every 50 ms and `told` is called with how far it is, as `progress(done,
/// total)`. An exception of either ends the waiting at once; the job itself ends where it next
/// says how far it is, or when it is done, and what it says then is dropped.
///
/// # Errors
/// What a handler of signals or `told` raise, and `RuntimeError` where the job panics.
pub fn run<T: Send + 'static>(
    py: Python<'_>,
    told: Option<&Bound<'_, PyAny>>,
    job: impl FnOnce(&Teller<T>) -> T + Send + 'static,
) -> PyResult<T> {
    heed_fork()?;
    let (sender, mut events) = channel();
    let stop = Arc::new(AtomicBool::new(false));
    let teller = Teller {
        events: sender,
        stop: stop.clone(),
    };
    start("mtcae", move || {
        let said = job(&teller);
        // Nobody may listen any more.
        drop(teller.events.send(Event::Done(said)));
    })?;
    let waited = wait(py, &mut events, told);
    if waited.is_err() {
        stop.store(true, Ordering::Relaxed);
    }
    waited
}

fn wait<T: Send>(
    py: Python<'_>,
    events: &mut Receiver<Event<T>>,
    told: Option<&Bound<'_, PyAny>>,
) -> PyResult<T> {
    loop {
        match next(py, events)? {
            Event::Done(said) => return Ok(said),
            Event::Reached(done, total) => {
                if let Some(told) = told {
                    told.call1((done, total))?;
                }
            }
        }
    }
}

/// The next of what a thread sends, without the interpreter's lock and heeding signals.
///
/// # Errors
/// What a handler of signals raises, and `RuntimeError` where the thread ended without a word.
pub fn next<T: Send>(py: Python<'_>, events: &mut Receiver<T>) -> PyResult<T> {
    loop {
        let from = &mut *events;
        let event = py.detach(move || from.recv_timeout(LOOK));
        py.check_signals()?;
        match event {
            Ok(event) => return Ok(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(broken()),
        }
    }
}

/// What is said where a job ended without a word, which no input should bring about.
fn broken() -> PyErr {
    PyRuntimeError::new_err("mtcae failed in a way that it has no words for; please report it")
}
