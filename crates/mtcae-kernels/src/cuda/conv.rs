//! Convolution with PReLU on a GPU (`cuda/conv.cu`).

use super::{Launch, Pointer, Unsupported, arguments, count, rows_of_grid, sizes};
use crate::conv::Shape;

/// Pixels of a block.
const PIXELS: usize = 64;

/// Channels of a block: as many as divide the outputs, so that what is gathered of the
/// input is gathered seldom.
fn channels(outputs: usize) -> usize {
    [64, 32, 16]
        .into_iter()
        .find(|&channels| outputs.is_multiple_of(channels))
        .unwrap_or(16)
}

/// out (N, h', w', [`output_stride`](Shape::output_stride)) from x (N, h, w,
/// `input_stride`), `dims` = [N, h, w], and `parameters` as
/// [`Conv::columns`](crate::conv::Conv::columns) gives them; all of `f32`.
///
/// # Errors
/// When the kernel is larger than the input, or a size more than a launch takes.
pub fn prelu(
    out: Pointer,
    x: Pointer,
    parameters: Pointer,
    dims: [usize; 3],
    shape: Shape,
) -> Result<Launch, Unsupported> {
    let [images, height, width] = dims;
    if height < shape.height || width < shape.width || shape.height == 0 || shape.width == 0 {
        return Err(Unsupported(format!(
            "conv: a kernel of {}×{} over {height}×{width}",
            shape.height, shape.width
        )));
    }
    let outputs = shape.output_stride();
    let pixels = images
        .saturating_mul(height - shape.height + 1)
        .saturating_mul(width - shape.width + 1);
    let block = channels(outputs);
    let numbers = [
        images,
        height,
        width,
        shape.input_stride,
        shape.height,
        shape.width,
        shape.inputs,
        outputs,
    ];
    let blocks = count("conv: pixels", pixels.div_ceil(PIXELS))?;
    Ok(Launch::new(
        "conv",
        format!("conv_{block}"),
        [blocks, rows_of_grid("conv: outputs", outputs / block)?, 1],
        (PIXELS / 4 * (block / 4)) as u32,
        arguments(&[out, x, parameters], sizes("conv", numbers)?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(kernel: usize, inputs: usize, outputs: usize) -> Shape {
        Shape {
            height: kernel,
            width: kernel,
            inputs,
            input_stride: inputs.next_multiple_of(16),
            outputs,
        }
    }

    #[test]
    fn blocks_take_the_most_channels_that_divide_the_outputs() {
        for (outputs, function, blocks) in [
            (6, "conv_16", 1),
            (28, "conv_32", 1),
            (48, "conv_16", 3),
            (64, "conv_64", 1),
            (256, "conv_64", 4),
        ] {
            let launch = prelu(
                Pointer::NONE,
                Pointer::NONE,
                Pointer::NONE,
                [3, 22, 22],
                shape(3, 28, outputs),
            )
            .expect("fits");
            assert_eq!(launch.function, function, "{outputs}");
            assert_eq!(launch.grid, [19, blocks, 1], "1200 pixels, {outputs}");
        }
    }

    #[test]
    fn a_kernel_larger_than_the_input_is_refused() {
        let error = prelu(
            Pointer::NONE,
            Pointer::NONE,
            Pointer::NONE,
            [1, 2, 9],
            shape(3, 3, 16),
        )
        .expect_err("2 rows");
        assert!(error.to_string().contains("3×3 over 2×9"), "{error}");
    }
}
