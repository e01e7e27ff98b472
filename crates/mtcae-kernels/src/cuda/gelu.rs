//! Bias and GELU on a GPU (`cuda/gelu.cu`).

use super::{Element, Launch, Unsupported, down_columns};

/// y (rows, columns) = gelu(x + bias) for a bias (columns) at an address, or none.
///
/// # Errors
/// When a size is more than a kernel can count.
pub fn forward(
    element: Element,
    y: u64,
    x: u64,
    bias: Option<u64>,
    rows: usize,
    columns: usize,
) -> Result<Launch, Unsupported> {
    let addresses = [y, x, bias.unwrap_or(0)];
    down_columns("gelu", "gelu", element, &addresses, rows, columns)
}

/// dx (rows, columns), which is also the gradient of x + bias.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    element: Element,
    dx: u64,
    x: u64,
    bias: Option<u64>,
    grad: u64,
    rows: usize,
    columns: usize,
) -> Result<Launch, Unsupported> {
    let addresses = [dx, x, bias.unwrap_or(0), grad];
    down_columns("gelu", "gelu_backward", element, &addresses, rows, columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_covers_columns_and_caps_rows() {
        let launch = forward(Element::F32, 0, 0, None, 100_000, 4096).expect("small");
        assert_eq!(
            (launch.function.as_str(), launch.grid),
            ("gelu_f32_x4", [8, 4096, 1])
        );
        let launch = forward(Element::F32, 0, 0, Some(4), 3, 130).expect("small");
        assert_eq!(
            (launch.function.as_str(), launch.grid),
            ("gelu_f32", [2, 3, 1])
        );
    }
}
