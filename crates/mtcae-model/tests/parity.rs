//! The whole model against PyTorch and transformers: every traced intermediate,
//! every head, and the gradient of every parameter down to the tube embedding,
//! for each of the six structures.
//!
//! The reference computes in float64; the tolerances are those of the decoder's
//! own parity test, for the same reasons.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use mtcae_model::decoder::{Config as DecoderConfig, Structure};
use mtcae_model::encoder::{Position, VideoMaeConfig};
use mtcae_model::{Config, Mtcae};
use mtcae_nn::{ParamStore, Pass};
use mtcae_testing::{Fixture, assert_close, without_gradient};

const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;

/// Our config from the reference's, whose encoder uses transformers' words.
fn config(fixture: &Fixture) -> Config {
    let json = fixture.config();
    let e = &json["encoder"];
    let size = |key: &str| e[key].as_u64().unwrap_or_else(|| panic!("{key}")) as usize;
    let encoder = VideoMaeConfig {
        image_size: size("image_size"),
        frames: size("frames"),
        channels: size("channels"),
        patch: size("patch_size"),
        tubelet: size("tubelet"),
        width: size("dim"),
        depth: size("depth"),
        heads: size("heads"),
        hidden: (size("dim") as f64 * e["mlp_ratio"].as_f64().expect("a ratio")) as usize,
        eps: e["eps"].as_f64().expect("a number"),
        final_norm: e["final_norm"].as_bool().expect("a flag"),
        position: Position::SinCos,
        drop_path: 0.0,
    };
    let decoder: DecoderConfig =
        serde_json::from_value(json["decoder"].clone()).expect("one of ours");
    let classes = (0..decoder.tasks.last().expect("a task").outputs)
        .map(|c| format!("class {c}"))
        .collect();
    Config {
        decoder: decoder.clone(),
        ..Config::new(encoder, decoder.structure, classes)
    }
}

struct Case {
    fixture: Fixture,
    tubes: Tensor,
    store: ParamStore,
    model: Mtcae,
}

fn case(structure: Structure) -> Case {
    let common = Fixture::load("model/encoder.safetensors");
    let fixture = Fixture::load(&format!("model/{}.safetensors", structure.name()));
    let weights: BTreeMap<String, Tensor> = common
        .below("weights.")
        .into_iter()
        .chain(fixture.below("weights."))
        .collect();
    let store = ParamStore::new(0);
    for (name, tensor) in &weights {
        store.set(name, tensor).expect("a new parameter");
    }
    let model = Mtcae::new(&config(&fixture), store.builder(&Device::Cpu)).expect("built");
    let mine: Vec<String> = store.vars().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        mine,
        weights.into_keys().collect::<Vec<_>>(),
        "parameters of the model and of the reference"
    );
    let tubes = model
        .config()
        .encoder
        .input()
        .cut(common.get("input.video"))
        .expect("tubes");
    Case {
        fixture,
        tubes,
        store,
        model,
    }
}

#[test]
fn every_structure_equals_pytorch() {
    for structure in Structure::ALL {
        let Case {
            fixture,
            tubes,
            model,
            ..
        } = case(structure);
        let mut pass = Pass::inference().traced();
        model.run(&tubes, &mut pass).expect("a forward");
        let trace: BTreeMap<String, Tensor> = pass.into_trace().into_iter().collect();
        let want = fixture.below("trace.");
        assert!(want.contains_key("head.expression") && want.contains_key("F"));
        for (tensor, want) in &want {
            let got = trace
                .get(tensor)
                .unwrap_or_else(|| panic!("{structure:?}: {tensor} is not traced"));
            println!(
                "{structure:?}: {tensor}: {:.1e}",
                mtcae_testing::deviation(got, want)
            );
            assert_close(&format!("{structure:?}: {tensor}"), got, want, FORWARD);
        }
    }
}

#[test]
fn every_gradient_equals_autograds() {
    for structure in Structure::ALL {
        let Case {
            fixture,
            tubes,
            store,
            model,
        } = case(structure);
        let f = model
            .encoder()
            .expect("built")
            .run(&tubes, &mut Pass::training(0))
            .expect("features");
        let outputs = model
            .decoder()
            .run(&f, &mut Pass::training(0))
            .expect("a forward");
        let loss = outputs
            .tasks
            .iter()
            .zip(&outputs.heads)
            .map(|(task, head)| (head * fixture.get(&format!("upstream.head.{task}")))?.sum_all())
            .reduce(|a, b| a? + b?)
            .expect("a task")
            .expect("a loss");
        let grads = loss.backward().expect("a backward");
        let params = store.vars();
        assert_eq!(
            without_gradient(&params, &grads),
            [""; 0],
            "{structure:?}: parameters without a gradient"
        );
        let want = fixture.below("grad.");
        for (name, var) in &params {
            // To keep the fixtures small, one file holds the largest gradient.
            if name == "encoder.patch_embed.proj.weight" && structure != Structure::Cascade {
                continue;
            }
            let want = want
                .get(name)
                .unwrap_or_else(|| panic!("{structure:?}: no reference gradient of {name}"));
            let got = grads.get(var).expect("checked above");
            assert_close(
                &format!("{structure:?}: gradient of {name}"),
                got,
                want,
                GRADIENT,
            );
        }
    }
}

#[test]
fn outputs_have_the_papers_shapes() {
    let Case { model, tubes, .. } = case(Structure::Cascade);
    let config = model.config().clone();
    let frames = config.encoder.input().frames;
    let outputs = model.run(&tubes, &mut Pass::inference());
    // The fixture's heads have made-up sizes, which the config check refuses.
    match outputs {
        Ok(outputs) => {
            assert_eq!(outputs.boxes.expect("a task").dims(), [2, frames, 4]);
            assert_eq!(outputs.landmarks.expect("a task").dims(), [2, frames, 5, 2]);
            assert_eq!(outputs.logits.dims(), [2, config.classes.len()]);
        }
        Err(error) => panic!("{error}"),
    }
}
