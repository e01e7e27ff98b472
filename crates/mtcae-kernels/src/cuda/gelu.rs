//! Bias and GELU on a GPU (`cuda/gelu.cu`).

use super::{Element, Launch, Pointer, Unsupported, down_columns};

/// y (rows, columns) = gelu(x + bias) for a bias (columns) of `f32`, or none.
///
/// # Errors
/// When a size is more than a kernel can count.
pub fn forward(
    element: Element,
    y: Pointer,
    x: Pointer,
    bias: Option<Pointer>,
    rows: usize,
    columns: usize,
) -> Result<Launch, Unsupported> {
    let of = |address| (address, element);
    let operands = [of(y), of(x), (bias.unwrap_or(Pointer::NONE), Element::F32)];
    down_columns("gelu", "gelu", element, &operands, rows, columns)
}

/// dx (rows, columns), which is also the gradient of x + bias and may lie where `grad`
/// does, and gelu(x + bias) once more at `y`, unless that is none.
///
/// # Errors
/// As [`forward`].
#[expect(clippy::too_many_arguments)]
pub fn backward(
    element: Element,
    dx: Pointer,
    y: Option<Pointer>,
    x: Pointer,
    bias: Option<Pointer>,
    grad: Pointer,
    rows: usize,
    columns: usize,
) -> Result<Launch, Unsupported> {
    let of = |address| (address, element);
    let bias = (bias.unwrap_or(Pointer::NONE), Element::F32);
    let operands = [
        of(dx),
        of(y.unwrap_or(Pointer::NONE)),
        of(x),
        bias,
        of(grad),
    ];
    down_columns("gelu", "gelu_backward", element, &operands, rows, columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_covers_columns_and_caps_rows() {
        let launch = forward(
            Element::F32,
            Pointer::NONE,
            Pointer::NONE,
            None,
            100_000,
            4096,
        )
        .expect("small");
        assert_eq!(
            (launch.function.as_str(), launch.grid),
            ("gelu_f32_x4", [8, 4096, 1])
        );
        let launch = forward(
            Element::F32,
            Pointer::NONE,
            Pointer::NONE,
            Some(Pointer::new(4)),
            3,
            130,
        )
        .expect("small");
        assert_eq!(
            (launch.function.as_str(), launch.grid),
            ("gelu_f32", [2, 3, 1])
        );
    }
}
