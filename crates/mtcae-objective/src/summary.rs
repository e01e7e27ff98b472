//! All measures of an evaluation in one place, for JSON.

use serde::{Deserialize, Serialize};

use crate::{Agreement, ConfusionMatrix, Error, Interval};

/// All measures of an evaluation.
///
/// [`Summary::new`] fills in what a confusion matrix gives; the other fields are
/// the caller's to set where they were measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Clips measured.
    pub clips: u64,
    /// Unweighted average recall.
    pub uar: f64,
    /// What it is without looking: always naming one class recognises that class alone.
    pub uar_chance: f64,
    /// Its confidence interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uar_interval: Option<Interval>,
    /// Weighted average recall: accuracy.
    pub war: f64,
    /// What it is without looking, always naming the most frequent class.
    pub war_chance: f64,
    /// Its confidence interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub war_interval: Option<Interval>,
    /// Why an interval was asked for and is not given, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_interval: Option<String>,
    /// Mean F1 over the classes that occur or were predicted.
    pub macro_f1: f64,
    /// Expected calibration error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ece: Option<f64>,
    /// Mean overlap of the boxes of frames with a face.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_iou: Option<f64>,
    /// Mean normalised error of the landmarks of frames with a face.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nme: Option<f64>,
    /// Each action unit by itself, where a model has a task for them and they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub action_units: Vec<UnitSummary>,
    /// Each class by itself.
    pub classes: Vec<ClassSummary>,
    /// Rows: truth; columns: prediction.
    pub confusion: Vec<Vec<u64>>,
}

/// One class by itself. A rate that would be 0/0 is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSummary {
    /// Its name.
    pub name: String,
    /// Clips of it.
    pub support: u64,
    /// Clips taken for it.
    pub predicted: u64,
    /// Share of its clips that were recognised.
    pub recall: Option<f64>,
    /// Share of the clips taken for it that are of it.
    pub precision: Option<f64>,
    /// Harmonic mean of the two.
    pub f1: Option<f64>,
}

/// One action unit by itself, over frames. A rate that would be 0/0 is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitSummary {
    /// Its name.
    pub name: String,
    /// Frames measured.
    pub frames: u64,
    /// Mean absolute error, the full strength being 1.
    pub mae: f64,
    /// Pearson's correlation.
    pub pearson: Option<f64>,
    /// Intraclass correlation ICC(3,1).
    pub icc: Option<f64>,
}

impl UnitSummary {
    /// Of the strengths said and true of a unit.
    ///
    /// # Errors
    /// As [`Agreement::new`].
    pub fn new(name: &str, said: &[f64], truth: &[f64]) -> Result<Self, Error> {
        let Agreement { mae, pearson, icc } = Agreement::new(said, truth)?;
        Ok(Self {
            name: name.to_owned(),
            frames: truth.len() as u64,
            mae,
            pearson,
            icc,
        })
    }
}

impl Summary {
    /// What the matrix gives; the rest is `None`.
    ///
    /// # Errors
    /// [`Error::Empty`] when it counts no clip.
    pub fn new(matrix: &ConfusionMatrix) -> Result<Self, Error> {
        let (support, predicted) = (matrix.support(), matrix.predicted());
        let (recall, precision, f1) = (matrix.recall(), matrix.precision(), matrix.f1());
        let (uar, war) = (matrix.uar()?, matrix.war()?);
        let classes = support.iter().filter(|n| **n > 0).count();
        let most = support.iter().max().copied().unwrap_or(0);
        Ok(Self {
            clips: matrix.total(),
            uar,
            uar_chance: 1.0 / classes as f64,
            uar_interval: None,
            war,
            war_chance: most as f64 / matrix.total() as f64,
            war_interval: None,
            no_interval: None,
            macro_f1: matrix.macro_f1()?,
            ece: None,
            mean_iou: None,
            nme: None,
            action_units: Vec::new(),
            classes: matrix
                .names()
                .iter()
                .enumerate()
                .map(|(i, name)| ClassSummary {
                    name: name.clone(),
                    support: support[i],
                    predicted: predicted[i],
                    recall: recall[i],
                    precision: precision[i],
                    f1: f1[i],
                })
                .collect(),
            confusion: matrix.rows().map(<[u64]>::to_vec).collect(),
        })
    }
}
