//! Everything that a training run can be told.

use candle_core::Device;
use mtcae_nn::Precision;
use serde::{Deserialize, Serialize};

use mtcae_core::{Crop, Sampling};
use serde_json::Value;

use crate::{
    ClassWeights, Epochs, EraseFill, Error, Keep, Method, RandAugment, Range, Recipe, Scales,
    Schedule, Tune, Unit, Weighting,
};

/// A field of [`TrainConfig`] and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in TOML; on a command line with `-` for `_`.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// The settings and their list, of which each says once what it means and what it is in
/// the paper's recipe.
macro_rules! settings {
    ($(
        $(#[doc = $help:literal])+
        $(#[serde($($serde:tt)+)])?
        $name:ident: $ty:ty = $paper:expr,
    )+) => {
        /// Everything that a training run can be told. All fields have a default, which
        /// depends on the recipe: see [`TrainConfig::recipe`].
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(rustdoc::broken_intra_doc_links)] // What is in brackets is for a help text.
        pub struct TrainConfig {
            $($(#[doc = $help])+ $(#[serde($($serde)+)])? pub $name: $ty,)+
        }

        impl TrainConfig {
            /// The defaults of the paper's recipe.
            pub(crate) fn paper() -> Self {
                Self { $($name: $paper),+ }
            }
        }

        /// All fields of [`TrainConfig`], in its order.
        pub const FIELDS: &[Field] = &[$(Field {
            name: stringify!($name),
            help: concat!($($help),+).trim_ascii(),
        }),+];
    };
}

settings! {
    /// Defaults of all other settings, by the name of what is trained so
    recipe: Recipe = Recipe::Paper,
    /// Times that each training clip is seen [unpublished]
    epochs: usize = 50,
    /// Clips that go through the model at once [unpublished]
    batch: usize = 8,
    /// Batches whose gradients are averaged for one step
    accumulate: usize = 1,
    /// Type of activations: `f32`, `tf32` or `bf16` (GPUs); parameters stay f32
    #[serde(default)]
    precision: Precision = Precision::F32,
    /// Keep only each block's input and compute the rest again in the backward pass
    #[serde(default)]
    checkpointing: bool = false,
    /// `adamw`, `adam` (weight decay in the gradient) or `sgd` (likewise, with `momentum`)
    #[serde(default)]
    optimiser: Method = Method::AdamW,
    /// Peak learning rate
    lr: f64 = 1e-3,
    /// Multiply `lr` by batch × accumulate / 256
    scale_lr: bool = false,
    /// Factor of the encoder's learning rate
    #[serde(default = "one")]
    encoder_lr: f64 = 1.0,
    /// Weight decay
    weight_decay: f64 = 1e-3,
    /// Decay biases, norms and other vectors as well
    decay_norms: bool = true,
    /// Momentum of `sgd`
    #[serde(default = "momentum")]
    momentum: f64 = 0.9,
    /// β₁ of `adamw` and `adam`
    beta1: f64 = 0.9,
    /// β₂ of `adamw` and `adam`
    beta2: f64 = 0.999,
    /// ε of `adamw` and `adam`
    eps: f64 = 1e-8,
    /// Learning rate after the warm-up: `constant`, `cosine`, `linear`, `poly` (of power 0.9) or
    /// `step` (a tenth after each of the epochs `drops`)
    schedule: Schedule = Schedule::Constant,
    /// Epochs after which `step` divides the learning rate by ten, as `40,80`
    #[serde(default)]
    drops: Epochs = Epochs::default(),
    /// Epochs over which the learning rate rises linearly from 0
    warmup: f64 = 0.0,
    /// Where `cosine`, `linear` and `poly` end
    min_lr: f64 = 0.0,
    /// Each encoder block learns at this times the rate of the block above; 1 for none
    layer_decay: f64 = 1.0,
    /// Probability of dropping the last block's residual branches, in encoder and decoders
    drop_path: f64 = 0.0,
    /// Largest norm of all gradients together; 0 for no clipping
    clip_norm: f64 = 0.0,
    /// Weight of the mean squared error of the face boxes
    box_weight: f64 = 0.5,
    /// Weight of the mean squared error of the landmarks
    landmark_weight: f64 = 0.5,
    /// Weight of the mean squared error of the action units, of a model that has a task for
    /// them
    #[serde(default = "half")]
    action_unit_weight: f64 = 0.5,
    /// Weight of the cross-entropy of the expression
    expression_weight: f64 = 1.5,
    /// How these are added up: `fixed`, by the weights alone, or `uncertainty`, which learns a
    /// factor for each
    #[serde(default)]
    weighting: Weighting = Weighting::Fixed,
    /// Weight of MTFormer's loss between tasks, by which the features of one clip are alike in all
    /// tasks and unlike those of the batch's other clips; 0 for none
    #[serde(default)]
    contrastive: f64 = 0.0,
    /// Unit of box and landmark errors: `fraction` of the frame or `pixel` of the model's frame
    unit: Unit = Unit::Fraction,
    /// `equal`, or `balanced`: inverse to how often a class occurs
    class_weights: ClassWeights = ClassWeights::Equal,
    /// Label smoothing of the cross-entropy
    smoothing: f64 = 0.0,
    /// α of mixup (boxes and landmarks are mixed alike); 0 for none; not with cached features
    mixup: f64 = 0.0,
    /// α of cutmix (boxes and landmarks of such batches do not count); 0 for none; not with
    /// cached features
    cutmix: f64 = 0.0,
    /// Decay of a moving average of the weights, which is then what is kept; 0 for none
    ema: f64 = 0.0,
    /// What is trained: `decoder`, `last:N` (and the encoder's last N blocks) or `all`
    tune: Tune = Tune::Decoder,
    /// Which frames of a video are a clip: `dense:STRIDE` begins at a random one, and in the
    /// middle where nothing is drawn; or any other sampling that gives one clip
    #[serde(default)]
    sampling: Sampling = Sampling::Uniform,
    /// Sides of random crops as shares of the frame's shorter side, as `1,0.875,0.75,0.66`;
    /// empty for whole frames, squeezed to the model's size
    #[serde(default)]
    scales: Scales = Scales::default(),
    /// Mirror half of the training clips, left and right landmarks swapped
    flip: bool = false,
    /// RandAugment, as `rand-m7-n4-mstd0.5-inc1`; empty for none
    #[serde(default)]
    rand_augment: RandAugment = RandAugment::default(),
    /// Smallest share of the frame's area that a random crop keeps; the face stays inside; 1 for
    /// none
    crop: f64 = 1.0,
    /// Let `crop` cut the face, at sides of 3:4 to 4:3 (a face of which a landmark is cut off
    /// does not count)
    #[serde(default)]
    free_crop: bool = false,
    /// Of a model that sees crops to a face: range of a random factor of their side, as
    /// `MIN..MAX`
    #[serde(default)]
    crop_scale: Range = Range::default(),
    /// Of such a model: largest random shift of the crops, in their sides; 0 for none
    #[serde(default)]
    crop_shift: f64 = 0.0,
    /// Of such a model: largest random turn of the crops, in degrees; 0 for none
    #[serde(default)]
    crop_turn: f64 = 0.0,
    /// Of such a model: share of the training clips that are seen wider than `crop_scale` has
    /// it, up to the whole frame
    #[serde(default)]
    wide: f64 = 0.0,
    /// Of such a model: largest factor by which clips that are seen wide are squeezed or
    /// stretched in width, as squashed frames are; 1 for none
    #[serde(default = "one")]
    squeeze: f64 = 1.0,
    /// Strength of random brightness, contrast and saturation; 0 for none
    jitter: f64 = 0.0,
    /// Strength of a random gamma, whose exponent is between e to the minus this and e to this;
    /// 0 for none
    #[serde(default)]
    gamma: f64 = 0.0,
    /// Share of the training clips that lose their colours
    #[serde(default)]
    grey: f64 = 0.0,
    /// Half of the training clips are made smaller by a random factor up to this, and large
    /// again; 0 for none
    #[serde(default)]
    blur: f64 = 0.0,
    /// Largest standard deviation of random noise, in levels of 255; 0 for none
    #[serde(default)]
    noise: f64 = 0.0,
    /// Share of the training clips in which a random rectangle is covered
    #[serde(default)]
    erase: f64 = 0.0,
    /// By what: one `colour`, or noise in each `pixel` of the normalised clip
    #[serde(default)]
    erase_fill: EraseFill = EraseFill::Colour,
    /// Largest share of a training clip's length that is cut off at each end, at random
    trim: f64 = 0.0,
    /// Augmented views of each clip in the feature cache; 0 for the clip as it is
    views: usize = 0,
    /// Share of the training clips, by whole subjects, that is kept for validation; 0 for none
    validation: f64 = 0.1,
    /// Weights that are kept: `last` or `best` (highest UAR on the validation subjects)
    keep: Keep = Keep::Last,
    /// Folds of the cross-validation; 0 for those of the label file, or 5 where it has none;
    /// people are dealt anew where it has another number
    folds: usize = 0,
    /// Where all randomness comes from
    seed: u64 = 0,
    /// Log each task's gradient norm on F, once an epoch (costs a backward pass a task)
    gradients: bool = true,
    /// Log what the time of each step was spent on, besides that of each epoch
    #[serde(default)]
    times: bool = false,
    /// Epochs between pictures of what is made of a few clips; 0 for none
    #[serde(default)]
    pictures: usize = 0,
    /// Steps between saves of the state, besides the end of each epoch; 0 for none
    save_every: usize = 0,
    /// Threads that decode clips in the background
    workers: usize = 1,
    /// Decoded batches that may wait for the model
    queue: usize = 2,
    /// Decoded clips kept in memory, in MiB, so that they are decoded once; not with `trim`
    frame_memory: usize = 1024,
    /// Go on when a fold has no clip of some class
    allow_empty_classes: bool = false,
    /// Leave out videos that are missing, and in training without labels those that cannot be
    /// read, instead of stopping
    allow_missing: bool = false,
}

/// Views of a clip in a cache of features, far beyond what still teaches anything.
const MOST_VIEWS: usize = 1000;

impl TrainConfig {
    /// The settings that a run's outcome depends on: how clips are fetched and how
    /// often the state is saved may change when it is resumed.
    pub(crate) fn decisive(&self) -> Self {
        let free = Self::recipe(self.recipe);
        Self {
            workers: free.workers,
            queue: free.queue,
            frame_memory: free.frame_memory,
            save_every: free.save_every,
            times: free.times,
            pictures: free.pictures,
            ..self.clone()
        }
    }

    /// The settings of an earlier run as this version writes them: those that it did not have
    /// yet are what it did without them. What this version cannot read stays as it is.
    pub(crate) fn of_before(settings: &Value) -> Value {
        let read = serde_json::from_value::<Self>(settings.clone());
        let written = read.and_then(serde_json::to_value);
        written.unwrap_or_else(|_| settings.clone())
    }

    /// Readies the device for the precision.
    pub(crate) fn prepare(&self, device: &Device) -> Result<(), Error> {
        let prepared = self.precision.prepare(device);
        prepared.map_err(|e| Error::Config {
            field: "precision",
            reason: e.to_string(),
        })
    }

    /// The settings that are on and do nothing where features come from a cache: clips
    /// are not mixed there, and without views of them they are not varied either.
    pub(crate) fn idle_on_features(&self) -> Vec<&'static str> {
        let varied = self.views == 0;
        [
            ("mixup", self.mixup > 0.0),
            ("cutmix", self.cutmix > 0.0),
            ("flip", varied && self.flip),
            ("rand_augment", varied && self.rand_augment.is_on()),
            ("crop", varied && self.crop < 1.0),
            ("crop_scale", varied && self.crop_scale != Range::default()),
            ("crop_shift", varied && self.crop_shift > 0.0),
            ("crop_turn", varied && self.crop_turn > 0.0),
            ("wide", varied && self.wide > 0.0),
            ("squeeze", varied && self.squeeze > 1.0),
            ("jitter", varied && self.jitter > 0.0),
            ("gamma", varied && self.gamma > 0.0),
            ("grey", varied && self.grey > 0.0),
            ("blur", varied && self.blur > 1.0),
            ("noise", varied && self.noise > 0.0),
            ("erase", varied && self.erase > 0.0),
            ("trim", varied && self.trim > 0.0),
        ]
        .into_iter()
        .filter_map(|(name, idle)| idle.then_some(name))
        .collect()
    }

    /// The settings that are on and do nothing to a model that is shown such a part of each
    /// frame: whole frames and crops to a face are varied by other ones.
    /// `None` where there is none.
    pub(crate) fn idle_on(&self, crop: Crop) -> Option<String> {
        let whole = crop.is_none();
        let idle: Vec<&str> = [
            ("crop", !whole && self.crop < 1.0 && !self.free_crop),
            ("crop_scale", whole && self.crop_scale != Range::default()),
            ("crop_shift", whole && self.crop_shift > 0.0),
            ("crop_turn", whole && self.crop_turn > 0.0),
            ("wide", whole && self.wide > 0.0),
            ("squeeze", whole && self.squeeze > 1.0),
        ]
        .into_iter()
        .filter_map(|(name, idle)| idle.then_some(name))
        .collect();
        let seen = match whole {
            true => "whole frames".to_owned(),
            false => format!("crops to a face ({crop})"),
        };
        let names = idle.join(", ");
        (!idle.is_empty()).then(|| format!("the model sees {seen}: {names} cannot take effect"))
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] names the first at fault.
    pub fn validate(&self) -> Result<(), Error> {
        let fault = |field: &'static str, reason: String| Err(Error::Config { field, reason });
        let sampling = self.sampling;
        match sampling {
            Sampling::MultiClip { clips, .. } if clips > 1 => {
                let reason = "gives several clips of a video, and training takes one";
                return fault("sampling", format!("{sampling} {reason}"));
            }
            Sampling::All => {
                return fault("sampling", format!("{sampling} gives clips of any length"));
            }
            _ => {}
        }
        for (field, value) in [
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("accumulate", self.accumulate),
            ("workers", self.workers),
            ("queue", self.queue),
        ] {
            if value == 0 {
                return fault(field, "must be at least 1".to_owned());
            }
        }
        if self.contrastive > 0.0 && self.batch < 2 {
            let reason = "compares the clips of a batch: `batch` must be at least 2";
            return fault("contrastive", reason.to_owned());
        }
        if self.folds == 1 || self.folds > 10_000 {
            let reason = format!("must be 0 (the labels') or 2 to 10000, not {}", self.folds);
            return fault("folds", reason);
        }
        if self.views > MOST_VIEWS {
            let reason = format!("must be at most {MOST_VIEWS}, not {}", self.views);
            return fault("views", reason);
        }
        for (field, value) in [
            ("lr", self.lr),
            ("weight_decay", self.weight_decay),
            ("warmup", self.warmup),
            ("min_lr", self.min_lr),
            ("clip_norm", self.clip_norm),
            ("box_weight", self.box_weight),
            ("landmark_weight", self.landmark_weight),
            ("action_unit_weight", self.action_unit_weight),
            ("expression_weight", self.expression_weight),
            ("contrastive", self.contrastive),
            ("mixup", self.mixup),
            ("cutmix", self.cutmix),
            ("jitter", self.jitter),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return fault(field, format!("must be 0 or more, not {value}"));
            }
        }
        for (field, value) in [
            ("momentum", self.momentum),
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("drop_path", self.drop_path),
            ("smoothing", self.smoothing),
            ("ema", self.ema),
            ("validation", self.validation),
        ] {
            if !(0.0..1.0).contains(&value) {
                return fault(field, format!("must be in [0, 1), not {value}"));
            }
        }
        for (field, value) in [("layer_decay", self.layer_decay), ("crop", self.crop)] {
            if !(value > 0.0 && value <= 1.0) {
                return fault(field, format!("must be in (0, 1], not {value}"));
            }
        }
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return fault("eps", format!("must be positive, not {}", self.eps));
        }
        if !(self.encoder_lr > 0.0 && self.encoder_lr <= 100.0) {
            let reason = format!("must be above 0 and at most 100, not {}", self.encoder_lr);
            return fault("encoder_lr", reason);
        }
        if self.schedule == Schedule::Step {
            match self.drops.list().last() {
                None => {
                    let reason = "names no epoch for `schedule` step; write some, as 40,80";
                    return fault("drops", reason.to_owned());
                }
                Some(&last) if last >= self.epochs => {
                    let all = self.epochs;
                    let reason = format!("{last} of {all} epochs, which leaves none after it");
                    return fault("drops", reason);
                }
                Some(_) => {}
            }
        }
        if !(0.0..0.5).contains(&self.trim) {
            return fault("trim", format!("must be in [0, 0.5), not {}", self.trim));
        }
        if self.jitter > 1.0 {
            return fault("jitter", format!("must be at most 1, not {}", self.jitter));
        }
        if !(1.0..=4.0).contains(&self.squeeze) {
            return fault("squeeze", format!("must be 1 to 4, not {}", self.squeeze));
        }
        for (field, value, most) in [
            ("crop_shift", self.crop_shift, 1.0),
            ("crop_turn", self.crop_turn, 180.0),
            ("wide", self.wide, 1.0),
            ("gamma", self.gamma, 2.0),
            ("grey", self.grey, 1.0),
            ("blur", self.blur, 16.0),
            ("noise", self.noise, 128.0),
            ("erase", self.erase, 1.0),
        ] {
            if !(0.0..=most).contains(&value) {
                return fault(field, format!("must be 0 to {most}, not {value}"));
            }
        }
        if self.warmup > 0.0 && self.warmup >= self.epochs as f64 {
            let reason = format!(
                "{} of {} epochs, which leaves none after it",
                self.warmup, self.epochs
            );
            return fault("warmup", reason);
        }
        if self.keep == Keep::Best && self.validation == 0.0 {
            return fault("keep", "`best` needs a `validation` above 0".to_owned());
        }
        Ok(())
    }
}

/// The weight of action units in settings of before it.
fn half() -> f64 {
    0.5
}

/// The momentum in settings of before it.
fn momentum() -> f64 {
    0.9
}

/// What a factor is in settings of before it.
fn one() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_described_in_its_order() {
        let json = serde_json::to_string(&TrainConfig::recipe(Recipe::Paper)).expect("json");
        let mut from = 0;
        for field in FIELDS {
            let key = format!("\"{}\":", field.name);
            let at = json[from..].find(&key);
            from += at.unwrap_or_else(|| panic!("{} out of order", field.name)) + 1;
        }
        assert_eq!(json.matches("\":").count(), FIELDS.len());
    }

    #[test]
    fn faults_are_named() {
        let mut config = TrainConfig::recipe(Recipe::Paper);
        config.smoothing = 1.0;
        let error = config.validate().expect_err("out of range");
        assert!(error.to_string().starts_with("smoothing:"), "{error}");
        for (folds, views, words) in [
            (1, 0, "folds: must be 0"),
            (0, 1 << 32, "views: must be at most 1000"),
        ] {
            let mut config = TrainConfig::recipe(Recipe::Paper);
            (config.folds, config.views) = (folds, views);
            let error = config.validate().expect_err("out of range").to_string();
            assert!(error.starts_with(words), "{error}");
        }
        let mut config = TrainConfig::recipe(Recipe::Videomae);
        config.epochs = 5;
        let error = config.validate().expect_err("all warm-up");
        assert!(error.to_string().starts_with("warmup: 5 of 5"), "{error}");
        for (drops, words) in [
            ("", "drops: names no epoch for `schedule` step"),
            ("10,50", "drops: 50 of 50 epochs, which leaves none"),
        ] {
            let mut config = TrainConfig::recipe(Recipe::Paper);
            config.schedule = Schedule::Step;
            config.drops = drops.parse().expect("epochs");
            let error = config.validate().expect_err("not to be had").to_string();
            assert!(error.starts_with(words), "{error}");
        }
        for factor in [0.0, -1.0, 101.0, f64::NAN] {
            let mut config = TrainConfig::recipe(Recipe::Paper);
            config.encoder_lr = factor;
            let error = config.validate().expect_err("out of range").to_string();
            assert!(error.starts_with("encoder_lr: must be above 0"), "{error}");
        }
    }

    #[test]
    fn settings_of_before_are_what_they_were() {
        let new = [
            "optimiser",
            "encoder_lr",
            "momentum",
            "drops",
            "rand_augment",
            "free_crop",
            "erase_fill",
        ];
        for recipe in [Recipe::Paper, Recipe::Videomae] {
            let now = serde_json::to_value(TrainConfig::recipe(recipe)).expect("json");
            let mut before = now.clone();
            for name in new {
                let fields = before.as_object_mut().expect("an object");
                fields.remove(name).expect(name);
            }
            assert_ne!(before, now);
            assert_eq!(TrainConfig::of_before(&before), now);
        }
        let strange = serde_json::json!({ "lr": 1.0 });
        assert_eq!(TrainConfig::of_before(&strange), strange);
    }

    #[test]
    fn views_without_bounds_are_refused() {
        let mut config = TrainConfig::recipe(Recipe::Videomae);
        for views in [1001, 1 << 32, usize::MAX] {
            config.views = views;
            let error = config.validate().expect_err("too many").to_string();
            assert_eq!(error, format!("views: must be at most 1000, not {views}"));
        }
    }

    #[test]
    fn what_a_cache_makes_idle_is_named() {
        let mut config = TrainConfig::recipe(Recipe::Videomae);
        assert_eq!(config.idle_on_features(), ["mixup", "cutmix"]);
        config.views = 0;
        let all = ["mixup", "cutmix", "flip", "crop", "jitter", "trim"];
        assert_eq!(config.idle_on_features(), all);
        let mut config = TrainConfig::recipe(Recipe::MaeDfer);
        config.views = 0;
        let all = ["mixup", "cutmix", "flip", "rand_augment", "crop", "erase"];
        assert_eq!(config.idle_on_features(), all);
        let paper = TrainConfig::recipe(Recipe::Paper);
        assert_eq!(paper.idle_on_features(), [""; 0]);
    }
}
