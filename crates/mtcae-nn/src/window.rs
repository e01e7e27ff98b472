//! Attention within shifted windows of a grid of tokens (Liu et al., 2021, arXiv
//! 2103.14030), in two or three dimensions.

use std::sync::Arc;

use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use mtcae_kernels::attention::window::Windows;
use mtcae_kernels::gather::Gather;

use crate::linear::WEIGHT_INIT;
use crate::ops::{Windowed, gather_rows, window_attention};
use crate::{Linear, linear};

/// How a grid (t, h, w) of tokens is cut into windows.
#[derive(Clone, Debug)]
pub struct WindowGrid {
    windows: Windows,
    regions: Arc<Vec<f32>>,
    /// From the grid's order into that of windows, and back.
    into: Arc<Gather>,
    back: Arc<Gather>,
}

impl WindowGrid {
    /// Windows of `window` tokens over `grid` tokens, each (t, h, w), that the grid is rolled
    /// by `shift` before it is cut into; tokens of its opposite ends do not attend to each
    /// other. In two dimensions t is 1.
    ///
    /// # Errors
    /// When a window does not divide the grid or is not larger than its shift.
    pub fn new(grid: [usize; 3], window: [usize; 3], shift: [usize; 3]) -> Result<Self> {
        let windows = Windows {
            grid,
            window,
            shift,
        };
        let tokens = grid.iter().try_fold(1usize, |n, side| n.checked_mul(*side));
        let Some(tokens) = tokens.filter(|n| windows.is_whole() && *n < u32::MAX as usize) else {
            candle_core::bail!(
                "windows of {window:?} tokens, shifted by {shift:?}, do not divide a grid of \
                 {grid:?}: each side must be a divisor of the grid's and more than its shift"
            );
        };
        let order = windows.order();
        let mut inverse = vec![0; tokens];
        for (place, token) in order.iter().enumerate() {
            inverse[*token as usize] = place as u32;
        }
        Ok(Self {
            windows,
            regions: Arc::new(windows.regions()),
            into: Arc::new(Gather::new(tokens, order)),
            back: Arc::new(Gather::new(tokens, inverse)),
        })
    }

    /// Shifts of half a window, along those axes that have several windows.
    pub fn half(grid: [usize; 3], window: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|a| match window[a] < grid[a] {
            true => window[a] / 2,
            false => 0,
        })
    }

    /// (B, N, D), tokens in the order t, h, w → (B, N, D) in window order.
    ///
    /// # Errors
    /// When there are more or fewer tokens than the grid has.
    pub fn cut(&self, x: &Tensor) -> Result<Tensor> {
        gather_rows(x, &self.into)
    }

    /// The reverse of [`Self::cut`].
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub fn join(&self, x: &Tensor) -> Result<Tensor> {
        gather_rows(x, &self.back)
    }

    /// Tokens of a window.
    pub fn tokens(&self) -> usize {
        self.windows.tokens()
    }
}

/// The bias of each relative position in a window: a table (positions, heads).
#[derive(Clone, Debug)]
struct Positions(Tensor);

impl Positions {
    fn new(grid: &WindowGrid, heads: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let shape = (grid.windows.positions(), heads);
        let name = "relative_position_bias_table";
        Ok(Self(vb.get_with_hints(shape, name, WEIGHT_INIT)?))
    }
}

fn divides(heads: usize, width: usize) -> Result<()> {
    if heads == 0 || !width.is_multiple_of(heads) {
        candle_core::bail!("{heads} heads do not divide the width {width}");
    }
    Ok(())
}

/// Self attention within windows.
#[derive(Clone, Debug)]
pub struct WindowAttention {
    grid: WindowGrid,
    qkv: Linear,
    table: Positions,
    proj: Linear,
    heads: usize,
}

impl WindowAttention {
    /// `qkv` (3·D, D) with rows q, k, v, `relative_position_bias_table` (positions, heads),
    /// whose rows are those of [`Windows::expand`](crate::Windows::expand), and `proj` (D, D) below `vb`.
    pub fn new(grid: &WindowGrid, width: usize, heads: usize, vb: VarBuilder<'_>) -> Result<Self> {
        divides(heads, width)?;
        Ok(Self {
            qkv: linear(width, 3 * width, vb.pp("qkv"))?,
            table: Positions::new(grid, heads, &vb)?,
            proj: linear(width, width, vb.pp("proj"))?,
            grid: grid.clone(),
            heads,
        })
    }
}

impl Module for WindowAttention {
    /// (B, N, D) → (B, N, D), tokens in the order t, h, w.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let grid = &self.grid;
        let qkv = self.qkv.forward(&grid.cut(x)?)?;
        let of = Windowed::Packed(&qkv);
        let (table, windows) = (&self.table.0, &grid.windows);
        let attended = window_attention(of, table, windows, &grid.regions, self.heads)?;
        grid.join(&self.proj.forward(&attended)?)
    }
}

/// Attention within windows whose queries and keys are of one sequence and whose values are
/// of another (Xu et al., 2022, "MTFormer").
#[derive(Clone, Debug)]
pub struct CrossWindowAttention {
    grid: WindowGrid,
    qk: Linear,
    v: Linear,
    table: Positions,
    proj: Linear,
    heads: usize,
}

impl CrossWindowAttention {
    /// `qkv` (2·D, D) with rows q, k, `qkv2` (D, D) for v, `relative_position_bias_table`
    /// and `proj` below `vb`.
    pub fn new(grid: &WindowGrid, width: usize, heads: usize, vb: VarBuilder<'_>) -> Result<Self> {
        divides(heads, width)?;
        Ok(Self {
            qk: linear(width, 2 * width, vb.pp("qkv"))?,
            v: linear(width, width, vb.pp("qkv2"))?,
            table: Positions::new(grid, heads, &vb)?,
            proj: linear(width, width, vb.pp("proj"))?,
            grid: grid.clone(),
            heads,
        })
    }

    /// For each x_j (B, N, D) of `all`: its own queries and keys over the values of x_i,
    /// the one at `own` → (B, N, D) each, tokens in the order t, h, w.
    ///
    /// # Errors
    /// When one is of another shape, or there is no x_i.
    pub fn forward(&self, all: &[Tensor], own: usize) -> Result<Vec<Tensor>> {
        let grid = &self.grid;
        let cut: Vec<Tensor> = all.iter().map(|x| grid.cut(x)).collect::<Result<_>>()?;
        let Some(values) = cut.get(own) else {
            candle_core::bail!("cross attention: there is no {own} of {}", all.len());
        };
        let v = self.v.forward(values)?;
        let (table, windows) = (&self.table.0, &grid.windows);
        cut.iter()
            .map(|x| {
                let qk = self.qk.forward(x)?;
                let of = Windowed::Crossed(&qk, &v);
                let attended = window_attention(of, table, windows, &grid.regions, self.heads)?;
                grid.join(&self.proj.forward(&attended)?)
            })
            .collect()
    }
}
