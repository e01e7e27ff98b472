//! The inference plan against the Candle path: local features and heads of every
//! structure, in every format of this CPU.
//!
//! Both compute in f32 and differ in the order of sums alone; 1e-5 of the maximum
//! is what parity with PyTorch allows as well. bf16 keeps 8 bits of significand
//! (2⁻⁹ a rounding); the fixtures are hard on purpose, with logits of standard
//! deviation 2 to 7, which rounding shifts by several percent.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use mtcae_decoder::nn::ParamStore;
use mtcae_decoder::nn::plan::{Arena, Factors, Format};
use mtcae_decoder::{Config, InferencePlan, MultiTaskDecoder, Structure, Task};
use mtcae_testing::{Fixture, deviation};

fn tolerance(format: Format) -> f64 {
    match format.factors() {
        Factors::F32 => 1e-5,
        Factors::Bf16 => 0.15,
    }
}

/// Every clip's local features and heads against the Candle path's.
fn compare(what: &str, plan: &InferencePlan, decoder: &MultiTaskDecoder, f: &Tensor, bound: f64) {
    let want = decoder.forward(f).expect("a forward");
    let mut arena = Arena::default();
    for clip in 0..f.dim(0).expect("a batch") {
        let values: Vec<f32> = f
            .get(clip)
            .and_then(|f| f.flatten_all()?.to_vec1())
            .expect("values");
        let mut task = 0;
        plan.run(&values, &mut arena, |y, head| {
            for (kind, got, want) in [
                ("Y", y.to_vec(), &want.features[task]),
                ("head", head, &want.heads[task]),
            ] {
                let want = want.get(clip).expect("a clip");
                let got = Tensor::from_vec(got, want.shape(), &Device::Cpu).expect("a tensor");
                let error = deviation(&got, &want);
                assert!(error <= bound, "{what}: {kind} of task {task}: {error:e}");
            }
            task += 1;
        })
        .expect("a forward");
        assert_eq!(task, want.heads.len(), "{what}: tasks");
    }
}

#[test]
fn every_fixture_equals_the_candle_path() {
    for name in [
        "single-task",
        "separate-mlp",
        "separate-vit",
        "shared-mlp",
        "shared-vit",
        "cascade",
        "cascade-shared-layers",
        "cascade-norm-dense",
        "cascade-two-tasks-odd",
    ] {
        let fixture = Fixture::load(&format!("decoder/{name}.safetensors"));
        let config: Config = serde_json::from_value(fixture.config()).expect("one of ours");
        let store = ParamStore::new(0);
        let weights: BTreeMap<String, Tensor> = fixture.below("weights.decoder.");
        for (name, tensor) in &weights {
            store.set(name, tensor).expect("a new parameter");
        }
        let vb = store.builder(&Device::Cpu);
        let decoder = MultiTaskDecoder::new(&config, vb.clone()).expect("built");
        let f = fixture.get("input.F");
        for format in Format::available() {
            let what = format!("{name} {}", format.name());
            let plan = InferencePlan::new(&config, format, vb.clone()).expect("a plan");
            compare(&what, &plan, &decoder, f, tolerance(format));
            let plan = decoder.plan(format).expect("a plan");
            compare(&what, &plan, &decoder, f, tolerance(format));
        }
    }
}

/// Sizes that no panel, step or block divides, and one arena for all of them.
#[test]
fn odd_sizes_equal_the_candle_path() {
    for structure in Structure::ALL {
        for (tokens, features, width, heads, head_dim) in
            [(1, 7, 5, 1, 3), (33, 40, 48, 3, 11), (130, 96, 64, 2, 40)]
        {
            let config = Config {
                width,
                depth: 2,
                heads,
                head_dim,
                structure,
                ..Config::cascade(features, vec![Task::new("a", 3), Task::new("b", 1)])
            };
            let store = ParamStore::new(tokens as u64);
            let vb = store.builder(&Device::Cpu);
            let decoder = MultiTaskDecoder::new(&config, vb).expect("built");
            let values: Vec<f32> = (0..2 * tokens * features)
                .map(|i| ((i * 7919) % 1013) as f32 / 400.0 - 1.2)
                .collect();
            let f = Tensor::from_vec(values, (2, tokens, features), &Device::Cpu).expect("F");
            for format in Format::available() {
                let what = format!("{structure} of {tokens} tokens, {}", format.name());
                let plan = decoder.plan(format).expect("a plan");
                compare(&what, &plan, &decoder, &f, tolerance(format));
            }
        }
    }
}

#[test]
fn features_that_are_no_rows_are_refused() {
    let config = Config::cascade(8, vec![Task::new("a", 1)]);
    let store = ParamStore::new(1);
    let format = Format::available()[0];
    let plan = InferencePlan::new(&config, format, store.builder(&Device::Cpu)).expect("a plan");
    for len in [0, 7, 12] {
        let error = plan.forward(&vec![0.0; len], &mut Arena::default());
        let error = error.expect_err("refused").to_string();
        assert!(error.contains("(B, N, 8)"), "{error}");
    }
}
