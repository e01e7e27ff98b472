//! All frames of a video in order, numbered and timed: what full-size frames
//! and sequential decoding share.

use crate::clip::Warning;
use crate::demuxer::Demuxer;
use crate::error::{Error, Result};
use crate::ffi::decoder::Frame;
use crate::pump::{Event, Faults, Pump};

/// A decoded frame with its place in the stream.
pub struct Decoded {
    pub frame: Frame,
    pub index: u64,
    pub time: f64,
}

/// Gives frames their numbers and times.
pub struct Clock {
    next: u64,
    last: Option<f64>,
    /// Packets without time stamps (AVI with B-frames): the decoder's guesses
    /// may start late, so that times count from the first frame.
    pub untimed: bool,
    origin: f64,
    faults: Faults,
}

impl Clock {
    pub fn new(untimed: bool) -> Self {
        Self {
            next: 0,
            last: None,
            untimed,
            origin: 0.0,
            faults: Faults::default(),
        }
    }

    /// Number and time of one event; `None` for a fault.
    pub fn stamp(
        &mut self,
        demuxer: &Demuxer,
        event: Event,
        warnings: &mut Vec<Warning>,
    ) -> Option<Decoded> {
        let frame = match event {
            Event::Frame(f) => f,
            Event::Fault(code) => {
                self.faults.fault(code);
                return None;
            }
        };
        let index = self.next;
        self.next += 1;
        let mut known = frame.pts().map(|p| demuxer.time_of(p));
        if self.untimed && index == 0 {
            self.origin = known.unwrap_or(0.0);
        }
        known = known.map(|t| t - self.origin);
        let time = match (known, self.last) {
            (Some(t), None) => t,
            (Some(t), Some(last)) if t > last => t,
            (_, last) => {
                let fps = demuxer.info.fps;
                Warning::GuessedTimes { fps }.add_to(warnings);
                last.map_or(0.0, |l| l + 1.0 / fps)
            }
        };
        self.last = Some(time);
        self.faults.good(time, warnings);
        if frame.is_corrupt() {
            Warning::corrupt(index, time).add_to(warnings);
        }
        Some(Decoded { frame, index, time })
    }

    pub fn finish(&mut self, warnings: &mut Vec<Warning>) {
        self.faults.finish(warnings);
    }

    /// Time of the last frame.
    pub fn last(&self) -> f64 {
        self.last.unwrap_or(0.0)
    }

    /// Frames so far.
    pub fn count(&self) -> u64 {
        self.next
    }
}

/// Frame after frame, straight from the demuxer.
pub struct Sequence {
    pump: Pump,
    clock: Clock,
    drained: bool,
    pub warnings: Vec<Warning>,
}

impl Sequence {
    pub fn new(demuxer: &mut Demuxer) -> Result<Self> {
        demuxer.rewind()?;
        Ok(Self {
            pump: Pump::open(demuxer)?,
            clock: Clock::new(false),
            drained: false,
            warnings: demuxer.info.warnings.clone(),
        })
    }

    /// The next frame; `Ok(None)` at the end.
    pub fn next(&mut self, demuxer: &mut Demuxer) -> Result<Option<Decoded>> {
        loop {
            while let Some(event) = self.pump.out.pop_front() {
                if let Some(d) = self.clock.stamp(demuxer, event, &mut self.warnings) {
                    return Ok(Some(d));
                }
            }
            if self.drained {
                self.clock.finish(&mut self.warnings);
                return Ok(None);
            }
            match demuxer.next(self.clock.last(), &mut self.warnings)? {
                Some(packet) => {
                    self.clock.untimed |= packet.pts().is_none();
                    self.pump.push(&packet, false);
                }
                None => {
                    self.pump.drain();
                    self.drained = true;
                }
            }
        }
    }

    /// The error when nothing decoded at all.
    pub fn nothing(&self, demuxer: &Demuxer) -> Error {
        demuxer.no_frames(&self.warnings)
    }

    /// Frames so far.
    pub fn count(&self) -> u64 {
        self.clock.count()
    }
}
