//! The decoder of masked pre-training: a narrow ViT over all tokens of a clip, of which the
//! masked ones become numbers of tubes.

use candle_nn::Init;
use mtcae_nn::candle_core::{Module, Result, Tensor};
use mtcae_nn::{
    INIT_STD, LayerNorm, Linear, Pass, VarBuilder, linear, linear_no_bias, sin_cos_table,
};

use super::config::MaskedConfig;
use super::mask::Places;
use crate::block::Block;
use crate::seam::{Group, Parameter};

/// A projection to its width, what stands for a masked tube, blocks, norm and head.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    embed: Linear,
    /// (1, 1, w)
    mask_token: Tensor,
    /// (N, w), VideoMAE's fixed table
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Decoder {
    /// The tensors of [`Self::groups`], below `vb`.
    pub fn new(config: &MaskedConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (sizes, width) = (config.decoder_sizes(), config.decoder.width);
        let init = Init::Randn {
            mean: 0.0,
            stdev: INIT_STD,
        };
        let positions = sin_cos_table(config.tubes(), width, vb.device())?;
        Ok(Self {
            embed: linear_no_bias(config.encoder.output().width, width, vb.pp("embed"))?,
            mask_token: vb.get_with_hints((1, 1, width), "mask_token", init)?,
            positions: positions.to_dtype(vb.dtype())?,
            blocks: (0..sizes.depth)
                .map(|i| Block::new(&sizes, 0.0, vb.pp("blocks").pp(i)))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(width, sizes.eps, vb.pp("norm"))?,
            head: linear(width, config.tube_len(), vb.pp("head"))?,
        })
    }

    /// The parameters that [`Self::new`] asks for.
    pub fn groups(config: &MaskedConfig) -> Vec<Group> {
        let (sizes, width) = (config.decoder_sizes(), config.decoder.width);
        let depth = config.encoder.depth() + 1;
        let embed = [("embed.weight", vec![width, config.encoder.output().width])];
        let mut embed = Group::new("mask token", depth, embed);
        embed.parameters.push(Parameter {
            decays: false,
            ..Parameter::new("mask_token", vec![1, 1, width])
        });
        let block = |i: usize| {
            let name = format!("blocks.{i}");
            let tensors = Block::tensors(&sizes, &name);
            Group::new(format!("decoder {name}"), depth, tensors)
        };
        let mut head = Vec::from([
            ("norm.weight".to_owned(), vec![width]),
            ("norm.bias".to_owned(), vec![width]),
        ]);
        head.extend([
            ("head.weight".to_owned(), vec![config.tube_len(), width]),
            ("head.bias".to_owned(), vec![config.tube_len()]),
        ]);
        let blocks = (0..sizes.depth).map(block);
        let last = Group::new("decoder head", depth, head);
        [embed].into_iter().chain(blocks).chain([last]).collect()
    }

    /// Features (B, V, D) of the visible tubes → numbers (B, M, P) of the masked ones; records
    /// `decoder.embeddings` (B, V + M, w) and `decoder.blocks.{i}`.
    pub fn forward(
        &self,
        features: &Tensor,
        visible: &Places,
        masked: &Places,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let positions = self.positions.to_dtype(features.dtype())?;
        let seen = (self.embed.forward(features)? + visible.look_up(&positions)?)?;
        let mask_token = self.mask_token.to_dtype(features.dtype())?;
        let unseen = masked.look_up(&positions)?.broadcast_add(&mask_token)?;
        let mut x = Tensor::cat(&[seen, unseen], 1)?;
        pass.record(|| "decoder.embeddings".to_owned(), &x);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, pass)?;
            pass.record(|| format!("decoder.blocks.{i}"), &x);
        }
        let x = x.narrow(1, visible.count(), masked.count())?.contiguous()?;
        self.head.forward(&self.norm.forward(&x)?)
    }
}
