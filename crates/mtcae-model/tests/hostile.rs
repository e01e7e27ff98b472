//! Configs that ask for what no file holds: refused in one line, before memory for it is
//! had. Without that check these panic, abort or take all memory.

use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use mtcae_model::decoder::Structure;
use mtcae_model::encoder::{Families, VideoMaeConfig};
use mtcae_model::{Checkpoint, Config, Error, Mtcae, Precision, checkpoint};
use mtcae_nn::{ParamStore, Pass};
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

fn config() -> Config {
    let encoder = VideoMaeConfig {
        image_size: 32,
        frames: 4,
        width: 16,
        depth: 1,
        heads: 2,
        hidden: 32,
        ..VideoMaeConfig::small()
    };
    let classes = vec!["calm".to_owned(), "glad".to_owned()];
    let mut config = Config::new(encoder, Structure::Cascade, classes);
    let decoder = &mut config.decoder;
    (
        decoder.width,
        decoder.depth,
        decoder.heads,
        decoder.head_dim,
    ) = (12, 1, 2, 5);
    config
}

/// A folder of this config, and the config as JSON.
fn saved() -> (tempfile::TempDir, Value) {
    let (folder, store) = (tempfile::tempdir().expect("a folder"), ParamStore::new(3));
    Mtcae::new(&config(), store.builder(&Device::Cpu)).expect("built");
    let vars = store.vars();
    let tensors = vars.iter().map(|(n, v)| (n.as_str(), v.as_tensor()));
    checkpoint::save(folder.path(), &config(), tensors).expect("saved");
    (folder, serde_json::to_value(config()).expect("json"))
}

fn write(folder: &Path, json: &Value) {
    std::fs::write(folder.join(checkpoint::CONFIG), json.to_string()).expect("written");
}

/// What loading says, in both ways.
fn refused(folder: &Path, what: &str) -> String {
    let before = Instant::now();
    let plan = Checkpoint::open(folder)
        .and_then(|c| c.engine(&Device::Cpu, Precision::F32))
        .expect_err(what);
    let model = Checkpoint::open(folder)
        .and_then(|c| c.model(&Device::Cpu))
        .expect_err(what);
    assert!(before.elapsed() < Duration::from_secs(5), "{what}");
    let said = plan.to_string();
    assert_eq!(said, model.to_string(), "{what}");
    assert!(said.len() < 1500 && !said.contains('\n'), "{what}: {said}");
    said
}

#[test]
fn sizes_without_bounds_are_refused_by_their_field() {
    let (folder, whole) = saved();
    let huge = json!(1u64 << 60);
    for (part, field, value) in [
        ("decoder", "width", huge.clone()),
        ("decoder", "width", json!(u64::MAX)),
        ("decoder", "depth", json!(1u64 << 40)),
        ("decoder", "heads", json!((1u64 << 60) + 2)),
        ("decoder", "head_dim", json!((1u64 << 63) + 5)),
        ("decoder", "mlp_ratio", json!(1e300)),
        ("decoder", "mlp_ratio", json!(1e9)),
        ("decoder", "features", huge.clone()),
        ("encoder", "width", huge.clone()),
        ("encoder", "depth", json!(1u64 << 40)),
        ("encoder", "hidden", huge.clone()),
        ("encoder", "heads", huge.clone()),
        ("encoder", "frames", huge.clone()),
        ("encoder", "image_size", json!(1u64 << 40)),
        ("encoder", "channels", json!(1u64 << 40)),
    ] {
        let mut json = whole.clone();
        json[part][field] = value;
        write(folder.path(), &json);
        let said = refused(folder.path(), field);
        assert!(
            said.contains("config.json: ") && said.contains(field),
            "{field}: {said}"
        );
    }
}

/// Values within their bounds that the file's tensors do not have.
#[test]
fn shapes_that_no_file_holds_are_refused_before_they_are_packed() {
    let (folder, whole) = saved();
    for (part, field, value, said) in [
        ("decoder", "width", json!(8000), "wrong shape: "),
        ("decoder", "depth", json!(128), "missing: "),
        ("decoder", "head_dim", json!(4096), "wrong shape: "),
        ("decoder", "mlp_ratio", json!(20_000.0), "wrong shape: "),
        ("encoder", "depth", json!(1024), "missing: "),
        ("encoder", "hidden", json!(1 << 18), "wrong shape: "),
        // Only the table of positions would grow, which is computed.
        ("encoder", "position", json!("stored"), "encoder.pos_embed"),
    ] {
        let mut json = whole.clone();
        json[part][field] = value;
        write(folder.path(), &json);
        let found = refused(folder.path(), field);
        assert!(
            found.contains("model.safetensors: ") && found.contains(said),
            "{field}: {found}"
        );
    }
}

#[test]
fn random_sizes_never_panic() {
    let (folder, whole) = saved();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let fields = [
        ("encoder", "image_size"),
        ("encoder", "frames"),
        ("encoder", "channels"),
        ("encoder", "patch"),
        ("encoder", "tubelet"),
        ("encoder", "width"),
        ("encoder", "depth"),
        ("encoder", "heads"),
        ("encoder", "hidden"),
        ("decoder", "features"),
        ("decoder", "width"),
        ("decoder", "depth"),
        ("decoder", "heads"),
        ("decoder", "head_dim"),
        ("decoder", "mlp_ratio"),
    ];
    for _ in 0..1000 {
        let mut json = whole.clone();
        for _ in 0..rng.random_range(1..4) {
            let (part, field) = fields[rng.random_range(0..fields.len())];
            let value = rng.random::<u64>() >> rng.random_range(0..64);
            json[part][field] = value.into();
        }
        write(folder.path(), &json);
        if let Err(error) =
            Checkpoint::open(folder.path()).and_then(|c| c.engine(&Device::Cpu, Precision::F32))
        {
            let said = error.to_string();
            assert!(!said.contains('\n') && said.len() < 2000, "{said}");
        }
    }
}

#[test]
fn folders_that_are_something_else_say_what() {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join(checkpoint::CONFIG);
    std::fs::write(&path, r#"{"model_type": "videomae", "hidden_size": 16}"#).expect("written");
    // Where one of ours is needed.
    let error = checkpoint::read_config(&path, &Families::default()).expect_err("another's");
    let said = error.to_string();
    assert!(matches!(error, Error::HuggingFace { .. }), "{said}");
    assert!(
        said.contains("\"videomae\"") && said.contains("`mtcae init --encoder`"),
        "{said}"
    );
    // As a classifier it is read, and has no weights.
    let error = Checkpoint::open(root.path()).map(drop);
    let said = error.expect_err("no weights").to_string();
    assert!(said.contains("none of model.safetensors"), "{said}");

    std::fs::remove_file(&path).expect("removed");
    let (saved, _) = saved();
    let model = root.path().join("model");
    std::fs::rename(saved.path(), &model).expect("moved");
    let error = Checkpoint::open(root.path()).map(drop).expect_err("a run");
    let said = error.to_string();
    assert!(matches!(error, Error::TrainingRun { .. }), "{said}");
    assert!(said.ends_with(&model.display().to_string()), "{said}");
    std::fs::create_dir(saved.path()).expect("for its guard to remove");
}

#[cfg(unix)]
#[test]
fn a_pipe_for_a_config_does_not_block() {
    let (folder, _) = saved();
    let path = folder.path().join(checkpoint::CONFIG);
    std::fs::remove_file(&path).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("run").success());
    assert!(refused(folder.path(), "a pipe").contains("not a regular file"));
}

#[test]
fn bf16_on_the_cpu_points_to_packed_weights() {
    let (folder, _) = saved();
    let checkpoint = Checkpoint::open(folder.path()).expect("opened");
    let model = checkpoint.model(&Device::Cpu).expect("loaded");
    let tubes = Tensor::zeros((1, 8, 1536), DType::BF16, &Device::Cpu).expect("zeros");
    let said = model
        .run(&tubes, &mut Pass::inference())
        .expect_err("refused")
        .to_string();
    assert!(said.contains("packed weights compute in bf16"), "{said}");
}
