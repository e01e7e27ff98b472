//! When a model's answers are to be believed.

use serde::{Deserialize, Serialize};

use crate::Error;

/// When no class is to be named, whatever the model says: what its config asks for. What is
/// absent is never a reason.
///
/// Where there are answers to be believed at all, nobody's face in any frame is a reason too
/// ([`Refusal::NoFace`](mtcae_core::Refusal::NoFace)).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// The least score that a detector gives a face in at least one frame; what it is less
    /// sure of may be none. In (0, 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_face_score: Option<f64>,
    /// The least distance between the eyes, in pixels of the source, of a face that looks
    /// ahead: see [`face_size`](mtcae_core::face_size).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest_eyes: Option<f64>,
    /// How far a face may be turned to the side: see [`turn`](mtcae_core::turn).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub farthest_turn: Option<f64>,
    /// The least probability of the most probable class, calibrated: below it the answer is
    /// [`Refusal::Unsure`](mtcae_core::Refusal::Unsure). In (0, 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_confidence: Option<f64>,
}

impl Answers {
    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub fn validate(&self) -> Result<(), Error> {
        for (field, value) in [
            ("answers.smallest_eyes", self.smallest_eyes),
            ("answers.farthest_turn", self.farthest_turn),
        ] {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
                return Err(Error::Config {
                    field,
                    reason: format!("is {value}; must be above 0, or absent"),
                });
            }
        }
        for (field, value) in [
            ("answers.least_face_score", self.least_face_score),
            ("answers.least_confidence", self.least_confidence),
        ] {
            if let Some(value) = value.filter(|v| !(*v > 0.0 && *v < 1.0)) {
                return Err(Error::Config {
                    field,
                    reason: format!("is {value}; must be between 0 and 1, or absent"),
                });
            }
        }
        Ok(())
    }
}
