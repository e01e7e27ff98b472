//! Proper scoring rules, and what is gained by answering only where a model is sure.

use serde::{Deserialize, Serialize};

use crate::calibration::checked;
use crate::{Error, TopLabels};

/// The mean negative logarithm of what true classes are given, in nats, as scikit-learn's
/// `log_loss`: probabilities below 2⁻⁵² count as that.
///
/// # Errors
/// As [`TopLabels::new`].
pub fn log_loss<R: AsRef<[f64]>>(probabilities: &[R], truth: &[usize]) -> Result<f64, Error> {
    checked(probabilities, truth)?;
    let losses = probabilities
        .iter()
        .zip(truth)
        .map(|(row, &class)| -row.as_ref()[class].max(f64::EPSILON).ln());
    // Of certainties, 0 and not −0.
    Ok(losses.sum::<f64>() / truth.len() as f64 + 0.0)
}

/// The mean over clips of Σ over classes of (probability − 1 or 0)² (Brier, 1950): 0 at
/// best, 2 at worst.
///
/// # Errors
/// As [`TopLabels::new`].
pub fn brier_score<R: AsRef<[f64]>>(probabilities: &[R], truth: &[usize]) -> Result<f64, Error> {
    checked(probabilities, truth)?;
    let scores = probabilities.iter().zip(truth).map(|(row, &class)| {
        let parts = row.as_ref().iter().enumerate().map(|(c, p)| {
            let is = if c == class { 1.0 } else { 0.0 };
            (p - is) * (p - is)
        });
        parts.sum::<f64>()
    });
    Ok(scores.sum::<f64>() / truth.len() as f64)
}

/// What becomes of answers that are given only from some confidence on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selective {
    /// The least confidence of an answer.
    pub least: f64,
    /// Clips that are answered.
    pub answered: usize,
    /// The share of all clips that they are.
    pub coverage: f64,
    /// The share of them that is right; `None` where none is answered.
    pub accuracy: Option<f64>,
}

impl TopLabels {
    /// What becomes of these clips where only answers of at least some confidence are given.
    pub fn answered(&self, least: f64) -> Selective {
        let given = self.confidence.iter().zip(&self.right);
        let given: Vec<bool> = given.filter(|(c, _)| **c >= least).map(|g| *g.1).collect();
        let right = given.iter().filter(|right| **right).count();
        let answered = given.len();
        Selective {
            least,
            answered,
            coverage: answered as f64 / self.confidence.len().max(1) as f64,
            accuracy: (answered > 0).then(|| right as f64 / answered as f64),
        }
    }

    /// The confidence that at least a share of the clips reaches: the lowest of those that
    /// are answered where the surest `share` are. `None` without clips.
    pub fn least_of_share(&self, share: f64) -> Option<f64> {
        let mut sorted = self.confidence.clone();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let wanted = (share * sorted.len() as f64).ceil() as usize;
        let last = wanted.clamp(1, sorted.len().max(1)) - 1;
        sorted.get(last).copied()
    }
}
