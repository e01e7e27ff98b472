//! Classifiers that others published, against transformers' own answers and those of the
//! original releases' definitions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use mtcae_core::{Crop, Resize, Sampling};
use mtcae_model::encoder::{Families, Overrides};
use mtcae_model::{Checkpoint, Config, Given, Precision};
use mtcae_nn::weights::save;
use mtcae_nn::{Pass, Pool};
use mtcae_testing::{Fixture, assert_close, fixtures};

/// Two to seven blocks in f32 against a reference in f64: a few ulp (6e-8) of the largest
/// value a layer. An ε of 1e-6 for transformers' 1e-5 is off by seven times as much.
const TOLERANCE: f64 = 1e-5;

fn path(name: &str) -> PathBuf {
    fixtures().join(name)
}

/// Classes and sizes that a file does not say.
fn given(classes: usize, heads: usize, [image_size, frames]: [usize; 2]) -> Given {
    Given {
        classes: Some((0..classes).map(|i| format!("class {i}")).collect()),
        sizes: Overrides {
            heads: Some(heads),
            image_size: Some(image_size),
            frames: Some(frames),
            ..Overrides::default()
        },
        called: None,
    }
}

fn open(name: &str, given: &Given) -> Checkpoint {
    let opened = Checkpoint::open_given(path(name), &Families::default(), given);
    opened.unwrap_or_else(|e| panic!("{e}"))
}

fn refused(path: &Path, given: &Given) -> String {
    let opened = Checkpoint::open_given(path, &Families::default(), given);
    let said = opened.map(drop).expect_err("refused").to_string();
    assert!(!said.contains('\n') && said.len() < 2000, "{said}");
    said
}

/// Logits of clips (B, T, C, H, W), packed and on Candle.
fn logits(checkpoint: &Checkpoint, clips: &Tensor) -> [Tensor; 2] {
    let input = checkpoint
        .config()
        .encoder
        .input()
        .cut(clips)
        .expect("tubes");
    let engine = checkpoint
        .engine(&Device::Cpu, Precision::F32)
        .expect("an engine");
    let packed = engine.run(&input, &mut Pass::inference()).expect("packed");
    let model = checkpoint.model(&Device::Cpu).expect("a model");
    let plain = model.forward(clips).expect("on Candle");
    [packed.logits, plain.logits]
}

/// The frames that the reference saw, normalised as the checkpoint says.
fn clips(fixture: &Fixture, config: &Config) -> Tensor {
    let channels = |values: [f32; 3]| {
        Tensor::from_slice(&values, (1, 3, 1, 1), &Device::Cpu).expect("a tensor")
    };
    let (mean, std) = (config.preprocessing.mean, config.preprocessing.std);
    let frames = fixture.get("exact.frames").to_dtype(DType::F32);
    let frames = frames.and_then(|f| f.permute((0, 3, 1, 2))? / 255.0);
    let pixels = frames
        .and_then(|f| f.broadcast_sub(&channels(mean)))
        .and_then(|f| f.broadcast_div(&channels(std))?.unsqueeze(0));
    pixels.expect("pixels")
}

#[test]
fn transformers_classifiers_answer_as_they_do_there() {
    for (name, expected, pool) in [
        ("hugging-face", "hugging-face", Pool::Mean),
        ("hugging-face-bin", "hugging-face", Pool::Mean),
        (
            "hugging-face-first-token",
            "hugging-face-first-token",
            Pool::First,
        ),
    ] {
        let fixture = Fixture::load(&format!("classifiers/expected-{expected}.safetensors"));
        let checkpoint = open(&format!("classifiers/{name}"), &Given::default());
        let config = checkpoint.config();
        assert_eq!(
            config.classes,
            ["neutral", "happy", "sad", "angry", "surprised"]
        );
        assert_eq!(config.decoder.pool, pool, "{name}");
        assert_eq!(config.preprocessing.resize, Resize::ShortestEdgeCrop);
        assert!(config.trained_on.is_some() && config.preprocessing.crop.is_none());
        let notes = checkpoint.notes().join("\n");
        assert!(notes.contains("which frames make a clip"), "{notes}");
        for got in logits(&checkpoint, &clips(&fixture, config)) {
            assert_close(
                name,
                &got,
                fixture.get("exact.uniform.1x1.logits"),
                TOLERANCE,
            );
        }
    }
}

#[test]
fn the_original_releases_classifiers_answer_as_they_are_defined() {
    let fixture = Fixture::load("classifiers/expected-videomae-finetune.safetensors");
    let checkpoint = open("classifiers/videomae-finetune.pth", &given(7, 3, [32, 8]));
    for got in logits(&checkpoint, &clips(&fixture, checkpoint.config())) {
        assert_close(
            "videomae",
            &got,
            fixture.get("exact.uniform.1x1.logits"),
            TOLERANCE,
        );
    }
    for name in ["mae-dfer-finetune", "svfap-finetune"] {
        let fixture = Fixture::load(&format!("families/expected-{name}.safetensors"));
        let checkpoint = open(&format!("families/{name}.pth"), &given(7, 2, [32, 16]));
        let preprocessing = &checkpoint.config().preprocessing;
        assert!(preprocessing.crop == Crop::face(), "{name}");
        assert_eq!(preprocessing.sampling.to_string(), "multi-clip:2x4");
        assert_eq!(preprocessing.resize, Resize::Squash);
        for got in logits(&checkpoint, fixture.get("input.video")) {
            assert_close(name, &got, fixture.get("trace.head"), TOLERANCE);
        }
    }
}

#[test]
fn sampling_of_a_file_that_says_none_is_even() {
    let checkpoint = open("classifiers/hugging-face", &Given::default());
    assert_eq!(
        checkpoint.config().preprocessing.sampling,
        Sampling::Uniform
    );
}

/// A copy of a folder, with a change of its config's text.
fn changed(change: impl Fn(&str) -> String) -> tempfile::TempDir {
    let (from, to) = (
        path("classifiers/hugging-face"),
        tempfile::tempdir().expect("a folder"),
    );
    for file in std::fs::read_dir(from).expect("read") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), to.path().join(file.file_name())).expect("copied");
    }
    let config = to.path().join("config.json");
    let text = std::fs::read_to_string(&config).expect("read");
    std::fs::write(config, change(&text)).expect("written");
    to
}

#[test]
fn classes_that_nobody_names_are_asked_for() {
    let none = Given::default();
    let unnamed = |names: [&str; 5]| {
        let text = names.iter().enumerate();
        let text: Vec<String> = text
            .map(|(i, name)| format!("\"{i}\": \"{name}\""))
            .collect();
        format!("\"id2label\": {{{}}}", text.join(", "))
    };
    let named = unnamed(["neutral", "happy", "sad", "angry", "surprised"]);
    let squeezed = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").replace("{ ", "{").replace(" }", "}")
    };
    let without = |replacement: String| {
        let named = named.clone();
        changed(move |text| {
            let text = squeezed(text);
            assert!(text.contains(&named), "{text}");
            text.replace(&named, &replacement)
        })
    };
    for folder in [
        without("\"id2label\": null".to_owned()),
        without(unnamed([
            "LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3", "LABEL_4",
        ])),
    ] {
        let said = refused(folder.path(), &none);
        assert!(said.contains("nothing in it names the 5 classes"), "{said}");
        let names = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let given = Given {
            classes: Some(names.clone()),
            ..Given::default()
        };
        let opened = Checkpoint::open_given(folder.path(), &Families::default(), &given);
        assert_eq!(opened.expect("opened").config().classes, names);
    }
    let two = without("\"id2label\": {\"0\": \"no\", \"1\": \"yes\"}".to_owned());
    let said = refused(two.path(), &none);
    assert!(
        said.contains("config.json: id2label: 2 names, but classifier.weight has 5 rows"),
        "{said}"
    );
    let few = Given {
        classes: Some(vec!["a".to_owned(), "b".to_owned()]),
        ..Given::default()
    };
    let said = refused(&path("classifiers/hugging-face"), &few);
    assert!(
        said.contains("2 names of classes are given (a, b)"),
        "{said}"
    );
    assert!(said.contains("its classifier has 5 outputs"), "{said}");
    let said = refused(
        &path("classifiers/videomae-finetune.pth"),
        &Given {
            classes: None,
            ..given(7, 3, [32, 8])
        },
    );
    assert!(said.contains("nothing in it names the 7 classes"), "{said}");
}

#[test]
fn an_encoder_alone_and_a_model_of_ours_say_what_they_are() {
    let said = refused(
        &path("families/mae-dfer-pretrain.pth"),
        &given(7, 2, [32, 16]),
    );
    assert!(said.contains("an encoder without a classifier"), "{said}");
    let ours = path("demo/checkpoint");
    let said = refused(&ours, &given(7, 2, [32, 16]));
    assert!(said.contains("a model of ours"), "{said}");
    // By its weights as well as by its folder.
    Checkpoint::open(ours.join("model.safetensors")).expect("opened");
}

#[test]
fn a_head_of_another_width_and_missing_tensors_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let opened = open("families/mae-dfer-finetune.pth", &given(7, 2, [32, 16]));
        assert_eq!(opened.config().encoder.family(), "lgi-former");
        let fixture = Fixture::load("families/lgi-former-regions.safetensors");
        // The published spelling, as far as it differs.
        let mut tensors = BTreeMap::new();
        for (name, tensor) in fixture.below("weights.encoder.") {
            let rows = |from, count| tensor.narrow(0, from, count).and_then(|t| t.contiguous());
            match name.strip_suffix(".qkv.weight") {
                Some(attention) => {
                    let (q, kv) = (rows(0, 16).expect("q"), rows(16, 32).expect("kv"));
                    tensors.insert(format!("{attention}.q.weight"), q);
                    tensors.insert(format!("{attention}.kv.weight"), kv);
                }
                None if name == "patch_embed.proj.weight" => {
                    let kernel = tensor.reshape((16, 3, 2, 8, 8)).expect("a kernel");
                    tensors.insert(name, kernel);
                }
                None => {
                    tensors.insert(name.replace(".q.bias", ".q_bias"), tensor);
                }
            }
        }
        for (name, tensor) in fixture.below("weights.head.") {
            let (part, rest) = name.split_once('.').expect("a name");
            let part = if part == "fc" { "head" } else { "fc_norm" };
            tensors.insert(format!("{part}.{rest}"), tensor);
        }
        change(&mut tensors);
        let file = folder.path().join("changed.safetensors");
        drop(std::fs::remove_file(&file));
        let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        save(&file, named, [].into()).expect("saved");
        file
    };
    let given = given(7, 2, [32, 16]);
    let whole = weights(&|_| {});
    Checkpoint::open_given(&whole, &Families::default(), &given).expect("whole");
    let zeros = |shape: (usize, usize)| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let wide = weights(&|t| {
        t.insert("head.weight".to_owned(), zeros((7, 24)).expect("zeros"));
    });
    let said = refused(&wide, &given);
    assert!(said.contains("head.weight: has shape [7, 24]"), "{said}");
    let torn = weights(&|t| drop(t.remove("fc_norm.bias")));
    let said = refused(&torn, &given);
    assert!(said.contains("fc_norm.bias"), "{said}");
    let another = weights(&|t| {
        let name = "blocks.1.second_attn.kv.weight".to_owned();
        t.insert(name, zeros((32, 24)).expect("zeros"));
    });
    let said = refused(&another, &given);
    assert!(said.contains("blocks.1.second_attn.kv.weight"), "{said}");
}
