//! Column sums on a GPU (`cuda/rows.cu`): the gradient of a bias.

use super::{Argument, Element, Launch, Unsupported, WARP, count, slabs};
use Argument::{Address, U32};

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
    slabs(rows).1 * width
}
