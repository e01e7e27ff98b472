//! Defaults by the name of a recipe.

use mtcae_core::{ParseError, Sampling};
use serde::{Deserialize, Serialize};

use crate::{EraseFill, Method, RandAugment, Scales, Schedule, Task, TrainConfig, Tune};

/// A named set of defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Recipe {
    /// What the paper publishes (section IV.A): AdamW, learning rate and weight
    /// decay of 1e-3, losses weighted 0.5, 0.5 and 1.5, and nothing else.
    Paper,
    /// How the VideoMAE family is fine-tuned: layer-wise decay, drop path,
    /// warm-up, cosine, label smoothing, mixup and cutmix.
    Videomae,
    /// How MAE-DFER (Sun et al., 2023, arXiv 2307.02227) is fine-tuned: as VideoMAE, with
    /// RandAugment, free crops and random erasing.
    MaeDfer,
    /// How SVFAP (Sun et al., 2024, arXiv 2401.00416) is fine-tuned: as MAE-DFER.
    Svfap,
    /// Ours for VO-LSTM (Ghaleb et al., 2019), whose training is not published: Adam, the
    /// encoder at a tenth of the rate.
    VoLstm,
    /// 3D ResNeXt-50 as MSAF (Su et al., 2020, arXiv 2012.07175) trains what it fuses: Adam,
    /// crops and flips.
    Resnext,
    /// How multi-task network cascades (Dai et al., 2016, arXiv 1512.04412) are trained:
    /// SGD with momentum, its rate divided by ten.
    Mnc,
    /// How MTL-ER (Zhang et al., 2022, arXiv 2207.09373) is trained on frozen features: Adam,
    /// a rate that rises and falls in straight lines.
    MtlEr,
    /// How MTFormer (Xu et al., 2022, ECCV) is trained: AdamW, a polynomial's fall; the encoder's
    /// layers as VideoMAE's.
    Mtformer,
    /// How VideoMAE (Tong et al., 2022, arXiv 2203.12602) is pre-trained without labels: AdamW,
    /// 2048 clips a step, multi-scale crops.
    PretrainVideomae,
    /// How MAE-DFER is pre-trained.
    PretrainMaeDfer,
    /// How SVFAP is pre-trained.
    PretrainSvfap,
}

impl Recipe {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Paper,
        Self::Videomae,
        Self::MaeDfer,
        Self::Svfap,
        Self::VoLstm,
        Self::Resnext,
        Self::Mnc,
        Self::MtlEr,
        Self::Mtformer,
        Self::PretrainVideomae,
        Self::PretrainMaeDfer,
        Self::PretrainSvfap,
    ];

    /// What it is for.
    pub fn task(self) -> Task {
        match self {
            Self::PretrainVideomae | Self::PretrainMaeDfer | Self::PretrainSvfap => Task::Masked,
            _ => Task::Labelled,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Videomae => "videomae",
            Self::MaeDfer => "mae-dfer",
            Self::Svfap => "svfap",
            Self::VoLstm => "vo-lstm",
            Self::Resnext => "resnext",
            Self::Mnc => "mnc",
            Self::MtlEr => "mtl-er",
            Self::Mtformer => "mtformer",
            Self::PretrainVideomae => "pretrain-videomae",
            Self::PretrainMaeDfer => "pretrain-mae-dfer",
            Self::PretrainSvfap => "pretrain-svfap",
        }
    }
}

impl std::fmt::Display for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Recipe {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let known = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|recipe| recipe.name() == s);
        found.ok_or_else(|| ParseError::new("recipe", s, &known))
    }
}

mtcae_core::by_name!(Recipe);

impl TrainConfig {
    /// The defaults of a recipe.
    pub fn recipe(recipe: Recipe) -> Self {
        let paper = Self {
            recipe,
            ..Self::paper()
        };
        match recipe {
            Recipe::Paper => paper,
            Recipe::Videomae => Self {
                crop: 0.6,
                jitter: 0.3,
                trim: 0.1,
                views: 2,
                ..paper.fine_tuned()
            },
            Recipe::MaeDfer | Recipe::Svfap => Self {
                // In parts that the memory of one machine holds: 96 clips a step.
                batch: 8,
                accumulate: 12,
                // 1e-6, scaled as the rate is.
                min_lr: 1e-6 * 96.0 / 256.0,
                expression_weight: 1.0,
                rand_augment: RandAugment::VIDEOMAE,
                crop: 0.08,
                free_crop: true,
                erase: 0.25,
                erase_fill: EraseFill::Pixel,
                ..paper.fine_tuned()
            },
            Recipe::VoLstm => Self {
                epochs: 40,
                optimiser: Method::Adam,
                lr: 1e-4,
                encoder_lr: 0.1,
                weight_decay: 0.0,
                expression_weight: 1.0,
                tune: Tune::All,
                flip: true,
                ..paper
            },
            Recipe::Resnext => Self {
                epochs: 70,
                batch: 4,
                optimiser: Method::Adam,
                weight_decay: 0.0,
                expression_weight: 1.0,
                tune: Tune::All,
                flip: true,
                crop: 0.8,
                free_crop: true,
                ..paper
            },
            Recipe::Mnc => Self {
                optimiser: Method::Sgd,
                weight_decay: 5e-4,
                decay_norms: false,
                schedule: Schedule::Step,
                drops: crate::Epochs::at(40),
                tune: Tune::All,
                flip: true,
                ..paper
            },
            Recipe::MtlEr => Self {
                optimiser: Method::Adam,
                lr: 5e-5,
                weight_decay: 0.0,
                beta1: 0.5,
                schedule: Schedule::Linear,
                warmup: 10.0,
                clip_norm: 5.0,
                ..paper
            },
            Recipe::Mtformer => Self {
                epochs: 100,
                batch: 4,
                lr: 5e-5,
                weight_decay: 1e-4,
                schedule: Schedule::Poly,
                contrastive: 0.01,
                layer_decay: 0.75,
                drop_path: 0.1,
                tune: Tune::All,
                flip: true,
                ..paper
            },
            Recipe::PretrainVideomae => Self {
                epochs: 800,
                accumulate: 256,
                lr: 1.5e-4,
                min_lr: 1e-5 * 2048.0 / 256.0,
                warmup: 40.0,
                ..paper.pretrained()
            },
            Recipe::PretrainMaeDfer => Self {
                accumulate: 20,
                min_lr: 1e-5 * 160.0 / 256.0,
                ..paper.pretrained()
            },
            Recipe::PretrainSvfap => Self {
                accumulate: 32,
                ..paper.pretrained()
            },
        }
    }

    /// What the pre-training of VideoMAE and of its successors has in common; in parts of 8 clips.
    fn pretrained(self) -> Self {
        Self {
            epochs: 100,
            batch: 8,
            lr: 3e-4,
            scale_lr: true,
            weight_decay: 0.05,
            decay_norms: false,
            beta2: 0.95,
            schedule: Schedule::Cosine,
            warmup: 5.0,
            min_lr: 1e-5,
            tune: Tune::All,
            sampling: Sampling::Dense {
                stride: 4,
                offset: None,
            },
            scales: Scales::published(),
            pictures: 10,
            validation: 0.0,
            ..self
        }
    }

    /// What the fine-tuning of VideoMAE and of its successors has in common.
    fn fine_tuned(self) -> Self {
        Self {
            epochs: 100,
            scale_lr: true,
            weight_decay: 0.05,
            decay_norms: false,
            schedule: Schedule::Cosine,
            warmup: 5.0,
            min_lr: 1e-6,
            layer_decay: 0.75,
            drop_path: 0.1,
            smoothing: 0.1,
            mixup: 0.8,
            cutmix: 1.0,
            tune: Tune::All,
            flip: true,
            ..self
        }
    }

    /// What of this recipe is ours, because its source does not publish it: a
    /// run prints these.
    pub fn unpublished(&self) -> &'static [&'static str] {
        match self.recipe {
            Recipe::Paper => &[
                "epochs",
                "batch",
                "decay_norms",
                "beta1",
                "beta2",
                "eps",
                "schedule",
                "tune",
                "unit",
                "validation",
            ],
            Recipe::Videomae => &[
                "batch",
                "box_weight",
                "landmark_weight",
                "action_unit_weight",
                "expression_weight",
                "unit",
                "crop",
                "jitter",
                "trim",
                "views",
                "validation",
            ],
            // The published losses are of the expression alone.
            Recipe::MaeDfer | Recipe::Svfap => &[
                "box_weight",
                "landmark_weight",
                "action_unit_weight",
                "unit",
                "validation",
            ],
            // Nothing is published.
            Recipe::VoLstm => &[
                "epochs",
                "batch",
                "optimiser",
                "lr",
                "encoder_lr",
                "weight_decay",
                "beta1",
                "beta2",
                "eps",
                "schedule",
                "box_weight",
                "landmark_weight",
                "action_unit_weight",
                "expression_weight",
                "unit",
                "tune",
                "flip",
                "validation",
            ],
            // Published of the fusion alone: what it fuses has no recipe in print. Crops and
            // flips are drawn once a clip here, a frame there.
            Recipe::Resnext => &[
                "epochs",
                "batch",
                "optimiser",
                "lr",
                "weight_decay",
                "box_weight",
                "landmark_weight",
                "action_unit_weight",
                "unit",
                "tune",
                "crop",
                "validation",
            ],
            // Published in iterations over other pictures, of other tasks.
            Recipe::Mnc => &[
                "epochs",
                "batch",
                "decay_norms",
                "drops",
                "box_weight",
                "landmark_weight",
                "action_unit_weight",
                "expression_weight",
                "unit",
                "tune",
                "flip",
                "validation",
            ],
            // Its weights are of other tasks; it clips each module's gradient, not their sum.
            Recipe::MtlEr => &[
                "weight_decay",
                "clip_norm",
                "box_weight",
                "landmark_weight",
                "action_unit_weight",
                "expression_weight",
                "unit",
                "validation",
            ],
            // Its encoder and tasks are others; there its encoder drops paths at 0.3.
            Recipe::Mtformer => &[
                "layer_decay",
                "drop_path",
                "box_weight",
                "landmark_weight",
                "action_unit_weight",
                "expression_weight",
                "unit",
                "tune",
                "flip",
                "validation",
            ],
            Recipe::PretrainVideomae => &[],
            // Read off the rate that its log has.
            Recipe::PretrainMaeDfer => &["batch", "accumulate"],
            // As MAE-DFER's, to which it refers.
            Recipe::PretrainSvfap => &[
                "weight_decay",
                "decay_norms",
                "beta1",
                "beta2",
                "min_lr",
                "scales",
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FIELDS;

    #[test]
    fn every_recipe_is_valid_and_known_by_its_name() {
        for recipe in Recipe::ALL {
            let config = TrainConfig::recipe(recipe);
            config.validate().expect("valid");
            assert_eq!(config.recipe, recipe);
            assert_eq!(recipe.name().parse::<Recipe>().expect("known"), recipe);
            let json = serde_json::to_string(&config).expect("json");
            assert_eq!(
                serde_json::from_str::<TrainConfig>(&json).expect("read"),
                config
            );
            for name in config.unpublished() {
                assert!(FIELDS.iter().any(|field| field.name == *name), "{name}");
            }
        }
        let error = "best".parse::<Recipe>().expect_err("unknown").to_string();
        assert!(
            error.starts_with("`best` is no recipe; known: paper, videomae, mae-dfer, svfap"),
            "{error}"
        );
    }

    #[test]
    fn a_step_of_mae_dfer_has_the_published_rate() {
        let config = TrainConfig::recipe(Recipe::MaeDfer);
        assert_eq!(config.batch * config.accumulate, 96);
        assert!((config.peak_lr() - 3.75e-4).abs() < 1e-18);
        assert!((config.min_lr - 3.75e-7).abs() < 1e-21);
    }

    #[test]
    fn a_step_of_each_pre_training_has_the_published_clips_and_rate() {
        for (recipe, clips, peak, min) in [
            (Recipe::PretrainVideomae, 2048, 1.2e-3, 8e-5),
            (Recipe::PretrainMaeDfer, 160, 1.875e-4, 6.25e-6),
            (Recipe::PretrainSvfap, 256, 3e-4, 1e-5),
        ] {
            let config = TrainConfig::recipe(recipe);
            assert_eq!(config.batch * config.accumulate, clips);
            assert!((config.peak_lr() - peak).abs() < 1e-15, "{recipe}");
            assert!((config.min_lr - min).abs() < 1e-15, "{recipe}");
            assert_eq!((config.beta1, config.beta2), (0.9, 0.95));
        }
    }
}
