//! Names of the encoder's tensors in the spellings of published checkpoints.

use mtcae_nn::Pool;
use mtcae_nn::candle_core::Device;
use mtcae_nn::weights::{self, Source};

use super::config::VideoMaeConfig;
use super::hugging_face::MARLIN_EPS;
use crate::classifier::Classifier;
use crate::embedding::Position;
use crate::error::Error;
use crate::json::Fields;
use crate::preprocessing::Preprocessing;
use crate::published::{Foreign, Form, OWN, Overrides, Part, Published, Spelling, Told, is_of};
use crate::seam::Config;

/// How a checkpoint spells the names of its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// transformers' `VideoMAE*` classes, old and new.
    HuggingFace,
    /// The original release, MCG-NJU/VideoMAE.
    VideoMae,
    /// ControlNet/MARLIN.
    Marlin,
    /// This project's own.
    Own,
}

/// The tensor by which a spelling shows; what stands before it is the prefix.
const PATCH: [(Family, &str); 3] = [
    (
        Family::HuggingFace,
        "embeddings.patch_embeddings.projection.weight",
    ),
    (Family::Marlin, "patch_embedding.projection.weight"),
    (Family::VideoMae, "patch_embed.proj.weight"),
];

/// Heads, decoders and other neighbours of the encoder that need not be loaded.
const NEIGHBOURS: [(Family, &[&str]); 4] = [
    (
        Family::HuggingFace,
        &[
            "decoder",
            "encoder_to_decoder",
            "mask_token",
            "fc_norm",
            "classifier",
        ],
    ),
    (
        Family::VideoMae,
        &[
            "decoder",
            "encoder_to_decoder",
            "mask_token",
            "fc_norm",
            "head",
        ],
    ),
    (
        Family::Marlin,
        &["decoder", "enc_dec_proj", "mask_token", "discriminator"],
    ),
    (Family::Own, &["decoder"]),
];

/// VideoMAE's and MARLIN's files.
pub(crate) struct Spellings;

/// A spelling and what stands before every name.
struct Layout {
    family: Family,
    prefix: String,
}

impl Published for Spellings {
    fn find(&self, source: &dyn Source, names: &[String]) -> Vec<Box<dyn Foreign>> {
        let layouts = names.iter().filter_map(|name| {
            let mut layout = Layout::by_patch(name)?;
            // The original's kernel has five dimensions, ours two.
            if layout.family == Family::VideoMae && source.shape(name)?.len() == 2 {
                layout.family = Family::Own;
            }
            Some(Box::new(layout) as Box<dyn Foreign>)
        });
        layouts.collect()
    }

    fn marks(&self) -> String {
        let [a, b, c] = PATCH.map(|(_, name)| name);
        format!("a patch embedding of VideoMAE or MARLIN ({a}, {b} or {c})")
    }
}

impl Foreign for Layout {
    fn read(
        &self,
        fields: Option<&Fields>,
        source: &dyn Source,
        overrides: &Overrides,
    ) -> Result<(Config, Option<Classifier>), Error> {
        let origin = fields.map_or_else(|| source.origin(), |f| f.origin().to_owned());
        let config = match fields {
            Some(fields) => VideoMaeConfig::from_fields(fields)?,
            None => self.infer(source, overrides)?,
        };
        if let (Some(fields), Some(heads)) = (fields, overrides.heads)
            && heads != config.heads
        {
            let reason = format!("{heads} heads are given, but it says {}", config.heads);
            return Err(fields.fault("heads", reason));
        }
        let config = overrides.apply(&config, &origin)?;
        config.sizes().check(&origin)?;
        // Where tokens are not averaged, the first is read, behind the final norm.
        let pool = match config.final_norm {
            true => Pool::First,
            false => Pool::Mean,
        };
        let config = Config::from(config);
        let (layer, norm, eps) = match self.family {
            // `modeling_videomae.py`: PyTorch's default ε, whatever the config's.
            Family::HuggingFace => ("classifier".to_owned(), "fc_norm".to_owned(), 1e-5),
            Family::VideoMae => {
                let below = |module| format!("{}{module}", self.prefix);
                (below("head"), below("fc_norm"), 1e-6)
            }
            Family::Marlin | Family::Own => return Ok((config, None)),
        };
        let mut classifier = Classifier::find(source, &config, layer, norm, eps)?;
        if let Some(classifier) = &mut classifier {
            classifier.pool = pool;
            if let Some(fields) = fields {
                classifier.name_classes(fields)?;
            }
        }
        Ok((config, classifier))
    }
}

impl Spelling for Layout {
    fn name(&self) -> &'static str {
        match self.family {
            Family::HuggingFace => "huggingface",
            Family::VideoMae => "videomae",
            Family::Marlin => "marlin",
            Family::Own => OWN,
        }
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn preprocessing(&self) -> Option<Preprocessing> {
        match self.family {
            Family::VideoMae => Some(Preprocessing::imagenet()),
            Family::Marlin => Some(Preprocessing::plain()),
            Family::HuggingFace | Family::Own => None,
        }
    }

    fn parts(&self, canonical: &str) -> Vec<Part> {
        let form = match canonical {
            "patch_embed.proj.weight" => Form::Kernel,
            "pos_embed" => Form::Table,
            _ => Form::Plain,
        };
        let alternatives: Vec<Vec<String>> = match self.family {
            Family::VideoMae | Family::Own => vec![vec![canonical.to_owned()]],
            Family::Marlin => vec![vec![marlin(canonical)]],
            Family::HuggingFace => hugging_face(canonical),
        };
        alternatives
            .into_iter()
            .map(|names| Part {
                names: names
                    .into_iter()
                    .map(|name| format!("{}{name}", self.prefix))
                    .collect(),
                form,
                share: 1,
            })
            .collect()
    }

    fn is_neighbour(&self, name: &str) -> bool {
        let modules = NEIGHBOURS
            .iter()
            .find(|(family, _)| *family == self.family)
            .map_or(&[][..], |(_, modules)| modules);
        is_of(modules, &self.prefix, name)
    }

    /// The biases of keys in the file, which must be zero: softmax does not see them,
    /// but they would come back in whatever is trained on.
    fn left_out(&self, source: &dyn Source, config: &Config) -> Result<Vec<String>, Error> {
        let mut zero = Vec::new();
        for name in (0..config.depth()).flat_map(|i| self.key_biases(i)) {
            if source.shape(&name).is_none() {
                continue;
            }
            let values = source.load(&name, &Device::Cpu)?;
            let values: Vec<f32> = values.flatten_all()?.to_vec1()?;
            if values.iter().any(|&v| v != 0.0) {
                return Err(weights::Error::Tensor {
                    origin: source.origin(),
                    name,
                    reason: "the bias of keys is not zero, and this encoder has none".to_owned(),
                }
                .into());
            }
            zero.push(name);
        }
        Ok(zero)
    }
}

impl Layout {
    /// The spelling whose patch embedding this is the weight of.
    fn by_patch(name: &str) -> Option<Self> {
        PATCH.into_iter().find_map(|(family, patch)| {
            let prefix = name.strip_suffix(patch)?;
            (prefix.is_empty() || prefix.ends_with('.')).then(|| Self {
                family,
                prefix: prefix.to_owned(),
            })
        })
    }

    /// Names under which block `index` may carry a bias of its keys.
    fn key_biases(&self, index: usize) -> Vec<String> {
        let names: &[&str] = match self.family {
            Family::HuggingFace => &["attention.attention.key.bias", "attention.attention.k_bias"],
            _ => &["attn.k_bias"],
        };
        let blocks = self.blocks();
        names
            .iter()
            .map(|name| format!("{blocks}{index}.{name}"))
            .collect()
    }

    fn blocks(&self) -> String {
        let blocks = match self.family {
            Family::HuggingFace => "encoder.layer.",
            _ => "blocks.",
        };
        format!("{}{blocks}", self.prefix)
    }

    /// Sizes from the shapes of the tensors.
    fn infer(&self, source: &dyn Source, overrides: &Overrides) -> Result<VideoMaeConfig, Error> {
        let spelling: &dyn Spelling = self;
        let told = Told { source, spelling };
        let [width, channels, tubelet, patch] = told.tubes()?;
        Ok(VideoMaeConfig {
            image_size: 224,
            frames: 16,
            channels,
            patch,
            tubelet,
            width,
            depth: told.depth(&self.blocks())?,
            hidden: told.rows("blocks.0.mlp.fc1.weight", "hidden")?,
            heads: told.heads(overrides.heads, VideoMaeConfig::known_heads(width), width)?,
            eps: match self.family {
                Family::Marlin => MARLIN_EPS,
                // The default of transformers' VideoMAEConfig.
                Family::HuggingFace => 1e-12,
                Family::VideoMae | Family::Own => 1e-6,
            },
            final_norm: told.find("norm.weight").is_some(),
            position: match told.find("pos_embed") {
                Some(_) => Position::Stored,
                None => Position::SinCos,
            },
            drop_path: 0.0,
        })
    }
}

/// `modeling_videomae.py` of huggingface/transformers. Up to version 4 the biases
/// of queries and values stood beside the matrices; version 5 has them as biases
/// of linear layers and writes either.
fn hugging_face(canonical: &str) -> Vec<Vec<String>> {
    let one = |name: String| vec![vec![name]];
    if let Some(rest) = canonical.strip_prefix("patch_embed.proj.") {
        return one(format!("embeddings.patch_embeddings.projection.{rest}"));
    }
    if let Some(rest) = canonical.strip_prefix("norm.") {
        return one(format!("layernorm.{rest}"));
    }
    let Some((index, rest)) = canonical
        .strip_prefix("blocks.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return one(canonical.to_owned());
    };
    let layer = format!("encoder.layer.{index}");
    let attention = format!("{layer}.attention.attention");
    match rest {
        "attn.qkv.weight" => ["query", "key", "value"]
            .map(|part| vec![format!("{attention}.{part}.weight")])
            .to_vec(),
        "attn.q_bias" => vec![vec![
            format!("{attention}.q_bias"),
            format!("{attention}.query.bias"),
        ]],
        "attn.v_bias" => vec![vec![
            format!("{attention}.v_bias"),
            format!("{attention}.value.bias"),
        ]],
        _ => {
            let modules = [
                ("norm1.", "layernorm_before."),
                ("norm2.", "layernorm_after."),
                ("attn.proj.", "attention.output.dense."),
                ("mlp.fc1.", "intermediate.dense."),
                ("mlp.fc2.", "output.dense."),
            ];
            let spelt = modules.iter().find_map(|(ours, theirs)| {
                Some(format!("{layer}.{theirs}{}", rest.strip_prefix(ours)?))
            });
            one(spelt.unwrap_or_else(|| format!("{layer}.{rest}")))
        }
    }
}

/// The parts of a tensor of a block, `blocks.{i}.…`, below the list of blocks that it is of:
/// transformers' decoder of pre-training has the same.
pub(crate) fn hugging_face_block(canonical: &str) -> Vec<Part> {
    let below = |name: String| match name.strip_prefix("encoder.layer.") {
        Some(block) => block.to_owned(),
        None => name,
    };
    let parts = hugging_face(canonical).into_iter();
    parts
        .map(|names| Part {
            names: names.into_iter().map(below).collect(),
            form: Form::Plain,
            share: 1,
        })
        .collect()
}

/// `model/encoder.py` and `model/modules.py` of ControlNet/MARLIN.
fn marlin(canonical: &str) -> String {
    if canonical == "pos_embed" {
        return "pos_embedding.emb".to_owned();
    }
    canonical
        .replace("patch_embed.proj.", "patch_embedding.projection.")
        .replace(".mlp.fc1.", ".mlp.layers.0.linear.")
        .replace(".mlp.fc2.", ".mlp.layers.1.linear.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_what_stands_before_the_patch_embedding() {
        for (name, family, prefix) in [
            ("patch_embed.proj.weight", Family::VideoMae, ""),
            (
                "backbone.patch_embed.proj.weight",
                Family::VideoMae,
                "backbone.",
            ),
            (
                "marlin.encoder.patch_embedding.projection.weight",
                Family::Marlin,
                "marlin.encoder.",
            ),
            (
                "videomae.embeddings.patch_embeddings.projection.weight",
                Family::HuggingFace,
                "videomae.",
            ),
        ] {
            let layout = Layout::by_patch(name).expect("found");
            assert_eq!((layout.family, layout.prefix.as_str()), (family, prefix));
        }
    }

    #[test]
    fn neighbours_are_whole_modules() {
        let layout = Layout {
            family: Family::VideoMae,
            prefix: "encoder.".to_owned(),
        };
        for name in [
            "mask_token",
            "decoder.norm.weight",
            "encoder.fc_norm.bias",
            "head.weight",
        ] {
            assert!(layout.is_neighbour(name), "{name}");
        }
        for name in [
            "header.weight",
            "encoder.blocks.0.head",
            "norm.weight",
            "classifier.bias",
        ] {
            assert!(!layout.is_neighbour(name), "{name}");
        }
    }
}
