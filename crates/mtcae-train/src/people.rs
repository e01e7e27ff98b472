//! The people of labelled clips, and whom of them a model knows.

use std::collections::BTreeSet;

use mtcae_model::{Config, TrainedSubjects};
use serde::Serialize;

use crate::data::Dataset;
use crate::error::list;

/// Whom of the people that a model is measured on it was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acquaintance {
    /// People measured; a clip that names nobody counts as one of its own.
    pub people: usize,
    /// How many of them the model was trained on, or chosen by; `None` where its
    /// checkpoint does not say.
    pub trained_on: Option<usize>,
    /// Clips that name nobody: whether the model knows who is in them cannot be told.
    pub nameless_clips: usize,
    /// Those that the model was trained on, by name.
    #[serde(skip)]
    pub names: Vec<String>,
}

impl Acquaintance {
    /// What it means for the figures of `who`, such as `the model`: a clause.
    pub fn in_words(&self, who: &str) -> String {
        let mut text = format!("of {} measured, {who} ", count(self.people));
        text += &match self.trained_on {
            None => "may have been trained on some: its checkpoint does not say, and people that \
                     it knows flatter it"
                .to_owned(),
            Some(0) => "was trained on none".to_owned(),
            Some(_) => format!(
                "{}: these figures flatter it, and do not tell how it does with people that it \
                 does not know",
                format_args!("WAS TRAINED ON {}", list("of them", &self.names))
            ),
        };
        if self.nameless_clips > 0 {
            text += &format!(
                "; {} clips name nobody, and are recognised by their file names only",
                self.nameless_clips
            );
        }
        text
    }
}

impl Dataset {
    /// Whom of the people of some clips a model was trained on.
    pub fn acquaintance(&self, places: &[usize], model: &Config) -> Acquaintance {
        let people = self.people(places);
        let (names, complete) = match &model.trained_subjects {
            Some(known) => {
                let is_known = |(dataset, subject): &&(&str, &str)| known.has(dataset, subject);
                let names = people.iter().filter(is_known);
                (names.map(|p| p.1.to_owned()).collect(), known.complete)
            }
            // It was not trained at all, or nobody wrote down on whom.
            None => (Vec::new(), model.trained_on.is_none()),
        };
        let nameless = places.iter().filter(|&&i| self.items[i].is_nameless());
        Acquaintance {
            people: people.len(),
            trained_on: (complete || !names.is_empty()).then_some(names.len()),
            nameless_clips: nameless.count(),
            names,
        }
    }

    /// What a checkpoint says it was trained on. It names nobody: checkpoints are passed on.
    pub fn in_words(&self, held_out: Option<u32>, trained: &[usize]) -> String {
        let (name, clips) = (&self.dataset, trained.len());
        let mut text = format!(
            "{name}: {clips} clips of {} people",
            self.people(trained).len()
        );
        if let Some(fold) = held_out {
            let of_fold: Vec<usize> = (0..self.items.len())
                .filter(|&i| self.items[i].fold == fold)
                .collect();
            text += &format!(
                "; held out was fold {fold} of {}{}, {}",
                self.folds,
                match self.dealt {
                    Some(seed) => format!(" dealt by seed {seed}"),
                    None => String::new(),
                },
                count(self.people(&of_fold).len())
            );
        }
        text
    }

    /// The people of some clips: dataset and name.
    pub(crate) fn people(&self, places: &[usize]) -> BTreeSet<(&str, &str)> {
        let items = places.iter().map(|&i| &self.items[i]);
        items.map(|i| (&i.dataset[..], &i.subject[..])).collect()
    }
}

fn count(people: usize) -> String {
    match people {
        1 => "1 person".to_owned(),
        n => format!("{n} people"),
    }
}

/// Whom a model knows that was trained on some people, beginning with a checkpoint.
pub(crate) fn trained_subjects(
    start: &Config,
    salt: [u8; 16],
    people: &BTreeSet<(&str, &str)>,
) -> TrainedSubjects {
    let mut known = match &start.trained_subjects {
        // Its salt is kept: nobody can salt its digests anew.
        Some(known) if !known.digests.is_empty() => known.clone(),
        Some(nobody) => TrainedSubjects {
            complete: nobody.complete,
            ..TrainedSubjects::new(salt)
        },
        None => TrainedSubjects {
            complete: start.trained_on.is_none(),
            ..TrainedSubjects::new(salt)
        },
    };
    for (dataset, subject) in people {
        known.add(dataset, subject);
    }
    known
}
