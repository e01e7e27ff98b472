//! Cross-entropy on a GPU (`cuda/cross_entropy.cu`).

use super::{Element, Launch, Pointer, Unsupported, WARP, arguments, count, sizes};

/// Clips of a block, one warp each.
const CLIPS: usize = 4;

fn launch(
    name: &str,
    element: Element,
    pointers: &[Pointer],
    clips: usize,
    classes: usize,
) -> Result<Launch, Unsupported> {
    let grid = [count("cross_entropy: clips", clips.div_ceil(CLIPS))?, 1, 1];
    Ok(Launch::new(
        "cross_entropy",
        format!("{name}_{}", element.suffix()),
        grid,
        CLIPS as u32 * WARP,
        arguments(pointers, sizes("cross_entropy", [clips, classes])?),
    ))
}

/// losses (B) of `f32` from logits (B, C) and targets (B, C) of `f32`.
///
/// # Errors
/// When a size is more than a kernel can count.
pub fn forward(
    element: Element,
    losses: Pointer,
    logits: Pointer,
    targets: Pointer,
    clips: usize,
    classes: usize,
) -> Result<Launch, Unsupported> {
    launch(
        "cross_entropy",
        element,
        &[losses, logits, targets],
        clips,
        classes,
    )
}

/// The gradient of the logits (B, C) from those of the losses (B) of `f32`.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    element: Element,
    dlogits: Pointer,
    logits: Pointer,
    targets: Pointer,
    grad: Pointer,
    clips: usize,
    classes: usize,
) -> Result<Launch, Unsupported> {
    launch(
        "cross_entropy_backward",
        element,
        &[dlogits, logits, targets, grad],
        clips,
        classes,
    )
}
