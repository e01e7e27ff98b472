//! Everything needed to rebuild a model: the `config.json` of a checkpoint.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use mtcae_core::{Crop, ParseError, Resize, Sampling};
use mtcae_decoder::{Config as DecoderConfig, Structure, Task};
use mtcae_encoder::{Config as EncoderConfig, Families};
use mtcae_nn::weights::{asked_for, shown};

use crate::{Answers, Calibration, Error, TrainedSubjects};

/// Name of the face-box task: frames × (x1, y1, x2, y2).
pub const FACE_BOX: &str = mtcae_decoder::FACE_BOX;
/// Name of the landmark task: frames × 5 × (x, y); left eye, right eye, nose,
/// left and right corner of the mouth, left being the viewer's left.
pub const LANDMARKS: &str = mtcae_decoder::LANDMARKS;
/// Name of the task of action units, which the paper does not have: frames × a strength a
/// unit, from 0 at rest to 1 at the full strength.
pub const ACTION_UNITS: &str = mtcae_decoder::ACTION_UNITS;
/// Name of the expression task: one logit a class.
pub const EXPRESSION: &str = "expression";

/// The value of `format` in every config of ours.
const FORMAT: &str = "mtcae-dfer";
/// The version of the format that this crate writes. It reads version 1 too, whose
/// encoders are VideoMAE's and do not say so.
const VERSION: u32 = 2;

/// Everything needed to rebuild a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// `mtcae-dfer`.
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// What the weights were trained on, in the writer's words; `null` says that
    /// they were not trained at all.
    pub trained_on: Option<String>,
    /// Whom they were trained on; `None` where nobody wrote it down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_subjects: Option<TrainedSubjects>,
    /// How a video becomes the encoder's input.
    pub preprocessing: Preprocessing,
    /// When its answers are to be believed; `None`: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
    /// The encoder, of whatever family.
    pub encoder: EncoderConfig,
    /// The decoder and its tasks.
    pub decoder: DecoderConfig,
    /// Names of the expression's classes, in the order of the logits; no two are alike.
    pub classes: Vec<String>,
    /// Names of the action units, in the order of their head's outputs; none without
    /// such a task.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub action_units: Vec<String>,
    /// How logits become probabilities; `None`: by softmax as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// [`Config`] as it is read, before the encoder's family is known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    version: u32,
    trained_on: Option<String>,
    #[serde(default)]
    trained_subjects: Option<TrainedSubjects>,
    preprocessing: Preprocessing,
    #[serde(default)]
    answers: Option<Answers>,
    encoder: Map<String, Value>,
    decoder: DecoderConfig,
    classes: Vec<String>,
    #[serde(default)]
    action_units: Vec<String>,
    #[serde(default)]
    calibration: Option<Calibration>,
}

/// How a video becomes the encoder's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Which frames; not [`Sampling::All`].
    #[serde(deserialize_with = "sampling")]
    pub sampling: Sampling,
    /// How a frame becomes a square.
    #[serde(deserialize_with = "resize")]
    pub resize: Resize,
    /// Subtracted from the RGB channels after division by 255.
    pub mean: [f32; 3],
    /// What the result is divided by.
    pub std: [f32; 3],
    /// What part of a frame is seen, before it becomes a square. Configs of before have
    /// `face_crop`: true is [`Crop::face`].
    #[serde(
        default,
        alias = "face_crop",
        deserialize_with = "crop",
        skip_serializing_if = "Crop::is_none"
    )]
    pub crop: Crop,
}

const SAMPLING: &str = "preprocessing.sampling";

fn sampling<'de, D: Deserializer<'de>>(from: D) -> Result<Sampling, D::Error> {
    named(SAMPLING, from)
}

fn resize<'de, D: Deserializer<'de>>(from: D) -> Result<Resize, D::Error> {
    named("preprocessing.resize", from)
}

fn crop<'de, D: Deserializer<'de>>(from: D) -> Result<Crop, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Before(bool),
        Name(String),
    }
    let fault = |e| serde::de::Error::custom(format_args!("preprocessing.crop: {e}"));
    match Written::deserialize(from)? {
        Written::Before(true) => Ok(Crop::face()),
        Written::Before(false) => Ok(Crop::None),
        Written::Name(name) => name.parse().map_err(fault),
    }
}

/// A value by its name. What is said of a name that there is not begins with the field.
fn named<'de, T, D>(field: &str, from: D) -> Result<T, D::Error>
where
    T: FromStr<Err = ParseError>,
    D: Deserializer<'de>,
{
    let name = String::deserialize(from)?;
    let fault = |e| serde::de::Error::custom(format_args!("{field}: {e}"));
    name.parse().map_err(fault)
}

impl Written {
    /// Checks that the file is of a format that this crate reads.
    fn check(&self) -> Result<(), Error> {
        let fault = |field, reason| Err(Error::Config { field, reason });
        if self.format != FORMAT {
            return fault("format", format!("is {:?}, not {FORMAT:?}", self.format));
        }
        if !(1..=VERSION).contains(&self.version) {
            let version = self.version;
            return fault(
                "version",
                format!("is {version}; this program reads versions 1 to {VERSION}"),
            );
        }
        let tagged = self.encoder.contains_key("family");
        if tagged != (self.version > 1) {
            let reason = match tagged {
                true => "is not known in version 1, whose encoders are VideoMAE's",
                false => "missing; should be the name of the encoder's family",
            };
            return fault("encoder.family", reason.to_owned());
        }
        Ok(())
    }
}

impl Default for Preprocessing {
    /// The paper's: 16 frames evenly over the clip, the whole frame squashed to a
    /// square; ImageNet's mean and deviation, as VideoMAE was trained with.
    fn default() -> Self {
        Self {
            sampling: Sampling::Uniform,
            resize: Resize::Squash,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            crop: Crop::None,
        }
    }
}

impl Preprocessing {
    /// Checks every field.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub fn validate(&self) -> Result<(), Error> {
        if self.sampling == Sampling::All {
            return Err(Error::Config {
                field: SAMPLING,
                reason: "`all` gives as many frames as a video has, and a model takes a fixed \
                         number"
                    .to_owned(),
            });
        }
        let mut statistics = self.mean.iter().chain(&self.std);
        if !statistics.all(|v| v.is_finite()) || self.std.iter().any(|s| *s <= 0.0) {
            return Err(Error::Config {
                field: "preprocessing",
                reason: "mean must be finite and std positive".to_owned(),
            });
        }
        Ok(())
    }
}

impl Config {
    /// Reads and checks the text of a `config.json`, whose encoder is of one of
    /// `families`. `origin` says where the text is from in messages.
    ///
    /// # Errors
    /// Names the field at fault.
    pub fn parse(text: &str, families: &Families, origin: &str) -> Result<Self, Error> {
        let written: Written = serde_json::from_str(text).map_err(|e| Error::Json {
            origin: origin.to_owned(),
            reason: shown(&e.to_string()),
        })?;
        written.check()?;
        let config = Self {
            format: written.format,
            version: VERSION,
            trained_on: written.trained_on,
            trained_subjects: written.trained_subjects,
            preprocessing: written.preprocessing,
            answers: written.answers,
            encoder: families.read(written.encoder, origin)?,
            decoder: written.decoder,
            classes: written.classes,
            action_units: written.action_units,
            calibration: written.calibration,
        };
        config.validate()?;
        Ok(config)
    }

    /// An untrained model of the paper's three tasks over an encoder.
    pub fn new(
        encoder: impl Into<EncoderConfig>,
        structure: Structure,
        classes: Vec<String>,
    ) -> Self {
        let encoder = encoder.into();
        let (frames, output) = (encoder.input().frames, encoder.output());
        let tasks = vec![
            Task::new(FACE_BOX, frames * 4),
            Task::new(LANDMARKS, frames * 10),
            Task::new(EXPRESSION, classes.len()),
        ];
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            trained_on: None,
            trained_subjects: None,
            preprocessing: Preprocessing::default(),
            answers: None,
            decoder: DecoderConfig::suited(structure, output.width, output.grid, tasks),
            encoder,
            classes,
            action_units: Vec::new(),
            calibration: None,
        }
    }

    /// The same with a task for action units of these names, right before the expression,
    /// whose decoder then begins with what theirs has found.
    #[must_use]
    pub fn with_action_units(mut self, names: Vec<String>) -> Self {
        let frames = self.encoder.input().frames;
        let tasks = &mut self.decoder.tasks;
        tasks.retain(|task| task.name != ACTION_UNITS);
        if !names.is_empty() {
            let before = tasks.len().saturating_sub(1);
            tasks.insert(before, Task::new(ACTION_UNITS, frames * names.len()));
        }
        self.action_units = names;
        self
    }

    /// Names and shapes of all tensors.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub fn tensors(&self) -> Result<Vec<(String, Vec<usize>)>, Error> {
        self.encoder.check()?;
        let asked = asked_for(|vb| self.encoder.build(vb))?;
        let listed = self.encoder.tensors();
        let known: BTreeSet<&(String, Vec<usize>)> = listed.iter().collect();
        if let Some((name, _)) = asked.iter().find(|tensor| !known.contains(tensor)) {
            return Err(Error::Config {
                field: "encoder",
                reason: format!(
                    "the family {} builds of {name}, which its groups do not list",
                    self.encoder.family()
                ),
            });
        }
        let below = |part: &'static str| {
            move |(name, shape): (String, Vec<usize>)| (format!("{part}.{name}"), shape)
        };
        let encoder = listed.into_iter().map(below("encoder"));
        let decoder = self.decoder.tensors()?.into_iter().map(below("decoder"));
        Ok(encoder.chain(decoder).collect())
    }

    /// Takes out what was measured on what the model answers, and does not hold once its
    /// weights are others: the calibration, and the confidence that it asks for. Names the
    /// fields that there were.
    pub fn take_measured(&mut self) -> Vec<&'static str> {
        let mut taken = Vec::new();
        if self.calibration.take().is_some() {
            taken.push("calibration");
        }
        let answers = self.answers.as_mut();
        if answers.and_then(|a| a.least_confidence.take()).is_some() {
            taken.push("answers.least_confidence");
        }
        taken
    }

    /// Bytes of activations that one clip of inference takes at its peak, with
    /// `element` bytes a number: those of the encoder.
    pub fn activation_bytes(&self, element: usize) -> usize {
        self.encoder.activations() * element
    }

    /// Checks every field and that the parts fit together.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub fn validate(&self) -> Result<(), Error> {
        let fault = |field, reason| Err(Error::Config { field, reason });
        if (self.format.as_str(), self.version) != (FORMAT, VERSION) {
            let (format, version) = (&self.format, self.version);
            return fault(
                "format",
                format!("is {format:?} {version}; what is written is {FORMAT:?} {VERSION}"),
            );
        }
        self.encoder.check()?;
        let channels = self.encoder.input().channels;
        if channels != 3 {
            return fault("encoder.channels", format!("is {channels}; videos have 3"));
        }
        let (structure, grid) = (self.decoder.structure, self.encoder.output().grid);
        if !structure.has_stages() && grid.is_none() {
            let family = self.encoder.family();
            return fault(
                "decoder.structure",
                format!(
                    "{structure} needs tokens that lie in a grid (t, h, w), and those of this \
                     {family} encoder have no place in one"
                ),
            );
        }
        self.decoder.validate()?;
        if let (Some(found), Some(grid)) = (self.decoder.grid, grid)
            && found != grid
        {
            return fault(
                "decoder.grid",
                format!("is {found:?}, but the encoder's tokens lie in {grid:?}"),
            );
        }
        let (features, width) = (self.decoder.features, self.encoder.output().width);
        if features != width {
            return fault(
                "decoder.features",
                format!("is {features}, but the encoder's width is {width}"),
            );
        }
        let frames = self.encoder.input().frames;
        for task in &self.decoder.tasks {
            let (outputs, why) = match task.name.as_str() {
                FACE_BOX => (frames * 4, "frames × 4"),
                LANDMARKS => (frames * 10, "frames × 10"),
                ACTION_UNITS => (frames * self.action_units.len(), "frames × action_units"),
                EXPRESSION => (self.classes.len(), "one a class"),
                other => {
                    let known = [FACE_BOX, LANDMARKS, ACTION_UNITS, EXPRESSION].join(", ");
                    return fault("decoder.tasks", format!("{other} is not one of {known}"));
                }
            };
            if task.outputs != outputs {
                return fault(
                    "decoder.tasks",
                    format!(
                        "{} has {} outputs, not {outputs} ({why})",
                        task.name, task.outputs
                    ),
                );
            }
        }
        match self.decoder.tasks.last() {
            Some(task) if task.name == EXPRESSION => {}
            _ => {
                return fault(
                    "decoder.tasks",
                    format!("the last task must be {EXPRESSION}"),
                );
            }
        }
        for (field, names) in [
            ("classes", &self.classes),
            ("action_units", &self.action_units),
        ] {
            let mut seen = BTreeSet::new();
            for name in names {
                if name.trim().is_empty() {
                    return fault(field, "a name is empty".to_owned());
                }
                if !seen.insert(name) {
                    return fault(field, format!("{name:?} is listed twice"));
                }
            }
        }
        let has_units = |task: &Task| task.name == ACTION_UNITS;
        if !self.action_units.is_empty() && !self.decoder.tasks.iter().any(has_units) {
            return fault(
                "action_units",
                format!("are named, but decoder.tasks has no {ACTION_UNITS}"),
            );
        }
        if let Some(calibration) = &self.calibration {
            calibration.validate(self.classes.len())?;
        }
        if let Some(subjects) = &self.trained_subjects {
            subjects.validate()?;
        }
        if let Some(answers) = &self.answers {
            answers.validate()?;
        }
        self.preprocessing.validate()
    }
}
