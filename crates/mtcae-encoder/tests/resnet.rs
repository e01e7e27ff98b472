//! Residual networks against PyTorch: published files, named intermediates, gradients by name
//! with both kinds of statistics, plans, and faults.

use std::sync::Arc;

use mtcae_encoder::candle_core::{Device, Tensor};
use mtcae_encoder::nn::plan::{Arena, Precision, format};
use mtcae_encoder::{Checkpoint, Config, Encoder, Families, Overrides, open_with};
use mtcae_nn::{ParamStore, Pass};
use mtcae_testing::{Fixture, assert_close, devices, fixtures, without_gradient};
use serde_json::json;

/// Of a file, by name.
type Tensors = Vec<(String, Tensor)>;

/// With its spelling.
const NETWORKS: [(&str, &str); 4] = [
    ("resnext-3d", "3d-resnets"),
    ("r3d", "torchvision-r3d"),
    ("resnet-basic", "torchvision-resnet"),
    ("resnet-bottleneck", "torchvision-resnet"),
];

/// A dozen convolutions in f32 against f64.
const TOLERANCE: f64 = 1e-5;
/// Eight rows of the last maps are divided by their own deviations, some of which are small,
/// which makes more of the rounding before them.
const GROUPS_TOLERANCE: f64 = 1e-4;
/// The project asks for it.
const GRADIENT_TOLERANCE: f64 = 1e-4;

fn fixture(name: &str) -> Fixture {
    Fixture::load(&format!("resnet/{name}.safetensors"))
}

fn clips() -> Tensor {
    fixture("clips").get("clips").clone()
}

fn open(name: &str) -> Checkpoint {
    let given = Overrides {
        image_size: Some(40),
        frames: Some(4),
        ..Overrides::default()
    };
    let path = fixtures().join(format!("resnet/{name}.pth"));
    let found = open_with(path, &given, &Families::default());
    found.unwrap_or_else(|e| panic!("{e}"))
}

/// The config with another field.
fn with(config: &Config, field: &str, value: serde_json::Value) -> Config {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(config) else {
        panic!("the config is no object");
    };
    fields.insert(field.to_owned(), value);
    let config = Families::default().read(fields, "a test");
    config.unwrap_or_else(|e| panic!("{e}"))
}

/// The encoder on trainable parameters; running statistics are none.
fn trainable(
    found: &Checkpoint,
    config: &Config,
    device: &Device,
) -> (ParamStore, Arc<dyn Encoder>) {
    let store = ParamStore::new(1);
    for (name, _) in config.tensors() {
        let tensor = found.source().load(&name, device).expect("loaded");
        store.set(&name, &tensor).expect("set");
    }
    let vb = store.builder_with_frozen(device, |name| name.contains("running"));
    let encoder = config.build(vb).unwrap_or_else(|e| panic!("{e}"));
    (store, encoder)
}

fn is_running(name: &str) -> bool {
    name.contains("running")
}

#[test]
fn published_files_give_the_intermediates_and_features_of_their_definitions() {
    for (name, spelling) in NETWORKS {
        let found = open(name);
        assert_eq!(found.spelling, spelling);
        let fixture = fixture(name);
        let serde_json::Value::Object(fields) = fixture.config() else {
            panic!("{name}: the config is no object");
        };
        let want = Families::default().read(fields, name);
        assert_eq!(found.config, want.unwrap_or_else(|e| panic!("{e}")));
        assert!(
            found
                .ignored
                .iter()
                .any(|n| n.ends_with("num_batches_tracked"))
        );
        let classifier = found.classifier.as_ref().expect("a classifier");
        assert_eq!((classifier.outputs, classifier.norm), (5, None));
        let encoder = found.load(&Device::Cpu).unwrap_or_else(|e| panic!("{e}"));
        let clips = clips().narrow(0, 0, 2).expect("two");
        let mut pass = Pass::inference().traced();
        let f = encoder.run(&clips, &mut pass).expect("features");
        let output = found.config.output();
        assert_eq!(f.dims(), [2, output.tokens, output.width]);
        let want = fixture.below("trace.");
        let trace = pass.into_trace();
        assert_eq!(trace.len(), want.len(), "{name}");
        for (what, got) in &trace {
            assert_close(&format!("{name}: {what}"), got, &want[what], TOLERANCE);
        }
        let file = found.file();
        let fc = |part: &str| {
            let tensor = classifier.tensor(&format!("fc.{part}")).expect("named");
            file.load(&tensor, &Device::Cpu).expect("loaded")
        };
        let logits = f
            .mean(1)
            .and_then(|f| f.matmul(&fc("weight").t()?)?.broadcast_add(&fc("bias")));
        assert_close(
            name,
            &logits.expect("logits"),
            fixture.get("logits"),
            TOLERANCE,
        );
    }
}

/// Compares every parameter's gradient of a weighted sum of F, by name.
fn compare(what: &str, store: &ParamStore, f: &Tensor, up: &Tensor, want: &Fixture, prefix: &str) {
    let up = up.to_device(f.device()).expect("moved");
    let loss = (f * up).and_then(|product| product.sum_all());
    let grads = loss.expect("a loss").backward().expect("gradients");
    let running = |name: &String| is_running(name);
    let without = without_gradient(&store.vars(), &grads);
    assert!(without.iter().all(running), "{what}: {without:?}");
    let wanted = want.below(prefix);
    let mut compared = 0;
    for (name, var) in store.vars() {
        if is_running(&name) {
            continue;
        }
        let got = grads.get(&var).expect("a gradient");
        assert_close(
            &format!("{what}: {name}"),
            got,
            &wanted[&name],
            GRADIENT_TOLERANCE,
        );
        compared += 1;
    }
    assert_eq!(compared, wanted.len(), "{what}");
}

#[test]
fn every_gradient_is_pytorchs_with_running_statistics() {
    for (name, _) in NETWORKS {
        let (found, fixture) = (open(name), fixture(name));
        for device in devices() {
            let (store, encoder) = trainable(&found, &found.config, &device);
            let clips = clips().narrow(0, 0, 2).and_then(|c| c.to_device(&device));
            let mut pass = Pass::training(0);
            let f = encoder
                .run(&clips.expect("two"), &mut pass)
                .expect("features");
            compare(name, &store, &f, fixture.get("upstream"), &fixture, "grad.");
            for (name, var) in store
                .vars()
                .into_iter()
                .filter(|(name, _)| is_running(name))
            {
                let before = found.source().load(&name, &device).expect("loaded");
                assert_close(&name, &var, &before, 0.0);
            }
        }
    }
}

#[test]
fn every_gradient_is_pytorchs_with_statistics_of_groups_which_the_running_ones_follow() {
    for name in ["resnext-3d", "resnet-basic"] {
        let (found, fixture) = (open(name), fixture(name));
        let groups = json!({"clips": 2, "momentum": 0.1});
        let config = with(&found.config, "batch_norm", groups);
        for device in devices() {
            let (store, encoder) = trainable(&found, &config, &device);
            let clips = clips().to_device(&device).expect("moved");
            let mut pass = Pass::training(0);
            let f = encoder.run(&clips, &mut pass).expect("features");
            assert_close(name, &f, fixture.get("groups.F"), GROUPS_TOLERANCE);
            let up = fixture.get("groups.upstream");
            compare(name, &store, &f, up, &fixture, "groups.grad.");
            let wanted = fixture.below("groups.running.");
            for (name, var) in store
                .vars()
                .into_iter()
                .filter(|(name, _)| is_running(name))
            {
                assert_close(&name, &var, &wanted[&name], TOLERANCE);
            }
        }
    }
}

#[test]
fn the_last_group_of_a_batch_may_be_smaller_and_is_not_seen_by_the_others() {
    let found = open("resnet-basic");
    let config = with(
        &found.config,
        "batch_norm",
        json!({"clips": 2, "momentum": 0.1}),
    );
    let run = |parts: &[(usize, usize)]| -> (Vec<Tensor>, Vec<(String, Tensor)>) {
        let (store, encoder) = trainable(&found, &config, &Device::Cpu);
        let all = Tensor::cat(&[clips(), clips()], 0).expect("clips");
        let parts = parts.iter().map(|&(from, count)| {
            let part = all.narrow(0, from, count).expect("a part");
            encoder
                .run(&part, &mut Pass::training(0))
                .expect("features")
        });
        let parts = parts.collect();
        let vars = store.vars().into_iter();
        (
            parts,
            vars.map(|(name, var)| (name, var.as_tensor().clone()))
                .collect(),
        )
    };
    let count = 3;
    let (together, running) = run(&[(0, count)]);
    let (apart, moved) = run(&[(0, 2), (2, 1)]);
    let apart = Tensor::cat(&apart, 0).expect("one");
    assert_close("F", &together[0], &apart, 0.0);
    for ((name, a), (_, b)) in running.iter().zip(&moved) {
        assert_close(name, a, b, 0.0);
    }
}

#[test]
fn plans_compute_what_the_model_computes() {
    for (name, _) in NETWORKS {
        let (found, fixture) = (open(name), fixture(name));
        let encoder = found.load(&Device::Cpu).unwrap_or_else(|e| panic!("{e}"));
        let (config, mut arena) = (&found.config, Arena::default());
        for precision in [Precision::F32, Precision::Bf16] {
            // bf16 keeps 8 bits of each factor of the convolutions of one pixel.
            let tolerance = match precision {
                Precision::F32 => TOLERANCE,
                _ => 0.05,
            };
            let Ok(format) = format(precision) else {
                continue;
            };
            let plan = encoder.plan(format).expect("packed").expect("a plan");
            // Twice in the same memory.
            for i in [1, 0, 1] {
                let clip = clips().narrow(0, i, 1).expect("a clip");
                let clip: Vec<f32> = clip
                    .flatten_all()
                    .and_then(|c| c.to_vec1())
                    .expect("numbers");
                let want = fixture.get("trace.F").narrow(0, i, 1).expect("features");
                let mut f = vec![f32::NAN; config.output().numbers()];
                plan.forward(&clip, &mut arena, &mut f).expect("computed");
                let f = Tensor::from_vec(f, want.shape(), &Device::Cpu).expect("features");
                assert_close(name, &f, &want, tolerance);
            }
            let mut f = vec![0.0; config.output().numbers()];
            let short = plan.forward(&[0.0; 3], &mut arena, &mut f);
            let said = short.expect_err("a short clip").to_string();
            assert!(said.contains("numbers of one clip"), "{said}");
        }
    }
}

#[test]
fn what_a_file_lacks_or_has_too_much_is_named_as_it_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.safetensors");
    let found = open("r3d");
    let load = |name: String| {
        let tensor = found.file().load(&name, &Device::Cpu).expect("loaded");
        (name, tensor)
    };
    let names = found.file().names().into_iter();
    let all: Tensors = names
        .filter(|n| !n.ends_with("tracked"))
        .map(load)
        .collect();
    let said = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = all.clone();
        change(&mut tensors);
        let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        mtcae_nn::weights::save(&path, named, [].into()).expect("saved");
        let opened = open_with(&path, &Overrides::default(), &Families::default());
        let error = opened.and_then(|found| found.check()).expect_err("refused");
        error.to_string()
    };
    let lost = said(&|all| all.retain(|(name, _)| name != "layer2.1.conv2.1.bias"));
    assert!(lost.contains("missing: layer2.1.conv2.1.bias"), "{lost}");
    let more = said(&|all| all.push(("layer2.1.conv9.0.weight".to_owned(), all[0].1.clone())));
    assert!(
        more.contains("unexpected: layer2.1.conv9.0.weight"),
        "{more}"
    );
    let far = said(&|all| all.push(("layer3.9999.x".to_owned(), all[0].1.clone())));
    assert!(far.contains("depth: there is a block 9999"), "{far}");
    let flat = said(&|all| {
        for (name, tensor) in all {
            if name == "stem.0.weight" {
                *tensor = tensor.flatten_all().expect("flat");
            }
        }
    });
    assert!(
        flat.contains("stem_width: stem.0.weight of shape"),
        "{flat}"
    );
}
