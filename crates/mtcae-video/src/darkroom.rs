//! Decoded frames on their way to a clip.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{Array3, Array4, Axis};
use rayon::prelude::*;

use crate::clip::{Clip, Warning};
use crate::demuxer::Demuxer;
use crate::error::{Fault, Result};
use crate::ffi::convert::{LARGE, assumptions};
use crate::ffi::decoder::Frame;
use crate::frames::FullFrame;
use crate::geometry::Geometry;
use crate::options::ClipOptions;
use crate::shrink::{ShrinkFault, geometry, shrink};

/// Who is shown the frames that clips are made of.
pub type Watch = Arc<dyn Fn(FullFrame) + Send + Sync>;

/// A finished frame.
pub struct Shot {
    pub pixels: Array3<u8>,
    pub source: Geometry,
    pub time: f64,
}

/// Decoded frames on their way to shots, converted several at a time.
pub struct Darkroom {
    options: ClipOptions,
    watch: Option<Watch>,
    waiting: Vec<(u64, f64, Frame)>,
    batch: usize,
    pub shots: BTreeMap<u64, Shot>,
}

impl Darkroom {
    pub fn new(options: &ClipOptions, watch: Option<&Watch>) -> Self {
        Self {
            options: options.clone(),
            watch: watch.cloned(),
            waiting: Vec::new(),
            // Enough for every thread, few enough to hold undecoded.
            batch: rayon::current_num_threads().clamp(1, 16),
            shots: BTreeMap::new(),
        }
    }

    pub fn holds(&self, key: u64) -> bool {
        self.shots.contains_key(&key) || self.waiting.iter().any(|w| w.0 == key)
    }

    pub fn add(
        &mut self,
        demuxer: &Demuxer,
        key: u64,
        time: f64,
        frame: Frame,
        warnings: &mut Vec<Warning>,
    ) -> Result<()> {
        for w in assumptions(&frame) {
            w.add_to(warnings);
        }
        let pixels = frame.width() as usize * frame.height() as usize;
        self.waiting.push((key, time, frame));
        if self.waiting.len() >= self.batch.min(LARGE / pixels.max(1)) {
            self.develop(demuxer)?;
        }
        Ok(())
    }

    pub fn develop(&mut self, demuxer: &Demuxer) -> Result<()> {
        let mut stamps = Vec::with_capacity(self.waiting.len());
        let mut frames = Vec::with_capacity(self.waiting.len());
        for (key, time, frame) in self.waiting.drain(..) {
            stamps.push((key, time));
            frames.push(frame);
        }
        // Several at a time, whoever watches included.
        let (info, watch) = (&demuxer.info, self.watch.as_deref());
        let work = |(&(index, time), frame): (&(u64, f64), &Frame)| {
            let options = &self.options;
            let shrunk = shrink(frame, info, &options.resize, options.size, watch.is_some())?;
            if let (Some(watch), Some(pixels)) = (watch, shrunk.whole) {
                watch(FullFrame {
                    pixels,
                    time,
                    index,
                    source: geometry(frame, info),
                });
            }
            Ok((shrunk.small, shrunk.source))
        };
        let done: Vec<Result<_, ShrinkFault>> = stamps.par_iter().zip(&frames).map(work).collect();
        for ((index, time), result) in stamps.into_iter().zip(done) {
            let (pixels, source) = result.map_err(|fault| match fault {
                ShrinkFault::Convert(reason) => Fault::Convert { index, reason }.of(&demuxer.path),
                ShrinkFault::Resize(reason) => Fault::Resize { reason }.of(&demuxer.path),
            })?;
            self.shots.insert(
                index,
                Shot {
                    pixels,
                    source,
                    time,
                },
            );
        }
        Ok(())
    }

    /// Puts shots together in the order of `picks`.
    pub fn assemble(&self, picks: &[u64], mut warnings: Vec<Warning>) -> Clip {
        let (w, h) = self.options.size;
        let (w, h) = (w as usize, h as usize);
        let mut frames = Array4::zeros((picks.len(), h, w, 3));
        let mut times = Vec::with_capacity(picks.len());
        let mut source: Option<Geometry> = None;
        let mut size = None;
        for (i, index) in picks.iter().enumerate() {
            let Some(shot) = self.shots.get(index) else {
                continue;
            };
            frames.index_axis_mut(Axis(0), i).assign(&shot.pixels);
            times.push(shot.time);
            source.get_or_insert(shot.source);
            let now = (shot.source.coded_width, shot.source.coded_height);
            if size.is_some_and(|s| s != now) {
                Warning::SizeChange {
                    index: *index,
                    time: shot.time,
                    width: now.0,
                    height: now.1,
                    count: 1,
                }
                .add_to(&mut warnings);
            }
            size = Some(now);
        }
        Clip {
            frames,
            times,
            indices: picks.to_vec(),
            source: source.unwrap_or_else(|| Geometry::plain(0, 0)),
            warnings,
        }
    }
}
