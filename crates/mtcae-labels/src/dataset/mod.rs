//! The datasets: which file shows whom with which expression.
//!
//! A reader walks a folder (or a table) and gives a [`Catalogue`]: the samples
//! in a fixed order, and every file that is missing, twice there, wrongly named
//! or left out on purpose. Nothing of that stops the reading.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;

pub mod crema_d;
pub mod folder;
pub mod folds;
pub mod manifest;
pub mod mead;
pub mod ravdess;
mod report;
mod walk;

pub use report::Report;
use walk::Found;

/// Sex of a subject, as the datasets give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sex {
    /// Female.
    Female,
    /// Male.
    Male,
}

/// One clip of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name in label files: relative to the dataset's root, with `/`.
    pub file: String,
    /// Name of the dataset.
    pub dataset: String,
    /// Name of the expression.
    pub class: Option<String>,
    /// Name of the person.
    pub subject: Option<String>,
    /// Sex of the person.
    pub sex: Option<Sex>,
    /// Intensity, in the dataset's own words.
    pub level: Option<String>,
    /// Fold of the cross-validation, from 0.
    pub fold: Option<u32>,
}

impl Sample {
    /// A file that belongs to no dataset.
    ///
    /// # Errors
    /// [`Error::Name`] where a label file cannot say its name.
    pub fn bare(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let Some(file) = path.to_str().map(str::to_owned) else {
            return Err(Error::Name { path });
        };
        Ok(Self {
            file,
            path,
            dataset: "none".to_owned(),
            class: None,
            subject: None,
            sex: None,
            level: None,
            fold: None,
        })
    }
}

/// Something about a dataset's files that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A file or folder that should be there.
    Missing {
        /// What is missing.
        what: String,
    },
    /// The same take a second time; the first is used.
    Duplicate {
        /// The file left out.
        path: PathBuf,
        /// The file used.
        of: PathBuf,
    },
    /// A file whose name says nothing or something impossible; it is left out.
    Misnamed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder or file that cannot be read; it is left out.
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what } => write!(f, "missing: {what}"),
            Self::Duplicate { path, of } => {
                write!(
                    f,
                    "twice there: {} (used: {})",
                    path.display(),
                    of.display()
                )
            }
            Self::Misnamed { path, reason } => {
                write!(f, "misnamed: {}: {reason}", path.display())
            }
            Self::Unreadable { path, reason } => {
                write!(f, "unreadable: {}: {reason}", path.display())
            }
        }
    }
}

/// What a reader found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Name of the dataset.
    pub dataset: String,
    /// Names of the classes, in the order of their numbers.
    pub classes: Vec<String>,
    /// The clips, ordered by name.
    pub samples: Vec<Sample>,
    /// What is not as it should be, all of it.
    pub problems: Vec<Problem>,
    /// How many files were left out on purpose, and why.
    pub left_out: BTreeMap<String, usize>,
}

impl Catalogue {
    fn new(dataset: &str, classes: &[&str]) -> Self {
        Self {
            dataset: dataset.to_owned(),
            classes: classes.iter().map(|&c| c.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Number of a class name.
    pub fn class_index(&self, name: &str) -> Option<usize> {
        self.classes.iter().position(|c| c == name)
    }

    /// All subjects.
    pub fn subjects(&self) -> BTreeSet<&str> {
        let subjects = self.samples.iter().filter_map(|s| s.subject.as_deref());
        subjects.collect()
    }

    fn leave_out(&mut self, why: impl Into<String>) {
        *self.left_out.entry(why.into()).or_default() += 1;
    }

    fn misnamed(&mut self, path: &Path, reason: impl Into<String>) {
        self.problems.push(Problem::Misnamed {
            path: path.to_owned(),
            reason: reason.into(),
        });
    }

    /// The videos among these files with what `parse` makes of each; the others are left
    /// out, or misnamed where that is why.
    fn videos<T>(
        &mut self,
        files: Vec<Found>,
        parse: impl Fn(&Found) -> Result<T, String>,
    ) -> Vec<(Found, T)> {
        let mut videos = Vec::with_capacity(files.len());
        for found in files {
            if !found.is_video() {
                self.leave_out(format!("no video by its name: {}", found.ending()));
                continue;
            }
            match parse(&found) {
                Ok(parsed) => videos.push((found, parsed)),
                Err(reason) => self.misnamed(&found.path, reason),
            }
        }
        videos
    }

    fn missing(&mut self, what: impl Into<String>) {
        self.problems.push(Problem::Missing { what: what.into() });
    }

    /// Keeps one sample for each take; `takes` names the take of each sample.
    fn drop_duplicates(&mut self, takes: Vec<String>) {
        let mut first: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut kept = Vec::with_capacity(self.samples.len());
        for (sample, take) in std::mem::take(&mut self.samples).into_iter().zip(takes) {
            match first.get(&take) {
                Some(of) => self.problems.push(Problem::Duplicate {
                    path: sample.path,
                    of: of.clone(),
                }),
                None => {
                    first.insert(take, sample.path.clone());
                    kept.push(sample);
                }
            }
        }
        self.samples = kept;
    }
}
