//! The decoder of one stage: one of the cascade, a task's own, or the shared one.

use candle_core::{Module, Result, Tensor};
use mtcae_nn::{CrossAttention, DropPath, LayerNorm, Linear, Over, Pass, VarBuilder, linear};

use crate::layer::Layer;
use crate::{Config, Kind, KvOrder, Stage};

/// Algorithm 1: X = Norm(Dense(F)) once, then L layers of attention to it. Decoders of
/// layers without attention have no X, and no Dense layer where they begin with Y.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    pub dense: Option<Linear>,
    /// Absent in the order norm-dense, where F comes normalised.
    pub norm: Option<LayerNorm>,
    /// Distinct layers.
    pub layers: Vec<Layer>,
    /// One for each application of a layer, shared or not: the rate grows linearly from 0
    /// to the config's.
    drop_paths: Vec<DropPath>,
}

impl Decoder {
    /// `dense`, `norm` and `layers.{l}` below `vb`, as far as the stage has them.
    pub fn new(cfg: &Config, stage: &Stage, kind: Kind, vb: VarBuilder<'_>) -> Result<Self> {
        let dense = match stage.has_dense() {
            true => Some(linear(cfg.features, cfg.width, vb.pp("dense"))?),
            false => None,
        };
        let norm = match (kind, cfg.kv_order) {
            (Kind::Vit, KvOrder::DenseNorm) => {
                Some(LayerNorm::new(cfg.width, cfg.eps, vb.pp("norm"))?)
            }
            _ => None,
        };
        let distinct = if cfg.share_layers { 1 } else { cfg.depth };
        let vb = vb.pp("layers");
        let layers = (0..distinct).map(|l| Layer::new(cfg, kind, vb.pp(l)));
        let last = cfg.depth.saturating_sub(1).max(1) as f64;
        let drop_paths = (0..cfg.depth).map(|l| DropPath::new(cfg.drop_path * l as f64 / last));
        Ok(Self {
            dense,
            norm,
            layers: layers.collect::<Result<_>>()?,
            drop_paths: drop_paths.collect::<Result<_>>()?,
        })
    }

    /// The attentions of the distinct layers; none of an MLP decoder.
    pub fn attentions(&self) -> Vec<&CrossAttention> {
        let attentions = self.layers.iter().filter_map(|l| l.attention.as_ref());
        attentions.map(|(_, attention)| attention).collect()
    }

    /// Local features Y (B, N, w) from those of an earlier stage, or from Dense(F) itself
    /// where there is none, and global features F (B, N, D).
    ///
    /// `t` is the number that intermediates are named by.
    pub fn forward(
        &self,
        y: Option<&Tensor>,
        f: &Tensor,
        t: usize,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let dense = match &self.dense {
            Some(dense) => Some(dense.forward(f)?),
            None => None,
        };
        let attentions = self.attentions();
        let x = match (attentions.is_empty(), &dense, &self.norm) {
            (false, Some(dense), Some(norm)) => Some(norm.forward(dense)?),
            (false, Some(dense), None) => Some(dense.clone()),
            _ => None,
        };
        let kv = match &x {
            Some(x) => {
                pass.record(|| format!("X{t}"), x);
                CrossAttention::shared_keys_and_values(&attentions, x)?
            }
            None => None,
        };
        let mut y = y.or(dense.as_ref()).unwrap_or(f).clone();
        for (l, &drop_path) in self.drop_paths.iter().enumerate() {
            let place = l % self.layers.len();
            let over = match &kv {
                Some(kv) => Some(Over::KeysAndValues(&kv[place])),
                None => x.as_ref().map(Over::Features),
            };
            y = self.layers[place].forward(&y, over, drop_path, pass)?;
            pass.record(|| format!("Y{t}.layers.{l}"), &y);
        }
        pass.record(|| format!("Y{t}"), &y);
        Ok(y)
    }
}
