//! Checkpoint folders: what is written is read, and every fault is said.

use candle_core::{Device, Tensor};
use mtcae_model::decoder::{Config as DecoderConfig, Structure, Task};
use mtcae_model::encoder::VideoMaeConfig;
use mtcae_model::{Checkpoint, Config, Mtcae, checkpoint};
use mtcae_nn::ParamStore;

fn config() -> Config {
    let encoder = VideoMaeConfig {
        image_size: 32,
        frames: 4,
        width: 12,
        depth: 1,
        heads: 2,
        hidden: 24,
        ..VideoMaeConfig::small()
    };
    let mut config = Config::new(
        encoder,
        Structure::Cascade,
        vec!["calm".into(), "glad".into()],
    );
    config.decoder = DecoderConfig {
        width: 8,
        depth: 1,
        heads: 2,
        head_dim: 5,
        ..config.decoder
    };
    config
}

fn saved() -> (tempfile::TempDir, ParamStore, Mtcae) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = ParamStore::new(5);
    let model = Mtcae::new(&config(), store.builder(&Device::Cpu)).expect("built");
    save(folder.path(), &store);
    (folder, store, model)
}

fn save(folder: &std::path::Path, store: &ParamStore) {
    let vars = store.vars();
    let tensors = vars
        .iter()
        .map(|(name, var)| (name.as_str(), var.as_tensor()));
    checkpoint::save(folder, &config(), tensors).expect("saved");
}

#[test]
fn a_loaded_model_gives_what_the_saved_one_gives() {
    let (folder, _, model) = saved();
    let loaded = Checkpoint::open(folder.path())
        .and_then(|c| c.model(&Device::Cpu))
        .expect("loaded");
    assert_eq!(loaded.config(), model.config());
    let clip = Tensor::randn(0f32, 1.0, (2, 4, 3, 32, 32), &Device::Cpu).expect("noise");
    let (a, b) = (
        model.forward(&clip).expect("a"),
        loaded.forward(&clip).expect("b"),
    );
    let bits = |t: &Tensor| {
        t.flatten_all()
            .and_then(|t| t.to_vec1::<f32>())
            .expect("values")
    };
    assert_eq!(bits(&a.logits), bits(&b.logits));
    assert_eq!(a.boxes.as_ref().map(bits), b.boxes.as_ref().map(bits));
    assert_eq!(a.boxes.expect("a task").dims(), [2, 4, 4]);
    assert_eq!(a.landmarks.expect("a task").dims(), [2, 4, 5, 2]);
    let mut files: Vec<_> = std::fs::read_dir(folder.path())
        .expect("listed")
        .map(|f| f.expect("entry").file_name())
        .collect();
    files.sort();
    assert_eq!(files, ["card.md", "config.json", "model.safetensors"]);
}

#[test]
fn probabilities_sum_to_one_even_for_huge_logits() {
    let logits = Tensor::new(&[[1000f32, 999.0, -1000.0]], &Device::Cpu).expect("logits");
    let outputs = mtcae_model::Outputs {
        boxes: None,
        landmarks: None,
        action_units: None,
        logits,
        calibration: None,
    };
    let p = outputs
        .probabilities()
        .and_then(|p| Ok(p.to_vec2::<f32>()?))
        .expect("probabilities");
    // σ(1) = 0.7310586
    assert!((p[0][0] - 0.731_058_6).abs() < 1e-6 && (p[0].iter().sum::<f32>() - 1.0).abs() < 1e-6);
}

#[test]
fn faults_name_the_file_and_the_field() {
    type Edit = fn(&mut serde_json::Value);
    let edits: [(&str, Edit, &str); 14] = [
        ("format", |j| j["format"] = "other".into(), "format"),
        ("version", |j| j["version"] = 3.into(), "version"),
        (
            "unknown field",
            |j| j["encoder"]["widht"] = 3.into(),
            "widht",
        ),
        (
            "missing field",
            |j| {
                let decoder = j["decoder"].as_object_mut().expect("an object");
                decoder.remove("depth");
            },
            "depth",
        ),
        (
            "wrong type",
            |j| j["encoder"]["depth"] = "two".into(),
            "two",
        ),
        (
            "widths that disagree",
            |j| j["decoder"]["features"] = 13.into(),
            "the encoder's width is 12",
        ),
        (
            "classes that disagree",
            |j| j["classes"] = vec!["one"].into(),
            "expression has 2 outputs, not 1",
        ),
        ("heads", |j| j["encoder"]["heads"] = 5.into(), "heads"),
        (
            "std of zero",
            |j| j["preprocessing"]["std"] = vec![1.0, 0.0, 1.0].into(),
            "std",
        ),
        (
            "no such sampling",
            |j| j["preprocessing"]["sampling"] = "unifrom".into(),
            "preprocessing.sampling: `unifrom`",
        ),
        (
            "a sampling of any number of frames",
            |j| j["preprocessing"]["sampling"] = "all".into(),
            "preprocessing.sampling: `all`",
        ),
        (
            "no such resize",
            |j| j["preprocessing"]["resize"] = "sqash".into(),
            "preprocessing.resize: `sqash`",
        ),
        (
            "a class twice",
            |j| j["classes"] = vec!["calm", "calm"].into(),
            "classes: \"calm\" is listed twice",
        ),
        (
            "a class without a name",
            |j| j["classes"] = vec!["calm", " "].into(),
            "classes: a name is empty",
        ),
    ];
    for (what, edit, said) in edits {
        let (folder, ..) = saved();
        let path = folder.path().join(checkpoint::CONFIG);
        let mut json =
            serde_json::from_str(&std::fs::read_to_string(&path).expect("read")).expect("json");
        edit(&mut json);
        std::fs::write(&path, json.to_string()).expect("written");
        let error = Checkpoint::open(folder.path())
            .and_then(|c| c.model(&Device::Cpu))
            .expect_err(what)
            .to_string();
        assert!(
            error.contains("config.json") && error.contains(said),
            "{what}: {error}"
        );
    }
}

#[test]
fn all_tensors_at_fault_come_in_one_error() {
    let (folder, store, _) = saved();
    let vars = store.vars();
    let wrong = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).expect("zeros");
    let tensors = vars.iter().map(|(name, var)| match name.as_str() {
        "encoder.norm.weight" => ("stray", var.as_tensor()),
        "decoder.heads.expression.fc.bias" => (name.as_str(), &wrong),
        _ => (name.as_str(), var.as_tensor()),
    });
    checkpoint::save(folder.path(), &config(), tensors).expect("saved");
    let error = Checkpoint::open(folder.path())
        .and_then(|c| c.model(&Device::Cpu))
        .expect_err("faulty")
        .to_string();
    for said in [
        "model.safetensors",
        "encoder.norm.weight",
        "stray",
        "decoder.heads.expression.fc.bias is [3]",
    ] {
        assert!(error.contains(said), "{said}: {error}");
    }
}

#[test]
fn truncated_weights_and_missing_files_are_named() {
    let (folder, ..) = saved();
    let path = folder.path().join(checkpoint::WEIGHTS);
    let whole = std::fs::read(&path).expect("read");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("cut");
    let error = Checkpoint::open(folder.path())
        .and_then(|c| c.model(&Device::Cpu))
        .expect_err("truncated")
        .to_string();
    assert!(
        error.contains("model.safetensors") && error.contains("not a complete"),
        "{error}"
    );
    std::fs::remove_file(&path).expect("removed");
    let error = Checkpoint::open(folder.path())
        .and_then(|c| c.model(&Device::Cpu))
        .expect_err("missing")
        .to_string();
    assert!(error.contains("model.safetensors"), "{error}");
    let error = Checkpoint::open(folder.path().join("nowhere"))
        .and_then(|c| c.model(&Device::Cpu))
        .expect_err("no folder")
        .to_string();
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn a_task_of_another_name_is_refused() {
    let mut config = config();
    config.decoder.tasks.insert(0, Task::new("gaze", 2));
    let error = config.validate().expect_err("unknown task").to_string();
    assert!(error.contains("gaze"), "{error}");
}

/// A model on another's encoder has its weights, its preprocessing and a decoder of its own.
#[test]
fn a_new_model_starts_from_an_encoder() {
    use mtcae_model::encoder::{Families, Overrides, open_with};
    use mtcae_model::init::{Draw, draw, suited_decoder, take_encoder};

    let (folder, old, _) = saved();
    let found =
        open_with(folder.path(), &Overrides::default(), &Families::default()).expect("opened");
    let store = ParamStore::new(6);
    let taken = take_encoder(&found, "old", &Families::default(), &store).expect("taken");
    assert_eq!(taken.preprocessing, config().preprocessing);
    assert_eq!(taken.trained_subjects, None);
    draw(&config(), &store, Draw::Xavier).expect("drawn");
    let values = |store: &ParamStore, name: &str| -> Vec<f32> {
        let vars = store.vars();
        let var = vars.iter().find(|(n, _)| n == name).expect("there");
        var.1.flatten_all().expect("flat").to_vec1().expect("read")
    };
    let same = |name| values(&store, name) == values(&old, name);
    assert!(same("encoder.blocks.0.attn.qkv.weight"));
    assert!(!same("decoder.stages.face_box.dense.weight"));
    assert_eq!(suited_decoder(config().decoder).width, 16);
    assert_eq!(store.vars().len(), old.vars().len());
}

/// A pre-trained folder gives its encoder and what it says of pixels, names what is left out,
/// and is no model by itself.
#[test]
fn a_new_model_starts_from_masked_pretraining() {
    use mtcae_model::encoder::masked::{self, MaskedConfig};
    use mtcae_model::encoder::{Families, Overrides, open_with};
    use mtcae_model::init::take_encoder;

    let folder = tempfile::tempdir().expect("a folder");
    let masked = MaskedConfig::of(&config().encoder).expect("a config");
    let masked = MaskedConfig {
        mask: masked.mask.with_ratio(0.5),
        ..masked
    };
    let old = ParamStore::new(7);
    masked::draw(&masked, &old, &Device::Cpu).expect("drawn");
    let vars = old.vars();
    let save = |more: serde_json::Value| {
        let serde_json::Value::Object(more) = more else {
            panic!("no object")
        };
        let tensors = vars
            .iter()
            .map(|(name, var)| (name.as_str(), var.as_tensor()));
        masked::save(folder.path(), &masked, more, tensors).expect("saved");
    };
    save(serde_json::json!({
        "trained_on": "noise",
        "preprocessing": mtcae_model::Preprocessing {
            mean: [0.5; 3],
            ..mtcae_model::Preprocessing::default()
        },
    }));
    let families = Families::default();
    let found = open_with(folder.path(), &Overrides::default(), &families).expect("opened");
    let store = ParamStore::new(6);
    let taken = take_encoder(&found, "old", &families, &store).expect("taken");
    assert_eq!(taken.preprocessing.mean, [0.5; 3]);
    // It was trained, on whom it does not say.
    assert!(taken.trained_subjects.is_some_and(|s| !s.complete));
    assert!(taken.notes.iter().any(|note| note.starts_with("left out")));
    let of_encoder = vars.iter().filter(|(name, _)| name.starts_with("encoder."));
    assert_eq!(store.vars().len(), of_encoder.count());

    let error = Checkpoint::open(folder.path())
        .err()
        .expect("refused")
        .to_string();
    assert!(
        error.contains("a pre-trained encoder with the decoder that predicts"),
        "{error}"
    );
    save(serde_json::json!({"trained_on": 5}));
    let found = open_with(folder.path(), &Overrides::default(), &families).expect("opened");
    let error = take_encoder(&found, "old", &families, &store)
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("config.json: invalid type: integer `5`"),
        "{error}"
    );
}
