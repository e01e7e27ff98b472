//! The loss and its gradients against PyTorch (`fixtures/objective/make.py`), and
//! where PyTorch has nothing to say.
//!
//! Both sides compute in `f64` on the same numbers, so that only the order of
//! sums differs: 1e-13 of the largest value is some hundred roundings. In `f32`
//! inputs are rounded first; 1e-6 is eight roundings of `f32`, and sums here have
//! at most 120 terms, whose roundings partly cancel.

use mtcae_objective::candle_core::{DType, Device, Tensor, Var};
use mtcae_objective::{
    Class, Config, Error, Heads, LogVariances, Losses, Objective, Targets, Unit, Weighting,
    Weights, cross_entropy, masked_mse,
};
use mtcae_testing::{deviation, fixtures};
use serde_json::Value;

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(fixtures().join("objective/loss.json")).expect("readable");
    let fixture: Value = serde_json::from_str(&text).expect("JSON");
    fixture["cases"].as_array().expect("a list").clone()
}

fn tensor(values: &Value, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = serde_json::from_value(values.clone()).expect("numbers");
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many as the shape says")
}

/// Predictions, targets, and the shapes of both, of one case.
struct Case {
    boxes: Option<Var>,
    landmarks: Option<Var>,
    logits: Var,
    targets: Targets,
}

impl Case {
    fn new(case: &Value, dtype: DType) -> Self {
        let size = |key: &str| case[key].as_u64().expect("a number") as usize;
        let (b, t, c) = (size("clips"), size("frames"), size("classes"));
        let (predictions, targets) = (&case["predictions"], &case["targets"]);
        let var = |key: &str, shape: &[usize]| {
            let value = predictions.get(key)?;
            let value = tensor(value, shape).to_dtype(dtype).expect("a number");
            Some(Var::from_tensor(&value).expect("copied"))
        };
        let class = match targets.get("soft") {
            Some(soft) => Class::Soft(tensor(soft, &[b, c])),
            None => Class::Index(
                tensor(&targets["index"], &[b])
                    .to_dtype(DType::U32)
                    .expect("whole numbers"),
            ),
        };
        Self {
            boxes: var("boxes", &[b, t, 4]),
            landmarks: var("landmarks", &[b, t, 5, 2]),
            logits: var("logits", &[b, c]).expect("every model has them"),
            targets: Targets {
                boxes: tensor(&targets["boxes"], &[b, t, 4]),
                landmarks: tensor(&targets["landmarks"], &[b, t, 5, 2]),
                valid: tensor(&targets["valid"], &[b, t]),
                action_units: None,
                class,
            },
        }
    }

    fn run(&self, objective: &Objective) -> Result<Losses, Error> {
        let heads = Heads {
            boxes: self.boxes.as_deref(),
            landmarks: self.landmarks.as_deref(),
            action_units: None,
            logits: &self.logits,
        };
        objective.forward(&heads, &self.targets)
    }
}

fn against_pytorch(dtype: DType, tolerance: f64) -> f64 {
    let mut worst: f64 = 0.0;
    let cases = cases();
    assert_eq!(cases.len(), 14);
    for case in &cases {
        let name = case["name"].as_str().expect("a name");
        let config: Config = serde_json::from_value(case["config"].clone()).expect("ours");
        config.validate().expect("a good config");
        let objective = Objective::new(config).expect("a good config");
        let tensors = Case::new(case, dtype);
        let losses = tensors.run(&objective).expect("computed");
        let mut check = |what: String, got: &Tensor, want: &Tensor| {
            // Where the reference is exactly 0, so must we be.
            let error = deviation(got, want);
            assert!(error <= tolerance, "{name}: {what}: {error:e}");
            worst = worst.max(error);
        };
        let parts = [
            ("boxes", losses.boxes.as_ref()),
            ("landmarks", losses.landmarks.as_ref()),
            ("expression", Some(&losses.expression)),
            ("total", Some(&losses.total)),
        ];
        for (part, got) in parts {
            match (case["loss"].get(part), got) {
                (Some(want), Some(got)) => {
                    let want = tensor(&serde_json::json!([want]), &[]);
                    check(part.to_owned(), got, &want);
                }
                (want, got) => assert!(want.is_none() && got.is_none(), "{name}: {part}"),
            }
        }
        let gradients = losses.total.backward().expect("a backward for every op");
        for (leaf, var) in [
            ("boxes", tensors.boxes.as_ref()),
            ("landmarks", tensors.landmarks.as_ref()),
            ("logits", Some(&tensors.logits)),
        ] {
            let Some(var) = var else { continue };
            let want = tensor(&case["gradients"][leaf], var.dims());
            let got = gradients.get(var).expect("a gradient");
            check(format!("gradient of {leaf}"), got, &want);
        }
    }
    worst
}

#[test]
fn parts_total_and_gradients_are_pytorchs() {
    let (double, single) = (
        against_pytorch(DType::F64, 1e-13),
        against_pytorch(DType::F32, 1e-6),
    );
    println!("largest deviation: f64 {double:.1e}, f32 {single:.1e}");
}

#[test]
fn frames_without_a_label_may_hold_anything() {
    let nan = f32::NAN;
    let prediction = Var::new(&[[[1f32, 2.], [3., 4.], [5., 6.]]], &Device::Cpu).expect("made");
    let target = Tensor::new(&[[[0f32, 0.], [nan, nan], [5., 7.]]], &Device::Cpu).expect("made");
    let valid = Tensor::new(&[[1u8, 0, 1]], &Device::Cpu).expect("made");
    let error = masked_mse(&prediction, &target, &valid, 1.0).expect("computed");
    assert_eq!(error.to_scalar::<f32>().expect("a scalar"), 6.0 / 4.0);
    let gradient = error.backward().expect("computed");
    assert_eq!(
        gradient
            .get(&prediction)
            .expect("a gradient")
            .to_vec3::<f32>()
            .expect("three axes"),
        [[[0.5, 1.0], [0.0, 0.0], [0.0, -0.5]]]
    );
    // The same without any: exactly 0, and so its gradient.
    let none = masked_mse(
        &prediction,
        &target,
        &valid.zeros_like().expect("made"),
        1.0,
    )
    .expect("computed");
    assert_eq!(none.to_scalar::<f32>().expect("a scalar"), 0.0);
    let gradient = none.backward().expect("computed");
    let gradient = gradient.get(&prediction).expect("a gradient");
    assert!(
        gradient
            .flatten_all()
            .and_then(|g| g.to_vec1::<f32>())
            .expect("numbers")
            .iter()
            .all(|g| *g == 0.0)
    );
}

#[test]
fn a_nan_in_a_prediction_is_not_hidden() {
    let prediction = Tensor::new(&[[[f32::NAN]]], &Device::Cpu).expect("made");
    let target = Tensor::zeros((1, 1, 1), DType::F32, &Device::Cpu).expect("made");
    let valid = Tensor::zeros((1, 1), DType::U8, &Device::Cpu).expect("made");
    let error = masked_mse(&prediction, &target, &valid, 1.0).expect("computed");
    assert!(error.to_scalar::<f32>().expect("a scalar").is_nan());
}

#[test]
fn classes_of_no_weight_give_no_loss_and_no_gradient() {
    let logits = Var::new(&[[1f32, 2.], [0.5, 0.]], &Device::Cpu).expect("made");
    let class = Class::Index(Tensor::new(&[1u32, 1], &Device::Cpu).expect("made"));
    let loss = cross_entropy(&logits, &class, Some(&[1.0, 0.0]), 0.1).expect("computed");
    assert_eq!(loss.to_scalar::<f32>().expect("a scalar"), 0.0);
    let gradient = loss.backward().expect("computed");
    assert_eq!(
        gradient
            .get(&logits)
            .expect("a gradient")
            .to_vec2::<f32>()
            .expect("two axes"),
        [[0.0; 2]; 2]
    );
}

#[test]
fn half_precision_is_computed_in_single() {
    // 300² overflows f16, whose largest number is 65,504.
    let prediction = Tensor::new(&[[[300f32, 300., 300., 300.]]], &Device::Cpu)
        .and_then(|t| t.to_dtype(DType::F16))
        .expect("made");
    let target = prediction.zeros_like().expect("made");
    let valid = Tensor::ones((1, 1), DType::F32, &Device::Cpu).expect("made");
    let error = masked_mse(&prediction, &target, &valid, 1.0).expect("computed");
    assert_eq!(error.to_scalar::<f32>().expect("a scalar"), 90_000.0);
}

#[test]
fn shapes_and_classes_that_do_not_fit_are_named() {
    let objective = Objective::new(Config::default()).expect("a good config");
    let case = &cases()[0];
    let said = |change: &dyn Fn(&mut Case)| {
        let mut tensors = Case::new(case, DType::F64);
        change(&mut tensors);
        tensors.run(&objective).expect_err("a fault").to_string()
    };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu).expect("made");
    let message =
        said(&|c| c.boxes = Some(Var::zeros((3, 4, 5), DType::F64, &Device::Cpu).expect("made")));
    assert_eq!(
        message,
        "boxes must have the shape (3, T, 4), not [3, 4, 5]"
    );
    let message = said(&|c| c.targets.landmarks = zeros(&[3, 4, 10]));
    assert_eq!(
        message,
        "the target must have the shape [3, 4, 5, 2], not [3, 4, 10]"
    );
    let message = said(&|c| c.targets.valid = zeros(&[3, 5]));
    assert_eq!(message, "valid must have the shape [3, 4], not [3, 5]");
    let class = |values: &[u32]| {
        let values = Tensor::new(values, &Device::Cpu).expect("made");
        said(&|c| c.targets.class = Class::Index(values.clone()))
    };
    assert_eq!(
        class(&[0, 7, 1]),
        "targets.class 1: is class 7, but there are 7 classes, numbered from 0"
    );
    assert_eq!(
        class(&[0, 1]),
        "targets.class must have the shape [3], not [2]"
    );
    let message = said(&|c| c.targets.class = Class::Soft(zeros(&[3, 6])));
    assert_eq!(
        message,
        "targets.class must have the shape [3, 7], not [3, 6]"
    );
}

#[test]
fn configs_that_cannot_be_used_name_their_field() {
    let paper = Weights {
        boxes: 0.5,
        landmarks: 0.5,
        action_units: 0.5,
        expression: 1.5,
    };
    assert_eq!(Weights::default(), paper);
    let read = |json: &str| serde_json::from_str::<Config>(json).expect("readable");
    assert_eq!(read("{}"), Config::default());
    assert_eq!(
        read(r#"{"box_unit": {"pixel": 224}}"#).box_unit,
        Unit::Pixel(224)
    );
    assert!(serde_json::from_str::<Config>(r#"{"smoothing": 0.1}"#).is_err());
    for (json, field) in [
        (r#"{"weights": {"boxes": -1}}"#, "weights.boxes"),
        (
            r#"{"weights": {"boxes": 0, "landmarks": 0, "action_units": 0, "expression": 0}}"#,
            "weights:",
        ),
        (r#"{"landmark_unit": {"pixel": 0}}"#, "landmark_unit"),
        (r#"{"class_weights": [1, -1]}"#, "class_weights"),
        (r#"{"class_weights": [0, 0]}"#, "class_weights"),
        (r#"{"class_weights": []}"#, "class_weights"),
        (r#"{"label_smoothing": 1.5}"#, "label_smoothing"),
    ] {
        let error = Objective::new(read(json)).expect_err(json).to_string();
        assert!(error.contains(field), "{error}");
    }
    let mut config = Config::default();
    config.weights.landmarks = f64::NAN;
    assert!(config.validate().is_err());
    let config = read(r#"{"class_weights": [1, 2]}"#);
    assert!(config.validate().is_ok());
    let logits = Tensor::zeros((1, 3), DType::F64, &Device::Cpu).expect("zeros");
    let class = Class::Index(Tensor::new(&[0u32], &Device::Cpu).expect("one class"));
    assert_eq!(
        cross_entropy(&logits, &class, config.class_weights.as_deref(), 0.0)
            .expect_err("two for three")
            .to_string(),
        "objective config: class_weights: 2 given for 3 classes"
    );
    assert_eq!(read(&serde_json::to_string(&config).expect("JSON")), config);
}

/// Σ w·e^(−s)·L + s: its value and gradients by the formula, d/ds = 1 − w·e^(−s)·L, and a
/// prediction's that of fixed weights times e^(−s).
#[test]
fn learned_weights_are_those_of_the_formula() {
    let case = &cases()[0];
    let run = |weighting, log_variances: [f64; 3]| {
        let case = Case::new(case, DType::F64);
        let vars = log_variances.map(|s| Var::new(&[s], &Device::Cpu).expect("a variable"));
        let some = |i: usize| Some(vars[i].as_tensor().clone());
        let config = Config {
            weighting,
            ..Config::default()
        };
        let objective = Objective::new(config)
            .expect("valid")
            .learning(LogVariances {
                boxes: some(0),
                landmarks: some(1),
                action_units: None,
                expression: some(2),
            });
        let heads = Heads {
            boxes: case.boxes.as_ref().map(|v| v.as_tensor()),
            landmarks: case.landmarks.as_ref().map(|v| v.as_tensor()),
            action_units: None,
            logits: &case.logits,
        };
        let losses = objective.forward(&heads, &case.targets).expect("losses");
        let grads = losses.total.backward().expect("gradients");
        let learned = vars.map(|v| grads.get(&v).map(|g| g.to_vec1::<f64>().expect("one")[0]));
        let of = grads.get(&case.logits).expect("logits have one").clone();
        (losses, learned, of)
    };
    let number = |t: &Tensor| t.to_scalar::<f64>().expect("a number");
    let (fixed, none, by_fixed) = run(Weighting::Fixed, [0.3, -0.7, 1.1]);
    assert_eq!(none, [None; 3]);
    let s = [0.3, -0.7, 1.1];
    let (learned, slopes, by_learned) = run(Weighting::Uncertainty, s);
    let parts = [
        0.5 * number(fixed.boxes.as_ref().expect("boxes")),
        0.5 * number(fixed.landmarks.as_ref().expect("landmarks")),
        1.5 * number(&fixed.expression),
    ];
    let want: f64 = parts.iter().zip(s).map(|(l, s)| (-s).exp() * l + s).sum();
    assert!((number(&learned.total) - want).abs() < 1e-12);
    for ((slope, part), s) in slopes.iter().zip(parts).zip(s) {
        assert!((slope.expect("a gradient") - (1.0 - (-s).exp() * part)).abs() < 1e-12);
    }
    let by_fixed = (by_fixed * (-1.1f64).exp()).expect("a product");
    assert!(deviation(&by_learned, &by_fixed) < 1e-12);
    // From 0 on it is the fixed one.
    let (at_zero, _, _) = run(Weighting::Uncertainty, [0.0; 3]);
    assert!((number(&at_zero.total) - number(&fixed.total)).abs() < 1e-12);
}
