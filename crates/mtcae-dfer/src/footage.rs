//! Frames that are in memory already, in place of a file.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use mtcae_core::Resize;
use mtcae_video::{Clip, FrameResizer, FullFrame, Geometry};
use ndarray::{Array4, ArrayView4, Axis, s};

use crate::faces::Sight;
use crate::people::finely;
use crate::{Answer, Error, FaceFinder, People, PeopleOptions, Pipeline, Prediction};

/// What faults of frames in memory are of.
pub(crate) const NAME: &str = "frames";

/// When each of a row of frames is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Times<'a> {
    /// So many a second, the first at 0.
    Rate(f64),
    /// Seconds of each, which grow.
    Of(&'a [f64]),
}

/// Frames in memory, of which it keeps those that a pipeline looks at.
#[derive(Clone, Debug)]
pub struct Footage {
    /// Each once, in the order of time.
    frames: Vec<Arc<FullFrame>>,
    /// What a detector saw in each, where it has looked already.
    sights: Vec<Arc<Sight>>,
    /// Numbers of the frames that the model takes, a clip after the other.
    sampled: Vec<u64>,
}

impl Footage {
    /// Takes what the pipeline looks at of frames (T, H, W, 3) in RGB, upright, with square
    /// pixels: those that the model takes of one clip, and, where they lie far apart, more,
    /// so that people can be followed.
    ///
    /// # Errors
    /// [`Error::Option`] names the argument: `frames`, `fps` or `times`.
    pub fn new(
        pipeline: &Pipeline,
        frames: ArrayView4<'_, u8>,
        times: Times<'_>,
    ) -> Result<Self, Error> {
        let fault = |option, reason| Err(Error::Option { option, reason });
        let (count, height, width, channels) = frames.dim();
        if channels != 3 || count.min(height).min(width) == 0 {
            let found = format!("{count}×{height}×{width}×{channels}");
            let reason = format!("must be T × H × W × 3 in RGB, none of them 0, not {found}");
            return fault(NAME, reason);
        }
        let (Ok(wide), Ok(high)) = (u32::try_from(width), u32::try_from(height)) else {
            return fault(NAME, format!("{width}×{height} pixels are too many"));
        };
        let seconds = match times {
            Times::Rate(fps) if fps.is_finite() && fps > 0.0 => count as f64 / fps,
            Times::Rate(fps) => {
                return fault("fps", format!("{fps} is not a number of frames above 0"));
            }
            Times::Of(times) if times.len() != count => {
                let reason = format!("there are {} of them for {count} frames", times.len());
                return fault("times", reason);
            }
            Times::Of(times) if !times.iter().all(|t| t.is_finite()) => {
                return fault("times", "must be finite numbers of seconds".to_owned());
            }
            Times::Of(times) if times.windows(2).any(|t| t[0] >= t[1]) => {
                return fault("times", "must grow from frame to frame".to_owned());
            }
            Times::Of(times) => {
                let between = times[count - 1] - times[0];
                between * count as f64 / (count - 1).max(1) as f64
            }
        };
        let time = |i: usize| match times {
            Times::Rate(fps) => i as f64 / fps,
            Times::Of(times) => times[i],
        };
        let model = pipeline.clip_options();
        let (options, every) = finely(model, seconds);
        let numbers = options.sampling.indices(count as u64, options.frames);
        let sampled: Vec<u64> = numbers.iter().copied().step_by(every).collect();
        let looked_at: BTreeSet<u64> = numbers.into_iter().collect();
        let source = Geometry::plain(wide, high);
        let frame = |index: u64| {
            Arc::new(FullFrame {
                pixels: frames.index_axis(Axis(0), index as usize).to_owned(),
                time: time(index as usize),
                index,
                source,
            })
        };
        Ok(Self {
            frames: looked_at.into_iter().map(frame).collect(),
            sights: Vec::new(),
            sampled,
        })
    }

    /// Frames that a detector has looked at, in the order of time, all of which are taken.
    pub(crate) fn seen(pipeline: &Pipeline, frames: Vec<(Arc<FullFrame>, Arc<Sight>)>) -> Self {
        let (frames, sights): (Vec<_>, Vec<_>) = frames.into_iter().unzip();
        let model = pipeline.clip_options();
        let sampled = model.sampling.indices(frames.len() as u64, model.frames);
        let sampled = sampled.into_iter().map(|i| frames[i as usize].index);
        Self {
            sampled: sampled.collect(),
            frames,
            sights,
        }
    }

    /// What a detector saw in the frames, where it has looked at them already.
    pub(crate) fn sights(&self) -> &[Arc<Sight>] {
        &self.sights
    }

    /// The frames that are looked at, each once, in the order of time.
    pub(crate) fn frames(&self) -> &[Arc<FullFrame>] {
        &self.frames
    }

    /// Numbers of the frames that the model takes, a clip after the other.
    pub(crate) fn sampled(&self) -> &[u64] {
        &self.sampled
    }

    /// Numbers of all that are looked at, in order.
    pub(crate) fn looked_at(&self) -> Vec<u64> {
        self.frames.iter().map(|frame| frame.index).collect()
    }

    /// One clip a view, as of a file that a model of whole frames looks at.
    fn views(&self, pipeline: &Pipeline) -> Result<Vec<Clip>, Error> {
        let options = pipeline.clip_options();
        let Some(first) = self.frames.first() else {
            return Ok(Vec::new());
        };
        let parts = first.source.parts(&options.resize, options.size);
        let parts = parts.map_err(Error::Part)?;
        let groups = self.sampled.chunks(options.frames);
        let views = groups.flat_map(|group| parts.iter().map(move |part| (group, *part)));
        let mut resizer = FrameResizer::default();
        let views = views.map(|(group, part)| {
            let (width, height) = (options.size.0 as usize, options.size.1 as usize);
            let mut clip = Clip {
                frames: Array4::zeros((group.len(), height, width, 3)),
                times: Vec::with_capacity(group.len()),
                indices: group.to_vec(),
                source: first.source,
                squares: Vec::new(),
                warnings: Vec::new(),
            };
            let resize = part.map_or(Resize::Squash, Resize::Crop);
            for (i, number) in group.iter().enumerate() {
                let at = self.frames.binary_search_by_key(number, |f| f.index);
                let frame = &self.frames[at.map_err(|_| Error::Changed)?];
                let (pixels, source) = frame
                    .part(&resize, options.size, &mut resizer)
                    .map_err(Error::Part)?;
                clip.frames.slice_mut(s![i, .., .., ..]).assign(&pixels);
                clip.times.push(frame.time);
                clip.source = source;
            }
            Ok(clip)
        });
        views.collect()
    }
}

impl Pipeline {
    /// What the model says of frames in memory, of whole pictures, as
    /// [`Self::predict_views`] of a file.
    ///
    /// # Errors
    /// As [`Self::predict_clip`].
    pub fn predict_footage(&self, footage: &Footage) -> Result<Prediction, Error> {
        let views = self.install(|| footage.views(self))?;
        let mut prediction = self.predict_views(Path::new(NAME), &views)?;
        prediction.file = None;
        Ok(prediction)
    }
}

impl FaceFinder {
    /// What the model says of frames in memory, as [`Self::predict`] of a file and, where the
    /// pipeline crops or everybody is asked for, as [`Self::predict_people`]. Windows are
    /// not looked at.
    ///
    /// # Errors
    /// As [`Self::predict_people`], with `frames` in the place of the file.
    pub fn predict_footage(
        &self,
        pipeline: &Pipeline,
        footage: &Footage,
        options: &PeopleOptions,
    ) -> Result<People, Error> {
        if options.everybody || !pipeline.crop().is_none() {
            return self.people_of_footage(pipeline, footage, options);
        }
        let found = self.found_in(pipeline, footage)?;
        let mut prediction = pipeline.predict_footage(footage)?;
        found.note_subject(
            std::slice::from_mut(&mut prediction),
            pipeline.config().answers.as_ref(),
        );
        Ok(People {
            answer: Answer::Clip(vec![prediction]),
            left_out: 0,
        })
    }
}
