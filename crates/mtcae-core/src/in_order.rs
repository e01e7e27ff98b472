//! Work that is done side by side and taken in its order.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Condvar, Mutex, PoisonError};

/// What the workers share.
struct State<T> {
    /// Next number to work on.
    next: usize,
    /// Next number to be taken.
    turn: usize,
    /// Done out of turn.
    waiting: BTreeMap<usize, T>,
    /// Whether the taker has enough or a worker died: nobody begins another.
    stopped: bool,
}

/// Stops the others when its worker dies, so that nobody waits for ever.
struct Alarm<'a, T>(&'a Mutex<State<T>>, &'a Condvar);

impl<T> Drop for Alarm<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.stopped = true;
            self.1.notify_all();
        }
    }
}

/// Does the work of these numbers with `make` on `jobs` threads, and gives each result to
/// `take` on this one, in the order of the numbers, until it breaks. At most 2·`jobs` results
/// wait for their turn.
pub fn in_order<T: Send>(
    numbers: Range<usize>,
    jobs: usize,
    make: impl Fn(usize) -> T + Sync,
    mut take: impl FnMut(usize, T) -> ControlFlow<()>,
) {
    let jobs = jobs.max(1);
    let state = Mutex::new(State {
        next: numbers.start,
        turn: numbers.start,
        waiting: BTreeMap::new(),
        stopped: false,
    });
    let changed = Condvar::new();
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let wait = |guard| changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(numbers.len()) {
            scope.spawn(|| {
                let _alarm = Alarm(&state, &changed);
                loop {
                    let mut s = lock();
                    while !s.stopped && s.next < numbers.end && s.next >= s.turn + 2 * jobs {
                        s = wait(s);
                    }
                    if s.stopped || s.next >= numbers.end {
                        return;
                    }
                    let number = s.next;
                    s.next += 1;
                    drop(s);
                    let made = make(number);
                    lock().waiting.insert(number, made);
                    changed.notify_all();
                }
            });
        }
        for number in numbers.clone() {
            let mut s = lock();
            let made = loop {
                if let Some(made) = s.waiting.remove(&number) {
                    break made;
                }
                if s.stopped {
                    return;
                }
                s = wait(s);
            };
            drop(s);
            let enough = take(number, made).is_break();
            let mut s = lock();
            s.turn = number + 1;
            s.stopped |= enough;
            drop(s);
            changed.notify_all();
            if enough {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order_whatever_is_done_first() {
        for jobs in [0, 1, 3, 64] {
            let mut taken = Vec::new();
            let make = |i: usize| {
                std::thread::sleep(Duration::from_micros((i as u64 * 37) % 200));
                i * i
            };
            in_order(3..40, jobs, make, |i, square| {
                taken.push((i, square));
                ControlFlow::Continue(())
            });
            let all: Vec<_> = (3..40).map(|i| (i, i * i)).collect();
            assert_eq!(taken, all);
        }
    }

    #[test]
    fn it_ends_where_the_taker_has_enough() {
        let mut taken = 0;
        in_order(
            0..usize::MAX,
            2,
            |i| i,
            |i, _| {
                taken += 1;
                match i {
                    7 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            },
        );
        assert_eq!(taken, 8);
    }
}
