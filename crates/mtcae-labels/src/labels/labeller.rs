//! From a clip to its labels.

#[cfg(feature = "ffmpeg")]
#[cfg(feature = "ffmpeg")]
use mtcae_core::Sampling;
#[cfg(feature = "ffmpeg")]
use mtcae_core::files::{self, At};
use mtcae_core::{Face, Track};
use mtcae_faces::tracks::{TrackConfig, link, subject};
use mtcae_faces::{Detector, Keep};
use mtcae_video::{Clip, ClipOptions, Geometry};
#[cfg(feature = "ffmpeg")]
use mtcae_video::{OpenOptions, Video, WindowOptions};

use super::record::{
    DetectorSettings, FaceRecord, FrameRecord, LabelledClip, RunSettings, Source, TrackRecord,
    Validity,
};
use crate::Error;
use crate::dataset::Sample;

/// Which picture the detector sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectAt {
    /// The clip's frame as the model sees it (224×224), as in the paper.
    #[default]
    Model,
    /// The source's picture at its full size.
    Source,
}

/// Which frames are labelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// The frames of one clip, as the model samples them.
    #[default]
    Clip,
    /// Every n-th frame of the file, from the first; 1 for all.
    Every(u64),
}

/// How clips are labelled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSettings {
    /// Size, sampling and resizing of the model's clip.
    pub clip: ClipOptions,
    /// Which picture the detector sees.
    pub at: DetectAt,
    /// Which frames are labelled.
    pub pick: Pick,
    /// How faces are linked.
    pub tracking: TrackConfig,
}

/// The faces of one frame, in pixels of the source.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameFaces {
    /// Number of the frame in the stream.
    pub index: u64,
    /// Seconds from the stream's first frame.
    pub time: f64,
    /// The faces.
    pub faces: Vec<Face>,
}

/// Labels clips with a detector.
pub struct Labeller {
    detector: Detector,
    settings: LabelSettings,
    #[cfg(feature = "ffmpeg")]
    open: OpenOptions,
}

/// Full-size frames worked on together, and most pixels of all of them but one: what
/// bounds the memory.
#[cfg(feature = "ffmpeg")]
const FULL_FRAMES: usize = 8;
#[cfg(feature = "ffmpeg")]
const FULL_PIXELS: usize = 1 << 24;
/// Seconds of frames at the model's size worked on together.
#[cfg(feature = "ffmpeg")]
const WINDOW: f64 = 1.0;

impl Labeller {
    /// # Errors
    /// [`Error::Config`] or [`Error::Faces`] when a setting cannot be used.
    pub fn new(detector: Detector, settings: LabelSettings) -> Result<Self, Error> {
        settings.tracking.check()?;
        if settings.clip.resize.crops() > 1 {
            return Err(Error::Config {
                field: "resize",
                reason: format!(
                    "{} shows a frame several times, and it is labelled once; squash shows all \
                     of it",
                    settings.clip.resize
                ),
            });
        }
        if settings.pick == Pick::Every(0) {
            return Err(Error::Config {
                field: "every",
                reason: "must be at least 1: one frame in so many is labelled".to_owned(),
            });
        }
        Ok(Self {
            detector,
            settings,
            #[cfg(feature = "ffmpeg")]
            open: OpenOptions::default(),
        })
    }

    /// Decodes each file on this many threads, where several are labelled at once;
    /// 0 for as many as rayon's current pool has. Labels are the same
    /// for any number.
    #[cfg(feature = "ffmpeg")]
    #[must_use]
    pub fn with_decoder_threads(mut self, threads: usize) -> Self {
        self.open.threads = threads;
        self
    }

    /// The detector.
    pub fn detector(&self) -> &Detector {
        &self.detector
    }

    /// The settings as a label file records them.
    pub fn run_settings(&self) -> RunSettings {
        let (s, d) = (&self.settings, self.detector.config());
        RunSettings {
            sampling: match s.pick {
                Pick::Clip => format!("{}/{}", s.clip.sampling, s.clip.frames),
                Pick::Every(n) => format!("every/{n}"),
            },
            detect_at: match s.at {
                DetectAt::Model => {
                    let (w, h) = s.clip.size;
                    format!("{w}x{h}/{}", s.clip.resize)
                }
                DetectAt::Source => "source".to_owned(),
            },
            detector: DetectorSettings {
                name: "mtcnn".to_owned(),
                min_face: d.min_face,
                factor: d.factor,
                thresholds: d.thresholds,
                keep: match d.keep {
                    Keep::All => "all",
                    Keep::Largest => "largest",
                    Keep::MostCentral => "most-central",
                    Keep::MostProbable => "most-probable",
                }
                .to_owned(),
            },
            tracking: s.tracking,
        }
    }

    /// The faces of each frame of a clip, in pixels of its source.
    ///
    /// # Errors
    /// [`Error::Faces`] when the frames are not RGB.
    pub fn faces(&self, clip: &Clip) -> Result<Vec<FrameFaces>, Error> {
        let (_, height, width, _) = clip.frames.dim();
        let found = self.detector.detect_batch(clip.frames.view())?;
        let stamps = clip.indices.iter().zip(&clip.times);
        Ok(found
            .into_iter()
            .zip(stamps)
            .map(|(faces, (&index, &time))| FrameFaces {
                index,
                time,
                faces: faces
                    .iter()
                    .map(|f| to_source(f, (width, height), &clip.source))
                    .collect(),
            })
            .collect())
    }

    /// Tracks and labels of faces found in the frames of a source.
    ///
    /// # Errors
    /// [`Error::Faces`] where a face has a score of 0.
    pub fn assemble(
        &self,
        sample: &Sample,
        source: &Geometry,
        frames: Vec<FrameFaces>,
    ) -> Result<LabelledClip, Error> {
        let mut labels = LabelledClip::unlabelled(sample, &self.run_settings());
        let times: Vec<f64> = frames.iter().map(|f| f.time).collect();
        let stamps: Vec<u64> = frames.iter().map(|f| f.index).collect();
        let faces: Vec<Vec<Face>> = frames.into_iter().map(|f| f.faces).collect();
        let tracks = link(&faces, &times, &self.settings.tracking)?;
        let subject = subject(&tracks);
        labels.source = Some(Source::from(source));
        labels.frames = stamps
            .iter()
            .zip(&times)
            .enumerate()
            .map(|(i, (&index, &time))| FrameRecord {
                index,
                time,
                validity: subject
                    .and_then(|s| tracks[s].at(i))
                    .map_or(Validity::None, Validity::from),
            })
            .collect();
        labels.tracks = tracks
            .iter()
            .enumerate()
            .map(|(i, track)| record(track, Some(i) == subject, source))
            .collect();
        Ok(labels)
    }

    /// Labels a clip that is already in memory. There is no content hash.
    ///
    /// # Errors
    /// [`Error::Faces`] when the frames are not RGB.
    pub fn label_clip(&self, sample: &Sample, clip: &Clip) -> Result<LabelledClip, Error> {
        let faces = self.faces(clip)?;
        let mut labels = self.assemble(sample, &clip.source, faces)?;
        labels.warnings = clip.warnings.iter().map(ToString::to_string).collect();
        Ok(labels)
    }

    /// Labels a video or image file. A file that cannot be labelled gives labels
    /// with an `error` and no frames, never an error of the run.
    #[cfg(feature = "ffmpeg")]
    pub fn label_file(&self, sample: &Sample) -> LabelledClip {
        let mut sha256 = None;
        let labelled = files::sha256(&sample.path)
            .at(&sample.path)
            .map_err(Error::from)
            .and_then(|hash| {
                sha256 = Some(hash);
                self.label_video(sample)
            });
        let mut labels = labelled.unwrap_or_else(|error| {
            let mut labels = LabelledClip::unlabelled(sample, &self.run_settings());
            labels.error = Some(error.to_string());
            labels
        });
        labels.sha256 = sha256;
        labels
    }

    #[cfg(feature = "ffmpeg")]
    fn label_video(&self, sample: &Sample) -> Result<LabelledClip, Error> {
        let mut video = Video::open_with(&sample.path, &self.open)?;
        match (self.settings.pick, self.settings.at) {
            (Pick::Clip, DetectAt::Model) => {
                self.label_clip(sample, &video.clip(&self.settings.clip)?)
            }
            (Pick::Every(n), DetectAt::Model) => {
                let windows = video.windows(&WindowOptions {
                    length: WINDOW,
                    stride: WINDOW,
                    clip: ClipOptions {
                        sampling: Sampling::All,
                        ..self.settings.clip.clone()
                    },
                })?;
                let (mut found, mut warnings) = (Vec::new(), Vec::new());
                let mut source = None;
                for window in windows {
                    for mut clip in window?.views {
                        source.get_or_insert(clip.source);
                        for warning in std::mem::take(&mut clip.warnings) {
                            warning.add_to(&mut warnings);
                        }
                        let kept: Vec<usize> = (0..clip.len())
                            .filter(|&i| clip.indices[i] % n == 0)
                            .collect();
                        if kept.len() < clip.len() {
                            clip.frames = clip.frames.select(ndarray::Axis(0), &kept);
                            clip.times = kept.iter().map(|&i| clip.times[i]).collect();
                            clip.indices = kept.iter().map(|&i| clip.indices[i]).collect();
                        }
                        found.extend(self.faces(&clip)?);
                    }
                }
                let source = source.unwrap_or_else(|| Geometry::plain(1, 1));
                let mut labels = self.assemble(sample, &source, found)?;
                labels.warnings = warnings.iter().map(ToString::to_string).collect();
                Ok(labels)
            }
            (pick, DetectAt::Source) => {
                let wanted = match pick {
                    Pick::Every(_) => None,
                    Pick::Clip => {
                        let total = video.frame_count()?;
                        let clip = &self.settings.clip;
                        Some(clip.sampling.indices(total, clip.frames))
                    }
                };
                self.label_full_size(sample, video, pick, wanted)
            }
        }
    }

    /// Detects in frames of full size: those that `wanted` numbers, in its order
    /// and as often, or every n-th.
    #[cfg(feature = "ffmpeg")]
    fn label_full_size(
        &self,
        sample: &Sample,
        video: Video,
        pick: Pick,
        wanted: Option<Vec<u64>>,
    ) -> Result<LabelledClip, Error> {
        let mut frames = video.frames()?;
        let mut found: Vec<FrameFaces> = Vec::new();
        let mut source: Option<Geometry> = None;
        let mut group: Vec<mtcae_video::FullFrame> = Vec::new();
        let last = wanted.as_ref().and_then(|w| w.iter().max().copied());
        for frame in frames.by_ref() {
            let frame = frame?;
            let index = frame.index;
            source.get_or_insert(frame.source);
            let take = match (&wanted, pick) {
                (Some(wanted), _) => wanted.contains(&index),
                (None, Pick::Every(n)) => index % n == 0,
                (None, Pick::Clip) => true,
            };
            if take {
                let size = frame.pixels.dim();
                if group.last().is_some_and(|f| f.pixels.dim() != size) {
                    self.detect_group(&mut group, &mut found)?;
                }
                group.push(frame);
                // Not kept until the next one is there, where they are large.
                let pixels = (group.len() + 1) * size.0 * size.1;
                if group.len() >= FULL_FRAMES || pixels > FULL_PIXELS {
                    self.detect_group(&mut group, &mut found)?;
                }
            }
            if last.is_some_and(|last| index >= last) {
                break;
            }
        }
        self.detect_group(&mut group, &mut found)?;
        let mut warnings: Vec<String> = frames.warnings().iter().map(ToString::to_string).collect();
        if let Some(wanted) = wanted {
            // Frames may be wanted twice; those that did not decode are told of.
            let all: Vec<FrameFaces> = wanted
                .iter()
                .filter_map(|i| found.iter().find(|f| f.index == *i).cloned())
                .collect();
            if all.len() < wanted.len() {
                let lost = wanted.len() - all.len();
                warnings.push(format!("{lost} of the sampled frames did not decode"));
            }
            found = all;
        }
        let source = source.unwrap_or_else(|| Geometry::plain(1, 1));
        let mut labels = self.assemble(sample, &source, found)?;
        labels.warnings = warnings;
        Ok(labels)
    }

    #[cfg(feature = "ffmpeg")]
    fn detect_group(
        &self,
        group: &mut Vec<mtcae_video::FullFrame>,
        found: &mut Vec<FrameFaces>,
    ) -> Result<(), Error> {
        let views: Vec<_> = group.iter().map(|f| f.pixels.view()).collect();
        if views.is_empty() {
            return Ok(());
        }
        let faces = match views.as_slice() {
            [one] => vec![self.detector.detect(*one)?],
            several => {
                let stack = ndarray::stack(ndarray::Axis(0), several);
                let stack = stack.map_err(|e| Error::Config {
                    field: "frames",
                    reason: e.to_string(),
                })?;
                self.detector.detect_batch(stack.view())?
            }
        };
        for (frame, faces) in group.drain(..).zip(faces) {
            found.push(FrameFaces {
                index: frame.index,
                time: frame.time,
                faces,
            });
        }
        Ok(())
    }
}

/// A face of a clip's frame in pixels of the source.
fn to_source(face: &Face, (width, height): (usize, usize), source: &Geometry) -> Face {
    face.map(|[x, y]| {
        let (x, y) = (f64::from(x) / width as f64, f64::from(y) / height as f64);
        let (x, y) = source.to_source(x, y);
        [x as f32, y as f32]
    })
}

/// A track as fractions of the source's picture.
fn record(track: &Track, is_subject: bool, source: &Geometry) -> TrackRecord {
    let point = |[x, y]: [f32; 2]| {
        [
            (f64::from(x) / f64::from(source.width.max(1))) as f32,
            (f64::from(y) / f64::from(source.height.max(1))) as f32,
        ]
    };
    TrackRecord {
        id: track.id,
        is_subject,
        faces: (track.first..)
            .zip(&track.faces)
            .map(|(frame, face)| FaceRecord::new(frame, &face.map(point)))
            .collect(),
    }
}
