//! Max pooling on a GPU (`cuda/pool.cu`).

use super::{Launch, Pointer, Unsupported, arguments, count, sizes};
use crate::pool::output;

const BLOCK: usize = 256;

/// out (N, output(h), output(w), channels) from x (N, h, w, channels), both of `f32`;
/// `dims` = [N, h, w, channels].
///
/// # Errors
/// When a size is more than a kernel can count.
pub fn max(
    out: Pointer,
    x: Pointer,
    dims: [usize; 4],
    kernel: usize,
) -> Result<Launch, Unsupported> {
    let [images, height, width, channels] = dims;
    let to = (output(height, kernel), output(width, kernel));
    let n = [images, to.0, to.1, channels]
        .iter()
        .fold(1, |n: usize, &by| n.saturating_mul(by));
    let numbers = [images, height, width, channels, kernel, to.0, to.1];
    Ok(Launch::new(
        "pool",
        "max_pool".to_owned(),
        [count("max_pool: outputs", n.div_ceil(BLOCK))?, 1, 1],
        BLOCK as u32,
        arguments(&[out, x], sizes("max_pool", numbers)?),
    ))
}
