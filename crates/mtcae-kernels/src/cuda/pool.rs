//! Max pooling on a GPU (`cuda/pool.cu`).

use super::{Argument, Launch, Pointer, Unsupported, count};
use crate::pool::output;
use Argument::U32;

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
    let mut arguments = vec![Argument::Pointer(out), Argument::Pointer(x)];
    for size in [images, height, width, channels, kernel, to.0, to.1] {
        arguments.push(U32(count("max_pool", size)?));
    }
    Ok(Launch {
        module: "pool".to_owned(),
        function: "max_pool".to_owned(),
        grid: [count("max_pool: outputs", n.div_ceil(BLOCK))?, 1, 1],
        block: BLOCK as u32,
        shared: 0,
        arguments,
    })
}
