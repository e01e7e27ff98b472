//! The trainer on an encoder of another crate: one that takes frames, has no plan and no
//! drop path.

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{Device, Module, Tensor};
use common::{CLASSES, Place, plain};
use mtcae_model::decoder::Structure;
use mtcae_model::encoder::{
    Encoder, EncoderConfig, Error as EncoderError, Families, Group, Input, Layout, Output,
};
use mtcae_model::{Checkpoint, Config, Mtcae, checkpoint};
use mtcae_nn::{Linear, ParamStore, Pass, VarBuilder, linear};
use mtcae_train::{CrossValidation, Event, Start, TrainConfig, Tune, cross_validate};
use serde::{Deserialize, Serialize};

/// The mean colour of each frame, and two layers.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Means {
    width: usize,
}

#[derive(Debug)]
struct Built(Means, [Linear; 2]);

impl EncoderConfig for Means {
    fn family(&self) -> &'static str {
        "means"
    }

    fn fields(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self)
    }

    fn input(&self) -> Input {
        Input {
            frames: 4,
            size: 32,
            channels: 3,
            layout: Layout::Frames,
        }
    }

    fn output(&self) -> Output {
        Output {
            tokens: 4,
            width: self.width,
            grid: None,
        }
    }

    fn groups(&self) -> Vec<Group> {
        let d = self.width;
        let layer = |name: &str, depth, inputs| {
            let tensors = [
                (format!("{name}.weight"), vec![d, inputs]),
                (format!("{name}.bias"), vec![d]),
            ];
            Group::new(name, depth, tensors)
        };
        vec![layer("first", 1, 3), layer("second", 2, d)]
    }

    fn build(&self, vb: VarBuilder<'_>) -> Result<Arc<dyn Encoder>, EncoderError> {
        let first = linear(3, self.width, vb.pp("first"))?;
        let second = linear(self.width, self.width, vb.pp("second"))?;
        Ok(Arc::new(Built(self.clone(), [first, second])))
    }
}

impl Encoder for Built {
    fn config(&self) -> &dyn EncoderConfig {
        &self.0
    }

    fn run(&self, frames: &Tensor, _: &mut Pass) -> Result<Tensor, EncoderError> {
        self.0.input().check(frames)?;
        let means = frames.mean((3, 4))?;
        Ok(self.1[1].forward(&self.1[0].forward(&means)?.tanh()?)?)
    }
}

#[test]
fn an_encoder_of_another_crate_is_cross_validated_cached_and_tuned_in_part() {
    let place = Place::new();
    let classes = CLASSES.map(str::to_owned).to_vec();
    let mut model = Config::new(Means { width: 24 }, Structure::Cascade, classes);
    let decoder = &mut model.decoder;
    (
        decoder.width,
        decoder.depth,
        decoder.heads,
        decoder.head_dim,
    ) = (16, 2, 2, 8);
    let store = ParamStore::new(3);
    Mtcae::new(&model, store.builder(&Device::Cpu)).expect("built");
    let vars = store.vars();
    let tensors = vars.iter().map(|(n, v)| (n.as_str(), v.as_tensor()));
    let checkpoint = place.path("foreign");
    checkpoint::save(&checkpoint, &model, tensors).expect("saved");
    let families = Families::default().with::<Means>("means");
    let opened = Checkpoint::open_with(&checkpoint, &families).expect("opened");
    let start = Start::of(opened);
    let mut losses = Vec::new();
    for (name, tune, cached) in [
        ("frozen", Tune::Decoder, false),
        ("cached", Tune::Decoder, true),
        ("last", Tune::Last(1), false),
    ] {
        let config = TrainConfig {
            tune,
            drop_path: 0.1,
            ..plain()
        };
        let (folder, cache) = (place.path(name), place.path("cache"));
        let cv = CrossValidation {
            folder: &folder,
            start: &start,
            data: &place.data(&config),
            cache: cached.then_some(cache.as_path()),
            save_models: true,
            test: None,
            config: &config,
            device: &Device::Cpu,
        };
        let mut noticed = false;
        let mut watch = |event: &Event<'_>| {
            noticed |= matches!(event, Event::Notice(text) if text.contains("know no drop path"));
            ControlFlow::Continue(())
        };
        cross_validate(&cv, &mut watch).expect(name);
        assert_eq!(noticed, tune != Tune::Decoder, "{name}");
        let model = Checkpoint::open_with(folder.join("fold-0/model"), &families).expect(name);
        let of = |file: &str| -> Vec<f32> {
            let tensor = model.weights().load(file, &Device::Cpu).expect(file);
            tensor.flatten_all().and_then(|t| t.to_vec1()).expect(file)
        };
        let began = |file: &str| -> Vec<f32> {
            let var = &vars.iter().find(|(n, _)| n == file).expect(file).1;
            var.flatten_all().and_then(|t| t.to_vec1()).expect(file)
        };
        for (layer, moves) in [("first", false), ("second", tune != Tune::Decoder)] {
            let name = format!("encoder.{layer}.weight");
            assert_eq!(of(&name) != began(&name), moves, "{name}, tune {tune}");
        }
        losses.push(common::losses(&folder.join("fold-0")));
    }
    let last = |run: usize| f64::from_bits(*losses[run].last().expect("a step"));
    // Half precision of the cache, and the bound's reason, are those of features.rs.
    assert!((last(0) - last(1)).abs() / last(0) < 1e-4);
}
