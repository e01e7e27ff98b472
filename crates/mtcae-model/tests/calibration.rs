//! Calibrated probabilities, from packed weights and from the model on Candle; and what a
//! config's calibration may be.

use candle_core::{Device, Tensor};
use mtcae_model::decoder::Structure;
use mtcae_model::encoder::VideoMaeConfig;
use mtcae_model::{Calibration, Checkpoint, Config, Engine, Mtcae, Outputs, Precision, checkpoint};
use mtcae_nn::{ParamStore, Pass};
use mtcae_testing::assert_allclose;

fn config(calibration: Option<Calibration>) -> Config {
    let encoder = VideoMaeConfig {
        image_size: 32,
        frames: 4,
        width: 12,
        depth: 2,
        heads: 2,
        hidden: 24,
        ..VideoMaeConfig::small()
    };
    let classes = ["calm", "angry", "sad"].map(str::to_owned).to_vec();
    Config {
        calibration,
        ..Config::new(encoder, Structure::SingleTask, classes)
    }
}

fn calibration() -> Calibration {
    Calibration {
        scale: vec![0.5, 2.0, 1.0],
        bias: Some(vec![0.0, -1.0, 0.25]),
        fitted_on: "a test".to_owned(),
    }
}

fn row(tensor: &Tensor) -> Vec<f64> {
    let row = tensor.to_vec2::<f32>().expect("values").remove(0);
    row.into_iter().map(f64::from).collect()
}

#[test]
fn probabilities_are_calibrated_and_logits_are_not() {
    let logits = Tensor::new(&[[2f32, 1.0, 0.5]], &Device::Cpu).expect("logits");
    let with = |calibration| Outputs {
        boxes: None,
        landmarks: None,
        action_units: None,
        logits: logits.clone(),
        calibration,
    };
    // python3 -c "import numpy as np; e = np.exp([1, 1, .75]); print(e / e.sum())"
    let got = with(Some(calibration()))
        .probabilities()
        .expect("probabilities");
    let want = [0.35986747, 0.35986747, 0.28026507];
    assert_allclose("vector", &row(&got), &want, 1e-6, 1e-6);
    let temperature = Calibration {
        scale: vec![0.5; 3],
        bias: None,
        ..calibration()
    };
    // python3 -c "import numpy as np; e = np.exp([1, .5, .25]); print(e / e.sum())"
    let got = with(Some(temperature))
        .probabilities()
        .expect("probabilities");
    let want = [0.48102426, 0.29175596, 0.22721977];
    assert_allclose("temperature", &row(&got), &want, 1e-6, 1e-6);
}

#[test]
fn every_way_to_compute_gives_the_calibrated_probabilities() {
    let cpu = &Device::Cpu;
    let store = ParamStore::new(5);
    Mtcae::new(&config(None), store.builder(cpu)).expect("a model");
    let folder = tempfile::tempdir().expect("a folder");
    let save = |config: &Config| {
        let vars = store.vars();
        let tensors = vars
            .iter()
            .map(|(name, var)| (name.as_str(), var.as_tensor()));
        checkpoint::save(folder.path(), config, tensors).expect("saved");
        Checkpoint::open(folder.path()).expect("opened")
    };
    let clips = Tensor::randn(0f32, 1.0, (2, 4, 3, 32, 32), cpu).expect("clips");
    let input = config(None).encoder.input().cut(&clips).expect("input");
    let run = |engine: &Engine| engine.run(&input, &mut Pass::inference()).expect("outputs");

    let plain = save(&config(None))
        .engine(cpu, Precision::F32)
        .expect("an engine");
    let plain = run(&plain);
    let calibrated = save(&config(Some(calibration())));
    assert_eq!(calibrated.config().calibration, Some(calibration()));
    let packed = run(&calibrated.engine(cpu, Precision::F32).expect("an engine"));
    assert_eq!(row(&packed.logits), row(&plain.logits));

    let model = calibrated.model(cpu).expect("a model");
    let candle = model.forward(&clips).expect("outputs");
    let on_candle = run(&Engine::on_candle(&model, cpu));
    let want = Outputs {
        calibration: Some(calibration()),
        ..plain.clone()
    };
    let want = row(&want.probabilities().expect("probabilities"));
    for (what, outputs) in [("packed", packed), ("model", candle), ("Candle", on_candle)] {
        let got = row(&outputs.probabilities().expect("probabilities"));
        assert_allclose(what, &got, &want, 1e-5, 1e-5);
    }
    let uncalibrated = row(&plain.probabilities().expect("probabilities"));
    assert!(
        (uncalibrated[1] - want[1]).abs() > 0.05,
        "{uncalibrated:?} {want:?}"
    );
}

#[test]
fn what_cannot_be_applied_is_named() {
    let with = |scale: &[f64], bias: Option<&[f64]>| {
        config(Some(Calibration {
            scale: scale.to_vec(),
            bias: bias.map(<[f64]>::to_vec),
            ..calibration()
        }))
    };
    for (config, said) in [
        (
            with(&[1.0; 2], None),
            "calibration.scale: has 2 numbers, not 3",
        ),
        (
            with(&[1.0; 3], Some(&[0.0; 4])),
            "calibration.bias: has 4 numbers, not 3",
        ),
        (with(&[1.0, 0.0, 1.0], None), "calibration.scale: holds 0;"),
        (with(&[1.0, -2.0, 1.0], None), "finite and positive"),
        (
            with(&[1.0, f64::NAN, 1.0], None),
            "calibration.scale: holds NaN",
        ),
        // Which is 0 in f32, and an infinity.
        (with(&[1.0, 1e-60, 1.0], None), "calibration.scale: holds"),
        (
            with(&[1.0; 3], Some(&[0.0, 1e60, 0.0])),
            "calibration.bias: holds",
        ),
    ] {
        let error = config.validate().expect_err(said).to_string();
        assert!(error.contains(said), "{said}: {error}");
    }
    with(&[1.0; 3], Some(&[0.0; 3])).validate().expect("good");
}
