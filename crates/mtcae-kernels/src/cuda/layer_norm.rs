//! LayerNorm on a GPU (`cuda/layer_norm.cu`); γ and β are `f32`.

use super::{
    Argument, Element, Launch, Pointer, Unsupported, WARP, arguments, by_four, count, pack_suffix,
    sizes, slabs,
};
use Argument::F32;

/// Rows of a block, one warp each.
const ROWS: usize = 4;

fn launch(
    name: &str,
    element: Element,
    four: bool,
    rows: usize,
    arguments: Vec<Argument>,
) -> Result<Launch, Unsupported> {
    Ok(Launch::new(
        "layer_norm",
        format!("{name}_{}{}", element.suffix(), pack_suffix(four)),
        [count("layer_norm: rows", rows.div_ceil(ROWS))?, 1, 1],
        ROWS as u32 * WARP,
        arguments,
    ))
}

/// y (rows, width) = LayerNorm of x (rows, width).
///
/// # Errors
/// When a size is more than a kernel can count.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    element: Element,
    y: Pointer,
    x: Pointer,
    gamma: Pointer,
    beta: Pointer,
    rows: usize,
    width: usize,
    eps: f32,
) -> Result<Launch, Unsupported> {
    let size = element.size();
    let four = by_four(width, &[(y, size), (x, size), (gamma, 4), (beta, 4)]);
    let arguments = arguments(
        &[y, x, gamma, beta],
        sizes("layer_norm", [rows, width])?
            .into_iter()
            .chain([F32(eps)]),
    );
    launch("layer_norm", element, four, rows, arguments)
}

/// What is added to x before its LayerNorm: s·(x + bias) of rows like it. Bias and scales
/// are `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Address of its rows.
    pub x: Pointer,
    /// Address of the bias, if there is one.
    pub bias: Option<Pointer>,
    /// Address of one s for each run of so many rows, or none for 1.
    pub scales: Option<(Pointer, usize)>,
}

/// sum (rows, width) = x + the branch, and y, its LayerNorm.
///
/// # Errors
/// As [`forward`].
#[allow(clippy::too_many_arguments)]
pub fn residual(
    element: Element,
    sum: Pointer,
    y: Pointer,
    x: Pointer,
    branch: Branch,
    gamma: Pointer,
    beta: Pointer,
    rows: usize,
    width: usize,
    eps: f32,
) -> Result<Launch, Unsupported> {
    let size = element.size();
    let bias = branch.bias.unwrap_or(Pointer::NONE);
    let four = by_four(
        width,
        &[
            (sum, size),
            (y, size),
            (x, size),
            (branch.x, size),
            (bias, 4),
            (gamma, 4),
            (beta, 4),
        ],
    );
    let (scales, run) = branch.scales.unwrap_or((Pointer::NONE, 1));
    let arguments = arguments(
        &[sum, y, x, branch.x, bias, scales, gamma, beta],
        sizes("layer_norm", [rows, width, run])?
            .into_iter()
            .chain([F32(eps)]),
    );
    launch("residual_layer_norm", element, four, rows, arguments)
}

/// What the backward needs besides its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// `f32`s of μ and 1/√(σ² + ε) of each row.
    pub statistics: usize,
    /// Slabs that the rows are summed in: (slabs, 2, width) `f32`s, the parts of dγ
    /// and dβ, of which the column sums are the gradients.
    pub slabs: usize,
}

/// The scratch of a backward over `rows` rows.
pub fn scratch(rows: usize) -> Scratch {
    Scratch {
        statistics: rows.saturating_mul(2),
        slabs: slabs(rows).1,
    }
}

/// dx (rows, width), plus the gradient `around` the norm where there is one, and the
/// statistics that [`backward_parameters`] takes.
///
/// # Errors
/// As [`forward`].
#[allow(clippy::too_many_arguments)]
pub fn backward_input(
    element: Element,
    dx: Pointer,
    statistics: Pointer,
    x: Pointer,
    gamma: Pointer,
    grad: Pointer,
    around: Option<Pointer>,
    rows: usize,
    width: usize,
    eps: f32,
) -> Result<Launch, Unsupported> {
    let size = element.size();
    let around = around.unwrap_or(Pointer::NONE);
    let four = by_four(
        width,
        &[
            (dx, size),
            (x, size),
            (gamma, 4),
            (grad, size),
            (around, size),
        ],
    );
    let arguments = arguments(
        &[dx, statistics, x, gamma, grad, around],
        sizes("layer_norm", [rows, width])?
            .into_iter()
            .chain([F32(eps)]),
    );
    launch("layer_norm_backward_input", element, four, rows, arguments)
}

/// The parts (slabs, 2, width) of dγ and dβ.
///
/// # Errors
/// As [`forward`].
pub fn backward_parameters(
    element: Element,
    parts: Pointer,
    statistics: Pointer,
    x: Pointer,
    grad: Pointer,
    rows: usize,
    width: usize,
) -> Result<Launch, Unsupported> {
    let (slab, slabs) = slabs(rows);
    let columns = count("layer_norm: width", width.div_ceil(WARP as usize))?;
    Ok(Launch::new(
        "layer_norm",
        format!("layer_norm_backward_parameters_{}", element.suffix()),
        [columns, slabs as u32, 1],
        8 * WARP,
        arguments(
            &[parts, statistics, x, grad],
            sizes("layer_norm", [rows, width, slab])?,
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_four_elements_divide_are_read_four_at_a_time() {
        let none = Pointer::NONE;
        let of = |width, x| {
            let x = Pointer::new(x);
            forward(Element::Bf16, none, x, none, none, 10, width, 1e-6).expect("small")
        };
        assert_eq!(of(1024, 8).function, "layer_norm_bf16_x4");
        assert_eq!(of(1023, 8).function, "layer_norm_bf16");
        assert_eq!(of(1024, 2).function, "layer_norm_bf16");
        assert_eq!((of(1024, 0).grid, of(1024, 0).block), ([3, 1, 1], 128));
    }
}
