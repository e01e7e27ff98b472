//! Decoded frames on their way to a clip.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{Array4, Axis};
use rayon::prelude::*;

use crate::clip::{Clip, Warning};
use crate::demuxer::Demuxer;
use crate::error::{Fault, Result};
use crate::ffi::convert::{LARGE, assumptions};
use crate::ffi::decoder::Frame;
use crate::frames::FullFrame;
use crate::geometry::Geometry;
use crate::options::ClipOptions;
use crate::shrink::{ShrinkFault, View, geometry, shrink};

/// Who is shown the frames that clips are made of.
pub type Watch = Arc<dyn Fn(FullFrame) + Send + Sync>;

/// A finished frame.
pub struct Shot {
    views: Vec<View>,
    time: f64,
}

impl Shot {
    /// View `k` of `of`. Where the picture's size changes within the stream, this frame
    /// may have another number of views: then its middle or only one.
    fn view(&self, k: usize, of: usize) -> Option<&View> {
        let own = self.views.len();
        self.views.get(if own == of { k } else { own / 2 })
    }
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
            Ok(shrunk.views)
        };
        let done: Vec<Result<_, ShrinkFault>> = stamps.par_iter().zip(&frames).map(work).collect();
        for ((index, time), result) in stamps.into_iter().zip(done) {
            let views = result.map_err(|fault| match fault {
                ShrinkFault::Convert(reason) => Fault::Convert { index, reason }.of(&demuxer.path),
                ShrinkFault::Resize(reason) => Fault::Resize { reason }.of(&demuxer.path),
            })?;
            self.shots.insert(index, Shot { views, time });
        }
        Ok(())
    }

    /// Puts shots together in the order of `picks`: a clip a view.
    pub fn views(&self, picks: &[u64], warnings: &[Warning]) -> Vec<Clip> {
        let first = picks.first().and_then(|index| self.shots.get(index));
        let crops = first.map_or(0, |shot| shot.views.len());
        let clips = (0..crops).map(|k| self.assemble(picks, (k, crops), warnings.to_vec()));
        self.options.views(clips.collect())
    }

    /// As [`Self::views`], where each frame has one: all of a multi-clip sampling in one
    /// clip.
    pub fn clip(&self, picks: &[u64], warnings: Vec<Warning>) -> Clip {
        self.assemble(picks, (0, 1), warnings)
    }

    fn assemble(
        &self,
        picks: &[u64],
        (view, of): (usize, usize),
        mut warnings: Vec<Warning>,
    ) -> Clip {
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
            let Some(view) = shot.view(view, of) else {
                continue;
            };
            frames.index_axis_mut(Axis(0), i).assign(&view.pixels);
            times.push(shot.time);
            source.get_or_insert(view.source);
            let now = (view.source.coded_width, view.source.coded_height);
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
            squares: Vec::new(),
            warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    #[test]
    fn a_frame_of_another_shape_gives_its_middle_or_its_only_view() {
        let shot = |levels: &[u8]| Shot {
            views: levels
                .iter()
                .map(|&level| View {
                    pixels: Array3::from_elem((1, 1, 3), level),
                    source: Geometry::plain(1, 1),
                })
                .collect(),
            time: 0.0,
        };
        let seen = |levels: &[u8], of: usize| -> Vec<u8> {
            let shot = shot(levels);
            let views = (0..of).filter_map(|k| shot.view(k, of));
            views.map(|view| view.pixels[[0, 0, 0]]).collect()
        };
        assert_eq!(seen(&[1, 2, 3], 3), [1, 2, 3]);
        assert_eq!(seen(&[1, 2, 3], 1), [2]);
        assert_eq!(seen(&[7], 3), [7, 7, 7]);
        assert_eq!(seen(&[7], 1), [7]);
    }
}
