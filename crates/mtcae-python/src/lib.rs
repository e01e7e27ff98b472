//! The Python package `mtcae`: what `mtcae-dfer`, `mtcae-faces` and `mtcae-labels` do, with
//! arrays, tables and exceptions in the manner of Python. Its Python side, which has the type
//! stubs, lies in `python/mtcae`; what it promises stands in `docs/python.md`.
//!
//! No work is done under the interpreter's lock: see `work.rs`.

mod arrays;
mod errors;
mod label;
mod mtcnn;
mod pipeline;
mod prediction;
mod results;
mod settings;
mod table;
mod windows;
mod work;

use pyo3::prelude::*;

/// What is native of the package `mtcae`.
#[pymodule(gil_used = true)]
mod _mtcae {
    #[pymodule_export]
    use crate::label::{LabelSummary, label};
    #[pymodule_export]
    use crate::mtcnn::{Face, Mtcnn};
    #[pymodule_export]
    use crate::pipeline::Pipeline;
    #[pymodule_export]
    use crate::prediction::Prediction;
    #[pymodule_export]
    use crate::results::{Results, Timeline, read_results};
    #[pymodule_export]
    use crate::windows::Windows;

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
