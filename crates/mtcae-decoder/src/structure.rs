//! The six structures of the paper's ablation (section IV.B.3, Fig. 1), each as a list of
//! stages. What is built, computed, packed, named and counted follows from the list.

use serde::{Deserialize, Serialize};

use crate::Error;

/// One task: its name and how many numbers its head gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Unique; at most 64 letters, digits, `_` and `-`. It names the task's tensors.
    pub name: String,
    /// Outputs of the head.
    pub outputs: usize,
}

impl Task {
    /// A task with `outputs` numbers.
    pub fn new(name: impl Into<String>, outputs: usize) -> Self {
        Self {
            name: name.into(),
            outputs,
        }
    }
}

/// One of the six structures of the paper's ablation, or the decoder of a system that the
/// paper compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Structure {
    /// 1: no decoder; mean over the tokens of F, one linear layer, for the last
    /// task alone.
    SingleTask,
    /// 2: an MLP decoder of its own for each task.
    SeparateMlp,
    /// 3: a ViT decoder of its own for each task.
    SeparateVit,
    /// 4: a shared MLP decoder, then an MLP decoder for each task.
    SharedMlp,
    /// 5: a shared ViT decoder, then a ViT decoder for each task.
    SharedVit,
    /// 6: ViT decoders in cascade; each task starts from the one before.
    Cascade,
    /// None of the six: frames, or tokens, through an LSTM.
    Lstm,
    /// None of the six: multi-task network cascades.
    Mnc,
    /// None of the six: transformer layers that tasks share, and feedback between them.
    MtlEr,
    /// None of the six: tasks that attend across one another in shifted windows.
    #[serde(rename = "mtformer")]
    MtFormer,
}

/// What the layers of a decoder are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The MLP alone.
    Mlp,
    /// Attention to F, then the MLP.
    Vit,
}

/// What a stage begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// F, by a Dense layer of the stage's own.
    Features,
    /// Y of an earlier stage, by its place in the list.
    Stage(usize),
}

/// One step of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// t of the paper, which intermediates are named by: tasks count from 1, and 0 is
    /// what they share.
    pub number: usize,
    /// What its tensors' names begin with.
    pub name: String,
    /// Its decoder; with none, its head reads F itself.
    pub decoder: Option<Kind>,
    /// What its decoder begins with.
    pub input: Input,
    /// The task that its head is of, by its place; none where only stages read it.
    pub task: Option<usize>,
}

impl Stage {
    /// Whether its layers attend to F.
    pub fn attends(&self) -> bool {
        self.decoder == Some(Kind::Vit)
    }

    /// Whether it has a Dense layer of F: to begin with, or to attend to.
    pub fn has_dense(&self) -> bool {
        self.decoder.is_some() && (self.attends() || self.input == Input::Features)
    }
}

impl Structure {
    /// All six, in the paper's order.
    pub const ALL: [Self; 6] = [
        Self::SingleTask,
        Self::SeparateMlp,
        Self::SeparateVit,
        Self::SharedMlp,
        Self::SharedVit,
        Self::Cascade,
    ];

    /// The decoders of systems that the paper compares with, which are no lists of stages.
    pub const COMPARED: [Self; 4] = [Self::Lstm, Self::Mnc, Self::MtlEr, Self::MtFormer];

    /// Whether it is one of the six.
    pub fn has_stages(self) -> bool {
        Self::ALL.contains(&self)
    }

    /// Its name in configs and on command lines: `single-task` and so on.
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleTask => "single-task",
            Self::SeparateMlp => "separate-mlp",
            Self::SeparateVit => "separate-vit",
            Self::SharedMlp => "shared-mlp",
            Self::SharedVit => "shared-vit",
            Self::Cascade => "cascade",
            Self::Lstm => "lstm",
            Self::Mnc => "mnc",
            Self::MtlEr => "mtl-er",
            Self::MtFormer => "mtformer",
        }
    }

    /// What the decoders of its stages are; none in the first, and where there are no stages.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::SingleTask | Self::Lstm | Self::Mnc | Self::MtlEr | Self::MtFormer => None,
            Self::SeparateMlp | Self::SharedMlp => Some(Kind::Mlp),
            Self::SeparateVit | Self::SharedVit | Self::Cascade => Some(Kind::Vit),
        }
    }

    /// The structure itself: its stages for these tasks, in the order in which they are
    /// computed. A stage reads stages before it alone. [`Self::COMPARED`] have none.
    pub fn stages(self, tasks: &[Task]) -> Vec<Stage> {
        let task = |(t, task): (usize, &Task), input: Input| Stage {
            number: t + 1,
            name: format!("stages.{}", task.name),
            decoder: self.kind(),
            input,
            task: Some(t),
        };
        let mut tasks = tasks.iter().enumerate();
        match self {
            Self::SingleTask => tasks
                .next_back()
                .map(|t| task(t, Input::Features))
                .into_iter()
                .collect(),
            Self::SeparateMlp | Self::SeparateVit => {
                tasks.map(|t| task(t, Input::Features)).collect()
            }
            Self::SharedMlp | Self::SharedVit => {
                let shared = Stage {
                    number: 0,
                    name: "shared".to_owned(),
                    decoder: self.kind(),
                    input: Input::Features,
                    task: None,
                };
                let own = tasks.map(|t| task(t, Input::Stage(0)));
                [shared].into_iter().chain(own).collect()
            }
            Self::Cascade => tasks
                .map(|t| match t.0 {
                    0 => task(t, Input::Features),
                    before => task(t, Input::Stage(before - 1)),
                })
                .collect(),
            Self::Lstm | Self::Mnc | Self::MtlEr | Self::MtFormer => Vec::new(),
        }
    }
}

impl std::fmt::Display for Structure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Structure {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let all = || Self::ALL.into_iter().chain(Self::COMPARED);
        all()
            .find(|s| s.name() == name)
            .ok_or_else(|| Error::Config {
                field: "structure",
                reason: format!(
                    "{name:?} is not one of {}",
                    all().map(Self::name).collect::<Vec<_>>().join(", ")
                ),
            })
    }
}
