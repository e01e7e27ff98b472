//! Which settings are for what is trained.

use crate::{FIELDS, Field, Recipe};

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// A model on labelled clips.
    Labelled,
    /// An encoder on videos without labels.
    Masked,
}

/// Settings of learning from labels alone.
const LABELLED: &[&str] = &[
    "encoder_lr",
    "layer_decay",
    "drop_path",
    "box_weight",
    "landmark_weight",
    "action_unit_weight",
    "expression_weight",
    "weighting",
    "contrastive",
    "unit",
    "class_weights",
    "smoothing",
    "mixup",
    "cutmix",
    "tune",
    "rand_augment",
    "crop",
    "free_crop",
    "crop_scale",
    "crop_shift",
    "crop_turn",
    "wide",
    "squeeze",
    "erase",
    "erase_fill",
    "trim",
    "views",
    "folds",
    "gradients",
    "frame_memory",
    "allow_empty_classes",
];

/// Settings of learning without labels alone.
const MASKED: &[&str] = &["sampling", "scales", "pictures"];

impl Task {
    /// The settings that it has, in their order.
    pub fn fields(self) -> impl Iterator<Item = &'static Field> {
        let others = match self {
            Self::Labelled => MASKED,
            Self::Masked => LABELLED,
        };
        FIELDS.iter().filter(|field| !others.contains(&field.name))
    }

    /// The recipes for it; the first is the default.
    pub fn recipes(self) -> impl Iterator<Item = Recipe> {
        let all = Recipe::ALL.into_iter();
        all.filter(move |recipe| recipe.task() == self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_for_something_and_every_name_is_of_one() {
        for name in LABELLED.iter().chain(MASKED) {
            assert!(FIELDS.iter().any(|field| field.name == *name), "{name}");
        }
        let (labelled, masked) = (Task::Labelled.fields(), Task::Masked.fields());
        assert_eq!(labelled.count(), FIELDS.len() - MASKED.len());
        assert_eq!(masked.count(), FIELDS.len() - LABELLED.len());
        assert_eq!(Task::Labelled.recipes().next(), Some(Recipe::Paper));
        assert_eq!(
            Task::Masked.recipes().next(),
            Some(Recipe::PretrainVideomae)
        );
    }
}
