//! Each person's face, cut out of the frames that they are in.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mtcae_core::{Crop, Rect, Resize, Square};
use mtcae_video::{Clip, FrameResizer, FullFrame, Geometry, square_of};
use ndarray::{Array3, Array4, Axis};
use rayon::prelude::*;

use super::{Request, Span, finely, length, window_options};
use crate::Error;
use crate::faces::{Found, Kept};

/// A crop to one person in one span.
pub(super) struct Job {
    pub span: usize,
    pub person: usize,
    part: Part,
    /// Numbers of the frames that the model is given.
    picks: Vec<u64>,
}

/// What a model sees of each frame.
enum Part {
    /// The same of all.
    Upright(Rect),
    /// A square of each, by its number, in display pixels.
    Turned(BTreeMap<u64, Square>),
}

/// Crops that fill as the video is read for the second time.
struct Crops {
    /// For each frame's number, the jobs that want it.
    wanted: HashMap<u64, Vec<usize>>,
    jobs: Vec<Job>,
    size: (u32, u32),
    taken: Mutex<Taken>,
}

/// What of the crops is there.
#[derive(Default)]
struct Taken {
    /// Of the jobs that have begun.
    clips: HashMap<usize, Option<Clip>>,
    fault: Option<Error>,
}

/// The crop to a person in a span, where they are seen often enough: of frames that they
/// are in alone, evenly over these.
pub(super) fn job(
    request: &Request<'_>,
    spans: &[Span],
    found: &Found,
    span: usize,
    person: usize,
) -> Option<Job> {
    let Span {
        sampled, looked_at, ..
    } = &spans[span];
    let present: Vec<u64> = looked_at
        .iter()
        .copied()
        .filter(|&i| found.face(person, i).is_some())
        .collect();
    // As large a part of all frames that were looked at: what is a face in two alone is
    // seldom one.
    let seen = |of: &[u64]| of.iter().filter(|&&i| found.is_seen(person, i)).count();
    let min_seen = request.options.min_seen;
    let needed = (min_seen * looked_at.len()).div_ceil(sampled.len());
    if seen(sampled) < min_seen || seen(looked_at) < needed {
        return None;
    }
    let frames = request.pipeline.clip_options().frames;
    let evenly = |of: &[u64]| -> Vec<u64> {
        let picks = (0..frames).map(|i| of[i * of.len() / frames]);
        picks.collect()
    };
    let picks = match sampled.len() > frames {
        false => evenly(&present),
        // Several clips: of each the frames that they are in.
        true => {
            let clips = sampled.chunks(frames).map(|clip| -> Vec<u64> {
                let seen = clip.iter().copied();
                seen.filter(|i| present.binary_search(i).is_ok()).collect()
            });
            let clips = clips.filter(|clip| !clip.is_empty());
            clips.flat_map(|clip| evenly(&clip)).collect()
        }
    };
    Some(Job {
        span,
        person,
        part: part(request, found, person, &present, &picks),
        picks,
    })
}

/// Hands over each job's clip, cut out of the frames that were kept.
pub(super) fn cut(
    request: &Request<'_>,
    spans: &[Span],
    jobs: &[Job],
    kept: &Kept,
    mut done: impl FnMut(&Job, Clip) -> Result<(), Error>,
) -> Result<(), Error> {
    let size = request.pipeline.clip_options().size;
    for job in jobs {
        let numbers = job.numbers();
        let part = |index: &u64| {
            let frame = kept.frame(*index).ok_or(Error::Changed)?;
            Ok((frame, job.part(frame, size)?))
        };
        let parts = || {
            numbers
                .par_iter()
                .map(part)
                .collect::<Result<Vec<_>, Error>>()
        };
        let parts = request.pipeline.install(parts);
        let mut clip = None;
        for (frame, part) in parts.map_err(|e| e.of(request.path))? {
            job.put(&mut clip, frame, part);
        }
        if let Some(mut clip) = clip {
            clip.warnings.clone_from(&spans[job.span].warnings);
            done(job, clip)?;
        }
    }
    Ok(())
}

/// As [`cut`], of a video that is read again.
pub(super) fn read_and_cut(
    request: &Request<'_>,
    spans: &[Span],
    jobs: Vec<Job>,
    mut done: impl FnMut(&Job, Clip) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut wanted: HashMap<u64, Vec<usize>> = HashMap::new();
    for (j, job) in jobs.iter().enumerate() {
        for index in job.numbers() {
            wanted.entry(index).or_default().push(j);
        }
    }
    let crops = Arc::new(Crops {
        wanted,
        jobs,
        size: request.pipeline.clip_options().size,
        taken: Mutex::default(),
    });
    let taker = crops.clone();
    let video = request.pipeline.open(request.path)?;
    let mut video = video.watched_by(move |frame| taker.take(&frame));
    let windowing = request.options.windowing.as_ref();
    let seconds = length(windowing, &mut video)?;
    let (options, _) = finely(request.pipeline.clip_options(), seconds);
    let mut hand_over = |span: usize| -> Result<(), Error> {
        for (j, job) in crops.jobs.iter().enumerate().filter(|j| j.1.span == span) {
            let clip = crops.clip(j);
            let mut clip = clip.map_err(|e| e.of(request.path))?;
            clip.warnings.clone_from(&spans[span].warnings);
            done(job, clip)?;
        }
        Ok(())
    };
    match windowing {
        None => {
            request.pipeline.install(|| video.clip(&options))?;
            hand_over(0)
        }
        Some(windowing) => {
            let windows = || video.windows(&window_options(windowing, &options));
            let mut windows = request.pipeline.install(windows)?;
            for span in 0.. {
                let Some(window) = request.pipeline.install(|| windows.next()) else {
                    break;
                };
                window?;
                hand_over(span)?;
            }
            Ok(())
        }
    }
}

impl Job {
    /// Numbers of the frames that it takes, each once.
    fn numbers(&self) -> Vec<u64> {
        let mut numbers = self.picks.clone();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// What the model is given of a frame, and the geometry of that.
    fn part(&self, frame: &FullFrame, size: (u32, u32)) -> Result<(Array3<u8>, Geometry), Error> {
        let crop = match &self.part {
            Part::Upright(crop) => *crop,
            Part::Turned(squares) => {
                let square = squares.get(&frame.index).ok_or(Error::Changed)?;
                let aspect = frame.source.pixel_aspect();
                let pixels = square_of(frame.pixels.view(), aspect, square, size.0 as usize);
                let source = Geometry {
                    crop: around(squares.values(), &frame.source),
                    ..frame.source
                };
                return Ok((pixels, source));
            }
        };
        let mut resizer = FrameResizer::default();
        let part = frame.part(&Resize::Crop(crop), size, &mut resizer);
        part.map_err(Error::Part)
    }

    /// The square of each of the frames, where there is one.
    fn squares(&self) -> Vec<Square> {
        match &self.part {
            Part::Upright(_) => Vec::new(),
            Part::Turned(squares) => {
                let of = self.picks.iter().filter_map(|index| squares.get(index));
                of.copied().collect()
            }
        }
    }

    /// Puts it wherever the clip has the frame.
    fn put(
        &self,
        clip: &mut Option<Clip>,
        frame: &FullFrame,
        (pixels, source): (Array3<u8>, Geometry),
    ) {
        let picks = &self.picks;
        let (height, width, channels) = pixels.dim();
        let clip = clip.get_or_insert_with(|| Clip {
            frames: Array4::zeros((picks.len(), height, width, channels)),
            times: vec![0.0; picks.len()],
            indices: picks.clone(),
            source,
            squares: self.squares(),
            warnings: Vec::new(),
        });
        for (i, _) in picks.iter().enumerate().filter(|p| *p.1 == frame.index) {
            clip.frames.index_axis_mut(Axis(0), i).assign(&pixels);
            clip.times[i] = frame.time;
        }
    }
}

impl Crops {
    /// Cuts a frame for all who want it. Nothing is held while it is cut: the pool may
    /// turn to another frame meanwhile.
    fn take(&self, frame: &FullFrame) {
        for &j in self.wanted.get(&frame.index).into_iter().flatten() {
            let part = self.jobs[j].part(frame, self.size);
            let mut taken = self.taken();
            match part {
                Ok(part) => self.jobs[j].put(taken.clips.entry(j).or_default(), frame, part),
                Err(fault) => {
                    taken.fault = Some(fault);
                    return;
                }
            }
        }
    }

    /// The clip of a job, all of whose frames were taken.
    fn clip(&self, job: usize) -> Result<Clip, Error> {
        let mut taken = self.taken();
        if let Some(fault) = taken.fault.take() {
            return Err(fault);
        }
        let clip = taken.clips.remove(&job).flatten();
        clip.ok_or(Error::Changed)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is seen of a person's face in these frames, which are among those that they are
/// in.
fn part(
    request: &Request<'_>,
    found: &Found,
    person: usize,
    present: &[u64],
    picks: &[u64],
) -> Part {
    let margin = match request.pipeline.crop() {
        Crop::Aligned { scale } => {
            let square = |&index: &u64| {
                let (time, track) = found.followed(person, index)?;
                Some((index, Square::aligned(&track, time, scale)?))
            };
            return Part::Turned(picks.iter().filter_map(square).collect());
        }
        Crop::Face { margin } => margin,
        Crop::None => Crop::MARGIN,
    };
    let faces = present.iter().filter_map(|&i| found.face(person, i));
    let boxes: Vec<_> = faces.map(|face| face.face_box).collect();
    let source = found.source();
    let size = (source.width.into(), source.height.into());
    Part::Upright(Crop::surround(&boxes, margin, size))
}

/// The rectangle of a picture around what of squares lies in it.
fn around<'a>(squares: impl Iterator<Item = &'a Square>, source: &Geometry) -> Option<Rect> {
    let (width, height) = source.display_size();
    let (width, height) = (f64::from(width), f64::from(height));
    let join = |a: [f64; 4], b: [f64; 4]| {
        [
            a[0].min(b[0]),
            a[1].min(b[1]),
            a[2].max(b[2]),
            a[3].max(b[3]),
        ]
    };
    let [x1, y1, x2, y2] = squares.map(Square::bounds).reduce(join)?;
    let (x1, x2) = (x1.max(0.0).min(width), x2.max(0.0).min(width));
    let (y1, y2) = (y1.max(0.0).min(height), y2.max(0.0).min(height));
    let aspect = source.pixel_aspect();
    Some(Rect {
        x: x1 / aspect,
        y: y1,
        width: (x2 - x1) / aspect,
        height: y2 - y1,
    })
}
