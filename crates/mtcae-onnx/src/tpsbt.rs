//! TPSBT, as `tpsbt/model.rs` of `mtcae-encoder` computes it: a plain first stage, then
//! stages of half as many slices of time, whose tokens X (B, T·P, D) are seen through
//! bottlenecks Z (B, T·G, D).

use mtcae_encoder::{Position, TpsbtConfig};

use crate::embedding::{Tubes, embed};
use crate::error::Error;
use crate::graph::{Graph, Value};
use crate::layers::Block;

/// Clips (B, T, C, H, W) → F (B, N/4, D).
pub(crate) fn encoder(g: &mut Graph, config: &TpsbtConfig, clips: Value) -> Result<Value, Error> {
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
    let [mut slices, h, w] = tubes.grid();
    let places = h * w;
    let mut x = embed(g, clips, &tubes, Position::SinCos)?;
    let mut blocks = 0..;
    let mut next = || format!("encoder.blocks.{}", blocks.next().unwrap_or(0));
    let [first, later @ ..] = config.depths;
    for _ in 0..first {
        x = g.block(&next(), x, sizes);
    }
    for (stage, depth) in later.into_iter().enumerate() {
        slices /= 2;
        let cut = Slices {
            slices: slices as i64,
            places: places as i64,
            width: config.width as i64,
            bottlenecks: config.bottlenecks as i64,
            eps: config.eps,
        };
        x = cut.halve(g, stage, x);
        let mut z = cut.bottlenecks(g, stage, x);
        for _ in 1..depth {
            z = cross_block(g, &next(), sizes, z, x);
        }
        x = cross_block(g, &next(), sizes, x, z);
    }
    Ok(x)
}

/// x (B, N, D) over a context (B, M, D), then the plain block.
fn cross_block(g: &mut Graph, at: &str, sizes: Block, x: Value, context: Value) -> Value {
    let queries = g.layer_norm(&format!("{at}.cross_norm1"), x, sizes.eps);
    let over = g.layer_norm(&format!("{at}.cross_norm2"), context, sizes.eps);
    let (heads, head_dim) = (sizes.heads, sizes.width / sizes.heads);
    let branch = g.cross_attention(&format!("{at}.cross_attn"), queries, over, heads, head_dim);
    let x = g.add(at, x, branch);
    g.block(at, x, sizes)
}

/// What a stage's tokens are: T slices of P places, or of G bottlenecks.
struct Slices {
    slices: i64,
    places: i64,
    width: i64,
    bottlenecks: i64,
    eps: f64,
}

impl Slices {
    /// Tokens (B, 2T·P, D) → X (B, T·P, D): each pair of slices by one linear layer.
    fn halve(&self, g: &mut Graph, stage: usize, x: Value) -> Value {
        let at = format!("encoder.temporal_downsamples.{stage}");
        let (slices, places, width) = (self.slices, self.places, self.width);
        let x = g.reshape(&at, x, &[-1, slices, 2, places, width]);
        let x = g.transpose(&at, x, &[0, 1, 3, 4, 2]);
        let pairs = g.reshape(&at, x, &[-1, slices * places, 2 * width]);
        g.linear(&at, pairs)
    }

    /// X (B, T·P, D) → Z (B, T·G, D): weighted means of each slice's places.
    fn bottlenecks(&self, g: &mut Graph, stage: usize, x: Value) -> Value {
        let at = format!("encoder.spatial_downsamples.{stage}");
        let (slices, places, width) = (self.slices, self.places, self.width);
        let normed = g.layer_norm(&format!("{at}.norm"), x, self.eps);
        let scores = g.mlp(&format!("{at}.mlp"), normed);
        let scores = g.reshape(&at, scores, &[-1, slices, places, self.bottlenecks]);
        let scores = g.transpose(&at, scores, &[0, 1, 3, 2]);
        let weights = g.softmax(&at, scores);
        let x = g.reshape(&at, x, &[-1, slices, places, width]);
        let z = g.matmul(&at, weights, x);
        g.reshape(&at, z, &[-1, slices * self.bottlenecks, width])
    }
}
