//! Adam and SGD against PyTorch's, step by step on the same gradients.

use candle_core::{Device, Tensor, Var};
use mtcae_nn::optim::{AdamW, AdamWConfig, Gradients, Group, Sgd};
use mtcae_testing::{Fixture, deviation};
use serde_json::Value;

/// Of a tensor's largest; twelve steps in `f32` against PyTorch's in `f64`. A forgotten weight
/// decay or momentum, or one that is decoupled, is off by 1e-3 and more.
const TOLERANCE: f64 = 2e-6;

enum Optimiser {
    Adam(AdamW),
    Sgd(Sgd),
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

fn optimiser(run: &Value, parameters: &[(String, Var)]) -> Optimiser {
    let decay = number(&run["weight_decay"]);
    let group = |name: &str, _: &Var| match name {
        "a" => Group {
            lr_scale: 1.0,
            weight_decay: decay,
        },
        _ => Group {
            lr_scale: 0.1,
            weight_decay: 0.0,
        },
    };
    match run["kind"] == "adam" {
        true => {
            let config = AdamWConfig {
                beta1: number(&run["betas"][0]),
                beta2: number(&run["betas"][1]),
                eps: number(&run["eps"]),
            };
            Optimiser::Adam(AdamW::coupled(parameters, config, group).expect("an optimiser"))
        }
        false => {
            let momentum = number(&run["momentum"]);
            Optimiser::Sgd(Sgd::new(parameters, momentum, group).expect("an optimiser"))
        }
    }
}

/// Gradients that are what they are told to be: those of Σ θ·g.
fn gradients(file: &Fixture, parameters: &[(String, Var)], step: usize) -> Gradients {
    let mut loss = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu).expect("zero");
    for (name, var) in parameters {
        let wanted = file.get(&format!("gradient.{name}.{step}"));
        let part = (var.as_tensor() * wanted).and_then(|t| t.sum_all());
        loss = (loss + part.expect("a sum")).expect("a sum");
    }
    let mut store = loss.backward().expect("gradients");
    Gradients::take(parameters, &mut store).expect("of both")
}

#[test]
fn twelve_steps_are_those_of_pytorch() {
    let file = Fixture::load("optimisers/optimisers.safetensors");
    let runs: Value = serde_json::from_str(file.text("runs")).expect("metadata");
    for (name, run) in runs.as_object().expect("runs") {
        // Clipping and averaging: twice the gradient at half its scale is the same.
        for scale in [1.0, 0.5] {
            let start = |p: &str| file.get(&format!("start.{p}")).copy().expect("copied");
            let parameters = ["a", "b"].map(|p| {
                (
                    p.to_owned(),
                    Var::from_tensor(&start(p)).expect("a parameter"),
                )
            });
            let lr = number(&run["lr"]);
            let mut optimiser = optimiser(run, &parameters);
            for step in 0..12 {
                let mut gradients = gradients(&file, &parameters, step);
                if scale < 1.0 {
                    let again = gradients.clone();
                    gradients.add(&again).expect("doubled");
                }
                match &mut optimiser {
                    Optimiser::Adam(adam) => adam.step(&gradients, lr, scale),
                    Optimiser::Sgd(sgd) => sgd.step(&gradients, lr, scale),
                }
                .expect("a step");
            }
            for (p, var) in &parameters {
                let want = file.get(&format!("{name}.{p}"));
                let off = deviation(var.as_tensor(), want);
                assert!(off < TOLERANCE, "{name}, {p}: off by {off:.1e}");
                assert!(deviation(&start(p), want) > 1e-3, "{name}, {p}: it moved");
            }
        }
    }
}
