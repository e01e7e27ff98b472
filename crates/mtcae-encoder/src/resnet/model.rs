//! Residual networks over volumes (B, t, h, w, C): 3D ResNeXt (Hara, Kataoka and Satoh,
//! CVPR 2018), R3D (Tran et al., CVPR 2018), and over frames ResNet (He et al., 2015, arXiv
//! 1512.03385).

use mtcae_nn::candle_core::{Result, Tensor};
use mtcae_nn::volume::{ConvNorm, channels_last, pool};
use mtcae_nn::{Pass, VarBuilder};

use super::config::{ResNetConfig, Unit, Units};
use crate::error::Error;

/// x ← relu(convolutions of x + x, or of what stands beside them). A ReLU follows all but
/// the last convolution, too.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) convs: Vec<ConvNorm>,
    pub(super) downsample: Option<ConvNorm>,
}

/// The layer of a unit.
pub(super) fn layer(config: &ResNetConfig, unit: &Unit, vb: &VarBuilder<'_>) -> Result<ConvNorm> {
    let (conv, norm) = (vb.pp(&unit.conv), vb.pp(&unit.norm));
    let statistics = config.statistics();
    ConvNorm::new(
        unit.shape,
        config.pictures(),
        config.eps,
        statistics,
        conv,
        norm,
    )
}

impl Block {
    pub(super) fn new(config: &ResNetConfig, units: &Units, vb: &VarBuilder<'_>) -> Result<Self> {
        let layer = |unit| layer(config, unit, vb);
        Ok(Self {
            convs: units.convs.iter().map(layer).collect::<Result<_>>()?,
            downsample: units.downsample.as_ref().map(layer).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let beside = match &self.downsample {
            Some(downsample) => downsample.forward(x, None, false, pass)?,
            None => x.clone(),
        };
        let mut x = x.clone();
        for (i, conv) in self.convs.iter().enumerate() {
            let residual = (i + 1 == self.convs.len()).then_some(&beside);
            x = conv.forward(&x, residual, true, pass)?;
        }
        Ok(x)
    }
}

/// The encoder: frames in, the last map's places as features F out.
#[derive(Clone, Debug)]
pub struct ResNet {
    pub(super) config: ResNetConfig,
    pub(super) stem: ConvNorm,
    pub(super) blocks: Vec<Block>,
}

impl ResNet {
    /// Asks `vb` for the tensors of the config's groups.
    ///
    /// # Errors
    /// When the configuration is not valid or `vb` refuses a tensor.
    pub fn new(config: &ResNetConfig, vb: VarBuilder<'_>) -> std::result::Result<Self, Error> {
        config.check("encoder config")?;
        let units = config.blocks();
        let blocks = units.iter().map(|units| Block::new(config, units, &vb));
        Ok(Self {
            config: config.clone(),
            stem: layer(config, &config.stem(), &vb)?,
            blocks: blocks.collect::<Result<_>>()?,
        })
    }

    /// Frames (B, T, C, H, W) → F (B, t·h·w, D).
    pub(super) fn forward(&self, frames: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let clips = frames.dim(0)?;
        let rest = match &self.config.batch_norm {
            Some(groups) if pass.is_training() && clips > groups.clips => clips % groups.clips,
            _ => 0,
        };
        if rest == 0 {
            return self.maps(frames, pass);
        }
        // The last group is a batch of its own, which none of the others sees.
        let whole = self.maps(&frames.narrow(0, 0, clips - rest)?, pass)?;
        let last = self.maps(&frames.narrow(0, clips - rest, rest)?, pass)?;
        Tensor::cat(&[whole, last], 0)
    }

    fn maps(&self, frames: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let x = channels_last(frames)?;
        let mut x = self.stem.forward(&x, None, true, pass)?;
        pass.record(|| "stem".to_owned(), &x);
        if let Some(by) = self.config.pool() {
            x = pool(&x, &by)?;
        }
        for (block, units) in self.blocks.iter().zip(self.config.blocks()) {
            x = block.forward(&x, pass)?;
            pass.record(|| format!("encoder.{}", units.name), &x);
        }
        let (b, t, h, w, width) = x.dims5()?;
        let f = x.reshape((b, t * h * w, width))?;
        pass.record(|| "F".to_owned(), &f);
        Ok(f)
    }
}
