//! Area resampling on a GPU (`cuda/area.cu`).

use super::{Launch, Pointer, Unsupported, arguments, count, rows_of_grid, sizes};
use crate::area::Crop;

const BLOCK: usize = 128;

/// Pixels of a window whose sum of bytes a `u32` holds.
const WINDOW: usize = 1 << 24;

/// Crops as the kernel takes them: five numbers each.
///
/// # Errors
/// When a number is more than a kernel can count.
pub fn table(crops: &[Crop]) -> Result<Vec<u32>, Unsupported> {
    let mut words = Vec::with_capacity(crops.len() * 5);
    for c in crops {
        for n in [c.picture, c.x, c.y, c.width, c.height] {
            words.push(count("area: crops", n)?);
        }
    }
    Ok(words)
}

/// out (crops, to.1, to.0, 3) of `f32` from pictures (T, H, W, 3) of 8 bits, `size` =
/// (W, H), and a [`table`] of crops that lie within them.
///
/// # Errors
/// When the pictures are too large or the crops too many for one launch.
pub fn resample(
    out: Pointer,
    pictures: Pointer,
    table: Pointer,
    crops: usize,
    size: (usize, usize),
    to: (usize, usize),
) -> Result<Launch, Unsupported> {
    let longest = |from: usize, to: usize| from.div_ceil(to.max(1)) + 1;
    if longest(size.0, to.0).saturating_mul(longest(size.1, to.1)) > WINDOW {
        return Err(Unsupported(format!(
            "area: {}×{} to {}×{} has windows of more than {WINDOW} pixels",
            size.0, size.1, to.0, to.1
        )));
    }
    let pixels = to.0.saturating_mul(to.1);
    count("area: pixels", pixels)?;
    let blocks = count("area: pixels", pixels.div_ceil(BLOCK))?;
    let numbers = sizes("area", [size.1, size.0, to.1, to.0])?;
    Ok(Launch::new(
        "area",
        "area_resample".to_owned(),
        [blocks, rows_of_grid("area: crops", crops)?, 1],
        BLOCK as u32,
        arguments(&[out, pictures, table], numbers),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_whose_sum_would_overflow_are_refused() {
        let of = |size, to| resample(Pointer::NONE, Pointer::NONE, Pointer::NONE, 3, size, to);
        let launch = of((1920, 1080), (24, 24)).expect("fits");
        assert_eq!(launch.grid, [5, 3, 1]);
        let error = of((1 << 17, 1 << 17), (24, 24)).expect_err("5462² pixels");
        assert!(error.to_string().contains("131072×131072"), "{error}");
    }
}
