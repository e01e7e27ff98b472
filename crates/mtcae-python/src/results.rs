//! Results: predictions with where they come from.

use std::path::PathBuf;

use mtcae_dfer::{Answer, FramePrediction};
use numpy::{PyArray1, PyArray2, PyArray3};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyDict, PyIterator, PyTuple};

use crate::arrays::array;
use crate::errors::{fault, raised};
use crate::prediction::{Prediction, corners, dict, points, units};
use crate::{table, work};

/// What a model says of a video: predictions, with where they come from.
///
/// A sequence of `Prediction`: one a person, or one a window and person. Arrays have a row for
/// each frame of each prediction, N in all; `probabilities` one for each prediction.
///
/// The table that `to_pandas`, `to_polars`, `to_arrow` and Arrow's PyCapsule interface give has
/// a row for each frame and person, the frame once however many windows it is in, with null
/// where there is nothing to say; `docs/formats.md` describes its columns.
#[pyclass(frozen, sequence, module = "mtcae")]
pub struct Results {
    results: mtcae_dfer::Results,
    /// People who were seen in too few frames to be answered about.
    left_out: usize,
    predictions: PyOnceLock<Py<PyTuple>>,
}

impl Results {
    pub fn new(results: mtcae_dfer::Results, left_out: usize) -> Self {
        Self {
            results,
            left_out,
            predictions: PyOnceLock::new(),
        }
    }

    fn all(&self) -> Vec<&mtcae_dfer::Prediction> {
        self.results.answer.predictions()
    }

    fn frames(&self) -> Vec<&FramePrediction> {
        self.all().into_iter().flat_map(|p| &p.frames).collect()
    }

    /// A prediction that says all of classes and action units.
    fn model(&self) -> Option<&mtcae_dfer::Prediction> {
        let all = self.all();
        let judged = all.iter().find(|p| !p.probabilities.is_empty());
        judged.or(all.first()).copied()
    }

    fn json(&self, py: Python<'_>, pretty: bool) -> PyResult<String> {
        let mut text = Vec::new();
        let written = self.results.write(&mut text, pretty);
        written.map_err(|e| crate::errors::raised_as(py, "Error", &e))?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.trim_end().to_owned())
    }

    fn batch(&self, py: Python<'_>) -> PyResult<arrow_array::RecordBatch> {
        py.detach(|| table::frames(&self.results))
            .map_err(|e| fault(py, "Error", &e))
    }
}

#[pymethods]
impl Results {
    /// Results from JSON, as `to_json` or `mtcae infer --format json` give them.
    #[staticmethod]
    fn from_json(py: Python<'_>, text: &str) -> PyResult<Self> {
        let parsed = py.detach(|| mtcae_dfer::Results::parse(text.as_bytes()));
        parsed
            .map(|results| Self::new(results, 0))
            .map_err(|e| fault(py, "ResultsError", &e))
    }

    /// All predictions, in order.
    #[getter]
    fn predictions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let made = self.predictions.get_or_try_init(py, || {
            let each = self.all().into_iter().cloned().map(Prediction);
            let each: PyResult<Vec<_>> = each.map(|p| Bound::new(py, p)).collect();
            PyTuple::new(py, each?).map(Bound::unbind)
        });
        Ok(made?.bind(py).clone())
    }

    /// The prediction, where there is only one; ValueError where there are several.
    #[getter]
    fn prediction<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let all = self.predictions(py)?;
        match all.len() {
            1 => all.get_item(0),
            n => Err(PyValueError::new_err(format!(
                "there are {n} predictions, not one: take results[i], or go through them"
            ))),
        }
    }

    /// Smoothed courses, where windows were asked for: one a person. Otherwise empty.
    #[getter]
    fn timelines(&self) -> Vec<Timeline> {
        match &self.results.answer {
            Answer::Clip(_) => Vec::new(),
            Answer::Windows(timelines) => timelines.iter().cloned().map(Timeline).collect(),
        }
    }

    /// How many people more were seen in too few frames to be answered about; 0 of results
    /// that were read from a file.
    #[getter]
    fn left_out(&self) -> usize {
        self.left_out
    }

    /// Names of the classes, in the order of the columns of `probabilities`.
    #[getter]
    fn classes(&self) -> Vec<&str> {
        let classes = self.model().map_or(&[][..], |p| &p.probabilities);
        classes.iter().map(|p| &*p.class).collect()
    }

    /// Probabilities of each prediction, float32 (P, C); NaN where nobody is seen.
    #[getter]
    fn probabilities<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<f32>> {
        let all = self.all();
        let classes = self.model().map_or(0, |p| p.probabilities.len());
        let rows = all.iter().flat_map(|p| {
            let told = p.probabilities.iter().map(|c| c.probability);
            told.chain(std::iter::repeat(f32::NAN)).take(classes)
        });
        array(py, (all.len(), classes), rows.collect())
    }

    /// Which prediction each row is of, uint64 (N,).
    #[getter]
    fn prediction_indices<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        let all = self.all().into_iter().enumerate();
        let rows = all.flat_map(|(i, p)| std::iter::repeat_n(i as u64, p.frames.len()));
        PyArray1::from_iter(py, rows)
    }

    /// Number of each frame in the file, from 0, uint64 (N,).
    #[getter]
    fn indices<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        PyArray1::from_iter(py, self.frames().into_iter().map(|f| f.index))
    }

    /// Seconds of each frame, float64 (N,).
    #[getter]
    fn times<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_iter(py, self.frames().into_iter().map(|f| f.time))
    }

    /// The model's face boxes, float32 (N, 4): x1, y1, x2, y2 in pixels of the source; NaN
    /// where the model says none.
    #[getter]
    fn boxes<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<f32>> {
        let frames = self.frames();
        let all = corners(frames.iter().map(|f| f.face_box));
        array(py, (frames.len(), 4), all)
    }

    /// The model's landmarks, float32 (N, 5, 2): left eye, right eye, nose, left and right
    /// corner of the mouth, in pixels of the source; NaN where the model says none.
    #[getter]
    fn landmarks<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray3<f32>> {
        let frames = self.frames();
        let all = points(frames.iter().map(|f| f.landmarks));
        array(py, (frames.len(), 5, 2), all)
    }

    /// Names of the action units, in the order of the columns of `action_units`.
    #[getter]
    fn action_unit_names(&self) -> Vec<&str> {
        let units = self.model().map_or(&[][..], |p| &p.action_units);
        units.iter().map(|name| &**name).collect()
    }

    /// Strengths of the action units, float32 (N, U), from 0 to 1; NaN where there is none.
    #[getter]
    fn action_units<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<f32>> {
        let frames = self.frames();
        let count = self.model().map_or(0, |p| p.action_units.len());
        let all = units(frames.iter().copied(), count);
        array(py, (frames.len(), count), all)
    }

    /// What computed them, of which model and file, with which settings; None of files from
    /// before they said it.
    #[getter]
    fn provenance<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let provenance = self.results.provenance.as_ref();
        provenance
            .map(|p| dict(py, &serde_json::to_string(p)))
            .transpose()
    }

    /// All of it as JSON (`docs/results-format.md`), on one line unless `pretty`.
    #[pyo3(signature = (*, pretty = false))]
    fn to_json(&self, py: Python<'_>, pretty: bool) -> PyResult<String> {
        self.json(py, pretty)
    }

    /// All of it as plain dicts, lists and numbers (`docs/results-format.md`).
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        dict(py, &Ok(self.json(py, false)?))
    }

    /// Writes a file of results (`docs/results-format.md`), whole or not at all. One that is
    /// there is a FileExistsError, unless `overwrite`.
    #[pyo3(signature = (path, *, overwrite = false))]
    fn save(&self, py: Python<'_>, path: PathBuf, overwrite: bool) -> PyResult<()> {
        if !overwrite && path.symlink_metadata().is_ok() {
            let text = format!(
                "{}: is there already; overwrite=True writes over it",
                path.display()
            );
            return Err(fault(py, "ExistingFileError", &text));
        }
        py.detach(|| self.results.save(&path))
            .map_err(|e| raised(py, &e))
    }

    /// The table of frames as a pandas.DataFrame, by way of pyarrow. Columns of numbers
    /// without gaps are not copied. With `arrow`, all columns keep Arrow's types and memory
    /// (pandas.ArrowDtype).
    #[pyo3(signature = (*, arrow = false))]
    fn to_pandas<'py>(slf: &Bound<'py, Self>, arrow: bool) -> PyResult<Bound<'py, PyAny>> {
        let tables = slf.py().import("mtcae._tables")?;
        tables.call_method1("to_pandas", (slf, arrow))
    }

    /// The table of frames as a polars.DataFrame, without copies.
    fn to_polars<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py()
            .import("mtcae._tables")?
            .call_method1("to_polars", (slf,))
    }

    /// The table of frames as a pyarrow.Table, without copies.
    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py()
            .import("mtcae._tables")?
            .call_method1("to_arrow", (slf,))
    }

    /// The table's schema, by Arrow's PyCapsule interface.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        table::schema(py, &self.batch(py)?)
    }

    /// The table as one array of structs, by Arrow's PyCapsule interface. Another schema than
    /// its own is not heeded.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        drop(requested_schema);
        table::array(py, &self.batch(py)?)
    }

    /// The table as a stream of one batch, by Arrow's PyCapsule interface. Another schema
    /// than its own is not heeded.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        table::stream(py, self.batch(py)?)
    }

    /// Number of predictions.
    fn __len__(&self) -> usize {
        self.all().len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyAny>> {
        let all = self.predictions(py)?;
        let at = match index < 0 {
            true => index + all.len() as isize,
            false => index,
        };
        match usize::try_from(at) {
            Ok(at) if at < all.len() => all.get_item(at),
            _ => Err(PyIndexError::new_err(format!(
                "there are {} predictions, none of number {index}",
                all.len()
            ))),
        }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.predictions(py)?.try_iter()
    }

    fn __repr__(&self) -> String {
        let all = self.all();
        let file = all.first().and_then(|p| p.file.as_ref());
        let file = file.map_or_else(|| "None".to_owned(), |f| format!("{:?}", f.display()));
        format!(
            "Results(file={file}, predictions={}, rows={})",
            all.len(),
            self.frames().len()
        )
    }
}

/// The smoothed course of one person over windows. W is their number.
#[pyclass(frozen, module = "mtcae")]
#[derive(Clone)]
pub struct Timeline(pub mtcae_dfer::Timeline);

#[pymethods]
impl Timeline {
    /// Length of a window, in seconds.
    #[getter]
    fn length(&self) -> f64 {
        self.0.length
    }

    /// From one window's start to the next one's, in seconds.
    #[getter]
    fn stride(&self) -> f64 {
        self.0.stride
    }

    /// Each window's own prediction.
    #[getter]
    fn windows(&self) -> Vec<Prediction> {
        self.0.windows.iter().cloned().map(Prediction).collect()
    }

    /// Centre of each window in seconds, float64 (W,).
    #[getter]
    fn times<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_iter(py, self.0.points.iter().map(|p| p.time))
    }

    /// The most probable expression at each time, smoothed; None where its window has no
    /// answer.
    #[getter]
    fn expressions(&self) -> Vec<Option<&str>> {
        let names = self.0.points.iter().map(|p| &*p.expression);
        names
            .map(|name| Some(name).filter(|n| !n.is_empty()))
            .collect()
    }

    /// Smoothed probabilities, float32 (W, C); NaN where nobody is seen.
    #[getter]
    fn probabilities<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<f32>> {
        let points = &self.0.points;
        let classes = points.iter().map(|p| p.probabilities.len()).max();
        let classes = classes.unwrap_or(0);
        let rows = points.iter().flat_map(|p| {
            let told = p.probabilities.iter().map(|c| c.probability);
            told.chain(std::iter::repeat(f32::NAN)).take(classes)
        });
        array(py, (points.len(), classes), rows.collect())
    }

    /// Number of windows W.
    fn __len__(&self) -> usize {
        self.0.points.len()
    }

    fn __repr__(&self) -> String {
        let (length, stride, count) = (self.0.length, self.0.stride, self.0.points.len());
        format!("Timeline(length={length}, stride={stride}, windows={count})")
    }
}

/// Reads a file of results that `Results.save` or the command `mtcae infer` wrote.
#[pyfunction]
pub fn read_results(py: Python<'_>, path: PathBuf) -> PyResult<Results> {
    let read = work::run(py, None, move |_| mtcae_dfer::Results::read(&path))?;
    read.map(|results| Results::new(results, 0))
        .map_err(|e| raised(py, &e))
}
