//! Work done ahead in the background: in order, with a bound on how far.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An iterator whose items are made by background threads, at most `ahead` of
/// them before they are asked for.
pub struct Prefetch<T> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
    jobs: usize,
    waited: Duration,
    worked: Duration,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Something was made, or all is over.
    made: Condvar,
    /// Something was taken, or all is over.
    taken: Condvar,
}

struct State<T> {
    /// Each with the time that it took to make.
    ready: BTreeMap<usize, (std::thread::Result<T>, Duration)>,
    /// The next job to be started.
    next_job: usize,
    /// How many items were taken.
    taken: usize,
    stop: bool,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts `threads` threads (1 or more) that make items `0..jobs` with `make`.
    pub fn new(
        jobs: usize,
        threads: usize,
        ahead: usize,
        make: impl Fn(usize) -> T + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                ready: BTreeMap::new(),
                next_job: 0,
                taken: 0,
                stop: false,
            }),
            made: Condvar::new(),
            taken: Condvar::new(),
        });
        let make = Arc::new(make);
        let ahead = ahead.max(1);
        let threads = (0..threads.clamp(1, jobs.max(1)))
            .map(|_| {
                let (shared, make) = (shared.clone(), make.clone());
                std::thread::spawn(move || shared.work(jobs, ahead, &*make))
            })
            .collect();
        Self {
            shared,
            threads,
            next: 0,
            jobs,
            waited: Duration::ZERO,
            worked: Duration::ZERO,
        }
    }

    /// How long [`Iterator::next`] has waited for items so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How long the threads have worked on the items that were taken, all together.
    pub fn worked(&self) -> Duration {
        self.worked
    }
}

impl<T> Shared<T> {
    fn work(&self, jobs: usize, ahead: usize, make: &(impl Fn(usize) -> T + ?Sized)) {
        loop {
            let job = {
                let mut state = self.lock();
                while !state.stop && state.next_job < jobs && state.next_job >= state.taken + ahead
                {
                    state = self
                        .taken
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                if state.stop || state.next_job >= jobs {
                    return;
                }
                state.next_job += 1;
                state.next_job - 1
            };
            let since = Instant::now();
            // A panic is the consumer's to see, not a wait without an end.
            let item = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| make(job)));
            self.lock().ready.insert(job, (item, since.elapsed()));
            self.made.notify_all();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Iterator for Prefetch<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.next == self.jobs {
            return None;
        }
        let since = Instant::now();
        let (item, took) = {
            let mut state = self.shared.lock();
            loop {
                if let Some(item) = state.ready.remove(&self.next) {
                    state.taken += 1;
                    break item;
                }
                state = self
                    .shared
                    .made
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        };
        self.shared.taken.notify_all();
        self.waited += since.elapsed();
        self.worked += took;
        self.next += 1;
        match item {
            Ok(item) => Some(item),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.taken.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of the thread's own code was handed over with its item.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn items_come_in_order_and_no_more_are_made_than_allowed() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = made.clone();
        let mut items = Prefetch::new(50, 3, 4, move |i| {
            counter.fetch_add(1, Ordering::SeqCst);
            if i % 7 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            i
        });
        for want in 0..20 {
            assert_eq!(items.next(), Some(want));
            assert!(made.load(Ordering::SeqCst) <= want + 1 + 4 + 3);
        }
        drop(items);
        assert!(made.load(Ordering::SeqCst) < 50);
    }

    #[test]
    fn nothing_to_do_and_more_threads_than_work() {
        assert_eq!(Prefetch::new(0, 2, 2, |i| i).count(), 0);
        assert_eq!(Prefetch::new(2, 8, 8, |i| i).collect::<Vec<_>>(), [0, 1]);
    }
}
