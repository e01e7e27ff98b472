//! SVFAP's files (sunlicai/SVFAP, `modeling_finetune.py`, `modeling_pretrain.py`).

use mtcae_nn::weights::Source;

use super::config::TpsbtConfig;
use crate::classifier::{Classifier, TWO_CLIPS};
use crate::error::Error;
use crate::json::Fields;
use crate::preprocessing::Preprocessing;
use crate::published::{
    Foreign, Form, Overrides, Part, Published, Spelling, Told, is_of, prefixes, without_config,
};
use crate::seam::Config;

const WHOSE: &str = "SVFAP";

/// The tensor by which a file shows; what stands before it is the prefix.
const MARK: &str = "temporal_downsamples.0.weight";

/// What stands beside the encoder in fine-tuned and pre-trained files. `norm` is of the sum
/// over the stages that is decoded in pre-training.
const NEIGHBOURS: [&str; 6] = [
    "decoder",
    "encoder_to_decoder",
    "mask_token",
    "norm",
    "fc_norm",
    "head",
];

/// SVFAP's files.
pub(crate) struct Spellings;

impl Published for Spellings {
    fn find(&self, _: &dyn Source, names: &[String]) -> Vec<Box<dyn Foreign>> {
        let found = prefixes(names, MARK).into_iter();
        found
            .map(|prefix| Box::new(Svfap { prefix }) as Box<dyn Foreign>)
            .collect()
    }

    fn marks(&self) -> String {
        format!("down-sampling of SVFAP ({MARK})")
    }
}

struct Svfap {
    prefix: String,
}

impl Spelling for Svfap {
    fn name(&self) -> &'static str {
        "svfap"
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }

    fn preprocessing(&self) -> Option<Preprocessing> {
        Some(Preprocessing::imagenet())
    }

    /// As the model's, but for kernels, and biases of queries beside their matrix.
    fn parts(&self, canonical: &str) -> Vec<Part> {
        let spelt = |name: &str| format!("{}{name}", self.prefix);
        if canonical == "patch_embed.proj.weight" {
            return Part::whole(spelt(canonical), Form::Kernel);
        }
        if canonical.starts_with("temporal_downsamples.") && canonical.ends_with(".weight") {
            return Part::whole(spelt(canonical), Form::Pairs);
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

impl Svfap {
    fn sizes(&self, source: &dyn Source, overrides: &Overrides) -> Result<TpsbtConfig, Error> {
        let spelling: &dyn Spelling = self;
        let told = Told { source, spelling };
        let [width, channels, tubelet, patch] = told.tubes()?;
        let depth = told.depth(&format!("{}blocks.", self.prefix))?;
        let plain = |i: &usize| {
            told.find(&format!("blocks.{i}.cross_norm1.weight"))
                .is_none()
        };
        let first = (0..depth).take_while(plain).count();
        // As in all published sizes, each stage has half the blocks of the one before.
        let depths = [first, first / 2, first / 4];
        if depths.iter().sum::<usize>() != depth {
            let reason = format!(
                "of {depth} blocks the first {first} are plain, and stages of {depths:?} are the \
                 only ones known without a config.json"
            );
            return Err(told.fault("depths", reason));
        }
        let config = TpsbtConfig {
            channels,
            tubelet,
            patch,
            width,
            depths,
            heads: told.heads(overrides.heads, TpsbtConfig::known_heads(width), width)?,
            hidden: told.rows("blocks.0.mlp.fc1.weight", "hidden")?,
            bottlenecks: told.rows("spatial_downsamples.0.mlp.fc2.weight", "bottlenecks")?,
            bottleneck_hidden: told
                .rows("spatial_downsamples.0.mlp.fc1.weight", "bottleneck_hidden")?,
            ..TpsbtConfig::base()
        };
        let config = overrides.apply(&config, &source.origin())?;
        config.check(&source.origin())?;
        Ok(config)
    }
}

impl Foreign for Svfap {
    /// The classifier reads the mean of the last stage's tokens, `fc_norm` and `head`.
    fn read(
        &self,
        fields: Option<&Fields>,
        source: &dyn Source,
        overrides: &Overrides,
    ) -> Result<(Config, Option<Classifier>), Error> {
        without_config(fields, WHOSE)?;
        let config = self.sizes(source, overrides)?;
        let eps = config.eps;
        let config = Config::from(config);
        let below = |module| format!("{}{module}", self.prefix);
        let classifier = Classifier::find(source, &config, below("head"), below("fc_norm"), eps)?;
        let classifier = classifier.map(|classifier| Classifier {
            of_faces: true,
            protocol: Some(TWO_CLIPS),
            ..classifier
        });
        Ok((config, classifier))
    }
}
