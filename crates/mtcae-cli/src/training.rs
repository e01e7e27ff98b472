//! What the training programs share: progress, notices, measures in words.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use indicatif::{FormattedDuration, ProgressBar};
use mtcae_dfer::model::Config;
use mtcae_dfer::model::checkpoint::WEIGHTS;
use mtcae_train::objective::Summary;
use mtcae_train::{Acquaintance, Dataset, Event, Left, STATE, TrainConfig, chance};

use crate::settings::to_toml;
use crate::{Bars, Fault, note};

/// Whether a folder holds a run that was begun, which is only gone on with where that is asked
/// for.
///
/// # Errors
/// When the folder is in use, with what to do.
pub fn begun(out: &Path, resume: bool) -> Result<bool, Fault> {
    let begun = out.join(STATE).exists() || out.join("run.json").exists();
    let model = out.join("model");
    let (used, why) = match begun {
        true if !resume => (out, "contains a run; --resume goes on with it, or"),
        false if model.join(WEIGHTS).exists() => (&*model, "contains a model and no run;"),
        _ => return Ok(begun),
    };
    Err(format!("{}: {why} give another folder", used.display()).into())
}

/// Draws what a run tells.
pub struct Screen {
    bars: Bars,
    quiet: bool,
    bar: Option<ProgressBar>,
    /// Runs that come after the present one.
    more: u64,
    left: Left,
    /// When the last step was told.
    last: Instant,
}

impl Screen {
    /// Nothing but the end when `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self {
            bars: Bars::new(quiet),
            quiet,
            bar: None,
            more: 0,
            left: Left::default(),
            last: Instant::now(),
        }
    }

    /// Takes an event; never stops the run.
    pub fn show(&mut self, event: &Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Next { done, of } => self.more = (of - done - 1) as u64,
            Event::Start {
                name,
                epochs,
                steps,
                from_step,
                parameters,
            } => {
                let whole = *epochs as u64 * steps;
                let from = match from_step {
                    0 => String::new(),
                    step => format!(", going on from step {step}"),
                };
                self.say(&format!(
                    "{name}: {parameters} parameters, {epochs} epochs of {steps} steps{from}"
                ));
                let bar = self.bars.steps(whole);
                bar.set_position(*from_step);
                self.bar = Some(bar);
                self.left.todo(whole - from_step + self.more * whole);
                self.last = Instant::now();
            }
            Event::Cache {
                path,
                bytes,
                free,
                missing,
                records,
            } => {
                let (mib, free) = (bytes.div_ceil(1 << 20), free >> 20);
                self.say(&format!(
                    "{}: {missing} of {records} features to compute, {mib} MiB ({free} MiB free)",
                    path.display()
                ));
                if *missing > 0 {
                    self.bar = Some(self.bars.items("features", *missing as u64));
                }
            }
            Event::Cached { done, .. } => self.position(*done as u64),
            Event::Step(line) => self.step(line.step, line.loss),
            Event::MaskedStep(line) => self.step(line.step, line.loss),
            Event::MaskedEpoch(line) => {
                let mut text = format!("epoch {}: loss {:.4}", line.epoch + 1, line.loss);
                if let Some(v) = &line.validation {
                    text += &format!("; validation loss {:.4}", v.loss);
                }
                text += &speed(line.clips_per_second, line.waiting);
                self.say(&text);
            }
            Event::Epoch(line) => {
                let mut text = format!("epoch {}: loss {:.4}", line.epoch + 1, line.loss);
                if let Some(accuracy) = line.accuracy {
                    text += &format!(", accuracy {:.1} %", 100.0 * accuracy);
                }
                if let Some(v) = &line.validation {
                    text += &format!(
                        "; validation loss {:.4}, UAR {:.1} %, WAR {:.1} %",
                        v.loss,
                        100.0 * v.uar,
                        100.0 * v.war
                    );
                    if let (Some(iou), Some(nme)) = (v.mean_iou, v.nme) {
                        text += &format!(", IoU {iou:.3}, NME {:.1} %", 100.0 * nme);
                    }
                }
                if let Some(g) = &line.gradients {
                    let number =
                        |v: Option<f64>| v.map_or("–".to_owned(), |v| format!("{v:.1e}"));
                    text += &format!(
                        "; |∂L/∂F| box {} landmarks {} expression {:.1e}",
                        number(g.boxes),
                        number(g.landmarks),
                        g.expression
                    );
                }
                text += &speed(line.clips_per_second, line.waiting);
                self.say(&text);
            }
            Event::Predicted { .. } => {}
            Event::Notice(text) => self.say(text),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// Takes the bar away.
    pub fn done(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// A step was taken.
    fn step(&mut self, step: u64, loss: f64) {
        self.position(step + 1);
        self.left.done(1, self.last.elapsed());
        self.last = Instant::now();
        if let (Some(bar), Some(left)) = (&self.bar, self.left.time()) {
            let left = FormattedDuration(left);
            bar.set_message(format!("{left} left  loss {loss:.4}"));
        }
    }

    fn position(&self, at: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(at);
        }
    }

    fn say(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| note!("{text}")),
            None => note!("{text}"),
        }
    }
}

fn speed(clips_per_second: f64, waiting: f64) -> String {
    let waiting = 100.0 * waiting;
    format!("; {clips_per_second:.2} clips/s, {waiting:.0} % waiting")
}

/// Says what will be trained on, with which settings, and which of them no source
/// publishes.
///
/// # Errors
/// When the settings cannot be written as TOML.
pub fn announce(data: &Dataset, config: &TrainConfig) -> Result<(), Fault> {
    for notice in &data.notices {
        note!("warning: {notice}");
    }
    note!(
        "{}: {} clips, classes {}, {}",
        data.labels.display(),
        data.items.len(),
        data.classes.join(", "),
        folds_in_words(data)
    );
    note!(
        "{}",
        to_toml(config)?.replace('\n', "; ").trim_end_matches("; ")
    );
    note!(
        "not published with this recipe, chosen here: {}",
        config.unpublished().join(", ")
    );
    Ok(())
}

/// `5 folds of the labels, from 0`.
pub fn folds_in_words(data: &Dataset) -> String {
    match (data.folds, data.dealt) {
        (0, _) => "no folds".to_owned(),
        (n, None) => format!("{n} folds of the labels, from 0"),
        (n, Some(seed)) => format!("{n} folds dealt by seed {seed}, from 0"),
    }
}

/// Whom of the people that are to be measured a checkpoint was trained on.
///
/// # Errors
/// When it is anybody, unless that is allowed: the figures would say nothing of people
/// that the model does not know.
pub fn acquaintance(
    data: &Dataset,
    places: &[usize],
    checkpoint: &Path,
    model: &Config,
    allowed: bool,
) -> Result<Acquaintance, Fault> {
    let people = data.acquaintance(places, model);
    if people.names.is_empty() || allowed {
        return Ok(people);
    }
    let mut text = format!(
        "{}: {}; measure others, or give --allow-seen to measure these all the same",
        checkpoint.display(),
        people.in_words("the model")
    );
    if let Some(words) = &model.trained_on {
        text += &format!(" (trained on {words})");
    }
    Err(text.into())
}

/// Measures in words.
pub fn in_words(s: &Summary) -> String {
    let interval = |i: Option<mtcae_train::objective::Interval>| {
        i.map_or(String::new(), |i| {
            format!(" ({:.2} to {:.2})", 100.0 * i.low, 100.0 * i.high)
        })
    };
    let mut text = format!(
        "{} clips: UAR {:.2} %{}, WAR {:.2} %{}, macro F1 {:.2} %",
        s.clips,
        100.0 * s.uar,
        interval(s.uar_interval),
        100.0 * s.war,
        interval(s.war_interval),
        100.0 * s.macro_f1
    );
    if let Some(ece) = s.ece {
        text += &format!(", ECE {ece:.3}");
    }
    if let Some(iou) = s.mean_iou {
        text += &format!(", mean IoU {iou:.3}");
    }
    if let Some(nme) = s.nme {
        text += &format!(", landmark NME {:.2} %", 100.0 * nme);
    }
    if let Some(why) = &s.no_interval {
        text += &format!("\n  no interval: {why}");
    }
    text += &format!("\n  chance: {}", chance(s));
    for class in &s.classes {
        let percent =
            |v: Option<f64>| v.map_or("–".to_owned(), |v| format!("{:.1} %", 100.0 * v));
        text += &format!(
            "\n  {:<12} {:>5} clips  recall {:>7}  precision {:>7}",
            class.name,
            class.support,
            percent(class.recall),
            percent(class.precision)
        );
    }
    let rate = |v: Option<f64>| v.map_or("–".to_owned(), |v| format!("{v:.2}"));
    for unit in &s.action_units {
        text += &format!(
            "\n  {:<12} {:>5} frames  ICC(3,1) {:>5}  Pearson {:>5}  mean error {:.3}",
            unit.name,
            unit.frames,
            rate(unit.icc),
            rate(unit.pearson),
            unit.mae
        );
    }
    text
}
