//! Answers about a video while it comes.
//!
//! One thread decodes, this one looks at the frames that a window takes and answers when a
//! window is full. What is in memory grows with the window alone. Who falls behind a source
//! that does not wait leaves frames out until it has caught up, and says how many.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use mtcae_video::{FullFrame, Stream, Warning as VideoWarning};

use crate::faces::Sight;
use crate::footage::Footage;
use crate::people::finely;
use crate::{Error, FaceBox, FaceFinder, PeopleOptions, Pipeline, Prediction, Warning};

/// Frames that wait for the model at most; each is a frame more of delay.
const QUEUE: usize = 4;

/// A frame that comes this much of a step too soon is taken: clocks are not exact.
const EARLY: f64 = 0.02;

/// How a video is followed while it comes.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveOptions {
    /// Whom to answer about. `windowing` has the windows' length and stride, by default 2 s
    /// and 0.5 s.
    pub people: PeopleOptions,
    /// How far behind the source answers may be before frames are left out; `None` leaves
    /// out none and lets the source wait, as a file can.
    pub late: Option<Duration>,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            people: PeopleOptions::default(),
            late: Some(Duration::from_millis(250)),
        }
    }
}

/// What is said of one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// One a person, in the order of appearance; of nobody, what the model's config asks
    /// for, or none.
    pub predictions: Vec<Prediction>,
    /// From when the window's last frame was decoded to now.
    pub delay: Duration,
    /// Frames that were left out so far, since they came while answers were late.
    pub dropped: u64,
}

/// What was made of a stream that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Windows that were answered.
    pub windows: u64,
    /// Frames that were looked at.
    pub frames: u64,
    /// Frames that were left out.
    pub dropped: u64,
    /// What was damaged or assumed after the last window.
    pub warnings: Vec<VideoWarning>,
}

/// A frame on its way from the decoder.
struct Came {
    frame: FullFrame,
    at: Instant,
    /// The earliest time of the next one.
    next: f64,
    warnings: Vec<VideoWarning>,
    dropped: u64,
}

/// A frame that was looked at.
struct Looked {
    frame: Arc<FullFrame>,
    sight: Arc<Sight>,
    at: Instant,
}

impl FaceFinder {
    /// What the model says of a video while it comes, window by window, as
    /// [`Self::predict_people`] says it of a file: `tell` is called for each window that has
    /// a frame, and ends it by breaking. Numbers of people ([`Prediction::person`]) stay
    /// with them from window to window.
    ///
    /// # Errors
    /// [`Error::Option`] for windows or a sampling that cannot be followed,
    /// [`Error::Cancelled`], or what the stream, the detector or the model met.
    pub fn follow(
        &self,
        pipeline: &Pipeline,
        stream: Stream,
        options: &LiveOptions,
        tell: impl FnMut(Said) -> ControlFlow<()>,
    ) -> Result<Ended, Error> {
        let (length, stride) = match &options.people.windowing {
            Some(windowing) => (windowing.length, windowing.stride),
            None => (2.0, 0.5),
        };
        for (option, seconds) in [("length", length), ("stride", stride)] {
            if !(seconds.is_finite() && seconds > 0.0) {
                let reason = format!("{seconds} is not a finite number of seconds above 0");
                return Err(Error::Option { option, reason });
            }
        }
        let (taken, _) = finely(pipeline.clip_options(), length);
        let step = length / taken.frames as f64;
        let late = options.late;
        // Ends with the receiver, at its next frame; until then it waits for the source.
        let (sender, receiver) = sync_channel(QUEUE);
        let decoder = std::thread::Builder::new().name("stream".to_owned());
        let decoding = decoder.spawn(move || decode(stream, step, late, &sender));
        if let Err(e) = decoding {
            let (option, reason) = ("threads", e.to_string());
            return Err(Error::Option { option, reason });
        }
        let mut following = Following {
            finder: self,
            pipeline,
            people: &options.people,
            length,
            stride,
            window: 0,
            covered: f64::NEG_INFINITY,
            looked: VecDeque::new(),
            warnings: Vec::new(),
            known: Known::default(),
            ended: Ended {
                windows: 0,
                frames: 0,
                dropped: 0,
                warnings: Vec::new(),
            },
            tell,
        };
        following.run(&receiver)?;
        Ok(following.ended)
    }
}

/// Decodes what a window takes, and gives it on as it comes.
fn decode(
    mut stream: Stream,
    step: f64,
    late: Option<Duration>,
    sender: &SyncSender<Result<Came, Error>>,
) {
    let began = Instant::now();
    // When the next frame is due. A frame that comes later than it is due does not put off
    // those behind it.
    let (mut due, mut dropped) = (f64::NEG_INFINITY, 0);
    // How far the source's clock was ahead when nothing lay waiting.
    let mut caught_up = f64::INFINITY;
    let (mut before, mut waited) = (began, Duration::ZERO);
    loop {
        let frame = match stream.next_from(due - EARLY * step) {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(fault) => {
                drop(sender.send(Err(fault.into())));
                return;
            }
        };
        due = match due.is_finite() {
            true => due + step * ((frame.time - due) / step + EARLY).floor().max(0.0) + step,
            false => frame.time + step,
        };
        let at = Instant::now();
        let behind = at.duration_since(began).as_secs_f64() - frame.time;
        let waiting = stream.waited() - waited;
        if 2 * waiting > at.duration_since(before) {
            // The source kept it waiting, and not it the source.
            caught_up = behind;
        }
        caught_up = caught_up.min(behind);
        (before, waited) = (at, stream.waited());
        if late.is_some_and(|late| behind - caught_up > late.as_secs_f64()) {
            dropped += 1;
            continue;
        }
        let came = Came {
            frame,
            at,
            next: due - EARLY * step,
            warnings: stream.take_warnings(),
            dropped,
        };
        if sender.send(Ok(came)).is_err() {
            return;
        }
    }
}

/// A stream that is followed.
struct Following<'a, F> {
    finder: &'a FaceFinder,
    pipeline: &'a Pipeline,
    people: &'a PeopleOptions,
    length: f64,
    stride: f64,
    /// Number of the window that comes next.
    window: u64,
    /// Where the last window ended that was answered.
    covered: f64,
    /// Frames of windows that are not done.
    looked: VecDeque<Looked>,
    warnings: Vec<VideoWarning>,
    known: Known,
    ended: Ended,
    tell: F,
}

impl<F: FnMut(Said) -> ControlFlow<()>> Following<'_, F> {
    fn run(&mut self, frames: &Receiver<Result<Came, Error>>) -> Result<(), Error> {
        for came in frames {
            let Came {
                frame,
                at,
                next,
                warnings,
                dropped,
            } = came?;
            for warning in warnings {
                warning.add_to(&mut self.warnings);
            }
            self.note_dropped(dropped);
            let time = frame.time;
            let size = |frame: &FullFrame| (frame.source.width, frame.source.height);
            let last = self.looked.back();
            if last.is_some_and(|last| size(&last.frame) != size(&frame)) {
                // Another picture: what is seen in it has other coordinates.
                self.answer_all(f64::INFINITY)?;
                self.looked.clear();
                self.window = self.first_with(time);
            }
            // Windows that end before it, as after a gap.
            self.answer_all(time)?;
            let sight = self
                .pipeline
                .install(|| self.finder.look_at(&frame, self.pipeline))?;
            self.looked.push_back(Looked {
                frame: Arc::new(frame),
                sight: Arc::new(sight),
                at,
            });
            self.ended.frames += 1;
            // The next frame would be beyond it.
            self.answer_all(next)?;
        }
        self.answer_all(f64::INFINITY)?;
        self.ended.warnings = std::mem::take(&mut self.warnings);
        Ok(())
    }

    fn note_dropped(&mut self, dropped: u64) {
        let more = dropped - self.ended.dropped;
        if more > 0 {
            self.ended.dropped = dropped;
            VideoWarning::Late { count: more }.add_to(&mut self.warnings);
        }
    }

    fn bounds(&self, window: u64) -> (f64, f64) {
        let start = window as f64 * self.stride;
        (start, start + self.length)
    }

    /// The first window that a frame of this time can be in.
    fn first_with(&self, time: f64) -> u64 {
        (((time - self.length) / self.stride).floor() + 1.0).max(0.0) as u64
    }

    /// Answers the windows that end by `time`, as far as there are frames in them. At the end
    /// of it all, the window that reaches the last frame is the last.
    fn answer_all(&mut self, time: f64) -> Result<(), Error> {
        loop {
            let (start, end) = self.bounds(self.window);
            let last = self.looked.back().map(|last| last.frame.time);
            if time.is_infinite() && last.is_some_and(|last| last < self.covered) {
                return Ok(());
            }
            while self.looked.front().is_some_and(|l| l.frame.time < start) {
                self.looked.pop_front();
            }
            let Some(first) = self.looked.front() else {
                // Nothing is in any until the next frame.
                if time.is_finite() {
                    self.window = self.window.max(self.first_with(time));
                }
                return Ok(());
            };
            if end > time {
                return Ok(());
            }
            if first.frame.time < end {
                self.answer(start, end)?;
            }
            self.window += 1;
        }
    }

    fn answer(&mut self, start: f64, end: f64) -> Result<(), Error> {
        let inside = || self.looked.iter().take_while(|l| l.frame.time < end);
        let Some(last) = inside().last().map(|l| l.at) else {
            return Ok(());
        };
        let frames = inside().map(|l| (l.frame.clone(), l.sight.clone()));
        let footage = Footage::seen(self.pipeline, frames.collect());
        let people = self
            .finder
            .predict_footage(self.pipeline, &footage, self.people);
        let mut predictions = match people {
            Ok(people) => match people.answer {
                crate::Answer::Clip(predictions) => predictions,
                crate::Answer::Windows(_) => Vec::new(),
            },
            // Nobody is there to be answered about, in a model that does not say so itself.
            Err(Error::In { source, .. })
                if matches!(*source, Error::NoFace | Error::SeenTooSeldom { .. }) =>
            {
                Vec::new()
            }
            Err(fault) => return Err(fault),
        };
        let warnings = std::mem::take(&mut self.warnings);
        for prediction in &mut predictions {
            (prediction.start, prediction.end) = (start, end);
            let of_video = warnings.iter().cloned().map(Warning::Video);
            prediction.warnings.extend(of_video);
        }
        self.known.number(&mut predictions);
        self.covered = end;
        self.ended.windows += 1;
        let said = Said {
            predictions,
            delay: last.elapsed(),
            dropped: self.ended.dropped,
        };
        match (self.tell)(said) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled {
                done: self.ended.windows,
            }),
        }
    }
}

/// Whose face was where in the last window, by the number of the person.
#[derive(Default)]
struct Known {
    faces: Vec<Place>,
    /// People so far.
    count: u32,
}

/// Where somebody's face was.
struct Place {
    person: u32,
    /// By the frames' numbers.
    faces: Vec<(u64, FaceBox)>,
    /// Windows since then.
    age: u32,
}

/// Windows after which somebody who went is not known again.
const FORGOTTEN: u32 = 8;

/// Faces of one person in neighbouring frames overlap this much.
const SAME: f32 = 0.3;

impl Known {
    /// Gives people the numbers that they had, and new ones to those who are new. Answers
    /// that tell nobody from another stay without.
    fn number(&mut self, predictions: &mut [Prediction]) {
        let mut now: Vec<Place> = Vec::new();
        for prediction in predictions.iter_mut().filter(|p| p.person.is_some()) {
            let frames = prediction.frames.iter();
            let faces = frames.filter_map(|f| Some((f.index, f.detected?.face_box)));
            let faces: Vec<_> = faces.collect();
            let free = |place: &&Place| now.iter().all(|other| other.person != place.person);
            let alike = self.faces.iter().filter(free);
            let alike = alike.map(|place| (place.person, overlap(&place.faces, &faces)));
            let best = alike.max_by(|a, b| a.1.total_cmp(&b.1));
            let person = match best {
                Some((person, overlap)) if overlap > SAME => person,
                _ => {
                    self.count += 1;
                    self.count
                }
            };
            prediction.person = Some(person);
            let age = 0;
            now.push(Place { person, faces, age });
        }
        for mut place in std::mem::take(&mut self.faces) {
            place.age += 1;
            let is_here = now.iter().any(|other| other.person == place.person);
            if !is_here && place.age <= FORGOTTEN {
                now.push(place);
            }
        }
        self.faces = now;
    }
}

/// How much faces overlap in the frames that both have or, where there are none, from the
/// last of the former to the first of the latter.
fn overlap(before: &[(u64, FaceBox)], now: &[(u64, FaceBox)]) -> f32 {
    let both = now.iter().filter_map(|(index, face)| {
        let other = before.iter().find(|(i, _)| i == index)?;
        Some(face.iou(&other.1))
    });
    let both: Vec<f32> = both.collect();
    match (both.is_empty(), before.last(), now.first()) {
        (false, ..) => both.iter().sum::<f32>() / both.len() as f32,
        (true, Some(last), Some(first)) => last.1.iou(&first.1),
        _ => 0.0,
    }
}
