//! Checkpoints of masked pre-training: published ones whole, folders of ours, and what is
//! wrong with others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mtcae_encoder::candle_core::{DType, Device, Tensor};
use mtcae_encoder::masked::{self, MaskedCheckpoint, MaskedConfig};
use mtcae_encoder::{Config, Families, OWN, Overrides, VideoMaeConfig, open_with};
use mtcae_nn::weights;
use mtcae_nn::{ParamStore, Pass};
use mtcae_testing::{assert_close, fixtures};
use serde_json::{Map, json};

/// Every file of a whole model, its spelling, and image size and frames of the encoder.
const PUBLISHED: [(&str, &str, usize, usize); 4] = [
    ("checkpoints/hf-pretraining", "huggingface", 32, 4),
    ("checkpoints/videomae-pretrain.pth", "videomae", 32, 4),
    ("families/mae-dfer-pretrain.pth", "mae-dfer", 32, 16),
    ("families/svfap-pretrain.pth", "svfap", 32, 16),
];

fn open(path: &Path, image_size: usize, frames: usize) -> Result<MaskedCheckpoint, String> {
    let given = Overrides {
        heads: Some(if frames == 4 { 4 } else { 2 }),
        decoder_heads: Some(2),
        image_size: Some(image_size),
        frames: Some(frames),
        ..Overrides::default()
    };
    masked::open(path, &given, &Families::default()).map_err(|e| e.to_string())
}

#[test]
fn published_files_load_whole() {
    for (name, spelling, size, frames) in PUBLISHED {
        let found = open(&fixtures().join(name), size, frames);
        let found = found.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found.spelling, spelling);
        let tensors = found
            .ignored
            .iter()
            .filter(|name| found.source().shape(name).is_some());
        assert_eq!(tensors.count(), 0, "{name}: {:?}", found.ignored);
        let model = found
            .load(&Device::Cpu)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let shape = (1, found.config.tubes(), found.config.tube_len());
        let tubes = Tensor::ones(shape, DType::F32, &Device::Cpu).expect("tubes");
        // Four places, of which nine tenths leave one.
        let config = MaskedConfig {
            mask: found.config.mask.with_ratio(0.5),
            ..found.config.clone()
        };
        let mask = config.mask(1).expect("a mask");
        let made = model.forward(&tubes, &[mask], &mut Pass::inference());
        let loss = made.and_then(|made| made.loss()).expect("a loss");
        assert!(loss.to_scalar::<f32>().expect("a number").is_finite());
    }
}

fn tiny() -> MaskedConfig {
    let encoder = VideoMaeConfig {
        image_size: 16,
        frames: 4,
        patch: 4,
        width: 16,
        depth: 1,
        heads: 2,
        hidden: 32,
        ..VideoMaeConfig::small()
    };
    MaskedConfig::of(&Config::from(encoder)).expect("a config")
}

fn saved(folder: &Path, config: &MaskedConfig) -> ParamStore {
    let store = ParamStore::new(9);
    masked::draw(config, &store, &Device::Cpu).expect("a model");
    let more = json!({"trained_on": "noise", "preprocessing": {"resize": "squash"}});
    let serde_json::Value::Object(more) = more else {
        panic!("no object")
    };
    let vars = store.vars();
    let tensors = vars
        .iter()
        .map(|(name, var)| (name.as_str(), var.as_tensor()));
    masked::save(folder, config, more, tensors).expect("saved");
    store
}

#[test]
fn a_folder_of_ours_goes_on_and_its_encoder_is_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("model");
    let config = tiny();
    let store = saved(&folder, &config);
    let (none, families) = (Overrides::default(), Families::default());
    let found = masked::open(&folder, &none, &families).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((&found.config, found.spelling), (&config, OWN));
    assert_eq!(found.ignored, [""; 0]);
    let again = ParamStore::new(1);
    found.take(&again).expect("taken");
    for ((name, want), (_, got)) in store.vars().iter().zip(again.vars()) {
        assert_close(name, got.as_tensor(), want.as_tensor(), 0.0);
    }
    // The encoder alone, strictly, and what was left aside.
    let encoder = open_with(&folder, &none, &families).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((&encoder.config, encoder.spelling), (&config.encoder, OWN));
    encoder.load(&Device::Cpu).unwrap_or_else(|e| panic!("{e}"));
    let aside = config.tensors().into_iter().map(|(name, _)| name);
    let mut aside: Vec<String> = aside.filter(|name| name.starts_with("decoder.")).collect();
    aside.sort();
    assert_eq!(encoder.ignored, aside);
    // Fields of the format are not written over.
    let more = Map::from_iter([("encoder".to_owned(), json!({}))]);
    let error = masked::save(&folder, &config, more, [])
        .expect_err("refused")
        .to_string();
    assert_eq!(error, "config.json: encoder: is one of the format's own");
}

fn refused(folder: &Path) -> String {
    let opened = masked::open(folder, &Overrides::default(), &Families::default());
    let error = match opened {
        Err(error) => error.to_string(),
        Ok(opened) => opened.check().expect_err("faulty").to_string(),
    };
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn what_is_wrong_with_a_folder_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("model");
    let store = saved(&folder, &tiny());
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).expect("read");
    for (from, to, wanted) in [
        (
            "\"mtcae-masked\"",
            "\"mtcae-dfer\"",
            "config.json: format: is not \"mtcae-masked\"",
        ),
        (
            "\"version\": 1",
            "\"version\": 2",
            "config.json: version: should be 1",
        ),
        ("\"masked\"", "\"mask\"", "config.json: masked: missing"),
        (
            "\"ratio\": 0.9",
            "\"ratio\": 1.5",
            "config.json: mask.ratio: ",
        ),
        (
            "\"tube\"",
            "\"cube\"",
            "config.json: masked: unknown variant `cube`",
        ),
        (
            "\"normalised\"",
            "\"normalized\"",
            "config.json: masked: unknown variant",
        ),
        ("\"videomae\"", "\"resnet\"", "config.json: encoder: "),
    ] {
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(&path, text.replacen(from, to, 1)).expect("written");
        let error = refused(&folder);
        assert!(error.contains(wanted), "{error}");
    }
    std::fs::write(&path, &text).expect("written");

    // Tensors that are missing, too many and of another shape, all in one line.
    let mut tensors: BTreeMap<String, Tensor> = store
        .vars()
        .into_iter()
        .map(|(name, var)| (name, var.as_tensor().clone()))
        .collect();
    tensors.remove("decoder.mask_token");
    let one = Tensor::ones(1, DType::F32, &Device::Cpu).expect("ones");
    tensors.insert("decoder.odd".to_owned(), one.clone());
    tensors.insert("encoder.norm.bias".to_owned(), one);
    let pairs = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    weights::save(folder.join("model.safetensors"), pairs, BTreeMap::new()).expect("saved");
    let error = refused(&folder);
    for part in [
        "missing: decoder.mask_token",
        "unexpected: decoder.odd",
        "encoder.norm.bias is [1] and should be [16]",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn files_without_a_decoder_are_refused() {
    let path = |name: &str| -> PathBuf { fixtures().join("checkpoints").join(name) };
    let error = open(&path("videomae-pretrain-args.pth"), 32, 4).expect_err("refused");
    assert!(
        error.contains(
            "decoder.width: there is no config.json and no tensor decoder.embed.weight to tell it"
        ),
        "{error}"
    );
    let error = open(&path("marlin.pt"), 32, 4).expect_err("refused");
    assert!(
        error.contains("the decoder of a checkpoint of marlin is not known here"),
        "{error}"
    );
    // A bare encoder of Hugging Face says its decoder's sizes, and lacks it.
    let bare = open(&path("hf-bare"), 32, 4);
    let error = match bare {
        Err(error) => error,
        Ok(bare) => bare.check().expect_err("faulty").to_string(),
    };
    assert!(
        error.contains("encoder_to_decoder.weight") || error.contains("decoder_"),
        "{error}"
    );
}
