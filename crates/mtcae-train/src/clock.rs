//! Where the time of training goes.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Seconds of a step or of an epoch, and what they were spent on. `wait`, `forward`,
/// `backward`, `reduce`, `update` and `rest` follow each other and add up to the whole;
/// `decode` goes on beside them, on threads of its own.
///
/// A GPU works behind the program's back, and waiting for it between forward and backward would
/// only slow it down: there `forward` is the time that its launches took, and what the GPU still
/// had to do then is in `backward`, which ends when all of a step's gradients are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// Seconds that the threads in the background spent on decoding and varying clips, all
    /// threads together.
    pub decode: f64,
    /// Waiting for clips.
    pub wait: f64,
    /// Forward passes; bringing clips to the device is a part of them.
    pub forward: f64,
    /// Backward passes, sums of gradients over the batches of a step, and their norm.
    pub backward: f64,
    /// Exchange with other processes, and waiting for those that are slower; next to nothing of
    /// one alone.
    pub reduce: f64,
    /// Moving the weights, and their average.
    pub update: f64,
    /// All else, as checks of the weights, logs and saved states.
    pub rest: f64,
}

/// Adds up time. Part of the saved state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Clock {
    pub seconds: f64,
    #[serde(rename = "waited")]
    pub wait: f64,
    #[serde(default)]
    pub decode: f64,
    #[serde(default)]
    pub forward: f64,
    #[serde(default)]
    pub backward: f64,
    #[serde(default)]
    pub reduce: f64,
    #[serde(default)]
    pub update: f64,
}

impl Clock {
    /// Adds other time.
    pub fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.wait += other.wait;
        self.decode += other.decode;
        self.forward += other.forward;
        self.backward += other.backward;
        self.reduce += other.reduce;
        self.update += other.update;
    }

    /// What the time was spent on.
    pub fn parts(&self) -> Parts {
        let named = self.wait + self.forward + self.backward + self.reduce + self.update;
        Parts {
            decode: self.decode,
            wait: self.wait,
            forward: self.forward,
            backward: self.backward,
            reduce: self.reduce,
            update: self.update,
            rest: (self.seconds - named).max(0.0),
        }
    }

    /// The share of it that was spent on waiting for clips.
    pub fn waiting(&self) -> f64 {
        self.wait / self.seconds.max(1e-9)
    }

    /// So many things a second.
    pub fn rate(&self, things: f64) -> f64 {
        things / self.seconds.max(1e-9)
    }
}

/// Does something and adds the seconds that it took.
pub(crate) fn timed<R>(seconds: &mut f64, work: impl FnOnce() -> R) -> R {
    let since = Instant::now();
    let done = work();
    *seconds += since.elapsed().as_secs_f64();
    done
}

/// The time that is left of work whose units take about equally long: by the rate of the last
/// minutes, in which what is old counts ever less.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// Units that are to be done.
    todo: f64,
    /// Units done and seconds spent, older ones fading.
    units: f64,
    seconds: f64,
}

/// Seconds after which what was measured counts for 1/e.
const FADES: f64 = 300.0;

impl Left {
    /// So many units are to be done from now on.
    pub fn todo(&mut self, units: u64) {
        self.todo = units as f64;
    }

    /// So many of them have been done in so long, all that came between counted in.
    pub fn done(&mut self, units: u64, took: Duration) {
        let (units, took) = (units as f64, took.as_secs_f64());
        let keeps = (-took / FADES).exp();
        self.units = self.units * keeps + units;
        self.seconds = self.seconds * keeps + took;
        self.todo = (self.todo - units).max(0.0);
    }

    /// How long the rest takes; `None` before anything was done.
    pub fn time(&self) -> Option<Duration> {
        let seconds = self.todo * self.seconds / self.units;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        let mut clock = Clock {
            seconds: 10.0,
            wait: 1.0,
            decode: 20.0,
            forward: 2.0,
            backward: 3.0,
            reduce: 0.5,
            update: 0.25,
        };
        let parts = clock.parts();
        let sum = parts.wait + parts.forward + parts.backward + parts.reduce + parts.update;
        assert_eq!(sum + parts.rest, 10.0);
        clock.add(&clock.clone());
        assert_eq!(clock.parts().rest, 2.0 * parts.rest);
        assert_eq!((clock.waiting(), clock.rate(40.0)), (0.1, 2.0));
    }

    #[test]
    fn what_is_left_follows_the_rate_and_forgets_what_was() {
        let mut left = Left::default();
        left.todo(2000);
        assert_eq!(left.time(), None);
        for _ in 0..100 {
            left.done(1, Duration::from_secs(2));
        }
        let seconds = |left: &Left| left.time().expect("known").as_secs_f64();
        assert!((seconds(&left) - 3800.0).abs() < 1e-6);
        // Four times as fast from now on: after ten minutes that alone is known.
        for _ in 0..1200 {
            left.done(1, Duration::from_millis(500));
        }
        assert!(
            (350.0..450.0).contains(&seconds(&left)),
            "{}",
            seconds(&left)
        );
        left.todo(0);
        assert_eq!(left.time(), Some(Duration::ZERO));
    }
}
