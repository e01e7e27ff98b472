//! LGI-Former and TPSBT against PyTorch: named intermediates, gradients, plans, sizes, and
//! that mistakes do not pass.

use std::sync::Arc;

use mtcae_encoder::candle_core::{Device, Module, Tensor};
use mtcae_encoder::nn::plan::{Arena, Precision, format};
use mtcae_encoder::{Config, Encoder, Families, Overrides, open_with};
use mtcae_nn::weights::{InMemory, load_strict};
use mtcae_nn::{LayerNorm, Linear, ParamStore, Pass};
use mtcae_testing::{Fixture, assert_close, deviation, devices, fixtures, without_gradient};

const FIXTURES: [&str; 3] = ["lgi-former-tokens", "lgi-former-regions", "tpsbt"];

/// Up to seven blocks in f32 against a reference in f64: a few ulp (6e-8) of the largest
/// value a layer.
const TOLERANCE: f64 = 1e-5;

/// Gradients sum over all tokens of two clips after peaked softmaxes; each step rounds at
/// 6e-8, and their sums cancel. The project asks for 1e-4.
const GRADIENT_TOLERANCE: f64 = 1e-4;

/// Whose last bias is a shift of all scores of a bottleneck, which the softmax over places does not see: its
/// gradient is zero, and what is computed is rounding, measured by that of its matrix.
const SHIFT: &str = "spatial_downsamples";

fn largest(tensor: &Tensor) -> f64 {
    let largest = tensor.abs().and_then(|t| t.flatten_all()?.max(0));
    let largest = largest.and_then(|l| l.to_scalar::<f32>());
    largest.expect("a number").into()
}

fn fixture(name: &str) -> Fixture {
    Fixture::load(&format!("families/{name}.safetensors"))
}

/// The fixture's config, with one field changed.
fn config_with(fixture: &Fixture, field: &str, value: serde_json::Value) -> Config {
    let serde_json::Value::Object(mut fields) = fixture.config() else {
        panic!("the config is no object");
    };
    fields.insert(field.to_owned(), value);
    let config = Families::default().read(fields, "the fixture");
    config.unwrap_or_else(|e| panic!("{e}"))
}

fn config(fixture: &Fixture) -> Config {
    config_with(fixture, "channels", 3.into())
}

/// The encoder on trainable parameters.
fn trainable(fixture: &Fixture, device: &Device) -> (ParamStore, Arc<dyn Encoder>) {
    let store = ParamStore::new(1);
    for (name, tensor) in fixture.below("weights.encoder.") {
        let tensor = tensor.to_device(device).expect("moved");
        store.set(&name, &tensor).expect("set");
    }
    let encoder = config(fixture).build(store.builder(device));
    (store, encoder.expect("an encoder"))
}

/// Logits of the fixture's classifier.
fn logits(fixture: &Fixture, f: &Tensor) -> Tensor {
    let weight = |name: &str| {
        let weight = fixture.get(&format!("weights.head.{name}"));
        weight.to_device(f.device()).expect("moved")
    };
    let tensors = ["weight", "bias"].map(|name| (name.to_owned(), weight(&format!("norm.{name}"))));
    let norm = InMemory::new("fc_norm", tensors);
    let width = f.dim(2).expect("features");
    let norm = load_strict(&norm, f.device(), |vb| LayerNorm::new(width, 1e-6, vb));
    let fc = Linear::new(weight("fc.weight"), Some(weight("fc.bias")));
    let pooled = f.mean(1).and_then(|f| norm.expect("a norm").forward(&f));
    pooled
        .and_then(|pooled| fc.forward(&pooled))
        .expect("logits")
}

#[test]
fn intermediates_and_gradients_are_pytorchs() {
    for name in FIXTURES {
        let fixture = fixture(name);
        for device in devices() {
            let (store, encoder) = trainable(&fixture, &device);
            let clips = fixture
                .get("input.video")
                .to_device(&device)
                .expect("moved");
            let tubes = encoder.config().input().cut(&clips).expect("tubes");
            let mut pass = Pass::training(0).traced();
            let f = encoder.run(&tubes, &mut pass).expect("features");
            let trace = pass.into_trace();
            let want = fixture.below("trace.");
            for (what, got) in &trace {
                assert_close(&format!("{name}: {what}"), got, &want[what], TOLERANCE);
            }
            // All but the logits, which are none of the encoder's.
            assert_eq!(trace.len() + 1, want.len(), "{name}");
            let logits = logits(&fixture, &f);
            assert_close("head", &logits, fixture.get("trace.head"), TOLERANCE);

            let upstream = fixture
                .get("upstream.head")
                .to_device(&device)
                .expect("moved");
            let loss = (logits * upstream).and_then(|product| product.sum_all());
            let grads = loss.expect("a loss").backward().expect("gradients");
            let unused: Vec<String> = unused(&config(&fixture));
            assert_eq!(without_gradient(&store.vars(), &grads), unused, "{name}");
            let grads_of = fixture.below("grad.encoder.");
            let mut compared = 0;
            for (parameter, var) in store.vars() {
                let want = &grads_of[&parameter];
                let what = format!("{name}: {parameter}");
                match grads.get(&var) {
                    Some(got)
                        if parameter.starts_with(SHIFT) && parameter.ends_with("fc2.bias") =>
                    {
                        let beside = &grads_of[&parameter.replace("bias", "weight")];
                        let (got, beside) = (largest(got), largest(beside));
                        assert!(got <= GRADIENT_TOLERANCE * beside, "{what}: {got:e}");
                    }
                    Some(got) => assert_close(&what, got, want, GRADIENT_TOLERANCE),
                    None => assert_eq!(largest(want), 0.0, "{what}"),
                }
                compared += 1;
            }
            assert_eq!(compared, grads_of.len(), "{name}");
        }
    }
}

/// Names of the parameters that F does not depend on.
fn unused(config: &Config) -> Vec<String> {
    let groups = config.groups().into_iter();
    let parameters = groups.flat_map(|group| group.parameters);
    let mut names: Vec<String> = parameters.filter(|p| !p.used).map(|p| p.name).collect();
    names.sort_unstable();
    names
}

/// MAE-DFER's last attention to the regions never reaches them.
#[test]
fn what_region_features_leave_unused_is_the_last_third_attention() {
    let names = unused(&config(&fixture("lgi-former-regions")));
    assert_eq!(names.len(), 10);
    for name in &names {
        assert!(name.starts_with("blocks.2.third_attn"), "{name}");
    }
    assert_eq!(unused(&config(&fixture("lgi-former-tokens"))), [""; 0]);
    assert_eq!(unused(&config(&fixture("tpsbt"))), [""; 0]);
}

/// As the releases' scripts store them, with what else lies beside the encoder.
#[test]
fn published_files_give_the_features_of_their_definitions() {
    let given = Overrides {
        heads: Some(2),
        image_size: Some(32),
        frames: Some(16),
        ..Overrides::default()
    };
    for (name, spelling, feature, has_classifier) in [
        ("mae-dfer-pretrain", "mae-dfer", "trace.F", false),
        ("mae-dfer-finetune", "mae-dfer", "trace.F.tokens", true),
        ("svfap-pretrain", "svfap", "trace.F", false),
        ("svfap-finetune", "svfap", "trace.F", true),
    ] {
        let path = fixtures().join(format!("families/{name}.pth"));
        let found = open_with(path, &given, &Families::default());
        let found = found.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(found.spelling, spelling);
        assert_eq!(found.classifier.is_some(), has_classifier, "{name}");
        assert!(!found.ignored.is_empty(), "{name}");
        let want = Fixture::load(&format!("families/expected-{name}.safetensors"));
        let encoder = found.load(&Device::Cpu).unwrap_or_else(|e| panic!("{e}"));
        let f = encoder.forward(want.get("input.video")).expect("features");
        assert_close(name, &f, want.get(feature), TOLERANCE);
    }
}

#[test]
fn what_a_published_file_does_not_tell_is_asked_for() {
    let open = |name: &str, given: Overrides| {
        let path = fixtures().join(format!("families/{name}.pth"));
        let error = open_with(path, &given, &Families::default()).map(drop);
        error.expect_err("refused").to_string()
    };
    let heads = Overrides {
        heads: Some(2),
        ..Overrides::default()
    };
    for name in ["mae-dfer-pretrain", "svfap-finetune"] {
        let said = open(name, Overrides::default());
        assert!(said.contains("how many attention heads"), "{said}");
    }
    let odd = Overrides {
        image_size: Some(24),
        ..heads.clone()
    };
    let said = open("mae-dfer-pretrain", odd);
    let want =
        "mae-dfer-pretrain.pth: regions: 4×2×1 regions do not divide the grid of 8×3×3 tubes";
    assert!(said.contains(want), "{said}");
    let few = Overrides {
        frames: Some(4),
        ..heads
    };
    let said = open("svfap-finetune", few);
    assert!(
        said.contains("svfap-finetune.pth: frames: 4 make 2 slices"),
        "{said}"
    );
}

#[test]
fn files_made_to_hurt_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let zeros = |shape: &[usize]| {
        Tensor::zeros(shape, mtcae_encoder::candle_core::DType::F32, &Device::Cpu).expect("zeros")
    };
    let refused = |tensors: &[(&str, Tensor)]| {
        let path = folder.path().join("file.safetensors");
        let named = tensors.iter().map(|(name, tensor)| (*name, tensor));
        mtcae_nn::weights::save(&path, named, [].into()).expect("saved");
        let opened = open_with(&path, &Overrides::default(), &Families::default());
        let said = opened.and_then(|found| found.check()).expect_err("refused");
        said.to_string()
    };
    let kernel = ("patch_embed.proj.weight", zeros(&[512, 3, 2, 16, 16]));
    let down = ("temporal_downsamples.0.weight", zeros(&[512, 512, 2]));
    let far = ("blocks.18446744073709551614.x", zeros(&[1]));
    let said = refused(&[kernel.clone(), down.clone(), far]);
    assert!(
        said.contains("depth: there is a block 18446744073709551614"),
        "{said}"
    );
    for mark in [down, ("lg_region_tokens", zeros(&[8, 512]))] {
        let block = ("blocks.0.mlp.fc1.weight", zeros(&[64, 512]));
        let said = refused(&[kernel.clone(), mark.clone(), block]);
        assert!(!said.contains('\n'), "{said}");
        let scalar = (mark.0, zeros(&[]));
        assert!(!refused(&[kernel.clone(), scalar]).contains('\n'));
    }
}

/// A config of something else beside a release's file is not passed over.
#[test]
fn a_config_beside_a_release_without_one_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let from = |name: &str| fixtures().join(name);
    let to = |name: &str| folder.path().join(name);
    std::fs::copy(
        from("classifiers/hugging-face/config.json"),
        to("config.json"),
    )
    .expect("copied");
    for (file, whose) in [
        ("svfap-finetune.pth", "SVFAP"),
        ("mae-dfer-pretrain.pth", "MAE-DFER"),
    ] {
        let weights = to("pytorch_model.bin");
        std::fs::copy(from(&format!("families/{file}")), weights).expect("copied");
        let opened = open_with(folder.path(), &Overrides::default(), &Families::default());
        let said = opened.map(drop).expect_err("refused").to_string();
        let want = format!(
            "config.json: model_type: this config is of another model: the weights beside it are {whose}'s"
        );
        assert!(said.contains(&want), "{said}");
    }
}

#[test]
fn sizes_without_bounds_are_refused_before_memory_is_had() {
    for (family, field, value) in [
        ("tpsbt", "bottlenecks", 1024),
        ("tpsbt", "bottleneck_hidden", 4096),
        ("lgi-former", "regions", 0),
    ] {
        let config = Families::preset(family, "base", &Overrides::default()).expect("a preset");
        let serde_json::Value::Object(mut fields) = serde_json::to_value(&config).expect("JSON")
        else {
            panic!("the config is no object");
        };
        let huge = [
            ("frames", 16_384),
            ("tubelet", 1),
            ("image_size", 64),
            ("patch", 16),
        ];
        let huge = huge.iter().filter(|_| family == "tpsbt");
        fields.extend(huge.map(|(name, value)| ((*name).to_owned(), (*value).into())));
        fields.insert(
            field.to_owned(),
            match field {
                "regions" => serde_json::json!([value, 2, 1]),
                _ => value.into(),
            },
        );
        let said = Families::default()
            .read(fields, "a.json")
            .expect_err("refused");
        let said = said.to_string();
        assert!(
            said.starts_with("a.json: ") && !said.contains('\n'),
            "{said}"
        );
    }
}

#[test]
fn plans_compute_what_the_model_computes() {
    for name in FIXTURES {
        let fixture = fixture(name);
        let (_, encoder) = trainable(&fixture, &Device::Cpu);
        let clips = fixture.get("input.video");
        let tubes = encoder.config().input().cut(clips).expect("tubes");
        let want = fixture.get("trace.F");
        for precision in [Precision::F32, Precision::Bf16] {
            // bf16 keeps 8 bits of each factor, over seven blocks of hard weights.
            let tolerance = match precision {
                Precision::F32 => TOLERANCE,
                _ => 0.1,
            };
            let Ok(format) = format(precision) else {
                continue;
            };
            let source = InMemory::new("weights", fixture.below("weights.encoder."));
            let read = load_strict(&source, &Device::Cpu, |vb| {
                config(&fixture).plan(format, vb)
            });
            let plans = [encoder.plan(format).expect("a plan"), read.expect("a plan")];
            for plan in plans {
                let plan = plan.expect("the family has one");
                let mut features = vec![0.0; want.elem_count()];
                let mut arena = Arena::default();
                let each = features.chunks_mut(want.elem_count() / 2);
                for (clip, features) in each.enumerate() {
                    let tubes = tubes.get(clip).and_then(|t| t.flatten_all()?.to_vec1());
                    let tubes: Vec<f32> = tubes.expect("numbers");
                    plan.forward(&tubes, &mut arena, features)
                        .expect("features");
                }
                let got = Tensor::from_vec(features, want.dims(), &Device::Cpu).expect("F");
                assert_close(&format!("{name}: {precision}"), &got, want, tolerance);
            }
        }
    }
}

#[test]
fn the_names_are_those_that_the_config_lists() {
    for name in FIXTURES {
        let config = config(&fixture(name));
        let store = ParamStore::new(1);
        config
            .build(store.builder(&Device::Cpu))
            .expect("an encoder");
        let vars = store.vars().into_iter();
        let built: Vec<_> = vars
            .map(|(name, var)| (name, var.dims().to_vec()))
            .collect();
        let mut listed = config.tensors();
        listed.sort();
        assert_eq!(built, listed, "{name}");
    }
}

/// As published, with seven classes: MAE-DFER's and SVFAP's parameters.
#[test]
fn parameters_and_arithmetic_of_the_published_sizes() {
    for (family, parameters, gflop) in [
        // The papers give about 50 and 43.6 GFLOP, and count a product once.
        ("lgi-former", 84_878_343, 100.0),
        ("tpsbt", 77_635_351, 87.2),
    ] {
        let config = Families::preset(family, "base", &Overrides::default()).expect("a preset");
        let tensors = config.tensors().into_iter();
        // MAE-DFER's final norm is of pre-training alone, where the classifier has its own.
        let tensors = tensors.filter(|(name, _)| !name.starts_with("norm."));
        let encoder: usize = tensors.map(|(_, s)| s.iter().product::<usize>()).sum();
        let width = config.output().width;
        let classifier = 2 * width + 7 * (width + 1);
        assert_eq!(encoder + classifier, parameters, "{family}");
        let got = config.flops() / 1e9;
        assert!((got / gflop - 1.0).abs() < 0.05, "{family}: {got} GFLOP");
    }
}

#[test]
fn presets_and_what_is_given_in_their_place() {
    for (family, sizes) in Families::presets() {
        for size in sizes {
            let config = Families::preset(family, size, &Overrides::default());
            let config = config.unwrap_or_else(|e| panic!("{family} {size}: {e}"));
            assert_eq!(config.family(), family);
        }
    }
    let at_224 = Overrides {
        image_size: Some(224),
        frames: Some(32),
        ..Overrides::default()
    };
    for (family, tokens) in [("videomae", 3136), ("lgi-former", 3136), ("tpsbt", 784)] {
        let config = Families::preset(family, "base", &at_224).expect("a preset");
        assert_eq!((config.input().size, config.input().frames), (224, 32));
        assert_eq!(config.output().tokens, tokens, "{family}");
    }
    let error = |family, size, given: Overrides| {
        let none = Families::preset(family, size, &given).expect_err("none");
        none.to_string()
    };
    let none = Overrides::default;
    let said = error("vit", "base", none());
    assert!(
        said.contains("known: lgi-former, tpsbt, videomae, resnet"),
        "{said}"
    );
    let said = error("tpsbt", "huge", none());
    assert!(said.contains("known: tiny, small, base"), "{said}");
    let odd = Overrides {
        image_size: Some(176),
        ..none()
    };
    let said = error("lgi-former", "base", odd);
    assert!(
        said.contains("regions: 4×2×1 regions do not divide"),
        "{said}"
    );
    let few = Overrides {
        frames: Some(12),
        ..none()
    };
    let said = error("tpsbt", "base", few);
    assert!(said.contains("should be a multiple of 8"), "{said}");
}

/// MAE-DFER's leading axis is regions within them, and clips between them.
#[test]
fn drop_path_drops_regions_within_them_and_clips_between_them() {
    let fixture = fixture("lgi-former-tokens");
    let config = config_with(&fixture, "drop_path", 0.5.into());
    let source = InMemory::new("weights", fixture.below("weights.encoder."));
    let encoder = load_strict(&source, &Device::Cpu, |vb| config.build(vb)).expect("built");
    let tubes = config
        .input()
        .cut(fixture.get("input.video"))
        .expect("tubes");
    // Which rows of the last block's step, one a sequence, are those before it.
    let dropped = |before: &Tensor, after: &Tensor| -> Vec<bool> {
        let rows = before.dim(0).expect("rows");
        (0..rows)
            .map(|i| {
                deviation(
                    &after.get(i).expect("a row"),
                    &before.get(i).expect("a row"),
                ) == 0.0
            })
            .collect()
    };
    let (mut some_regions, mut clips) = (false, [false; 2]);
    for seed in 0..8 {
        let mut pass = Pass::training(seed).traced();
        encoder.run(&tubes, &mut pass).expect("features");
        let trace = pass.into_trace();
        let of = |wanted: &str| {
            let found = trace.iter().find(|(name, _)| name == wanted);
            found.expect("recorded").1.clone()
        };
        let first = of("encoder.blocks.2.first");
        for clip in dropped(&of("encoder.blocks.1"), &first).chunks(8) {
            some_regions |= clip.contains(&true) && clip.contains(&false);
        }
        let before = first.narrow(1, 0, 1).and_then(|m| m.reshape((2, 8, 16)));
        let messengers = of("encoder.blocks.2.messengers");
        let regions = messengers.reshape((16, 16)).expect("rows");
        let before = before.and_then(|m| m.reshape((16, 16))).expect("rows");
        for clip in dropped(&before, &regions).chunks(8) {
            assert!(clip.iter().all(|dropped| *dropped == clip[0]), "{clip:?}");
            clips[usize::from(clip[0])] = true;
        }
    }
    assert!(
        some_regions && clips == [true; 2],
        "{some_regions} {clips:?}"
    );
}

/// Deviation of F after a change of the weights or of a config's field.
fn off_by(name: &str, change: impl Fn(&str, Tensor) -> Tensor, [field, value]: [&str; 2]) -> f64 {
    let fixture = fixture(name);
    let value = match serde_json::from_str(value) {
        Ok(value) => value,
        Err(_) => panic!("{value} is no JSON"),
    };
    let config = config_with(&fixture, field, value);
    let weights = fixture.below("weights.encoder.").into_iter();
    let weights = weights.map(|(name, tensor)| {
        let changed = change(&name, tensor);
        (name, changed)
    });
    let source = InMemory::new("changed weights", weights);
    let encoder = load_strict(&source, &Device::Cpu, |vb| config.build(vb));
    let encoder = encoder.unwrap_or_else(|e| panic!("{name}: {e}"));
    let f = encoder
        .forward(fixture.get("input.video"))
        .expect("features");
    deviation(&f, fixture.get("trace.F"))
}

/// Deviation of F where queries and keys of every cross attention change places.
fn off_by_cross_attention(name: &str) -> f64 {
    let fixture = fixture(name);
    let mut weights = fixture.below("weights.encoder.");
    let names: Vec<String> = weights.keys().cloned().collect();
    for name in names
        .iter()
        .filter_map(|name| name.strip_suffix(".q.weight"))
    {
        let (q, kv) = (format!("{name}.q.weight"), format!("{name}.kv.weight"));
        let keys = weights[&kv].narrow(0, 0, 16).expect("keys");
        let values = weights[&kv].narrow(0, 16, 16).expect("values");
        let swapped = Tensor::cat(&[&weights[&q], &values], 0).expect("rows");
        weights.insert(q, keys.contiguous().expect("rows"));
        weights.insert(kv, swapped);
    }
    let source = InMemory::new("changed weights", weights);
    let encoder = load_strict(&source, &Device::Cpu, |vb| config(&fixture).build(vb));
    let f = encoder
        .expect("an encoder")
        .forward(fixture.get("input.video"));
    deviation(&f.expect("features"), fixture.get("trace.F"))
}

/// Rows of a tensor in another order.
fn rows(tensor: &Tensor, order: impl IntoIterator<Item = u32>) -> Tensor {
    let order = Tensor::from_iter(order, &Device::Cpu).expect("an index");
    tensor.index_select(&order, 0).expect("rows")
}

#[test]
fn mistakes_do_not_pass() {
    type Change = fn(&str, Tensor) -> Tensor;
    let same: Change = |_, tensor| tensor;
    let none = ["channels", "3"];
    let swap_queries_and_keys: Change = |name, tensor| match name.ends_with("attn.qkv.weight") {
        true => rows(&tensor, (16..32).chain(0..16).chain(32..48)),
        false => tensor,
    };
    let keys_as_values: Change = |name, tensor| match name.ends_with(".kv.weight") {
        true => rows(&tensor, (16..32).chain(0..16)),
        false => tensor,
    };
    let regions_reversed: Change = |name, tensor| match name {
        "lg_region_tokens" => rows(&tensor, (0..8).rev()),
        _ => tensor,
    };
    let norms_of_queries_and_keys: Change = |name, tensor| match name {
        name if name.contains("_norm1.weight") => tensor.ones_like().expect("ones"),
        _ => tensor,
    };
    let pairs_reversed: Change = |name, tensor| match name.starts_with("temporal_") {
        true if tensor.rank() == 2 => {
            let order = (0..32u32).map(|i| i ^ 1);
            let columns = tensor.t().and_then(|t| t.contiguous()).expect("columns");
            rows(&columns, order).t().expect("rows")
        }
        _ => tensor,
    };
    // What the model's own lines could get wrong is told apart by weights or config here;
    // the softmax over channels in place of places and the reversed block's roles swapped
    // are computed in `fixtures/families/make.py`, with what they change.
    let lgi: [(&str, Change, [&str; 2]); 6] = [
        ("queries and keys swapped", swap_queries_and_keys, none),
        ("keys and values swapped", keys_as_values, none),
        (
            "the regions' tokens in another order",
            regions_reversed,
            none,
        ),
        ("the keys' norm left out", norms_of_queries_and_keys, none),
        ("other regions", same, ["regions", "[2,2,2]"]),
        ("other heads", same, ["heads", "4"]),
    ];
    let tpsbt: [(&str, Change, [&str; 2]); 5] = [
        ("queries and keys swapped", swap_queries_and_keys, none),
        ("keys and values swapped", keys_as_values, none),
        ("the later frame first", pairs_reversed, none),
        (
            "the context's norm left out",
            norms_of_queries_and_keys,
            none,
        ),
        ("other heads", same, ["heads", "4"]),
    ];
    let lgi = lgi.map(|mistake| (&FIXTURES[..2], mistake)).to_vec();
    let tpsbt = tpsbt.map(|mistake| (&FIXTURES[2..], mistake)).to_vec();
    for (names, (mistake, change, field)) in [lgi, tpsbt].concat() {
        for name in names {
            let off = off_by(name, change, field);
            println!("{name}: {mistake}: {off:.1e}");
            // A hundred times the tolerance: no mistake is a near miss.
            assert!(
                off > 100.0 * TOLERANCE,
                "{name}: {mistake} passes at {off:e}"
            );
        }
    }
    for name in FIXTURES {
        let off = off_by_cross_attention(name);
        println!("{name}: queries and keys of cross attentions swapped: {off:.1e}");
        assert!(off > 100.0 * TOLERANCE, "{name}: passes at {off:e}");
        let off = off_by(name, same, none);
        assert!(off <= TOLERANCE, "{name}: {off:e}");
    }
}
