//! Logits scaled so that probabilities are as often right as they say.

use crate::Error;
use crate::error::{finite, same_length};

/// Newton steps at most; a fit takes some ten.
const STEPS: usize = 200;
/// A fit is done where what a step could gain, in nats a sample, is below this.
const DONE: f64 = 1e-22;
/// Below this rounding hides the gain, and a whole step is right.
const NEAR: f64 = 1e-10;

/// Logits z become `scale · z + bias`, class by class, before softmax (Guo et al., 2017,
/// "On calibration of modern neural networks", section 4.2).
#[derive(Clone, Debug, PartialEq)]
pub struct LogitScaling {
    /// A factor for each class's logit.
    pub scale: Vec<f64>,
    /// What is added to it then.
    pub bias: Vec<f64>,
}

/// How much a fit is held to what the logits say by themselves: half of this, times the
/// squared distances of factors from 1 and of biases from 0, is added to the mean log loss.
/// Without it, logits that are always right would be scaled without end, and biases would
/// be known up to a constant only.
pub const RIDGE: f64 = 1e-3;

impl LogitScaling {
    /// Scaling by one number, 1/T for the temperature T: it changes no answer, only how
    /// sure the model is. Fitted by the least log loss of samples' logits, one row of C a
    /// sample, and their true classes.
    ///
    /// # Errors
    /// When there is no sample, lengths differ, a class does not exist, a logit is not
    /// finite, or no positive temperature is best: the logits speak against the truth.
    pub fn temperature<R: AsRef<[f64]>>(
        logits: &[R],
        truth: &[usize],
        ridge: f64,
    ) -> Result<Self, Error> {
        let problem = Problem::new(logits, truth, ridge, 1)?;
        let found = problem.minimise(vec![1.0])?;
        problem.scaling(&found)
    }

    /// Scaling by a factor and a bias for each class, fitted as [`Self::temperature`].
    ///
    /// # Errors
    /// As [`Self::temperature`]; when a class's best factor is not positive.
    pub fn vector<R: AsRef<[f64]>>(
        logits: &[R],
        truth: &[usize],
        ridge: f64,
    ) -> Result<Self, Error> {
        let classes = logits.first().map_or(0, |row| row.as_ref().len());
        let problem = Problem::new(logits, truth, ridge, 2 * classes)?;
        let mut start = vec![1.0; classes];
        start.resize(2 * classes, 0.0);
        let found = problem.minimise(start)?;
        problem.scaling(&found)
    }

    /// Probabilities of a sample's logits.
    ///
    /// # Errors
    /// When they are not as many as there are classes.
    pub fn probabilities(&self, logits: &[f64]) -> Result<Vec<f64>, Error> {
        same_length("logits of a clip", self.scale.len(), logits.len())?;
        let scaled = logits.iter().zip(self.scale.iter().zip(&self.bias));
        Ok(softmax(scaled.map(|(z, (a, b))| a * z + b).collect()))
    }
}

fn softmax(mut values: Vec<f64>) -> Vec<f64> {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|v| *v = (*v - most).exp());
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|v| *v /= sum);
    values
}

/// The mean log loss of scaled logits, with its ridge.
struct Problem<'a> {
    logits: Vec<&'a [f64]>,
    truth: &'a [usize],
    classes: usize,
    /// 1 for a factor that all classes share; else 2 · C: factors, then biases.
    parameters: usize,
    ridge: f64,
}

/// Value, gradient and, row by row, second derivatives.
struct Local {
    value: f64,
    gradient: Vec<f64>,
    hessian: Vec<f64>,
}

impl<'a> Problem<'a> {
    fn new<R: AsRef<[f64]>>(
        logits: &'a [R],
        truth: &'a [usize],
        ridge: f64,
        parameters: usize,
    ) -> Result<Self, Error> {
        same_length("true classes", logits.len(), truth.len())?;
        let logits: Vec<&[f64]> = logits.iter().map(AsRef::as_ref).collect();
        let classes = match logits.first() {
            Some(row) if !row.is_empty() => row.len(),
            _ => return Err(Error::Empty { what: "logits" }),
        };
        for (index, (row, &class)) in logits.iter().zip(truth).enumerate() {
            same_length("logits of a clip", classes, row.len())?;
            finite("logits of clip", index, *row)?;
            if class >= classes {
                return Err(Error::Class {
                    what: "true class",
                    index,
                    class,
                    classes,
                });
            }
        }
        if !(ridge.is_finite() && ridge > 0.0) {
            return Err(Error::Config {
                field: "ridge",
                reason: format!("must be positive, not {ridge}"),
            });
        }
        Ok(Self {
            logits,
            truth,
            classes,
            parameters,
            ridge,
        })
    }

    /// Factor and bias of a class.
    fn of_class(&self, at: &[f64], class: usize) -> (f64, f64) {
        match self.parameters {
            1 => (at[0], 0.0),
            _ => (at[class], at[self.classes + class]),
        }
    }

    /// How far a parameter is from where the logits are as they are.
    fn distance(&self, at: &[f64], parameter: usize) -> f64 {
        let is_factor = self.parameters == 1 || parameter < self.classes;
        at[parameter] - if is_factor { 1.0 } else { 0.0 }
    }

    fn penalty(&self, at: &[f64]) -> f64 {
        let squares = (0..at.len()).map(|k| self.distance(at, k).powi(2));
        self.ridge / 2.0 * squares.sum::<f64>()
    }

    fn scaled(&self, row: &[f64], at: &[f64]) -> Vec<f64> {
        let scaled = row.iter().enumerate().map(|(class, z)| {
            let (factor, bias) = self.of_class(at, class);
            factor * z + bias
        });
        scaled.collect()
    }

    fn value(&self, at: &[f64]) -> f64 {
        let losses = self.logits.iter().zip(self.truth).map(|(row, &class)| {
            let scaled = self.scaled(row, at);
            let most = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scaled.iter().map(|v| (v - most).exp()).sum();
            most + sum.ln() - scaled[class]
        });
        losses.sum::<f64>() / self.logits.len() as f64 + self.penalty(at)
    }

    fn local(&self, at: &[f64]) -> Local {
        let n = self.parameters;
        let (mut gradient, mut hessian) = (vec![0.0; n], vec![0.0; n * n]);
        for (row, &class) in self.logits.iter().zip(self.truth) {
            let p = softmax(self.scaled(row, at));
            if n == 1 {
                let mean: f64 = row.iter().zip(&p).map(|(z, p)| z * p).sum();
                let square: f64 = row.iter().zip(&p).map(|(z, p)| z * z * p).sum();
                gradient[0] += mean - row[class];
                hessian[0] += square - mean * mean;
                continue;
            }
            // Of a scaled logit by its factor and by its bias.
            let by = |k: usize| match k < self.classes {
                true => (k, row[k]),
                false => (k - self.classes, 1.0),
            };
            for k in 0..n {
                let (a, da) = by(k);
                let of_truth = if a == class { 1.0 } else { 0.0 };
                gradient[k] += da * (p[a] - of_truth);
                for l in 0..=k {
                    let (b, db) = by(l);
                    let same = if a == b { p[a] } else { 0.0 };
                    hessian[k * n + l] += da * db * (same - p[a] * p[b]);
                }
            }
        }
        let samples = self.logits.len() as f64;
        for k in 0..n {
            gradient[k] = gradient[k] / samples + self.ridge * self.distance(at, k);
            for l in 0..=k {
                let value = hessian[k * n + l] / samples + if k == l { self.ridge } else { 0.0 };
                hessian[k * n + l] = value;
                hessian[l * n + k] = value;
            }
        }
        Local {
            value: self.value(at),
            gradient,
            hessian,
        }
    }

    /// Newton's method; a step is halved until it gains what its slope promises.
    fn minimise(&self, mut at: Vec<f64>) -> Result<Vec<f64>, Error> {
        let fault = |reason: &str| Error::Value {
            what: "scaling of logits",
            index: 0,
            reason: reason.to_owned(),
        };
        for _ in 0..STEPS {
            let here = self.local(&at);
            let step = solve(here.hessian, &here.gradient)
                .filter(|step| step.iter().all(|v| v.is_finite()))
                .ok_or_else(|| fault("the logits are too large to be scaled"))?;
            let slope: f64 = step.iter().zip(&here.gradient).map(|(s, g)| s * g).sum();
            if slope <= DONE {
                return Ok(at);
            }
            let moved = |length: f64| -> Vec<f64> {
                let pairs = at.iter().zip(&step);
                pairs.map(|(a, s)| a - length * s).collect()
            };
            let mut length = 1.0;
            let mut next = moved(length);
            while slope > NEAR && self.value(&next) > here.value - 1e-4 * length * slope {
                length /= 2.0;
                if length < 1e-12 {
                    return Err(fault("no step makes it better"));
                }
                next = moved(length);
            }
            at = next;
        }
        Err(fault("no best one was found"))
    }

    fn scaling(&self, found: &[f64]) -> Result<LogitScaling, Error> {
        let pairs = (0..self.classes).map(|class| self.of_class(found, class));
        let (scale, bias): (Vec<f64>, Vec<f64>) = pairs.unzip();
        if let Some(index) = scale.iter().position(|factor| *factor <= 0.0) {
            return Err(Error::Value {
                what: "scaling of the logit of class",
                index,
                reason: format!(
                    "the best factor is {}, and must be positive: the logits speak against the \
                     true classes",
                    scale[index]
                ),
            });
        }
        Ok(LogitScaling { scale, bias })
    }
}

/// The solution x of A x = b for a symmetric positive definite A, by Cholesky's method.
fn solve(mut a: Vec<f64>, b: &[f64]) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let rest = a[i * n + j] - dot;
            a[i * n + j] = match i == j {
                true if rest > 0.0 => rest.sqrt(),
                true => return None,
                false => rest / a[j * n + j],
            };
        }
    }
    let mut x = b.to_vec();
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| a[i * n + k] * x[k]).sum();
        x[i] = (x[i] - dot) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| a[k * n + i] * x[k]).sum();
        x[i] = (x[i] - dot) / a[i * n + i];
    }
    Some(x)
}
