//! Answers held against labels.

use std::path::Path;

use mtcae_objective::{ConfusionMatrix, Summary};
use serde::Serialize;

use crate::clip::Entry;
use crate::{Error, Labels};

/// How right the answers are.
#[derive(Serialize)]
pub(crate) struct Evaluation {
    /// The labels' file by name.
    labels: String,
    /// Clips with a label and an answer: all measures; `None` where there are none.
    summary: Option<Summary>,
    /// Clips with a label and no answer.
    unanswered: usize,
    /// Wrong answers, the most confident first: (file, person) by place.
    worst: Vec<(usize, usize)>,
    /// What was matched and what not, in words.
    notes: Vec<String>,
}

/// As many wrong answers are listed.
const WORST: usize = 200;

/// As many names are listed.
const NAMED: usize = 10;

/// Finds the label of each file, notes it there, and measures the answers.
pub(crate) fn evaluate(
    labels: &Labels,
    entries: &mut [Entry],
    classes: &[String],
) -> Result<Evaluation, Error> {
    let mut used = vec![false; labels.truths.len()];
    let (mut unmatched, mut strange) = (Vec::new(), Vec::new());
    let (mut matched, mut several, mut unanswered) = (0, 0, 0);
    let mut wrong = Vec::new();
    let mut matrix = ConfusionMatrix::new(classes.to_vec())?;
    for (i, entry) in entries.iter_mut().enumerate() {
        let sha = entry.sha256.as_deref();
        let place = labels.place(Path::new(&entry.file), entry.found.as_deref(), sha);
        let Some(place) = place else {
            unmatched.push(entry.file.clone());
            continue;
        };
        let truth = &labels.truths[place];
        used[place] = true;
        matched += 1;
        several += usize::from(entry.people.len() > 1);
        let Some(class) = classes.iter().position(|c| *c == truth.class) else {
            strange.push(format!("{} of {}", truth.class, truth.file));
            continue;
        };
        // A label is of the subject: whoever is seen in most frames.
        let seen = |k: &usize| entry.people[*k].seen.map_or(0, |s| s[0]);
        let Some(person) = (0..entry.people.len()).rev().max_by_key(seen) else {
            continue;
        };
        let subject = &mut entry.people[person];
        subject.take(truth, class);
        match subject.class {
            None => unanswered += 1,
            Some(said) => {
                matrix.add(class, said)?;
                if said != class {
                    wrong.push((subject.confidence, i, person));
                }
            }
        }
    }
    wrong.sort_by(|a, b| b.0.total_cmp(&a.0));
    let unused = used.iter().zip(&labels.truths).filter(|(used, _)| !**used);
    let unused: Vec<String> = unused.map(|(_, truth)| truth.file.clone()).collect();
    let mut notes = vec![format!(
        "{matched} of {} files have a label; {} of {} labels are used",
        entries.len(),
        labels.truths.len() - unused.len(),
        labels.truths.len()
    )];
    for (what, names) in [
        ("files without a label", unmatched),
        ("labels without a file here", unused),
        ("labels of classes that no model here has", strange),
    ] {
        if !names.is_empty() {
            notes.push(format!("{what}: {}", list(&names)));
        }
    }
    if several > 0 {
        notes.push(format!(
            "{several} files show several people: the label is held against whoever is seen in \
             most frames"
        ));
    }
    notes.extend(labels.notes.iter().cloned());
    let name = labels.path.file_name().unwrap_or_default();
    Ok(Evaluation {
        labels: name.to_string_lossy().into_owned(),
        summary: match matrix.total() {
            0 => None,
            _ => Some(Summary::new(&matrix)?),
        },
        unanswered,
        worst: wrong.iter().take(WORST).map(|w| (w.1, w.2)).collect(),
        notes,
    })
}

fn list(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
