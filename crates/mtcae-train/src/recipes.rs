//! Defaults by the name of a recipe.

use crate::{Recipe, Schedule, TrainConfig, Tune};

impl TrainConfig {
    /// The defaults of a recipe.
    pub fn recipe(recipe: Recipe) -> Self {
        let paper = Self::paper();
        match recipe {
            Recipe::Paper => paper,
            Recipe::Videomae => Self {
                recipe,
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
                crop: 0.6,
                jitter: 0.3,
                trim: 0.1,
                views: 2,
                ..paper
            },
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
        }
    }
}
