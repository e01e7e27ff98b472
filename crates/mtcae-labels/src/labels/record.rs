//! A line of a label file.

use mtcae_core::Face;
use mtcae_faces::tracks::TrackConfig;
use mtcae_video::Geometry;
use serde::{Deserialize, Serialize};

use crate::dataset::{Sample, Sex};

/// Name and version of the format. A reader refuses any other.
pub const SCHEMA: &str = "mtcae-labels/1";

/// Everything known about one clip: one line of a label file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledClip {
    /// [`SCHEMA`].
    pub schema: String,
    /// The clip's file, relative to the dataset's root.
    pub file: String,
    /// SHA-256 of the file's content in hexadecimal; `None` when it could not be
    /// read.
    pub sha256: Option<String>,
    /// Name of the dataset.
    pub dataset: String,
    /// Name of the expression.
    pub class: Option<String>,
    /// The person.
    pub subject: Option<String>,
    /// The person's sex.
    pub sex: Option<Sex>,
    /// Intensity, in the dataset's words.
    pub level: Option<String>,
    /// Fold of the cross-validation, from 0.
    pub fold: Option<u32>,
    /// How frames were chosen and faces found.
    pub settings: RunSettings,
    /// Size of the source's picture; `None` when nothing could be decoded.
    pub source: Option<Source>,
    /// The sampled frames in order.
    pub frames: Vec<FrameRecord>,
    /// The identities, in the order in which they appear.
    pub tracks: Vec<TrackRecord>,
    /// What the subject's face does in each frame, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_units: Option<UnitRecord>,
    /// What was not as it should be about the file, in words.
    pub warnings: Vec<String>,
    /// Why there are no labels.
    pub error: Option<String>,
}

impl LabelledClip {
    /// What a dataset says of a clip, without labels.
    pub fn unlabelled(sample: &Sample, settings: &RunSettings) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            file: sample.file.clone(),
            sha256: None,
            dataset: sample.dataset.clone(),
            class: sample.class.clone(),
            subject: sample.subject.clone(),
            sex: sample.sex,
            level: sample.level.clone(),
            fold: sample.fold,
            settings: settings.clone(),
            source: None,
            frames: Vec::new(),
            tracks: Vec::new(),
            action_units: None,
            warnings: Vec::new(),
            error: None,
        }
    }

    /// The line but for what the clip's file itself says.
    pub(crate) fn without_findings(self) -> Self {
        Self {
            sha256: None,
            source: None,
            frames: Vec::new(),
            tracks: Vec::new(),
            action_units: None,
            warnings: Vec::new(),
            error: None,
            ..self
        }
    }

    /// The track of the clip's subject, when any face was found.
    pub fn subject_track(&self) -> Option<&TrackRecord> {
        self.tracks.iter().find(|t| t.is_subject)
    }

    /// The face of a track at a frame.
    pub fn face(track: &TrackRecord, frame: usize) -> Option<&FaceRecord> {
        let first = track.faces.first()?.frame;
        track.faces.get(frame.checked_sub(first)?)
    }
}

/// How frames were chosen and faces found: equal throughout a label file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSettings {
    /// The frames: a sampling's name and count (`uniform/16`) or `every/N`.
    pub sampling: String,
    /// `WIDTHxHEIGHT/RESIZE` of the pictures that the detector saw, or `source`.
    pub detect_at: String,
    /// The detector.
    pub detector: DetectorSettings,
    /// The linking.
    pub tracking: TrackConfig,
}

/// The detector's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorSettings {
    /// `mtcnn`.
    pub name: String,
    /// Smallest face in pixels of the picture that the detector saw.
    pub min_face: f64,
    /// Step of the pyramid.
    pub factor: f64,
    /// Thresholds of the three networks.
    pub thresholds: [f32; 3],
    /// `all`, `largest`, `most-central` or `most-probable`.
    pub keep: String,
}

/// The source's picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Width in pixels, upright. Boxes and landmarks are fractions of it.
    pub width: u32,
    /// Height in pixels, upright. Boxes and landmarks are fractions of it.
    pub height: u32,
    /// Width over height of one pixel as shown.
    pub pixel_aspect: f64,
}

impl From<&Geometry> for Source {
    fn from(g: &Geometry) -> Self {
        Self {
            width: g.width,
            height: g.height,
            pixel_aspect: g.pixel_aspect(),
        }
    }
}

/// Whether there is a face, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validity {
    /// The detector found it in this frame.
    Detected,
    /// It lies between two frames in which it was found.
    Interpolated,
    /// There is none.
    None,
}

impl From<&Face> for Validity {
    fn from(face: &Face) -> Self {
        match face.is_detected() {
            true => Self::Detected,
            false => Self::Interpolated,
        }
    }
}

/// A sampled frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameRecord {
    /// Number of the frame in the stream, from 0.
    pub index: u64,
    /// Seconds from the stream's first frame.
    pub time: f64,
    /// Whether the subject's face is there.
    pub validity: Validity,
}

/// An identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackRecord {
    /// Number of the track in this clip, from 0.
    pub id: u32,
    /// Whether it is the clip's subject: found in most frames, of equals the
    /// largest.
    pub is_subject: bool,
    /// A face for each frame from the track's first to its last.
    pub faces: Vec<FaceRecord>,
}

/// Action units of the Facial Action Coding System in each sampled frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitRecord {
    /// `AU1`, `AU2`, …: U names, each once.
    pub names: Vec<String>,
    /// (T, U), a row for each of `frames`: how strong, from 0 at rest to 1 at the full
    /// strength, the mean of both sides of the face.
    pub strengths: Vec<Vec<f32>>,
}

/// A face at a frame: a [`Face`], as label files write it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaceRecord {
    /// Position in `frames`, from 0.
    pub frame: usize,
    /// `detected` or `interpolated`.
    pub validity: Validity,
    /// Probability of being a face; 0 when interpolated.
    pub score: f32,
    /// x1, y1, x2, y2 as fractions of the source's picture; may lie outside of
    /// 0..1 where a face is cut by the border.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
    /// (x, y) of the viewer's left eye, right eye, nose, left and right corner of
    /// the mouth, as fractions.
    pub landmarks: [[f32; 2]; 5],
}

impl FaceRecord {
    /// The record of a face, in fractions, at a position in `frames`.
    pub fn new(frame: usize, face: &Face) -> Self {
        Self {
            frame,
            validity: face.into(),
            score: face.score,
            bbox: face.face_box.corners(),
            landmarks: face.landmarks.points(),
        }
    }
}

impl From<&FaceRecord> for Face {
    fn from(record: &FaceRecord) -> Self {
        Self {
            face_box: record.bbox.into(),
            landmarks: record.landmarks.into(),
            score: record.score,
        }
    }
}
