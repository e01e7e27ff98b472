//! Files in the form of `torch.save`, whole and damaged.

use std::io::Write;

use rand::{Rng, SeedableRng};

use super::*;

/// A tensor as `torch.save` would write it: class of the storage, its bytes,
/// offset, shape, stride.
type Saved<'a> = (&'a str, &'a [u8], u8, &'a [u8], &'a [u8]);

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend([b'X', text.len() as u8, 0, 0, 0]);
    out.extend(text.as_bytes());
}

fn numbers(out: &mut Vec<u8>, numbers: &[u8]) {
    out.push(b'(');
    out.extend(numbers.iter().flat_map(|&n| [b'K', n]));
    out.push(b't');
}

/// {"a": tensor, …} of protocol 2; names count from a.
fn pickle(tensors: &[Saved<'_>]) -> Vec<u8> {
    let mut out = b"\x80\x02}(".to_vec();
    for (i, (class, _, offset, shape, stride)) in tensors.iter().enumerate() {
        text(&mut out, &char::from(b'a' + i as u8).to_string());
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{class}\n").as_bytes());
        text(&mut out, &i.to_string());
        text(&mut out, "cpu");
        out.extend([b'K', 1, b't', b'Q', b'K', *offset]);
        numbers(&mut out, shape);
        numbers(&mut out, stride);
        out.extend(b"\x89Nt");
        out.push(b'R');
    }
    out.extend(b"u.");
    out
}

fn file(folder: &Path, tensors: &[Saved<'_>]) -> PathBuf {
    let path = folder.join("saved.pth");
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("saved/data.pkl", stored).unwrap();
    zip.write_all(&pickle(tensors)).unwrap();
    for (i, (_, bytes, ..)) in tensors.iter().enumerate() {
        zip.start_file(format!("saved/data/{i}"), stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    path
}

#[test]
fn every_type_of_element_comes_as_f32() {
    let folder = tempfile::tempdir().unwrap();
    let f32s: Vec<u8> = [1.5f32, -2.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let f64s: Vec<u8> = [1.5f64, -2.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let one = [2u8];
    let step = [1u8];
    let tensors: Vec<Saved<'_>> = vec![
        ("FloatStorage", &f32s, 0, &one, &step),
        ("DoubleStorage", &f64s, 0, &one, &step),
        ("HalfStorage", &[0x00, 0x3e, 0x00, 0xc0], 0, &one, &step),
        ("BFloat16Storage", &[0xc0, 0x3f, 0x00, 0xc0], 0, &one, &step),
    ];
    let file = TorchFile::open(&file(folder.path(), &tensors)).unwrap();
    for (name, (class, ..)) in file.names().iter().zip(&tensors) {
        let got: Vec<f32> = file.load(name, &Device::Cpu).unwrap().to_vec1().unwrap();
        assert_eq!(got, [1.5, -2.0], "{class}");
    }
}

/// Counters and masks lie beside the weights of many models.
#[test]
fn tensors_that_are_no_weights_are_refused_when_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let classes = ["LongStorage", "ByteStorage", "BoolStorage", "QInt8Storage"];
    let zeros = [0; 8];
    let saved: Vec<Saved<'_>> = classes
        .iter()
        .map(|&class| (class, &zeros[..], 0, &[1][..], &[1][..]))
        .collect();
    let file = TorchFile::open(&file(folder.path(), &saved)).unwrap();
    for (name, class) in file.names().iter().zip(classes) {
        assert_eq!(file.shape(name), Some(vec![1]));
        let error = file.load(name, &Device::Cpu).unwrap_err().to_string();
        let said = format!("saved.pth: tensor {name}: its elements are a {class}; those of");
        assert!(
            error.contains(&said) && error.contains("F32, F16"),
            "{error}"
        );
    }
}

#[test]
fn strided_tensors_are_gathered() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..24).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let tensors: Vec<Saved<'_>> = vec![
        // arange(24)[2:].as_strided((2, 3), (1, 4)), a transposed slice
        ("FloatStorage", &bytes, 2, &[2, 3], &[1, 4]),
        // (4, 3, 2).permute(2, 0, 1)
        ("FloatStorage", &bytes, 0, &[2, 4, 3], &[1, 6, 2]),
        // One element in a dimension of a senseless step; a scalar; nothing.
        ("FloatStorage", &bytes, 1, &[1, 3], &[255, 1]),
        ("FloatStorage", &bytes, 23, &[], &[]),
        ("FloatStorage", &bytes, 24, &[0, 3], &[3, 1]),
    ];
    let file = TorchFile::open(&file(folder.path(), &tensors)).unwrap();
    let values = |name: &str| -> Vec<f32> {
        let tensor = file.load(name, &Device::Cpu).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    };
    assert_eq!(values("a"), [2., 6., 10., 3., 7., 11.]);
    let permuted = Tensor::arange(0f32, 24., &Device::Cpu)
        .and_then(|t| t.reshape((4, 3, 2))?.permute((2, 0, 1))?.flatten_all())
        .unwrap();
    assert_eq!(values("b"), permuted.to_vec1::<f32>().unwrap());
    assert_eq!(values("c"), [1., 2., 3.]);
    assert_eq!(values("d"), [23.]);
    assert_eq!(file.shape("e"), Some(vec![0, 3]));
}

#[test]
fn tensors_that_do_not_fit_their_storage_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = [0u8; 16];
    let cases: [(Saved<'_>, &str); 3] = [
        (
            ("HalfStorage", &bytes, 1, &[8], &[1]),
            "beyond its storage 0",
        ),
        (
            ("FloatStorage", &bytes, 0, &[5], &[1]),
            "beyond its storage 0",
        ),
        (("FloatStorage", &bytes, 0, &[9, 9], &[0, 0]), "overlap"),
    ];
    for (tensor, wanted) in cases {
        let path = file(folder.path(), &[tensor]);
        let error = TorchFile::open(&path).err().expect(wanted).to_string();
        assert!(
            error.contains("saved.pth: tensor a: ") && error.contains(wanted),
            "{error}"
        );
    }
}

/// Mutated pickles of real checkpoints: whatever comes out, nothing panics.
#[test]
fn mutated_pickles_never_panic() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let folder = mtcae_testing::fixtures().join("checkpoints");
    for name in ["videomae-pretrain-args", "marlin"] {
        let path = [".pth", ".ckpt"]
            .map(|e| folder.join(format!("{name}{e}")))
            .into_iter()
            .find(|p| p.exists())
            .unwrap();
        let file = File::open(path).unwrap();
        let mut whole = Vec::new();
        each_entry(&file, |entry, found| {
            if entry.ends_with("data.pkl") {
                whole = content(&file, entry, found, 1 << 20)?;
            }
            Ok(())
        })
        .unwrap();
        machine::read(&whole).unwrap();
        for round in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..1 + round % 8 {
                let at = rng.random_range(0..bytes.len());
                match round % 3 {
                    0 => bytes[at] = rng.random(),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, rng.random()),
                }
            }
            if let Ok(pickle) = machine::read(&bytes)
                && let Ok(items) = state_dict(&pickle)
            {
                for (_, value) in items {
                    if let Some(Object::Tensor(tensor)) = pickle.object(*value) {
                        drop(Entry::new(tensor, Some(&Ok((0, 1 << 20)))));
                    }
                }
            }
        }
    }
}
