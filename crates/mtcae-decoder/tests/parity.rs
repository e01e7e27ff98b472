//! The decoder against PyTorch: every named intermediate, every head, and the
//! gradient of every parameter, for each structure.
//!
//! The reference (`fixtures/decoder/make.py`) computes in float64, so all of the
//! deviation is ours. 1e-5 of the maximum is about 80 roundings of f32; the
//! deepest path here has some 60 dependent operations, and deviations of 1e-6 to
//! 2e-6 are what is measured. Gradients pass through twice as many and through
//! differences of nearly equal numbers (softmax and LayerNorm backward): 1e-4.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use mtcae_decoder::nn::{ParamStore, Pass};
use mtcae_decoder::{Config, KvOrder, MultiTaskDecoder, Structure};
use mtcae_testing::{Fixture, deviation, without_gradient};

const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;

const FIXTURES: [&str; 9] = [
    "single-task",
    "separate-mlp",
    "separate-vit",
    "shared-mlp",
    "shared-vit",
    "cascade",
    "cascade-shared-layers",
    "cascade-norm-dense",
    "cascade-two-tasks-odd",
];

fn fixture(name: &str) -> Fixture {
    Fixture::load(&format!("decoder/{name}.safetensors"))
}

fn config(fixture: &Fixture) -> Config {
    serde_json::from_value(fixture.config()).expect("the fixture's config is one of ours")
}

/// A decoder with the reference's weights, after `change` had its way with them.
fn build(
    fixture: &Fixture,
    cfg: &Config,
    change: impl FnOnce(&mut BTreeMap<String, Tensor>),
) -> (ParamStore, MultiTaskDecoder) {
    let mut weights = fixture.below("weights.decoder.");
    change(&mut weights);
    let store = ParamStore::new(0);
    for (name, tensor) in &weights {
        store.set(name, tensor).expect("a new parameter");
    }
    let decoder = MultiTaskDecoder::new(cfg, store.builder(&Device::Cpu)).expect("built");
    let mine: Vec<String> = store.vars().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        mine,
        weights.into_keys().collect::<Vec<_>>(),
        "parameters of the model and of the reference"
    );
    (store, decoder)
}

/// Largest deviation over all named intermediates, and its name.
fn forward_deviation(fixture: &Fixture, decoder: &MultiTaskDecoder) -> (f64, String) {
    let mut pass = Pass::inference().traced();
    decoder
        .run(fixture.get("input.F"), &mut pass)
        .expect("a forward");
    let trace: BTreeMap<String, Tensor> = pass.into_trace().into_iter().collect();
    let want = fixture.below("trace.");
    assert_eq!(
        trace.keys().collect::<Vec<_>>(),
        want.keys().collect::<Vec<_>>(),
        "names of intermediates"
    );
    worst(
        trace
            .iter()
            .map(|(name, got)| (deviation(got, &want[name]), name.clone())),
    )
}

fn worst(all: impl Iterator<Item = (f64, String)>) -> (f64, String) {
    all.max_by(|a, b| a.0.total_cmp(&b.0))
        .expect("at least one")
}

#[test]
fn every_intermediate_and_head_equals_pytorch() {
    for name in FIXTURES {
        let fixture = fixture(name);
        let (_, decoder) = build(&fixture, &config(&fixture), |_| ());
        let (error, tensor) = forward_deviation(&fixture, &decoder);
        println!("{name}: {error:.1e} at {tensor}");
        assert!(error <= FORWARD, "{name}: {tensor} deviates by {error:e}");
    }
}

#[test]
fn every_gradient_equals_autograds() {
    for name in FIXTURES {
        let fixture = fixture(name);
        let (store, decoder) = build(&fixture, &config(&fixture), |_| ());
        let f = Var::from_tensor(fixture.get("input.F")).expect("a variable");
        let outputs = decoder.run(&f, &mut Pass::training(0)).expect("a forward");
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
            "{name}: parameters without a gradient"
        );
        let all = params
            .iter()
            .map(|(n, var)| (format!("decoder.{n}"), var))
            .chain([("input.F".to_owned(), &f)]);
        let (error, tensor) = worst(all.map(|(n, var)| {
            let got = grads.get(var).expect("checked above");
            (deviation(got, fixture.get(&format!("grad.{n}"))), n)
        }));
        println!("{name}: {error:.1e} at {tensor}");
        assert!(
            error <= GRADIENT,
            "{name}: the gradient of {tensor} deviates by {error:e}"
        );
    }
}

/// Mistakes that a port makes. Each must be caught by the comparison above, or
/// the references are too easy.
#[test]
fn deliberate_mistakes_are_caught() {
    let fixture = fixture("cascade");
    let cfg = config(&fixture);
    let first = "stages.face_box.layers.0.attn";
    let edit = |weights: &mut BTreeMap<String, Tensor>,
                name: &str,
                f: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>| {
        let name = format!("{first}.{name}");
        let changed = f(&weights[&name]).expect("edited");
        weights.insert(name, changed);
    };
    type Change<'a> = Box<dyn FnOnce(&mut BTreeMap<String, Tensor>) + 'a>;
    let mistakes: Vec<(&str, Config, Change<'_>)> = vec![
        (
            "heads of q swapped",
            cfg.clone(),
            Box::new(|w| edit(w, "q.weight", &|t| swap(t, cfg.head_dim))),
        ),
        (
            "k and v swapped",
            cfg.clone(),
            Box::new(|w| edit(w, "kv.weight", &|t| swap(t, cfg.heads * cfg.head_dim))),
        ),
        (
            "scale dropped",
            cfg.clone(),
            Box::new(|w| {
                let scale = (cfg.head_dim as f64).sqrt();
                edit(w, "q.weight", &|t| t * scale);
                edit(w, "q.bias", &|t| t * scale);
            }),
        ),
        (
            "eps 1e-5",
            Config {
                eps: 1e-5,
                ..cfg.clone()
            },
            Box::new(|_| ()),
        ),
        (
            "q and v bias exchanged",
            cfg.clone(),
            Box::new(|w| {
                let (q, v) = (format!("{first}.q.bias"), format!("{first}.v_bias"));
                let (old_q, old_v) = (w[&q].clone(), w[&v].clone());
                w.insert(q, old_v);
                w.insert(v, old_q);
            }),
        ),
    ];
    for (mistake, cfg, change) in mistakes {
        let (_, decoder) = build(&fixture, &cfg, change);
        let (error, _) = forward_deviation(&fixture, &decoder);
        println!("{mistake}: {error:.1e}");
        assert!(error > FORWARD, "{mistake} goes unnoticed: {error:e}");
    }
}

/// The first two blocks of `rows` rows exchanged.
fn swap(t: &Tensor, rows: usize) -> candle_core::Result<Tensor> {
    let n = t.dim(0)?;
    Tensor::cat(
        &[
            t.narrow(0, rows, rows)?,
            t.narrow(0, 0, rows)?,
            t.narrow(0, 2 * rows, n - 2 * rows)?,
        ],
        0,
    )
}

/// Sharing the norm or the layers is another model: their tensors differ.
#[test]
fn options_change_the_parameters() {
    let fixture = fixture("cascade");
    let base = config(&fixture);
    let count = |cfg: &Config| {
        let store = ParamStore::new(1);
        MultiTaskDecoder::new(cfg, store.builder(&Device::Cpu)).expect("built");
        store.vars().len()
    };
    let shared = Config {
        share_layers: true,
        ..base.clone()
    };
    let norm_dense = Config {
        kv_order: KvOrder::NormDense,
        ..base.clone()
    };
    assert_eq!(count(&base) - count(&shared), 14 * 3 * (base.depth - 1));
    assert_eq!(count(&base) - count(&norm_dense), 2 * 3 - 2);
}

/// Shared layers are dropped as often as distinct ones, application by application.
#[test]
fn drop_path_reaches_shared_layers() {
    let fixture = fixture("cascade");
    for structure in Structure::ALL {
        for share_layers in [false, true] {
            let cfg = Config {
                structure,
                share_layers,
                drop_path: 0.9,
                ..config(&fixture)
            };
            let store = ParamStore::new(2);
            let decoder = MultiTaskDecoder::new(&cfg, store.builder(&Device::Cpu)).expect("built");
            let run = |mut pass: Pass| {
                let outputs = decoder.run(fixture.get("input.F"), &mut pass);
                let heads = outputs.expect("a forward").heads;
                let last = heads.last().expect("a task").flatten_all();
                last.and_then(|t| t.to_vec1::<f32>()).expect("values")
            };
            assert_eq!(
                run(Pass::training(3)) == run(Pass::inference()),
                structure == Structure::SingleTask,
                "{structure:?}, shared: {share_layers}"
            );
        }
    }
}

/// Freshly drawn models of every structure train every parameter.
#[test]
fn fresh_parameters_all_get_a_gradient() {
    let fixture = fixture("cascade");
    for structure in Structure::ALL {
        let cfg = Config {
            structure,
            drop_path: 0.1,
            ..config(&fixture)
        };
        let store = ParamStore::new(2);
        let decoder = MultiTaskDecoder::new(&cfg, store.builder(&Device::Cpu)).expect("built");
        let outputs = decoder
            .run(fixture.get("input.F"), &mut Pass::training(3))
            .expect("a forward");
        let loss = outputs
            .heads
            .iter()
            .map(|head| head.sqr()?.sum_all())
            .reduce(|a, b| a? + b?)
            .expect("a task")
            .expect("a loss");
        let grads = loss.backward().expect("a backward");
        assert_eq!(
            without_gradient(&store.vars(), &grads),
            [""; 0],
            "{structure:?}"
        );
    }
}
