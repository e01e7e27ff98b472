//! What the page knows of a file before its numbers are unpacked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mtcae_core::argmax;
use mtcae_dfer::{Prediction, Seen, Timeline, Warning};
use mtcae_labels::dataset::Sex;
use serde::Serialize;

use crate::Truth;
use crate::pack::{Pack, Shape};

/// A file of results.
#[derive(Serialize)]
pub(crate) struct Entry {
    /// The video as it was named.
    pub file: String,
    /// The way to it from the page, percent-encoded; `None` where there is none.
    pub link: Option<String>,
    /// What a label file calls it.
    pub label: String,
    /// SHA-256 of its content, where the results have it.
    pub sha256: Option<String>,
    /// Width and height of the upright picture in pixels.
    pub size: [u32; 2],
    /// Width over height of a pixel as shown.
    pub aspect: f64,
    /// Whether it is a still picture.
    pub still: bool,
    /// Place of its model in the page's list.
    pub model: Option<usize>,
    /// Places of its classes in the page's list, in the model's order.
    pub classes: Vec<usize>,
    /// Names of its action units.
    pub units: Vec<String>,
    /// Length and stride of its windows in seconds.
    pub windows: Option<[f64; 2]>,
    /// The picture that MTCNN looked at, as a label file says it.
    pub detect_at: Option<String>,
    /// The smallest face that it looked for, where the results say it.
    pub min_face: f64,
    /// What is said of each person.
    pub people: Vec<Person>,
    /// Where the video was found.
    #[serde(skip)]
    pub found: Option<PathBuf>,
    /// The columns of numbers.
    #[serde(skip)]
    pub pack: Vec<u8>,
}

/// What is said of one person in a file.
#[derive(Serialize)]
pub(crate) struct Person {
    /// Their number, where several are told apart.
    pub person: Option<u32>,
    /// Seconds from the first to the last moment.
    pub start: f64,
    /// As `start`.
    pub end: f64,
    /// The most probable class, a place in the page's list; of windows, by their mean.
    /// `None` where no answer is given.
    pub class: Option<usize>,
    /// Its probability; where there is no answer, the greatest one.
    pub confidence: f32,
    /// In how many frames of how many the face is seen.
    pub seen: Option<[u32; 2]>,
    /// What speaks against the answer.
    pub remarks: Vec<Remark>,
    /// How many remarks there are.
    pub remarked: usize,
    /// What labels say of them.
    pub truth: Option<Known>,
    /// Where the person's columns are.
    pub shape: Shape,
}

/// A reason to be careful.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Remark {
    /// `refusal`, `warning` or `note`.
    pub kind: &'static str,
    /// In words.
    pub text: String,
}

/// What labels say of a person.
#[derive(Serialize)]
pub(crate) struct Known {
    /// The class, a place in the page's list.
    class: usize,
    subject: Option<String>,
    sex: Option<Sex>,
    level: Option<String>,
}

/// As many remarks of a person are told before the numbers are unpacked.
const REMARKS: usize = 12;

impl Person {
    /// Notes what is known of them.
    pub fn take(&mut self, truth: &Truth, class: usize) {
        self.truth = Some(Known {
            class,
            subject: truth.subject.clone(),
            sex: truth.sex,
            level: truth.level.clone(),
        });
    }

    /// Of one clip.
    pub fn of_clip(prediction: &Prediction, classes: &Classes<'_>, pack: &mut Pack) -> Self {
        Self::of(&[prediction], None, classes, pack)
    }

    /// Of nobody, in a file of which nothing is said: it has its row, too.
    pub fn nobody(classes: &Classes<'_>, pack: &mut Pack) -> Self {
        let mut nobody = Self::of(&[], None, classes, pack);
        nobody.remarks.push(Remark {
            kind: "refusal",
            text: "no answer: nobody is looked at".to_owned(),
        });
        nobody.remarked = 1;
        nobody
    }

    /// Of windows.
    pub fn of_windows(timeline: &Timeline, classes: &Classes<'_>, pack: &mut Pack) -> Self {
        let windows: Vec<&Prediction> = timeline.windows.iter().collect();
        Self::of(&windows, Some(timeline), classes, pack)
    }

    fn of(
        windows: &[&Prediction],
        timeline: Option<&Timeline>,
        classes: &Classes<'_>,
        pack: &mut Pack,
    ) -> Self {
        let answered: Vec<_> = windows.iter().filter(|w| w.refusal.is_none()).collect();
        // Of one clip without an answer, what the model would have said.
        let counted = match (&answered[..], windows) {
            ([], all) => all.iter().collect(),
            _ => answered.clone(),
        };
        let mean: Vec<f32> = (0..classes.local.len())
            .map(|class| {
                let of = counted.iter().filter_map(|w| classes.probability(w, class));
                of.sum::<f32>() / counted.len() as f32
            })
            .collect();
        let best = argmax(mean.iter().copied()).filter(|&best| mean[best] > 0.0);
        let is_answer = |_: &usize| !answered.is_empty();
        let seen = windows.iter().filter_map(|w| w.seen.as_ref());
        let seen = seen
            .map(|Seen { frames, of, .. }| [*frames, *of])
            .reduce(|a, b| [a[0].saturating_add(b[0]), a[1].saturating_add(b[1])]);
        let all = remarks(windows);
        Self {
            person: windows.first().and_then(|w| w.person),
            start: windows.first().map_or(0.0, |w| w.start),
            end: windows.last().map_or(0.0, |w| w.end),
            class: best.filter(is_answer).map(|best| classes.global[best]),
            confidence: best.map_or(0.0, |best| mean[best]),
            seen,
            remarked: all.len(),
            remarks: all.into_iter().take(REMARKS).collect(),
            truth: None,
            shape: pack.add(windows, timeline, classes),
        }
    }
}

/// The remarks of windows, each once: refusals, warnings, notes.
fn remarks(windows: &[&Prediction]) -> Vec<Remark> {
    let mut counts: BTreeMap<Remark, usize> = BTreeMap::new();
    for window in windows {
        for remark in remarks_of(window) {
            *counts.entry(remark).or_default() += 1;
        }
    }
    let mut all: Vec<(Remark, usize)> = counts.into_iter().collect();
    // Refusals, warnings, notes; of each the most frequent first.
    let rank = |r: &Remark| {
        ["refusal", "warning", "note"]
            .iter()
            .position(|k| *k == r.kind)
    };
    all.sort_by(|(a, n), (b, m)| rank(a).cmp(&rank(b)).then(m.cmp(n)));
    let told = |(mut remark, count): (Remark, usize)| {
        if windows.len() > 1 {
            remark.text += &match count {
                1 => " (1 window)".to_owned(),
                n => format!(" ({n} windows)"),
            };
        }
        remark
    };
    all.into_iter().map(told).collect()
}

/// The remarks of one window or clip.
pub(crate) fn remarks_of(window: &Prediction) -> Vec<Remark> {
    let refusal = window.refusal.iter().map(|refusal| Remark {
        kind: "refusal",
        text: format!("no answer: {refusal}"),
    });
    let warnings = window.warnings.iter().map(|warning| Remark {
        kind: match warning {
            Warning::Video(video) if video.is_note() => "note",
            _ => "warning",
        },
        text: warning.to_string(),
    });
    refusal.chain(warnings).collect()
}

/// The classes of one file, in its own order and in the page's.
pub(crate) struct Classes<'a> {
    /// Names in the model's order.
    pub local: Vec<&'a str>,
    /// Their places in the page's list.
    pub global: Vec<usize>,
}

impl Classes<'_> {
    /// The probability of one of the file's classes, which a model lists in one order.
    pub fn probability(&self, of: &Prediction, class: usize) -> Option<f32> {
        probability(&of.probabilities, self.local[class], class)
    }

    /// The place of a class of this name.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.local.iter().position(|class| *class == name)
    }
}

/// The probability of a class that is likely to stand at a place.
pub(crate) fn probability(
    all: &[mtcae_dfer::ClassProbability],
    name: &str,
    place: usize,
) -> Option<f32> {
    let likely = all.get(place).filter(|p| p.class == name);
    let found = likely.or_else(|| all.iter().find(|p| p.class == name));
    found.map(|p| p.probability)
}
