//! MTCNN's faces beside the model's: whom a prediction is about, and where to look.

use std::path::Path;

use mtcae_dfer::video::{Clip, ClipOptions, Geometry, Rect, Resize};
use mtcae_dfer::{Detection, Device, Pipeline, Prediction};
use mtcae_labels::labels::{LabelSettings, Labeller};
use mtcae_labels::mtcnn::Face;
use mtcae_labels::tracks::{Track, TrackConfig, link, subject};
use mtcae_labels::{Detector, DetectorConfig};

use crate::Fault;

/// A face crop is the square around all boxes of a track, this much larger.
const MARGIN: f64 = 1.3;

/// Finds and follows faces, on the model's device.
pub struct Finder {
    labeller: Labeller,
}

/// The faces of the frames of one clip.
struct Found {
    /// Time of each frame in seconds.
    times: Vec<f64>,
    tracks: Vec<Track>,
    source: Geometry,
}

impl Finder {
    pub fn new(device: &Device) -> Result<Self, Fault> {
        let detector = Detector::new(DetectorConfig::default())?.to_device(device)?;
        Ok(Self {
            labeller: Labeller::new(detector, LabelSettings::default())?,
        })
    }

    /// The prediction of a file, with the faces of its subject.
    pub fn subject(&self, pipeline: &Pipeline, path: &Path) -> Result<Prediction, Fault> {
        let views = pipeline.read(path)?;
        let mut prediction = pipeline.predict_views(path, &views)?;
        let found = match pipeline.clip_options().resize {
            // The model's own frames show the whole picture.
            Resize::Squash => self.find_in(&views)?,
            _ => self.find(pipeline, path)?,
        };
        if let Some(i) = subject(&found.tracks) {
            found.note(&mut prediction, &found.tracks[i]);
        }
        Ok(prediction)
    }

    /// Predictions from a crop to the subject's face or, for `everybody`, to each
    /// person's, numbered in the order in which they appear.
    pub fn cropped(
        &self,
        pipeline: &Pipeline,
        path: &Path,
        everybody: bool,
    ) -> Result<Vec<Prediction>, Fault> {
        let found = self.find(pipeline, path)?;
        let whom: Vec<usize> = match subject(&found.tracks) {
            None => {
                return Err(format!("{}: MTCNN finds no face to crop to", path.display()).into());
            }
            Some(_) if everybody => (0..found.tracks.len()).collect(),
            Some(i) => vec![i],
        };
        let mut predictions = Vec::with_capacity(whom.len());
        for i in whom {
            let track = &found.tracks[i];
            let crop = Resize::Crop(surround(track, &found.source));
            let options = ClipOptions {
                resize: crop,
                ..pipeline.clip_options().clone()
            };
            let mut prediction = pipeline.clone().with_clip_options(options).predict(path)?;
            prediction.person = everybody.then_some(track.id + 1);
            found.note(&mut prediction, track);
            predictions.push(prediction);
        }
        Ok(predictions)
    }

    /// Faces in the whole picture of the frames that the model would look at.
    fn find(&self, pipeline: &Pipeline, path: &Path) -> Result<Found, Fault> {
        let options = ClipOptions {
            resize: Resize::Squash,
            ..pipeline.clip_options().clone()
        };
        self.find_in(&pipeline.clone().with_clip_options(options).read(path)?)
    }

    /// Faces in frames of the whole picture.
    fn find_in(&self, clips: &[Clip]) -> Result<Found, Fault> {
        let source = clips
            .first()
            .map_or_else(|| Geometry::plain(1, 1), |clip| clip.source);
        let mut frames = Vec::new();
        for clip in clips {
            frames.extend(self.labeller.faces(clip)?);
        }
        frames.sort_by(|a, b| a.time.total_cmp(&b.time));
        frames.dedup_by(|a, b| a.index == b.index);
        let times: Vec<f64> = frames.iter().map(|f| f.time).collect();
        let faces: Vec<Vec<Face>> = frames.into_iter().map(|f| f.faces).collect();
        Ok(Found {
            tracks: link(&faces, &times, &TrackConfig::default())?,
            times,
            source,
        })
    }
}

impl Found {
    /// Puts a track's faces beside the model's.
    fn note(&self, prediction: &mut Prediction, track: &Track) {
        for frame in &mut prediction.frames {
            let place = self
                .times
                .iter()
                .position(|t| (t - frame.time).abs() < 1e-6);
            frame.detected = place.and_then(|i| track.at(i)).map(|seen| Detection {
                face_box: seen.face.bbox.into(),
                landmarks: seen.face.landmarks.into(),
                score: seen.face.score,
            });
        }
    }
}

/// The square around all boxes of a track, moved into the picture where it fits.
fn surround(track: &Track, source: &Geometry) -> Rect {
    let edge = |i: usize, pick: fn(f32, f32) -> f32| {
        f64::from(
            track
                .faces
                .iter()
                .map(|f| f.face.bbox[i])
                .reduce(pick)
                .unwrap_or(0.0),
        )
    };
    let (x1, y1, x2, y2) = (
        edge(0, f32::min),
        edge(1, f32::min),
        edge(2, f32::max),
        edge(3, f32::max),
    );
    let (w, h) = (f64::from(source.width), f64::from(source.height));
    let side = (MARGIN * (x2 - x1).max(y2 - y1)).clamp(1.0, w.min(h));
    let start =
        |low: f64, high: f64, size: f64| ((low + high - side) / 2.0).clamp(0.0, size - side);
    Rect {
        x: start(x1, x2, w),
        y: start(y1, y2, h),
        width: side,
        height: side,
    }
}
