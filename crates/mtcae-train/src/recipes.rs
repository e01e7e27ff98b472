//! Defaults by the name of a recipe.

use mtcae_nn::Precision;

use crate::{ClassWeights, Keep, Recipe, Schedule, TrainConfig, Tune, Unit};

impl TrainConfig {
    /// The defaults of a recipe.
    pub fn recipe(recipe: Recipe) -> Self {
        let paper = Self {
            recipe: Recipe::Paper,
            epochs: 50,
            batch: 8,
            accumulate: 1,
            precision: Precision::F32,
            checkpointing: false,
            lr: 1e-3,
            scale_lr: false,
            weight_decay: 1e-3,
            decay_norms: true,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            schedule: Schedule::Constant,
            warmup: 0.0,
            min_lr: 0.0,
            layer_decay: 1.0,
            drop_path: 0.0,
            clip_norm: 0.0,
            box_weight: 0.5,
            landmark_weight: 0.5,
            expression_weight: 1.5,
            unit: Unit::Fraction,
            class_weights: ClassWeights::Equal,
            smoothing: 0.0,
            mixup: 0.0,
            cutmix: 0.0,
            ema: 0.0,
            tune: Tune::Decoder,
            flip: false,
            crop: 1.0,
            jitter: 0.0,
            trim: 0.0,
            views: 0,
            validation: 0.1,
            keep: Keep::Last,
            folds: 0,
            seed: 0,
            gradients: true,
            save_every: 0,
            workers: 1,
            queue: 2,
            frame_memory: 1024,
            allow_empty_classes: false,
            allow_missing: false,
        };
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
