//! Clips to tokens: how every family here begins.

use mtcae_encoder::Position;
use mtcae_nn::sin_cos_table;

use crate::error::Error;
use crate::graph::{Graph, Value};

/// How clips are cut into tubes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tubes {
    pub frames: usize,
    pub image_size: usize,
    pub channels: usize,
    pub tubelet: usize,
    pub patch: usize,
    pub width: usize,
}

impl Tubes {
    /// The grid (t, h, w) of the tubes.
    pub fn grid(&self) -> [usize; 3] {
        let side = self.image_size / self.patch;
        [self.frames / self.tubelet, side, side]
    }
}

/// Clips (B, T, C, H, W) → tokens (B, N, D) with their positions.
///
/// # Errors
/// When the table of positions cannot be computed.
pub(crate) fn embed(
    g: &mut Graph,
    clips: Value,
    tubes: &Tubes,
    position: Position,
) -> Result<Value, Error> {
    const PROJ: &str = "encoder.patch_embed.proj";
    let [_, h, w] = tubes.grid();
    let tokens: usize = tubes.grid().iter().product();
    let (t, p, c) = (tubes.tubelet, tubes.patch, tubes.channels);
    // Clips and their slices of time stay side by side: fewer dimensions to turn.
    let apart = [t, c, h, p, w, p].map(|n| n as i64);
    let x = g.reshape("tubes", clips, &[&[-1], &apart[..]].concat());
    let x = g.transpose("tubes", x, &[0, 3, 5, 2, 1, 4, 6]);
    let x = g.reshape("tubes", x, &[-1, tokens as i64, (c * t * p * p) as i64]);
    let x = g.linear(PROJ, x);
    let positions = match position {
        Position::SinCos => {
            let table = sin_cos_table(tokens, tubes.width, &mtcae_nn::candle_core::Device::Cpu)?;
            let table = table.flatten_all()?.to_vec1()?;
            g.floats("encoder.positions", vec![tokens, tubes.width], table)
        }
        Position::Stored => g.tensor("encoder.pos_embed"),
    };
    Ok(g.add("encoder.positions", x, positions))
}

/// LayerNorm of what the last block gives, where there is one.
pub(crate) fn final_norm(g: &mut Graph, there: bool, x: Value, eps: f64) -> Value {
    match there {
        true => g.layer_norm("encoder.norm", x, eps),
        false => x,
    }
}
