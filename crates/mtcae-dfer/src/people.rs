//! Answers about each person, from a crop to their face.
//!
//! MTCNN looks for faces as a video is read, in more frames than the model takes where
//! those lie far apart, so that people can be followed. Where everybody is only is known
//! at the end, when each person's face is cut out of the frames that they are in: these are
//! kept or, where that would take too much memory, read again.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mtcae_core::{Crop, Rect, Resize, Sampling, Square};
use mtcae_video::{
    Clip, ClipOptions, FrameResizer, FullFrame, Geometry, Video, Warning, WindowOptions, square_of,
};
use ndarray::{Array3, Array4, Axis};
use rayon::prelude::*;

use crate::faces::{FaceFinder, Found, Kept};
use crate::{Answer, Error, FaceWarning, Pipeline, Prediction, Progress, Timeline, Windowing};

/// People are followed through frames at most this many seconds apart …
const STEP: f64 = 0.25;
/// … up to so many frames for each that the model takes.
const MOST: f64 = 8.0;

/// Whom to answer about, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct PeopleOptions {
    /// Everybody, and not only the subject, who is the person seen in most frames.
    pub everybody: bool,
    /// Frames of a clip that a person must be seen in to be answered about.
    pub min_seen: usize,
    /// Windows that slide over the video, in place of one clip of all of it. Their
    /// `batch` is not looked at: answers come one by one.
    pub windowing: Option<Windowing>,
    /// Bytes that whole frames may take while people are looked for, 3 a pixel. The
    /// frames are the clip's, up to eight times as many as the model takes, or those of
    /// all windows. A file with more of them than fit is read a second time; the answers
    /// are the same.
    pub frame_memory: u64,
}

impl Default for PeopleOptions {
    /// The subject, in one clip, seen in at least 2 of its frames; 512 MiB of frames,
    /// which are 86 of 1920×1080 pixels, 194 of 1280×720 or 582 of 640×480.
    fn default() -> Self {
        Self {
            everybody: false,
            min_seen: 2,
            windowing: None,
            frame_memory: 512 << 20,
        }
    }
}

/// What the model says of the people of a video.
#[derive(Clone, Debug, PartialEq)]
pub struct People {
    /// One prediction or timeline a person, in the order of appearance. Each is about a
    /// crop to the person's face ([`Geometry::crop`],
    /// [`FramePrediction::square`](crate::FramePrediction::square)).
    pub answer: Answer,
    /// How many more were seen in too few frames to be answered about.
    pub left_out: usize,
}

/// A file that is looked at.
struct Request<'a> {
    pipeline: &'a Pipeline,
    finder: &'a FaceFinder,
    path: &'a Path,
    options: &'a PeopleOptions,
}

/// A clip or window of the video.
struct Span {
    /// Of a window: its bounds.
    bounds: Option<(f64, f64)>,
    /// Numbers of the frames that the model would take.
    sampled: Vec<u64>,
    /// Numbers of the frames that were looked at.
    looked_at: Vec<u64>,
    warnings: Vec<Warning>,
}

/// A crop to one person in one span.
struct Job {
    span: usize,
    person: usize,
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

impl FaceFinder {
    /// What the model says of the people of a file, each from a crop to their face as the
    /// pipeline has it ([`Pipeline::crop`]); where that is none, from a square 1.3 times as
    /// large as all of the person's boxes in what is sampled. Of several clips ([`Sampling::MultiClip`]) probabilities are averaged; three crops of a
    /// picture are one here.
    ///
    /// `progress` is called after each window or, without windows, each person, with half
    /// of the seconds gone when everybody is found. When it breaks, the work stops with
    /// [`Error::Cancelled`].
    ///
    /// # Errors
    /// One line that names the file: [`Error::NoFace`] where there is nobody,
    /// [`Error::SeenTooSeldom`] (where the model's config has
    /// [`answers`](mtcae_model::Config::answers), both are an answer that names no class), or
    /// what reading the file met.
    pub fn predict_people(
        &self,
        pipeline: &Pipeline,
        path: impl AsRef<Path>,
        options: &PeopleOptions,
        progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<People, Error> {
        let path = path.as_ref();
        if options.min_seen == 0 {
            return Err(Error::Option {
                option: "min_seen",
                reason: "must be at least 1".to_owned(),
            });
        }
        let request = Request {
            pipeline,
            finder: self,
            path,
            options,
        };
        answer(&request, progress)
    }
}

fn answer(
    request: &Request<'_>,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<People, Error> {
    let Request { path, options, .. } = request;
    let mut done = 0;
    let mut duration = None;
    let mut reached = |seconds: f64, answered: bool, length: Option<f64>| {
        done += u64::from(answered);
        duration = length.or(duration);
        let here = Progress {
            windows: done,
            seconds,
            duration,
        };
        match progress(here) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled { done }),
        }
    };
    let (spans, found) = look(request, &mut |seconds, length| {
        reached(seconds, false, length)
    })?;
    let answers = request.pipeline.config().answers.as_ref();
    if found.people.is_empty() {
        return match answers {
            Some(_) => nobody(request, &spans, &found),
            None => Err(Error::NoFace.of(path)),
        };
    }
    let whom: Vec<usize> = match found.subject() {
        Some(subject) if !options.everybody => vec![subject],
        _ => (0..found.people.len()).collect(),
    };
    let jobs: Vec<Job> = spans
        .iter()
        .enumerate()
        .flat_map(|(span, _)| whom.iter().map(move |&person| (span, person)))
        .filter_map(|(span, person)| job(request, &spans, &found, span, person))
        .collect();
    let mut kept: Vec<usize> = jobs.iter().map(|job| job.person).collect();
    kept.sort_unstable();
    kept.dedup();
    if kept.is_empty() && answers.is_some() {
        return nobody(request, &spans, &found);
    }
    if kept.is_empty() {
        let min_seen = options.min_seen;
        return Err(Error::SeenTooSeldom { min_seen }.of(path));
    }

    let half = spans.last().and_then(|s| s.bounds).map_or(0.0, |b| b.1);
    let mut by_person: HashMap<usize, Vec<Prediction>> = HashMap::new();
    let done = |job: &Job, clip: Clip| {
        let views = clip.split(request.pipeline.clip_options().frames);
        let mut prediction = request.pipeline.predict_views(path, &views)?;
        let span = &spans[job.span];
        if let Some(bounds) = span.bounds {
            (prediction.start, prediction.end) = bounds;
        }
        if options.everybody {
            let number = kept.iter().position(|&p| p == job.person).unwrap_or(0);
            prediction.person = Some(number as u32 + 1);
        }
        found.note(&mut prediction, job.person);
        let seen = found.seen(&span.sampled, |i| found.is_seen(job.person, i));
        prediction.note_seen(seen);
        prediction.note_border(found.gone(job.person, &span.sampled_in_order()));
        let others = found.rivals(job.person);
        if others > 0 && !options.everybody {
            let warning = FaceWarning::Several { others };
            prediction.warnings.push(crate::Warning::Face(warning));
        }
        if let Some(answers) = answers {
            prediction.judge(answers);
        }
        let end = prediction.end;
        by_person.entry(job.person).or_default().push(prediction);
        reached((half + end) / 2.0, true, None)
    };
    match found.kept.is_over() {
        false => cut(request, &spans, &jobs, &found.kept, done)?,
        true => read_and_cut(request, &spans, jobs, done)?,
    }
    let answers = kept.iter().filter_map(|person| by_person.remove(person));
    let answer = match &options.windowing {
        None => Answer::Clip(answers.flatten().collect()),
        Some(w) => Answer::Windows(
            answers
                .map(|windows| Timeline::new(w.length, w.stride, windows))
                .collect::<Result<_, _>>()?,
        ),
    };
    let left_out = whom.len() - kept.len();
    Ok(People { answer, left_out })
}

/// What is said where there is nobody to be followed, and the model's config asks for that
/// to be an answer.
fn nobody(request: &Request<'_>, spans: &[Span], found: &Found) -> Result<People, Error> {
    let Request {
        pipeline,
        path,
        options,
        ..
    } = request;
    let trained_on = pipeline.config().trained_on.as_deref();
    let predictions = spans.iter().map(|span| {
        let stamps = found.stamps(&span.sampled);
        let seen = found.anybody(&span.sampled);
        let mut prediction = Prediction::of_nobody(found.source(), stamps, seen, trained_on);
        if let Some(bounds) = span.bounds {
            (prediction.start, prediction.end) = bounds;
        }
        prediction.file = Some(path.to_path_buf());
        let warnings = span.warnings.iter().cloned();
        prediction
            .warnings
            .extend(warnings.map(crate::Warning::Video));
        prediction
    });
    let predictions: Vec<Prediction> = predictions.collect();
    Ok(People {
        answer: match &options.windowing {
            None => Answer::Clip(predictions),
            Some(w) => Answer::Windows(vec![Timeline::new(w.length, w.stride, predictions)?]),
        },
        left_out: 0,
    })
}

/// The clips or windows of the video, and who is in them.
fn look(
    request: &Request<'_>,
    progress: &mut impl FnMut(f64, Option<f64>) -> Result<(), Error>,
) -> Result<(Vec<Span>, Found), Error> {
    let memory = request.options.frame_memory;
    let watcher = request.finder.watch(request.pipeline, memory);
    let mut video = watcher.at(request.pipeline.open(request.path)?);
    let mut spans = Vec::new();
    let windowing = request.options.windowing.as_ref();
    let (options, every) = finely(request.pipeline.clip_options(), windowing, &mut video)?;
    let duration = video.info().duration;
    // The pixels are not needed.
    let mut span = |bounds, mut views: Vec<Clip>| {
        let numbers = views.iter().flat_map(|clip| &clip.indices).copied();
        let mut looked_at: Vec<u64> = numbers.clone().collect();
        looked_at.sort_unstable();
        looked_at.dedup();
        spans.push(Span {
            bounds,
            sampled: numbers.step_by(every).collect(),
            looked_at,
            // The same in all.
            warnings: views.pop().map_or_else(Vec::new, |clip| clip.warnings),
        });
    };
    match windowing {
        None => span(None, request.pipeline.install(|| video.clips(&options))?),
        Some(w) => {
            let windows = || video.windows(&window_options(w, &options));
            let mut windows = request.pipeline.install(windows)?;
            while let Some(window) = request.pipeline.install(|| windows.next()) {
                let window = window?;
                // The other half is for the answers.
                progress(window.end / 2.0, duration)?;
                span(Some((window.start, window.end)), window.views);
            }
        }
    }
    let indices: Vec<u64> = spans.iter().flat_map(|s| s.looked_at.clone()).collect();
    Ok((spans, watcher.found(indices.iter())?))
}

/// How a video or its windows are read so that people can be followed, and which of the
/// frames the model would take: every so many-th.
pub(crate) fn finely(
    model: &ClipOptions,
    windowing: Option<&Windowing>,
    video: &mut Video,
) -> Result<(ClipOptions, usize), Error> {
    let seconds = match windowing {
        Some(windowing) => windowing.length,
        None => video.frame_count()? as f64 / video.info().fps,
    };
    let step = seconds / model.frames as f64;
    let every = match model.sampling {
        // Taken more finely, it has the same frames among others.
        Sampling::Uniform => (step / STEP).ceil().clamp(1.0, MOST) as usize,
        _ => 1,
    };
    let options = ClipOptions {
        frames: model.frames * every,
        // Nobody looks at these pictures.
        size: (16, 16),
        resize: Resize::Squash,
        ..model.clone()
    };
    Ok((options, every))
}

fn window_options(windowing: &Windowing, clip: &ClipOptions) -> WindowOptions {
    WindowOptions {
        length: windowing.length,
        stride: windowing.stride,
        clip: clip.clone(),
    }
}

/// The crop to a person in a span, where they are seen often enough: of frames that they
/// are in alone, evenly over these.
fn job(
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
fn cut(
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
fn read_and_cut(
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
    let (options, _) = finely(request.pipeline.clip_options(), windowing, &mut video)?;
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

impl Span {
    /// Numbers of the frames that the model would take, each once.
    fn sampled_in_order(&self) -> Vec<u64> {
        let mut numbers = self.sampled.clone();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
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
