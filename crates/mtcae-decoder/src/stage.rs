//! One decoder: a stage of the cascade, a task's own, or the shared one.

use candle_core::{Module, Result, Tensor};
use mtcae_nn::{DropPath, LayerNorm, Linear, Over, Pass, VarBuilder, linear};

use crate::{Config, KvOrder, MlpLayer, VitLayer};

/// Algorithm 1: X = Norm(Dense(F)) once, then L layers of attention to it.
#[derive(Clone, Debug)]
pub struct VitDecoder {
    dense: Linear,
    /// Absent in the order norm-dense, where F comes normalised.
    norm: Option<LayerNorm>,
    layers: Vec<VitLayer>,
    /// One an application of a layer.
    drop_paths: Vec<DropPath>,
}

impl VitDecoder {
    /// `dense`, `norm` (dense-norm only) and `layers.{l}` below `vb`.
    pub fn new(cfg: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        let norm = match cfg.kv_order {
            KvOrder::DenseNorm => Some(LayerNorm::new(cfg.width, cfg.eps, vb.pp("norm"))?),
            KvOrder::NormDense => None,
        };
        Ok(Self {
            dense: linear(cfg.features, cfg.width, vb.pp("dense"))?,
            norm,
            layers: layers(cfg, vb.pp("layers"), VitLayer::new)?,
            drop_paths: drop_paths(cfg)?,
        })
    }

    /// Dense, norm and distinct layers.
    pub(crate) fn parts(&self) -> (&Linear, Option<&LayerNorm>, &[VitLayer]) {
        (&self.dense, self.norm.as_ref(), &self.layers)
    }

    /// Local features Y (B, N, w) from those of the stage before, or from
    /// Dense(F) itself where there is none, and global features F (B, N, D).
    ///
    /// `t` is the place in the cascade that intermediates are named by.
    pub fn forward(
        &self,
        y: Option<&Tensor>,
        f: &Tensor,
        t: usize,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let dense = self.dense.forward(f)?;
        let x = match &self.norm {
            Some(norm) => norm.forward(&dense)?,
            None => dense.clone(),
        };
        pass.record(|| format!("X{t}"), &x);
        let kv = VitLayer::keys_and_values(&self.layers, &x)?;
        let mut y = y.unwrap_or(&dense).clone();
        for (l, &drop_path) in self.drop_paths.iter().enumerate() {
            let place = l % self.layers.len();
            let over = match &kv {
                Some(kv) => Over::KeysAndValues(&kv[place]),
                None => Over::Features(&x),
            };
            y = self.layers[place].forward(&y, over, drop_path, pass)?;
            pass.record(|| format!("Y{t}.layers.{l}"), &y);
        }
        pass.record(|| format!("Y{t}"), &y);
        Ok(y)
    }
}

/// The ViT decoder with its attention taken out, for the ablation.
#[derive(Clone, Debug)]
pub struct MlpDecoder {
    /// Absent where Y comes from a shared decoder.
    dense: Option<Linear>,
    layers: Vec<MlpLayer>,
    /// One an application of a layer.
    drop_paths: Vec<DropPath>,
}

impl MlpDecoder {
    /// A decoder of F: `dense` and `layers.{l}` below `vb`.
    pub fn of_features(cfg: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        let dense = Some(linear(cfg.features, cfg.width, vb.pp("dense"))?);
        Ok(Self {
            dense,
            ..Self::of_local(cfg, vb)?
        })
    }

    /// A decoder of local features: `layers.{l}` below `vb`.
    pub fn of_local(cfg: &Config, vb: VarBuilder<'_>) -> Result<Self> {
        let layers = layers(cfg, vb.pp("layers"), MlpLayer::new)?;
        Ok(Self {
            dense: None,
            layers,
            drop_paths: drop_paths(cfg)?,
        })
    }

    /// Dense and distinct layers.
    pub(crate) fn parts(&self) -> (Option<&Linear>, &[MlpLayer]) {
        (self.dense.as_ref(), &self.layers)
    }

    /// F (B, N, D) or, without a dense layer, Y (B, N, w) → Y (B, N, w).
    ///
    /// `t` is the task's place in the list, which intermediates are named by.
    pub fn forward(&self, input: &Tensor, t: usize, pass: &mut Pass) -> Result<Tensor> {
        let mut y = match &self.dense {
            Some(dense) => dense.forward(input)?,
            None => input.clone(),
        };
        for (l, &drop_path) in self.drop_paths.iter().enumerate() {
            y = self.layers[l % self.layers.len()].forward(&y, drop_path, pass)?;
            pass.record(|| format!("Y{t}.layers.{l}"), &y);
        }
        pass.record(|| format!("Y{t}"), &y);
        Ok(y)
    }
}

/// The distinct layers of a decoder.
fn layers<'a, L>(
    cfg: &Config,
    vb: VarBuilder<'a>,
    new: impl Fn(&Config, VarBuilder<'a>) -> Result<L>,
) -> Result<Vec<L>> {
    let distinct = if cfg.share_layers { 1 } else { cfg.depth };
    (0..distinct).map(|l| new(cfg, vb.pp(l))).collect()
}

/// Drop path of each application of a layer, shared or not: the rate grows linearly
/// from 0 to the config's.
fn drop_paths(cfg: &Config) -> Result<Vec<DropPath>> {
    let last = cfg.depth.saturating_sub(1).max(1) as f64;
    (0..cfg.depth)
        .map(|l| DropPath::new(cfg.drop_path * l as f64 / last))
        .collect()
}
