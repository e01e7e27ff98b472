//! Checkpoints of `torch.save`: a zip with one pickle and one entry a storage.
//!
//! Candle has such a reader; this one is stricter: it names what it leaves out,
//! gathers tensors that are not contiguous, and refuses malformed files instead of
//! printing or panicking.

mod calls;
mod machine;
#[cfg(test)]
mod tests;

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
