//! MAE-DFER's files (sunlicai/MAE-DFER, `modeling_finetune.py`, `modeling_pretrain.py`).

use mtcae_nn::weights::Source;

use super::config::{Features, LgiFormerConfig};
use crate::classifier::{Classifier, TWO_CLIPS};
use crate::error::Error;
use crate::json::Fields;
use crate::preprocessing::Preprocessing;
use crate::published::{
    Foreign, Form, Overrides, Part, Published, Spelling, Told, is_of, prefixes, without_config,
};
use crate::seam::Config;

const WHOSE: &str = "MAE-DFER";

/// The tensor by which a file shows; what stands before it is the prefix.
const MARK: &str = "lg_region_tokens";

/// What stands beside the encoder in fine-tuned and pre-trained files.
const NEIGHBOURS: [&str; 5] = [
    "decoder",
    "encoder_to_decoder",
    "mask_token",
    "fc_norm",
    "head",
];

/// MAE-DFER's files.
pub(crate) struct Spellings;

impl Published for Spellings {
    fn find(&self, _: &dyn Source, names: &[String]) -> Vec<Box<dyn Foreign>> {
        let found = prefixes(names, MARK).into_iter();
        found
            .map(|prefix| Box::new(MaeDfer { prefix }) as Box<dyn Foreign>)
            .collect()
    }

    fn marks(&self) -> String {
        format!("region tokens of MAE-DFER ({MARK})")
    }
}

struct MaeDfer {
    prefix: String,
}

impl Spelling for MaeDfer {
    fn name(&self) -> &'static str {
        "mae-dfer"
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn preprocessing(&self) -> Option<Preprocessing> {
        Some(Preprocessing::imagenet())
    }

    /// Queries apart from keys and values, and biases of queries beside their matrix.
    fn parts(&self, canonical: &str) -> Vec<Part> {
        let spelt = |name: &str| format!("{}{name}", self.prefix);
        if canonical == "patch_embed.proj.weight" {
            return Part::whole(spelt(canonical), Form::Kernel);
        }
        if let Some(attention) = canonical.strip_suffix(".qkv.weight") {
            let part = |(name, share)| Part {
                names: vec![spelt(&format!("{attention}.{name}.weight"))],
                form: Form::Plain,
                share,
            };
            return [("q", 1), ("kv", 2)].map(part).to_vec();
        }
        match canonical.strip_suffix(".q.bias") {
            Some(attention) => Part::plain(spelt(&format!("{attention}.q_bias"))),
            None => Part::plain(spelt(canonical)),
        }
    }

    fn is_neighbour(&self, name: &str) -> bool {
        is_of(&NEIGHBOURS, &self.prefix, name)
    }

    fn left_out(&self, _: &dyn Source, _: &Config) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

impl MaeDfer {
    fn sizes(&self, source: &dyn Source, overrides: &Overrides) -> Result<LgiFormerConfig, Error> {
        let spelling: &dyn Spelling = self;
        let told = Told { source, spelling };
        let [width, channels, tubelet, patch] = told.tubes()?;
        let base = LgiFormerConfig::base();
        let regions = told.rows(MARK, "regions")?;
        if regions != base.region_count() {
            let reason = format!(
                "{MARK} has {regions} rows, and only {} regions are known without a config.json",
                base.region_count()
            );
            return Err(told.fault("regions", reason));
        }
        let config = LgiFormerConfig {
            channels,
            tubelet,
            patch,
            width,
            depth: told.depth(&format!("{}blocks.", self.prefix))?,
            heads: told.heads(overrides.heads, LgiFormerConfig::known_heads(width), width)?,
            hidden: told.rows("blocks.0.mlp.fc1.weight", "hidden")?,
            final_norm: told.find("norm.weight").is_some(),
            ..base
        };
        let config = overrides.apply(&config, &source.origin())?;
        config.check(&source.origin())?;
        Ok(config)
    }
}

impl Foreign for MaeDfer {
    /// The classifier reads the mean of the region tokens, `fc_norm` and `head`, as all
    /// scripts of the release train it (`--lg_classify_token_type region`).
    fn read(
        &self,
        fields: Option<&Fields>,
        source: &dyn Source,
        overrides: &Overrides,
    ) -> Result<(Config, Option<Classifier>), Error> {
        without_config(fields, WHOSE)?;
        let config = self.sizes(source, overrides)?;
        let regions = LgiFormerConfig {
            features: Features::Regions,
            ..config.clone()
        };
        let below = |module| format!("{}{module}", self.prefix);
        let (layer, norm) = (below("head"), below("fc_norm"));
        let classifier = Classifier::find(source, &regions.into(), layer, norm, config.eps)?;
        let classifier = classifier.map(|classifier| Classifier {
            of_faces: true,
            protocol: Some(TWO_CLIPS),
            ..classifier
        });
        Ok((config.into(), classifier))
    }
}
