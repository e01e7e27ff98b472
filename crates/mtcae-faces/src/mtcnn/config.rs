//! What can be set about the detector.

use crate::Error;

/// Which of a frame's faces are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All, the largest box first.
    #[default]
    All,
    /// The one with the largest box.
    Largest,
    /// The one whose box's centre is nearest to the frame's.
    MostCentral,
    /// The one that is most surely a face.
    MostProbable,
}

/// Settings of a [`Detector`](super::Detector); the defaults are
/// facenet-pytorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectorConfig {
    /// Side of the smallest face looked for, in pixels. Time grows as its
    /// inverse square.
    pub min_face: f64,
    /// From one level of the image pyramid to the next, in (0, 1).
    pub factor: f64,
    /// Probabilities that a candidate of the three networks needs.
    pub thresholds: [f32; 3],
    /// Which faces are kept.
    pub keep: Keep,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            min_face: 20.0,
            factor: 0.709,
            thresholds: [0.6, 0.7, 0.7],
            keep: Keep::All,
        }
    }
}

impl DetectorConfig {
    /// # Errors
    /// [`Error::Config`] names the field that cannot be used.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let fault = |field, reason: String| Err(Error::Config { field, reason });
        if !(self.min_face >= 1.0 && self.min_face.is_finite()) {
            return fault(
                "min_face",
                format!("{} px is not at least 1", self.min_face),
            );
        }
        if !(self.factor >= 0.01 && self.factor <= 0.99) {
            return fault("factor", format!("{} is not in 0.01..=0.99", self.factor));
        }
        if self.thresholds.iter().any(|t| !(0.0..=1.0).contains(t)) {
            return fault(
                "thresholds",
                format!("{:?} are not in 0..=1", self.thresholds),
            );
        }
        Ok(())
    }
}
