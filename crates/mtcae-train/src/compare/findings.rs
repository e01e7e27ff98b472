//! What a comparison found: of each system from all that it predicted, and of each pair of
//! them on the same clips.

use std::collections::BTreeMap;
use std::path::Path;

use mtcae_core::files::{self, FileError};
use mtcae_objective::{Bootstrap, Difference, Interval, holm};

use super::cell::{self, Cell, FAILED};
use super::run::{self, Plan};
use crate::folder::PREDICTIONS;
use crate::{ClipResult, Error, Spread, read_table};

/// A comparison, read back from its folder.
pub struct Findings {
    /// What it is of.
    pub plan: Plan,
    /// In the order of the plan; systems of which no seed is done have no row.
    pub rows: Vec<Row>,
    /// Each pair of rows, by their places.
    pub pairs: Vec<Pair>,
    /// What is not done or failed, in words.
    pub missing: Vec<String>,
    /// How intervals and probabilities were drawn.
    pub bootstrap: Bootstrap,
    /// Why there are none, where there are none.
    pub no_interval: Option<String>,
}

/// What a system reached.
pub struct Row {
    /// Its place in the plan.
    pub system: usize,
    /// The seeds that are done.
    pub seeds: Vec<u64>,
    /// Of all clips with each seed, the mean over the seeds; their spread is over folds and
    /// seeds.
    pub uar: Spread,
    /// As UAR.
    pub war: Spread,
    /// Of the mean over the seeds, by samples of people.
    pub uar_interval: Option<Interval>,
    /// As UAR's.
    pub war_interval: Option<Interval>,
    /// Mean overlap of boxes, mean over seeds.
    pub iou: Option<f64>,
    /// Error of landmarks, mean over seeds.
    pub nme: Option<f64>,
    /// What it cost: of the first seed, but for hours (the mean).
    pub cell: Cell,
}

/// How two systems differ.
pub struct Pair {
    /// Places of their rows; the difference is the first's less the second's.
    pub rows: (usize, usize),
    /// Of UAR.
    pub uar: Difference,
    /// Of WAR.
    pub war: Difference,
    /// UAR's probability, corrected for the number of pairs.
    pub p: f64,
    /// WAR's.
    pub war_p: f64,
}

/// What a system said with one seed, clip by clip in one order for all systems.
struct Said {
    truth: Vec<usize>,
    right: Vec<bool>,
    folds: Vec<u32>,
    results: Vec<ClipResult>,
}

/// Reads a comparison. What is measured is measured from what was predicted
/// (`predictions.csv` of each cell) and nothing else.
///
/// # Errors
/// Names the file that is missing or damaged, or the clip that not all systems predicted.
pub fn read(folder: &Path, bootstrap: Bootstrap) -> Result<Findings, Error> {
    let plan = run::read(folder)?.ok_or_else(|| {
        let reason = "there is no comparison here: it has no compare.json";
        Error::File(FileError::new(folder, reason))
    })?;
    let (mut rows, mut said, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (place, system) in plan.systems.iter().enumerate() {
        let (mut seeds, mut cells, mut of_system) = (Vec::new(), Vec::new(), Vec::new());
        for &seed in &plan.seeds {
            let at = cell::folder(folder, &system.name, seed);
            let Some(cell) = Cell::read(&at)? else {
                let why = files::read_to_string(at.join(FAILED), 1 << 16).ok();
                missing.push(match why {
                    Some(why) => format!("{}, seed {seed}: {}", system.title, why.trim()),
                    None => format!("{}, seed {seed}: not done yet", system.title),
                });
                continue;
            };
            seeds.push(seed);
            cells.push(cell);
            of_system.push(predicted(&at.join(PREDICTIONS), &plan)?);
        }
        if cells.is_empty() {
            continue;
        }
        let hours = cells.iter().map(|c| c.hours).sum::<f64>() / cells.len() as f64;
        let cell = Cell {
            hours,
            ..cells.swap_remove(0)
        };
        rows.push(row(place, seeds, cell, &of_system, plan.classes.len()));
        said.push(of_system);
    }
    let mut findings = Findings {
        plan,
        rows,
        pairs: Vec::new(),
        missing,
        bootstrap,
        no_interval: None,
    };
    findings.draw(&said)?;
    Ok(findings)
}

impl Findings {
    /// Draws intervals of each row and of each pair.
    fn draw(&mut self, said: &[Vec<Said>]) -> Result<(), Error> {
        let Some(first) = said.first().and_then(|of| of.first()) else {
            return Ok(());
        };
        let classes = self.plan.classes.len();
        let subjects: Vec<&str> = first.results.iter().map(|r| &*r.subject).collect();
        let people: std::collections::BTreeSet<&&str> = subjects.iter().collect();
        if people.len() < self.bootstrap.fewest() {
            let fewest = self.bootstrap.fewest();
            let found = people.len();
            self.no_interval = Some(format!("{found} people; they take {fewest} or more"));
            return Ok(());
        }
        for (row, said) in self.rows.iter_mut().zip(said) {
            let of = |measure: Measure| {
                let interval = self.bootstrap.by_subject(&subjects, |clips| {
                    Ok(measure.over_seeds(said, clips, classes))
                });
                interval.map(Some)
            };
            row.uar_interval = of(Measure::Uar)?;
            row.war_interval = of(Measure::War)?;
        }
        for a in 0..said.len() {
            for b in a + 1..said.len() {
                let of = |measure: Measure| {
                    self.bootstrap.difference_by_subject(&subjects, |clips| {
                        Ok(measure.over_seeds(&said[a], clips, classes)
                            - measure.over_seeds(&said[b], clips, classes))
                    })
                };
                self.pairs.push(Pair {
                    rows: (a, b),
                    uar: of(Measure::Uar)?,
                    war: of(Measure::War)?,
                    p: 1.0,
                    war_p: 1.0,
                });
            }
        }
        let corrected =
            |of: &dyn Fn(&Pair) -> f64| holm(&self.pairs.iter().map(of).collect::<Vec<_>>());
        let (uar, war) = (corrected(&|p| p.uar.p), corrected(&|p| p.war.p));
        for ((pair, p), war_p) in self.pairs.iter_mut().zip(uar).zip(war) {
            (pair.p, pair.war_p) = (p, war_p);
        }
        Ok(())
    }

    /// The pair of two rows, and whether it is the other way round.
    pub fn pair(&self, a: usize, b: usize) -> Option<(&Pair, bool)> {
        let of = |rows| self.pairs.iter().find(|pair| pair.rows == rows);
        of((a, b))
            .map(|pair| (pair, false))
            .or_else(|| of((b, a)).map(|pair| (pair, true)))
    }
}

/// What a cell predicted, each clip of the plan once, in the order of their names.
fn predicted(path: &Path, plan: &Plan) -> Result<Said, Error> {
    let fault = |reason: String| Error::File(FileError::new(path, reason));
    let (results, classes) = read_table(path)?;
    if classes != plan.classes {
        return Err(fault(format!(
            "has the classes {}, and the comparison {}",
            classes.join(", "),
            plan.classes.join(", ")
        )));
    }
    let mut by_name = BTreeMap::new();
    let count = results.len();
    for result in results {
        by_name.insert(result.file.clone(), result);
    }
    if by_name.len() != count || count != plan.clips {
        return Err(fault(format!(
            "has {count} rows of {} clips, and the comparison {} clips: delete the cell's \
             cell.json to measure it again",
            by_name.len(),
            plan.clips
        )));
    }
    let results: Vec<ClipResult> = by_name.into_values().collect();
    Ok(Said {
        truth: results.iter().map(|r| r.class).collect(),
        right: results.iter().map(|r| r.predicted() == r.class).collect(),
        folds: results.iter().map(|r| r.fold).collect(),
        results,
    })
}

#[derive(Clone, Copy)]
enum Measure {
    Uar,
    War,
}

impl Measure {
    /// Of some clips, as [`mtcae_objective::ConfusionMatrix`] has it, which would be made
    /// anew for each of a hundred thousand samples.
    fn of(self, said: &Said, clips: &[usize], classes: usize) -> f64 {
        let mut counted = vec![(0u32, 0u32); classes];
        for &clip in clips {
            let (right, all) = &mut counted[said.truth[clip]];
            *right += u32::from(said.right[clip]);
            *all += 1;
        }
        match self {
            Self::War => {
                let right: u32 = counted.iter().map(|c| c.0).sum();
                f64::from(right) / clips.len().max(1) as f64
            }
            Self::Uar => {
                let occur = counted.iter().filter(|c| c.1 > 0);
                let recalls: Vec<f64> = occur.map(|c| f64::from(c.0) / f64::from(c.1)).collect();
                recalls.iter().sum::<f64>() / recalls.len().max(1) as f64
            }
        }
    }

    fn over_seeds(self, said: &[Said], clips: &[usize], classes: usize) -> f64 {
        let each = said.iter().map(|said| self.of(said, clips, classes));
        each.sum::<f64>() / said.len() as f64
    }
}

fn row(system: usize, seeds: Vec<u64>, cell: Cell, said: &[Said], classes: usize) -> Row {
    let spread = |measure: Measure| {
        let mut folds = Vec::new();
        for said in said {
            let last = said.folds.iter().max().map_or(0, |f| f + 1);
            for fold in 0..last {
                let of = |&clip: &usize| said.folds[clip] == fold;
                let clips: Vec<usize> = (0..said.folds.len()).filter(of).collect();
                if !clips.is_empty() {
                    folds.push(measure.of(said, &clips, classes));
                }
            }
        }
        let all: Vec<usize> = (0..said.first().map_or(0, |s| s.truth.len())).collect();
        Spread {
            mean: measure.over_seeds(said, &all, classes),
            std: Spread::of(&folds).std,
        }
    };
    let mean = |of: fn(&ClipResult) -> Option<f64>| {
        let (mut sum, mut frames) = (0.0, 0);
        for result in said.iter().flat_map(|s| &s.results) {
            if let Some(value) = of(result) {
                sum += value * result.frames as f64;
                frames += result.frames;
            }
        }
        (frames > 0).then(|| sum / frames as f64)
    };
    Row {
        system,
        seeds,
        uar: spread(Measure::Uar),
        war: spread(Measure::War),
        uar_interval: None,
        war_interval: None,
        iou: mean(|r| r.iou),
        nme: mean(|r| r.nme),
        cell,
    }
}
