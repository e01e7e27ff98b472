//! Predictions of windows, one by one, while the file is read.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use mtcae_dfer::{Error, PeopleOptions, Progress, Windowing};
use pyo3::prelude::*;

use crate::errors::raised;
use crate::pipeline::{Asked, Ready};
use crate::prediction::Prediction;
use crate::work;

/// Predictions that may wait to be taken.
const AHEAD: usize = 4;

/// What the thread says.
enum Said {
    Prediction(Box<mtcae_dfer::Prediction>),
    Reached(Progress),
    End(Result<(), Error>),
}

/// An iterator over the predictions of `Pipeline.windows`.
#[pyclass(module = "mtcae")]
pub struct Windows {
    said: Mutex<Option<Receiver<Said>>>,
    stop: Arc<AtomicBool>,
    reporter: Option<Py<PyAny>>,
    process: u32,
}

impl Windows {
    /// Begins to read and compute.
    ///
    /// # Errors
    /// `RuntimeError` where there is no thread for it.
    pub fn start(
        ready: Arc<Ready>,
        path: PathBuf,
        asked: Asked,
        windowing: Windowing,
        reporter: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (sender, said) = sync_channel(AHEAD);
        let stop = Arc::new(AtomicBool::new(false));
        let heard = stop.clone();
        work::start("mtcae-windows", move || {
            let mut teller = Teller {
                sender,
                stop: heard,
            };
            let end = predict(&ready, path, &asked, &windowing, &mut teller);
            // Nobody may listen any more.
            drop(teller.sender.send(Said::End(end)));
        })?;
        Ok(Self {
            said: Mutex::new(Some(said)),
            stop,
            reporter: reporter.map(Bound::unbind),
            process: std::process::id(),
        })
    }

    fn end(&mut self, py: Python<'_>) -> PyResult<()> {
        self.stop.store(true, Ordering::Relaxed);
        *self.said.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        match self.reporter.take() {
            Some(reporter) => reporter.call_method0(py, "close").map(drop),
            None => Ok(()),
        }
    }
}

struct Teller {
    sender: SyncSender<Said>,
    stop: Arc<AtomicBool>,
}

impl Teller {
    fn tell(&mut self, reached: Progress, said: &[mtcae_dfer::Prediction]) -> ControlFlow<()> {
        for prediction in said {
            let prediction = Said::Prediction(Box::new(prediction.clone()));
            if self.sender.send(prediction).is_err() {
                return ControlFlow::Break(());
            }
        }
        // One that finds no room is followed by another.
        drop(self.sender.try_send(Said::Reached(reached)));
        match self.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

fn predict(
    ready: &Ready,
    path: PathBuf,
    asked: &Asked,
    windowing: &Windowing,
    teller: &mut Teller,
) -> Result<(), Error> {
    let pipeline = &ready.pipeline;
    match &ready.finder {
        Some(finder) if asked.everybody || !pipeline.crop().is_none() => {
            let options = PeopleOptions {
                everybody: asked.everybody,
                min_seen: ready.min_seen,
                windowing: asked.windowing,
                ..PeopleOptions::default()
            };
            let tell = |reached, said: &[_]| teller.tell(reached, said);
            finder.tell_people(pipeline, path, &options, tell).map(drop)
        }
        _ => {
            let video = pipeline.open(path)?;
            let tell = |reached, said: &[_]| teller.tell(reached, said);
            pipeline.tell_windows_of(video, windowing, tell).map(drop)
        }
    }
}

#[pymethods]
impl Windows {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Prediction>> {
        work::heed_fork()?;
        loop {
            let said = self.said.get_mut().unwrap_or_else(PoisonError::into_inner);
            let Some(said) = said.as_mut() else {
                return Ok(None);
            };
            match work::next(py, said)? {
                Said::Prediction(prediction) => return Ok(Some(Prediction(*prediction))),
                Said::Reached(reached) => {
                    if let Some(reporter) = &self.reporter {
                        reporter.call1(py, (reached.seconds, reached.duration))?;
                    }
                }
                Said::End(end) => {
                    self.end(py)?;
                    end.map_err(|e| raised(py, &e))?;
                }
            }
        }
    }

    /// Stops the work; there are no more predictions then.
    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        self.end(py)
    }

    fn __repr__(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let state = if said.is_some() { "open" } else { "ended" };
        format!("<mtcae.Windows, {state}>")
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.process != std::process::id() {
            // The other end is in the parent.
            std::mem::forget(self.said.get_mut().map(Option::take));
        }
    }
}
