//! Whether a probability of 80 % is right in 80 % of cases.

use mtcae_core::argmax;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::same_length;

/// How far the sum of a clip's probabilities may be from 1: some roundings of the
/// coarsest type they come in, `bf16`.
const SUM: f64 = 0.02;

/// The most probable class of each clip.
#[derive(Clone, Debug, PartialEq)]
pub struct TopLabels {
    /// Its number; the first among equals.
    pub classes: Vec<usize>,
    /// Its probability.
    pub confidence: Vec<f64>,
    /// Whether it is the true one.
    pub right: Vec<bool>,
}

impl TopLabels {
    /// From the probabilities of each clip, one row of C a clip, and its true
    /// class.
    ///
    /// # Errors
    /// When there is no clip, lengths differ, a class does not exist, or a row is
    /// no distribution (NaN, outside [0, 1], not summing to 1 within 0.02).
    pub fn new<R: AsRef<[f64]>>(probabilities: &[R], truth: &[usize]) -> Result<Self, Error> {
        checked(probabilities, truth)?;
        let mut top = Self {
            classes: Vec::with_capacity(truth.len()),
            confidence: Vec::with_capacity(truth.len()),
            right: Vec::with_capacity(truth.len()),
        };
        for (row, truth) in probabilities.iter().zip(truth) {
            let row = row.as_ref();
            let best = argmax(row).unwrap_or(0);
            top.classes.push(best);
            top.confidence.push(row[best]);
            top.right.push(best == *truth);
        }
        Ok(top)
    }
}

/// Checks that each clip has a distribution over the same classes, and a true class of
/// them.
pub(crate) fn checked<R: AsRef<[f64]>>(probabilities: &[R], truth: &[usize]) -> Result<(), Error> {
    same_length("true classes", probabilities.len(), truth.len())?;
    let Some(first) = probabilities.first() else {
        return Err(Error::Empty { what: "clips" });
    };
    let classes = first.as_ref().len();
    for (index, (row, truth)) in probabilities.iter().zip(truth).enumerate() {
        let row = row.as_ref();
        same_length("probabilities of a clip", classes, row.len())?;
        if *truth >= classes {
            return Err(Error::Class {
                what: "true class",
                index,
                class: *truth,
                classes,
            });
        }
        for p in row {
            probability("probabilities of clip", index, *p)?;
        }
        let sum: f64 = row.iter().sum();
        if (sum - 1.0).abs() > SUM {
            return Err(Error::Value {
                what: "probabilities of clip",
                index,
                reason: format!("they sum to {sum}, not 1"),
            });
        }
    }
    Ok(())
}

/// A reliability diagram of top labels and the expected calibration error
/// (Guo et al., 2017, "On calibration of modern neural networks", equation 3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Bins of equal width over (0, 1].
    pub bins: Vec<ReliabilityBin>,
    /// Σ over bins of (share of clips) · |accuracy − mean confidence|.
    pub ece: f64,
}

/// Clips whose confidence is in one interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReliabilityBin {
    /// Confidences are above this (a confidence of 0 is in the first bin all the
    /// same) …
    pub lower: f64,
    /// … and at most this.
    pub upper: f64,
    /// Clips in it.
    pub count: usize,
    /// Their mean confidence; `None` without clips.
    pub confidence: Option<f64>,
    /// The share of them that is right; `None` without clips.
    pub accuracy: Option<f64>,
}

impl Calibration {
    /// The bins in common use.
    pub const BINS: usize = 15;

    /// From the confidence of each clip and whether it was right.
    ///
    /// # Errors
    /// When there is no clip or no bin, the lists differ in length, or a
    /// confidence is not in [0, 1].
    pub fn new(confidence: &[f64], right: &[bool], bins: usize) -> Result<Self, Error> {
        same_length("right answers", confidence.len(), right.len())?;
        for (what, n) in [("clips", confidence.len()), ("bins", bins)] {
            if n == 0 {
                return Err(Error::Empty { what });
            }
        }
        let edge = |i: usize| i as f64 / bins as f64;
        let mut sums = vec![(0usize, 0.0, 0usize); bins];
        for (index, (c, right)) in confidence.iter().zip(right).enumerate() {
            probability("confidence", index, *c)?;
            // A first guess that rounding may put one bin beside the edges.
            let mut bin = ((c * bins as f64) as usize).min(bins - 1);
            while bin > 0 && *c <= edge(bin) {
                bin -= 1;
            }
            while *c > edge(bin + 1) {
                bin += 1;
            }
            let (count, sum, hits) = &mut sums[bin];
            *count += 1;
            *sum += c;
            *hits += usize::from(*right);
        }
        let mut ece = 0.0;
        let bins = sums
            .into_iter()
            .enumerate()
            .map(|(i, (count, sum, hits))| {
                let mean = |total: f64| (count > 0).then(|| total / count as f64);
                ece += (hits as f64 - sum).abs() / confidence.len() as f64;
                ReliabilityBin {
                    lower: edge(i),
                    upper: edge(i + 1),
                    count,
                    confidence: mean(sum),
                    accuracy: mean(hits as f64),
                }
            })
            .collect();
        Ok(Self { bins, ece })
    }
}

fn probability(what: &'static str, index: usize, p: f64) -> Result<(), Error> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    Err(Error::Value {
        what,
        index,
        reason: format!("{p} is not in [0, 1]"),
    })
}
