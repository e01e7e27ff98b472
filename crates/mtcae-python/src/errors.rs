//! Faults as exceptions, in the words of the command.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use mtcae_core::one_line;
use mtcae_dfer::{Error, video};
use pyo3::prelude::*;
use pyo3::types::PyType;

/// An exception of `mtcae`, by its class's name there.
pub fn fault(py: Python<'_>, class: &str, text: &str) -> PyErr {
    let class = py
        .import("mtcae._errors")
        .and_then(|module| module.getattr(class))
        .and_then(|class| Ok(class.cast_into::<PyType>()?));
    match class {
        Ok(class) => PyErr::from_type(class, text.to_owned()),
        Err(error) => error,
    }
}

/// A fault of the facade.
pub fn raised(py: Python<'_>, error: &Error) -> PyErr {
    // The command's name of the setting, which Python has as well.
    let text = one_line(error).replace('`', "");
    fault(py, class_of(error), &text)
}

/// A fault of anything else, of a class that is true where no file is missing.
pub fn raised_as(py: Python<'_>, class: &str, error: &(dyn StdError + 'static)) -> PyErr {
    let text = one_line(error);
    match is_missing(error) {
        true => fault(py, "MissingFileError", &text),
        false => fault(py, class, &text),
    }
}

/// A class, or that of a missing file where one is the cause.
pub fn class_or(error: &(dyn StdError + 'static), class: &'static str) -> &'static str {
    match is_missing(error) {
        true => "MissingFileError",
        false => class,
    }
}

fn class_of(error: &Error) -> &'static str {
    match error {
        Error::In { source, .. } => class_of(source),
        error if is_missing(error) => "MissingFileError",
        Error::Video(error) => match error.fault {
            video::Fault::Option { .. } | video::Fault::TooManyFrames { .. } => "ArgumentError",
            _ => "VideoError",
        },
        Error::Changed => "VideoError",
        Error::Model(_) | Error::NotFinite { .. } => "ModelError",
        Error::Results { .. } => "ResultsError",
        Error::Option { .. }
        | Error::Clip { .. }
        | Error::Uneven { .. }
        | Error::Tubes(_)
        | Error::Part(_)
        | Error::Faces(mtcae_faces::Error::Config { .. }) => "ArgumentError",
        Error::NoFace | Error::SeenTooSeldom { .. } => "NoFaceError",
        _ => "Error",
    }
}

/// Whether the cause is a file that is not there.
fn is_missing(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let missing = |e: &io::Error| e.kind() == ErrorKind::NotFound;
        if error.downcast_ref().is_some_and(missing) {
            return true;
        }
        next = error.source();
    }
    false
}
