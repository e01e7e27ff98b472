//! What a cross-validation says: JSON Lines, Markdown and pictures.

use mtcae_core::files::At;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mtcae_objective::{Bootstrap, Interval, Summary};
use mtcae_viz::{Curve, Panel, save_png};
use serde::Serialize;

use crate::folder::{LOG, write_text};
use crate::folds::{CrossValidation, FoldResult};
use crate::log::{self, EpochLine, Line};
use crate::{Acquaintance, ClipResult, Error, published, summarise};

/// The measures of all folds, one by one and together.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Each fold, tested by a model that saw none of its subjects.
    pub folds: Vec<FoldResult>,
    /// All clips together, each counted once, with confidence intervals that draw
    /// whole subjects.
    pub pooled: Summary,
    /// Recall by intensity, where the dataset has such: (level, clips, recall).
    pub levels: Vec<(String, usize, f64)>,
}

/// Mean and standard deviation (of a sample) of a measure over folds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, with n − 1; of a single value there is none.
    pub std: Option<f64>,
}

impl Spread {
    /// Of some values; zeros of none.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        Self {
            mean,
            std: (n > 1.0).then(|| (squares / (n - 1.0)).sqrt()),
        }
    }

    /// `82.7 ± 1.3` of fractions, in percent.
    pub fn percent(self) -> String {
        match self.std {
            Some(std) => format!("{:.2} ± {:.2}", 100.0 * self.mean, 100.0 * std),
            None => format!("{:.2}", 100.0 * self.mean),
        }
    }
}

/// What figures need beside them to be read, for JSON and in words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct About {
    /// Version of the library that measured.
    pub version: &'static str,
    /// Seed of the training, where it is the same run's.
    pub seed: Option<u64>,
    /// How intervals were drawn; `None` where none were.
    pub bootstrap: Option<Bootstrap>,
    /// How the error of landmarks is normalised.
    pub nme: &'static str,
    /// What boxes and landmarks are measured against.
    pub faces: String,
    /// Whether the model knows the people it was measured on; `None` where no model ran.
    pub people: Option<Acquaintance>,
}

impl About {
    /// Of labels whose faces were found by these detectors; by none where that is not
    /// known.
    pub fn new(detectors: &BTreeSet<String>, bootstrap: Option<Bootstrap>) -> Self {
        let names: Vec<&str> = detectors.iter().map(String::as_str).collect();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            seed: None,
            bootstrap,
            nme: "mean distance of the five landmarks from the labels', over the distance \
                  between the labels' eyes",
            faces: match names[..] {
                ["mtcnn"] => "boxes and landmarks are measured against MTCNN's, which nobody \
                              has corrected"
                    .to_owned(),
                ["rendered"] => "boxes and landmarks are measured against where they were \
                                 rendered"
                    .to_owned(),
                [] => "boxes and landmarks are measured against those of the label file: \
                       MTCNN's, unless the clips were rendered"
                    .to_owned(),
                _ => format!(
                    "boxes and landmarks are measured against those of {}",
                    names.join(" and ")
                ),
            },
            people: None,
        }
    }

    /// One sentence after the other.
    pub fn in_words(&self) -> String {
        let mut text = capital(&format!("{}; NME is the {}.", self.faces, self.nme));
        if let Some(b) = &self.bootstrap {
            text += &format!(
                " Intervals: {} %, {} draws of whole subjects, seed {}.",
                100.0 * b.level,
                b.resamples,
                b.seed
            );
        }
        if let Some(seed) = self.seed {
            text += &format!(" Training had the seed {seed}.");
        }
        text + &format!(" Version {}.", self.version)
    }
}

/// A clause as the beginning of a sentence.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().collect::<String>());
    first.unwrap_or_default() + chars.as_str()
}

/// What is reached without looking, in words.
pub fn chance(s: &Summary) -> String {
    format!(
        "UAR {:.2} %, WAR {:.2} % (always naming the most frequent class)",
        100.0 * s.uar_chance,
        100.0 * s.war_chance
    )
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum MetricLine<'a> {
    About(&'a About),
    Fold(&'a FoldResult),
    Pooled(&'a Summary),
    Folds { uar: Spread, war: Spread },
}

impl Report {
    /// Measures folds together.
    ///
    /// # Errors
    /// When there is no result.
    pub fn new(
        folds: Vec<FoldResult>,
        pooled: &[ClipResult],
        classes: &[String],
    ) -> Result<Self, Error> {
        let mut levels: Vec<(String, usize, f64)> = Vec::new();
        let mut names: Vec<&String> = pooled.iter().filter_map(|r| r.level.as_ref()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let of_level = pooled.iter().filter(|r| r.level.as_ref() == Some(name));
            let right: Vec<bool> = of_level.map(|r| r.predicted() == r.class).collect();
            let hits = right.iter().filter(|r| **r).count();
            levels.push((name.clone(), right.len(), hits as f64 / right.len() as f64));
        }
        Ok(Self {
            folds,
            pooled: summarise(pooled, classes, Some(&Bootstrap::default()))?,
            levels,
        })
    }

    /// UAR over the folds.
    pub fn uar(&self) -> Spread {
        Spread::of(&self.folds.iter().map(|f| f.summary.uar).collect::<Vec<_>>())
    }

    /// WAR over the folds.
    pub fn war(&self) -> Spread {
        Spread::of(&self.folds.iter().map(|f| f.summary.war).collect::<Vec<_>>())
    }

    /// Writes `metrics.jsonl`, `report.md`, `confusion.png` and each fold's
    /// `curves.png`.
    pub(crate) fn write(&self, cv: &CrossValidation<'_>) -> Result<(), Error> {
        let (uar, war) = (self.uar(), self.war());
        let folds = self.folds.iter().map(MetricLine::Fold);
        let about = about(cv);
        let whole = [
            MetricLine::About(&about),
            MetricLine::Pooled(&self.pooled),
            MetricLine::Folds { uar, war },
        ];
        let path = cv.folder.join("metrics.jsonl");
        let mut lines = String::new();
        for line in folds.chain(whole) {
            lines += &serde_json::to_string(&line).at(&path)?;
            lines.push('\n');
        }
        write_text(&path, &lines)?;
        let names: Vec<&str> = cv.data.classes.iter().map(String::as_str).collect();
        let matrix = mtcae_viz::confusion_matrix(&names, &self.pooled.confusion)?;
        save_png(cv.folder.join("confusion.png"), &matrix)?;
        for fold in &self.folds {
            let folder = cv.folder.join(format!("fold-{}", fold.fold));
            curves(&log::read(folder.join(LOG))?, &folder.join("curves.png"))?;
        }
        write_text(&cv.folder.join("report.md"), &self.markdown(cv))
    }

    fn markdown(&self, cv: &CrossValidation<'_>) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.sections(cv, &mut out);
        out
    }

    fn sections(&self, cv: &CrossValidation<'_>, out: &mut String) -> std::fmt::Result {
        let model = cv.start.config();
        writeln!(out, "# Cross-validation of {}\n", cv.data.labels.display())?;
        writeln!(
            out,
            "Structure `{}`, {} clips of {} subjects, {} subject-independent folds{}, recipe \
             `{}`, {} epochs, trained: {}.\n",
            model.decoder.structure,
            self.pooled.clips,
            subjects(cv),
            self.folds.len(),
            match cv.data.dealt {
                Some(seed) => format!(" dealt by seed {seed}"),
                None => " of the labels".to_owned(),
            },
            cv.config.recipe,
            cv.config.epochs,
            cv.config.tune,
        )?;
        let ours = cv.config.unpublished();
        if !ours.is_empty() {
            let names = ours.join("`, `");
            writeln!(
                out,
                "Not published with this recipe, chosen here: `{names}`.\n"
            )?;
        }
        writeln!(
            out,
            "| | UAR % | WAR % | macro F1 % | ECE | IoU | NME % | clips |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|")?;
        for fold in &self.folds {
            let s = &fold.summary;
            row(out, &format!("fold {}", fold.fold), s)?;
        }
        row(out, "pooled", &self.pooled)?;
        writeln!(
            out,
            "| mean ± std of folds | {} | {} | | | | | |\n",
            self.uar().percent(),
            self.war().percent()
        )?;
        writeln!(
            out,
            "In brackets confidence intervals. Folds count from 0. Chance, of all clips: {}. {}\n",
            chance(&self.pooled),
            about(cv).in_words()
        )?;
        if let Some(people) = &about(cv).people {
            let who = "the model that training began with";
            writeln!(out, "{}.\n", capital(&people.in_words(who)))?;
        }
        let mut without: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let folds = self.folds.iter();
        let parts = folds.map(|f| (format!("fold {}", f.fold), &f.summary));
        for (name, s) in parts.chain([("all clips".to_owned(), &self.pooled)]) {
            if let Some(why) = &s.no_interval {
                without.entry(why).or_default().push(name);
            }
        }
        for (why, names) in without {
            writeln!(out, "No interval of {}: {why}.\n", names.join(", "))?;
        }
        writeln!(
            out,
            "| class | clips | recall % | precision % |\n|---|---|---|---|"
        )?;
        for class in &self.pooled.classes {
            let percent =
                |v: Option<f64>| v.map_or("–".to_owned(), |v| format!("{:.1}", 100.0 * v));
            let (name, n) = (&class.name, class.support);
            writeln!(
                out,
                "| {name} | {n} | {} | {} |",
                percent(class.recall),
                percent(class.precision)
            )?;
        }
        if self.levels.len() > 1 {
            writeln!(out, "\n| intensity | clips | recognised % |\n|---|---|---|")?;
            for (level, clips, recall) in &self.levels {
                writeln!(out, "| {level} | {clips} | {:.1} |", 100.0 * recall)?;
            }
        }
        writeln!(out, "\n![Confusion matrix](confusion.png)")?;
        Ok(())
    }
}

fn subjects(cv: &CrossValidation<'_>) -> usize {
    let all: Vec<usize> = (0..cv.data.items.len()).collect();
    cv.data.people(&all).len()
}

fn about(cv: &CrossValidation<'_>) -> About {
    // No fold's model was trained on the people that it is tested on; but what it began
    // with may have been.
    let all: Vec<usize> = (0..cv.data.items.len()).collect();
    let people = cv.data.acquaintance(&all, cv.start.config());
    About {
        seed: Some(cv.config.seed),
        people: (people.trained_on != Some(0)).then_some(people),
        ..About::new(&cv.data.detectors, Some(Bootstrap::default()))
    }
}

fn row(out: &mut String, name: &str, s: &Summary) -> std::fmt::Result {
    let number = |v: Option<f64>| v.map_or("–".to_owned(), |v| format!("{v:.3}"));
    let percent = |v: f64, interval: Option<Interval>| {
        let range = interval.map(|i| format!(" ({:.1}–{:.1})", 100.0 * i.low, 100.0 * i.high));
        format!("{:.2}{}", 100.0 * v, range.unwrap_or_default())
    };
    writeln!(
        out,
        "| {name} | {} | {} | {:.2} | {} | {} | {} | {} |",
        percent(s.uar, s.uar_interval),
        percent(s.war, s.war_interval),
        100.0 * s.macro_f1,
        number(s.ece),
        number(s.mean_iou),
        s.nme
            .map_or("–".to_owned(), |v| format!("{:.1}", 100.0 * v)),
        s.clips
    )
}

/// The published results for a dataset, marked as such, as Markdown; empty where
/// the paper has none.
pub fn published_table(dataset: &str) -> String {
    let Some(tables) = published::tables(dataset) else {
        return String::new();
    };
    let mut out = format!(
        "Published (Table {} of the paper), {}; not measured here:\n\n| method | UAR % | WAR % |\n|---|---|---|\n",
        tables.number, tables.dataset
    );
    for method in tables.methods {
        let uar = method.uar.map_or("–".to_owned(), |v| format!("{v:.2}"));
        out.push_str(&format!(
            "| {} | {uar} | {:.2} |\n",
            method.method, method.war
        ));
    }
    out
}

/// Loss curves and validation measures of a run.
fn curves(lines: &[Line], path: &std::path::Path) -> Result<(), Error> {
    let epochs: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Epoch(e) => Some(e),
            Line::Step(_) => None,
        })
        .collect();
    let curve = |name: &str, value: &dyn Fn(&EpochLine) -> Option<f64>| Curve {
        name: name.to_owned(),
        points: epochs
            .iter()
            .filter_map(|e| Some((e.epoch as f64 + 1.0, value(e)?)))
            .collect(),
    };
    let panel = |title: &str, curves: Vec<Curve>| Panel {
        title: title.to_owned(),
        curves: curves
            .into_iter()
            .filter(|c| !c.points.is_empty())
            .collect(),
    };
    let panels = [
        panel(
            "loss",
            vec![
                curve("training", &|e| Some(e.loss)),
                curve("validation", &|e| e.validation.map(|v| v.loss)),
            ],
        ),
        panel(
            "recognised",
            vec![
                curve("training accuracy", &|e| e.accuracy),
                curve("validation UAR", &|e| e.validation.map(|v| v.uar)),
            ],
        ),
    ];
    let panels: Vec<Panel> = panels
        .into_iter()
        .filter(|p| !p.curves.is_empty())
        .collect();
    Ok(save_png(
        path,
        &mtcae_viz::curves(&panels, "epoch", 900, 640)?,
    )?)
}
