//! Model cards: what a model is, what it was trained on, how it was measured, what it is for
//! and what the law says, as Markdown beside its weights.
//!
//! After Mitchell et al., 2019, "Model cards for model reporting".

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use mtcae_core::files::{self, At, FileError, write_text_atomically};
use mtcae_decoder::Structure;
use serde::{Deserialize, Serialize};

use crate::identity::hashes;
use crate::{ACTION_UNITS, Checkpoint, Config, Error, FACE_BOX, LANDMARKS};

/// The name of a card in a checkpoint's folder.
pub const CARD: &str = "card.md";

/// The name of the list of measurements in a checkpoint's folder.
pub const MEASURED: &str = "measured.json";

/// How a card of ours begins; another's is left as it is.
const MARK: &str =
    "<!-- Written by mtcae: what is changed here is lost. `mtcae card` shows it anew. -->";

/// A hundred times what any list of measurements takes.
const LONGEST: u64 = 4 << 20;

/// What models are for, and what not; in every card.
const USE: &str = "\
It judges what a face shows, not what a person feels. For research on displayed expressions, for \
annotating recordings whose annotations a person looks through, and for trying the software out. \
Measure it on people and cameras like yours before its numbers are used.

Not for: hiring, grading, policing, border control, insurance, credit, advertising to individuals, \
or any decision about a person.";

/// What European law says of such models; in every card.
const LAW: &str = "\
European Union, Regulation (EU) 2024/1689 (AI Act); not legal advice:

- **Forbidden since 2 February 2025** (Article 5(1)(f)): inferring emotions of people at work and in \
education, other than for medical or safety reasons.
- **Since 2 August 2026** (Article 50(3)): who deploys an emotion recognition system tells the \
people exposed to it, and processes their data under the General Data Protection Regulation.
- What counts (Article 3(39), recital 18): identifying or inferring emotions or intentions from \
biometric data, among them happiness, sadness, anger, surprise and disgust. Detecting that somebody \
smiles or frowns is not that, unless it is used to infer an emotion.
- Permitted emotion recognition is high-risk (Annex III, 1(c)). Its duties apply from 2 December \
2027; they were put off from 2 August 2026 by the Digital Omnibus, as secondary sources report.";

/// What was measured of a model, once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// What it was measured on, and whether the model knows the people; a sentence or two.
    pub on: String,
    /// The command that measured.
    pub command: String,
    /// SHA-256 of the measured model's config and weights, by the file's name. What is
    /// measured of other files says nothing of these.
    pub model: BTreeMap<String, String>,
    /// Clips or files.
    pub clips: u64,
    /// Figures over all of them, in the order in which they are shown.
    pub figures: Vec<Figure>,
    /// Share of each expression that is recognised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recall: Vec<Figure>,
    /// Figures by what clips show: tone of skin, intensity, light.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// What the figures alone do not say; a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// A number that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// What it is of: `UAR`.
    pub name: String,
    /// The number, a share where it is one.
    pub value: f64,
    /// The bounds of its 95 % confidence interval, where one was drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// Whether it is a share, to be shown in percent.
    #[serde(default)]
    pub share: bool,
}

/// Clips that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// In what: `tone`.
    pub by: String,
    /// How: `1`.
    pub name: String,
    /// How many.
    pub clips: u64,
    /// Figures over them.
    pub figures: Vec<Figure>,
}

impl Figure {
    /// A share in [0, 1], with the bounds of its interval.
    pub fn share(name: impl Into<String>, value: f64, interval: Option<[f64; 2]>) -> Self {
        Self {
            share: true,
            interval,
            ..Self::number(name, value)
        }
    }

    /// A number that is no share.
    pub fn number(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            value,
            interval: None,
            share: false,
        }
    }

    fn shown(&self) -> String {
        let number = |v: f64| match self.share {
            true => format!("{:.1}", 100.0 * v),
            false => format!("{v:.3}"),
        };
        let unit = if self.share { " %" } else { "" };
        let interval = self
            .interval
            .map(|[low, high]| format!(" ({} to {})", number(low), number(high)));
        format!(
            "{}{unit}{}",
            number(self.value),
            interval.unwrap_or_default()
        )
    }
}

/// The measurements beside a checkpoint: those of its files as they are, and how many of
/// others there are besides. None beside a file, or beside what a program has inside.
///
/// # Errors
/// Names the file that cannot be read, or is no list of measurements.
pub fn measurements(checkpoint: &Checkpoint) -> Result<(Vec<Measurement>, usize), Error> {
    match checkpoint.path() {
        Some(folder) if folder.is_dir() => of_model(checkpoint, listed(&folder.join(MEASURED))?),
        _ => Ok((Vec::new(), 0)),
    }
}

/// As [`measurements`], of the text of such a list.
///
/// # Errors
/// When it is none.
pub fn measurements_in(
    checkpoint: &Checkpoint,
    text: &str,
) -> Result<(Vec<Measurement>, usize), Error> {
    of_model(checkpoint, parsed(Path::new(MEASURED), text)?)
}

fn of_model(
    checkpoint: &Checkpoint,
    all: Vec<Measurement>,
) -> Result<(Vec<Measurement>, usize), Error> {
    if all.is_empty() {
        return Ok((all, 0));
    }
    let files = checkpoint.identity("")?.files;
    let count = all.len();
    let own: Vec<_> = all.into_iter().filter(|m| m.model == files).collect();
    let others = count - own.len();
    Ok((own, others))
}

/// Adds a measurement to those beside a checkpoint, in place of one by the same command, and
/// writes its card anew. Which model it is of is the folder's as it is now.
///
/// # Errors
/// Names the file that cannot be read or written.
pub fn add(
    folder: impl AsRef<Path>,
    config: &Config,
    mut measurement: Measurement,
) -> Result<(), Error> {
    let folder = folder.as_ref();
    measurement.model = hashes(folder)?;
    let path = folder.join(MEASURED);
    let mut all = listed(&path)?;
    // What is of other weights has nothing to say any more.
    all.retain(|m| m.model == measurement.model && m.command != measurement.command);
    all.push(measurement);
    let text = serde_json::to_string_pretty(&all)
        .map_err(std::io::Error::from)
        .at(&path)?;
    write_text_atomically(&path, &(text + "\n")).at(&path)?;
    write(folder, config, &all)
}

/// Writes a checkpoint's card, unless somebody wrote one of their own.
///
/// # Errors
/// Names the file that cannot be written.
pub(crate) fn write(folder: &Path, config: &Config, measured: &[Measurement]) -> Result<(), Error> {
    let path = folder.join(CARD);
    match files::read_to_string(&path, LONGEST) {
        Ok(before) if !before.starts_with(MARK) => return Ok(()),
        Err(reason) if reason.kind() != ErrorKind::NotFound => {
            return Err(FileError { path, reason }.into());
        }
        _ => {}
    }
    Ok(write_text_atomically(&path, &text(config, measured)).at(&path)?)
}

fn listed(path: &Path) -> Result<Vec<Measurement>, Error> {
    match files::read_to_string(path, LONGEST) {
        Ok(text) => parsed(path, &text),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(reason) => Err(FileError {
            path: path.to_owned(),
            reason,
        }
        .into()),
    }
}

fn parsed(path: &Path, text: &str) -> Result<Vec<Measurement>, Error> {
    serde_json::from_str(text).map_err(|e| Error::Json {
        origin: path.display().to_string(),
        reason: e.to_string(),
    })
}

/// A card as Markdown.
pub fn text(config: &Config, measured: &[Measurement]) -> String {
    let mut text = format!("{MARK}\n\n# Model card\n\n| | |\n|---|---|\n");
    for (name, value) in facts(config) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "| {name} | {} |", cell(&value));
    }
    text += "\n## Measured\n\n";
    if measured.is_empty() {
        text += "Nothing yet: `mtcae evaluate --labels FILE.jsonl --checkpoint DIR --card` measures \
                 it and writes the figures here.\n";
    }
    for m in measured {
        let _ = writeln!(text, "{} ({} clips; `{}`):\n", m.on, m.clips, m.command);
        text += "| | |\n|---|---|\n";
        for figure in &m.figures {
            let _ = writeln!(text, "| {} | {} |", cell(&figure.name), figure.shown());
        }
        for figure in &m.recall {
            let _ = writeln!(
                text,
                "| recall of {} | {} |",
                cell(&figure.name),
                figure.shown()
            );
        }
        text.push('\n');
        groups(&mut text, &m.groups);
        for remark in &m.remarks {
            let _ = writeln!(text, "{remark}\n");
        }
    }
    let _ = write!(text, "\n## Use\n\n{USE}\n\n## Law\n\n{LAW}\n");
    text.replace("\n\n\n", "\n\n")
}

/// Groups as a table, a column for each figure that any of them has.
fn groups(text: &mut String, groups: &[Group]) {
    let mut names: Vec<&str> = Vec::new();
    for figure in groups.iter().flat_map(|group| &group.figures) {
        if !names.contains(&&figure.name[..]) {
            names.push(&figure.name);
        }
    }
    if names.is_empty() {
        return;
    }
    let titles: Vec<String> = names.iter().map(|name| cell(name)).collect();
    let _ = writeln!(text, "| what is shown | clips | {} |", titles.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(names.len()));
    for group in groups {
        let shown = names.iter().map(|name| {
            let figure = group.figures.iter().find(|f| f.name == *name);
            figure.map_or(String::new(), Figure::shown)
        });
        let shown: Vec<String> = shown.collect();
        let name = cell(&format!("{} {}", group.by, group.name));
        let _ = writeln!(text, "| {name} | {} | {} |", group.clips, shown.join(" | "));
    }
    text.push('\n');
}

/// Text that does not end a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// What a config says of its model.
fn facts(config: &Config) -> Vec<(&'static str, String)> {
    let input = config.encoder.input();
    let seen = &config.preprocessing;
    let structure = match config.decoder.structure {
        Structure::SingleTask => "a classifier on its tokens".to_owned(),
        structure => format!("the structure `{structure}`"),
    };
    let parameters = config.tensors().map_or(0, |all| {
        all.iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    });
    let mut says = Vec::new();
    for task in &config.decoder.tasks {
        says.push(match &task.name[..] {
            FACE_BOX => "the face box of each frame".to_owned(),
            LANDMARKS => "five landmarks of each frame".to_owned(),
            ACTION_UNITS => format!(
                "the strengths of {} action units in each frame",
                config.action_units.len()
            ),
            _ => config.classes.join(", "),
        });
    }
    let crop = match seen.crop.is_none() {
        true => format!("whole frames ({})", seen.resize),
        false => format!("a crop to the followed face ({})", seen.crop),
    };
    let mut facts = vec![
        (
            "what it is",
            format!(
                "an encoder of the family {} and {structure}; {:.1} million parameters",
                config.encoder.family(),
                parameters as f64 / 1e6
            ),
        ),
        (
            "what it sees",
            format!(
                "{} frames of {}×{} pixels ({}); {crop}",
                input.frames, input.size, input.size, seen.sampling
            ),
        ),
        ("what it says", says.join("; ")),
        ("when it says nothing", answers(config)),
        (
            "trained on",
            match &config.trained_on {
                Some(words) => words.clone(),
                None => {
                    "nothing: its weights are random, and what it says means nothing".to_owned()
                }
            },
        ),
    ];
    if let Some(calibration) = &config.calibration {
        facts.push(("probabilities fitted on", calibration.fitted_on.clone()));
    }
    facts
}

/// When a model names no class.
fn answers(config: &Config) -> String {
    let Some(answers) = &config.answers else {
        return "never: it names a class whatever it sees, also where there is no face".to_owned();
    };
    let mut reasons = vec!["no face is seen".to_owned()];
    if let Some(least) = answers.least_face_score {
        reasons.push(format!(
            "MTCNN gives the face less than {least} in every frame"
        ));
    }
    if let Some(smallest) = answers.smallest_eyes {
        reasons.push(format!("the eyes are less than {smallest} pixels apart"));
    }
    if let Some(farthest) = answers.farthest_turn {
        reasons.push(format!("the face is turned farther than {farthest}"));
    }
    if let Some(least) = answers.least_confidence {
        reasons.push(format!(
            "the likeliest class has less than {:.0} %",
            100.0 * least
        ));
    }
    reasons.join("; ")
}
