//! What can go wrong with labels.

use std::path::PathBuf;

use mtcae_core::files::FileError;

/// What is wrong with a name that a label file cannot say.
pub(crate) const NOT_UTF8: &str =
    "its name is not UTF-8, as a label file is, which could not say which file it means; rename it";

/// What can go wrong with labels.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot be used.
    #[error("{field}: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Faces cannot be found or linked.
    #[error(transparent)]
    Faces(#[from] mtcae_faces::Error),
    /// A file or folder cannot be read or written, or is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file has a name that a label file cannot say.
    #[error("{}: {}", path.display(), NOT_UTF8)]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// A manifest cannot be used.
    #[error("{}: {}", path.display(), faults.join("; "))]
    Manifest {
        /// The table.
        path: PathBuf,
        /// All that is wrong with it, by line.
        faults: Vec<String>,
    },
    /// Folds are not independent of subjects.
    #[error("{}", folds(torn, *without))]
    Folds {
        /// Subjects in several folds, with these.
        torn: Vec<String>,
        /// Samples without a fold.
        without: usize,
    },
    /// A label file is of another version of the format.
    #[error("{}, line {line}: schema {found}; this version reads {read} only", path.display())]
    Schema {
        /// The label file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The schema found.
        found: String,
        /// The schema that this version reads.
        read: &'static str,
    },
    /// A line of a label file is broken.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The label file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A label file is not the beginning of what this run would write.
    #[error("{}: cannot resume: line {line} {reason}", path.display())]
    Resume {
        /// The label file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is different.
        reason: String,
    },
    /// A table cannot be written.
    #[error("labels as a table: {0}")]
    Table(#[from] csv::Error),
    /// A video cannot be read.
    #[error(transparent)]
    Video(#[from] mtcae_video::Error),
}

/// What is wrong with folds, in words.
fn folds(torn: &[String], without: usize) -> String {
    let mut faults = Vec::new();
    if !torn.is_empty() {
        faults.push(format!(
            "a subject's clips must all be in one fold, but {}",
            torn.join(", ")
        ));
    }
    if without > 0 {
        faults.push(format!(
            "{without} clip{} no fold, which all or none must have",
            if without == 1 { " has" } else { "s have" }
        ));
    }
    faults.join("; ")
}
