//! The blocks of MTFormer.

use candle_core::{Module, Result, Tensor};
use mtcae_nn::{
    CrossWindowAttention, DropPath, LayerNorm, Mlp, Pass, VarBuilder, WindowAttention, WindowGrid,
};

use crate::Config;

/// x + attn(norm1(x)) within windows, then x + mlp(norm2(x)).
#[derive(Debug)]
pub(super) struct SwinBlock {
    norm1: LayerNorm,
    attention: WindowAttention,
    norm2: LayerNorm,
    mlp: Mlp,
    drop: DropPath,
}

impl SwinBlock {
    /// `norm1`, `attn`, `norm2` and `mlp` below `vb`.
    pub fn new(cfg: &Config, grid: &WindowGrid, vb: VarBuilder<'_>) -> Result<Self> {
        let norm = |name| LayerNorm::new(cfg.width, cfg.eps, vb.pp(name));
        Ok(Self {
            norm1: norm("norm1")?,
            attention: WindowAttention::new(grid, cfg.width, cfg.heads, vb.pp("attn"))?,
            norm2: norm("norm2")?,
            mlp: Mlp::new(cfg.width, cfg.hidden(), vb.pp("mlp"))?,
            drop: DropPath::new(cfg.drop_path)?,
        })
    }

    pub fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let branch = self.attention.forward(&self.norm1.forward(x)?)?;
        let x = (x + self.drop.forward(&branch, pass)?)?;
        self.mlp.residual(&x, &self.norm2, &self.drop, pass)
    }
}

/// Inputs, hidden channels and outputs of the MLPs that mix `tasks` tasks of `width`
/// channels: of what a task finds in itself, of what each other finds in it, and of both
/// together. What the others find is together as wide as the task.
pub(super) fn mixing(width: usize, tasks: usize) -> [[usize; 3]; 3] {
    let hidden = width * tasks;
    let others = tasks - 1;
    let each = match others {
        0 => 0,
        _ => width.div_ceil(others),
    };
    let mixed = width + others * each;
    [
        [width, hidden, width],
        [width, hidden, each],
        [mixed, hidden, width],
    ]
}

/// A task's features, read by what every task attends to.
#[derive(Debug)]
pub(super) struct CrossBlock {
    norm1: LayerNorm,
    attention: CrossWindowAttention,
    own: Mlp,
    others: Vec<Mlp>,
    mix: Mlp,
    norm2: LayerNorm,
    mlp: Mlp,
    drop: DropPath,
}

impl CrossBlock {
    /// `norm1`, `attn1`, `mlp31` (the task's own), `mlp32` and on (one for each other task,
    /// in their order), `mlp3`, `norm2` and `mlp2` below `vb`.
    pub fn new(cfg: &Config, grid: &WindowGrid, vb: VarBuilder<'_>) -> Result<Self> {
        let norm = |name| LayerNorm::new(cfg.width, cfg.eps, vb.pp(name));
        let [own, each, mixed] = mixing(cfg.width, cfg.tasks.len());
        let others =
            (1..cfg.tasks.len()).map(|j| Mlp::between(each, vb.pp(format!("mlp3{}", j + 1))));
        Ok(Self {
            norm1: norm("norm1")?,
            attention: CrossWindowAttention::new(grid, cfg.width, cfg.heads, vb.pp("attn1"))?,
            own: Mlp::between(own, vb.pp("mlp31"))?,
            others: others.collect::<Result<_>>()?,
            mix: Mlp::between(mixed, vb.pp("mlp3"))?,
            norm2: norm("norm2")?,
            mlp: Mlp::new(cfg.width, cfg.hidden(), vb.pp("mlp2"))?,
            drop: DropPath::new(cfg.drop_path)?,
        })
    }

    /// Features (B, N, w) of all tasks → those of task `own`.
    pub fn forward(&self, all: &[Tensor], own: usize, pass: &mut Pass) -> Result<Tensor> {
        let normed = all.iter().map(|x| self.norm1.forward(x));
        let found = self
            .attention
            .forward(&normed.collect::<Result<Vec<_>>>()?, own)?;
        let (mut others, mut parts) = (self.others.iter(), vec![self.own.forward(&found[own])?]);
        for (j, found) in found.iter().enumerate() {
            if j != own
                && let Some(mlp) = others.next()
            {
                parts.push(mlp.forward(found)?);
            }
        }
        let mixed = self.mix.forward(&Tensor::cat(&parts, 2)?)?;
        let branch = (mixed + &found[own])?;
        let x = (&all[own] + self.drop.forward(&branch, pass)?)?;
        self.mlp.residual(&x, &self.norm2, &self.drop, pass)
    }
}
