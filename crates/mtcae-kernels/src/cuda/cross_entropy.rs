//! Cross-entropy on a GPU (`cuda/cross_entropy.cu`).

use super::{Argument, Element, Launch, Pointer, Unsupported, WARP, count};
use Argument::U32;

/// Clips of a block, one warp each.
const CLIPS: usize = 4;

fn launch(
    name: &str,
    element: Element,
    pointers: &[Pointer],
    clips: usize,
    classes: usize,
) -> Result<Launch, Unsupported> {
    let sizes = [
        U32(count("cross_entropy: clips", clips)?),
        U32(count("cross_entropy: classes", classes)?),
    ];
    Ok(Launch {
        module: "cross_entropy".to_owned(),
        function: format!("{name}_{}", element.suffix()),
        grid: [count("cross_entropy: clips", clips.div_ceil(CLIPS))?, 1, 1],
        block: CLIPS as u32 * WARP,
        shared: 0,
        arguments: pointers
            .iter()
            .map(|&p| Argument::Pointer(p))
            .chain(sizes)
            .collect(),
    })
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
