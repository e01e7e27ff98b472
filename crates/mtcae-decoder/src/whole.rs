//! The seam for decoders that are no lists of stages: those of the systems that the paper
//! compares with. Each has a folder with its settings, its checks, its cost and itself.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{DType, Result as CandleResult, Tensor};
use mtcae_nn::{Pass, VarBuilder};

use crate::config::{MOST_NUMBERS, MOST_TOGETHER};
use crate::layout::Layout;
use crate::{Config, Error, Outputs, Structure, lstm, mnc, mtformer, mtl_er};

/// A decoder of one of these systems.
pub(crate) trait Whole: Debug + Send + Sync {
    /// Head outputs of F (B, N, D), whose tokens are those of the config's grid.
    fn run(&self, f: &Tensor, pass: &mut Pass) -> CandleResult<Outputs>;
}

/// What each of them is.
pub(crate) struct System {
    pub structure: Structure,
    /// The suited sizes, over features and tasks of any kind.
    pub suit: fn(&mut Config),
    /// Checks what is its own; the rest is checked.
    pub validate: fn(&Config, &Layout) -> Result<(), Error>,
    /// Floating-point operations of a clip, as [`Config::flops`] counts them.
    pub flops: fn(&Config, &Layout) -> f64,
    /// The decoder of the tensors below a name.
    pub build: fn(&Config, &Layout, VarBuilder<'_>) -> CandleResult<Arc<dyn Whole>>,
}

const SYSTEMS: [System; 4] = [lstm::SYSTEM, mnc::SYSTEM, mtl_er::SYSTEM, mtformer::SYSTEM];

/// What a structure is, where it is no list of stages.
pub(crate) fn system(structure: Structure) -> Option<&'static System> {
    const { &SYSTEMS }.iter().find(|s| s.structure == structure)
}

/// Collects what the heads give.
#[derive(Default)]
pub(crate) struct Answers(Outputs);

impl Answers {
    /// Of the next task: local features (B, ·, w), and its head's outputs (B, outputs).
    pub fn add(&mut self, task: &str, features: &Tensor, head: Tensor, pass: &mut Pass) {
        let Outputs {
            tasks,
            features: all,
            heads,
        } = &mut self.0;
        pass.record(|| format!("Y{}", tasks.len() + 1), features);
        pass.record(|| format!("head.{task}"), &head);
        tasks.push(task.to_owned());
        all.push(features.clone());
        heads.push(head);
    }

    pub fn outputs(self) -> Outputs {
        self.0
    }
}

/// Rows of few numbers, in `f32` where they are narrower: means over a thousand tokens,
/// states that go through many steps and coordinates have more than eight bits.
pub(crate) fn wide(x: &Tensor) -> CandleResult<Tensor> {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.to_dtype(DType::F32),
        _ => Ok(x.clone()),
    }
}

/// Bounds weights before memory is had for them: each (rows, columns), and how often there
/// is one like it.
pub(crate) fn bounded(field: &'static str, weights: &[([usize; 2], usize)]) -> Result<(), Error> {
    let fault = |reason| Err(Error::Config { field, reason });
    let mut together: u64 = 0;
    for ([rows, columns], count) in weights {
        let numbers = (*rows as u64).saturating_mul(*columns as u64);
        if numbers > MOST_NUMBERS {
            return fault(format!(
                "a weight of {numbers} numbers, more than {MOST_NUMBERS}"
            ));
        }
        together = together.saturating_add(numbers.saturating_mul(*count as u64));
    }
    match together > MOST_TOGETHER {
        true => fault(format!(
            "weights of {together} numbers, more than {MOST_TOGETHER} together"
        )),
        false => Ok(()),
    }
}

/// Bounds what one clip's forward holds at once: the product of these.
pub(crate) fn of_clip(field: &'static str, sides: &[usize]) -> Result<(), Error> {
    let numbers = sides.iter().fold(1u64, |n, s| n.saturating_mul(*s as u64));
    match numbers > MOST_NUMBERS {
        true => Err(Error::Config {
            field,
            reason: format!(
                "one clip would take {numbers} numbers at once, more than {MOST_NUMBERS}"
            ),
        }),
        false => Ok(()),
    }
}

/// A rate of dropout.
pub(crate) fn rate(field: &'static str, rate: f64) -> Result<(), Error> {
    match (0.0..1.0).contains(&rate) {
        true => Ok(()),
        false => Err(Error::Config {
            field,
            reason: format!("must be in [0, 1), not {rate}"),
        }),
    }
}

/// Fields that a decoder without attention does not read.
pub(crate) fn no_attention(cfg: &Config) -> Result<(), Error> {
    for (field, value) in [("heads", cfg.heads), ("head_dim", cfg.head_dim)] {
        if value != 1 {
            return Err(Error::Config {
                field,
                reason: format!("must be 1, not {value}: {} has no attention", cfg.structure),
            });
        }
    }
    Ok(())
}

/// Heads of attention that make up the width.
pub(crate) fn whole_heads(cfg: &Config) -> Result<(), Error> {
    let (heads, head_dim, width) = (cfg.heads, cfg.head_dim, cfg.width);
    match heads * head_dim == width {
        true => Ok(()),
        false => Err(Error::Config {
            field: "heads",
            reason: format!("{heads} of {head_dim} channels must make up the width {width}"),
        }),
    }
}
