//! Clips of a sliding window over a video of any length.

use std::collections::VecDeque;

use crate::ahead::Ahead;
use crate::choose::{check, picks, within};
use crate::clip::WindowClip;
use crate::darkroom::{Darkroom, Watch};
use crate::demuxer::Demuxer;
use crate::error::{Fault, Result};
use crate::options::WindowOptions;
use crate::sequence::Sequence;

/// How windows come about: planned ahead from time stamps, or, where packets
/// have none, from every frame decoded.
pub enum Way {
    Ahead(Box<Ahead>),
    Sequential(Box<Sequential>),
}

/// Windows of a stream without time stamps: every frame of the window in hand
/// is decoded, resized and kept.
pub struct Sequential {
    options: WindowOptions,
    sequence: Sequence,
    /// Shrunk frames that this or a later window may want, by number.
    room: Darkroom,
    stamps: VecDeque<(u64, f64)>,
    next: u64,
    ended: bool,
    done: bool,
}

impl Way {
    pub fn new(
        demuxer: &mut Demuxer,
        options: &WindowOptions,
        watch: Option<&Watch>,
    ) -> Result<Self> {
        check(demuxer, &options.clip)?;
        for (option, v) in [("length", options.length), ("stride", options.stride)] {
            if !(v.is_finite() && v > 0.0) {
                return Err(Fault::Option {
                    option,
                    got: v.to_string(),
                    want: "a finite number of seconds above 0",
                }
                .of(&demuxer.path));
            }
        }
        Ok(match Ahead::new(demuxer, options, watch)? {
            Some(ahead) => Self::Ahead(Box::new(ahead)),
            None => Self::Sequential(Box::new(Sequential::new(demuxer, options, watch)?)),
        })
    }

    /// The next window; `Ok(None)` after the last.
    pub fn next(&mut self, demuxer: &mut Demuxer) -> Result<Option<WindowClip>> {
        match self {
            Self::Ahead(way) => way.next(demuxer),
            Self::Sequential(way) => way.next(demuxer),
        }
    }
}

impl Sequential {
    fn new(demuxer: &mut Demuxer, options: &WindowOptions, watch: Option<&Watch>) -> Result<Self> {
        Ok(Self {
            options: options.clone(),
            sequence: Sequence::new(demuxer)?,
            room: Darkroom::new(&options.clip, watch),
            stamps: VecDeque::new(),
            next: 0,
            ended: false,
            done: false,
        })
    }

    /// Decodes until a frame at or after `end`; keeps what is at or after
    /// `start`.
    fn fill(&mut self, demuxer: &mut Demuxer, start: f64, end: f64) -> Result<()> {
        let last = self.options.clip.end;
        while !self.ended
            && self
                .stamps
                .back()
                .is_none_or(|&(_, t)| within(t, None, Some(end)))
        {
            let Some(d) = self.sequence.next(demuxer)? else {
                self.ended = true;
                break;
            };
            if within(d.time, Some(start), last) {
                self.stamps.push_back((d.index, d.time));
                let warnings = &mut self.sequence.warnings;
                self.room.add(demuxer, d.index, d.time, d.frame, warnings)?;
            } else if !within(d.time, None, last) {
                self.ended = true;
            }
        }
        Ok(())
    }

    fn next(&mut self, demuxer: &mut Demuxer) -> Result<Option<WindowClip>> {
        if self.done {
            return Ok(None);
        }
        loop {
            let k = self.next;
            let (start, end) = self.options.bounds(k);
            self.forget(start);
            self.fill(demuxer, start, end)?;
            if self.sequence.count() == 0 {
                return Err(self.sequence.nothing(demuxer));
            }
            let inside: Vec<u64> = self
                .stamps
                .iter()
                .filter(|s| within(s.1, Some(start), Some(end)))
                .map(|s| s.0)
                .collect();
            let after = self.stamps.iter().find(|s| !within(s.1, None, Some(end)));
            if inside.is_empty() {
                let Some(&(_, time)) = after else {
                    return Ok(None);
                };
                self.next = self.options.first_reaching(time).max(k + 1);
                continue;
            }
            self.next = k + 1;
            self.done = self.ended && after.is_none();
            self.room.develop(demuxer)?;
            let picks: Vec<u64> = picks(demuxer, &self.options.clip, inside.len() as u64)?
                .into_iter()
                .map(|i| inside[i as usize])
                .collect();
            let warnings = std::mem::take(&mut self.sequence.warnings);
            return Ok(Some(WindowClip {
                index: k,
                start,
                end,
                views: self.room.views(&picks, &warnings),
            }));
        }
    }

    /// Lets go of frames before `start`.
    fn forget(&mut self, start: f64) {
        while let Some(&(index, time)) = self.stamps.front() {
            if within(time, Some(start), None) {
                break;
            }
            self.stamps.pop_front();
            self.room.shots.remove(&index);
        }
    }
}
