//! MTL-ER (Zhang et al., 2022, arXiv 2207.09373), after the formulas of its paper: features
//! of each frame, transformer layers that all tasks share, then layers of each task, and
//! what the other tasks have found handed to the last, which sends them no gradient.

use std::sync::Arc;

use candle_core::{Device, Module, Result as CandleResult, Tensor};
use mtcae_nn::{Dropout, EncoderLayer, Linear, Pass, VarBuilder, linear, sin_cos_table};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::whole::{Answers, System, Whole, bounded, of_clip, rate, whole_heads, wide};
use crate::{Config, Error, Outputs, Structure, Task};

/// What is this decoder's own. Of a [`Config`] `width` is that of the sequence, `depth` the
/// number of layers from it to a head, `heads` and `head_dim` those of the shared layers
/// and `mlp_ratio` the hidden channels of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many of the layers each task has for itself.
    pub own: usize,
    /// Whether what the other tasks have found goes to the last, without a gradient.
    pub feedback: bool,
    /// Whether sin-cos positions are added, before the shared layers and before those of a
    /// task.
    pub positions: bool,
    /// Dropout of every branch and in the heads.
    pub dropout: f64,
    /// Channels of the two layers of a head; the second are what a task hands on.
    pub head: [usize; 2],
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            own: 3,
            feedback: true,
            positions: true,
            dropout: 0.3,
            head: [512, 256],
        }
    }
}

pub(crate) const SYSTEM: System = System {
    structure: Structure::MtlEr,
    suit: |cfg| {
        (cfg.width, cfg.depth, cfg.heads, cfg.head_dim) = (512, 4, 8, 64);
        cfg.eps = 1e-5;
        cfg.mtl_er = Some(Settings::default());
    },
    validate,
    flops: |cfg, layout| {
        let s = settings(cfg);
        let t = layout.slices as f64;
        let layer = |width: usize| {
            let w = width as f64;
            2.0 * t * w * (4.0 * w + 2.0 * cfg.hidden() as f64) + 4.0 * t * t * w
        };
        let task = |(i, task): (usize, &Task)| {
            let width = width_of(cfg, &s, i);
            let [a, b] = s.head.map(|n| n as f64);
            let outputs = match layout.each(task) {
                Ok(Some(each)) => each,
                _ => task.outputs,
            };
            s.own as f64 * layer(width) + 2.0 * t * (width as f64 * a + a * b + b * outputs as f64)
        };
        let shared = cfg.depth.saturating_sub(s.own) as f64 * layer(cfg.width);
        let tasks: f64 = cfg.tasks.iter().enumerate().map(task).sum();
        2.0 * t * (cfg.features * cfg.width) as f64 + shared + tasks
    },
    build: |cfg, layout, vb| Ok(Arc::new(Decoder::new(cfg, *layout, vb)?)),
};

fn validate(cfg: &Config, layout: &Layout) -> Result<(), Error> {
    whole_heads(cfg)?;
    let s = settings(cfg);
    let fault = |field, reason| Err(Error::Config { field, reason });
    if !(1..=cfg.depth).contains(&s.own) {
        let (own, depth) = (s.own, cfg.depth);
        return fault(
            "mtl_er.own",
            format!("is {own}; of {depth} layers it must be 1 to {depth}"),
        );
    }
    rate("mtl_er.dropout", s.dropout)?;
    if s.head.iter().any(|n| !(1..=1 << 14).contains(n)) {
        return fault(
            "mtl_er.head",
            format!("is {:?}; both must be 1 to {}", s.head, 1 << 14),
        );
    }
    let width = width_of(cfg, &s, cfg.tasks.len() - 1);
    if !width.is_multiple_of(cfg.head_dim) {
        return fault(
            "mtl_er.head",
            format!(
                "with what the other tasks hand on the last is {width} wide, which is no whole \
                 number of heads of {} channels",
                cfg.head_dim
            ),
        );
    }
    let layers = cfg.depth * cfg.tasks.len();
    let (attention, hidden) = ([4 * width, width], [2 * cfg.hidden(), width]);
    let heads = [([width + s.head[1], s.head[0]], cfg.tasks.len())];
    bounded("width", &[(attention, layers), (hidden, layers)])?;
    bounded("mtl_er.head", &heads)?;
    of_clip("width", &[layout.slices, (3 * width).max(cfg.hidden())])?;
    cfg.tasks.iter().try_for_each(|t| layout.each(t).map(drop))
}

fn settings(cfg: &Config) -> Settings {
    cfg.mtl_er.clone().unwrap_or_default()
}

/// Channels of a task's own layers.
fn width_of(cfg: &Config, settings: &Settings, task: usize) -> usize {
    let others = cfg.tasks.len() - 1;
    match settings.feedback && task == others {
        true => cfg.width + others * settings.head[1],
        false => cfg.width,
    }
}

/// Layers over a sequence, and the positions that are added before them.
#[derive(Debug)]
struct Layers {
    positions: Option<Tensor>,
    layers: Vec<EncoderLayer>,
}

impl Layers {
    /// `layers.{l}` below `vb`.
    fn new(
        cfg: &Config,
        steps: usize,
        width: usize,
        depth: usize,
        vb: &VarBuilder<'_>,
    ) -> CandleResult<Self> {
        let s = settings(cfg);
        let heads = width / cfg.head_dim;
        let layer = |l: usize| {
            let vb = vb.pp("layers").pp(l);
            EncoderLayer::new(width, heads, cfg.hidden(), cfg.eps, s.dropout, vb)
        };
        let positions = match s.positions {
            true => Some(positions(steps, width, vb.device())?),
            false => None,
        };
        Ok(Self {
            positions,
            layers: (0..depth).map(layer).collect::<CandleResult<_>>()?,
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass) -> CandleResult<Tensor> {
        let mut x = match &self.positions {
            Some(positions) => x.broadcast_add(&positions.to_dtype(x.dtype())?)?,
            None => x.clone(),
        };
        for layer in &self.layers {
            x = layer.forward(&x, pass)?;
        }
        Ok(x)
    }
}

/// The sin-cos table, whose first row is 0.
fn positions(steps: usize, width: usize, device: &Device) -> CandleResult<Tensor> {
    let table = sin_cos_table(steps, width, device)?;
    let first = table.narrow(0, 0, 1)?.zeros_like()?;
    match steps {
        1 => Ok(first),
        _ => Tensor::cat(&[first, table.narrow(0, 1, steps - 1)?], 0),
    }
}

/// A task's layers and its head.
#[derive(Debug)]
struct Branch {
    task: Task,
    /// Whether it has outputs for each slice; of the whole clip they are averaged.
    of_frames: bool,
    layers: Layers,
    fc1: Linear,
    fc2: Linear,
    out: Linear,
}

#[derive(Debug)]
struct Decoder {
    layout: Layout,
    affine: Linear,
    shared: Layers,
    branches: Vec<Branch>,
    feedback: bool,
    dropout: Dropout,
}

impl Decoder {
    /// `affine` (w, D), `shared.layers.{l}`, `tasks.{task}.layers.{l}` and
    /// `heads.{task}.{fc1, fc2, fc}` below `vb`.
    fn new(cfg: &Config, layout: Layout, vb: VarBuilder<'_>) -> CandleResult<Self> {
        let s = settings(cfg);
        let steps = layout.slices;
        let shared = cfg.depth.saturating_sub(s.own);
        let branch = |(i, task): (usize, &Task)| {
            let each = layout.each(task).map_err(candle_core::Error::wrap)?;
            let width = width_of(cfg, &s, i);
            let own = vb.pp("tasks").pp(&task.name);
            let head = vb.pp("heads").pp(&task.name);
            let [a, b] = s.head;
            Ok(Branch {
                of_frames: each.is_some(),
                layers: Layers::new(cfg, steps, width, s.own, &own)?,
                fc1: linear(width, a, head.pp("fc1"))?,
                fc2: linear(a, b, head.pp("fc2"))?,
                out: linear(b, each.unwrap_or(task.outputs), head.pp("fc"))?,
                task: task.clone(),
            })
        };
        let branches = cfg.tasks.iter().enumerate().map(branch);
        Ok(Self {
            layout,
            affine: linear(cfg.features, cfg.width, vb.pp("affine"))?,
            shared: Layers::new(cfg, steps, cfg.width, shared, &vb.pp("shared"))?,
            branches: branches.collect::<CandleResult<_>>()?,
            feedback: s.feedback,
            dropout: Dropout::new(s.dropout)?,
        })
    }
}

impl Whole for Decoder {
    fn run(&self, f: &Tensor, pass: &mut Pass) -> CandleResult<Outputs> {
        let batch = f.dim(0)?;
        let x = self.affine.forward(&self.layout.means(&wide(f)?)?)?;
        let x = self.shared.forward(&x, pass)?;
        let mut found: Vec<Tensor> = Vec::with_capacity(self.branches.len());
        let mut answers = Answers::default();
        for (i, branch) in self.branches.iter().enumerate() {
            let y = match self.feedback && i + 1 == self.branches.len() {
                true => {
                    let before = found.iter().map(Tensor::detach);
                    Tensor::cat(&[vec![x.clone()], before.collect()].concat(), 2)?
                }
                false => x.clone(),
            };
            let y = branch.layers.forward(&y, pass)?;
            let y = branch
                .fc1
                .forward(&self.dropout.forward(&y, pass)?)?
                .relu()?;
            let y = branch
                .fc2
                .forward(&self.dropout.forward(&y, pass)?)?
                .relu()?;
            let head = branch.out.forward(&self.dropout.forward(&y, pass)?)?;
            let head = match branch.of_frames {
                true => head.reshape((batch, branch.task.outputs))?,
                false => head.mean(1)?,
            };
            answers.add(&branch.task.name, &y, head, pass);
            found.push(y);
        }
        Ok(answers.outputs())
    }
}
