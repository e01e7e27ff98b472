//! Why a model gives no answer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why no class is named, where a model's config asks for that to be said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum Refusal {
    /// Nobody's face is seen, or in too few frames to be followed.
    NoFace {
        /// Frames that were looked at.
        of: u32,
    },
    /// What is seen may be no face: the detector is not sure enough of it in any frame.
    DoubtfulFace {
        /// The detector's greatest score, in [0, 1].
        score: f64,
        /// As much would be needed.
        least: f64,
    },
    /// The face is too small to be judged.
    TooSmall {
        /// Pixels of the source between the eyes, as far as they would be apart if it looked
        /// ahead ([`face_size`](crate::face_size)), in the middle one of the frames.
        eyes: f64,
        /// As many would be needed.
        smallest: f64,
    },
    /// The face is turned away from the camera.
    TurnedAway {
        /// How far, in the middle one of the frames: see [`turn`](crate::turn).
        turn: f64,
        /// As far is still judged.
        farthest: f64,
    },
    /// The most probable class is not probable enough.
    Unsure {
        /// Its probability.
        confidence: f64,
        /// As much would be needed.
        least: f64,
    },
}

impl Refusal {
    /// Its name, as results have it: `no-face`, `doubtful-face`, `too-small`, `turned-away` or
    /// `unsure`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoFace { .. } => "no-face",
            Self::DoubtfulFace { .. } => "doubtful-face",
            Self::TooSmall { .. } => "too-small",
            Self::TurnedAway { .. } => "turned-away",
            Self::Unsure { .. } => "unsure",
        }
    }
}

impl fmt::Display for Refusal {
    /// A few words, as a summary has them in place of a class, and why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFace { of: 1 } => f.write_str("no face (none is seen in the picture)"),
            Self::NoFace { of } => {
                write!(
                    f,
                    "no face (none is seen in {of} frames, or in too few of them)"
                )
            }
            Self::DoubtfulFace { score, least } => write!(
                f,
                "doubtful face (the detector gives what it sees at most {score:.2}; {least} is \
                 needed)"
            ),
            Self::TooSmall { eyes, smallest } => write!(
                f,
                "too small (the eyes are {eyes:.1} pixels apart; {smallest} are needed)"
            ),
            Self::TurnedAway { turn, farthest } => {
                write!(f, "turned away (by {turn:.2}; up to {farthest} is judged)")
            }
            Self::Unsure { confidence, least } => write!(
                f,
                "unsure (the most probable class has {:.1}%; {:.1}% are needed)",
                100.0 * confidence,
                100.0 * least
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_in_json() {
        for refusal in [
            Refusal::NoFace { of: 3 },
            Refusal::DoubtfulFace {
                score: 0.7,
                least: 0.95,
            },
            Refusal::TooSmall {
                eyes: 4.0,
                smallest: 9.0,
            },
            Refusal::TurnedAway {
                turn: 0.9,
                farthest: 0.5,
            },
            Refusal::Unsure {
                confidence: 0.2,
                least: 0.5,
            },
        ] {
            let json = serde_json::to_value(&refusal).unwrap();
            assert_eq!(json["kind"], refusal.name());
            let words = refusal.name().replace('-', " ");
            assert!(refusal.to_string().starts_with(&words));
            assert_eq!(serde_json::from_value::<Refusal>(json).unwrap(), refusal);
        }
    }
}
