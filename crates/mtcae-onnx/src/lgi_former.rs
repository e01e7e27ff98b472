//! LGI-Former, as `lgi_former/model.rs` of `mtcae-encoder` computes it: R regions of L
//! tubes, each with its own token m before those of its tubes l.

use mtcae_encoder::{Features, LgiFormerConfig, Position};

use crate::embedding::{Tubes, embed, final_norm};
use crate::error::Error;
use crate::graph::{Graph, Value};

/// Clips (B, T, C, H, W) → F: the tubes' tokens (B, N, D), or the regions' (B, R, D).
pub(crate) fn encoder(
    g: &mut Graph,
    config: &LgiFormerConfig,
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
    let regions = Regions::new(config, tubes.grid());
    let tokens = embed(g, clips, &tubes, Position::SinCos)?;
    let l = regions.cut(g, tokens);
    let m = g.tensor("encoder.lg_region_tokens");
    let m = g.for_each_clip("encoder.lg_region_tokens", m, regions.tokens(), tokens);
    let mut x = regions.join(g, "encoder.lg_region_tokens", m, l);
    for i in 0..config.depth {
        let at = format!("encoder.blocks.{i}");
        let (m, l) = between_regions(g, &at, config, &regions, x);
        if i + 1 == config.depth && config.features == Features::Regions {
            // F is the regions' tokens: nothing reaches it from the last block's tubes.
            let m = g.mlp_residual(&at, m, config.eps);
            return Ok(final_norm(g, config.final_norm, m, config.eps));
        }
        let l = to_tubes(g, &at, config, m, l);
        let joined = regions.join(g, &at, m, l);
        x = g.mlp_residual(&at, joined, config.eps);
    }
    let [_, l] = g.split("encoder.features", x, 1, [1, regions.tubes]);
    let f = regions.put_back(g, l);
    Ok(final_norm(g, config.final_norm, f, config.eps))
}

/// Attention within each region, then among the regions' tokens: m (B, R, D), and l
/// (B, R·L, D) region after region.
fn between_regions(
    g: &mut Graph,
    at: &str,
    config: &LgiFormerConfig,
    regions: &Regions,
    x: Value,
) -> (Value, Value) {
    let (width, heads, eps) = (config.width, config.heads, config.eps);
    let [first, second] = ["first_attn", "second_attn"].map(|name| format!("{at}.{name}"));
    let normed = g.layer_norm(&format!("{first}_norm0"), x, eps);
    let branch = g.self_attention(&first, normed, width, heads);
    let x = g.add(at, x, branch);
    let [m, l] = g.split(at, x, 1, [1, regions.tubes]);
    let (count, width_) = (regions.count as i64, width as i64);
    let m = g.reshape(at, m, &[-1, count, width_]);
    let l = g.reshape(at, l, &[-1, count * regions.tubes as i64, width_]);
    let normed = g.layer_norm(&format!("{second}_norm0"), m, eps);
    let branch = g.self_attention(&second, normed, width, heads);
    (g.add(at, m, branch), l)
}

/// Attention of all tubes l (B, R·L, D) to the regions m (B, R, D).
fn to_tubes(g: &mut Graph, at: &str, config: &LgiFormerConfig, m: Value, l: Value) -> Value {
    let third = format!("{at}.third_attn");
    let queries = g.layer_norm(&format!("{third}_norm0"), l, config.eps);
    let over = g.layer_norm(&format!("{third}_norm1"), m, config.eps);
    let head_dim = config.width / config.heads;
    let branch = g.cross_attention(&third, queries, over, config.heads, head_dim);
    g.add(at, l, branch)
}

/// How the grid of tubes is cut into equal boxes.
struct Regions {
    /// R
    count: usize,
    /// L
    tubes: usize,
    width: usize,
    /// Along (t, h, w): regions, and tubes of each.
    along: [i64; 3],
    size: [i64; 3],
}

impl Regions {
    fn new(config: &LgiFormerConfig, grid: [usize; 3]) -> Self {
        let size = [0, 1, 2].map(|axis| grid[axis] / config.regions[axis]);
        Self {
            count: config.region_count(),
            tubes: size.iter().product(),
            width: config.width,
            along: config.regions.map(|n| n as i64),
            size: size.map(|n| n as i64),
        }
    }

    /// The shape (R, D) of the regions' tokens.
    fn tokens(&self) -> [usize; 2] {
        [self.count, self.width]
    }

    /// Tokens (B, N, D) in the grid's order → (B·R, L, D).
    fn cut(&self, g: &mut Graph, x: Value) -> Value {
        const AT: &str = "encoder.regions";
        let ([_, rh, rw], [t, h, w], width) = (self.along, self.size, self.width as i64);
        // Clips and their regions along time stay side by side.
        let x = g.reshape(AT, x, &[-1, t, rh, h, rw, w, width]);
        let x = g.transpose(AT, x, &[0, 2, 4, 1, 3, 5, 6]);
        g.reshape(AT, x, &[-1, self.tubes as i64, width])
    }

    /// Tokens (B·R, L, D) → (B, N, D) in the grid's order.
    fn put_back(&self, g: &mut Graph, x: Value) -> Value {
        const AT: &str = "encoder.features";
        let ([_, rh, rw], [t, h, w], width) = (self.along, self.size, self.width as i64);
        let x = g.reshape(AT, x, &[-1, rh, rw, t, h, w, width]);
        let x = g.transpose(AT, x, &[0, 3, 1, 4, 2, 5, 6]);
        g.reshape(AT, x, &[-1, (self.count * self.tubes) as i64, width])
    }

    /// m (B, R, D) before l of each region: x (B·R, 1 + L, D).
    fn join(&self, g: &mut Graph, at: &str, m: Value, l: Value) -> Value {
        let width = self.width as i64;
        let m = g.reshape(at, m, &[-1, 1, width]);
        let l = g.reshape(at, l, &[-1, self.tubes as i64, width]);
        g.concat(at, &[m, l], 1)
    }
}
