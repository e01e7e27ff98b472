//! The decoders of systems that the paper compares with, trained on clips: the loss falls,
//! and what is not known of sizes is drawn to suit.

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{Device, Var};
use common::{CLASSES, Place, log, losses, model_config, plain, save};
use mtcae_model::decoder::Structure;
use mtcae_train::log::Line;
use mtcae_train::{Event, Fitted, Run, Start, TrainConfig, Tune, Weighting, fit};

#[test]
fn each_learns_from_clips_and_starts_from_a_cascades_encoder() {
    let place = Place::new();
    let classes = CLASSES.map(str::to_owned);
    for structure in Structure::COMPARED {
        let config = TrainConfig {
            // Regions teach nothing before boxes do.
            epochs: if structure == Structure::Mnc { 24 } else { 14 },
            lr: 3e-3,
            tune: Tune::All,
            ..plain()
        };
        let start = Start::checkpoint(&place.checkpoint).expect("a cascade");
        let start = start
            .with_decoder(structure, &classes, &[])
            .expect("another decoder");
        let decoder = &start.config().decoder;
        assert_eq!(
            (decoder.structure, decoder.grid),
            (structure, Some([2, 2, 2]))
        );
        let data = place.data(&config);
        let split = data.split(Some(0), &config).expect("a split");
        let folder = place.path(structure.name());
        let run = Run {
            name: "test",
            folder: &folder,
            start: &start,
            data: &data,
            split: &split,
            cache: None,
            config: &config,
            device: &Device::Cpu,
        };
        fit(&run, &mut |_| ControlFlow::Continue(())).expect("fitted");
        let losses: Vec<f64> = losses(&folder).into_iter().map(f64::from_bits).collect();
        let mean = |some: &[f64]| some.iter().sum::<f64>() / some.len() as f64;
        let part = losses.len() / 4;
        let (first, last) = (mean(&losses[..part]), mean(&losses[losses.len() - part..]));
        assert!(last < 0.97 * first, "{structure}: {first} to {last}");
    }
}

/// What the loss learns moves, is kept in the state of a run that is stopped, and is no part
/// of the model.
#[test]
fn learned_weights_of_the_losses_are_trained_and_resumed_but_not_written() {
    let place = Place::new();
    let config = TrainConfig {
        epochs: 2,
        lr: 3e-2,
        save_every: 1,
        weighting: Weighting::Uncertainty,
        ..plain()
    };
    let start = Start::checkpoint(&place.checkpoint).expect("a cascade");
    let data = place.data(&config);
    let split = data.split(Some(0), &config).expect("a split");
    let fitted = |folder: &Path, stop: Option<u64>| {
        let run = Run {
            name: "test",
            folder,
            start: &start,
            data: &data,
            split: &split,
            cache: None,
            config: &config,
            device: &Device::Cpu,
        };
        fit(&run, &mut |event| match event {
            Event::Step(line) if Some(line.step) == stop => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    };
    let [whole, parts] = ["whole", "parts"].map(|name| place.path(name));
    let first = fitted(&whole, None).expect("a run");
    assert!(fitted(&parts, Some(2)).is_err(), "it is stopped");
    let second = fitted(&parts, None).expect("the rest");
    let learned = |of: &Fitted| -> Vec<(String, f32)> {
        let trained = of.started.trained.iter();
        let trained = trained.filter(|(name, _)| name.starts_with("loss."));
        let number = |v: &Var| v.to_vec1::<f32>().expect("a number")[0];
        trained.map(|(name, v)| (name.clone(), number(v))).collect()
    };
    let found = learned(&first);
    assert_eq!(found, learned(&second));
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let want = ["face_box", "landmarks", "expression"].map(|t| format!("loss.log_variance.{t}"));
    assert_eq!(names, want);
    assert!(
        found.iter().all(|(_, s)| *s != 0.0 && s.is_finite()),
        "{found:?}"
    );
    let written = place.path("model");
    first
        .started
        .save(&written, &data, &split, Some(0))
        .expect("saved");
    Start::checkpoint(&written).expect("a model, whole and with nothing else");
}

/// It is in the loss by its weight, moves its mappings, and is no part of the model.
#[test]
fn the_loss_between_tasks_is_told_trained_and_not_written() {
    let place = Place::new();
    let config = TrainConfig {
        epochs: 1,
        contrastive: 0.25,
        ..plain()
    };
    let classes = CLASSES.map(str::to_owned);
    let data = place.data(&config);
    let split = data.split(Some(0), &config).expect("a split");
    let cascade = Start::checkpoint(&place.checkpoint).expect("a cascade");
    let folder = place.path("run");
    let fitted = |structure, folder: &Path| {
        let start = cascade.with_decoder(structure, &classes, &[]);
        let run = Run {
            name: "test",
            folder,
            start: &start.expect("a decoder"),
            data: &data,
            split: &split,
            cache: None,
            config: &config,
            device: &Device::Cpu,
        };
        fit(&run, &mut |_| ControlFlow::Continue(()))
    };
    let done = fitted(Structure::MtFormer, &folder).expect("a run");
    let mut told = Vec::new();
    for line in log(&folder) {
        if let Line::Step(line) = line {
            let between = line.contrastive.expect("told");
            let [boxes, landmarks] = [line.boxes, line.landmarks].map(|l| l.expect("a head"));
            let sum = 0.5 * (boxes + landmarks) + 1.5 * line.expression + 0.25 * between;
            // Both are sums of a few numbers in f32.
            assert!((line.loss - sum).abs() < 1e-5 * sum, "{line:?}");
            told.push(between);
        }
    }
    // The epoch's last clip is alone in its batch.
    assert!(told.iter().all(|b| *b >= 0.0) && told[0] > 0.0, "{told:?}");
    let trained = done.started.trained.iter();
    let biases: Vec<f32> = trained
        .filter(|(name, _)| name.starts_with("loss.contrastive.") && name.ends_with(".bias"))
        .flat_map(|(_, bias)| bias.to_vec1::<f32>().expect("numbers"))
        .collect();
    // They begin at 0; what a ReLU cuts off of all clips stays there.
    assert_eq!(biases.len(), 3 * 2 * 128);
    assert!(biases.iter().filter(|b| **b != 0.0).count() > biases.len() / 2);
    let written = place.path("model");
    done.started
        .save(&written, &data, &split, Some(0))
        .expect("saved");
    Start::checkpoint(&written).expect("a model, whole and with nothing else");
    for other in [Structure::Lstm, Structure::SingleTask] {
        let refused = fitted(other, &place.path("refused")).err();
        let said = refused.expect("no features alike").to_string();
        let want = format!("which {other} does not have; 0 leaves it out");
        assert!(
            said.starts_with("contrastive: ") && said.ends_with(&want),
            "{said}"
        );
    }
}

#[test]
fn a_decoder_keeps_its_sizes_for_other_classes_and_none_is_carried_to_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = model_config(Structure::MtFormer);
    config.decoder.depth = 3;
    save(folder.path(), &config, 1);
    let start = Start::checkpoint(folder.path()).expect("a start");
    let two = ["a", "b"].map(str::to_owned);
    let same = start
        .with_decoder(Structure::MtFormer, &two, &[])
        .expect("a decoder");
    assert_eq!(same.config().decoder.depth, 3);
    assert_eq!(same.config().decoder.tasks[2].outputs, 2);
    let other = start
        .with_decoder(Structure::Cascade, &two, &[])
        .expect("a decoder");
    let decoder = &other.config().decoder;
    assert_eq!(
        (decoder.depth, decoder.grid, &decoder.mtformer),
        (2, None, &None)
    );
    let said = start.with_decoder(Structure::Mnc, &two, &["AU4".to_owned()]);
    let said = said.err().expect("no stage for them").to_string();
    assert!(said.contains("action_units"), "{said}");
}
