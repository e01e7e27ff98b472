//! What can go wrong with shards, leases and merging.

use std::fmt;
use std::path::PathBuf;

use mtcae_core::files::FileError;

/// What can go wrong with shards, leases and merging.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read or written, or is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// An input is named twice.
    #[error("{name} is among the inputs twice: each file has one row")]
    Twice {
        /// Its name.
        name: String,
    },
    /// What is there is of another job.
    #[error("{0}")]
    OtherJob(Box<Difference>),
    /// Rows were damaged after they were written, or are of no job.
    #[error("{}: {reason}", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Not all rows are there.
    #[error("not complete: {}; --partial merges what there is", missing.join("; "))]
    Incomplete {
        /// What is missing, in words.
        missing: Vec<String>,
    },
    /// What is to be merged does not go together.
    #[error("{reason}")]
    Merge {
        /// Why not, and what would be right.
        reason: String,
    },
    /// Workers end whenever they work on a part.
    #[error(
        "{}: part {part} ({first} to {last}) was begun {times} times and never finished: one of its files may end whoever works on it; look at them, and remove {part:07}.* in its folder `work` to try again",
        path.display()
    )]
    Fatal {
        /// The folder.
        path: PathBuf,
        /// The part.
        part: usize,
        /// Its first file.
        first: String,
        /// Its last file.
        last: String,
        /// How often it was begun.
        times: usize,
    },
}

/// How two jobs, or what was done of them, differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where the other job is described.
    pub path: PathBuf,
    /// The first field that differs.
    pub field: String,
    /// Its value there.
    pub there: String,
    /// Its other value.
    pub here: String,
    /// Where that is: `here`, or `in` a file.
    pub place: String,
    /// What would be right.
    pub advice: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            field,
            there,
            here,
            place,
            advice,
        } = self;
        let path = path.display();
        write!(
            f,
            "{path}: {field} is {there} there and {here} {place}: {advice}"
        )
    }
}

impl From<Difference> for Error {
    fn from(difference: Difference) -> Self {
        Self::OtherJob(Box::new(difference))
    }
}
