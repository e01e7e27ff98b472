//! Tubes to tokens: a projection, and where each tube is.

use candle_nn::Init;
use mtcae_nn::candle_core::{Module, Result, Tensor};
use mtcae_nn::plan::{Format, Packed, pack, project};
use mtcae_nn::{Pass, TubeEmbedding, VarBuilder, sin_cos_table};

use crate::masked::Places;
use crate::seam::{Group, Parameter};
use crate::sizes::Sizes;

/// Where position embeddings come from.
#[derive(serde::Serialize, serde::Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// VideoMAE's fixed table over flat positions, computed and not stored.
    SinCos,
    /// A table (N, D) among the weights, as MARLIN has it.
    Stored,
}

/// The projection of tubes, and the positions that are added.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    proj: TubeEmbedding,
    /// (N, D)
    positions: Tensor,
}

impl Embedding {
    /// `patch_embed.proj`, and `pos_embed` (N, D) where positions are stored, below `vb`.
    pub fn new(sizes: &Sizes, position: Position, vb: &VarBuilder<'_>) -> Result<Self> {
        let (tokens, width) = (sizes.tokens(), sizes.width);
        let proj = TubeEmbedding::new(
            sizes.channels,
            sizes.tubelet,
            sizes.patch,
            width,
            vb.pp("patch_embed"),
        )?;
        let positions = match position {
            Position::SinCos => sin_cos_table(tokens, width, vb.device())?.to_dtype(vb.dtype())?,
            Position::Stored => {
                let init = Init::Randn {
                    mean: 0.0,
                    stdev: mtcae_nn::INIT_STD,
                };
                vb.get_with_hints((tokens, width), "pos_embed", init)?
            }
        };
        Ok(Self { proj, positions })
    }

    /// The parameters that [`Self::new`] asks for.
    pub fn group(sizes: &Sizes, position: Position) -> Group {
        let proj = [
            (
                "patch_embed.proj.weight",
                vec![sizes.width, sizes.tube_len()],
            ),
            ("patch_embed.proj.bias", vec![sizes.width]),
        ];
        let mut group = Group::new("embedding", 0, proj);
        if position == Position::Stored {
            group.parameters.push(Parameter {
                decays: false,
                ..Parameter::new("pos_embed", vec![sizes.tokens(), sizes.width])
            });
        }
        group
    }

    /// Tubes (B, N, C·t·p·p) → tokens (B, N, D); records `patch_embed` and, with
    /// positions, `embeddings`.
    pub fn forward(&self, tubes: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let x = self.proj.forward(tubes)?;
        pass.record(|| "patch_embed".to_owned(), &x);
        let x = x.broadcast_add(&self.positions.to_dtype(x.dtype())?)?;
        pass.record(|| "embeddings".to_owned(), &x);
        Ok(x)
    }

    /// As [`Self::forward`], of the tubes at some places alone: tubes (B, N, C·t·p·p) →
    /// tokens (B, V, D).
    pub fn forward_at(&self, tubes: &Tensor, places: &Places, pass: &mut Pass) -> Result<Tensor> {
        let x = self.proj.forward(&places.pick(tubes)?)?;
        pass.record(|| "patch_embed".to_owned(), &x);
        let positions = places.look_up(&self.positions.to_dtype(x.dtype())?)?;
        let x = (x + positions)?;
        pass.record(|| "embeddings".to_owned(), &x);
        Ok(x)
    }

    pub fn plan(&self, format: Format) -> Result<EmbeddingPlan> {
        Ok(EmbeddingPlan {
            format,
            proj: pack(format, &[self.proj.projection()])?,
            positions: self.positions.flatten_all()?.to_vec1()?,
        })
    }
}

/// [`Embedding`], packed.
#[derive(Debug)]
pub(crate) struct EmbeddingPlan {
    format: Format,
    proj: Packed,
    /// (N, D)
    positions: Vec<f32>,
}

impl EmbeddingPlan {
    /// The operand's length that a forward needs.
    pub fn operand_len(&self) -> usize {
        let tokens = self.positions.len() / self.proj.outputs().max(1);
        self.format.operand_len(tokens, self.proj.inputs())
    }

    /// Tubes (N, C·t·p·p) of one clip → tokens (N, D).
    pub fn forward(&self, tubes: &[f32], operand: &mut [f32], tokens: &mut [f32]) {
        let length = self.proj.inputs();
        project(self.format, tubes, length, &self.proj, operand, tokens);
        for (x, position) in tokens.iter_mut().zip(&self.positions) {
            *x += position;
        }
    }
}
