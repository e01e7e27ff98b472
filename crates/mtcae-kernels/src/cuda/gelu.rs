//! Bias and GELU on a GPU (`cuda/gelu.cu`).

use super::{Argument, Element, Launch, Unsupported, by_four, count, pack_suffix};
use Argument::{Address, U32};

/// Threads of a block; each owns one column, or four.
const THREADS: usize = 128;
/// Blocks along the rows: beyond these a block goes on to further rows.
const ROWS: usize = 4096;

fn launch(
    name: &str,
    element: Element,
    mut addresses: Vec<u64>,
    rows: usize,
    columns: usize,
) -> Result<Launch, Unsupported> {
    let size = element.size();
    let operands: Vec<_> = addresses.iter().map(|&a| (a, size)).collect();
    let four = by_four(columns, &operands);
    let threads = columns.div_ceil(if four { 4 } else { 1 });
    let mut arguments: Vec<Argument> = addresses.drain(..).map(Address).collect();
    arguments.extend([
        U32(count("gelu: rows", rows)?),
        U32(count("gelu: columns", columns)?),
    ]);
    Ok(Launch {
        module: "gelu".to_owned(),
        function: format!("{name}_{}{}", element.suffix(), pack_suffix(four)),
        grid: [
            count("gelu: columns", threads.div_ceil(THREADS))?,
            rows.min(ROWS) as u32,
            1,
        ],
        block: THREADS as u32,
        shared: 0,
        arguments,
    })
}

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
    launch(
        "gelu",
        element,
        vec![y, x, bias.unwrap_or(0)],
        rows,
        columns,
    )
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
    launch(
        "gelu_backward",
        element,
        vec![dx, x, bias.unwrap_or(0), grad],
        rows,
        columns,
    )
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
