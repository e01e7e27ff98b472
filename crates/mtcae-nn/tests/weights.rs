//! Files of weights that are not what they should be: one clear error, at once, and
//! without memory.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mtcae_nn::candle_core::{self, DType, Device, Tensor};
use mtcae_nn::weights::{
    Error, Faults, InMemory, Source, TensorFile, asked_for, compare, load_strict, recorded, save,
};
use mtcae_nn::{CrossAttention, LayerNorm, ParamStore, VarBuilder, linear};
use rand::{Rng, SeedableRng};

/// A file of this header and as many zeros.
fn file(folder: &Path, header: &str, zeros: usize) -> PathBuf {
    let path = folder.join("m.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + zeros, 0);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn refused(path: &Path) -> String {
    let error = TensorFile::open(path).err().expect("refused").to_string();
    assert!(error.contains("m.safetensors") && !error.contains('\n'));
    assert!(error.len() < 500, "{error}");
    error
}

#[test]
fn a_header_of_a_million_tensors_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let header = |tensors: usize| {
        let entries: Vec<String> = (0..tensors)
            .map(|i| format!(r#""{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#))
            .collect();
        format!("{{{}}}", entries.join(","))
    };
    let path = file(folder.path(), &header(1_000_000), 0);
    let before = Instant::now();
    let error = refused(&path);
    assert!(error.contains("its header of"), "{error}");
    assert!(before.elapsed() < Duration::from_secs(1));
    let error = refused(&file(folder.path(), &header(70_000), 0));
    assert!(error.contains("more than 65536 tensors"), "{error}");
    TensorFile::open(file(folder.path(), &header(60_000), 0)).unwrap();
}

#[test]
fn headers_that_claim_what_is_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let huge = u64::MAX / 8;
    for (header, zeros, said) in [
        ("{}".to_owned(), 4, "take 0 bytes"),
        ("[]".to_owned(), 0, "table of tensors"),
        (
            r#"{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}"#.to_owned(),
            32,
            "take 36 bytes and there are 32",
        ),
        (
            format!(r#"{{"a":{{"dtype":"F32","shape":[{huge},8],"data_offsets":[0,32]}}}}"#),
            32,
            "its header",
        ),
        (
            r#"{"a\nb":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#.to_owned(),
            4,
            "F33",
        ),
        (
            format!(
                r#"{{"{}":{{"shape":[1],"data_offsets":[0,4]}}}}"#,
                "n".repeat(100_000)
            ),
            4,
            "nnnn",
        ),
    ] {
        let error = refused(&file(folder.path(), &header, zeros));
        assert!(error.contains(said), "{said}: {error}");
    }
    let path = folder.path().join("m.safetensors");
    std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert!(refused(&path).contains("beyond its end"));
}

#[test]
fn integers_are_no_weights_but_may_lie_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let header = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "count":{"dtype":"I64","shape":[1],"data_offsets":[4,12]},
        "mask":{"dtype":"BOOL","shape":[4],"data_offsets":[12,16]}}"#;
    let opened = TensorFile::open(file(folder.path(), header, 16)).unwrap();
    assert_eq!(opened.names(), ["count", "mask", "w"]);
    opened.load("w", &Device::Cpu).unwrap();
    for (name, kind) in [("count", "I64"), ("mask", "BOOL")] {
        let error = opened.load(name, &Device::Cpu).unwrap_err().to_string();
        let said = format!("m.safetensors: tensor {name}: its elements are {kind}; those of");
        assert!(
            error.contains(&said) && error.contains("F32, F16"),
            "{error}"
        );
    }
}

#[test]
fn every_type_of_weight_comes_as_f32() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let values = Tensor::new(&[[1.5f32, -2.0], [0.0, 0.5]], &Device::Cpu).unwrap();
    let types = [
        DType::F64,
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::F8E4M3,
    ];
    for dtype in types {
        let tensor = values.to_dtype(dtype).unwrap();
        save(&path, [("t", &tensor)], BTreeMap::new()).unwrap();
        let opened = TensorFile::open(&path).unwrap();
        let loaded = opened.load("t", &Device::Cpu).unwrap();
        assert_eq!(loaded.to_vec2::<f32>().unwrap(), [[1.5, -2.0], [0.0, 0.5]]);
    }
}

/// Larger than what is read at a time, so that pieces of it have to fit each other.
#[test]
fn large_tensors_come_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let count = Tensor::arange(0f32, 300_000.0, &Device::Cpu).unwrap();
    let one = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
    let tensors = [("first", &one), ("t", &count), ("then", &one)];
    save(&path, tensors, BTreeMap::new()).unwrap();
    let loaded = TensorFile::open(&path).unwrap();
    let loaded = loaded.load("t", &Device::Cpu).unwrap();
    let both = [&count, &loaded].map(|t| t.to_vec1::<f32>().unwrap());
    assert!(both[0] == both[1]);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let tensor = Tensor::ones(200_000, DType::F32, &Device::Cpu).unwrap();
    let fresh = || {
        save(&path, [("a", &tensor), ("b", &tensor)], BTreeMap::new()).unwrap();
        let opened = TensorFile::open(&path).unwrap();
        opened.load("a", &Device::Cpu).unwrap();
        opened
    };
    let refused = |opened: TensorFile| {
        let error = opened.load("b", &Device::Cpu).unwrap_err().to_string();
        let said = "m.safetensors: tensor b: the file was changed while it was read";
        assert!(error.ends_with(said), "{error}");
    };
    let write = || std::fs::OpenOptions::new().write(true).open(&path).unwrap();

    let opened = fresh();
    write().set_len(1000).unwrap();
    refused(opened);

    // Of the same length, and back at the old one.
    let opened = fresh();
    let length = std::fs::metadata(&path).unwrap().len();
    write().set_len(length - 4).unwrap();
    write().set_len(length).unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(1);
    write().set_modified(later).unwrap();
    refused(opened);

    // Another file under its name is none of its business.
    let opened = fresh();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"another").unwrap();
    opened.load("b", &Device::Cpu).unwrap();
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    assert!(refused(&path).contains("not a regular file"));
    assert!(TensorFile::open("/dev/zero").is_err());
}

#[test]
fn long_lists_of_names_are_cut() {
    let faults = Faults {
        origin: "a.safetensors".to_owned(),
        missing: (0..11).map(|i| format!("m{i}")).collect(),
        unexpected: vec!["a\nb".to_owned(), "n".repeat(5000)],
        misshapen: (0..1_000_000)
            .map(|i| (format!("s{i}"), vec![1], vec![2]))
            .collect(),
    };
    let said = faults.to_string();
    assert!(
        said.contains("missing: m0, m1, ") && said.contains("m9 and 1 more; "),
        "{said}"
    );
    assert!(
        said.contains("s9 is [2] and should be [1] and 999990 more"),
        "{said}"
    );
    assert!(said.len() < 2000 && !said.contains('\n'), "{said}");
}

fn model(vb: VarBuilder<'_>) -> candle_core::Result<()> {
    LayerNorm::new(8, 1e-6, vb.pp("norm"))?;
    CrossAttention::new(8, 2, 3, vb.pp("attn"))?;
    linear(8, 1 << 40, vb.pp("head"))?;
    Ok(())
}

#[test]
fn what_a_model_asks_for_is_told_without_its_memory() {
    let wanted = asked_for(model).unwrap();
    let shape = |name: &str| wanted.iter().find(|(n, _)| n == name).unwrap().1.clone();
    assert_eq!(shape("attn.kv.weight"), [12, 8]);
    assert_eq!(shape("head.weight"), [1 << 40, 8]);
    assert_eq!(wanted.len(), 2 + 6 + 2);

    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let fitting = wanted.iter().filter(|(n, _)| !n.starts_with("head"));
    let mut tensors: BTreeMap<String, Tensor> =
        fitting.map(|(n, s)| (n.clone(), zeros(s))).collect();
    tensors.insert("head.bias".to_owned(), zeros(&[4]));
    tensors.insert("odd".to_owned(), zeros(&[1]));
    let source = InMemory::new("a map", tensors);
    let Error::Tensors(faults) = compare(&source, wanted).unwrap_err() else {
        panic!("another error")
    };
    assert_eq!(faults.missing, ["head.weight"]);
    assert_eq!(faults.unexpected, ["odd"]);
    let bias = ("head.bias".to_owned(), vec![1 << 40], vec![4]);
    assert_eq!(faults.misshapen, [bias]);
}

#[test]
fn a_record_names_tensors_below_its_builder_and_shares_their_memory() {
    let store = ParamStore::new(1);
    let (vb, record) = recorded(&store.builder(&Device::Cpu).pp("part"));
    linear(2, 2, vb.pp("fc")).unwrap();
    let tensors = record.take();
    let names: Vec<&str> = tensors.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["fc.bias", "fc.weight"]);
    let ones = Tensor::ones(2, DType::F32, &Device::Cpu).unwrap();
    store.set("part.fc.bias", &ones).unwrap();
    assert_eq!(tensors[0].1.to_vec1::<f32>().unwrap(), [1.0; 2]);
}

/// An error that is neither Candle's nor this crate's.
#[derive(Debug, PartialEq)]
enum Own {
    Weights(String),
    Odd,
}

impl From<Error> for Own {
    fn from(error: Error) -> Self {
        Self::Weights(error.to_string())
    }
}

#[test]
fn a_builder_may_fail_with_an_error_of_its_own() {
    let source = InMemory::new("a map", []);
    let odd = load_strict(&source, &Device::Cpu, |_| Err::<(), _>(Own::Odd));
    assert_eq!(odd, Err(Own::Odd));
    let missing = load_strict(&source, &Device::Cpu, |vb| match vb.get(1, "gone") {
        Ok(_) => Ok(()),
        Err(_) => Err(Own::Odd),
    });
    let Err(Own::Weights(said)) = missing else {
        panic!("{missing:?}")
    };
    assert!(said.contains("missing: gone"), "{said}");
    let boxed = load_strict(&source, &Device::Cpu, |_| {
        Err::<(), Box<dyn std::error::Error>>("as a text".into())
    });
    assert_eq!(boxed.unwrap_err().to_string(), "as a text");
}

/// Whatever is done to a header, nothing panics, and what opens can be read.
#[test]
fn mutated_headers_never_panic() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let tensor = Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
    let text = [("k".to_owned(), "v".to_owned())].into();
    save(&path, [("a.weight", &tensor), ("b", &tensor)], text).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut opened = 0;
    for round in 0..1500 {
        let mut bytes = whole.clone();
        for _ in 0..1 + round % 4 {
            let at = rng.random_range(0..bytes.len());
            match round % 5 {
                0 => bytes[at] = rng.random(),
                1 => bytes[at] = *b"0123456789-[]{}\",:".get(at % 18).unwrap(),
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, rng.random_range(b'0'..=b'9')),
                _ => bytes.truncate(at + 1),
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        match TensorFile::open(&path) {
            Ok(file) => {
                opened += 1;
                for name in file.names() {
                    drop(file.load(&name, &Device::Cpu));
                }
            }
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
    assert!((30..1470).contains(&opened), "{opened}");
}
