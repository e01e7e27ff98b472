//! Clips of a sliding window over a video of any length.

use std::collections::VecDeque;

use crate::clip::Clip;
use crate::decode::{Darkroom, assemble, check, picks, within};
use crate::error::{Error, Result};
use crate::options::WindowOptions;
use crate::sequence::Sequence;
use crate::video::Video;

/// One window's clip.
#[derive(Clone, Debug)]
pub struct WindowClip {
    /// Number of the window: it starts at `index · stride`.
    pub index: u64,
    /// Seconds from the stream's start.
    pub start: f64,
    /// Seconds, exclusive; may lie past the end of the video.
    pub end: f64,
    /// The window's frames. Warnings are those met since the window before.
    pub clip: Clip,
}

/// Iterator over the windows of a video: see [`Video::windows`].
pub struct Windows {
    video: Video,
    options: WindowOptions,
    sequence: Sequence,
    /// Shrunk frames that this or a later window may want, by number.
    room: Darkroom,
    stamps: VecDeque<(u64, f64)>,
    next: u64,
    ended: bool,
    done: bool,
}

impl Windows {
    pub(crate) fn new(mut video: Video, options: &WindowOptions) -> Result<Self> {
        check(&video, &options.clip)?;
        for (option, v) in [("length", options.length), ("stride", options.stride)] {
            if !(v.is_finite() && v > 0.0) {
                return Err(Error::Option {
                    path: video.path.clone(),
                    option,
                    got: v.to_string(),
                    want: "a finite number of seconds above 0",
                });
            }
        }
        let sequence = Sequence::new(&mut video)?;
        Ok(Self {
            video,
            options: options.clone(),
            sequence,
            room: Darkroom::new(),
            stamps: VecDeque::new(),
            next: 0,
            ended: false,
            done: false,
        })
    }

    /// The video that is read.
    pub fn video(&self) -> &Video {
        &self.video
    }

    /// Bounds of window `k`.
    fn bounds(&self, k: u64) -> (f64, f64) {
        let clip = &self.options.clip;
        let start = clip.start.unwrap_or(0.0) + k as f64 * self.options.stride;
        let end = start + self.options.length;
        (start, clip.end.map_or(end, |e| end.min(e)))
    }

    /// Decodes until a frame at or after `end`; keeps what is at or after
    /// `start`.
    fn fill(&mut self, start: f64, end: f64) -> Result<()> {
        let options = &self.options.clip;
        while !self.ended
            && self
                .stamps
                .back()
                .is_none_or(|&(_, t)| within(t, None, Some(end)))
        {
            let Some(d) = self.sequence.next(&mut self.video)? else {
                self.ended = true;
                break;
            };
            if within(d.time, Some(start), options.end) {
                self.stamps.push_back((d.index, d.time));
                let warnings = &mut self.sequence.warnings;
                self.room
                    .add(&self.video, options, d.index, d.time, d.frame, warnings)?;
            } else if !within(d.time, None, options.end) {
                self.ended = true;
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<WindowClip>> {
        loop {
            let k = self.next;
            let (start, end) = self.bounds(k);
            self.forget(start);
            self.fill(start, end)?;
            if self.sequence.count() == 0 {
                return Err(self.sequence.nothing(&self.video));
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
                // Nothing until `time`: go to the first window that may hold
                // it, however long the gap.
                let (base, _) = self.bounds(0);
                let reach = (time - self.options.length - base) / self.options.stride;
                self.next = (k + 1).max(reach.max(0.0) as u64);
                continue;
            }
            self.next = k + 1;
            self.done = self.ended && after.is_none();
            self.room.develop(&self.video, &self.options.clip)?;
            let picks: Vec<u64> = picks(&self.video, &self.options.clip, inside.len() as u64)?
                .into_iter()
                .map(|i| inside[i as usize])
                .collect();
            let warnings = std::mem::take(&mut self.sequence.warnings);
            return Ok(Some(WindowClip {
                index: k,
                start,
                end,
                clip: assemble(&self.room.shots, &picks, &self.options.clip, warnings),
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

impl Iterator for Windows {
    type Item = Result<WindowClip>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.step().transpose();
        self.done |= !matches!(item, Some(Ok(_)));
        item
    }
}
