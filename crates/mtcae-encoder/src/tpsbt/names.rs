//! SVFAP's files (sunlicai/SVFAP, `modeling_finetune.py`, `modeling_pretrain.py`).

use super::config::TpsbtConfig;
use crate::error::Error;
use crate::published::{Form, Overrides, Part, Told};
use crate::release::{Release, Sizing};
use crate::seam::Config;

/// SVFAP's.
pub(crate) struct Svfap;

impl Release for Svfap {
    const NAME: &'static str = "svfap";
    const WHOSE: &'static str = "SVFAP";
    const MARK: &'static str = "temporal_downsamples.0.weight";
    /// `norm` is of the sum over the stages that is decoded in pre-training.
    const NEIGHBOURS: &'static [&'static str] = &[
        "decoder",
        "encoder_to_decoder",
        "mask_token",
        "norm",
        "fc_norm",
        "head",
    ];

    /// Kernels of two slices.
    fn parts(canonical: &str) -> Option<Vec<Part>> {
        let of_pairs =
            canonical.starts_with("temporal_downsamples.") && canonical.ends_with(".weight");
        of_pairs.then(|| Part::whole(canonical.to_owned(), Form::Pairs))
    }

    fn sizes(told: &Told<'_>, prefix: &str, overrides: &Overrides) -> Result<Sizing, Error> {
        let [width, channels, tubelet, patch] = told.tubes()?;
        let depth = told.depth(&format!("{prefix}blocks."))?;
        let is_plain = |i: &usize| {
            told.find(&format!("blocks.{i}.cross_norm1.weight"))
                .is_none()
        };
        let first = (0..depth).take_while(is_plain).count();
        // As in all published sizes, each stage has half the blocks of the one before.
        let depths = [first, first / 2, first / 4];
        if depths.iter().sum::<usize>() != depth {
            let reason = format!(
                "of {depth} blocks the first {first} are plain, and stages of {depths:?} are the \
                 only ones known without a config.json"
            );
            return Err(told.fault("depths", reason));
        }
        let chooser = |layer| format!("spatial_downsamples.0.mlp.{layer}.weight");
        let config = TpsbtConfig {
            channels,
            tubelet,
            patch,
            width,
            depths,
            heads: told.heads(overrides.heads, TpsbtConfig::known_heads(width), width)?,
            hidden: told.rows("blocks.0.mlp.fc1.weight", "hidden")?,
            bottlenecks: told.rows(&chooser("fc2"), "bottlenecks")?,
            bottleneck_hidden: told.rows(&chooser("fc1"), "bottleneck_hidden")?,
            ..TpsbtConfig::base()
        };
        let origin = told.source.origin();
        let config = overrides.apply(&config, &origin)?;
        config.check(&origin)?;
        let eps = config.eps;
        let encoder = Config::from(config);
        Ok(Sizing {
            classified: encoder.clone(),
            encoder,
            eps,
        })
    }
}
