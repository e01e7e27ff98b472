//! Answers about each person, from a crop to their face.
//!
//! MTCNN looks for faces as a video is read, in more frames than the model takes where
//! those lie far apart, so that people can be followed. Where everybody is only is known
//! at the end, when each person's face is cut out of the frames that they are in: these are
//! kept or, where that would take too much memory, read again.

mod cut;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use mtcae_core::{Resize, Sampling};
use mtcae_video::{Clip, ClipOptions, Video, Warning, WindowOptions};

use crate::faces::{FaceFinder, Found};
use crate::footage::{self, Footage};
use cut::{Job, cut, job, read_and_cut};

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
    /// crop to the person's face ([`Geometry::crop`](mtcae_video::Geometry::crop),
    /// [`FramePrediction::square`](crate::FramePrediction::square)).
    pub answer: Answer,
    /// How many more were seen in too few frames to be answered about.
    pub left_out: usize,
}

/// A file, or frames in memory, that are looked at.
struct Request<'a> {
    pipeline: &'a Pipeline,
    finder: &'a FaceFinder,
    /// What faults and predictions are of.
    path: &'a Path,
    footage: Option<&'a Footage>,
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
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<People, Error> {
        self.tell_people(pipeline, path, options, |reached, _| progress(reached))
    }

    /// As [`Self::predict_people`], whose callback gets each prediction as well, as soon as it
    /// is there; none while people are looked for.
    ///
    /// # Errors
    /// As [`Self::predict_people`].
    pub fn tell_people(
        &self,
        pipeline: &Pipeline,
        path: impl AsRef<Path>,
        options: &PeopleOptions,
        tell: impl FnMut(Progress, &[Prediction]) -> ControlFlow<()>,
    ) -> Result<People, Error> {
        let request = Request {
            pipeline,
            finder: self,
            path: path.as_ref(),
            footage: None,
            options,
        };
        answer(&request, tell)
    }

    /// What the model says of the people in frames in memory, as [`Self::predict_people`] of
    /// the clip that they are; windows are not looked at.
    pub(crate) fn people_of_footage(
        &self,
        pipeline: &Pipeline,
        footage: &Footage,
        options: &PeopleOptions,
    ) -> Result<People, Error> {
        let options = PeopleOptions {
            windowing: None,
            ..options.clone()
        };
        let request = Request {
            pipeline,
            finder: self,
            path: Path::new(footage::NAME),
            footage: Some(footage),
            options: &options,
        };
        let mut people = answer(&request, |_, _| ControlFlow::Continue(()))?;
        if let Answer::Clip(predictions) = &mut people.answer {
            predictions.iter_mut().for_each(|p| p.file = None);
        }
        Ok(people)
    }
}

fn answer(
    request: &Request<'_>,
    mut tell: impl FnMut(Progress, &[Prediction]) -> ControlFlow<()>,
) -> Result<People, Error> {
    let Request { path, options, .. } = request;
    if options.min_seen == 0 {
        return Err(Error::Option {
            option: "min_seen",
            reason: "must be at least 1".to_owned(),
        });
    }
    let mut done = 0;
    let mut duration = None;
    let mut reached = |seconds: f64, said: &[Prediction], length: Option<f64>| {
        done += said.len() as u64;
        duration = length.or(duration);
        let here = Progress {
            windows: done,
            seconds,
            duration,
        };
        match tell(here, said) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled { done }),
        }
    };
    let (spans, found) = look(request, &mut |seconds, length| {
        reached(seconds, &[], length)
    })?;
    let answers = request.pipeline.config().answers.as_ref();
    if found.people.is_empty() {
        return match answers {
            Some(_) => nobody(request, &spans, &found, reached),
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
        return nobody(request, &spans, &found, reached);
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
        let said = by_person.entry(job.person).or_default();
        said.push(prediction);
        reached((half + end) / 2.0, &said[said.len() - 1..], None)
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
fn nobody(
    request: &Request<'_>,
    spans: &[Span],
    found: &Found,
    mut reached: impl FnMut(f64, &[Prediction], Option<f64>) -> Result<(), Error>,
) -> Result<People, Error> {
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
    for said in &predictions {
        reached(said.end, std::slice::from_ref(said), None)?;
    }
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
    if let Some(footage) = request.footage {
        let spans = vec![Span {
            bounds: None,
            sampled: footage.sampled().to_vec(),
            looked_at: footage.looked_at(),
            warnings: Vec::new(),
        }];
        return Ok((spans, request.finder.found_in(request.pipeline, footage)?));
    }
    let memory = request.options.frame_memory;
    let watcher = request.finder.watch(request.pipeline, memory);
    let mut video = watcher.at(request.pipeline.open(request.path)?);
    let mut spans = Vec::new();
    let windowing = request.options.windowing.as_ref();
    let seconds = length(windowing, &mut video)?;
    let (options, every) = finely(request.pipeline.clip_options(), seconds);
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

/// Seconds of what is one clip: the video, or a window of it.
pub(crate) fn length(windowing: Option<&Windowing>, video: &mut Video) -> Result<f64, Error> {
    Ok(match windowing {
        Some(windowing) => windowing.length,
        None => video.frame_count()? as f64 / video.info().fps,
    })
}

/// How a clip of so many seconds is read so that people can be followed, and which of the
/// frames the model would take: every so many-th.
pub(crate) fn finely(model: &ClipOptions, seconds: f64) -> (ClipOptions, usize) {
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
    (options, every)
}

fn window_options(windowing: &Windowing, clip: &ClipOptions) -> WindowOptions {
    WindowOptions {
        length: windowing.length,
        stride: windowing.stride,
        clip: clip.clone(),
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
