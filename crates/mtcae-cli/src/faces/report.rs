//! What was measured on real faces: in words, as JSON and as tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mtcae_core::files::{At, write_atomically};
use mtcae_train::objective::{Bootstrap, Interval};
use serde::Serialize;

use super::Loaded;
use super::list::Entry;
use super::said::{Expressions, Rate, Said, measure, rate};
use super::views::{Against, Off, Seen, Truth, View, guess};
use crate::Fault;

const JSON: &str = "faces.json";
const TABLE: &str = "faces.csv";
const FRAMES: &str = "frames.csv";
/// Files that are named in words, at most; all are in the JSON.
const NAMED: usize = 10;
/// The guess's name.
const CONSTANT: &str = "constant guess";

/// A model that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    pub name: String,
    pub trained_on: Option<String>,
    /// What it looks at where its answers are measured.
    pub crop: String,
    pub least_confidence: Option<f64>,
    pub classes: Vec<String>,
}

/// A file that is listed and was not measured.
#[derive(Debug, Serialize)]
pub struct NotMeasured {
    pub id: String,
    pub file: String,
    pub why: String,
}

/// Everything that was seen and said.
pub struct Measured {
    /// Numbers of entries.
    pub looked_at: Vec<usize>,
    pub left_out: Vec<NotMeasured>,
    /// Files in which MTCNN sees nobody.
    pub faceless: Vec<String>,
    pub truths: Vec<Truth>,
    pub models: Vec<Vec<Off>>,
    pub mtcnn: Vec<Off>,
    pub unshown: usize,
    pub said: Vec<Vec<Said>>,
}

impl Measured {
    pub fn new(models: usize) -> Self {
        Self {
            looked_at: Vec::new(),
            left_out: Vec::new(),
            faceless: Vec::new(),
            truths: Vec::new(),
            models: vec![Vec::new(); models],
            mtcnn: Vec::new(),
            unshown: 0,
            said: vec![Vec::new(); models],
        }
    }

    /// Adds what was seen in a file, and what each model says of it.
    pub fn add(&mut self, seen: Seen, said: Vec<Said>) {
        self.truths.extend(seen.truths);
        self.mtcnn.extend(seen.mtcnn);
        self.unshown += seen.unshown;
        for (all, of_file) in self.models.iter_mut().zip(seen.models) {
            all.extend(of_file);
        }
        for (all, of_file) in self.said.iter_mut().zip(said) {
            all.push(of_file);
        }
    }
}

/// What models say of files without a face.
#[derive(Debug, Serialize)]
pub struct WithoutFace {
    pub files: usize,
    pub not_measured: Vec<NotMeasured>,
    pub models: Vec<SaidNobody>,
}

/// How often a model says that there is nobody.
#[derive(Debug, Serialize)]
pub struct SaidNobody {
    pub model: String,
    pub right: usize,
    /// Files of which it said something else, and what.
    pub wrong: Vec<(String, String)>,
}

impl WithoutFace {
    pub(super) fn new(models: &[Loaded]) -> Self {
        let model = |m: &Loaded| SaidNobody {
            model: m.about.name.clone(),
            right: 0,
            wrong: Vec::new(),
        };
        Self {
            files: 0,
            not_measured: Vec::new(),
            models: models.iter().map(model).collect(),
        }
    }

    pub fn add(&mut self, entry: &Entry, said: &[Said]) {
        self.files += 1;
        for (model, said) in self.models.iter_mut().zip(said) {
            match said.refusal {
                Some("no-face" | "doubtful-face") => model.right += 1,
                refusal => {
                    let first = said.ranked().into_iter().next();
                    let class = first.map(|(class, p)| format!("{class} ({:.0} %)", 100.0 * p));
                    let words = [refusal.map(str::to_owned), class];
                    let words: Vec<String> = words.into_iter().flatten().collect();
                    model.wrong.push((entry.id.clone(), words.join(", ")));
                }
            }
        }
    }
}

/// Errors of boxes and landmarks of one view.
#[derive(Debug, Serialize)]
pub struct Errors {
    /// Whose they are.
    pub of: String,
    pub view: &'static str,
    pub against: &'static str,
    pub frames: usize,
    pub files: usize,
    /// Of the distance between the eyes, over frames; the interval draws people.
    pub median_nme: Option<Rate>,
    /// The median of files, each by its own median.
    pub median_nme_of_files: Option<f64>,
    pub mean_nme: Option<f64>,
    pub mean_iou: Option<f64>,
}

/// Landmarks by group of skin tones, in the loose crop, against MTCNN's.
#[derive(Debug, Serialize)]
pub struct ByTone {
    pub of: String,
    pub tone: String,
    pub frames: usize,
    pub people: usize,
    pub median_nme: f64,
}

/// `faces.json`.
#[derive(Serialize)]
pub struct Report {
    version: &'static str,
    listed: usize,
    measured: usize,
    people: usize,
    kinds: BTreeMap<String, usize>,
    not_measured: Vec<NotMeasured>,
    /// Files in which MTCNN sees no face.
    mtcnn_sees_nobody: Vec<String>,
    marks_not_shown: usize,
    bootstrap: Option<Bootstrap>,
    models: Vec<Model>,
    faces: Vec<Errors>,
    faces_by_tone: Vec<ByTone>,
    /// One a model; `null` where no file has a label that it knows.
    expressions: Vec<Option<Expressions>>,
    no_face: Option<WithoutFace>,
    #[serde(skip)]
    said: Vec<Vec<Said>>,
    #[serde(skip)]
    off: Vec<(String, Vec<Off>)>,
}

impl Report {
    /// Measures what was seen and said.
    ///
    /// # Errors
    /// When a number is none.
    pub fn new(
        entries: &[Entry],
        models: Vec<Model>,
        measured: Measured,
        no_face: Option<WithoutFace>,
        bootstrap: Option<Bootstrap>,
    ) -> Result<Self, Fault> {
        let draw = bootstrap.as_ref();
        let mut off: Vec<(String, Vec<Off>)> = models
            .iter()
            .map(|m| m.name.clone())
            .zip(measured.models)
            .collect();
        off.push((CONSTANT.to_owned(), guess(&measured.truths)));
        off.push(("MTCNN".to_owned(), measured.mtcnn));
        let mut faces = Vec::new();
        for against in [Against::Mtcnn, Against::Marks] {
            for view in [View::Loose, View::Twice, View::Whole, View::WholeLarge] {
                for (of, off) in &off {
                    let is = |o: &&Off| (o.view, o.against) == (view, against);
                    let off: Vec<&Off> = off.iter().filter(is).collect();
                    if !off.is_empty() {
                        faces.push(errors(of, view, against, &off, entries, draw)?);
                    }
                }
            }
        }
        let mut expressions = Vec::new();
        for (model, said) in models.iter().zip(&measured.said) {
            expressions.push(measure(said, entries, &model.classes, draw)?);
        }
        let mut kinds = BTreeMap::new();
        for at in &measured.looked_at {
            *kinds.entry(entries[*at].kind.clone()).or_default() += 1;
        }
        let people = measured.looked_at.iter().map(|&at| &entries[at].person);
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            listed: entries.len(),
            measured: measured.looked_at.len(),
            people: people.collect::<BTreeSet<_>>().len(),
            kinds,
            not_measured: measured.left_out,
            mtcnn_sees_nobody: measured.faceless,
            marks_not_shown: measured.unshown,
            bootstrap,
            faces_by_tone: by_tone(&off, entries),
            models,
            faces,
            expressions,
            no_face,
            said: measured.said,
            off,
        })
    }

    /// Writes `faces.json`, `faces.csv`, what was said of each file, and `frames.csv`, how far
    /// off each frame is.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn write(&self, out: &Path, entries: &[Entry]) -> Result<(), Fault> {
        std::fs::create_dir_all(out).at(out)?;
        let path = out.join(JSON);
        let json = serde_json::to_string_pretty(self)?;
        write_atomically(&path, |temporary| std::fs::write(temporary, json)).at(&path)?;
        let path = out.join(TABLE);
        write_atomically(&path, |to| Ok(self.table(to, entries)?)).at(&path)?;
        let path = out.join(FRAMES);
        write_atomically(&path, |to| Ok(self.frames(to, entries)?)).at(&path)?;
        Ok(())
    }

    fn table(&self, path: &Path, entries: &[Entry]) -> csv::Result<()> {
        let mut table = csv::Writer::from_path(path)?;
        let all = self.said.iter().flatten().flat_map(Said::ranked);
        let classes = super::classes::ordered(all.map(|(class, _)| class).collect::<BTreeSet<_>>());
        let fixed = [
            "model", "id", "file", "person", "tone", "label", "refusal", "first", "second",
        ];
        let head = fixed.iter().map(ToString::to_string);
        table.write_record(head.chain(classes.iter().map(|c| format!("p_{c}"))))?;
        for (model, said) in self.models.iter().zip(&self.said) {
            for said in said {
                let entry = &entries[said.entry];
                let ranked = said.ranked();
                let nth = |n: usize| ranked.get(n).map(|r| r.0.clone()).unwrap_or_default();
                let mut row = vec![
                    model.name.clone(),
                    entry.id.clone(),
                    entry.file.clone(),
                    entry.person.clone(),
                    entry.tone.clone().unwrap_or_default(),
                    entry.label.clone().unwrap_or_default(),
                    said.refusal.unwrap_or_default().to_owned(),
                    nth(0),
                    nth(1),
                ];
                row.extend(classes.iter().map(|class| {
                    let p = ranked.iter().find(|r| r.0 == *class).map(|r| r.1);
                    p.map(|p| format!("{p:.6}")).unwrap_or_default()
                }));
                table.write_record(row)?;
            }
        }
        table.flush()?;
        Ok(())
    }

    fn frames(&self, path: &Path, entries: &[Entry]) -> csv::Result<()> {
        let mut table = csv::Writer::from_path(path)?;
        table.write_record(["of", "id", "frame", "view", "against", "nme", "iou"])?;
        let cell = |v: Option<f64>| v.map(|v| format!("{v:.6}")).unwrap_or_default();
        for (of, off) in &self.off {
            for o in off {
                table.write_record([
                    of,
                    &entries[o.entry].id,
                    &o.frame.to_string(),
                    o.view.name(),
                    o.against.name(),
                    &cell(o.nme),
                    &cell(o.iou),
                ])?;
            }
        }
        table.flush()?;
        Ok(())
    }

    /// All of it for a person.
    pub fn in_words(&self) -> String {
        let kinds = self.kinds.iter().map(|(kind, n)| format!("{n} {kind}"));
        let mut text = format!(
            "{} of {} listed files measured, of {} people ({})",
            self.measured,
            self.listed,
            self.people,
            kinds.collect::<Vec<_>>().join(", ")
        );
        text += &left_out("not measured", &self.not_measured);
        if !self.mtcnn_sees_nobody.is_empty() {
            text += &format!("\nMTCNN sees nobody in: {}", some(&self.mtcnn_sees_nobody));
        }
        if self.marks_not_shown > 0 {
            text += &format!(
                "\n{} marked frames could not be shown",
                self.marks_not_shown
            );
        }
        text += &self.faces_in_words();
        for (model, of) in self.models.iter().zip(&self.expressions) {
            text += &format!("\n\nexpressions, {} (sees: {})", model.name, model.crop);
            match of {
                None => text += "\n  no file has a label that this model knows",
                Some(of) => text += &expressions(of),
            }
        }
        if let Some(without) = &self.no_face {
            text += &format!("\n\n{} files without a face", without.files);
            text += &left_out("not measured", &without.not_measured);
            for model in &without.models {
                let (name, right) = (&model.model, model.right);
                text += &format!("\n  {name}: \"no face\", or a doubtful one, is said of {right}");
                let wrong = model.wrong.iter().map(|(id, said)| format!("{id}: {said}"));
                let wrong: Vec<String> = wrong.collect();
                if !wrong.is_empty() {
                    text += &format!("; else {}", some(&wrong));
                }
            }
        }
        text += "\n\nNME is the mean distance of the five landmarks, over that of the eyes.";
        if let Some(b) = &self.bootstrap {
            text += &format!(
                " Intervals: {} %, {} draws of whole people, seed {}; none of fewer than {} people.",
                100.0 * b.level,
                b.resamples,
                b.seed,
                b.fewest()
            );
        }
        text + &format!(" Version {}.", self.version)
    }

    fn faces_in_words(&self) -> String {
        let width = self
            .faces
            .iter()
            .map(|e| e.of.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        let mut last = ("", "");
        for e in &self.faces {
            if (e.against, e.view) != last {
                text += &format!("\n\n{}, against {}", e.view, e.against);
                text += &format!(
                    "\n  {:width$} frames  files  median NME              of files      mean  mean \
                     IoU",
                    ""
                );
                last = (e.against, e.view);
            }
            let median = e.median_nme.as_ref().map_or("–".to_owned(), percent);
            let share =
                |v: Option<f64>| v.map_or("–".to_owned(), |v| format!("{:.1} %", 100.0 * v));
            let (of_files, mean) = (share(e.median_nme_of_files), share(e.mean_nme));
            let iou = e.mean_iou.map_or("–".to_owned(), |v| format!("{v:.3}"));
            text += &format!(
                "\n  {:width$} {:>6} {:>6}  {median:<22} {of_files:>9} {mean:>9} {iou:>9}",
                e.of, e.frames, e.files
            );
        }
        if !self.faces_by_tone.is_empty() {
            text += "\n\nloose crop against MTCNN, by skin tone";
        }
        for t in &self.faces_by_tone {
            text += &format!(
                "\n  {:width$} {}: median NME {:.1} % ({} frames, {} people)",
                t.of,
                t.tone,
                100.0 * t.median_nme,
                t.frames,
                t.people
            );
        }
        text
    }
}

/// Refuses to write over what is there.
///
/// # Errors
/// Names the file.
pub fn may_be_written(out: &Path, force: bool) -> Result<(), Fault> {
    for name in [JSON, TABLE, FRAMES] {
        let path = out.join(name);
        if !force && path.symlink_metadata().is_ok() {
            return Err(format!(
                "{}: exists already; --force overwrites it, or give another folder",
                path.display()
            )
            .into());
        }
    }
    Ok(())
}

fn errors(
    of: &str,
    view: View,
    against: Against,
    off: &[&Off],
    entries: &[Entry],
    bootstrap: Option<&Bootstrap>,
) -> Result<Errors, Fault> {
    let measured: Vec<(&str, f64)> = off
        .iter()
        .filter_map(|o| Some((entries[o.entry].person.as_str(), o.nme?)))
        .collect();
    let (people, nmes): (Vec<&str>, Vec<f64>) = measured.into_iter().unzip();
    let ious: Vec<f64> = off.iter().filter_map(|o| o.iou).collect();
    let median_nme = match nmes.is_empty() {
        true => None,
        false => Some(rate(&people, bootstrap, |drawn| {
            Ok(median(drawn.iter().map(|&i| nmes[i])))
        })?),
    };
    let mut files: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for o in off {
        files.entry(o.entry).or_default().extend(o.nme);
    }
    let of_files = files.values().filter(|of| !of.is_empty());
    let of_files: Vec<f64> = of_files.map(|of| median(of.iter().copied())).collect();
    Ok(Errors {
        of: of.to_owned(),
        view: view.name(),
        against: against.name(),
        frames: off.len(),
        files: files.len(),
        median_nme,
        median_nme_of_files: (!of_files.is_empty()).then(|| median(of_files.into_iter())),
        mean_nme: mean(&nmes),
        mean_iou: mean(&ious),
    })
}

fn by_tone(off: &[(String, Vec<Off>)], entries: &[Entry]) -> Vec<ByTone> {
    let mut groups = Vec::new();
    for (of, off) in off {
        let mut tones: BTreeMap<&str, (Vec<f64>, BTreeSet<&str>)> = BTreeMap::new();
        let is = |o: &&Off| (o.view, o.against) == (View::Loose, Against::Mtcnn);
        for o in off.iter().filter(is) {
            let entry = &entries[o.entry];
            if let (Some(tone), Some(nme)) = (&entry.tone, o.nme) {
                let (nmes, people) = tones.entry(tone).or_default();
                nmes.push(nme);
                people.insert(&entry.person);
            }
        }
        groups.extend(tones.into_iter().map(|(tone, (nmes, people))| ByTone {
            of: of.clone(),
            tone: tone.to_owned(),
            frames: nmes.len(),
            people: people.len(),
            median_nme: median(nmes.into_iter()),
        }));
    }
    groups
}

/// The middle one, or the mean of both; 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// `46.2 % (38.1 to 55.0)`.
fn percent(rate: &Rate) -> String {
    let range = rate
        .interval
        .map(|Interval { low, high, .. }| format!(" ({:.1} to {:.1})", 100.0 * low, 100.0 * high));
    format!("{:.1} %{}", 100.0 * rate.value, range.unwrap_or_default())
}

fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let shown = names
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    match more {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

fn left_out(what: &str, files: &[NotMeasured]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let names = files
        .iter()
        .map(|f| format!("{} ({}): {}", f.id, f.file, f.why));
    let names: Vec<String> = names.collect();
    format!("\n{} {what}: {}", files.len(), some(&names))
}

fn expressions(of: &Expressions) -> String {
    let mut text = format!(
        "\n  {} files of {} people: UAR {}, WAR {}, top 2 {}; chance of UAR {:.1} %",
        of.files,
        of.people,
        percent(&of.uar),
        percent(&of.war),
        percent(&of.top2),
        100.0 * of.uar_chance
    );
    if of.unknown_to_model > 0 {
        let n = of.unknown_to_model;
        text += &format!("\n  {n} files are left out, whose label is no class of the model");
    }
    if !of.not_in_list.is_empty() {
        text += &format!(
            "\n  classes that the list lacks, which are wrong where they are named: {}; UAR among \
             the listed ones {:.1} %",
            of.not_in_list.join(", "),
            100.0 * of.uar_among_listed
        );
    }
    text += "\n  expression     files  people  recall";
    for class in &of.classes {
        text += &format!(
            "\n  {:<12} {:>7} {:>7}  {}",
            class.name,
            class.files,
            class.people,
            percent(&class.recall)
        );
    }
    text += "\n  a row for what is true, a column for what is named:\n              ";
    let names = of.matrix.names();
    let used: Vec<usize> = {
        let (support, predicted) = (of.matrix.support(), of.matrix.predicted());
        (0..names.len())
            .filter(|&i| support[i] + predicted[i] > 0)
            .collect()
    };
    for &column in &used {
        text += &format!(" {:>8.8}", names[column]);
    }
    for &row in &used {
        text += &format!("\n  {:<12}", names[row]);
        for &column in &used {
            text += &format!(" {:>8}", of.matrix.count(row, column));
        }
    }
    text += &format!(
        "\n  of {} files with probabilities      log loss     Brier       ECE",
        of.with_probabilities
    );
    for s in &of.scores {
        text += &format!(
            "\n  {:<34} {:>9.4} {:>9.4} {:>9.4}",
            s.of, s.log_loss, s.brier, s.ece
        );
    }
    let refused = of.refused.iter().map(|(why, n)| format!("{n} {why}"));
    let refused: Vec<String> = refused.collect();
    text += &format!("\n  answered: {} of {}", of.answered, of.files);
    if !refused.is_empty() {
        text += &format!(" (else {})", refused.join(", "));
    }
    if let Some(right) = &of.right_of_answered {
        text += &format!(", right: {}", percent(right));
    }
    for tone in &of.tones {
        text += &format!(
            "\n  skin tone {}: {} files of {} people: UAR {}, WAR {}",
            tone.name,
            tone.files,
            tone.people,
            percent(&tone.uar),
            percent(&tone.war)
        );
    }
    text
}
