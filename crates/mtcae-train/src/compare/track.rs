//! Under which protocol systems are compared: classes and folds of a dataset.

use std::fmt;
use std::str::FromStr;

use mtcae_core::ParseError;
use mtcae_labels::dataset::ravdess;
use mtcae_labels::labels::LabelledClip;
use serde::{Deserialize, Serialize};

use crate::{Dataset, Error, Selection};

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Track {
    /// The paper's: whole frames squashed, 16 of them evenly over the clip, five folds, 7
    /// classes of RAVDESS, 6 of CREMA-D, 8 of MEAD.
    Paper,
    /// Each system's own: its crop, size and sampling, and of RAVDESS 8 classes and the six
    /// folds of MAE-DFER and SVFAP.
    Native,
}

impl fmt::Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paper => "paper",
            Self::Native => "native",
        })
    }
}

impl FromStr for Track {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        match name {
            "paper" => Ok(Self::Paper),
            "native" => Ok(Self::Native),
            _ => Err(ParseError::new("track", name, "paper or native")),
        }
    }
}

mtcae_core::by_name!(Track);

/// Actors of a fold of MAE-DFER's and SVFAP's six: 1 to 4, 5 to 8, and so on.
const ACTORS: u32 = 4;
/// Folds of theirs.
const SIX: u32 = 6;

/// RAVDESS's class of a clip by its file's name, calm being no longer neutral.
fn with_calm(clip: &LabelledClip) -> Option<String> {
    match &*clip.dataset {
        "ravdess" => ravdess::expression_of(&clip.file).map(str::to_owned),
        _ => None,
    }
}

impl Track {
    /// Which classes of a label file are read, where the protocol has others than it.
    pub fn selection<'a>(self, selection: Selection<'a>) -> Selection<'a> {
        match self {
            Self::Paper => selection,
            Self::Native => Selection {
                class: Some(with_calm),
                ..selection
            },
        }
    }

    /// Deals people to the protocol's folds, and checks that its classes are there. Of
    /// datasets that no paper has, everything is as the labels have it.
    ///
    /// # Errors
    /// Names what the dataset has not.
    pub fn apply(self, data: &mut Dataset) -> Result<(), Error> {
        let fault = |reason: String| {
            Err(Error::Config {
                field: "track",
                reason,
            })
        };
        let classes = match (self, &*data.dataset) {
            (Self::Paper, "ravdess") => 7,
            (Self::Native, "ravdess") => 8,
            (_, "crema-d") => 6,
            (Self::Paper, "mead") => 8,
            (Self::Native, "mead") => {
                return fault(
                    "native: nobody has published a protocol of MEAD without sound; --track \
                     paper has our five folds"
                        .to_owned(),
                );
            }
            _ => data.classes.len(),
        };
        if data.classes.len() != classes {
            return fault(format!(
                "{self} has {classes} classes of {}, and the labels have {}: {}",
                data.dataset,
                data.classes.len(),
                data.classes.join(", ")
            ));
        }
        if (self, &*data.dataset) == (Self::Native, "ravdess") {
            for item in &mut data.items {
                let actor: Option<u32> = item.subject.parse().ok();
                let Some(actor) = actor.filter(|n| (1..=24).contains(n)) else {
                    return fault(format!(
                        "native deals RAVDESS's 24 actors to folds, and {} shows {:?}",
                        item.file, item.subject
                    ));
                };
                item.fold = (actor - 1) / ACTORS;
            }
            (data.folds, data.dealt) = (SIX, None);
        }
        match data.folds {
            0 | 1 => fault(format!(
                "{self} is a cross-validation, and the labels of {} have no folds; --folds K deals \
                 people to K",
                data.dataset
            )),
            _ => Ok(()),
        }
    }

    /// What is compared under it, in words.
    pub fn in_words(self, data: &Dataset) -> String {
        let folds = match (self, &*data.dataset, data.dealt) {
            (Self::Paper, "ravdess", None) => "five published folds, calm being neutral".to_owned(),
            (Self::Native, "ravdess", _) => "the six folds of MAE-DFER and SVFAP".to_owned(),
            (_, _, Some(seed)) => format!("{} folds dealt by seed {seed}", data.folds),
            (_, _, None) => format!("{} folds of the labels", data.folds),
        };
        let shown = match self {
            Self::Paper => "whole frames squashed to a square, 16 evenly over the clip",
            Self::Native => "each system's own crop, size and sampling",
        };
        format!("{shown}; {} classes, {folds}", data.classes.len())
    }
}
