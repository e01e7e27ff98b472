//! Names of the encoder's tensors in the spellings of published checkpoints.

use std::collections::BTreeSet;

use mtcae_nn::weights::shown;

/// How a checkpoint spells the names of its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spelling {
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
const PATCH: [(Spelling, &str); 3] = [
    (
        Spelling::HuggingFace,
        "embeddings.patch_embeddings.projection.weight",
    ),
    (Spelling::Marlin, "patch_embedding.projection.weight"),
    (Spelling::VideoMae, "patch_embed.proj.weight"),
];

/// Heads, decoders and other neighbours of the encoder that need not be loaded.
const NEIGHBOURS: [(Spelling, &[&str]); 4] = [
    (
        Spelling::HuggingFace,
        &[
            "decoder",
            "encoder_to_decoder",
            "mask_token",
            "fc_norm",
            "classifier",
        ],
    ),
    (
        Spelling::VideoMae,
        &[
            "decoder",
            "encoder_to_decoder",
            "mask_token",
            "fc_norm",
            "head",
        ],
    ),
    (
        Spelling::Marlin,
        &["decoder", "enc_dec_proj", "mask_token", "discriminator"],
    ),
    (Spelling::Own, &["decoder"]),
];

/// How the file holds a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As the model does.
    Plain,
    /// A Conv3d kernel (D, C, t, p, p) for (D, C·t·p·p), or already so.
    Kernel,
    /// A table (1, N, D) for (N, D), or already so.
    Table,
}

/// One tensor of the file that a tensor of the model is made of.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Its name; where spellings differ within a family, all of them.
    pub names: Vec<String>,
    pub form: Form,
}

/// A spelling and what stands before every name.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub spelling: Spelling,
    pub prefix: String,
}

impl Layout {
    /// Finds the spelling of the one encoder among `names`; `Err` says what there
    /// is instead. The caller tells `VideoMae` from `Own`.
    pub fn detect(names: &[String]) -> Result<Self, String> {
        let mut found: Vec<Self> = names
            .iter()
            .filter_map(|name| {
                PATCH.into_iter().find_map(|(spelling, patch)| {
                    let prefix = name.strip_suffix(patch)?;
                    (prefix.is_empty() || prefix.ends_with('.')).then(|| Self {
                        spelling,
                        prefix: prefix.to_owned(),
                    })
                })
            })
            .collect();
        match (found.pop(), found.pop()) {
            (Some(layout), None) => Ok(layout),
            (None, _) => {
                let some: Vec<String> = names.iter().take(3).map(|name| shown(name)).collect();
                let list = match some.as_slice() {
                    [] => "it holds no tensors".to_owned(),
                    some => format!("its {} tensors begin with {}", names.len(), some.join(", ")),
                };
                Err(format!(
                    "no VideoMAE or MARLIN encoder: {list}, and none is a patch embedding \
                     ({}, {} or {})",
                    PATCH[0].1, PATCH[1].1, PATCH[2].1
                ))
            }
            (Some(a), Some(b)) => Err(format!(
                "it holds more than one encoder, below {:?} and {:?}",
                shown(&b.prefix),
                shown(&a.prefix)
            )),
        }
    }

    /// What the file needs to hold for a canonical name, in order of rows.
    pub fn parts(&self, canonical: &str) -> Vec<Part> {
        let form = match canonical {
            "patch_embed.proj.weight" => Form::Kernel,
            "pos_embed" => Form::Table,
            _ => Form::Plain,
        };
        let alternatives: Vec<Vec<String>> = match self.spelling {
            Spelling::VideoMae | Spelling::Own => vec![vec![canonical.to_owned()]],
            Spelling::Marlin => vec![vec![marlin(canonical)]],
            Spelling::HuggingFace => hugging_face(canonical),
        };
        alternatives
            .into_iter()
            .map(|names| Part {
                names: names
                    .into_iter()
                    .map(|name| format!("{}{name}", self.prefix))
                    .collect(),
                form,
            })
            .collect()
    }

    /// Names under which block `index` may carry a bias of its keys.
    pub fn key_biases(&self, index: usize) -> Vec<String> {
        let names: &[&str] = match self.spelling {
            Spelling::HuggingFace => {
                &["attention.attention.key.bias", "attention.attention.k_bias"]
            }
            _ => &["attn.k_bias"],
        };
        let blocks = self.blocks();
        names
            .iter()
            .map(|name| format!("{blocks}{index}.{name}"))
            .collect()
    }

    /// The number of blocks: one more than the highest index in a block's name.
    /// A gap then shows as missing tensors. `None` where no block is.
    pub fn depth(&self, names: &[String]) -> Option<usize> {
        let blocks = self.blocks();
        let indices: BTreeSet<usize> = names
            .iter()
            .filter_map(|name| name.strip_prefix(&blocks)?.split('.').next()?.parse().ok())
            .collect();
        indices.last()?.checked_add(1)
    }

    fn blocks(&self) -> String {
        let blocks = match self.spelling {
            Spelling::HuggingFace => "encoder.layer.",
            _ => "blocks.",
        };
        format!("{}{blocks}", self.prefix)
    }

    /// Whether a tensor belongs to a known neighbour of the encoder.
    pub fn is_neighbour(&self, name: &str) -> bool {
        let root = self.prefix.strip_suffix("encoder.").unwrap_or(&self.prefix);
        NEIGHBOURS
            .iter()
            .filter(|(spelling, _)| *spelling == self.spelling)
            .flat_map(|(_, modules)| modules.iter())
            .any(|module| {
                ["", root, &self.prefix].into_iter().any(|prefix| {
                    name.strip_prefix(prefix)
                        .and_then(|n| n.strip_prefix(module))
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
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

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&n| n.to_owned()).collect()
    }

    #[test]
    fn the_prefix_is_what_stands_before_the_patch_embedding() {
        for (name, spelling, prefix) in [
            ("patch_embed.proj.weight", Spelling::VideoMae, ""),
            (
                "backbone.patch_embed.proj.weight",
                Spelling::VideoMae,
                "backbone.",
            ),
            (
                "marlin.encoder.patch_embedding.projection.weight",
                Spelling::Marlin,
                "marlin.encoder.",
            ),
            (
                "videomae.embeddings.patch_embeddings.projection.weight",
                Spelling::HuggingFace,
                "videomae.",
            ),
        ] {
            let layout = Layout::detect(&names(&["a", name])).expect("found");
            assert_eq!(
                (layout.spelling, layout.prefix.as_str()),
                (spelling, prefix)
            );
        }
    }

    #[test]
    fn none_and_several_encoders_are_refused() {
        let error = Layout::detect(&names(&["conv1.weight"])).expect_err("none");
        assert!(error.contains("conv1.weight"), "{error}");
        assert!(
            Layout::detect(&[])
                .expect_err("empty")
                .contains("no tensors")
        );
        let two = names(&["a.patch_embed.proj.weight", "b.patch_embed.proj.weight"]);
        let error = Layout::detect(&two).expect_err("two");
        assert!(
            error.contains("\"a.\"") && error.contains("\"b.\""),
            "{error}"
        );
    }

    #[test]
    fn neighbours_are_whole_modules() {
        let layout = Layout {
            spelling: Spelling::VideoMae,
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
