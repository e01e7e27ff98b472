//! Label files of videos, as the command `mtcae label` writes them.

use std::path::{Path, PathBuf};

use mtcae_dfer::video::inputs::{drawn, expand};
use mtcae_faces::{Detector, DetectorConfig};
use mtcae_labels::Error;
use mtcae_labels::dataset::{Sample, crema_d, folder, folds, manifest, mead, ravdess};
use mtcae_labels::labels::{
    DetectAt, LabelSettings, LabelWriter, Labeller, Pick, Summary, label_all,
};
use pyo3::prelude::*;

use crate::errors::{class_or, fault, raised_as};
use crate::mtcnn::{may_be_looked_for, raised_of};
use crate::pipeline::with_progress;
use crate::settings::{Fault, detect_at as at, one_of, open_device};
use crate::work::{self, Pool};

/// What `label` found.
#[pyclass(frozen, get_all, module = "mtcae")]
pub struct LabelSummary {
    /// Clips labelled by this run.
    pub clips: usize,
    /// Clips that earlier runs had labelled.
    pub resumed: usize,
    /// Frames looked at.
    pub frames: usize,
    /// Frames in which the subject was found.
    pub detected: usize,
    /// Frames in which the subject's place was interpolated.
    pub interpolated: usize,
    /// Clips in which there is no face at all.
    pub without_face: Vec<String>,
    /// Clips that could not be read, with the reason.
    pub failed: Vec<(String, String)>,
    /// What of the inputs was left out, a sentence each.
    pub left_out: Vec<String>,
}

#[pymethods]
impl LabelSummary {
    fn __repr__(&self) -> String {
        format!(
            "LabelSummary(clips={}, resumed={}, frames={}, detected={}, interpolated={}, \
             without_face={}, failed={}, left_out={})",
            self.clips,
            self.resumed,
            self.frames,
            self.detected,
            self.interpolated,
            self.without_face.len(),
            self.failed.len(),
            self.left_out.len()
        )
    }
}

/// What the clips to be labelled are of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dataset {
    Ravdess,
    CremaD,
    Mead,
    Folder,
    Manifest,
    None,
}

impl Dataset {
    fn of(py: Python<'_>, name: Option<&str>) -> PyResult<Self> {
        Ok(match name {
            None => Self::None,
            Some("ravdess") => Self::Ravdess,
            Some("crema-d") => Self::CremaD,
            Some("mead") => Self::Mead,
            Some("folder") => Self::Folder,
            Some("manifest") => Self::Manifest,
            Some(other) => {
                let known = "\"ravdess\", \"crema-d\", \"mead\", \"folder\", \"manifest\" or None";
                return Err(one_of(py, "dataset", other, known));
            }
        })
    }
}

/// Which clips are to be labelled.
struct Wanted {
    paths: Vec<PathBuf>,
    dataset: Dataset,
    classes: Vec<String>,
    folds: Option<usize>,
    seed: u64,
}

impl Wanted {
    /// The clips, and what of the inputs was left out.
    fn samples(&self) -> Result<(Vec<Sample>, Vec<String>), Error> {
        let mut left_out = Vec::new();
        if self.dataset == Dataset::None {
            let mut samples = Vec::new();
            let inputs = expand(&self.paths, &mut |fault| left_out.push(fault.to_owned()));
            if inputs.drawn > 0 {
                left_out.push(drawn(inputs.drawn));
            }
            for input in inputs.files {
                match Sample::bare(input.path) {
                    Ok(sample) => samples.push(sample),
                    Err(e) => left_out.push(mtcae_core::one_line(&e)),
                }
            }
            return Ok((samples, left_out));
        }
        let root = self.paths.first().map_or(Path::new(""), |path| path);
        let mut catalogue = match self.dataset {
            Dataset::Ravdess => ravdess::read(root, &ravdess::Options::default())?,
            Dataset::CremaD => crema_d::read(root)?,
            Dataset::Mead => mead::read(root, &mead::Options::default())?,
            Dataset::Manifest => manifest::read(root, &self.classes)?,
            Dataset::Folder | Dataset::None => folder::read(root)?,
        };
        match self.folds {
            Some(k) => folds::assign(&mut catalogue.samples, k, self.seed)?,
            None if catalogue.samples.iter().any(|s| s.fold.is_some()) => {
                folds::prove(&catalogue.samples)?;
            }
            None => {}
        }
        left_out.extend(catalogue.problems.iter().map(ToString::to_string));
        let others = catalogue.left_out.iter();
        left_out.extend(others.map(|(why, count)| format!("{count} left out: {why}")));
        Ok((catalogue.samples, left_out))
    }
}

/// A fault of labels.
fn failed(error: &Error) -> Fault {
    let class = match error {
        Error::Config { .. } => "ArgumentError",
        error => class_or(error, "LabelError"),
    };
    let text = mtcae_core::one_line(error);
    Fault { class, text }
}

/// Writes down the faces of videos as a label file to train from, as `mtcae label` does.
///
/// Args:
///     paths: A path or several: video and image files, folders and glob patterns; with
///         `dataset`, the dataset's folder or a manifest.
///     out: The label file (JSON Lines, `docs/label-format.md`). One that is there is never
///         overwritten; `resume` goes on with it.
///     dataset: "ravdess", "crema-d", "mead", "folder" (one folder a class), "manifest" (a
///         table of one's own), or None for loose files.
///     detect_at: "model", which looks for faces in the model's clip, or "source".
///     every: Label every so many-th frame of a file, in place of one clip of 16; 1 for all.
///     jobs: Clips to work on at once.
///     threads: Threads to read and compute on, shared by the jobs; None for one a core.
///     min_face: Smallest face to look for, in pixels.
///     device: "cpu" or "cuda:N".
///     classes: Classes that a manifest may name.
///     folds, seed: Assign clips to so many folds without a subject in two.
///     progress: True for a bar by tqdm, a tqdm of one's own, or a function of
///         (done, total) in clips.
///
/// A file that cannot be read stops nothing: it is in the summary's `failed`. Ctrl-C is heeded
/// within a tenth of a second, and what was written stays, to be resumed; clips that were
/// begun go on in the background until they are done.
#[pyfunction]
#[pyo3(signature = (
    paths, out, *, dataset = None, detect_at = "model", every = None, jobs = 2, threads = None,
    resume = false, min_face = 20.0, device = "cpu", classes = None, folds = None, seed = 0,
    progress = None
))]
#[allow(clippy::too_many_arguments)] // Each is a keyword, as the command has flags.
pub fn label(
    py: Python<'_>,
    paths: &Bound<'_, PyAny>,
    out: PathBuf,
    dataset: Option<&str>,
    detect_at: &str,
    every: Option<u64>,
    jobs: usize,
    threads: Option<usize>,
    resume: bool,
    min_face: f64,
    device: &str,
    classes: Option<Vec<String>>,
    folds: Option<usize>,
    seed: u64,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<LabelSummary> {
    let wrong = |text: &str| Err(fault(py, "ArgumentError", text));
    let paths = match paths.extract::<PathBuf>() {
        Ok(path) => vec![path],
        Err(_) => paths.extract::<Vec<PathBuf>>()?,
    };
    let dataset = Dataset::of(py, dataset)?;
    if !(1..=256).contains(&jobs) {
        return wrong("jobs: must be at least 1 and at most 256");
    }
    if every == Some(0) {
        return wrong("every: must be at least 1");
    }
    if folds.is_some_and(|k| !(2..=65_535).contains(&k)) {
        return wrong("folds: must be at least 2 and at most 65535");
    }
    if classes.is_some() && dataset != Dataset::Manifest {
        return wrong("classes: applies to dataset=\"manifest\" only; others have their own");
    }
    if folds.is_some() && dataset == Dataset::None {
        return wrong("folds: needs a dataset; the subjects of loose files are not known");
    }
    if dataset != Dataset::None && paths.len() != 1 {
        return wrong("dataset: takes one path, a dataset's folder or a manifest");
    }
    if !resume && out.symlink_metadata().is_ok() {
        let out = out.display();
        let text =
            format!("{out}: exists already; resume=True goes on with it, or give another name");
        return Err(fault(py, "ExistingFileError", &text));
    }
    may_be_looked_for(py, min_face)?;
    let pool = Pool::new(py, threads)?.get(py)?;
    let config = DetectorConfig {
        min_face,
        ..DetectorConfig::default()
    };
    let opened = open_device(py, device)?;
    let detector = pool.install(|| Detector::new(config).and_then(|d| d.to_device(&opened)));
    let detector = detector.map_err(|e| raised_of(py, &e))?;
    let settings = LabelSettings {
        at: match at(py, detect_at)? {
            mtcae_dfer::DetectAt::Source => DetectAt::Source,
            mtcae_dfer::DetectAt::Model => DetectAt::Model,
        },
        pick: every.map_or(Pick::Clip, Pick::Every),
        ..LabelSettings::default()
    };
    // Files are decoded side by side: each decoder gets its share of the threads.
    let share = (pool.current_num_threads() / jobs).max(1);
    let labeller = Labeller::new(detector, settings);
    let labeller = labeller.map_err(|e| raised_as(py, "ArgumentError", &e))?;
    let labeller = labeller.with_decoder_threads(share);
    let wanted = Wanted {
        paths,
        dataset,
        classes: classes.unwrap_or_default(),
        folds,
        seed,
    };
    let done = with_progress(py, progress, "clip", |told| {
        work::run(py, told, move |teller| {
            let (samples, left_out) = wanted.samples().map_err(|e| failed(&e))?;
            if samples.is_empty() {
                let text = match &left_out[..] {
                    [] => "paths: no video or image is named".to_owned(),
                    faults => faults.join("; "),
                };
                return Err(Fault {
                    class: "LabelError",
                    text,
                });
            }
            let writer = match resume {
                true => LabelWriter::resume(&out, &samples, &labeller.run_settings()),
                false => LabelWriter::create(&out),
            };
            let mut writer = writer.map_err(|e| failed(&e))?;
            let label = |sample: &Sample| pool.install(|| labeller.label_file(sample));
            let summary = label_all(&samples, &mut writer, jobs, label, |p| {
                teller
                    .reached(p.done as f64, Some(p.total as f64))
                    .is_continue()
            });
            let summary = summary.map_err(|e| failed(&e))?;
            writer.finish().map_err(|e| failed(&e))?;
            Ok((summary, left_out))
        })
    })?;
    let (summary, left_out) = done.map_err(|fault| fault.raise(py))?;
    let Summary {
        clips,
        resumed,
        frames,
        detected,
        interpolated,
        without_face,
        failed,
    } = summary;
    Ok(LabelSummary {
        clips,
        resumed,
        frames,
        detected,
        interpolated,
        without_face,
        failed,
        left_out,
    })
}
