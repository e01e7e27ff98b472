//! Counts of a catalogue, and how they stand to the published ones.

use std::collections::BTreeMap;
use std::fmt;

use super::{Catalogue, crema_d, mead, ravdess};

/// Counts per class, subject and fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Name of the dataset.
    pub dataset: String,
    /// Number of clips.
    pub clips: usize,
    /// Clips per class, in the order of the classes.
    pub classes: Vec<(String, usize)>,
    /// Clips per subject.
    pub subjects: BTreeMap<String, usize>,
    /// Clips per fold and, in the order of the classes, per class of it;
    /// `None` counts the clips without a fold.
    pub folds: BTreeMap<Option<u32>, (usize, Vec<usize>)>,
    /// Published clips per class in the same order, where there are any: of
    /// MEAD, the paper's unexplained subset.
    pub published: Option<Vec<usize>>,
    /// Files left out on purpose.
    pub left_out: BTreeMap<String, usize>,
    /// Number of problems.
    pub problems: usize,
}

impl Report {
    /// Counts a catalogue.
    pub fn new(c: &Catalogue) -> Self {
        let mut classes: Vec<(String, usize)> = c.classes.iter().map(|n| (n.clone(), 0)).collect();
        let mut subjects: BTreeMap<String, usize> = BTreeMap::new();
        let mut folds: BTreeMap<Option<u32>, (usize, Vec<usize>)> = BTreeMap::new();
        for s in &c.samples {
            let fold = folds
                .entry(s.fold)
                .or_insert_with(|| (0, vec![0; classes.len()]));
            fold.0 += 1;
            if let Some(class) = s.class.as_deref().and_then(|n| c.class_index(n)) {
                classes[class].1 += 1;
                fold.1[class] += 1;
            }
            if let Some(subject) = &s.subject {
                *subjects.entry(subject.clone()).or_default() += 1;
            }
        }
        let published = match &c.dataset[..] {
            "ravdess" if c.classes.len() == 8 => Some(ravdess::PUBLISHED.to_vec()),
            "ravdess" => {
                let [neutral, calm, rest @ ..] = ravdess::PUBLISHED;
                Some([&[neutral + calm][..], &rest].concat())
            }
            "crema-d" => Some(crema_d::PUBLISHED.to_vec()),
            "mead" => Some(mead::PAPER.to_vec()),
            _ => None,
        };
        Self {
            dataset: c.dataset.clone(),
            clips: c.samples.len(),
            classes,
            subjects,
            folds,
            published,
            left_out: c.left_out.clone(),
            problems: c.problems.len(),
        }
    }

    /// Whether the counts per class are the published ones; `None` where none are
    /// published that could be met (MEAD's are a subset nobody explained).
    pub fn equals_published(&self) -> Option<bool> {
        let published = self.published.as_ref().filter(|_| self.dataset != "mead")?;
        Some(
            self.classes
                .iter()
                .map(|c| c.1)
                .eq(published.iter().copied()),
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} clips, {} subjects, {} problems",
            self.dataset,
            self.clips,
            self.subjects.len(),
            self.problems
        )?;
        let title = match &self.dataset[..] {
            "mead" => "paper",
            _ => "published",
        };
        if self.published.is_some() {
            writeln!(f, "{:16} {:>7} {title:>9}", "class", "clips")?;
        } else {
            writeln!(f, "{:16} {:>7}", "class", "clips")?;
        }
        for (i, (name, count)) in self.classes.iter().enumerate() {
            match &self.published {
                Some(p) => writeln!(f, "{name:16} {count:>7} {:>9}", p[i])?,
                None => writeln!(f, "{name:16} {count:>7}")?,
            }
        }
        if let Some(p) = &self.published {
            writeln!(
                f,
                "{:16} {:>7} {:>9}",
                "all",
                self.clips,
                p.iter().sum::<usize>()
            )?;
        }
        match self.equals_published() {
            Some(true) => writeln!(f, "equal to the published counts")?,
            Some(false) => writeln!(f, "NOT equal to the published counts")?,
            None => {}
        }
        for (fold, (count, classes)) in &self.folds {
            let fold = fold.map_or("no fold".to_owned(), |n| format!("fold {n}"));
            writeln!(f, "{fold:16} {count:>7}   by class {classes:?}")?;
        }
        for (subject, count) in &self.subjects {
            writeln!(f, "subject {subject:8} {count:>7}")?;
        }
        for (why, count) in &self.left_out {
            writeln!(f, "left out: {count} ({why})")?;
        }
        Ok(())
    }
}
