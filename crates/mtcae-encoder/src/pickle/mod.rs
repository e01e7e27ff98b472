//! Checkpoints of `torch.save`: a zip with one pickle and one entry a storage.
//!
//! Candle has such a reader; this one is stricter: it names what it leaves out,
//! gathers tensors that are not contiguous, and refuses malformed files instead of
//! printing or panicking.

mod machine;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use mtcae_nn::candle_core::{Device, Tensor};
use mtcae_nn::weights::{self, Source};

use crate::Error;
use machine::{Object, Pickle, TensorRef, Value};

/// Far above the pickle of any state dict, which holds names and shapes only.
const LONGEST_PICKLE: u64 = 256 << 20;

/// Keys under which training scripts put the state dict.
const ROOTS: [&str; 3] = ["model", "module", "state_dict"];

/// The state dict of a file; tensors are read one at a time when asked for.
pub(crate) struct TorchFile {
    path: PathBuf,
    file: Mutex<File>,
    tensors: BTreeMap<String, Entry>,
    /// Entries of the state dict that are no tensors.
    pub skipped: Vec<String>,
}

/// Where a tensor's elements are.
struct Entry {
    kind: Kind,
    /// Of the first element, in bytes from the start of the file.
    start: u64,
    /// From the first element to the end of the last, in elements.
    span: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

/// Types of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
}

impl Kind {
    fn of(class: &str) -> Option<Self> {
        Some(match class {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" | "BoolStorage" => Self::U8,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }

    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|&b| read(b)).collect()
        }
        match self {
            Self::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
            Self::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
            Self::I16 => each(bytes, |b| i16::from_le_bytes(b).into()),
            Self::I8 => each(bytes, |b| i8::from_le_bytes(b).into()),
            Self::U8 => each(bytes, |b| u8::from_le_bytes(b).into()),
        }
    }
}

impl TorchFile {
    /// Reads the pickle of a file and finds the state dict in it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::read(path, file).map_err(|reason| Error::Checkpoint {
            path: path.to_owned(),
            reason,
        })
    }

    fn read(path: &Path, file: File) -> Result<Self, String> {
        let mut zip = zip::ZipArchive::new(&file)
            .map_err(|e| format!("not a whole zip as torch.save writes it: {e}"))?;
        let names: Vec<String> = zip
            .file_names()
            .map(|name| name.map(|n| n.into_owned()).map_err(|e| e.to_string()))
            .collect::<Result<_, _>>()?;
        let pickle_name = names
            .iter()
            .find(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
            .ok_or("a zip, but not one that torch.save wrote: it has no data.pkl")?;
        let folder = pickle_name
            .strip_suffix("data.pkl")
            .unwrap_or_default()
            .to_owned();

        let byte_order = format!("{folder}byteorder");
        if names.contains(&byte_order) {
            let order = content(&mut zip, &byte_order, 64)?;
            if order != b"little" {
                return Err("its tensors are big-endian, which is not supported".to_owned());
            }
        }
        let bytes = content(&mut zip, pickle_name, LONGEST_PICKLE)?;
        let pickle = machine::read(&bytes)?;

        let mut this = Self {
            path: path.to_owned(),
            file: Mutex::new(file.try_clone().map_err(|e| e.to_string())?),
            tensors: BTreeMap::new(),
            skipped: Vec::new(),
        };
        for &(key, value) in state_dict(&pickle)? {
            let Some(name) = pickle.text(key) else {
                continue;
            };
            match pickle.object(value) {
                Some(Object::Tensor(tensor)) => {
                    let entry = Entry::locate(&mut zip, &folder, tensor)
                        .map_err(|reason| format!("tensor {name}: {reason}"))?;
                    this.tensors.insert(name.to_owned(), entry);
                }
                _ => this.skipped.push(name.to_owned()),
            }
        }
        Ok(this)
    }

    fn bytes(&self, start: u64, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        // A panic elsewhere leaves the file as it was; every read seeks first.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// An entry of a zip, if it is no longer than `limit`.
fn content(zip: &mut zip::ZipArchive<&File>, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let fault = |reason: &dyn std::fmt::Display| format!("its entry {name}: {reason}");
    let entry = zip.by_name(name).map_err(|e| fault(&e))?;
    let mut bytes = Vec::new();
    let read = entry.take(limit + 1).read_to_end(&mut bytes);
    match read.map_err(|e| fault(&e))? as u64 > limit {
        true => Err(fault(&format!("longer than {limit} bytes"))),
        false => Ok(bytes),
    }
}

/// The names and tensors of a checkpoint: what lies under one of [`ROOTS`], or all
/// of it.
fn state_dict(pickle: &Pickle) -> Result<&[(Value, Value)], String> {
    let dict = |value| match pickle.object(value) {
        Some(Object::Dict(items)) => Some(items.as_slice()),
        _ => None,
    };
    let whole = "it holds a whole Python object, not a state dict; load it in Python and save \
                 model.state_dict()";
    let items = dict(pickle.root).ok_or(whole)?;
    for root in ROOTS {
        let found = items
            .iter()
            .find(|(key, _)| pickle.text(*key) == Some(root));
        if let Some((_, value)) = found {
            return dict(*value).ok_or_else(|| whole.to_owned());
        }
    }
    Ok(items)
}

impl Entry {
    fn locate(
        zip: &mut zip::ZipArchive<&File>,
        folder: &str,
        tensor: &TensorRef,
    ) -> Result<Self, String> {
        let TensorRef {
            storage,
            offset,
            shape,
            stride,
        } = tensor;
        let kind = Kind::of(&storage.class)
            .ok_or_else(|| format!("elements of type {} are not supported", storage.class))?;
        let name = format!("{folder}data/{}", storage.key);
        let entry = zip
            .by_name(&name)
            .map_err(|e| format!("its storage {name}: {e}"))?;
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(format!("its storage {name} is compressed"));
        }
        let length = entry.size();
        let data = entry
            .data_start()
            .ok_or_else(|| format!("its storage {name} is nowhere in the file"))?;
        let beyond = || format!("it reaches beyond its storage {name}");
        let elements = shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
        // Index of the last element, from the first.
        let last = shape
            .iter()
            .zip(stride)
            .try_fold(0usize, |n, (&size, &step)| {
                n.checked_add(size.saturating_sub(1).checked_mul(step)?)
            });
        let (Some(elements), Some(last)) = (elements, last) else {
            return Err(beyond());
        };
        let span = if elements == 0 { 0 } else { last + 1 };
        let end = offset
            .checked_add(span)
            .and_then(|n| n.checked_mul(kind.size()));
        if end.is_none_or(|end| end as u64 > length) {
            return Err(beyond());
        }
        // Elements that share memory could make a small file a huge tensor.
        if elements > span {
            return Err("its elements overlap; save a contiguous copy of it".to_owned());
        }
        let start = data.checked_add((offset * kind.size()) as u64);
        Ok(Self {
            kind,
            start: start.ok_or_else(beyond)?,
            span,
            shape: shape.clone(),
            // The step of a dimension of one element means nothing and may be anything.
            stride: shape
                .iter()
                .zip(stride)
                .map(|(&size, &step)| if size == 1 { 0 } else { step })
                .collect(),
        })
    }

    /// The elements in row-major order from those of the span.
    fn gather(&self, span: Vec<f32>) -> Vec<f32> {
        let mut step = 1;
        let contiguous = self.shape.iter().zip(&self.stride).rev().all(|(&n, &s)| {
            let fits = n == 1 || s == step;
            step *= n;
            fits
        });
        if contiguous {
            return span;
        }
        let elements: usize = self.shape.iter().product();
        let mut index = vec![0; self.shape.len()];
        let mut out = Vec::with_capacity(elements);
        let mut at = 0;
        for _ in 0..elements {
            out.push(span[at]);
            // The next index, the last dimension fastest.
            for d in (0..index.len()).rev() {
                index[d] += 1;
                at += self.stride[d];
                if index[d] < self.shape[d] {
                    break;
                }
                at -= index[d] * self.stride[d];
                index[d] = 0;
            }
        }
        out
    }
}

impl Source for TorchFile {
    fn origin(&self) -> String {
        self.path.display().to_string()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors.get(name)?.shape.clone())
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor, weights::Error> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(weights::Error::Tensor {
                origin: self.origin(),
                name: name.to_owned(),
                reason: "not in the state dict".to_owned(),
            });
        };
        let bytes = self
            .bytes(entry.start, entry.span * entry.kind.size())
            .map_err(|e| weights::Error::Tensor {
                origin: self.origin(),
                name: name.to_owned(),
                reason: e.to_string(),
            })?;
        let values = entry.gather(entry.kind.decode(&bytes));
        Ok(Tensor::from_vec(values, entry.shape.as_slice(), device)?)
    }
}

#[cfg(test)]
mod tests {
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
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
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
        let i64s: Vec<u8> = [7i64, -2].iter().flat_map(|v| v.to_le_bytes()).collect();
        let one = [2u8];
        let step = [1u8];
        let tensors: Vec<Saved<'_>> = vec![
            ("FloatStorage", &f32s, 0, &one, &step),
            ("DoubleStorage", &f64s, 0, &one, &step),
            ("HalfStorage", &[0x00, 0x3e, 0x00, 0xc0], 0, &one, &step),
            ("BFloat16Storage", &[0xc0, 0x3f, 0x00, 0xc0], 0, &one, &step),
            ("LongStorage", &i64s, 0, &one, &step),
            (
                "IntStorage",
                &[7, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff],
                0,
                &one,
                &step,
            ),
            ("ShortStorage", &[7, 0, 0xfe, 0xff], 0, &one, &step),
            ("CharStorage", &[7, 0xfe], 0, &one, &step),
            ("ByteStorage", &[7, 254], 0, &one, &step),
        ];
        let file = TorchFile::open(&file(folder.path(), &tensors)).unwrap();
        for (i, name) in file.names().iter().enumerate() {
            let got: Vec<f32> = file.load(name, &Device::Cpu).unwrap().to_vec1().unwrap();
            let want = match i {
                0..4 => [1.5, -2.0],
                4..8 => [7.0, -2.0],
                _ => [7.0, 254.0],
            };
            assert_eq!(got, want, "{}", tensors[i].0);
        }
    }

    #[test]
    fn strided_tensors_are_gathered() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..24).collect();
        let tensors: Vec<Saved<'_>> = vec![
            // arange(24)[2:].as_strided((2, 3), (1, 4)), a transposed slice
            ("ByteStorage", &bytes, 2, &[2, 3], &[1, 4]),
            // (4, 3, 2).permute(2, 0, 1)
            ("ByteStorage", &bytes, 0, &[2, 4, 3], &[1, 6, 2]),
            // One element in a dimension of a senseless step; a scalar; nothing.
            ("ByteStorage", &bytes, 1, &[1, 3], &[255, 1]),
            ("ByteStorage", &bytes, 23, &[], &[]),
            ("ByteStorage", &bytes, 24, &[0, 3], &[3, 1]),
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
        let bytes = [0u8; 8];
        let cases: [(Saved<'_>, &str); 4] = [
            (("ByteStorage", &bytes, 1, &[8], &[1]), "beyond its storage"),
            (
                ("FloatStorage", &bytes, 0, &[3], &[1]),
                "beyond its storage",
            ),
            (("ByteStorage", &bytes, 0, &[9, 9], &[0, 0]), "overlap"),
            (("QInt8Storage", &bytes, 0, &[1], &[1]), "QInt8Storage"),
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
            let mut zip = zip::ZipArchive::new(&file).unwrap();
            let whole = content(&mut zip, &format!("{name}/data.pkl"), 1 << 20).unwrap();
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
                            drop(Entry::locate(&mut zip, "marlin/", tensor));
                        }
                    }
                }
            }
        }
    }
}
