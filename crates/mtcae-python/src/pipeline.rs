//! From a video, frames or a tensor to what a model says.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use mtcae_dfer::model::Outputs;
use mtcae_dfer::{
    Answer, Error, FaceFinder, Footage, PeopleOptions, Progress, Provenance, Results as Found,
    SourceFile, Tensor, Times, Windowing,
};
use mtcae_nn::candle_core::DType;
use numpy::PyArray4;
use numpy::prelude::*;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arrays::{checked, numbers};
use crate::errors::{fault, raised};
use crate::mtcnn::may_be_looked_for;
use crate::prediction::dict;
use crate::results::Results;
use crate::settings::{Fault, Foreign, Settings, detect_at, one_of, open_device, word};
use crate::windows::Windows;
use crate::work::{self, Pool, Teller};

/// A model that is loaded, with all that it works with.
pub struct Ready {
    /// The process that its threads are of.
    process: u32,
    pub pipeline: mtcae_dfer::Pipeline,
    pub finder: Option<FaceFinder>,
    /// Where results come from, but for the file.
    pub origin: Provenance,
    pub min_seen: usize,
}

/// Whom to answer about, in clips or windows.
#[derive(Clone)]
pub struct Asked {
    pub everybody: bool,
    pub windowing: Option<Windowing>,
}

/// A model with everything around it: from a video, frames or a tensor to what it says.
///
/// Args:
///     checkpoint: Folder of a checkpoint, published classifier (a folder or file), or
///         "hub:ORG/NAME[@REVISION]". None is the default model, which lies in the package.
///     device: "cpu" or "cuda:N".
///     precision: "f32"; "bf16" on GPUs and on CPUs with AMX or AVX512-BF16; "tf32" on GPUs.
///     threads: Threads to read and compute on; None for one a core. They are this
///         pipeline's own.
///     crop: What the model is shown, in place of what the checkpoint says: "face[:MARGIN]",
///         "aligned[:SCALE]" or "none" (the whole picture).
///     faces: Whether MTCNN looks for faces. Without it, there is no crop.
///     detect_at: The picture that MTCNN looks at: "source", or "model", which is as small
///         as what the model is given.
///     min_face: Smallest face that MTCNN looks for, in pixels of that picture; None for a
///         twentieth of the source's short side, and at least 20.
///     min_seen: In how many of a clip's frames a person must be seen to be answered about.
///     least_confidence: Name no expression where the likeliest has less than this
///         probability, in place of what the checkpoint says; 0 for never.
///     classes: Names of the classes of a published classifier that does not name them.
///     sampling: Which frames make a clip, in place of what the checkpoint says: "uniform",
///         "authors", "dense:STRIDE" or "multi-clip:CLIPSxSTRIDE".
///     resize: What part of a whole picture is seen, in place of what the checkpoint says:
///         "squash", "shortest-edge" or "three-crop".
///     image_size, frames, heads: Sizes of an encoder in a file that does not say them.
///
/// A pipeline can be used by several threads at once, and is a context manager that closes
/// itself. In a process that is forked while it rests it goes on, on the CPU, with threads of
/// its own.
#[pyclass(frozen, module = "mtcae")]
pub struct Pipeline {
    pool: Pool,
    settings: Settings,
    ready: RwLock<Option<Arc<Ready>>>,
}

impl Pipeline {
    /// What it works with.
    ///
    /// # Errors
    /// `ValueError` where it is closed; `RuntimeError` where a fork left it nothing to work
    /// with.
    pub fn ready(&self, py: Python<'_>) -> PyResult<Arc<Ready>> {
        let pool = self.pool.get(py)?;
        let now = std::process::id();
        // Not held on to: what is made anew takes its place.
        let ready = {
            let ready = self.ready.read().unwrap_or_else(PoisonError::into_inner);
            ready.clone()
        };
        let closed = || PyValueError::new_err("the pipeline is closed; make another one");
        let ready = ready.ok_or_else(closed)?;
        if ready.process == now {
            return Ok(ready);
        }
        if !ready.pipeline.engine().device().is_cpu() {
            return Err(PyRuntimeError::new_err(
                "a GPU cannot be used in a process that was forked after it was opened: make \
                 the pipeline there, in a process started by the method `spawn`",
            ));
        }
        let finder = pool.install(|| self.finder(&ready.pipeline));
        let finder = finder.map_err(|e| raised(py, &e))?;
        let renewed = Arc::new(Ready {
            process: now,
            pipeline: ready.pipeline.clone().with_pool(pool),
            finder,
            origin: ready.origin.clone(),
            min_seen: ready.min_seen,
        });
        // Its threads are the parent's: nobody could end them here.
        std::mem::forget(ready);
        let mut place = self.ready.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(renewed.clone());
        Ok(renewed)
    }

    fn finder(&self, pipeline: &mtcae_dfer::Pipeline) -> Result<Option<FaceFinder>, Error> {
        let Settings {
            detect_at,
            min_face,
            ..
        } = &self.settings;
        let made = || FaceFinder::new(pipeline.engine().device(), *detect_at, *min_face);
        self.settings.faces.then(made).transpose()
    }
}

/// The people who are asked for.
///
/// # Errors
/// `ArgumentError`.
fn everybody(py: Python<'_>, people: &str) -> PyResult<bool> {
    match people {
        "subject" => Ok(false),
        "all" => Ok(true),
        other => Err(one_of(py, "people", other, "\"subject\" or \"all\"")),
    }
}

/// Windows, where they are asked for.
///
/// # Errors
/// `ArgumentError`.
fn windowing(
    py: Python<'_>,
    length: Option<f64>,
    stride: Option<f64>,
    batch: usize,
) -> PyResult<Option<Windowing>> {
    for (name, seconds) in [("length", length), ("stride", stride)] {
        if seconds.is_some_and(|s| !(s.is_finite() && s > 0.0)) {
            let text = format!("{name}: must be a number of seconds above 0");
            return Err(fault(py, "ArgumentError", &text));
        }
    }
    if !(1..=1024).contains(&batch) {
        let text = "batch: must be at least 1 and at most 1024";
        return Err(fault(py, "ArgumentError", text));
    }
    let windows = length.or(stride).zip(stride.or(length));
    Ok(windows.map(|(length, stride)| Windowing {
        length,
        stride,
        batch,
    }))
}

impl Ready {
    /// What the model says of a file, and how many people it says nothing of.
    fn answer(
        &self,
        path: &Path,
        asked: &Asked,
        mut tell: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(Answer, usize), Error> {
        let pipeline = &self.pipeline;
        let follows = asked.everybody || !pipeline.crop().is_none();
        Ok(match (&self.finder, asked.windowing) {
            (Some(finder), windowing) if follows => {
                let options = PeopleOptions {
                    everybody: asked.everybody,
                    min_seen: self.min_seen,
                    windowing,
                    ..PeopleOptions::default()
                };
                let people = finder.predict_people(pipeline, path, &options, tell)?;
                (people.answer, people.left_out)
            }
            (Some(finder), Some(windowing)) => {
                let timeline = finder.predict_windows(pipeline, path, &windowing, &mut tell)?;
                (Answer::Windows(vec![timeline]), 0)
            }
            (Some(finder), None) => (Answer::Clip(vec![finder.predict(pipeline, path)?]), 0),
            (None, Some(windowing)) => {
                let timeline = pipeline.predict_windows(path, &windowing, &mut tell)?;
                (Answer::Windows(vec![timeline]), 0)
            }
            (None, None) => (Answer::Clip(vec![pipeline.predict(path)?]), 0),
        })
    }

    /// As [`Self::answer`], of frames in memory.
    fn answer_frames(&self, frames: &Footage, asked: &Asked) -> Result<(Answer, usize), Error> {
        let Some(finder) = &self.finder else {
            let said = self.pipeline.predict_footage(frames)?;
            return Ok((Answer::Clip(vec![said]), 0));
        };
        let options = PeopleOptions {
            everybody: asked.everybody,
            min_seen: self.min_seen,
            ..PeopleOptions::default()
        };
        let people = finder.predict_footage(&self.pipeline, frames, &options)?;
        Ok((people.answer, people.left_out))
    }

    /// Where results come from that are of this file, or of none.
    fn provenance(&self, path: Option<&Path>, asked: &Asked) -> Result<Provenance, Error> {
        let mut origin = self.origin.clone();
        origin.source = path.map(SourceFile::of).transpose()?;
        if let Some(settings) = origin.settings.as_object_mut() {
            let windows = asked.windowing.map(|w| [w.length, w.stride]);
            settings.insert("windows".to_owned(), serde_json::json!(windows));
            settings.insert("everybody".to_owned(), asked.everybody.into());
        }
        Ok(origin)
    }
}

#[pymethods]
impl Pipeline {
    #[new]
    #[pyo3(signature = (
        checkpoint = None, *, device = "cpu", precision = "f32", threads = None, crop = None,
        faces = true, detect_at = "source", min_face = None, min_seen = 2,
        least_confidence = None, classes = None, sampling = None, resize = None,
        image_size = None, frames = None, heads = None
    ))]
    #[allow(clippy::too_many_arguments)] // Each is a keyword, as the command has flags.
    fn new(
        py: Python<'_>,
        checkpoint: Option<PathBuf>,
        device: &str,
        precision: &str,
        threads: Option<usize>,
        crop: Option<&str>,
        faces: bool,
        detect_at: &str,
        min_face: Option<f64>,
        min_seen: usize,
        least_confidence: Option<f64>,
        classes: Option<Vec<String>>,
        sampling: Option<&str>,
        resize: Option<&str>,
        image_size: Option<usize>,
        frames: Option<usize>,
        heads: Option<usize>,
    ) -> PyResult<Self> {
        let given = Foreign {
            classes,
            sampling: sampling.map(|s| word(py, "sampling", s)).transpose()?,
            resize: resize.map(|s| word(py, "resize", s)).transpose()?,
            image_size,
            frames,
            heads,
        };
        if min_seen == 0 {
            let text = "min_seen: must be at least 1";
            return Err(fault(py, "ArgumentError", text));
        }
        if let Some(min_face) = min_face {
            may_be_looked_for(py, min_face)?;
        }
        let settings = Settings {
            checkpoint: checkpoint.map(|path| path.to_string_lossy().into_owned()),
            device: device.to_owned(),
            precision: word(py, "precision", precision)?,
            crop: crop.map(|s| word(py, "crop", s)).transpose()?,
            faces,
            detect_at: self::detect_at(py, detect_at)?,
            min_face,
            min_seen,
            least_confidence,
            given,
        };
        let pool = Pool::new(py, threads)?;
        let made = Self {
            pool,
            settings,
            ready: RwLock::new(None),
        };
        let own = default_model(py)?;
        let opened = open_device(py, device)?;
        let (settings, threads) = (made.settings.clone(), made.pool.get(py)?);
        let loaded = work::run(py, None, move |_| {
            let pool = threads.clone();
            threads.install(move || load(&settings, &own, &opened, pool))
        })?;
        let (pipeline, origin) = loaded.map_err(|fault| fault.raise(py))?;
        let threads = made.pool.get(py)?;
        let finder = threads.install(|| made.finder(&pipeline));
        let finder = finder.map_err(|e| raised(py, &e))?;
        let ready = Ready {
            process: std::process::id(),
            pipeline,
            finder,
            origin,
            min_seen,
        };
        Ok(Self {
            ready: RwLock::new(Some(Arc::new(ready))),
            ..made
        })
    }

    /// What the model says of a video or image file, or of frames.
    ///
    /// Args:
    ///     source: A path, or frames as uint8 (T, H, W, 3) or one (H, W, 3), RGB: an array of
    ///         NumPy, or anything on the CPU that has DLPack, the buffer protocol or
    ///         `__array_interface__`, as torch.Tensor has. What of them is looked at is
    ///         copied before the work begins.
    ///     people: "subject", who is seen longest, or "all".
    ///     fps: Frames a second, of frames [25].
    ///     times: Seconds of each frame, (T,), in place of `fps`.
    ///     length: Slide windows of this many seconds over the file [`stride`].
    ///     stride: Seconds from one window's start to the next one's [`length`].
    ///     batch: Windows that are read together and go through the model at once.
    ///     progress: True for a bar by tqdm, a tqdm of one's own, or a function of
    ///         (done, total) in seconds of the video. It hears of windows and people.
    ///
    /// Ctrl-C is heeded within a tenth of a second; where no window or person ends, the work
    /// on a clip that was begun goes on in the background until that is done.
    #[pyo3(signature = (
        source, *, people = "subject", fps = None, times = None, length = None, stride = None,
        batch = 1, progress = None
    ))]
    #[allow(clippy::too_many_arguments)] // Each is a keyword, as the command has flags.
    fn predict(
        &self,
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        people: &str,
        fps: Option<f64>,
        times: Option<Vec<f64>>,
        length: Option<f64>,
        stride: Option<f64>,
        batch: usize,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Results> {
        let ready = self.ready(py)?;
        let everybody = everybody(py, people)?;
        let windowing = windowing(py, length, stride, batch)?;
        let asked = Asked {
            everybody,
            windowing,
        };
        refuse_everybody(py, &ready, everybody)?;
        let wrong = |text: &str| Err(fault(py, "ArgumentError", text));
        if let Some(path) = path_of(source)? {
            if fps.is_some() || times.is_some() {
                return wrong("fps and times are of frames; a file says its own");
            }
            let run = |told: Option<&Bound<'_, PyAny>>| {
                work::run(py, told, move |teller| {
                    said(&ready, Some(&path), &asked, |asked| {
                        ready.answer(&path, asked, |reached| told_to(teller, reached))
                    })
                })
            };
            let found = with_progress(py, progress, "s", run)?;
            return results(py, found);
        }
        if asked.windowing.is_some() {
            return wrong("length and stride are of files; give a part of the frames, frames[a:b]");
        }
        let array = checked("frames", source)?;
        let times = match (&times, fps) {
            (Some(_), Some(_)) => return wrong("fps or times say when frames are shown, not both"),
            (Some(times), None) => Times::Of(times),
            (None, fps) => Times::Rate(fps.unwrap_or(25.0)),
        };
        let frames = {
            let array = array.cast::<PyArray4<u8>>()?.try_readonly()?;
            let taken = Footage::new(&ready.pipeline, array.as_array(), times);
            taken.map_err(|e| raised(py, &e))?
        };
        let run = |told: Option<&Bound<'_, PyAny>>| {
            work::run(py, told, move |_| {
                said(&ready, None, &asked, |asked| {
                    ready.answer_frames(&frames, asked)
                })
            })
        };
        let found = with_progress(py, progress, "s", run)?;
        results(py, found)
    }

    /// Goes over a file by windows, and gives each prediction as soon as it is there: an
    /// iterator of `Prediction`, one a window and person.
    ///
    /// Args:
    ///     source: A path.
    ///     length: Seconds of a window [`stride`].
    ///     stride: Seconds from one window's start to the next one's [`length`].
    ///     people: "subject", who is seen longest, or "all".
    ///     batch: Windows that are read together and go through the model at once.
    ///     progress: As of `predict`.
    ///
    /// The work runs ahead on a thread of its own by at most four predictions, and stops when
    /// the iterator is closed or forgotten. Where the model is shown crops, the file is first
    /// read through for faces, since who is who is known at its end alone; where it is shown
    /// whole pictures, MTCNN's faces are left out, which `predict` puts beside the answers.
    #[pyo3(signature = (
        source, length = None, stride = None, *, people = "subject", batch = 1,
        progress = None
    ))]
    #[allow(clippy::too_many_arguments)] // Each is a keyword, as the command has flags.
    fn windows(
        &self,
        py: Python<'_>,
        source: PathBuf,
        length: Option<f64>,
        stride: Option<f64>,
        people: &str,
        batch: usize,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Windows> {
        let ready = self.ready(py)?;
        let everybody = everybody(py, people)?;
        refuse_everybody(py, &ready, everybody)?;
        let Some(windowing) = windowing(py, length, stride, batch)? else {
            let text = "length: how many seconds a window has must be said, or stride";
            return Err(fault(py, "ArgumentError", text));
        };
        let asked = Asked {
            everybody,
            windowing: Some(windowing),
        };
        let reporter = progress.map(|p| reporter(py, p, "s")).transpose()?;
        Windows::start(ready, source, asked, windowing, reporter.flatten())
    }

    /// What the heads say of clips that are normalised already.
    ///
    /// Args:
    ///     clips: float32 (B, T, C, H, W) of the model's own size (`clip_shape`): an array of
    ///         NumPy, or anything on the CPU that has DLPack, as torch.Tensor has. It is
    ///         copied once.
    ///
    /// Returns a tuple of arrays by name: `boxes` (B, T, 4) and `landmarks` (B, T, 5, 2) in
    /// fractions of the clip's frame, `action_units` (B, T, U), each None where the model has
    /// no such task; `logits` (B, C) and `probabilities` (B, C). All are float32, and other
    /// libraries take them by DLPack without a copy: `torch.from_dlpack(out.boxes)`.
    fn predict_tensor<'py>(
        &self,
        py: Python<'py>,
        clips: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let ready = self.ready(py)?;
        let (clips, shape) = numbers::<f32>(&checked("clips", clips)?)?;
        let said = work::run(py, None, move |_| {
            let engine = ready.pipeline.engine();
            let clips = Tensor::from_vec(clips, shape, engine.device())?;
            let clips = match engine.device().is_cpu() {
                true => clips,
                false => clips.to_dtype(engine.precision().dtype())?,
            };
            heads(&ready.pipeline.predict_tensor(&clips)?)
        })?;
        let said: Vec<Option<(Vec<f32>, Vec<usize>)>> = said.map_err(|e| raised(py, &e))?;
        let arrays = said.into_iter().map(|head| {
            let array = |(numbers, shape): (Vec<f32>, Vec<usize>)| {
                crate::arrays::array(py, numpy::ndarray::IxDyn(&shape), numbers)
            };
            head.map(array)
        });
        let arrays = PyTuple::new(py, arrays.collect::<Vec<_>>())?;
        let outputs = py.import("mtcae._outputs")?.getattr("Outputs")?;
        outputs.call1(arrays)
    }

    /// Names of the classes, in the order of `probabilities`.
    #[getter]
    fn classes(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.ready(py)?.pipeline.config().classes.clone())
    }

    /// The model's config, as `docs/checkpoint-format.md` describes it.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let ready = self.ready(py)?;
        dict(py, &serde_json::to_string(ready.pipeline.config()))
    }

    /// Shape (T, C, H, W) of a clip that `predict_tensor` takes several of.
    #[getter]
    fn clip_shape(&self, py: Python<'_>) -> PyResult<(usize, usize, usize, usize)> {
        let input = self.ready(py)?.pipeline.config().encoder.input();
        Ok((input.frames, input.channels, input.size, input.size))
    }

    /// What part of a frame the model is shown.
    #[getter]
    fn crop(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.ready(py)?.pipeline.crop().to_string())
    }

    /// Where it computes.
    #[getter]
    fn device(&self) -> &str {
        &self.settings.device
    }

    /// What it computes in.
    #[getter]
    fn precision(&self) -> String {
        self.settings.precision.to_string()
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        let ready = self.ready.read().unwrap_or_else(PoisonError::into_inner);
        ready.is_none()
    }

    /// Gives the model's memory back, once work that was begun is done. Closing it again does
    /// nothing; all else is a ValueError then.
    fn close(&self, py: Python<'_>) {
        let mut place = self.ready.write().unwrap_or_else(PoisonError::into_inner);
        let ready = place.take();
        drop(place);
        match ready {
            // The threads are the parent's.
            Some(ready) if ready.process != std::process::id() => std::mem::forget(ready),
            ready => py.detach(|| drop(ready)),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().ready(slf.py())?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let s = &self.settings;
        let closed = if self.closed() { ", closed" } else { "" };
        format!(
            "Pipeline({:?}, device={:?}, precision=\"{}\"{closed})",
            s.name(),
            s.device,
            s.precision
        )
    }
}

/// Where the default model lies.
fn default_model(py: Python<'_>) -> PyResult<PathBuf> {
    let file: PathBuf = py.import("mtcae")?.getattr("__file__")?.extract()?;
    Ok(file.with_file_name("default"))
}

fn load(
    settings: &Settings,
    own: &Path,
    device: &mtcae_dfer::Device,
    pool: Arc<rayon::ThreadPool>,
) -> Result<(mtcae_dfer::Pipeline, Provenance), Fault> {
    let failed = |class, error: &(dyn std::error::Error + 'static)| Fault {
        class,
        text: mtcae_core::one_line(error),
    };
    mtcae_nn::Isa::held().map_err(|e| failed("DeviceError", &e))?;
    let checkpoint = settings.open(own)?;
    let crop = settings.settle(checkpoint.config().preprocessing.crop)?;
    let engine = checkpoint.engine(device, settings.precision);
    let engine = engine.map_err(|e| failed("ModelError", &e))?;
    let origin = Provenance {
        program: concat!("mtcae ", env!("CARGO_PKG_VERSION"), " (Python)").to_owned(),
        model: checkpoint
            .identity(settings.name())
            .map_err(|e| failed("ModelError", &e))?,
        source: None,
        settings: settings.noted(crop),
    };
    let pipeline = mtcae_dfer::Pipeline::new(engine).with_crop(crop);
    Ok((pipeline.with_pool(pool), origin))
}

/// Everybody is looked at in crops to their faces.
fn refuse_everybody(py: Python<'_>, ready: &Ready, everybody: bool) -> PyResult<()> {
    let text = match (everybody, &ready.finder) {
        (true, None) => "people: \"all\" follows MTCNN's faces: faces=False cannot be used with it",
        _ => return Ok(()),
    };
    Err(fault(py, "ArgumentError", text))
}

/// The path that something is; None where it is no name of a file.
fn path_of(source: &Bound<'_, PyAny>) -> PyResult<Option<PathBuf>> {
    let is_name = source.is_instance_of::<pyo3::types::PyString>();
    match is_name || source.hasattr("__fspath__")? {
        true => source.extract().map(Some),
        false => Ok(None),
    }
}

fn told_to<T>(teller: &Teller<T>, reached: Progress) -> ControlFlow<()> {
    teller.reached(reached.seconds, reached.duration)
}

/// An answer with where it comes from.
fn said(
    ready: &Ready,
    path: Option<&Path>,
    asked: &Asked,
    answer: impl FnOnce(&Asked) -> Result<(Answer, usize), Error>,
) -> Result<(Found, usize), Error> {
    let (answer, left_out) = answer(asked)?;
    let provenance = Some(ready.provenance(path, asked)?);
    Ok((Found { provenance, answer }, left_out))
}

fn results(py: Python<'_>, found: Result<(Found, usize), Error>) -> PyResult<Results> {
    let (results, left_out) = found.map_err(|e| raised(py, &e))?;
    Ok(Results::new(results, left_out))
}

/// What Python's side makes of an argument `progress`: None where nothing is to be told.
///
/// # Errors
/// `TypeError` for what cannot be told anything, `ImportError` without tqdm.
pub fn reporter<'py>(
    py: Python<'py>,
    progress: &Bound<'py, PyAny>,
    unit: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let module = py.import("mtcae._progress")?;
    let made = module.call_method1("reporter", (progress, unit))?;
    Ok((!made.is_none()).then_some(made))
}

/// Runs work that tells a caller's `progress` how far it is, and ends what that shows.
///
/// # Errors
/// As [`reporter`], and what the work raises.
pub fn with_progress<'py, T>(
    py: Python<'py>,
    progress: Option<&Bound<'py, PyAny>>,
    unit: &str,
    work: impl FnOnce(Option<&Bound<'py, PyAny>>) -> PyResult<T>,
) -> PyResult<T> {
    let made = progress.map(|p| reporter(py, p, unit)).transpose()?;
    let made = made.flatten();
    let done = work(made.as_ref());
    if let Some(made) = made {
        made.call_method0("close")?;
    }
    done
}

/// A tensor's numbers and its shape.
type Numbers = (Vec<f32>, Vec<usize>);

/// The numbers and shapes of boxes, landmarks, action units, logits and probabilities.
fn heads(outputs: &Outputs) -> Result<Vec<Option<Numbers>>, Error> {
    let probabilities = outputs.probabilities()?;
    let all = [
        outputs.boxes.as_ref(),
        outputs.landmarks.as_ref(),
        outputs.action_units.as_ref(),
        Some(&outputs.logits),
        Some(&probabilities),
    ];
    let plain = |tensor: &Tensor| -> Result<_, Error> {
        let numbers = tensor.flatten_all()?.to_dtype(DType::F32)?;
        Ok((numbers.to_vec1()?, tensor.dims().to_vec()))
    };
    all.into_iter().map(|t| t.map(plain).transpose()).collect()
}
