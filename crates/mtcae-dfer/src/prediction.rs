//! What the pipeline says of a clip, in the units of its source.

use std::fmt;
use std::path::PathBuf;

use mtcae_core::argmax;
use mtcae_core::{Face, FaceBox, Landmarks, Refusal, Square};
use mtcae_model::{ACTION_UNITS, Config, EXPRESSION, FACE_BOX, LANDMARKS};
use mtcae_video::{Clip, Geometry};
use serde::{Deserialize, Serialize};

/// What the model says of one clip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The file, where the clip came from one. Written as text; what of a name is not
    /// Unicode comes out as U+FFFD.
    #[serde(serialize_with = "as_text")]
    pub file: Option<PathBuf>,
    /// Number of the person, where the caller tells several apart: the pipeline looks
    /// at a clip as a whole and leaves it out.
    pub person: Option<u32>,
    /// Time of the first moment that the clip stands for, in seconds.
    pub start: f64,
    /// Time of the last moment that the clip stands for, in seconds.
    pub end: f64,
    /// The most probable expression; empty where no answer is given.
    pub expression: String,
    /// The greatest of the probabilities, in [0, 1]; 0 where nothing was computed.
    pub confidence: f32,
    /// Why no expression is named, where the model's config asks for that to be said
    /// ([`Answers`](mtcae_model::Answers)).
    #[serde(default)]
    pub refusal: Option<Refusal>,
    /// All classes in the model's order; the probabilities sum to 1. Empty where nobody is
    /// seen whom the model could have been shown.
    pub probabilities: Vec<ClassProbability>,
    /// Names of the action units of the Facial Action Coding System whose strengths `frames`
    /// have, in their order: `AU1`, …. Empty where the model has no such task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub action_units: Vec<String>,
    /// Every sampled frame, in the order of time; once for each clip that has it.
    pub frames: Vec<FramePrediction>,
    /// The source's picture; all coordinates are in its upright pixels. Its crop is what
    /// the model saw: of several views, the rectangle around their parts.
    pub source: Geometry,
    /// What the weights were trained on, as the checkpoint says it. `None` when they
    /// were not trained: the numbers mean nothing then.
    pub trained_on: Option<String>,
    /// In how many of the clip's frames a detector saw a face. `None` when none was
    /// asked.
    #[serde(default)]
    pub seen: Option<Seen>,
    /// What was dropped, guessed or damaged in the video, and what speaks against the
    /// answer.
    pub warnings: Vec<Warning>,
}

/// In how many of a clip's frames a detector saw a face: the person's, where the answer is
/// about a crop to one, and anybody's otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Frames with the face.
    pub frames: u32,
    /// Frames that were looked at.
    pub of: u32,
    /// Which picture the detector looked at: `source`, at its full size, or the model's
    /// `WIDTHxHEIGHT`.
    pub at: String,
    /// The smallest face that it looks for, in pixels of that picture.
    pub min_face: f64,
}

/// A reason to be careful with an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Warning {
    /// The video's.
    Video(mtcae_video::Warning),
    /// The answer's.
    Face(FaceWarning),
}

/// What speaks against an answer about a face.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum FaceWarning {
    /// No frame shows a face that the detector sees: the answer rests on nothing.
    NoFace {
        /// Frames that were looked at.
        of: u32,
    },
    /// Fewer than half of the frames show one.
    FaceInFew {
        /// Frames with a face.
        frames: u32,
        /// Frames that were looked at.
        of: u32,
    },
    /// The face that is followed is partly beyond the picture's border, or has left it.
    LeavesPicture {
        /// Frames in which it is.
        frames: u32,
        /// Frames that were looked at.
        of: u32,
    },
    /// Others are seen as long and as large: the answer is about one of several.
    Several {
        /// How many others.
        others: u32,
    },
    /// The model was trained on crops to faces, and was shown the whole picture.
    NotCropped,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Video(warning) => warning.fmt(f),
            Self::Face(FaceWarning::NoFace { of }) => write!(
                f,
                "no face is seen in any of the {of} frames: the answer rests on nothing"
            ),
            Self::Face(FaceWarning::FaceInFew { frames, of }) => {
                write!(f, "a face is seen in only {frames} of the {of} frames")
            }
            Self::Face(FaceWarning::LeavesPicture { frames, of }) => {
                write!(f, "the face leaves the picture in {frames} of {of} frames")
            }
            Self::Face(FaceWarning::Several { others: 1 }) => f.write_str(
                "another face is seen as long and as large: the answer is about one of two",
            ),
            Self::Face(FaceWarning::Several { others }) => write!(
                f,
                "{others} other faces are seen as long and as large: the answer is about one of {}",
                others + 1
            ),
            Self::Face(FaceWarning::NotCropped) => f.write_str(
                "the model was trained on crops to faces, and is shown the whole picture",
            ),
        }
    }
}

/// One class and its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassProbability {
    /// The expression.
    pub class: String,
    /// In [0, 1].
    pub probability: f32,
}

/// What the model says of one sampled frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FramePrediction {
    /// Number of the frame in the stream, from 0.
    pub index: u64,
    /// Seconds from the stream's first frame.
    pub time: f64,
    /// The face, in pixels of the source; where several crops of the clip were looked at,
    /// the median of each coordinate. `None` where the model has no such task.
    pub face_box: Option<FaceBox>,
    /// Five landmarks in pixels of the source, of several crops as the box. `None` where
    /// the model has no such task.
    pub landmarks: Option<Landmarks>,
    /// How strong each of the prediction's `action_units` is, from 0 at rest to 1 at the full
    /// strength, the mean of both sides of the face; of several crops the median.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub action_units: Vec<f32>,
    /// The face that a detector of the caller's found in this frame, such as MTCNN of
    /// `mtcae-faces`, in pixels of the source; the pipeline asks none.
    pub detected: Option<Face>,
    /// The square that the model saw of this frame, where that follows the face: in pixels of
    /// the source, made as wide as high where they are not.
    #[serde(default)]
    pub square: Option<Square>,
}

/// JSON holds Unicode, and names of files need not be.
fn as_text<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref()
        .map(|p| p.to_string_lossy())
        .serialize(serializer)
}

/// Head outputs of one clip, as plain numbers in fractions of the clip's frame.
pub(crate) struct Raw {
    /// T boxes of x1, y1, x2, y2.
    pub boxes: Option<Vec<Vec<f32>>>,
    /// T × 5 points.
    pub landmarks: Option<Vec<Vec<Vec<f32>>>>,
    /// T × U strengths.
    pub action_units: Option<Vec<Vec<f32>>>,
    /// C probabilities.
    pub probabilities: Vec<f32>,
}

impl Raw {
    /// The first head with a number that is not finite.
    pub fn not_finite(&self) -> Option<&'static str> {
        let boxes = self.boxes.iter().flatten().flatten();
        let landmarks = self.landmarks.iter().flatten().flatten().flatten();
        let units = self.action_units.iter().flatten().flatten();
        let of = |head, finite: bool| (!finite).then_some(head);
        of(FACE_BOX, boxes.copied().all(f32::is_finite))
            .or(of(LANDMARKS, landmarks.copied().all(f32::is_finite)))
            .or(of(ACTION_UNITS, units.copied().all(f32::is_finite)))
            .or(of(
                EXPRESSION,
                self.probabilities.iter().all(|p| p.is_finite()),
            ))
    }
}

impl Prediction {
    /// Turns fractions of the clip's frame into pixels of the source.
    pub(crate) fn new(clip: &Clip, raw: Raw, model: &Config) -> Self {
        let frames = clip.times.iter().zip(&clip.indices).enumerate();
        let frames = frames.map(|(i, (&time, &index))| FramePrediction {
            index,
            time,
            face_box: raw.boxes.as_ref().map(|boxes| {
                let corner = |k: usize| boxes[i][k];
                clip.box_in_source(i, &std::array::from_fn(corner).into())
            }),
            landmarks: raw.landmarks.as_ref().map(|landmarks| {
                let point = |k: usize| [landmarks[i][k][0], landmarks[i][k][1]];
                clip.landmarks_in_source(i, &std::array::from_fn(point).into())
            }),
            action_units: match &raw.action_units {
                // A little below rest and above the full strength is what a regression says.
                Some(units) => units[i].iter().map(|u| u.clamp(0.0, 1.0)).collect(),
                None => Vec::new(),
            },
            detected: None,
            square: clip.squares.get(i).copied(),
        });
        let mut prediction = Self {
            file: None,
            person: None,
            start: clip.times.first().copied().unwrap_or(0.0),
            end: clip.times.last().copied().unwrap_or(0.0),
            expression: String::new(),
            confidence: 0.0,
            refusal: None,
            probabilities: model
                .classes
                .iter()
                .zip(raw.probabilities)
                .map(|(class, probability)| ClassProbability {
                    class: class.clone(),
                    probability,
                })
                .collect(),
            action_units: model.action_units.clone(),
            frames: frames.collect(),
            source: clip.source,
            trained_on: model.trained_on.clone(),
            seen: None,
            warnings: clip.warnings.iter().cloned().map(Warning::Video).collect(),
        };
        prediction.decide(model);
        prediction
    }

    /// Names the most probable class, the first of equals, or refuses to where the model's
    /// config asks for more confidence.
    pub(crate) fn decide(&mut self, model: &Config) {
        let Some(best) = most_probable(&self.probabilities) else {
            return;
        };
        (self.expression, self.confidence) = (best.class.clone(), best.probability);
        self.refusal = None;
        let confidence = f64::from(self.confidence);
        let least = model.answers.as_ref().and_then(|a| a.least_confidence);
        if let Some(least) = least.filter(|least| confidence < *least) {
            self.refuse(Refusal::Unsure { confidence, least });
        }
    }

    /// Names no class, and says why. A reason that was given before stays, unless it was
    /// doubt about the class alone.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.expression.clear();
        if self.is_judged() {
            self.refusal = Some(refusal);
        }
    }

    /// Whether the face could be judged: it was, or the class alone is in doubt.
    pub fn is_judged(&self) -> bool {
        matches!(self.refusal, None | Some(Refusal::Unsure { .. }))
    }

    /// The two most probable classes, the more probable first; the first of equals.
    pub fn likeliest(&self) -> Vec<&ClassProbability> {
        let mut sorted: Vec<&ClassProbability> = self.probabilities.iter().collect();
        sorted.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        sorted.truncate(2);
        sorted
    }

    /// The mean strength of each action unit over the frames, by its name.
    pub fn mean_action_units(&self) -> Vec<(&str, f32)> {
        let frames = self.frames.iter();
        let told: Vec<_> = frames.filter(|f| !f.action_units.is_empty()).collect();
        let mean = |unit: usize| {
            let sum: f32 = told.iter().filter_map(|f| f.action_units.get(unit)).sum();
            sum / told.len().max(1) as f32
        };
        let names = self.action_units.iter().enumerate();
        names.map(|(unit, name)| (&name[..], mean(unit))).collect()
    }

    /// Notes in how many frames a detector saw the face, with a [`FaceWarning`] where
    /// that is too few.
    pub fn note_seen(&mut self, seen: Seen) {
        let (frames, of) = (seen.frames, seen.of);
        if frames == 0 {
            self.warnings
                .push(Warning::Face(FaceWarning::NoFace { of }));
        } else if 2 * frames < of {
            self.warnings
                .push(Warning::Face(FaceWarning::FaceInFew { frames, of }));
        }
        self.seen = Some(seen);
    }

    /// Whether a detector looked for a face and saw none.
    pub fn is_faceless(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.frames == 0)
    }

    /// The frame nearest to a time in seconds.
    pub fn frame_at(&self, time: f64) -> Option<&FramePrediction> {
        self.frames
            .iter()
            .min_by(|a, b| (a.time - time).abs().total_cmp(&(b.time - time).abs()))
    }
}

/// The most probable class; the first of equals.
pub(crate) fn most_probable(classes: &[ClassProbability]) -> Option<&ClassProbability> {
    argmax(classes.iter().map(|c| c.probability)).map(|best| &classes[best])
}
