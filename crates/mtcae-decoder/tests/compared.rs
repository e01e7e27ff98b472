//! The decoders of systems that the paper compares with, against PyTorch: heads and the
//! gradient of every parameter; and what they refuse.
//!
//! The reference (`fixtures/compared/make.py`) computes in float64; the tolerances are those
//! of `parity.rs`.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor, Var};
use mtcae_decoder::nn::optim::{AdamW, AdamWConfig, Gradients, Group};
use mtcae_decoder::nn::plan::{Precision, format};
use mtcae_decoder::nn::{ParamStore, Pass};
use mtcae_decoder::{Config, Error, InferencePlan, MultiTaskDecoder, Outputs, Structure, Task};
use mtcae_testing::{Fixture, assert_close, without_gradient};

const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;

const FIXTURES: [&str; 8] = [
    "lstm",
    "lstm-tokens",
    "mnc",
    "mnc-three-stages",
    "mtl-er",
    "mtl-er-apart",
    "mtformer",
    "mtformer-units",
];

fn fixture(name: &str) -> (Fixture, Config) {
    let fixture = Fixture::load(&format!("compared/{name}.safetensors"));
    let config = serde_json::from_value(fixture.config()).expect("the fixture's config is ours");
    (fixture, config)
}

/// The decoder with the reference's weights.
fn build(fixture: &Fixture, cfg: &Config) -> (ParamStore, MultiTaskDecoder) {
    let weights = fixture.below("weights.decoder.");
    let store = ParamStore::new(0);
    for (name, tensor) in &weights {
        store.set(name, tensor).expect("a new parameter");
    }
    let decoder = MultiTaskDecoder::new(cfg, store.builder(&Device::Cpu)).expect("built");
    let mine: Vec<String> = store.vars().into_iter().map(|(name, _)| name).collect();
    assert_eq!(mine, weights.into_keys().collect::<Vec<_>>());
    (store, decoder)
}

fn weighted(fixture: &Fixture, outputs: &Outputs) -> Tensor {
    let parts = outputs.tasks.iter().zip(&outputs.heads);
    parts
        .map(|(task, head)| (head * fixture.get(&format!("upstream.head.{task}")))?.sum_all())
        .reduce(|a, b| a? + b?)
        .expect("a task")
        .expect("a loss")
}

#[test]
fn every_head_and_gradient_equals_pytorch() {
    for name in FIXTURES {
        let (fixture, cfg) = fixture(name);
        let (store, decoder) = build(&fixture, &cfg);
        let f = Var::from_tensor(fixture.get("input.F")).expect("a variable");
        let outputs = decoder.run(&f, &mut Pass::inference()).expect("a forward");
        for (task, head) in outputs.tasks.iter().zip(&outputs.heads) {
            let want = fixture.get(&format!("trace.head.{task}"));
            assert_close(&format!("{name}: {task}"), head, want, FORWARD);
        }
        let grads = weighted(&fixture, &outputs).backward().expect("a backward");
        let params = store.vars();
        assert_eq!(without_gradient(&params, &grads), [""; 0], "{name}");
        for (of, var) in &params {
            let want = fixture.get(&format!("grad.decoder.{of}"));
            let grad = grads.get(var).expect("a gradient");
            assert_close(&format!("{name}: {of}"), grad, want, GRADIENT);
        }
        let grad = grads.get(&f).expect("a gradient");
        assert_close(name, grad, fixture.get("grad.input.F"), GRADIENT);
    }
}

/// The config's list of tensors is what is built.
#[test]
fn tensors_are_listed_before_they_are_built() {
    for name in FIXTURES {
        let (fixture, cfg) = fixture(name);
        let listed: BTreeSet<_> = cfg.tensors().expect("valid").into_iter().collect();
        let weights = fixture.below("weights.decoder.").into_iter();
        let want: BTreeSet<_> = weights.map(|(n, t)| (n, t.dims().to_vec())).collect();
        assert_eq!(listed, want, "{name}");
    }
}

/// What other tasks hand on is no way back: nothing of theirs has a gradient of the last
/// task's loss, not even one of 0.
#[test]
fn feedback_sends_no_gradient() {
    let (fixture, cfg) = fixture("mtl-er");
    let (store, decoder) = build(&fixture, &cfg);
    let run = |f: &Tensor| decoder.run(f, &mut Pass::inference()).expect("a forward");
    let outputs = run(fixture.get("input.F"));
    let loss = outputs.head("expression").expect("it is").sum_all();
    let grads = loss.expect("a sum").backward().expect("a backward");
    let (mut own, mut others) = (0, 0);
    for (name, var) in store.vars() {
        let of_others = ["face_box", "landmarks", "action_units"];
        match of_others.iter().any(|task| name.contains(task)) {
            true => {
                assert!(grads.get(&var).is_none(), "{name} has a gradient");
                others += 1;
            }
            false => own += usize::from(grads.get(&var).is_some()),
        }
    }
    assert!(own > 20 && others > 60, "{own} and {others} parameters");
    // And yet what they hand on is read.
    let (name, var) = &store.vars()[0];
    assert!(name.starts_with("affine"), "{name}");
    let moved = ["heads.face_box.fc2.bias", "heads.landmarks.fc1.bias"];
    for name in moved {
        let before = run(fixture.get("input.F"));
        let vars = store.vars();
        let (_, var) = vars.iter().find(|(n, _)| n == name).expect("a parameter");
        var.set(&(var.as_tensor() + 0.5).expect("a sum"))
            .expect("set");
        let after = run(fixture.get("input.F"));
        let [a, b] = [before, after].map(|o| {
            let head = o
                .head("expression")
                .expect("it is")
                .flatten_all()
                .expect("flat");
            head.to_vec1::<f32>().expect("numbers")
        });
        assert_ne!(a, b, "{name}");
    }
    assert_eq!(var.dtype(), DType::F32);
}

fn tasks() -> Vec<Task> {
    vec![
        Task::new("face_box", 16),
        Task::new("landmarks", 40),
        Task::new("expression", 3),
    ]
}

/// Small ones, without dropout.
fn small(structure: Structure) -> Config {
    let mut config = Config {
        width: 16,
        ..Config::suited(structure, 12, Some([2, 4, 6]), tasks())
    };
    if config.heads > 1 {
        (config.heads, config.head_dim) = (2, 8);
    }
    if let Some(own) = &mut config.lstm {
        own.dropout = 0.0;
    }
    if let Some(own) = &mut config.mnc {
        (own.region, own.landmark_hidden, own.dropout) = (4, 16, 0.0);
    }
    if let Some(own) = &mut config.mtl_er {
        (own.head, own.dropout) = ([16, 8], 0.0);
    }
    config
}

#[test]
fn a_few_steps_bring_the_loss_down_and_files_bring_the_decoder_back() {
    for structure in Structure::COMPARED {
        let cfg = small(structure);
        let store = ParamStore::new(3);
        let decoder = MultiTaskDecoder::new(&cfg, store.builder(&Device::Cpu)).expect("built");
        let numbers = |n: usize, shape: &[usize]| {
            Tensor::arange(0f32, n as f32, &Device::Cpu)
                .and_then(|t| t.affine(0.7, 0.1)?.sin()?.reshape(shape))
                .expect("a tensor")
        };
        let f = numbers(2 * 48 * 12, &[2, 48, 12]);
        let groups = |_: &str, _: &Var| Group {
            lr_scale: 1.0,
            weight_decay: 0.0,
        };
        let mut optimiser = AdamW::new(&store.vars(), AdamWConfig::default(), groups).expect("one");
        let mut losses = Vec::new();
        for step in 0..30 {
            let mut pass = Pass::training(step);
            let outputs = decoder.run(&f, &mut pass).expect("a forward");
            let loss = outputs
                .heads
                .iter()
                .map(|head| {
                    let want = numbers(head.elem_count(), head.dims());
                    (head - want)?.sqr()?.mean_all()
                })
                .reduce(|a, b| a? + b?)
                .expect("a task")
                .expect("a loss");
            losses.push(loss.to_scalar::<f32>().expect("a number"));
            let mut found = loss.backward().expect("a backward");
            let grads = Gradients::take(&store.vars(), &mut found).expect("all gradients");
            optimiser.step(&grads, 3e-3, 1.0).expect("a step");
        }
        let (first, last) = (losses[0], losses[29]);
        assert!(last < 0.8 * first, "{structure}: {first} to {last}");

        let folder = tempfile::tempdir().expect("a folder");
        decoder.save(folder.path()).expect("saved");
        let again = MultiTaskDecoder::load(folder.path(), &Device::Cpu).expect("loaded");
        assert_eq!(again.config(), &cfg);
        let [a, b] = [&decoder, &again].map(|d| d.forward(&f).expect("a forward"));
        for (a, b) in a.heads.iter().zip(&b.heads) {
            let [a, b] = [a, b].map(|t| t.to_vec2::<f32>().expect("numbers"));
            assert_eq!(a, b, "{structure}");
        }
    }
}

#[test]
fn published_sizes_have_the_parameters_and_the_cost_that_they_should() {
    let tasks = vec![
        Task::new("face_box", 64),
        Task::new("landmarks", 160),
        Task::new("expression", 7),
    ];
    let count = |config: &Config| -> usize {
        let tensors = config.tensors().expect("valid").into_iter();
        tensors
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    };
    let suited = |structure| Config::suited(structure, 1024, Some([8, 14, 14]), tasks.clone());
    // 1024·256 + 256 narrow; 2·(1024·256 + 1024) of LSTM; heads of 8, 20 and 7 numbers.
    let lstm = suited(Structure::Lstm);
    assert_eq!(count(&lstm), 262_400 + 526_336 + 257 * 35);
    // 8 blocks of 0.79 M and 6 cross blocks of 2.36 M, tables, 0.26 M of projection, heads.
    let mtformer = suited(Structure::MtFormer);
    let blocks = 8.0 * 0.79e6 + 6.0 * 2.36e6 + 14.0 * 4.0 * 2535.0;
    assert!((count(&mtformer) as f64 / (blocks + 0.52e6) - 1.0).abs() < 0.01);
    // 14²·512·256 landmarks, 2·(7²·512·1024 + 1024²) class, 9·512² of the boxes' convolution.
    let mnc = suited(Structure::Mnc);
    let layers = 25.69e6 + 2.0 * (25.69e6 + 1.05e6) + 2.36e6 + 0.52e6;
    assert!((count(&mnc) as f64 / layers - 1.0).abs() < 0.01);
    // 1 + 2·3 layers of 3.15 M, three of 8.4 M at a width of 1024, heads.
    let mtl_er = suited(Structure::MtlEr);
    let layers = 7.0 * 3.15e6 + 3.0 * 8.4e6 + 0.52e6 + 1.2e6 + 0.26e6;
    assert!((count(&mtl_er) as f64 / layers - 1.0).abs() < 0.02);
    for (config, gflop) in [(lstm, 0.012), (mnc, 1.0), (mtl_er, 0.7), (mtformer, 70.0)] {
        let got = config.flops(1568) / 1e9;
        assert!(
            got > 0.4 * gflop && got < 20.0 * gflop,
            "{}: {got}",
            config.structure
        );
    }
}

fn refusal(change: impl FnOnce(&mut Config), structure: Structure) -> String {
    let mut config = small(structure);
    change(&mut config);
    config.validate().expect_err("refused").to_string()
}

#[test]
fn what_does_not_fit_is_refused_by_field() {
    use Structure::{Cascade, Lstm, Mnc, MtFormer, MtlEr};
    let said = refusal(|c| c.grid = None, MtFormer);
    let want = "grid: missing; mtformer needs the grid [t, h, w] in which the encoder's tokens lie";
    assert_eq!(said, format!("decoder config: {want}"));
    let said = refusal(|c| c.grid = Some([2, 0, 6]), Lstm);
    assert_eq!(
        said,
        "decoder config: grid: is [2, 0, 6]; each side must be 1 to 4096"
    );
    assert!(refusal(|c| c.grid = Some([4096; 3]), Lstm).contains("at most 262144 are read"));
    let said = refusal(
        |c| {
            c.mtformer = Some(mtcae_decoder::mtformer::Settings {
                window: Some([2, 3, 4]),
            });
        },
        MtFormer,
    );
    assert!(
        said.starts_with(
            "decoder config: mtformer.window: is [2, 3, 4]; each side must divide that of the \
             grid [2, 4, 6]"
        ),
        "{said}"
    );
    let said = refusal(|c| c.grid = Some([3, 4, 4]), MtlEr);
    assert!(said.contains("face_box has 16 outputs"), "{said}");
    assert!(said.contains("each of 3 slices"), "{said}");
    let said = refusal(|c| c.tasks.insert(2, Task::new("action_units", 12)), Mnc);
    assert_eq!(
        said,
        "decoder config: tasks: are face_box, landmarks, action_units, expression; mnc has \
         stages for face_box, landmarks and one task of the whole clip, in this order, and for \
         no others"
    );
    assert!(refusal(|c| c.tasks[1].outputs = 42, Mnc).contains("ten numbers for each box"));
    let said = refusal(|c| c.heads = 3, Lstm);
    assert_eq!(
        said,
        "decoder config: heads: must be 1, not 3: lstm has no attention"
    );
    let said = refusal(|c| c.heads = 3, MtlEr);
    assert_eq!(
        said,
        "decoder config: heads: 3 of 8 channels must make up the width 16"
    );
    let said = refusal(|c| c.mtl_er.as_mut().expect("it is").own = 9, MtlEr);
    assert_eq!(
        said,
        "decoder config: mtl_er.own: is 9; of 4 layers it must be 1 to 4"
    );
    assert!(refusal(|c| c.mtl_er.as_mut().expect("it is").head[1] = 9, MtlEr).contains("34 wide"));
    assert!(refusal(|c| c.mnc.as_mut().expect("it is").region = 5, Mnc).contains("must be even"));
    assert!(refusal(|c| c.mnc.as_mut().expect("it is").sigma = f64::NAN, Mnc).contains("NaN"));
    let said = refusal(|c| c.width = 1 << 13, Lstm);
    assert!(
        said.contains("width: a weight of 536870912 numbers"),
        "{said}"
    );
    let wide = |c: &mut Config| {
        (c.grid, c.width) = (Some([4, 200, 200]), 2048);
    };
    let said = refusal(wide, Mnc);
    assert!(
        said.contains("width: one clip would take 2949120000 numbers at once"),
        "{said}"
    );
    let windows = |c: &mut Config| {
        (c.grid, c.mtformer) = (Some([2, 32, 32]), Some(Default::default()));
        (c.width, c.heads, c.head_dim) = (128, 128, 1);
        c.mtformer.as_mut().expect("it is").window = Some([2, 32, 32]);
    };
    let said = refusal(windows, MtFormer);
    assert!(
        said.contains("mtformer.window: one clip would take 536870912 numbers"),
        "{said}"
    );
    let said = refusal(|c| c.mnc = Some(Default::default()), Lstm);
    assert_eq!(
        said,
        "decoder config: mnc: is of mnc, and the structure is lstm"
    );
    let said = refusal(|c| c.grid = Some([2, 4, 6]), Cascade);
    let want = "grid: is of lstm, mnc, mtl-er, mtformer, and the structure is cascade";
    assert_eq!(said, format!("decoder config: {want}"));
    assert!(refusal(|c| c.share_layers = true, Lstm).contains("no layers to share"));

    let decoder = MultiTaskDecoder::new(&small(Mnc), ParamStore::new(0).builder(&Device::Cpu));
    let decoder = decoder.expect("built");
    let f = Tensor::zeros((1, 47, 12), DType::F32, &Device::Cpu).expect("zeros");
    let said = decoder.forward(&f).expect_err("47 tokens");
    assert!(
        matches!(
            said,
            Error::Tokens {
                want: 48,
                found: 47,
                ..
            }
        ),
        "{said}"
    );
    let f32 = format(Precision::F32).expect("f32");
    assert!(matches!(decoder.plan(f32), Err(Error::NoPlan { .. })));
    let said = InferencePlan::new(&small(Mnc), f32, ParamStore::new(0).builder(&Device::Cpu))
        .expect_err("no plan");
    assert_eq!(
        said.to_string(),
        "mnc has no packed plan: it is computed by MultiTaskDecoder"
    );
}

#[test]
fn a_config_says_what_it_has_and_no_more() {
    let text = serde_json::to_string(&small(Structure::MtFormer)).expect("written");
    assert!(
        text.contains(r#""structure":"mtformer","grid":[2,4,6],"mtformer":{"window":[2,4,6]}"#)
    );
    let cascade = serde_json::to_string(&Config::cascade(12, tasks())).expect("written");
    for field in ["grid", "lstm", "mnc", "mtl_er", "mtformer"] {
        assert!(!cascade.contains(field), "{field}");
    }
    let said = text.replace(r#"{"window""#, r#"{"windows""#);
    let said = serde_json::from_str::<Config>(&said).expect_err("no such field");
    assert!(
        said.to_string().contains("unknown field `windows`"),
        "{said}"
    );
}
