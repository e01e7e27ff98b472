//! MTCNN's faces in the frames that the model looks at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Device;
use mtcae_core::{Face, Resize};
use mtcae_faces::people::{Look, PeopleConfig, Person, Scene, Sighting, people};
use mtcae_faces::{Detector, DetectorConfig};
use mtcae_model::Answers;
use mtcae_video::{FrameResizer, FullFrame, Geometry, Video};
use rayon::prelude::*;

use crate::footage::Footage;
use crate::refuse::outside;
use crate::{
    Answer, Error, PeopleOptions, Pipeline, Prediction, Progress, Seen, Timeline, Windowing,
};

/// Which picture a detector of faces looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectAt {
    /// The source's, at its full size.
    #[default]
    Source,
    /// One as small as the model's own, which is the paper's way and misses small faces.
    Model,
}

/// Finds faces by MTCNN in the frames that a [`Pipeline`] reads anyway, links them over
/// time to people, and puts them beside the model's own. It can be shared between
/// threads.
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use mtcae_dfer::{DetectAt, Device, FaceFinder, PeopleOptions, Pipeline};
///
/// let pipeline = Pipeline::load("checkpoint", &Device::Cpu)?;
/// let finder = FaceFinder::new(&Device::Cpu, DetectAt::Source, None)?;
/// let prediction = finder.predict(&pipeline, "face.mp4")?;
/// println!("a face is seen in {:?}", prediction.seen);
/// // Of everybody in the picture, each from a crop to their face:
/// let options = PeopleOptions { everybody: true, ..PeopleOptions::default() };
/// let people = finder.predict_people(&pipeline, "crowd.mp4", &options, |_| ControlFlow::Continue(()))?;
/// for prediction in people.answer.predictions() {
///     println!("person {:?}: {}", prediction.person, prediction.expression);
/// }
/// # Ok::<(), mtcae_dfer::Error>(())
/// ```
#[derive(Clone)]
pub struct FaceFinder {
    device: Device,
    at: DetectAt,
    min_face: Option<f64>,
    /// The last detector that was made, and the smallest face that it looks for.
    made: Arc<Mutex<Option<Made>>>,
}

/// The smallest face that a detector looks for, and the detector.
type Made = (f64, Arc<Detector>);

impl fmt::Debug for FaceFinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaceFinder")
            .field("at", &self.at)
            .field("min_face", &self.min_face)
            .finish_non_exhaustive()
    }
}

/// What a detector sees in one frame.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    scene: Scene,
    source: Geometry,
    min_face: f64,
}

/// What is kept of a frame.
struct About {
    time: f64,
    has_face: bool,
    source: Geometry,
    min_face: f64,
}

/// What a video's frames show, by their numbers.
#[derive(Default)]
struct Noted {
    sights: BTreeMap<u64, Arc<Sight>>,
    kept: Kept,
    fault: Option<Error>,
}

/// Whole frames by their numbers, until they are too many: then none.
#[derive(Default)]
pub(crate) struct Kept {
    frames: HashMap<u64, Arc<FullFrame>>,
    bytes: u64,
    limit: u64,
}

impl Kept {
    /// A frame; `None` where frames were too many.
    pub fn frame(&self, index: u64) -> Option<&FullFrame> {
        self.frames.get(&index).map(|frame| &**frame)
    }

    /// Whether it keeps none, since they were too many.
    pub fn is_over(&self) -> bool {
        self.bytes > self.limit
    }

    /// Keeps a frame, in the place of what was shown of that number before.
    fn add(&mut self, frame: Arc<FullFrame>) {
        self.bytes += frame.pixels.len() as u64;
        if self.is_over() {
            self.frames = HashMap::new();
        } else if let Some(before) = self.frames.insert(frame.index, frame) {
            self.bytes -= before.pixels.len() as u64;
        }
    }
}

/// Looks at the frames of one video as they are decoded.
pub(crate) struct Watcher {
    finder: FaceFinder,
    noted: Arc<Mutex<Noted>>,
    /// Width and height of the model's frames.
    size: (u32, u32),
}

/// The people of a video.
pub(crate) struct Found {
    /// The frames that were looked at, in order.
    about: Vec<About>,
    /// Which of them has each number, from 0.
    places: HashMap<u64, usize>,
    /// Whose faces these are; their frames count through `about`.
    pub people: Vec<Person>,
    /// The frames themselves, as far as they were kept.
    pub kept: Kept,
    at: String,
}

impl FaceFinder {
    /// Looks at pictures of one kind for faces whose side is at least `min_face` pixels
    /// of that picture: by default 20, and a twentieth of the source's short side where
    /// that is more.
    ///
    /// # Errors
    /// When the size cannot be used or the device fails.
    pub fn new(device: &Device, at: DetectAt, min_face: Option<f64>) -> Result<Self, Error> {
        let finder = Self {
            device: device.clone(),
            at,
            min_face,
            made: Arc::default(),
        };
        finder.detector(min_face.unwrap_or(DetectorConfig::default().min_face))?;
        Ok(finder)
    }

    /// Begins to look at a video, whose frames are kept up to so many bytes.
    pub(crate) fn watch(&self, pipeline: &Pipeline, limit: u64) -> Watcher {
        let kept = Kept {
            limit,
            ..Kept::default()
        };
        let noted = Noted {
            kept,
            ..Noted::default()
        };
        Watcher {
            finder: self.clone(),
            noted: Arc::new(Mutex::new(noted)),
            size: pipeline.clip_options().size,
        }
    }

    /// What the model says of a file, of a crop to its subject where it sees crops
    /// ([`Pipeline::crop`]), with the faces of its subject, who is
    /// the person seen in most frames ([`FramePrediction::detected`]), and in how many of
    /// its frames anybody's face is seen ([`Prediction::seen`]).
    ///
    /// [`FramePrediction::detected`]: crate::FramePrediction::detected
    ///
    /// # Errors
    /// One line that names the file and its fault, or what the detector met.
    pub fn predict(
        &self,
        pipeline: &Pipeline,
        path: impl AsRef<Path>,
    ) -> Result<Prediction, Error> {
        let path = path.as_ref();
        if !pipeline.crop().is_none() {
            let options = PeopleOptions::default();
            let go_on = |_: Progress| ControlFlow::Continue(());
            let people = self.predict_people(pipeline, path, &options, go_on)?;
            return match people.answer {
                Answer::Clip(mut answers) if !answers.is_empty() => Ok(answers.remove(0)),
                _ => Err(Error::NoFace.of(path)),
            };
        }
        let watcher = self.watch(pipeline, 0);
        let mut video = watcher.at(pipeline.open(path)?);
        let views = pipeline.read_of(&mut video)?;
        let found = watcher.found(views.iter().flat_map(|clip| &clip.indices))?;
        let mut prediction = pipeline.predict_views(path, &views)?;
        found.note_subject(
            std::slice::from_mut(&mut prediction),
            pipeline.config().answers.as_ref(),
        );
        Ok(prediction)
    }

    /// As [`Pipeline::predict_windows`], with crops and faces as [`Self::predict`]
    /// puts them beside it.
    ///
    /// # Errors
    /// As [`Pipeline::predict_windows`], and what the detector met.
    pub fn predict_windows(
        &self,
        pipeline: &Pipeline,
        path: impl AsRef<Path>,
        windowing: &Windowing,
        progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Timeline, Error> {
        let path = path.as_ref();
        if !pipeline.crop().is_none() {
            let options = PeopleOptions {
                windowing: Some(*windowing),
                ..PeopleOptions::default()
            };
            let people = self.predict_people(pipeline, path, &options, progress)?;
            return match people.answer {
                Answer::Windows(mut timelines) if !timelines.is_empty() => Ok(timelines.remove(0)),
                _ => Err(Error::NoFace.of(path)),
            };
        }
        let watcher = self.watch(pipeline, 0);
        let video = watcher.at(pipeline.open(path)?);
        let mut timeline = pipeline.predict_windows_of(video, windowing, progress)?;
        let frames = timeline.windows.iter().flat_map(|w| &w.frames);
        let found = watcher.found(frames.map(|f| &f.index))?;
        let answers = pipeline.config().answers.as_ref();
        found.note_subject(&mut timeline.windows, answers);
        // Of windows with an answer alone.
        Timeline::new(timeline.length, timeline.stride, timeline.windows)
    }

    /// The people in frames in memory, all of which are kept.
    pub(crate) fn found_in(&self, pipeline: &Pipeline, footage: &Footage) -> Result<Found, Error> {
        let watcher = self.watch(pipeline, u64::MAX);
        let look = |frame: &Arc<FullFrame>| Ok(Arc::new(self.look(frame, watcher.size)?));
        let look = || footage.frames().par_iter().map(look).collect();
        let sights: Result<Vec<Arc<Sight>>, Error> = match footage.sights() {
            [] => pipeline.install(look),
            seen => Ok(seen.to_vec()),
        };
        let mut noted = watcher.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for (frame, sight) in footage.frames().iter().zip(sights?) {
            noted.sights.insert(frame.index, sight);
            noted.kept.add(frame.clone());
        }
        drop(noted);
        watcher.found(footage.frames().iter().map(|frame| &frame.index))
    }

    fn detector(&self, min_face: f64) -> Result<Arc<Detector>, Error> {
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, detector)) = made().as_ref().filter(|made| made.0 == min_face) {
            return Ok(detector.clone());
        }
        // Not under the lock: what waits in the pool may want it too.
        let config = DetectorConfig {
            min_face,
            ..DetectorConfig::default()
        };
        let detector = Arc::new(Detector::new(config)?.to_device(&self.device)?);
        *made() = Some((min_face, detector.clone()));
        Ok(detector)
    }

    /// Looks at a frame as it comes.
    pub(crate) fn look_at(&self, frame: &FullFrame, pipeline: &Pipeline) -> Result<Sight, Error> {
        self.look(frame, pipeline.clip_options().size)
    }

    fn look(&self, frame: &FullFrame, size: (u32, u32)) -> Result<Sight, Error> {
        let small = match self.at {
            DetectAt::Source => None,
            DetectAt::Model => {
                let mut resizer = FrameResizer::default();
                let part = frame.part(&Resize::Squash, size, &mut resizer);
                Some(part.map_err(Error::Part)?.0)
            }
        };
        let picture = small.as_ref().unwrap_or(&frame.pixels);
        let (height, width, _) = picture.dim();
        let min_face = self.min_face.unwrap_or_else(|| {
            let usual = DetectorConfig::default().min_face;
            match self.at {
                DetectAt::Source => usual.max((width.min(height) as f64 / 20.0).round()),
                DetectAt::Model => usual,
            }
        });
        let found = self.detector(min_face)?.detect(picture.view())?;
        let scale = [
            frame.source.width as f32 / width as f32,
            frame.source.height as f32 / height as f32,
        ];
        let faces = found.iter().map(|face| Sighting {
            face: face.map(|[x, y]| [x * scale[0], y * scale[1]]),
            look: Look::of(picture.view(), face),
        });
        Ok(Sight {
            scene: Scene {
                time: frame.time,
                faces: faces.collect(),
                look: Look::of_all(picture.view()),
            },
            source: frame.source,
            min_face,
        })
    }
}

impl Watcher {
    /// The video, whose frames this will see.
    pub fn at(&self, video: Video) -> Video {
        let (finder, noted, size) = (self.finder.clone(), self.noted.clone(), self.size);
        video.watched_by(move |frame| {
            let sight = finder.look(&frame, size);
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            match sight {
                Ok(sight) => {
                    noted.sights.insert(frame.index, Arc::new(sight));
                    noted.kept.add(Arc::new(frame));
                }
                Err(fault) => noted.fault = Some(fault),
            }
        })
    }

    /// The people in the frames of these numbers.
    ///
    /// # Errors
    /// What the detector met.
    pub fn found<'a>(self, indices: impl Iterator<Item = &'a u64>) -> Result<Found, Error> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let Noted {
            mut sights,
            kept,
            fault,
        } = std::mem::take(&mut *noted);
        if let Some(fault) = fault {
            return Err(fault);
        }
        let wanted: BTreeSet<u64> = indices.copied().collect();
        sights.retain(|index, _| wanted.contains(index));
        let places = sights.keys().enumerate().map(|(i, &index)| (index, i));
        let places = places.collect();
        let mut about = Vec::with_capacity(sights.len());
        let mut scenes = Vec::with_capacity(sights.len());
        for sight in sights.into_values().map(Arc::unwrap_or_clone) {
            about.push(About {
                time: sight.scene.time,
                has_face: !sight.scene.faces.is_empty(),
                source: sight.source,
                min_face: sight.min_face,
            });
            scenes.push(sight.scene);
        }
        let people = people(&scenes, &PeopleConfig::default())?;
        let at = match self.finder.at {
            DetectAt::Source => "source".to_owned(),
            DetectAt::Model => format!("{}x{}", self.size.0, self.size.1),
        };
        Ok(Found {
            about,
            places,
            people,
            kept,
            at,
        })
    }
}

impl Found {
    /// The person seen in most frames; of equals the one with the larger face.
    pub fn subject(&self) -> Option<usize> {
        (0..self.people.len()).max_by(|&a, &b| {
            let (p, q) = (&self.people[a], &self.people[b]);
            (p.detected().cmp(&q.detected()))
                .then(p.mean_area().total_cmp(&q.mean_area()))
                .then(b.cmp(&a))
        })
    }

    /// The face of a person in the frame of a number.
    pub fn face(&self, person: usize, index: u64) -> Option<&Face> {
        let &frame = self.places.get(&index)?;
        self.people[person].at(frame)
    }

    /// A person's face while they are followed without a break, in the frame of a number
    /// and those around it: times, and faces in display pixels.
    pub fn followed(&self, person: usize, index: u64) -> Option<(f64, Vec<(f64, Face)>)> {
        let &frame = self.places.get(&index)?;
        let tracks = &self.people[person].tracks;
        let track = tracks.iter().find(|track| track.at(frame).is_some())?;
        let aspect = self.source().pixel_aspect() as f32;
        let frames = self.about[track.first..].iter().zip(&track.faces);
        let faces = frames.map(|(about, face)| (about.time, face.map(|[x, y]| [x * aspect, y])));
        Some((self.about[frame].time, faces.collect()))
    }

    /// Whether a person is seen in the frame of a number, and not only there in between.
    pub fn is_seen(&self, person: usize, index: u64) -> bool {
        let frame = self.places.get(&index);
        frame.is_some_and(|&frame| self.people[person].is_seen(frame))
    }

    /// The picture that the frames were taken from.
    pub fn source(&self) -> Geometry {
        let first = self.about.first();
        first.map_or_else(|| Geometry::plain(1, 1), |frame| frame.source)
    }

    /// Puts a person's faces beside the model's.
    pub fn note(&self, prediction: &mut Prediction, person: usize) {
        for frame in &mut prediction.frames {
            frame.detected = self.face(person, frame.index).copied();
        }
    }

    /// In how many of these frames there is a face.
    pub fn seen(&self, indices: &[u64], is_seen: impl Fn(u64) -> bool) -> Seen {
        Seen {
            frames: indices.iter().filter(|&&i| is_seen(i)).count() as u32,
            of: indices.len() as u32,
            at: self.at.clone(),
            min_face: self.about.iter().map(|f| f.min_face).fold(0.0, f64::max),
        }
    }

    /// How many others are seen nearly as often as the subject, and are nearly as large.
    pub fn rivals(&self, subject: usize) -> u32 {
        let (frames, area) = (
            self.people[subject].detected() as f64,
            self.people[subject].mean_area(),
        );
        let others = self.people.iter().enumerate().filter(|(i, person)| {
            let often = person.detected() as f64 >= 0.8 * frames;
            *i != subject && often && person.mean_area() >= 0.7 * area
        });
        others.count() as u32
    }

    /// In how many of these frames a person is beyond the border: not seen after they went
    /// over it, or before they came. Numbers grow.
    pub fn gone(&self, person: usize, indices: &[u64]) -> u32 {
        let source = self.source();
        let size = [source.width, source.height].map(f64::from);
        let there = |&i: &u64| self.face(person, i).is_some();
        let (Some(first), Some(last)) = (
            indices.iter().position(there),
            indices.iter().rposition(there),
        ) else {
            return 0;
        };
        let crosses = |at: usize| {
            let face = self.face(person, indices[at]);
            face.is_some_and(|face| outside(face, size) > 0.0)
        };
        let before = if crosses(first) { first } else { 0 };
        let after = if crosses(last) {
            indices.len() - 1 - last
        } else {
            0
        };
        (before + after) as u32
    }

    /// Numbers and times of frames that were looked at.
    pub fn stamps<'a>(&'a self, indices: &'a [u64]) -> impl Iterator<Item = (u64, f64)> + 'a {
        let time = |i| Some(self.about[*self.places.get(i)?].time);
        indices.iter().filter_map(move |i| Some((*i, time(i)?)))
    }

    /// In how many of these frames there is anybody's face.
    pub fn anybody(&self, indices: &[u64]) -> Seen {
        let seen = |i| self.places.get(&i).is_some_and(|&p| self.about[p].has_face);
        self.seen(indices, seen)
    }

    /// Puts the subject's faces beside those of answers about whole pictures, and in how
    /// many of their frames there is anybody's; where the model's config asks for it, there
    /// is no answer then.
    pub(crate) fn note_subject(&self, predictions: &mut [Prediction], answers: Option<&Answers>) {
        let subject = self.subject();
        for prediction in predictions {
            if let Some(person) = subject {
                self.note(prediction, person);
            }
            let indices: Vec<u64> = prediction.frames.iter().map(|f| f.index).collect();
            prediction.note_seen(self.anybody(&indices));
            if let Some(answers) = answers {
                prediction.judge(answers);
            }
        }
    }
}
