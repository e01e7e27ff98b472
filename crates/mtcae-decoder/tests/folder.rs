//! A decoder in a folder of its own.

use std::path::Path;

use mtcae_decoder::candle_core::{DType, Device, Tensor};
use mtcae_decoder::nn::ParamStore;
use mtcae_decoder::nn::weights::{TensorFile, save};
use mtcae_decoder::{Config, Error, KvOrder, MultiTaskDecoder, Structure, Task};

fn tiny(structure: Structure) -> Config {
    Config {
        width: 12,
        depth: 2,
        heads: 2,
        head_dim: 5,
        structure,
        ..Config::cascade(8, vec![Task::new("a", 2), Task::new("b", 3)])
    }
}

fn build(cfg: &Config) -> (ParamStore, MultiTaskDecoder) {
    let store = ParamStore::new(7);
    let decoder = MultiTaskDecoder::new(cfg, store.builder(&Device::Cpu).pp("part"));
    (store, decoder.expect("built"))
}

fn heads(decoder: &MultiTaskDecoder) -> Vec<Vec<Vec<f32>>> {
    let f = Tensor::arange(0f32, 48.0, &Device::Cpu).and_then(|f| f.sin()?.reshape((2, 3, 8)));
    let outputs = decoder.forward(&f.expect("features")).expect("computed");
    let values = outputs.heads.iter().map(|h| h.to_vec2().expect("values"));
    values.collect()
}

#[test]
fn what_is_saved_computes_the_same_to_the_bit() {
    for structure in Structure::ALL {
        for (kv_order, share_layers) in [(KvOrder::DenseNorm, false), (KvOrder::NormDense, true)] {
            let cfg = Config {
                kv_order,
                share_layers,
                ..tiny(structure)
            };
            if cfg.validate().is_err() {
                continue;
            }
            let (store, decoder) = build(&cfg);
            // As after a step of training: the decoder saves what its parameters are now.
            for (name, var) in store.vars() {
                store
                    .set(&name, &(var.as_tensor() + 0.125).expect("moved"))
                    .expect("set");
            }
            let folder = tempfile::tempdir().expect("a folder");
            let folder = folder.path().join("new");
            decoder.save(&folder).expect("saved");
            let again = MultiTaskDecoder::load(&folder, &Device::Cpu).expect("loaded");
            assert_eq!(again.config(), &cfg);
            assert_eq!(heads(&again), heads(&decoder), "{structure}");
            // Every parameter of the store, and nothing else in the folder.
            assert_eq!(again.tensors().len(), store.vars().len());
            assert_eq!(std::fs::read_dir(&folder).expect("listed").count(), 2);
        }
    }
}

fn error(folder: &Path) -> String {
    let error = MultiTaskDecoder::load(folder, &Device::Cpu).expect_err("refused");
    let said = error.to_string();
    assert!(said.len() < 700 && !said.contains('\n'), "{said}");
    said
}

#[test]
fn a_folder_that_is_not_as_it_was_saved_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    assert!(error(folder).contains("config.json"));
    let (_, decoder) = build(&tiny(Structure::Cascade));
    decoder.save(folder).expect("saved");

    let path = folder.join("config.json");
    let config = std::fs::read_to_string(&path).expect("read");
    for (from, to, said) in [
        ("\"width\": 12", "\"width\": 14", "wrong shape: "),
        (
            "\"depth\": 2",
            "\"depth\": 3",
            "missing: stages.a.layers.2.",
        ),
        (
            "\"depth\": 2",
            "\"depth\": 1",
            "unexpected: stages.a.layers.1.",
        ),
        (
            "\"width\": 12",
            "\"width\": 1152921504606846976",
            "width: must be",
        ),
        ("\"heads\"", "\"haeds\"", "haeds"),
        ("{", "", "config.json: "),
    ] {
        assert!(config.contains(from), "{from}");
        std::fs::write(&path, config.replacen(from, to, 1)).expect("written");
        let error = error(folder);
        assert!(error.contains(said), "{said}: {error}");
    }
    std::fs::write(&path, &config).expect("written");

    let weights = folder.join("model.safetensors");
    let whole = std::fs::read(&weights).expect("read");
    std::fs::write(&weights, &whole[..whole.len() - 1]).expect("cut");
    assert!(error(folder).contains("model.safetensors: not a complete"));

    let mut tensors = decoder.tensors().to_vec();
    tensors.push((
        "odd".to_owned(),
        Tensor::new(1f32, &Device::Cpu).expect("one"),
    ));
    let pairs = tensors.iter().map(|(n, t)| (n.as_str(), t));
    save(&weights, pairs, Default::default()).expect("saved");
    assert!(error(folder).contains("unexpected: odd"));
}

#[test]
fn weights_are_written_as_f32() {
    let (_, decoder) = build(&tiny(Structure::SeparateMlp));
    let rounded = |_: &str, t: &Tensor| t.to_dtype(DType::BF16).expect("rounded");
    let store = ParamStore::new(0);
    for (name, tensor) in decoder.tensors() {
        store.set(name, &rounded(name, tensor)).expect("set");
    }
    let vb = store.builder(&Device::Cpu);
    let decoder = MultiTaskDecoder::new(decoder.config(), vb).expect("built");
    let folder = tempfile::tempdir().expect("a folder");
    decoder.save(folder.path()).expect("saved");
    let bytes = std::fs::read(folder.path().join("model.safetensors")).expect("read");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("F32") && !text.contains("BF16"));
    TensorFile::open(folder.path().join("model.safetensors")).expect("opened");
}

#[test]
fn what_a_config_asks_for_is_told_before_it_is_built() {
    for structure in Structure::ALL {
        let (store, _) = build(&tiny(structure));
        let mut wanted = tiny(structure).tensors().expect("valid");
        wanted.sort();
        let vars = store.vars().into_iter();
        let found: Vec<_> = vars
            .map(|(n, v)| (n.replace("part.", ""), v.dims().to_vec()))
            .collect();
        assert_eq!(wanted, found);
    }
    // The largest that is allowed, told without its memory.
    let large = Config {
        width: 1 << 14,
        heads: 1,
        depth: 128,
        ..Config::cascade(
            1 << 14,
            (0..64).map(|i| Task::new(format!("t{i}"), 9)).collect(),
        )
    };
    assert!(matches!(large.tensors(), Err(Error::Config { .. })));
    let large = Config {
        width: 256,
        mlp_ratio: 1.0,
        ..large
    };
    assert!(large.tensors().expect("valid").len() > 64 * 128);
}
