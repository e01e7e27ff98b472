//! Which expression models name, and how far they can be believed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use mtcae_dfer::video::ClipOptions;
use mtcae_dfer::{Answer, Error, FaceFinder, PeopleOptions, Pipeline, Prediction};
use mtcae_train::Belief;
use mtcae_train::objective::{Bootstrap, ConfusionMatrix, Error as Unmeasured, Interval};
use serde::Serialize;

use super::classes::{common, gathered, ordered};
use super::list::Entry;
use crate::Fault;

/// What the confusion matrix calls an answer without probabilities.
pub const NOBODY: &str = "no face";

/// What a model says of a file.
#[derive(Clone, Debug)]
pub struct Said {
    /// Number of the entry in the list.
    pub entry: usize,
    /// By the model's names; empty where it sees no face.
    pub probabilities: Vec<(String, f64)>,
    /// Why no class is named.
    pub refusal: Option<&'static str>,
    /// Probabilities without the checkpoint's calibration.
    pub uncalibrated: Vec<(String, f64)>,
}

/// What a pipeline says of an entry, by the crop that its checkpoint asks for.
///
/// # Errors
/// Names the file that cannot be read.
pub fn answer(
    entry: &Entry,
    path: &Path,
    pipeline: &Pipeline,
    finder: &FaceFinder,
) -> Result<Option<Prediction>, Fault> {
    let options = ClipOptions {
        start: entry.start,
        end: entry.end,
        ..pipeline.clip_options().clone()
    };
    let pipeline = pipeline.clone().with_clip_options(options);
    if pipeline.crop().is_none() {
        return Ok(Some(finder.predict(&pipeline, path)?));
    }
    let options = PeopleOptions::default();
    let found = finder.predict_people(&pipeline, path, &options, |_| ControlFlow::Continue(()));
    match found {
        Ok(people) => Ok(match people.answer {
            Answer::Clip(mut people) if !people.is_empty() => Some(people.remove(0)),
            _ => None,
        }),
        Err(error) if is_of_nobody(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_of_nobody(error: &Error) -> bool {
    match error {
        Error::In { source, .. } => is_of_nobody(source),
        Error::NoFace | Error::SeenTooSeldom { .. } => true,
        _ => false,
    }
}

impl Said {
    /// What an answer says; without one, nobody was seen.
    pub fn of(
        entry: usize,
        answer: Option<&Prediction>,
        uncalibrated: Option<&Prediction>,
    ) -> Self {
        let rows = |prediction: Option<&Prediction>| {
            let classes = prediction.into_iter().flat_map(|p| &p.probabilities);
            let rows = classes.map(|c| (c.class.clone(), f64::from(c.probability)));
            rows.collect()
        };
        let refusal = match answer {
            Some(p) if !p.is_faceless() => p.refusal.as_ref().map(|r| r.name()),
            _ => Some("no-face"),
        };
        Self {
            entry,
            probabilities: rows(answer),
            refusal,
            uncalibrated: rows(uncalibrated.or(answer)),
        }
    }

    /// The most probable classes by their common names, the most probable first.
    pub fn ranked(&self) -> Vec<(String, f64)> {
        let names = ordered(self.probabilities.iter().map(|p| common(&p.0)));
        let sums = gathered(&self.probabilities, &names);
        let mut ranked: Vec<(String, f64)> = names.into_iter().zip(sums).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
    }
}

/// A share, and between which values it is believed to be.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    pub value: f64,
    pub interval: Option<Interval>,
}

/// One expression of the list.
#[derive(Debug, Serialize)]
pub struct OfClass {
    pub name: String,
    pub files: usize,
    pub people: usize,
    pub recall: Rate,
}

/// A group of people.
#[derive(Debug, Serialize)]
pub struct OfGroup {
    pub name: String,
    pub files: usize,
    pub people: usize,
    pub uar: Rate,
    pub war: Rate,
}

/// Log loss, Brier score and calibration error of probabilities.
#[derive(Debug, Serialize)]
pub struct Scores {
    pub of: &'static str,
    pub log_loss: f64,
    pub brier: f64,
    pub ece: f64,
}

/// How a model does with the expressions of a list.
#[derive(Debug, Serialize)]
pub struct Expressions {
    pub files: usize,
    pub people: usize,
    /// Files whose label is none of the model's classes: left out.
    pub unknown_to_model: usize,
    /// Classes of the model that no file has: to name one is wrong.
    pub not_in_list: Vec<String>,
    pub uar: Rate,
    pub war: Rate,
    pub top2: Rate,
    /// 1 over the number of the list's classes.
    pub uar_chance: f64,
    /// Where the model may name the list's classes only.
    pub uar_among_listed: f64,
    pub classes: Vec<OfClass>,
    pub matrix: ConfusionMatrix,
    /// Of the files with probabilities: the model's, its uncalibrated ones where it is
    /// calibrated, and the classes' frequencies in the list.
    pub with_probabilities: usize,
    pub scores: Vec<Scores>,
    pub answered: usize,
    pub right_of_answered: Option<Rate>,
    /// Files by why no class was named.
    pub refused: BTreeMap<&'static str, usize>,
    pub tones: Vec<OfGroup>,
}

/// Measured files: person, true class, and the class that is named.
struct Rows<'a> {
    people: Vec<&'a str>,
    truth: Vec<usize>,
    named: Vec<usize>,
    names: &'a [String],
}

impl Rows<'_> {
    fn matrix(&self, of: &[usize]) -> Result<ConfusionMatrix, Unmeasured> {
        let pick = |from: &[usize]| of.iter().map(|&i| from[i]).collect::<Vec<_>>();
        ConfusionMatrix::from_labels(self.names.to_vec(), &pick(&self.truth), &pick(&self.named))
    }

    /// A statistic of some of the files.
    fn rate(
        &self,
        of: &[usize],
        bootstrap: Option<&Bootstrap>,
        statistic: impl Fn(&[usize]) -> Result<f64, Unmeasured>,
    ) -> Result<Rate, Unmeasured> {
        let people: Vec<&str> = of.iter().map(|&i| self.people[i]).collect();
        rate(&people, bootstrap, |drawn| {
            let drawn: Vec<usize> = drawn.iter().map(|&i| of[i]).collect();
            statistic(&drawn)
        })
    }

    fn uar(&self, of: &[usize], bootstrap: Option<&Bootstrap>) -> Result<Rate, Unmeasured> {
        self.rate(of, bootstrap, |drawn| self.matrix(drawn)?.uar())
    }

    fn war(&self, of: &[usize], bootstrap: Option<&Bootstrap>) -> Result<Rate, Unmeasured> {
        self.rate(of, bootstrap, |drawn| self.matrix(drawn)?.war())
    }

    fn count(&self, of: &[usize]) -> usize {
        of.iter()
            .map(|&i| self.people[i])
            .collect::<BTreeSet<_>>()
            .len()
    }
}

/// A statistic of files, with an interval that draws whole people where there are enough of
/// them, and they are not all alike.
pub fn rate(
    people: &[&str],
    bootstrap: Option<&Bootstrap>,
    mut statistic: impl FnMut(&[usize]) -> Result<f64, Unmeasured>,
) -> Result<Rate, Unmeasured> {
    let all: Vec<usize> = (0..people.len()).collect();
    let value = statistic(&all)?;
    let interval = match bootstrap.map(|b| b.by_subject(people, statistic)) {
        Some(Ok(interval)) if interval.low < interval.high => Some(interval),
        Some(Err(Unmeasured::TooFew { .. })) | Some(Ok(_)) | None => None,
        Some(Err(error)) => return Err(error),
    };
    Ok(Rate { value, interval })
}

/// The share of some files for which something holds.
fn share(of: &[usize], holds: impl Fn(usize) -> bool) -> Result<f64, Unmeasured> {
    let n = of.iter().filter(|&&i| holds(i)).count();
    match of.len() {
        0 => Err(Unmeasured::Empty { what: "files" }),
        all => Ok(n as f64 / all as f64),
    }
}

/// Measures what a model said of the labelled entries; `None` where it said nothing of any
/// whose label it knows. `classes` are the model's.
///
/// # Errors
/// When a probability is no number.
pub fn measure(
    said: &[Said],
    entries: &[Entry],
    classes: &[String],
    bootstrap: Option<&Bootstrap>,
) -> Result<Option<Expressions>, Fault> {
    let of_model: BTreeSet<String> = classes.iter().map(|c| common(c)).collect();
    let label = |said: &Said| entries[said.entry].label.as_deref().map(common);
    let labelled: Vec<(&Said, String)> = said.iter().filter_map(|s| Some((s, label(s)?))).collect();
    let (known, unknown): (Vec<_>, Vec<_>) = labelled
        .into_iter()
        .partition(|(_, label)| of_model.contains(label));
    if known.is_empty() {
        return Ok(None);
    }
    let listed: BTreeSet<String> = known.iter().map(|k| k.1.clone()).collect();
    let mut names = ordered(of_model.iter().chain(&listed).cloned());
    let spoken = names.len();
    names.push(NOBODY.to_owned());
    let place = |name: &str| names.iter().position(|n| n == name).unwrap_or(spoken);

    let probabilities: Vec<Option<Vec<f64>>> = known
        .iter()
        .map(|(s, _)| (!s.probabilities.is_empty()).then(|| gathered(&s.probabilities, &names)))
        .collect();
    let best = |row: &Option<Vec<f64>>, among: &dyn Fn(usize) -> bool| {
        let row = row.iter().flatten().enumerate().filter(|(i, _)| among(*i));
        let best = row.reduce(|a, b| if b.1 > a.1 { b } else { a });
        best.map_or(spoken, |(i, _)| i)
    };
    let is_spoken = |i: usize| i < spoken;
    let rows = Rows {
        people: known
            .iter()
            .map(|(s, _)| entries[s.entry].person.as_str())
            .collect(),
        truth: known.iter().map(|(_, label)| place(label)).collect(),
        named: probabilities
            .iter()
            .map(|row| best(row, &is_spoken))
            .collect(),
        names: &names,
    };
    let all: Vec<usize> = (0..known.len()).collect();
    let is_listed = |i: usize| is_spoken(i) && listed.contains(&names[i]);
    let among: Vec<usize> = probabilities
        .iter()
        .map(|row| best(row, &is_listed))
        .collect();
    let among = ConfusionMatrix::from_labels(names.clone(), &rows.truth, &among)?;
    let second = |i: usize| {
        let first = rows.named[i];
        best(&probabilities[i], &|c| is_spoken(c) && c != first)
    };
    let in_two: Vec<bool> = all
        .iter()
        .map(|&i| [rows.named[i], second(i)].contains(&rows.truth[i]))
        .collect();

    let mut per_class = Vec::new();
    for name in names.iter().filter(|name| listed.contains(*name)) {
        let class = place(name);
        let of: Vec<usize> = all
            .iter()
            .copied()
            .filter(|&i| rows.truth[i] == class)
            .collect();
        let right = |drawn: &[usize]| share(drawn, |i| rows.named[i] == class);
        per_class.push(OfClass {
            name: name.clone(),
            files: of.len(),
            people: rows.count(&of),
            recall: rows.rate(&of, bootstrap, right)?,
        });
    }
    let mut tones = Vec::new();
    let tone = |i: usize| entries[known[i].0.entry].tone.as_deref();
    for name in all.iter().filter_map(|&i| tone(i)).collect::<BTreeSet<_>>() {
        let of: Vec<usize> = all
            .iter()
            .copied()
            .filter(|&i| tone(i) == Some(name))
            .collect();
        tones.push(OfGroup {
            name: name.to_owned(),
            files: of.len(),
            people: rows.count(&of),
            uar: rows.uar(&of, bootstrap)?,
            war: rows.war(&of, bootstrap)?,
        });
    }
    let answered: Vec<usize> = all
        .iter()
        .copied()
        .filter(|&i| known[i].0.refusal.is_none())
        .collect();
    let right = |drawn: &[usize]| share(drawn, |i| rows.named[i] == rows.truth[i]);
    let mut refused = BTreeMap::new();
    for why in known.iter().filter_map(|(s, _)| s.refusal) {
        *refused.entry(why).or_default() += 1;
    }
    Ok(Some(Expressions {
        files: known.len(),
        people: rows.count(&all),
        unknown_to_model: unknown.len(),
        not_in_list: names[..spoken]
            .iter()
            .filter(|n| !listed.contains(*n))
            .cloned()
            .collect(),
        uar: rows.uar(&all, bootstrap)?,
        war: rows.war(&all, bootstrap)?,
        top2: rows.rate(&all, bootstrap, |drawn| share(drawn, |i| in_two[i]))?,
        uar_chance: 1.0 / listed.len() as f64,
        uar_among_listed: among.uar()?,
        classes: per_class,
        matrix: rows.matrix(&all)?,
        with_probabilities: probabilities.iter().flatten().count(),
        scores: scores(&known, &rows, &probabilities)?,
        answered: answered.len(),
        right_of_answered: match answered.is_empty() {
            true => None,
            false => Some(rows.rate(&answered, bootstrap, right)?),
        },
        refused,
        tones,
    }))
}

/// Log loss and the like of files with probabilities.
fn scores(
    known: &[(&Said, String)],
    rows: &Rows<'_>,
    probabilities: &[Option<Vec<f64>>],
) -> Result<Vec<Scores>, Fault> {
    let with: Vec<usize> = (0..known.len())
        .filter(|&i| probabilities[i].is_some())
        .collect();
    if with.is_empty() {
        return Ok(Vec::new());
    }
    let truth: Vec<usize> = with.iter().map(|&i| rows.truth[i]).collect();
    let mut frequencies = vec![0.0; rows.names.len()];
    for class in &truth {
        frequencies[*class] += 1.0 / truth.len() as f64;
    }
    let own: Vec<Vec<f64>> = with
        .iter()
        .filter_map(|&i| probabilities[i].clone())
        .collect();
    let uncalibrated: Vec<Vec<f64>> = with
        .iter()
        .map(|&i| gathered(&known[i].0.uncalibrated, rows.names))
        .collect();
    let constant = vec![frequencies; with.len()];
    let mut scores = Vec::new();
    for (of, given) in [
        ("the model", &own),
        ("uncalibrated", &uncalibrated),
        ("the classes' frequencies", &constant),
    ] {
        if of == "uncalibrated" && *given == own {
            continue;
        }
        let belief = Belief::of(given, &truth)?;
        scores.push(Scores {
            of,
            log_loss: belief.log_loss,
            brier: belief.brier,
            ece: belief.ece,
        });
    }
    Ok(scores)
}
