//! MAE-DFER's files (sunlicai/MAE-DFER, `modeling_finetune.py`, `modeling_pretrain.py`).

use super::config::{Features, LgiFormerConfig};
use crate::error::Error;
use crate::published::{Form, Overrides, Part, Told};
use crate::release::{Release, Sizing};

/// MAE-DFER's.
pub(crate) struct MaeDfer;

impl Release for MaeDfer {
    const NAME: &'static str = "mae-dfer";
    const WHOSE: &'static str = "MAE-DFER";
    const MARK: &'static str = "lg_region_tokens";
    const NEIGHBOURS: &'static [&'static str] = &[
        "decoder",
        "encoder_to_decoder",
        "mask_token",
        "fc_norm",
        "head",
    ];

    /// Queries apart from keys and values.
    fn parts(canonical: &str) -> Option<Vec<Part>> {
        let attention = canonical.strip_suffix(".qkv.weight")?;
        let part = |(name, share)| Part {
            names: vec![format!("{attention}.{name}.weight")],
            form: Form::Plain,
            share,
        };
        Some([("q", 1), ("kv", 2)].map(part).to_vec())
    }

    /// Its classifier averages the region tokens, as all scripts of the release train it
    /// (`--lg_classify_token_type region`).
    fn sizes(told: &Told<'_>, prefix: &str, overrides: &Overrides) -> Result<Sizing, Error> {
        let [width, channels, tubelet, patch] = told.tubes()?;
        let base = LgiFormerConfig::base();
        let (regions, known) = (told.rows(Self::MARK, "regions")?, base.region_count());
        if regions != known {
            let reason = format!(
                "{} has {regions} rows, and only {known} regions are known without a config.json",
                Self::MARK
            );
            return Err(told.fault("regions", reason));
        }
        let config = LgiFormerConfig {
            channels,
            tubelet,
            patch,
            width,
            depth: told.depth(&format!("{prefix}blocks."))?,
            heads: told.heads(overrides.heads, LgiFormerConfig::known_heads(width), width)?,
            hidden: told.rows("blocks.0.mlp.fc1.weight", "hidden")?,
            final_norm: told.find("norm.weight").is_some(),
            ..base
        };
        let origin = told.source.origin();
        let config = overrides.apply(&config, &origin)?;
        config.check(&origin)?;
        let classified = LgiFormerConfig {
            features: Features::Regions,
            ..config.clone()
        };
        Ok(Sizing {
            eps: config.eps,
            encoder: config.into(),
            classified: classified.into(),
        })
    }
}
