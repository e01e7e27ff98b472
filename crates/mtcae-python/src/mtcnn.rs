//! MTCNN by itself.

use std::sync::{Arc, PoisonError, RwLock};

use mtcae_faces::{Detector, DetectorConfig, Error};
use numpy::ndarray::{Array3, Array4};
use numpy::{PyArray1, PyArray2};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::arrays::{array, checked, numbers};
use crate::errors::{fault, raised_as};
use crate::settings::open_device;
use crate::work::{self, Pool};

/// A face that MTCNN found.
#[pyclass(frozen, module = "mtcae")]
#[derive(Clone)]
pub struct Face(mtcae_dfer::Face);

#[pymethods]
impl Face {
    /// Its box, float32 (4,): x1, y1, x2, y2 in pixels of the image.
    #[getter]
    fn r#box<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, &self.0.face_box.corners())
    }

    /// Its landmarks, float32 (5, 2): left eye, right eye, nose, left and right corner of
    /// the mouth, x and y in pixels of the image.
    #[getter]
    fn landmarks<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<f32>> {
        array(
            py,
            (5, 2),
            self.0.landmarks.points().as_flattened().to_vec(),
        )
    }

    /// How sure MTCNN is, from 0 to 1.
    #[getter]
    fn score(&self) -> f32 {
        self.0.score
    }

    fn __repr__(&self) -> String {
        let [x1, y1, x2, y2] = self.0.face_box.corners();
        let score = self.0.score;
        format!("Face(box=[{x1:.1}, {y1:.1}, {x2:.1}, {y2:.1}], score={score:.4})")
    }
}

/// Finds faces by MTCNN: the same as facenet-pytorch's.
///
/// Args:
///     min_face: Smallest face to look for, in pixels; at least 12.
///     device: "cpu" or "cuda:N".
///     threads: Threads to compute on; None for one a core. They are this detector's own.
///
/// A detector can be used by several threads at once, and goes on, on the CPU, in a process
/// that is forked while it rests.
#[pyclass(frozen, name = "MTCNN", module = "mtcae")]
pub struct Mtcnn {
    pool: Pool,
    min_face: f64,
    device: String,
    /// The process that it was made in, and itself.
    detector: RwLock<(u32, Arc<Detector>)>,
}

/// Refuses a size of faces that MTCNN does not see.
///
/// # Errors
/// `ArgumentError`.
pub fn may_be_looked_for(py: Python<'_>, min_face: f64) -> PyResult<()> {
    if min_face.is_finite() && min_face >= 12.0 {
        return Ok(());
    }
    let text = "min_face: a number of pixels is needed, at least the 12 that MTCNN sees";
    Err(fault(py, "ArgumentError", text))
}

/// As `Mtcnn::new`, of a device that is open.
fn made(device: &mtcae_dfer::Device, min_face: f64) -> Result<Detector, Error> {
    let config = DetectorConfig {
        min_face,
        ..DetectorConfig::default()
    };
    Detector::new(config)?.to_device(device)
}

/// An exception of a fault of the detector.
pub fn raised_of(py: Python<'_>, error: &Error) -> PyErr {
    match error {
        Error::Config { .. } | Error::Frame { .. } => raised_as(py, "ArgumentError", error),
        _ => raised_as(py, "Error", error),
    }
}

impl Mtcnn {
    fn detector(&self, py: Python<'_>) -> PyResult<Arc<Detector>> {
        let now = std::process::id();
        let (process, detector) = {
            let made = self.detector.read();
            let made = made.unwrap_or_else(PoisonError::into_inner);
            (made.0, made.1.clone())
        };
        if process == now {
            return Ok(detector);
        }
        if self.device != "cpu" {
            return Err(PyRuntimeError::new_err(
                "a GPU cannot be used in a process that was forked after it was opened: make \
                 the detector there, in a process started by the method `spawn`",
            ));
        }
        // On threads of this process: those of the whole program are the parent's.
        let pool = self.pool.get(py)?;
        let detector = pool.install(|| made(&mtcae_dfer::Device::Cpu, self.min_face));
        let detector = Arc::new(detector.map_err(|e| raised_of(py, &e))?);
        let mut place = self
            .detector
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = (now, detector.clone());
        Ok(detector)
    }
}

#[pymethods]
impl Mtcnn {
    #[new]
    #[pyo3(signature = (*, min_face = 20.0, device = "cpu", threads = None))]
    fn new(py: Python<'_>, min_face: f64, device: &str, threads: Option<usize>) -> PyResult<Self> {
        let pool = Pool::new(py, threads)?;
        let opened = open_device(py, device)?;
        may_be_looked_for(py, min_face)?;
        let threads = pool.get(py)?;
        let detector = threads.install(|| made(&opened, min_face));
        let detector = detector.map_err(|e| raised_of(py, &e))?;
        Ok(Self {
            pool,
            min_face,
            device: device.to_owned(),
            detector: RwLock::new((std::process::id(), Arc::new(detector))),
        })
    }

    /// Finds the faces of an image or of several.
    ///
    /// Args:
    ///     images: uint8 (H, W, 3) or (T, H, W, 3), RGB: an array of NumPy, or anything on
    ///         the CPU that has DLPack, the buffer protocol or `__array_interface__`.
    ///
    /// Returns the faces of the image, the surest first; of several images, a list of these
    /// lists.
    fn detect<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (detector, pool) = (self.detector(py)?, self.pool.get(py)?);
        let (pixels, shape) = numbers::<u8>(&checked("images", images)?)?;
        let broken = |_| fault(py, "ArgumentError", "images: too many pixels");
        let list = |faces: Vec<mtcae_dfer::Face>| PyList::new(py, faces.into_iter().map(Face));
        if let [height, width, channels] = shape[..] {
            let image = Array3::from_shape_vec((height, width, channels), pixels);
            let image = image.map_err(broken)?;
            let found = work::run(py, None, move |_| {
                pool.install(|| detector.detect(image.view()))
            })?;
            return list(found.map_err(|e| raised_of(py, &e))?);
        }
        let [count, height, width, channels] = shape[..] else {
            let text = "images: must be (H, W, 3) or (T, H, W, 3)";
            return Err(fault(py, "ArgumentError", text));
        };
        let images = Array4::from_shape_vec((count, height, width, channels), pixels);
        let images = images.map_err(broken)?;
        let found = work::run(py, None, move |_| {
            pool.install(|| detector.detect_batch(images.view()))
        })?;
        let found = found.map_err(|e| raised_of(py, &e))?;
        let lists: PyResult<Vec<_>> = found.into_iter().map(list).collect();
        PyList::new(py, lists?)
    }

    fn __repr__(&self) -> String {
        format!(
            "MTCNN(min_face={}, device={:?})",
            self.min_face, self.device
        )
    }
}
