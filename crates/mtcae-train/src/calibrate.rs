//! Calibration of a trained model on labelled clips of people whom it does not know.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use mtcae_core::ParseError;
use mtcae_model::Calibration;
use mtcae_objective::{
    Calibration as Reliability, LogitScaling, RIDGE, Selective, TopLabels, brier_score, log_loss,
};
use rand::seq::SliceRandom;

use crate::random::generator;
use crate::{ClipResult, Error};

/// How logits are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// By one number: no answer changes, only how sure it is.
    Temperature,
    /// By a factor and a bias for each class, which also learns how frequent the classes are
    /// in the clips.
    Vector,
}

impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Temperature => "temperature",
            Self::Vector => "vector",
        })
    }
}

impl FromStr for Scaling {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        match s {
            "temperature" => Ok(Self::Temperature),
            "vector" => Ok(Self::Vector),
            _ => Err(ParseError::new("scaling", s, "temperature, vector")),
        }
    }
}

/// How far probabilities can be believed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Belief {
    /// Mean log loss in nats.
    pub log_loss: f64,
    /// Brier score, 0 to 2.
    pub brier: f64,
    /// Expected calibration error of top labels in 15 bins.
    pub ece: f64,
    /// Share of clips that are recognised.
    pub accuracy: f64,
}

impl Belief {
    /// Of clips' probabilities and true classes.
    ///
    /// # Errors
    /// When there is no clip, or a row is no distribution.
    pub fn of<R: AsRef<[f64]>>(probabilities: &[R], truth: &[usize]) -> Result<Self, Error> {
        let top = TopLabels::new(probabilities, truth)?;
        Ok(Self {
            log_loss: log_loss(probabilities, truth)?,
            brier: brier_score(probabilities, truth)?,
            ece: Reliability::new(&top.confidence, &top.right, Reliability::BINS)?.ece,
            accuracy: top.answered(0.0).accuracy.unwrap_or(0.0),
        })
    }
}

/// A calibration, and what it is worth to people whom it was not fitted on.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrated {
    /// Fitted on all clips.
    pub calibration: Calibration,
    /// Clips measured.
    pub clips: usize,
    /// People in them.
    pub people: usize,
    /// The clips' raw logits, as they are.
    pub before: Belief,
    /// The clips of each half of the people, calibrated by those of the other half.
    pub after: Belief,
    /// The most probable class of each clip, so calibrated.
    pub top: TopLabels,
}

impl Calibrated {
    /// What becomes of answers where only the surest shares of them are given.
    pub fn shares(&self, shares: &[f64]) -> Vec<Selective> {
        let least = shares.iter().filter_map(|s| self.top.least_of_share(*s));
        least.map(|least| self.top.answered(least)).collect()
    }
}

/// Fits a calibration to what a model says of clips ([`predict`](crate::predict)). People
/// are dealt into two halves by a seed; each half is measured with what the other one fits,
/// so that nobody is measured who was fitted on. The calibration itself is fitted on all,
/// and is said to be `fitted_on` these words.
///
/// Where a model takes several views of a clip, the logits of each are fitted; probabilities
/// are means over views, as its answers are.
///
/// # Errors
/// [`Error::Config`] when there are fewer than two people, or results hold no logits;
/// [`Error::Objective`] when no scaling fits.
pub fn calibrate(
    results: &[ClipResult],
    scaling: Scaling,
    seed: u64,
    fitted_on: &str,
) -> Result<Calibrated, Error> {
    let fault = |reason: String| Error::Config {
        field: "labels",
        reason,
    };
    if let Some(bare) = results.iter().find(|r| r.logits.is_empty()) {
        return Err(fault(format!("{}: no logits are known", bare.file)));
    }
    let people: BTreeSet<&str> = results.iter().map(|r| r.subject.as_str()).collect();
    if people.len() < 2 {
        return Err(fault(format!(
            "clips of {} are given; at least two people are needed, of whom one is measured \
             with what the other fits",
            match people.len() {
                1 => "one person".to_owned(),
                n => format!("{n} people"),
            }
        )));
    }
    let mut dealt: Vec<&str> = people.iter().copied().collect();
    dealt.shuffle(&mut generator("halves of people", &[seed]));
    let first: BTreeSet<&str> = dealt.into_iter().take(people.len() / 2).collect();
    let is_first = |r: &&ClipResult| first.contains(r.subject.as_str());
    let (a, b): (Vec<&ClipResult>, Vec<&ClipResult>) = results.iter().partition(is_first);

    let mut truth = Vec::with_capacity(results.len());
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (fitted, measured) in [(&a, &b), (&b, &a)] {
        let fit = fit(fitted, scaling)?;
        for result in measured {
            truth.push(result.class);
            before.push(mean(result, &plain(result))?);
            after.push(mean(result, &fit)?);
        }
    }
    let all: Vec<&ClipResult> = results.iter().collect();
    let LogitScaling { scale, bias } = fit(&all, scaling)?;
    Ok(Calibrated {
        calibration: Calibration {
            scale,
            bias: (scaling == Scaling::Vector).then_some(bias),
            fitted_on: format!("{fitted_on}, by {scaling} scaling"),
        },
        clips: results.len(),
        people: people.len(),
        before: Belief::of(&before, &truth)?,
        after: Belief::of(&after, &truth)?,
        top: TopLabels::new(&after, &truth)?,
    })
}

fn fit(results: &[&ClipResult], scaling: Scaling) -> Result<LogitScaling, Error> {
    let views = results.iter().flat_map(|r| &r.logits);
    let logits: Vec<&Vec<f64>> = views.collect();
    let truth = results
        .iter()
        .flat_map(|r| r.logits.iter().map(|_| r.class));
    let truth: Vec<usize> = truth.collect();
    Ok(match scaling {
        Scaling::Temperature => LogitScaling::temperature(&logits, &truth, RIDGE)?,
        Scaling::Vector => LogitScaling::vector(&logits, &truth, RIDGE)?,
    })
}

/// Logits as they are.
fn plain(result: &ClipResult) -> LogitScaling {
    let classes = result.logits.first().map_or(0, Vec::len);
    LogitScaling {
        scale: vec![1.0; classes],
        bias: vec![0.0; classes],
    }
}

/// The mean of the views' probabilities.
fn mean(result: &ClipResult, scaling: &LogitScaling) -> Result<Vec<f64>, Error> {
    let mut mean = vec![0.0; scaling.scale.len()];
    for view in &result.logits {
        for (sum, p) in mean.iter_mut().zip(scaling.probabilities(view)?) {
            *sum += p / result.logits.len() as f64;
        }
    }
    Ok(mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    /// Clips of people, a few times too sure of what is right in part.
    fn results(people: usize, sharp: f64) -> Vec<ClipResult> {
        let mut rng = generator("test", &[1]);
        let mut results = Vec::new();
        for subject in 0..people {
            for clip in 0..12 {
                let class = clip % 3;
                let view = |rng: &mut rand_chacha::ChaCha8Rng| {
                    let mut logits: Vec<f64> =
                        (0..3).map(|_| rng.random_range(-1.0..1.0)).collect();
                    logits[class] += 0.5;
                    logits.iter_mut().for_each(|z| *z *= sharp);
                    logits
                };
                results.push(ClipResult {
                    file: format!("{subject}/{clip}"),
                    subject: subject.to_string(),
                    level: None,
                    fold: 0,
                    class,
                    probabilities: vec![1.0 / 3.0; 3],
                    logits: vec![view(&mut rng), view(&mut rng)],
                    frames: 0,
                    iou: None,
                    nme: None,
                    action_units: Vec::new(),
                });
            }
        }
        results
    }

    #[test]
    fn what_is_too_sure_is_believed_better_afterwards_by_people_who_were_not_fitted_on() {
        for scaling in [Scaling::Temperature, Scaling::Vector] {
            let found = calibrate(&results(9, 8.0), scaling, 3, "made up").expect("a fit");
            assert_eq!((found.clips, found.people), (108, 9));
            let (before, after) = (found.before, found.after);
            assert!(
                after.log_loss < 0.8 * before.log_loss,
                "{before:?} {after:?}"
            );
            assert!(
                after.brier < before.brier && after.ece < before.ece,
                "{before:?} {after:?}"
            );
            assert_eq!(found.calibration.bias.is_some(), scaling == Scaling::Vector);
            assert_eq!(
                found.calibration.fitted_on,
                format!("made up, by {scaling} scaling")
            );
            assert_eq!(scaling.to_string().parse(), Ok(scaling));
            let shares = found.shares(&[1.0, 0.5]);
            assert_eq!(shares[0].answered, 108);
            assert!(shares[1].answered >= 54 && shares[1].least > shares[0].least);
            let again = calibrate(&results(9, 8.0), scaling, 3, "made up");
            assert_eq!(again.expect("a fit"), found);
        }
    }

    #[test]
    fn the_calibration_is_fitted_on_everybody() {
        let results = results(4, 2.0);
        let found = calibrate(&results, Scaling::Temperature, 0, "").expect("a fit");
        let logits: Vec<&Vec<f64>> = results.iter().flat_map(|r| &r.logits).collect();
        let truth: Vec<usize> = results.iter().flat_map(|r| [r.class; 2]).collect();
        let want = LogitScaling::temperature(&logits, &truth, RIDGE).expect("a fit");
        assert_eq!(found.calibration.scale, want.scale);
    }

    #[test]
    fn one_person_is_too_few_and_a_table_has_no_logits() {
        let mut few = results(1, 2.0);
        let said = calibrate(&few, Scaling::Vector, 0, "").expect_err("one");
        assert!(said.to_string().contains("one person"), "{said}");
        few[3].logits.clear();
        let said = calibrate(&few, Scaling::Vector, 0, "").expect_err("bare");
        assert!(said.to_string().contains("0/3: no logits"), "{said}");
    }
}
