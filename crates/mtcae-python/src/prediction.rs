//! What a model says of one clip or window.

use mtcae_dfer::{Face, FaceBox, FramePrediction, Landmarks};
use numpy::{PyArray1, PyArray2, PyArray3};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::array;

/// What the model says of one person in one clip or window, frame by frame.
///
/// T is the number of frames. Coordinates are pixels of the source, upright; times are
/// seconds from its start. Each array is made anew when it is asked for.
#[pyclass(frozen, module = "mtcae")]
#[derive(Clone)]
pub struct Prediction(pub mtcae_dfer::Prediction);

/// The corners of boxes, x1, y1, x2, y2; NaN where there is none.
pub fn corners(boxes: impl Iterator<Item = Option<FaceBox>>) -> Vec<f32> {
    let corners = boxes.map(|b| b.map_or([f32::NAN; 4], |b| b.corners()));
    corners.flatten().collect()
}

/// Five points each, x, y; NaN where there are none.
pub fn points(landmarks: impl Iterator<Item = Option<Landmarks>>) -> Vec<f32> {
    let points = landmarks.map(|l| l.map_or([[f32::NAN; 2]; 5], |l| l.points()));
    points.flatten().flatten().collect()
}

/// So many strengths of each frame; NaN where there are none.
pub fn units<'a>(frames: impl Iterator<Item = &'a FramePrediction>, count: usize) -> Vec<f32> {
    let strengths = frames.flat_map(|frame| {
        let told = frame.action_units.iter().copied();
        told.chain(std::iter::repeat(f32::NAN)).take(count)
    });
    strengths.collect()
}

impl Prediction {
    fn frames(&self) -> std::slice::Iter<'_, FramePrediction> {
        self.0.frames.iter()
    }

    fn detected(&self) -> impl Iterator<Item = Option<Face>> {
        self.frames().map(|f| f.detected)
    }
}

#[pymethods]
impl Prediction {
    /// The file, as it was named; None of frames in memory.
    #[getter]
    fn file(&self) -> Option<String> {
        let file = self.0.file.as_ref()?;
        Some(file.to_string_lossy().into_owned())
    }

    /// Number of the person, from 1; None where only the subject was asked for.
    #[getter]
    fn person(&self) -> Option<u32> {
        self.0.person
    }

    /// First moment that the clip or window stands for, in seconds.
    #[getter]
    fn start(&self) -> f64 {
        self.0.start
    }

    /// Last moment that the clip or window stands for, in seconds.
    #[getter]
    fn end(&self) -> f64 {
        self.0.end
    }

    /// The most probable expression; None where no answer is given (see `refusal`).
    #[getter]
    fn expression(&self) -> Option<&str> {
        Some(&*self.0.expression).filter(|name| !name.is_empty())
    }

    /// The greatest probability, from 0 to 1; 0 where nothing was computed.
    #[getter]
    fn confidence(&self) -> f32 {
        self.0.confidence
    }

    /// Why no expression is named, in a sentence; None where one is.
    #[getter]
    fn refusal(&self) -> Option<String> {
        self.0.refusal.as_ref().map(ToString::to_string)
    }

    /// Names of the classes, in the order of `probabilities`.
    #[getter]
    fn classes(&self) -> Vec<&str> {
        self.0.probabilities.iter().map(|p| &*p.class).collect()
    }

    /// Probability of each class, float32 (C,), which sum to 1. Empty where nobody is seen.
    #[getter]
    fn probabilities<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        let all = self.0.probabilities.iter().map(|p| p.probability);
        PyArray1::from_iter(py, all)
    }

    /// Number of each frame in the file, from 0, uint64 (T,).
    #[getter]
    fn indices<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        PyArray1::from_iter(py, self.frames().map(|f| f.index))
    }

    /// Seconds of each frame, float64 (T,).
    #[getter]
    fn times<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_iter(py, self.frames().map(|f| f.time))
    }

    /// The model's face box of each frame, float32 (T, 4): x1, y1, x2, y2 in pixels; NaN
    /// where the model says none.
    #[getter]
    fn boxes<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<f32>> {
        let all = corners(self.frames().map(|f| f.face_box));
        array(py, (self.0.frames.len(), 4), all)
    }

    /// The model's landmarks of each frame, float32 (T, 5, 2): left eye, right eye, nose,
    /// left and right corner of the mouth, x and y in pixels; NaN where the model says none.
    #[getter]
    fn landmarks<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray3<f32>> {
        let all = points(self.frames().map(|f| f.landmarks));
        array(py, (self.0.frames.len(), 5, 2), all)
    }

    /// Names of the action units, in the order of `action_units`.
    #[getter]
    fn action_unit_names(&self) -> Vec<&str> {
        self.0.action_units.iter().map(|name| &**name).collect()
    }

    /// Strength of each action unit in each frame, float32 (T, U), from 0 to 1.
    #[getter]
    fn action_units<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<f32>> {
        let count = self.0.action_units.len();
        array(
            py,
            (self.0.frames.len(), count),
            units(self.frames(), count),
        )
    }

    /// MTCNN's face box of each frame, float32 (T, 4), as `boxes`; NaN where it found none.
    #[getter]
    fn detected_boxes<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<f32>> {
        let all = corners(self.detected().map(|face| face.map(|f| f.face_box)));
        array(py, (self.0.frames.len(), 4), all)
    }

    /// MTCNN's landmarks of each frame, float32 (T, 5, 2), as `landmarks`; NaN where it
    /// found none.
    #[getter]
    fn detected_landmarks<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray3<f32>> {
        let all = points(self.detected().map(|face| face.map(|f| f.landmarks)));
        array(py, (self.0.frames.len(), 5, 2), all)
    }

    /// MTCNN's score of each frame's face, float32 (T,); 0 where it lies between two that
    /// were found, NaN where there is none.
    #[getter]
    fn detected_scores<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        let scores = self
            .detected()
            .map(|face| face.map_or(f32::NAN, |f| f.score));
        PyArray1::from_iter(py, scores)
    }

    /// In how many frames MTCNN saw the face, and of how many; None where it did not look.
    #[getter]
    fn seen(&self) -> Option<(u32, u32)> {
        self.0.seen.as_ref().map(|seen| (seen.frames, seen.of))
    }

    /// Width and height of the source, in pixels.
    #[getter]
    fn size(&self) -> (u32, u32) {
        (self.0.source.width, self.0.source.height)
    }

    /// What the weights were trained on; None where they were not trained.
    #[getter]
    fn trained_on(&self) -> Option<&str> {
        self.0.trained_on.as_deref()
    }

    /// What speaks against the answer, a sentence each.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.0.warnings.iter().map(ToString::to_string).collect()
    }

    /// The same as plain dicts, lists and numbers, as `docs/results-format.md` describes a
    /// prediction.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        dict(py, &serde_json::to_string(&self.0))
    }

    /// Number of frames T.
    fn __len__(&self) -> usize {
        self.0.frames.len()
    }

    fn __repr__(&self) -> String {
        let p = &self.0;
        let said = match &p.refusal {
            None => format!(
                "expression={:?}, confidence={:.3}",
                p.expression, p.confidence
            ),
            Some(refusal) => format!("expression=None, refusal={:?}", refusal.name()),
        };
        let person = p
            .person
            .map(|n| format!("person={n}, "))
            .unwrap_or_default();
        let (start, end, frames) = (p.start, p.end, p.frames.len());
        format!("Prediction({person}start={start:.3}, end={end:.3}, {said}, frames={frames})")
    }
}

/// Plain objects of JSON that was written.
///
/// # Errors
/// Where writing it failed.
pub fn dict<'py>(
    py: Python<'py>,
    json: &serde_json::Result<String>,
) -> PyResult<Bound<'py, PyDict>> {
    let json = json
        .as_ref()
        .map_err(|e| crate::errors::raised_as(py, "Error", e))?;
    let loaded = py.import("json")?.call_method1("loads", (json,))?;
    Ok(loaded.cast_into()?)
}
