//! The whole model (paper, Fig. 2): X → F → Y1, Y2, Y3 → B, P, E.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use mtcae_decoder::MultiTaskDecoder;
use mtcae_encoder::Encoder;
use mtcae_nn::{Pass, VarBuilder};

use crate::{ACTION_UNITS, Calibration, Config, EXPRESSION, Error, FACE_BOX, LANDMARKS};

/// An encoder, a decoder of any structure, and heads. Parameters are
/// shared between clones.
///
/// Its tensors are `encoder.…` and `decoder.…`.
#[derive(Clone, Debug)]
pub struct Mtcae {
    config: Config,
    encoder: Option<Arc<dyn Encoder>>,
    decoder: Arc<MultiTaskDecoder>,
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
    /// Strengths of the config's action units (B, T, U), mostly from 0 to 1. `None` where
    /// the structure has no such task.
    pub action_units: Option<Tensor>,
    /// Raw logits of the expression (B, C): before calibration.
    pub logits: Tensor,
    /// The config's.
    pub calibration: Option<Calibration>,
}

impl Mtcae {
    /// Builds the model from the tensors below `vb`.
    ///
    /// # Errors
    /// Names the field of the config or the tensor at fault.
    pub fn new(config: &Config, vb: VarBuilder<'_>) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self {
            encoder: Some(config.encoder.build(vb.pp("encoder"))?),
            ..Self::without_encoder(config, vb)?
        })
    }

    /// As [`Self::new`], but of features that were made before: no tensor of the encoder
    /// is asked for.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn without_encoder(config: &Config, vb: VarBuilder<'_>) -> Result<Self, Error> {
        config.validate()?;
        let decoder = MultiTaskDecoder::new(&config.decoder, vb.pp("decoder"))?;
        Ok(Self {
            config: config.clone(),
            encoder: None,
            decoder: Arc::new(decoder),
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The encoder, clips to F, where it was built.
    pub fn encoder(&self) -> Option<&Arc<dyn Encoder>> {
        self.encoder.as_ref()
    }

    /// The decoder, F to local features and heads.
    pub fn decoder(&self) -> &Arc<MultiTaskDecoder> {
        &self.decoder
    }

    /// Normalised clips (B, T, C, H, W) → head outputs, for inference.
    ///
    /// # Errors
    /// When the clips have another shape or type than the model takes.
    pub fn forward(&self, clips: &Tensor) -> Result<Outputs, Error> {
        let input = self.config.encoder.input().cut(clips)?;
        self.run(&input, &mut Pass::inference())
    }

    /// Normalised input (B, …), as the encoder's [`Input`](mtcae_encoder::Input) says →
    /// head outputs, in the mode of `pass`.
    ///
    /// # Errors
    /// When the input has another shape or type than the model takes, or the model was
    /// built without its encoder.
    pub fn run(&self, input: &Tensor, pass: &mut Pass) -> Result<Outputs, Error> {
        let encoder = self.encoder().ok_or(Error::NoEncoder)?;
        self.decode(&encoder.run(input, pass)?, pass)
    }

    /// Global features F (B, N, D), made before, → head outputs.
    ///
    /// # Errors
    /// When F has another shape or type than the decoder takes.
    pub fn decode(&self, f: &Tensor, pass: &mut Pass) -> Result<Outputs, Error> {
        Ok(self.decode_in_full(f, pass)?.0)
    }

    /// As [`Self::decode`], with the local features Y_t (B, N, w) of each task, in the tasks'
    /// order.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_in_full(
        &self,
        f: &Tensor,
        pass: &mut Pass,
    ) -> Result<(Outputs, Vec<Tensor>), Error> {
        let decoded = self.decoder.run(f, pass)?;
        let outputs = Outputs::new(&self.config, f.dim(0)?, |task| decoded.head(task))?;
        Ok((outputs, decoded.features))
    }
}

impl Outputs {
    /// Head outputs (`batch`, outputs) by the name of their task, in their shapes.
    pub(crate) fn new<'a>(
        config: &Config,
        batch: usize,
        head: impl Fn(&str) -> Option<&'a Tensor>,
    ) -> Result<Self, Error> {
        let frames = config.encoder.input().frames;
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
            action_units: head(ACTION_UNITS)
                .map(|t| t.reshape((batch, frames, config.action_units.len())))
                .transpose()?,
            logits: logits.clone(),
            calibration: config.calibration.clone(),
        })
    }

    /// Class probabilities (B, C): softmax of the logits, scaled as the calibration says.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn probabilities(&self) -> Result<Tensor, Error> {
        let mut logits = self.logits.to_dtype(DType::F32)?;
        if let Some(calibration) = &self.calibration {
            logits = calibration.apply(&logits)?;
        }
        let exp = logits.broadcast_sub(&logits.max_keepdim(1)?)?.exp()?;
        Ok(exp.broadcast_div(&exp.sum_keepdim(1)?)?)
    }
}
