//! Bad input: one clear line that names the file and the fault, and no panic; and
//! nothing that is left out of a file is left out silently.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mtcae_encoder::candle_core::{DType, Device, Tensor};
use mtcae_encoder::{Checkpoint, Error, Families, OWN, Overrides, Preprocessing, open_with};
use mtcae_nn::Pass;
use mtcae_nn::weights::{self, Source, TensorFile, save};
use mtcae_testing::{Fixture, assert_close, fixtures};
use rand::{Rng, SeedableRng};

fn checkpoints() -> PathBuf {
    fixtures().join("checkpoints")
}

fn tiny() -> Overrides {
    Overrides {
        heads: Some(4),
        image_size: Some(32),
        frames: Some(4),
        ..Overrides::default()
    }
}

fn opened(path: &Path) -> Checkpoint {
    open_with(path, &tiny(), &Families::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// A copy of the folder `hf-old` with its tensors changed.
fn changed(change: impl Fn(&mut BTreeMap<String, Tensor>)) -> tempfile::TempDir {
    let (from, to) = (checkpoints().join("hf-old"), tempfile::tempdir().unwrap());
    for file in ["config.json", "preprocessor_config.json"] {
        std::fs::copy(from.join(file), to.path().join(file)).unwrap();
    }
    let mapped = TensorFile::open(from.join("model.safetensors")).unwrap();
    let mut tensors = mapped
        .names()
        .into_iter()
        .map(|name| {
            let tensor = mapped.load(&name, &Device::Cpu).unwrap();
            (name, tensor)
        })
        .collect();
    change(&mut tensors);
    write(&to.path().join("model.safetensors"), &tensors);
    to
}

fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    let tensors = tensors.iter().map(|(n, t)| (n.as_str(), t));
    save(path, tensors, BTreeMap::new()).unwrap();
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

const LAYER: &str = "videomae.encoder.layer";

#[test]
fn all_faults_come_in_one_error_under_the_names_of_the_file() {
    let folder = changed(|t| {
        t.remove(&format!("{LAYER}.0.attention.attention.q_bias"));
        t.remove(&format!("{LAYER}.1.attention.attention.key.weight"));
        t.insert("videomae.surprise.weight".into(), zeros(&[3]));
        t.insert(format!("{LAYER}.2.output.dense.bias"), zeros(&[16]));
        t.insert("videomae.layernorm.weight".into(), zeros(&[17]));
        // As many elements in another order: a transposed kernel.
        let kernel = "videomae.embeddings.patch_embeddings.projection.weight";
        t.insert(kernel.into(), zeros(&[16, 2, 3, 16, 16]));
        let value = format!("{LAYER}.0.attention.attention.value.weight");
        t.insert(value, zeros(&[32, 16]));
    });
    let error = opened(folder.path()).load(&Device::Cpu).unwrap_err();
    let text = error.to_string();
    let Error::Weights(weights::Error::Tensors(faults)) = error else {
        panic!("{text}")
    };
    assert_eq!(
        faults.missing,
        [
            format!(
                "{LAYER}.0.attention.attention.q_bias or {LAYER}.0.attention.attention.query.bias"
            ),
            format!("{LAYER}.1.attention.attention.key.weight"),
        ]
    );
    assert_eq!(
        faults.unexpected,
        [
            format!("{LAYER}.2.output.dense.bias"),
            "videomae.surprise.weight".to_owned()
        ]
    );
    let kernel = "videomae.embeddings.patch_embeddings.projection.weight";
    let value = format!("{LAYER}.0.attention.attention.value.weight");
    assert_eq!(
        faults.misshapen,
        [
            (
                kernel.to_owned(),
                vec![16, 3, 2, 16, 16],
                vec![16, 2, 3, 16, 16]
            ),
            (value, vec![16, 16], vec![32, 16]),
            ("videomae.layernorm.weight".to_owned(), vec![16], vec![17]),
        ]
    );
    assert!(
        text.contains("model.safetensors") && !text.contains('\n'),
        "{text}"
    );
}

#[test]
fn biases_of_keys_are_taken_only_when_they_are_zero() {
    let name = format!("{LAYER}.1.attention.attention.key.bias");
    let folder = changed(|t| {
        t.insert(name.clone(), zeros(&[16]));
    });
    let checkpoint = opened(folder.path());
    assert_eq!(checkpoint.ignored, [name.as_str()]);
    checkpoint.load(&Device::Cpu).unwrap();

    let folder = changed(|t| {
        t.insert(name.clone(), (zeros(&[16]) + 1e-3).unwrap());
    });
    let error = open_with(folder.path(), &tiny(), &Families::default())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains(&name) && error.contains("model.safetensors"),
        "{error}"
    );
}

#[test]
fn what_is_not_the_encoders_is_listed() {
    let ignored = |name: &str| opened(&checkpoints().join(name)).ignored;
    assert!(ignored("hf-old").is_empty());
    assert_eq!(
        ignored("videomae-finetune.pth"),
        ["fc_norm.bias", "fc_norm.weight", "head.bias", "head.weight"]
    );
    assert_eq!(
        ignored("hf-finetuned"),
        [
            "classifier.bias",
            "classifier.weight",
            "fc_norm.bias",
            "fc_norm.weight"
        ]
    );
    assert_eq!(
        ignored("marlin.ckpt"),
        [
            "discriminator.0.linear.bias",
            "discriminator.0.linear.weight"
        ]
    );
    for name in ["hf-pretraining", "videomae-pretrain.pth", "marlin.pt"] {
        let names = ignored(name);
        assert!(names.iter().any(|n| n.starts_with("decoder.")), "{names:?}");
        assert!(names.iter().any(|n| n.ends_with("mask_token")), "{names:?}");
    }
}

#[test]
fn preprocessing_is_the_checkpoints() {
    let of = |name: &str| opened(&checkpoints().join(name)).preprocessing;
    let imagenet = Preprocessing::imagenet();
    assert_eq!(of("hf-new").unwrap().mean, imagenet.mean);
    assert_eq!(of("hf-finetuned-old").unwrap().std, [0.5; 3]);
    assert_eq!(of("videomae-pretrain.pth"), Some(imagenet));
    assert_eq!(of("marlin-hf"), Some(Preprocessing::plain()));
    assert_eq!(of("weights.safetensors"), None);
}

#[test]
fn a_size_that_nothing_tells_is_asked_for() {
    let path = checkpoints().join("videomae-pretrain.pth");
    let error = mtcae_encoder::open(&path).err().unwrap().to_string();
    assert!(error.contains("videomae-pretrain.pth: neither"), "{error}");
    assert!(error.contains("how many attention heads"), "{error}");
    assert!(error.contains("width 16 is none"), "{error}");
}

#[test]
fn a_file_without_its_config_tells_the_rest_by_its_shapes() {
    let folder = changed(|_| {});
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let inferred = opened(folder.path());
    assert_eq!(
        inferred.config,
        opened(&checkpoints().join("hf-old")).config
    );
    inferred.load(&Device::Cpu).unwrap();
}

#[test]
fn files_that_are_no_checkpoints_get_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path, wanted: &str| {
        let error = open_with(path, &tiny(), &Families::default())
            .err()
            .unwrap()
            .to_string();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(error.contains(&name) && error.contains(wanted), "{error}");
        assert!(!error.contains('\n'), "{error}");
    };
    refused(&checkpoints().join("legacy-pickle.pth"), "before 1.6");
    refused(&folder.path().join("gone.pth"), "o such file");
    refused(folder.path(), "the folder has none of model.safetensors");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    refused(&write("empty.safetensors", b""), "safetensors");
    refused(&write("text.pth", b"hello"), "safetensors");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    refused(&write("pointer.safetensors", pointer), "Git LFS");
    for (name, wanted) in [
        ("hf-old/model.safetensors", "safetensors"),
        ("marlin.pt", "zip"),
    ] {
        let whole = std::fs::read(checkpoints().join(name)).unwrap();
        for length in [9, 100, whole.len() / 2, whole.len() - 1] {
            refused(&write("cut.bin", &whole[..length]), wanted);
        }
    }
    let other = Path::new("no-encoder.safetensors");
    let path = folder.path().join(other);
    self::write(
        &path,
        &BTreeMap::from([("conv.weight".to_owned(), zeros(&[2]))]),
    );
    refused(&path, "no encoder of a known family");
}

#[test]
fn a_wrong_config_is_named_with_its_file_and_field() {
    let folder = changed(|_| {});
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, wanted) in [
        ("\"hidden_size\": 16", "\"hidden_size\": 1.5", "hidden_size"),
        ("\"num_frames\"", "\"frames\"", "num_frames"),
        ("\"gelu\"", "\"relu\"", "hidden_act"),
        ("{", "", "config.json"),
    ] {
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = open_with(folder.path(), &Overrides::default(), &Families::default())
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("config.json: ") && error.contains(wanted),
            "{error}"
        );
    }
}

#[test]
fn inputs_of_another_size_are_named() {
    let encoder = opened(&checkpoints().join("hf-new"))
        .load(&Device::Cpu)
        .unwrap();
    let clips = encoder.forward(&zeros(&[1, 3, 4, 32, 32])).unwrap_err();
    let want = "clips have shape [1, 3, 4, 32, 32], the encoder takes (B, 4, 3, 32, 32)";
    assert_eq!(clips.to_string(), want);
    let run = |shape: &[usize]| encoder.run(&zeros(shape), &mut Pass::inference());
    let tubes = run(&[8, 1536]).unwrap_err();
    assert!(tubes.to_string().contains("(B, 8, 1536)"), "{tubes}");
    for empty in [
        encoder.forward(&zeros(&[0, 4, 3, 32, 32])),
        run(&[0, 8, 1536]),
    ] {
        assert!(empty.is_err());
    }
    assert!(run(&[1, 8, 15]).is_err());
}

/// A folder of the whole model opens too: its encoder lies under `encoder`.
#[test]
fn our_own_folder_and_sharded_folders_open() {
    let expected = Fixture::load("checkpoints/expected-videomae.safetensors");
    let features = |checkpoint: &Checkpoint| {
        let encoder = checkpoint.load(&Device::Cpu).unwrap();
        encoder.forward(expected.get("input.video")).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = Fixture::load("checkpoints/weights.safetensors").below("");
    tensors.insert("decoder.stages.1.norm.weight".into(), zeros(&[4]));
    write(&folder.path().join("model.safetensors"), &tensors);
    let config = opened(&checkpoints().join("weights.safetensors")).config;
    let json = serde_json::to_string(&config).unwrap();
    let path = folder.path().join("config.json");
    for text in [
        json.clone(),
        format!(r#"{{"format": "mtcae-dfer", "encoder": {json}, "decoder": {{}}}}"#),
    ] {
        std::fs::write(&path, text).unwrap();
        let checkpoint = mtcae_encoder::open(folder.path()).unwrap();
        assert_eq!(checkpoint.spelling, OWN);
        assert_eq!(checkpoint.ignored, ["decoder.stages.1.norm.weight"]);
        // As in tests/parity.rs.
        assert_close("F", &features(&checkpoint), expected.get("trace.F"), 1e-5);
    }
    std::fs::write(&path, json.replace("\"depth\"", "\"layers\"")).unwrap();
    let error = mtcae_encoder::open(folder.path())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("config.json: ") && error.contains("layers"),
        "{error}"
    );

    let split = tempfile::tempdir().unwrap();
    let (first, second): (BTreeMap<_, _>, BTreeMap<_, _>) = tensors
        .into_iter()
        .partition(|(name, _)| name.contains("blocks.0"));
    write(&split.path().join("a.safetensors"), &first);
    write(&split.path().join("b.safetensors"), &second);
    let map: BTreeMap<&String, &str> = first
        .keys()
        .map(|n| (n, "a.safetensors"))
        .chain(second.keys().map(|n| (n, "b.safetensors")))
        .collect();
    let index = split.path().join("model.safetensors.index.json");
    let text = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    std::fs::write(&index, &text).unwrap();
    std::fs::write(split.path().join("config.json"), &json).unwrap();
    let checkpoint = mtcae_encoder::open(split.path()).unwrap();
    assert_close("F", &features(&checkpoint), expected.get("trace.F"), 1e-5);
    for wrong in ["../a.safetensors", "", "/etc/passwd"] {
        std::fs::write(&index, text.replace("a.safetensors", wrong)).unwrap();
        let error = mtcae_encoder::open(split.path()).err().unwrap().to_string();
        assert!(error.contains("weight_map"), "{error}");
    }
}

/// Damaged files of every container: an error or a checkpoint, never a panic.
#[test]
fn damaged_files_never_panic() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let folder = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for name in [
        "videomae-pretrain-args.pth",
        "marlin.ckpt",
        "hf-old/model.safetensors",
    ] {
        let whole = std::fs::read(checkpoints().join(name)).unwrap();
        let path = folder.path().join("damaged");
        for round in 0..700 {
            let mut bytes = whole.clone();
            for _ in 0..1 + round % 5 {
                // Mostly where the structure is: at both ends.
                let reach = if round % 3 == 0 { bytes.len() } else { 4500 };
                let mut at = rng.random_range(0..reach.min(bytes.len()));
                if round % 3 == 1 {
                    at = bytes.len() - 1 - at;
                }
                bytes[at] = rng.random();
            }
            if round % 7 == 0 {
                bytes.truncate(rng.random_range(0..bytes.len()));
            }
            std::fs::write(&path, &bytes).unwrap();
            let loaded =
                open_with(&path, &tiny(), &Families::default()).and_then(|c| c.load(&Device::Cpu));
            if let Err(error) = loaded {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    // Bytes of weights may change unseen; those of structure may not.
    assert!(refused > 700, "only {refused} of 2100 were refused");
}
