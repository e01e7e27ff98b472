//! The loss and the agreement of action units against PyTorch, scipy and an analysis of
//! variance (`fixtures/objective/make.py`).
//!
//! All is `f64` on the same numbers, so that only the order of sums differs: 1e-12 of values
//! about 1 is some thousand roundings.

use mtcae_objective::candle_core::{DType, Device, Tensor, Var};
use mtcae_objective::{
    Agreement, Class, Config, Error, Heads, Objective, Targets, UnitTargets, Weights,
};
use mtcae_testing::fixtures;
use serde_json::Value;

const TOLERANCE: f64 = 1e-12;

fn fixture() -> Value {
    let text = std::fs::read_to_string(fixtures().join("objective/action_units.json"));
    serde_json::from_str(&text.expect("readable")).expect("JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).expect("numbers")
}

#[test]
fn the_loss_and_its_gradients_are_those_of_pytorch() {
    for case in fixture()["losses"].as_array().expect("a list") {
        let size = |key: &str| case[key].as_u64().expect("a number") as usize;
        let (b, t, u) = (size("clips"), size("frames"), size("units"));
        let tensor = |key: &str, shape: &[usize]| {
            Tensor::from_vec(numbers(&case[key]), shape, &Device::Cpu).expect("of this shape")
        };
        let said = Var::from_tensor(&tensor("said", &[b, t, u])).expect("made");
        let logits = Var::from_tensor(&tensor("logits", &[b, size("classes")])).expect("made");
        let index = tensor("index", &[b]).to_dtype(DType::U32).expect("whole");
        let zeros = |shape: &[usize]| {
            Tensor::zeros(shape, DType::F64, &Device::Cpu).expect("of this shape")
        };
        let targets = Targets {
            boxes: zeros(&[b, t, 4]),
            landmarks: zeros(&[b, t, 5, 2]),
            valid: zeros(&[b, t]),
            action_units: Some(UnitTargets {
                strengths: tensor("truth", &[b, t, u]),
                known: tensor("known", &[b, t]),
            }),
            class: Class::Index(index),
        };
        let objective = Objective::new(Config {
            weights: Weights {
                action_units: case["weight"].as_f64().expect("a number"),
                ..Weights::default()
            },
            ..Config::default()
        })
        .expect("an objective");
        let heads = Heads {
            boxes: None,
            landmarks: None,
            action_units: Some(&said),
            logits: &logits,
        };
        let losses = objective.forward(&heads, &targets).expect("losses");
        let part = |loss: &Tensor| loss.to_scalar::<f64>().expect("a scalar");
        for (name, got) in [
            ("action_units", losses.action_units.as_ref().map(part)),
            ("expression", Some(part(&losses.expression))),
            ("total", Some(part(&losses.total))),
        ] {
            let (got, want) = (got.expect(name), case["loss"][name].as_f64().expect(name));
            assert!((got - want).abs() < TOLERANCE, "{name}: {got}, {want}");
        }
        let gradients = losses.total.backward().expect("gradients");
        for (name, var) in [("said", &said), ("logits", &logits)] {
            let got = gradients.get(var).expect("a gradient").flatten_all();
            let got = got.and_then(|t| t.to_vec1::<f64>()).expect("numbers");
            for (got, want) in got.iter().zip(numbers(&case["gradients"][name])) {
                assert!((got - want).abs() < TOLERANCE, "{name}: {got}, {want}");
            }
        }
        let unknown = Targets {
            action_units: None,
            ..targets
        };
        let losses = objective.forward(&heads, &unknown).expect("losses");
        assert!(losses.action_units.is_none());
    }
}

#[test]
fn agreement_is_that_of_scipy_and_of_an_analysis_of_variance() {
    for case in fixture()["agreement"].as_array().expect("a list") {
        let got = Agreement::new(&numbers(&case["said"]), &numbers(&case["truth"]));
        let got = got.expect("measured");
        for (name, got) in [
            ("mae", Some(got.mae)),
            ("pearson", got.pearson),
            ("icc", got.icc),
        ] {
            let (got, want) = (got.expect(name), case[name].as_f64().expect(name));
            let about = &case["name"];
            assert!(
                (got - want).abs() < TOLERANCE,
                "{about} {name}: {got}, {want}"
            );
        }
    }
}

#[test]
fn what_never_changes_has_no_correlation_and_what_is_no_number_is_named() {
    let still = Agreement::new(&[0.5; 3], &[0.0, 0.5, 1.0]).expect("measured");
    assert_eq!(still.pearson, None);
    assert!(still.icc.is_some());
    let both = Agreement::new(&[0.5; 3], &[0.5; 3]).expect("measured");
    assert_eq!((both.mae, both.pearson, both.icc), (0.0, None, None));
    let none = Agreement::new(&[], &[]).expect_err("none");
    assert!(matches!(none, Error::Empty { .. }));
    let fewer = Agreement::new(&[0.5], &[0.5, 0.6]).expect_err("fewer");
    assert_eq!(fewer.to_string(), "said strengths: 1 given, 2 expected");
    let nan = Agreement::new(&[0.5, f64::NAN], &[0.5, 0.6]).expect_err("not a number");
    assert!(nan.to_string().starts_with("said strength 1"), "{nan}");
}
