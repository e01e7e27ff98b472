//! Clips of a sliding window over a video of any length.

use std::collections::VecDeque;

use crate::ahead::Ahead;
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
    /// The window's frames, of all views of a multi-clip sampling
    /// ([`ClipOptions::views`](crate::ClipOptions::views)). Warnings are those met since the window before.
    pub clip: Clip,
}

/// Iterator over the windows of a video: see [`Video::windows`].
pub struct Windows {
    video: Video,
    options: WindowOptions,
    way: Way,
    done: bool,
}

/// How windows come about: planned ahead from time stamps, or, where packets
/// have none, from every frame decoded.
enum Way {
    Ahead(Box<Ahead>),
    Sequential(Box<Sequential>),
}

/// Bounds of window `k` in seconds.
pub fn bounds(options: &WindowOptions, k: u64) -> (f64, f64) {
    let start = options.clip.start.unwrap_or(0.0) + k as f64 * options.stride;
    let end = start + options.length;
    (start, options.clip.end.map_or(end, |e| end.min(e)))
}

/// Number of the first window that may hold a frame at `time`, however long
/// the gap before it.
pub fn first_reaching(options: &WindowOptions, time: f64) -> u64 {
    let (base, _) = bounds(options, 0);
    let reach = (time - options.length - base) / options.stride;
    // A saturating cast; one window early is checked and skipped.
    reach.max(0.0) as u64
}

/// Windows of a stream without time stamps: every frame of the window in hand
/// is decoded, resized and kept.
struct Sequential {
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
        let way = match Ahead::new(&mut video)? {
            Some(ahead) => Way::Ahead(Box::new(ahead)),
            None => Way::Sequential(Box::new(Sequential::new(&mut video)?)),
        };
        Ok(Self {
            video,
            options: options.clone(),
            way,
            done: false,
        })
    }

    /// The video that is read.
    pub fn video(&self) -> &Video {
        &self.video
    }
}

impl Sequential {
    fn new(video: &mut Video) -> Result<Self> {
        Ok(Self {
            sequence: Sequence::new(video)?,
            room: Darkroom::new(),
            stamps: VecDeque::new(),
            next: 0,
            ended: false,
            done: false,
        })
    }

    /// Decodes until a frame at or after `end`; keeps what is at or after
    /// `start`.
    fn fill(
        &mut self,
        video: &mut Video,
        options: &WindowOptions,
        start: f64,
        end: f64,
    ) -> Result<()> {
        let options = &options.clip;
        while !self.ended
            && self
                .stamps
                .back()
                .is_none_or(|&(_, t)| within(t, None, Some(end)))
        {
            let Some(d) = self.sequence.next(video)? else {
                self.ended = true;
                break;
            };
            if within(d.time, Some(start), options.end) {
                self.stamps.push_back((d.index, d.time));
                let warnings = &mut self.sequence.warnings;
                self.room
                    .add(video, options, d.index, d.time, d.frame, warnings)?;
            } else if !within(d.time, None, options.end) {
                self.ended = true;
            }
        }
        Ok(())
    }

    fn next(&mut self, video: &mut Video, options: &WindowOptions) -> Result<Option<WindowClip>> {
        if self.done {
            return Ok(None);
        }
        loop {
            let k = self.next;
            let (start, end) = bounds(options, k);
            self.forget(start);
            self.fill(video, options, start, end)?;
            if self.sequence.count() == 0 {
                return Err(self.sequence.nothing(video));
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
                self.next = first_reaching(options, time).max(k + 1);
                continue;
            }
            self.next = k + 1;
            self.done = self.ended && after.is_none();
            self.room.develop(video, &options.clip)?;
            let picks: Vec<u64> = picks(video, &options.clip, inside.len() as u64)?
                .into_iter()
                .map(|i| inside[i as usize])
                .collect();
            let warnings = std::mem::take(&mut self.sequence.warnings);
            return Ok(Some(WindowClip {
                index: k,
                start,
                end,
                clip: assemble(&self.room.shots, &picks, &options.clip, warnings),
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
        let (video, options) = (&mut self.video, &self.options);
        let item = match &mut self.way {
            Way::Ahead(way) => way.next(video, options),
            Way::Sequential(way) => way.next(video, options),
        }
        .transpose();
        self.done |= !matches!(item, Some(Ok(_)));
        item
    }
}
