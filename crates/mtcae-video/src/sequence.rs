//! All frames of a video in order, numbered and timed: what full-size frames
//! and sequential decoding share.

use crate::clip::Warning;
use crate::error::{Error, Result};
use crate::ffi::decoder::Frame;
use crate::ffi::input::Packet;
use crate::ffi::reason;
use crate::pump::{Event, Faults, Pump};
use crate::shrink::warn;
use crate::video::Video;

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
        video: &Video,
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
        let mut known = frame.pts().map(|p| video.time_of(p));
        if self.untimed && index == 0 {
            self.origin = known.unwrap_or(0.0);
        }
        known = known.map(|t| t - self.origin);
        let time = match (known, self.last) {
            (Some(t), None) => t,
            (Some(t), Some(last)) if t > last => t,
            (_, last) => {
                let fps = video.info.fps;
                warn(warnings, Warning::GuessedTimes { fps });
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
    pub fn new(video: &mut Video) -> Result<Self> {
        video.rewind()?;
        Ok(Self {
            pump: Pump::new(video.decoder()?),
            clock: Clock::new(false),
            drained: false,
            warnings: video.info.warnings.clone(),
        })
    }

    /// The next frame; `Ok(None)` at the end.
    pub fn next(&mut self, video: &mut Video) -> Result<Option<Decoded>> {
        loop {
            while let Some(event) = self.pump.out.pop_front() {
                if let Some(d) = self.clock.stamp(video, event, &mut self.warnings) {
                    return Ok(Some(d));
                }
            }
            if self.drained {
                self.clock.finish(&mut self.warnings);
                return Ok(None);
            }
            match self.read(video)? {
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

    fn read(&mut self, video: &mut Video) -> Result<Option<Packet>> {
        video.started = true;
        match video.input.read() {
            Ok(Some(p)) if p.is_encrypted() => Err(Error::Encrypted {
                path: video.path.clone(),
            }),
            Ok(p) => Ok(p),
            Err(code) => {
                self.warnings.push(Warning::ReadError {
                    time: self.clock.last(),
                    reason: reason(code),
                });
                Ok(None)
            }
        }
    }

    /// The error when nothing decoded at all.
    pub fn nothing(&self, video: &Video) -> Error {
        no_frames(video, &self.warnings)
    }

    /// Frames so far.
    pub fn count(&self) -> u64 {
        self.clock.count()
    }
}

/// The error of a video of which nothing decodes.
pub fn no_frames(video: &Video, warnings: &[Warning]) -> Error {
    let mut reason = warnings
        .iter()
        .find(|w| matches!(w, Warning::DecodeError { .. } | Warning::ReadError { .. }))
        .map_or_else(|| "the stream is empty".into(), ToString::to_string);
    if video.info.geometry.width == 0 {
        // The decoder refuses sizes over the limit before it tells them.
        let limit = video.budget.pixels(video.input.parameters().codec_id);
        reason += &format!("; no size is known: it is damaged or over the limit of {limit} pixels");
    }
    Error::NoFrames {
        path: video.path.clone(),
        reason,
    }
}
