//! Names of whole models of masked pre-training in the spellings of published checkpoints.

use mtcae_nn::candle_core::Device;
use mtcae_nn::weights::{self, Source};

use super::config::DecoderConfig;
use crate::error::Error;
use crate::json::Fields;
use crate::preprocessing::Preprocessing;
use crate::published::{OWN, Overrides, Part, Spelling, Told};
use crate::seam::Config;
use crate::videomae;

/// Modules beside the encoder that are the decoder's, at the root of a published file.
const MODULES: [&str; 3] = ["decoder", "encoder_to_decoder", "mask_token"];

/// A spelling of an encoder, and with it the decoder's: names are those of
/// [`MaskedConfig::tensors`](super::MaskedConfig::tensors).
pub(super) struct Whole {
    encoder: Box<dyn Spelling>,
    kind: Kind,
    /// What stands before the names of a published file's decoder.
    root: String,
}

/// Who spells the decoder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Own,
    HuggingFace,
    /// VideoMAE's code, and what was built on it.
    VideoMae,
}

impl Whole {
    /// That of a file whose encoder is spelt like this; `None` where nobody wrote it down.
    pub fn of(encoder: Box<dyn Spelling>) -> Option<Self> {
        let kind = match encoder.name() {
            OWN => Kind::Own,
            "huggingface" => Kind::HuggingFace,
            "videomae" | "mae-dfer" | "svfap" => Kind::VideoMae,
            _ => return None,
        };
        let prefix = encoder.prefix();
        let last = match kind {
            Kind::HuggingFace => "videomae.",
            Kind::Own | Kind::VideoMae => "encoder.",
        };
        let root = prefix.strip_suffix(last).unwrap_or(prefix).to_owned();
        Some(Self {
            encoder,
            kind,
            root,
        })
    }

    /// Sizes of the decoder, from a `config.json` or else from the shapes of the tensors;
    /// ε is the encoder's.
    pub fn decoder(
        &self,
        fields: Option<&Fields>,
        source: &dyn Source,
        overrides: &Overrides,
        eps: f64,
    ) -> Result<DecoderConfig, Error> {
        if let Some(fields) = fields {
            return Ok(DecoderConfig {
                width: fields.size("decoder_hidden_size")?,
                depth: fields.size("decoder_num_hidden_layers")?,
                heads: fields.size("decoder_num_attention_heads")?,
                hidden: fields.size("decoder_intermediate_size")?,
                eps,
            });
        }
        let told = Told {
            source,
            spelling: self,
        };
        let width = told.rows("decoder.embed.weight", "decoder.width")?;
        // As published: ViT-H's has 8 of 80 channels, all others 64 a head.
        let known = match width {
            640 => Some(8),
            192 | 256 | 384 | 512 => Some(width / 64),
            _ => None,
        };
        let heads = overrides.decoder_heads.or(known).ok_or_else(|| {
            let reason = format!(
                "the file does not tell them, and width {width} is none of the published \
                 decoders'; their number must be given"
            );
            told.fault("decoder.heads", reason)
        })?;
        Ok(DecoderConfig {
            width,
            depth: told.depth(&format!("{}decoder.blocks.", self.root))?,
            heads,
            hidden: told.rows("decoder.blocks.0.mlp.fc1.weight", "decoder.hidden")?,
            eps,
        })
    }

    /// The parts of a tensor of the decoder, whose name is without `decoder.`.
    fn decoder_parts(&self, name: &str) -> Vec<Part> {
        let root = &self.root;
        match name {
            "embed.weight" => return Part::plain(format!("{root}encoder_to_decoder.weight")),
            "mask_token" => return Part::plain(format!("{root}mask_token")),
            _ => {}
        }
        if let Some(leaf) = name.strip_prefix("fusion.") {
            let prefix = self.encoder.prefix();
            return Part::plain(format!("{prefix}norm.{leaf}"));
        }
        match (self.kind, name.starts_with("blocks.")) {
            (Kind::HuggingFace, true) => {
                let mut parts = videomae::hugging_face_block(name);
                for name in parts.iter_mut().flat_map(|part| &mut part.names) {
                    *name = format!("{root}decoder.decoder_layers.{name}");
                }
                parts
            }
            _ => Part::plain(format!("{root}decoder.{name}")),
        }
    }

    /// Names under which the decoder's blocks may carry biases of their keys.
    fn key_biases(&self, names: &[String]) -> Vec<String> {
        let decoder = format!("{}decoder.", self.root);
        let is_one = |name: &&String| {
            name.starts_with(&decoder)
                && [".attention.attention.key.bias", ".k_bias"]
                    .iter()
                    .any(|end| name.ends_with(end))
        };
        names.iter().filter(is_one).cloned().collect()
    }
}

impl Spelling for Whole {
    fn name(&self) -> &'static str {
        self.encoder.name()
    }

    fn prefix(&self) -> &str {
        &self.root
    }

    fn preprocessing(&self) -> Option<Preprocessing> {
        self.encoder.preprocessing()
    }

    fn parts(&self, name: &str) -> Vec<Part> {
        match (
            self.kind,
            name.strip_prefix("encoder."),
            name.strip_prefix("decoder."),
        ) {
            (Kind::Own, ..) => Part::plain(name.to_owned()),
            (_, Some(name), _) => self.encoder.parts(name),
            (_, _, Some(name)) => self.decoder_parts(name),
            (_, None, None) => Part::plain(name.to_owned()),
        }
    }

    /// What stands beside an encoder, but for its decoder and the norm before that.
    fn is_neighbour(&self, name: &str) -> bool {
        let own = name.strip_prefix(&self.root).unwrap_or(name);
        let norm = name.strip_prefix(self.encoder.prefix());
        let decodes = MODULES.iter().any(|module| {
            own.strip_prefix(module)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let norms = norm.is_some_and(|name| name.starts_with("norm."));
        self.kind != Kind::Own && !decodes && !norms && self.encoder.is_neighbour(name)
    }

    /// The biases of keys, all zero, of the encoder and of the decoder.
    fn left_out(&self, source: &dyn Source, config: &Config) -> Result<Vec<String>, Error> {
        let mut left_out = self.encoder.left_out(source, config)?;
        for name in self.key_biases(&source.names()) {
            let values = source.load(&name, &Device::Cpu)?;
            let values: Vec<f32> = values.flatten_all()?.to_vec1()?;
            if values.iter().any(|v| *v != 0.0) {
                return Err(weights::Error::Tensor {
                    origin: source.origin(),
                    name,
                    reason: "the bias of keys is not zero, and this decoder has none".to_owned(),
                }
                .into());
            }
            left_out.push(name);
        }
        Ok(left_out)
    }
}
