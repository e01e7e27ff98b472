//! VideoMAE's encoder, as `videomae/model.rs` of `mtcae-encoder` computes it.

use mtcae_encoder::VideoMaeConfig;

use crate::embedding::{Tubes, embed, final_norm};
use crate::error::Error;
use crate::graph::{Graph, Value};
use crate::layers::Block;

/// Clips (B, T, C, H, W) → F (B, N, D).
pub(crate) fn encoder(
    g: &mut Graph,
    config: &VideoMaeConfig,
    clips: Value,
) -> Result<Value, Error> {
    let tubes = Tubes {
        frames: config.frames,
        image_size: config.image_size,
        channels: config.channels,
        tubelet: config.tubelet,
        patch: config.patch,
        width: config.width,
    };
    let sizes = Block {
        width: config.width,
        heads: config.heads,
        eps: config.eps,
    };
    let mut x = embed(g, clips, &tubes, config.position)?;
    for i in 0..config.depth {
        x = g.block(&format!("encoder.blocks.{i}"), x, sizes);
    }
    Ok(final_norm(g, config.final_norm, x, config.eps))
}
