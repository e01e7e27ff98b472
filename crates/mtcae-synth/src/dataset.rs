//! Many takes: which identity makes which expression in which file.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::expression::{Expression, Intensity};
use crate::seed::derive;
use crate::take::Take;

/// A set of clips to render.
///
/// Identities and takes are hashes of the seed, the split's name, the actor's
/// number and the place in the plan. So no face of one split is in another, and
/// more actors or takes leave those before as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Seed of everything.
    pub seed: u64,
    /// Name of the split: `train`, `test`, ….
    pub split: String,
    /// Numbers of the actors, from 1. Odd numbers have a man's proportions, even
    /// ones a woman's, as in RAVDESS.
    pub identities: Range<u32>,
    /// Takes of each expression at each intensity, 1 to 198.
    pub takes: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames a clip.
    pub frames: u32,
    /// Frames a second.
    pub fps: u32,
    /// [`Take::variation`] of all takes, in percent.
    pub variation: u32,
    /// The expressions that everybody makes.
    #[serde(default = "all")]
    pub expressions: Vec<Expression>,
    /// Whether there are as many neutral takes as of any other expression, and not a third.
    #[serde(default)]
    pub balanced: bool,
}

fn all() -> Vec<Expression> {
    Expression::ALL.to_vec()
}

impl Default for Dataset {
    /// 24 actors, one take, 256×256 pixels, 48 frames, 25 a second.
    fn default() -> Self {
        Self {
            seed: 1,
            split: "train".to_owned(),
            identities: 1..25,
            takes: 1,
            width: 256,
            height: 256,
            frames: 48,
            fps: 25,
            variation: 100,
            expressions: all(),
            balanced: false,
        }
    }
}

/// A clip of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Number of the actor.
    pub actor: u32,
    /// The file below the dataset's folder:
    /// `Actor_05/01-01-03-02-01-02-05.mp4`.
    pub file: String,
    /// What is rendered.
    pub take: Take,
}

impl Planned {
    /// The actor's name in label files: two digits, or more from 100 on.
    pub fn subject(&self) -> String {
        format!("{:02}", self.actor)
    }
}

impl Dataset {
    /// Seed of an actor's face. It is odd for odd actors.
    pub fn identity(&self, actor: u32) -> u64 {
        let seed = derive(&[
            &self.seed.to_le_bytes(),
            self.split.as_bytes(),
            b"identity",
            &actor.to_le_bytes(),
        ]);
        seed & !1 | u64::from(actor & 1)
    }

    /// All clips: by actor, then expression, intensity and take.
    ///
    /// Files are named as in RAVDESS:
    /// modality-channel-emotion-intensity-statement-repetition-actor. It differs
    /// in this: intensity goes from 01 to 03 (half, three quarters, full), the
    /// actor has three digits from 100 on, and the statement (01, 02) only counts
    /// takes, as the repetition does: nobody speaks. The modality is always 01,
    /// the channel 01.
    ///
    /// # Errors
    /// [`Error::Setting`] names the field that is out of range.
    pub fn plan(&self) -> Result<Vec<Planned>> {
        let fault = |field, got: String, want| Err(Error::Setting { field, got, want });
        let Range { start, end } = self.identities;
        if start < 1 || end > 1_000_000 || start >= end {
            return fault(
                "identities",
                format!("{start}..{end}"),
                "a range of at least one number, from 1 to 999999",
            );
        }
        let most = if self.balanced { 66 } else { 198 };
        if !(1..=most).contains(&self.takes) {
            let want = if self.balanced { "1 to 66" } else { "1 to 198" };
            return fault("takes", self.takes.to_string(), want);
        }
        if self.expressions.is_empty() {
            return fault("expressions", "empty".to_owned(), "at least one");
        }
        if self.split.is_empty() {
            return fault("split", "empty".to_owned(), "a name");
        }
        let mut plan = Vec::new();
        for actor in self.identities.clone() {
            for &expression in &self.expressions {
                let levels = expression.intensities();
                let more = if self.balanced {
                    Intensity::ALL.len() / levels.len()
                } else {
                    1
                };
                for &intensity in levels {
                    for number in 0..self.takes * more as u32 {
                        let planned = self.clip(actor, expression, intensity, number);
                        planned.take.check()?;
                        plan.push(planned);
                    }
                }
            }
        }
        Ok(plan)
    }

    fn clip(
        &self,
        actor: u32,
        expression: Expression,
        intensity: Intensity,
        number: u32,
    ) -> Planned {
        let seed = derive(&[
            &self.seed.to_le_bytes(),
            self.split.as_bytes(),
            b"take",
            &actor.to_le_bytes(),
            &[expression.code(), intensity.code()],
            &number.to_le_bytes(),
        ]);
        let (statement, repetition) = (1 + number % 2, 1 + number / 2);
        Planned {
            actor,
            file: format!(
                "Actor_{actor:02}/01-01-{:02}-{:02}-{statement:02}-{repetition:02}-{actor:02}.mp4",
                expression.code(),
                intensity.code(),
            ),
            take: Take {
                identity: self.identity(actor),
                expression,
                intensity,
                seed,
                width: self.width,
                height: self.height,
                frames: self.frames,
                fps: self.fps,
                variation: self.variation,
            },
        }
    }
}
