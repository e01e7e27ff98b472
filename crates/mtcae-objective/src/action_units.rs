//! How well strengths of an action unit agree with what is true.

use crate::Error;
use crate::error::finite;

/// Agreement of said strengths of one action unit with the true ones, over frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Mean absolute difference.
    pub mae: f64,
    /// Pearson's correlation; `None` where either never changes.
    pub pearson: Option<f64>,
    /// Intraclass correlation ICC(3,1) (Shrout and Fleiss, 1979): unlike Pearson's it asks
    /// for the same scale. `None` where neither changes.
    pub icc: Option<f64>,
}

impl Agreement {
    /// Of strengths said and true, frame by frame.
    ///
    /// # Errors
    /// [`Error::Length`] when there are more of one, [`Error::Empty`] when there are none,
    /// [`Error::Value`] when one is not finite.
    pub fn new(said: &[f64], truth: &[f64]) -> Result<Self, Error> {
        if said.len() != truth.len() {
            return Err(Error::Length {
                what: "said strengths",
                expected: truth.len(),
                found: said.len(),
            });
        }
        if truth.is_empty() {
            return Err(Error::Empty { what: "strengths" });
        }
        for (i, (x, y)) in said.iter().zip(truth).enumerate() {
            finite("said strength", i, [x])?;
            finite("true strength", i, [y])?;
        }
        let n = truth.len() as f64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
        let (a, b) = (mean(said), mean(truth));
        let (mut aa, mut bb, mut ab, mut apart) = (0.0, 0.0, 0.0, 0.0);
        for (x, y) in said.iter().zip(truth) {
            aa += (x - a) * (x - a);
            bb += (y - b) * (y - b);
            ab += (x - a) * (y - b);
            apart += (x - y).abs();
        }
        // Of two raters of n frames: the mean square between frames is that of the sums'
        // halves, twice; the error's that of the differences, half. Both over n − 1.
        let (between, error) = (aa + bb + 2.0 * ab, aa + bb - 2.0 * ab);
        Ok(Self {
            mae: apart / n,
            pearson: (aa > 0.0 && bb > 0.0).then(|| ab / (aa * bb).sqrt()),
            icc: (between + error > 0.0).then(|| (between - error) / (between + error)),
        })
    }
}
