//! MTFormer (Xu et al., 2022) over the tokens of a clip, after the formulas of its paper:
//! transformer blocks in shifted windows that all tasks share, blocks of each task, and then
//! cross blocks in which each task's features are read by what the others attend to.

mod block;

use std::sync::Arc;

use candle_core::{Module, Result as CandleResult, Tensor};
use mtcae_nn::{LayerNorm, Linear, Pass, VarBuilder, WindowGrid, linear};
use serde::{Deserialize, Serialize};

use self::block::{CrossBlock, SwinBlock};
use crate::layout::Layout;
use crate::whole::{Answers, System, Whole, bounded, of_clip, whole_heads, wide};
use crate::{Config, Error, Outputs, Structure, Task};

/// What is this decoder's own. Of a [`Config`] `width`, `heads`, `head_dim` and `mlp_ratio`
/// are those of every block, and `depth` the number of blocks of each of the three parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Tokens of a window along t, h and w, each a divisor of the grid's. Left out, the
    /// largest up to 8, 7 and 7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<[usize; 3]>,
}

pub(crate) const SYSTEM: System = System {
    structure: Structure::MtFormer,
    suit: |cfg| {
        (cfg.width, cfg.depth, cfg.heads, cfg.head_dim) = (256, 2, 4, 64);
        cfg.eps = 1e-5;
        let window = Layout::of(cfg).ok().map(|layout| window(cfg, &layout));
        cfg.mtformer = Some(Settings { window });
    },
    validate: |cfg, layout| {
        whole_heads(cfg)?;
        let (w, blocks) = (cfg.width, cfg.depth * (2 * cfg.tasks.len() + 1));
        let mixing = block::mixing(w, cfg.tasks.len()).map(|[a, b, c]| ([a + c, b], blocks));
        bounded(
            "width",
            &[([4 * w, w], blocks), ([2 * cfg.hidden(), w], blocks)],
        )?;
        bounded("width", &mixing)?;
        let widest = (3 * w).max(cfg.hidden()).max(w * cfg.tasks.len());
        of_clip("width", &[layout.tokens(), widest])?;
        let window = window(cfg, layout);
        let grid = sides(layout);
        match (0..3).all(|a| window[a] > 0 && grid[a].is_multiple_of(window[a])) {
            true if window.iter().product::<usize>() <= MOST => {
                let tokens = window.iter().product();
                of_clip("mtformer.window", &[cfg.heads, tokens, tokens])
            }
            _ => Err(Error::Config {
                field: "mtformer.window",
                reason: format!(
                    "is {window:?}; each side must divide that of the grid {grid:?}, and a window \
                     have at most {MOST} tokens"
                ),
            }),
        }
    },
    flops,
    build: |cfg, layout, vb| Ok(Arc::new(Decoder::new(cfg, layout, vb)?)),
};

/// Tokens of a window: every pair of them has a bias.
const MOST: usize = 1 << 11;

fn sides(layout: &Layout) -> [usize; 3] {
    [layout.slices, layout.height, layout.width]
}

/// The window of a config, or the one that suits the grid.
fn window(cfg: &Config, layout: &Layout) -> [usize; 3] {
    let grid = sides(layout);
    let given = cfg.mtformer.as_ref().and_then(|s| s.window);
    given.unwrap_or_else(|| {
        std::array::from_fn(|a| {
            let most = [8, 7, 7][a];
            let divisor = (1..=most).rev().find(|w| grid[a].is_multiple_of(*w));
            divisor.unwrap_or(1)
        })
    })
}

/// Numbers that the shared parts of blocks multiply.
fn flops(cfg: &Config, layout: &Layout) -> f64 {
    let (n, c) = (layout.tokens() as f64, cfg.width as f64);
    let tasks = cfg.tasks.len() as f64;
    let length = window(cfg, layout).iter().product::<usize>() as f64;
    let within = 4.0 * n * length * c;
    let mlp = 4.0 * n * c * cfg.hidden() as f64;
    let swin = 8.0 * n * c * c + within + mlp;
    // Queries and keys, attention and projection for each task; one's values.
    let attention = tasks * (6.0 * n * c * c + within) + 2.0 * n * c * c;
    let [own, each, mixed] = block::mixing(cfg.width, cfg.tasks.len());
    let between = |sizes: [usize; 3]| {
        let [a, b, c] = sizes.map(|s| s as f64);
        2.0 * n * (a * b + b * c)
    };
    let cross = attention + between(own) + (tasks - 1.0) * between(each) + between(mixed) + mlp;
    let outputs: usize = cfg.tasks.iter().map(|t| t.outputs).sum();
    2.0 * n * cfg.features as f64 * c
        + cfg.depth as f64 * (swin + tasks * (swin + cross))
        + 2.0 * c * (tasks * c + outputs as f64)
}

/// Blocks, and the norm after them.
#[derive(Debug)]
struct Part<B> {
    blocks: Vec<B>,
    norm: LayerNorm,
}

/// The window's grid, as it is and shifted, and the sizes.
struct Builder<'a> {
    cfg: &'a Config,
    grids: [WindowGrid; 2],
}

impl Builder<'_> {
    /// `layers.{l}` and `norm` below `vb`; every second block shifts its windows.
    fn part<B>(
        &self,
        vb: &VarBuilder<'_>,
        block: impl Fn(&Config, &WindowGrid, VarBuilder<'_>) -> CandleResult<B>,
    ) -> CandleResult<Part<B>> {
        let cfg = self.cfg;
        let block = |l: usize| block(cfg, &self.grids[l % 2], vb.pp("layers").pp(l));
        Ok(Part {
            blocks: (0..cfg.depth).map(block).collect::<CandleResult<_>>()?,
            norm: LayerNorm::new(cfg.width, cfg.eps, vb.pp("norm"))?,
        })
    }
}

impl Part<SwinBlock> {
    fn forward(&self, x: &Tensor, pass: &mut Pass) -> CandleResult<Tensor> {
        let mut x = x.clone();
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        self.norm.forward(&x)
    }
}

/// What one task has for itself.
#[derive(Debug)]
struct Branch {
    task: Task,
    own: Part<SwinBlock>,
    cross: Part<CrossBlock>,
    fc1: Linear,
    norm: LayerNorm,
    out: Linear,
}

#[derive(Debug)]
struct Decoder {
    norm: LayerNorm,
    project: Linear,
    shared: Part<SwinBlock>,
    branches: Vec<Branch>,
}

impl Decoder {
    /// `norm` (D), `project` (w, D), `shared`, `own.{task}` and `cross.{task}`, each with
    /// `layers.{l}` and `norm`, and `heads.{task}.{fc1, norm, fc}` below `vb`.
    fn new(cfg: &Config, layout: &Layout, vb: VarBuilder<'_>) -> CandleResult<Self> {
        let (grid, window) = (sides(layout), window(cfg, layout));
        let builder = Builder {
            cfg,
            grids: [
                WindowGrid::new(grid, window, [0; 3])?,
                WindowGrid::new(grid, window, WindowGrid::half(grid, window))?,
            ],
        };
        let w = cfg.width;
        let branch = |task: &Task| {
            let head = vb.pp("heads").pp(&task.name);
            Ok(Branch {
                own: builder.part(&vb.pp("own").pp(&task.name), SwinBlock::new)?,
                cross: builder.part(&vb.pp("cross").pp(&task.name), CrossBlock::new)?,
                fc1: linear(w, w, head.pp("fc1"))?,
                norm: LayerNorm::new(w, cfg.eps, head.pp("norm"))?,
                out: linear(w, task.outputs, head.pp("fc"))?,
                task: task.clone(),
            })
        };
        Ok(Self {
            norm: LayerNorm::new(cfg.features, cfg.eps, vb.pp("norm"))?,
            project: linear(cfg.features, w, vb.pp("project"))?,
            shared: builder.part(&vb.pp("shared"), SwinBlock::new)?,
            branches: cfg.tasks.iter().map(branch).collect::<CandleResult<_>>()?,
        })
    }
}

impl Whole for Decoder {
    fn run(&self, f: &Tensor, pass: &mut Pass) -> CandleResult<Outputs> {
        let x = self.project.forward(&self.norm.forward(f)?)?;
        let x = self.shared.forward(&x, pass)?;
        let mut all = Vec::with_capacity(self.branches.len());
        for branch in &self.branches {
            all.push(branch.own.forward(&x, pass)?);
        }
        let mut answers = Answers::default();
        for (i, branch) in self.branches.iter().enumerate() {
            // The others' features pass through the blocks as they are.
            let mut all = all.clone();
            for block in &branch.cross.blocks {
                all[i] = block.forward(&all, i, pass)?;
            }
            let y = branch.cross.norm.forward(&all[i])?;
            let row = branch.fc1.forward(&wide(&y)?.mean(1)?)?;
            let head = branch.out.forward(&branch.norm.forward(&row)?.relu()?)?;
            answers.add(&branch.task.name, &y, head, pass);
        }
        Ok(answers.outputs())
    }
}
