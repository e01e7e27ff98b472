//! Confidence intervals of any statistic.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Percentile bootstrap (Efron, 1979): the statistic over many samples drawn with
/// replacement, and between which values the middle of them lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// Samples drawn.
    pub resamples: usize,
    /// Share of them inside the interval, in (0, 1).
    pub level: f64,
    /// Equal seeds draw equal samples.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 1000 samples, 95 %, seed 0.
    fn default() -> Self {
        Self {
            resamples: 1000,
            level: 0.95,
            seed: 0,
        }
    }
}

/// A statistic and its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The statistic of the clips themselves.
    pub estimate: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Share of the samples between them.
    pub level: f64,
}

/// How two systems differ on the same clips.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The difference and its confidence interval.
    pub interval: Interval,
    /// How often a difference as large would come about by which people were looked at, if
    /// there were none; not corrected for how many are tested ([`holm`]).
    pub p: f64,
}

impl Bootstrap {
    /// The fewest subjects that an interval of this level can be drawn from:
    /// 4 at 95 %.
    ///
    /// Of n, one sample in nⁿ draws the worst of them n times. Where that is as likely
    /// as the tail that the interval leaves out, its end is that one subject's own value,
    /// and of a single subject all samples are alike.
    pub fn fewest(&self) -> usize {
        let tail = (1.0 - self.level) / 2.0;
        (2..1000u16)
            .find(|&n| f64::from(n).powi(-i32::from(n)) < tail)
            .map_or(1000, usize::from)
    }

    /// Draws whole subjects, each with all of its clips (cluster bootstrap):
    /// `subjects` names the subject of each clip. Samples differ in their number
    /// of clips where subjects do. `statistic` is given the numbers of a sample's clips,
    /// some of them more than once.
    ///
    /// # Errors
    /// [`Error::TooFew`] below [`Self::fewest`] subjects. When there is no clip or no
    /// sample, the level is not in (0, 1), or the statistic fails or is not finite.
    pub fn by_subject<S: Ord>(
        &self,
        subjects: &[S],
        statistic: impl FnMut(&[usize]) -> Result<f64, Error>,
    ) -> Result<Interval, Error> {
        let (estimate, values) = self.sampled(subjects, statistic)?;
        Ok(self.interval(estimate, &values))
    }

    /// As [`Self::by_subject`], of the difference between two systems on the same clips, and
    /// how often chance alone would make one as large: the two-sided achieved significance
    /// level of the bootstrap, whose samples are moved to a mean difference of nothing (Efron
    /// and Tibshirani, 1993, algorithm 16.2).
    ///
    /// # Errors
    /// As [`Self::by_subject`].
    pub fn difference_by_subject<S: Ord>(
        &self,
        subjects: &[S],
        difference: impl FnMut(&[usize]) -> Result<f64, Error>,
    ) -> Result<Difference, Error> {
        let (estimate, values) = self.sampled(subjects, difference)?;
        let as_large = |v: &&f64| (**v - estimate).abs() >= estimate.abs();
        let reached = values.iter().filter(as_large).count();
        Ok(Difference {
            interval: self.interval(estimate, &values),
            // What was seen counts as one of the samples, so that none is impossible.
            p: (reached + 1) as f64 / (values.len() + 1) as f64,
        })
    }

    fn interval(&self, estimate: f64, sorted: &[f64]) -> Interval {
        let tail = (1.0 - self.level) / 2.0;
        Interval {
            estimate,
            low: percentile(sorted, tail),
            high: percentile(sorted, 1.0 - tail),
            level: self.level,
        }
    }

    /// The statistic of all clips, and those of the samples in ascending order.
    fn sampled<S: Ord>(
        &self,
        subjects: &[S],
        mut statistic: impl FnMut(&[usize]) -> Result<f64, Error>,
    ) -> Result<(f64, Vec<f64>), Error> {
        let mut units: BTreeMap<&S, Vec<usize>> = BTreeMap::new();
        for (clip, subject) in subjects.iter().enumerate() {
            units.entry(subject).or_default().push(clip);
        }
        let units: Vec<Vec<usize>> = units.into_values().collect();
        if units.is_empty() {
            return Err(Error::Empty { what: "clips" });
        }
        if self.resamples == 0 {
            return Err(Error::Config {
                field: "bootstrap.resamples",
                reason: "must be at least 1".to_owned(),
            });
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(Error::Config {
                field: "bootstrap.level",
                reason: format!("must be between 0 and 1, not {}", self.level),
            });
        }
        if units.len() < self.fewest() {
            return Err(Error::TooFew {
                what: "subjects",
                found: units.len(),
                fewest: self.fewest(),
            });
        }
        let mut all = units.concat();
        all.sort_unstable();
        let mut checked = |clips: &[usize], index| {
            let value = statistic(clips)?;
            crate::error::finite("statistic of sample", index, [&value])?;
            Ok::<_, Error>(value)
        };
        let estimate = checked(&all, 0)?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut values = Vec::with_capacity(self.resamples);
        let mut sample = Vec::with_capacity(all.len());
        for i in 0..self.resamples {
            sample.clear();
            for _ in 0..units.len() {
                sample.extend_from_slice(&units[rng.random_range(0..units.len())]);
            }
            values.push(checked(&sample, i + 1)?);
        }
        values.sort_unstable_by(f64::total_cmp);
        Ok((estimate, values))
    }
}

/// Probabilities of several tests, each raised by as much as makes them fair together: the
/// step-down method of Holm (1979), in the order given. The chance that any of the differences
/// that there are not is called one is then below the level that they are held against.
pub fn holm(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
    let mut corrected = vec![0.0; probabilities.len()];
    let mut highest: f64 = 0.0;
    for (rank, place) in order.into_iter().enumerate() {
        let tests = (probabilities.len() - rank) as f64;
        highest = highest.max((tests * probabilities[place]).min(1.0));
        corrected[place] = highest;
    }
    corrected
}

/// The value below which a share `p` of sorted values lies, between neighbours by
/// linear interpolation as `numpy.percentile` does. `sorted` is not empty.
pub(crate) fn percentile(sorted: &[f64], p: f64) -> f64 {
    let at = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numpys() {
        let path = mtcae_testing::fixtures().join("objective/metrics.json");
        let text = std::fs::read_to_string(path).expect("readable");
        let fixture: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let cases = fixture["bootstrap"]["percentiles"]
            .as_array()
            .expect("list");
        assert_eq!(cases.len(), 21);
        for case in cases {
            let mut values: Vec<f64> =
                serde_json::from_value(case["values"].clone()).expect("numbers");
            values.sort_unstable_by(f64::total_cmp);
            let p = case["p"].as_f64().expect("a number");
            let want = case["result"].as_f64().expect("a number");
            let got = percentile(&values, p);
            assert!((got - want).abs() <= 1e-14 * want, "{p}: {got}, {want}");
        }
    }
}
