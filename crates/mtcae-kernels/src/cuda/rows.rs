//! Residual sums with a bias, and a bias's gradient, on a GPU (`cuda/rows.cu`).

use super::{
    COLUMN_THREADS, Element, Launch, Pointer, Unsupported, WARP, arguments, by_four, column_grid,
    count, pack_suffix, sizes, slabs,
};

/// A bias of `f32`: the columns before `end` lie at `first`, those from `start` on at
/// `last`, and the others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bias {
    /// Address of the first columns' numbers.
    pub first: Pointer,
    /// How many there are.
    pub end: usize,
    /// Address of the last columns' numbers.
    pub last: Pointer,
    /// The first of those columns.
    pub start: usize,
}

impl Bias {
    /// None: 0 in each of `width` columns.
    pub fn none(width: usize) -> Self {
        Self {
            first: Pointer::NONE,
            end: 0,
            last: Pointer::NONE,
            start: width,
        }
    }
}

/// out (rows, width) = base + s·(x + bias), with one s of `f32` for each run of so many
/// rows, or none for 1; without a base, of zeros.
///
/// # Errors
/// When a size is more than a kernel can count.
#[expect(clippy::too_many_arguments)]
pub fn residual(
    element: Element,
    out: Pointer,
    base: Option<Pointer>,
    x: Pointer,
    bias: Bias,
    scales: Option<(Pointer, usize)>,
    rows: usize,
    width: usize,
) -> Result<Launch, Unsupported> {
    let size = element.size();
    let four = by_four(
        width,
        &[
            (out, size),
            (base.unwrap_or(Pointer::NONE), size),
            (x, size),
            (bias.first, 4),
            (bias.last, 4),
        ],
    ) && bias.end.is_multiple_of(4)
        && bias.start.is_multiple_of(4);
    let (scales, run) = scales.unwrap_or((Pointer::NONE, 1));
    let base = base.unwrap_or(Pointer::NONE);
    let threads = width.div_ceil(if four { 4 } else { 1 });
    Ok(Launch::new(
        "rows",
        format!("residual_{}{}", element.suffix(), pack_suffix(four)),
        column_grid("residual", rows, threads)?,
        COLUMN_THREADS as u32,
        arguments(
            &[out, base, x, bias.first, bias.last, scales],
            sizes("residual", [bias.end, bias.start, rows, width, run])?,
        ),
    ))
}

/// The launches that sum the columns of x (rows, width) into `sums` (width) of `f32`,
/// by way of `parts`, [`parts`] `f32`s.
///
/// # Errors
/// When a size is more than a kernel can count.
pub fn column_sums(
    element: Element,
    sums: Pointer,
    parts: Pointer,
    x: Pointer,
    rows: usize,
    width: usize,
) -> Result<[Launch; 2], Unsupported> {
    let (slab, slabs) = slabs(rows);
    let step = |element: Element, to, from, rows, slab, slabs: usize| {
        let columns = count("column_sums: width", width.div_ceil(WARP as usize))?;
        Ok(Launch::new(
            "rows",
            format!("column_sums_{}", element.suffix()),
            [columns, slabs as u32, 1],
            8 * WARP,
            arguments(&[to, from], sizes("column_sums", [rows, width, slab])?),
        ))
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
        let [first, second] = column_sums(
            Element::F32,
            Pointer::NONE,
            Pointer::NONE,
            Pointer::NONE,
            0,
            40,
        )
        .expect("small");
        assert_eq!((first.grid, second.grid), ([2, 1, 1], [2, 1, 1]));
        let added = residual(
            Element::F32,
            Pointer::NONE,
            None,
            Pointer::NONE,
            Bias::none(40),
            None,
            0,
            40,
        );
        assert_eq!(added.expect("small").grid, [1, 0, 1]);
    }

    #[test]
    fn a_bias_is_read_four_at_a_time_where_its_parts_begin_and_end_so() {
        let of = |end, start, last| {
            let bias = Bias {
                first: Pointer::new(16),
                end,
                last: Pointer::new(last),
                start,
            };
            residual(
                Element::Bf16,
                Pointer::NONE,
                None,
                Pointer::NONE,
                bias,
                None,
                10,
                192,
            )
            .expect("small")
            .function
        };
        assert_eq!(of(64, 128, 16), "residual_bf16_x4");
        assert_eq!(of(64, 128, 20), "residual_bf16");
        assert_eq!(of(66, 128, 16), "residual_bf16");
        assert_eq!(of(64, 127, 16), "residual_bf16");
    }
}
