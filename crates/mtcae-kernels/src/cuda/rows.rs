//! A bias added to rows, and its gradient, on a GPU (`cuda/rows.cu`).

use super::{Argument, Element, Launch, Unsupported, WARP, count, down_columns, slabs};
use Argument::{Address, U32};

/// y (rows, width) = x (rows, width) + bias (width).
///
/// # Errors
/// When a size is more than a kernel can count.
pub fn add_bias(
    element: Element,
    y: u64,
    x: u64,
    bias: u64,
    rows: usize,
    width: usize,
) -> Result<Launch, Unsupported> {
    down_columns("rows", "add_bias", element, &[y, x, bias], rows, width)
}

/// The launches that sum the columns of x (rows, width) into `sums` (width) of `f32`,
/// by way of `parts`, [`parts`] `f32`s.
///
/// # Errors
/// When a size is more than a kernel can count.
pub fn column_sums(
    element: Element,
    sums: u64,
    parts: u64,
    x: u64,
    rows: usize,
    width: usize,
) -> Result<[Launch; 2], Unsupported> {
    let (slab, slabs) = slabs(rows);
    let step = |element: Element, to, from, rows, slab, slabs: usize| {
        Ok(Launch {
            module: "rows".to_owned(),
            function: format!("column_sums_{}", element.suffix()),
            grid: [
                count("column_sums: width", width.div_ceil(WARP as usize))?,
                slabs as u32,
                1,
            ],
            block: 8 * WARP,
            shared: 0,
            arguments: vec![
                Address(to),
                Address(from),
                U32(count("column_sums: rows", rows)?),
                U32(count("column_sums: width", width)?),
                U32(count("column_sums: rows", slab)?),
            ],
        })
    };
    Ok([
        step(element, parts, x, rows, slab, slabs)?,
        step(Element::F32, sums, parts, slabs, slabs, 1)?,
    ])
}

/// `f32`s of scratch that [`column_sums`] takes.
pub fn parts(rows: usize, width: usize) -> usize {
    slabs(rows).1.saturating_mul(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rows_have_sums_of_zero() {
        let [first, second] = column_sums(Element::F32, 0, 0, 0, 0, 40).expect("small");
        assert_eq!((first.grid, second.grid), ([2, 1, 1], [2, 1, 1]));
        let added = add_bias(Element::F32, 0, 0, 0, 0, 40).expect("small");
        assert_eq!(added.grid, [1, 0, 1]);
    }
}
