//! What is trained gets a gradient, what is frozen gets none, by name, with the
//! freezing of a real run.

mod common;

use candle_core::{Device, Tensor};
use common::{Place, model_config, plain, save, save_checkpoint};
use mtcae_model::decoder::Structure;
use mtcae_nn::Pass;
use mtcae_objective::{Class, Heads, Objective, Targets, UnitTargets};
use mtcae_testing::without_gradient;
use mtcae_train::{Start, TrainConfig, Tune};

/// Fixed numbers that no symmetry makes vanish.
fn wave(shape: impl Into<candle_core::Shape>, around: f32, by: f32) -> Tensor {
    let shape = shape.into();
    let values = (0..shape.elem_count()).map(|i| around + by * (1.7 * i as f32 + 0.3).sin());
    Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu).expect("a tensor")
}

/// Names of the parameters below `prefix` that the loss does not reach, and of
/// those that `tune` freezes but the loss does.
fn wrong(start: &Start, tune: Tune) -> (Vec<String>, Vec<String>, usize, usize) {
    let config = TrainConfig { tune, ..plain() };
    let started = start.build(&config, false, &Device::Cpu).expect("built");
    // Zero biases and unit norms would hide a gradient that is cut.
    for (name, var) in started.store.vars() {
        let nudge = wave(var.dims().to_vec(), 0.0, 0.05);
        let moved = (var.as_tensor().detach() + nudge).expect("a sum");
        started.store.set(&name, &moved).expect("set");
    }
    let model = started.model.config();
    let input = model.encoder.input();
    let (b, t, u) = (2, input.frames, model.action_units.len());
    let tubes = wave([&[b], &input.shape()[..]].concat(), 0.1, 1.0);
    let targets = Targets {
        boxes: wave((b, t, 4), 0.5, 0.4),
        landmarks: wave((b, t, 5, 2), 0.5, 0.4),
        valid: Tensor::ones((b, t), candle_core::DType::F32, &Device::Cpu).expect("ones"),
        action_units: (u > 0).then(|| UnitTargets {
            strengths: wave((b, t, u), 0.5, 0.4),
            known: Tensor::ones((b, t), candle_core::DType::F32, &Device::Cpu).expect("ones"),
        }),
        class: Class::Index(Tensor::new(&[0u32, 2], &Device::Cpu).expect("classes")),
    };
    let pass = &mut Pass::training(0);
    let out = match &started.encoder {
        None => started.model.run(&tubes, pass),
        Some(frozen) => {
            let features = frozen.encode(&tubes, &mut Pass::inference());
            features.and_then(|f| started.model.decode(&f, pass))
        }
    };
    let out = out.expect("outputs");
    let heads = Heads {
        boxes: out.boxes.as_ref(),
        landmarks: out.landmarks.as_ref(),
        action_units: out.action_units.as_ref(),
        logits: &out.logits,
    };
    let losses = Objective::new(Default::default())
        .and_then(|o| o.forward(&heads, &targets))
        .expect("losses");
    let gradients = losses.total.backward().expect("gradients");
    let frozen: Vec<_> = started
        .store
        .vars()
        .into_iter()
        .filter(|(name, _)| started.trained.iter().all(|(n, _)| n != name))
        .collect();
    let reached = frozen
        .iter()
        .filter(|(_, var)| gradients.get(var).is_some())
        .map(|(name, _)| name.clone())
        .collect();
    (
        without_gradient(&started.trained, &gradients),
        reached,
        started.trained.len(),
        frozen.len(),
    )
}

#[test]
fn every_trained_parameter_of_every_structure_has_a_gradient_and_no_frozen_one() {
    let folder = tempfile::tempdir().expect("a folder");
    for structure in Structure::ALL.into_iter().chain(Structure::COMPARED) {
        let checkpoint = folder.path().join(structure.name());
        save_checkpoint(&checkpoint, structure, 3);
        let classes = model_config(structure).classes;
        let starts = [
            Start::checkpoint(&checkpoint).expect("a start"),
            drawn(&checkpoint, structure, &classes),
        ];
        for start in &starts {
            for (tune, frozen) in [
                // Patches' weight and bias; 13 tensors a block: two norms, qkv with
                // its two biases, projection, two layers of the MLP, each with a
                // bias. An encoder that is frozen as a whole has no parameters.
                (Tune::Decoder, 0),
                (Tune::Last(1), 2 + 13),
                (Tune::Last(2), 2),
                (Tune::All, 0),
            ] {
                let (without, reached, trained, is_frozen) = wrong(start, tune);
                assert!(
                    without.is_empty() && reached.is_empty(),
                    "{structure}, tune {tune}: no gradient reaches {without:?}; the frozen \
                     {reached:?} have one"
                );
                assert_eq!(is_frozen, frozen, "{structure}, tune {tune}");
                assert!(trained > 0);
            }
        }
    }
}

#[test]
fn every_parameter_of_a_cascade_with_action_units_has_a_gradient() {
    let folder = tempfile::tempdir().expect("a folder");
    let units = ["AU4", "AU12"].map(str::to_owned).to_vec();
    let config = model_config(Structure::Cascade).with_action_units(units);
    save(folder.path(), &config, 4);
    let start = Start::checkpoint(folder.path()).expect("a start");
    let (without, _, trained, frozen) = wrong(&start, Tune::All);
    assert!(without.is_empty(), "no gradient reaches {without:?}");
    assert!(trained > 0 && frozen == 0);
}

/// The encoder of a checkpoint with a decoder that is drawn.
fn drawn(checkpoint: &std::path::Path, structure: Structure, classes: &[String]) -> Start {
    let start = Start::checkpoint(checkpoint).expect("a start");
    start
        .with_decoder(structure, classes, &[])
        .expect("a decoder")
}

/// A decoder drawn for a run does not depend on the checkpoint's.
#[test]
fn a_drawn_decoder_comes_from_the_seed_alone() {
    let place = Place::new();
    let classes = model_config(Structure::Cascade).classes;
    let other = place.path("other");
    save_checkpoint(&other, Structure::SharedMlp, 9);
    let decoder = |folder: &std::path::Path, seed: u64| -> Vec<(String, Vec<f32>)> {
        let start = drawn(folder, Structure::Cascade, &classes);
        let config = TrainConfig { seed, ..plain() };
        let started = start.build(&config, false, &Device::Cpu).expect("built");
        let values = |(name, var): &(String, candle_core::Var)| {
            let values = var.flatten_all().and_then(|t| t.to_vec1());
            (name.clone(), values.expect("values"))
        };
        started.trained.iter().map(values).collect()
    };
    assert_eq!(decoder(&place.checkpoint, 5), decoder(&other, 5));
    assert_ne!(decoder(&place.checkpoint, 5), decoder(&place.checkpoint, 6));
}
