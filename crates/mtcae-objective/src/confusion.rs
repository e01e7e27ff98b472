//! Which class was taken for which, and the rates that follow.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::same_length;

/// Counts of clips: a row for each true class, a column for each predicted one.
///
/// A rate that would be 0/0 is `None`: the recall of a class that never occurs,
/// the precision of one that is never predicted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct ConfusionMatrix {
    names: Vec<String>,
    /// C × C, row by row.
    counts: Vec<u64>,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    names: Vec<String>,
    counts: Vec<Vec<u64>>,
}

impl ConfusionMatrix {
    /// No clips yet, of classes with these names.
    ///
    /// # Errors
    /// When there is no name, or one occurs twice.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.is_empty() {
            return Err(Error::Empty {
                what: "class names",
            });
        }
        let mut seen = BTreeSet::new();
        if let Some(index) = names.iter().position(|name| !seen.insert(name)) {
            return Err(Error::Value {
                what: "class name",
                index,
                reason: format!("{:?} is listed twice", names[index]),
            });
        }
        let counts = vec![0; names.len() * names.len()];
        Ok(Self { names, counts })
    }

    /// The matrix of clips whose true and predicted classes are given.
    ///
    /// # Errors
    /// As [`Self::new`]; when the lists differ in length or hold a class that does
    /// not exist.
    pub fn from_labels<S: Into<String>>(
        names: impl IntoIterator<Item = S>,
        truth: &[usize],
        predicted: &[usize],
    ) -> Result<Self, Error> {
        let mut matrix = Self::new(names)?;
        same_length("predicted classes", truth.len(), predicted.len())?;
        for (t, p) in truth.iter().zip(predicted) {
            matrix.add(*t, *p)?;
        }
        Ok(matrix)
    }

    /// Counts one clip.
    ///
    /// # Errors
    /// [`Error::Class`] when a class does not exist; its index is the number of
    /// clips counted before.
    pub fn add(&mut self, truth: usize, predicted: usize) -> Result<(), Error> {
        let classes = self.classes();
        for (what, class) in [("true class", truth), ("predicted class", predicted)] {
            if class >= classes {
                return Err(Error::Class {
                    what,
                    index: self.total() as usize,
                    class,
                    classes,
                });
            }
        }
        self.counts[truth * classes + predicted] += 1;
        Ok(())
    }

    /// Adds the clips of another matrix, such as another fold's.
    ///
    /// # Errors
    /// When its classes have other names.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        same_length("classes", self.classes(), other.classes())?;
        if let Some(index) = (0..self.classes()).find(|i| self.names[*i] != other.names[*i]) {
            return Err(Error::Value {
                what: "class name",
                index,
                reason: format!("{:?} is not {:?}", other.names[index], self.names[index]),
            });
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        Ok(())
    }

    /// How many classes there are: C.
    pub fn classes(&self) -> usize {
        self.names.len()
    }

    /// The names of the classes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Clips of class `truth` that were taken for `predicted`; 0 for a class that
    /// does not exist.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        let classes = self.classes();
        if truth < classes && predicted < classes {
            self.counts[truth * classes + predicted]
        } else {
            0
        }
    }

    /// A row for each true class.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u64]> {
        self.counts.chunks_exact(self.classes())
    }

    /// Clips counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Clips of each true class.
    pub fn support(&self) -> Vec<u64> {
        self.rows().map(|row| row.iter().sum()).collect()
    }

    /// Clips of each predicted class.
    pub fn predicted(&self) -> Vec<u64> {
        let column = |c| self.rows().map(|row| row[c]).sum();
        (0..self.classes()).map(column).collect()
    }

    fn right(&self) -> impl Iterator<Item = u64> {
        self.rows().enumerate().map(|(c, row)| row[c])
    }

    /// Recall of each class: which share of its clips was recognised. `None` for a
    /// class that does not occur.
    pub fn recall(&self) -> Vec<Option<f64>> {
        let pairs = self.right().zip(self.support());
        pairs.map(|(right, all)| ratio(right, all)).collect()
    }

    /// Precision of each class: which share of the clips taken for it are of it.
    /// `None` for a class that was never predicted.
    pub fn precision(&self) -> Vec<Option<f64>> {
        let pairs = self.right().zip(self.predicted());
        pairs.map(|(right, all)| ratio(right, all)).collect()
    }

    /// F1 of each class, 2·right / (true + predicted): the harmonic mean of recall
    /// and precision. `None` for a class that neither occurs nor was predicted.
    pub fn f1(&self) -> Vec<Option<f64>> {
        self.right()
            .zip(self.support().into_iter().zip(self.predicted()))
            .map(|(right, (truth, predicted))| ratio(2 * right, truth + predicted))
            .collect()
    }

    /// Unweighted average recall: the mean of [`Self::recall`] over the classes
    /// that occur.
    ///
    /// A class that does not occur is left out even where it was predicted, as in
    /// scikit-learn's `balanced_accuracy_score`; `recall_score(average="macro")`
    /// would count it as 0 then.
    ///
    /// # Errors
    /// [`Error::Empty`] without clips.
    pub fn uar(&self) -> Result<f64, Error> {
        mean(&self.recall())
    }

    /// Weighted average recall, which is the accuracy: the share of clips that
    /// were recognised.
    ///
    /// # Errors
    /// [`Error::Empty`] without clips.
    pub fn war(&self) -> Result<f64, Error> {
        ratio(self.right().sum(), self.total()).ok_or(Error::Empty { what: "clips" })
    }

    /// The mean of [`Self::f1`] over the classes that occur or were predicted, as
    /// scikit-learn's `f1_score(average="macro")`.
    ///
    /// # Errors
    /// [`Error::Empty`] without clips.
    pub fn macro_f1(&self) -> Result<f64, Error> {
        mean(&self.f1())
    }
}

impl TryFrom<Raw> for ConfusionMatrix {
    type Error = Error;

    fn try_from(raw: Raw) -> Result<Self, Error> {
        let mut matrix = Self::new(raw.names)?;
        same_length(
            "rows of the confusion matrix",
            matrix.classes(),
            raw.counts.len(),
        )?;
        for row in &raw.counts {
            same_length(
                "columns of the confusion matrix",
                matrix.classes(),
                row.len(),
            )?;
        }
        matrix.counts = raw.counts.concat();
        Ok(matrix)
    }
}

impl From<ConfusionMatrix> for Raw {
    fn from(matrix: ConfusionMatrix) -> Self {
        Self {
            counts: matrix.rows().map(<[u64]>::to_vec).collect(),
            names: matrix.names,
        }
    }
}

fn ratio(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

fn mean(rates: &[Option<f64>]) -> Result<f64, Error> {
    let known: Vec<f64> = rates.iter().flatten().copied().collect();
    if known.is_empty() {
        return Err(Error::Empty { what: "clips" });
    }
    Ok(known.iter().sum::<f64>() / known.len() as f64)
}
