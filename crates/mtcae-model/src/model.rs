//! The whole model (paper, Fig. 2): X → F → Y1, Y2, Y3 → B, P, E.

use candle_core::{DType, Tensor};
use mtcae_decoder::MultiTaskDecoder;
use mtcae_encoder::Encoder;
use mtcae_nn::{Pass, VarBuilder};

use crate::{Config, EXPRESSION, Error, FACE_BOX, LANDMARKS};

/// VideoMAE encoder, decoder of one of the six structures, and heads.
///
/// Its tensors are `encoder.…` and `decoder.…`.
#[derive(Clone, Debug)]
pub struct Mtcae {
    config: Config,
    encoder: Encoder,
    decoder: MultiTaskDecoder,
}

/// What the heads say of a batch of B clips of T frames.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Face boxes (B, T, 4): x1, y1, x2, y2 as fractions of the clip's frame.
    /// `None` where the structure has no such task.
    pub boxes: Option<Tensor>,
    /// Landmarks (B, T, 5, 2): x, y as fractions of the clip's frame. `None` where
    /// the structure has no such task.
    pub landmarks: Option<Tensor>,
    /// Logits of the expression (B, C).
    pub logits: Tensor,
}

impl Mtcae {
    /// Builds the model from the tensors below `vb`.
    ///
    /// # Errors
    /// Names the field of the config or the tensor at fault.
    pub fn new(config: &Config, vb: VarBuilder<'_>) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self {
            encoder: Encoder::new(&config.encoder, vb.pp("encoder"))?,
            decoder: MultiTaskDecoder::new(&config.decoder, vb.pp("decoder"))?,
            config: config.clone(),
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The encoder, clips to F.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The decoder, F to local features and heads.
    pub fn decoder(&self) -> &MultiTaskDecoder {
        &self.decoder
    }

    /// Normalised clips (B, T, C, H, W) → head outputs.
    ///
    /// # Errors
    /// When the clips have another shape or type than the model takes.
    pub fn forward(&self, clips: &Tensor) -> Result<Outputs, Error> {
        let f = self.encoder.forward(clips)?;
        self.decode(&f, &mut Pass::inference())
    }

    /// Normalised tubes (B, N, C·t·h·w) → head outputs.
    ///
    /// # Errors
    /// When the tubes have another shape or type than the model takes.
    pub fn forward_tubes(&self, tubes: &Tensor) -> Result<Outputs, Error> {
        self.run(tubes, &mut Pass::inference())
    }

    /// As [`Self::forward_tubes`], in the mode of `pass`.
    ///
    /// # Errors
    /// When the tubes have another shape or type than the model takes.
    pub fn run(&self, tubes: &Tensor, pass: &mut Pass) -> Result<Outputs, Error> {
        let f = self.encoder.run(tubes, pass)?;
        self.decode(&f, pass)
    }

    /// Global features F (B, N, D), made before, → head outputs.
    ///
    /// # Errors
    /// When F has another shape or type than the decoder takes.
    pub fn decode(&self, f: &Tensor, pass: &mut Pass) -> Result<Outputs, Error> {
        let outputs = self.decoder.run(f, pass)?;
        let frames = self.config.encoder.frames;
        Outputs::new(frames, f.dim(0)?, |task| outputs.head(task))
    }

    /// Tubes (B, N, C·t·h·w) from normalised clips (B, T, C, H, W).
    ///
    /// # Errors
    /// When the clips have another shape than the model takes.
    pub fn tubes(&self, clips: &Tensor) -> Result<Tensor, Error> {
        Ok(self.encoder.tubes(clips)?)
    }
}

impl Outputs {
    /// Head outputs (`batch`, outputs) by the name of their task, in their shapes.
    pub(crate) fn new<'a>(
        frames: usize,
        batch: usize,
        head: impl Fn(&str) -> Option<&'a Tensor>,
    ) -> Result<Self, Error> {
        let Some(logits) = head(EXPRESSION) else {
            // `validate` has made sure of this task.
            return Err(Error::Config {
                field: "decoder.tasks",
                reason: format!("{EXPRESSION} is missing"),
            });
        };
        Ok(Self {
            boxes: head(FACE_BOX)
                .map(|t| t.reshape((batch, frames, 4)))
                .transpose()?,
            landmarks: head(LANDMARKS)
                .map(|t| t.reshape((batch, frames, 5, 2)))
                .transpose()?,
            logits: logits.clone(),
        })
    }

    /// Class probabilities (B, C): softmax of the logits.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn probabilities(&self) -> Result<Tensor, Error> {
        let logits = self.logits.to_dtype(DType::F32)?;
        let exp = logits.broadcast_sub(&logits.max_keepdim(1)?)?.exp()?;
        Ok(exp.broadcast_div(&exp.sum_keepdim(1)?)?)
    }
}
