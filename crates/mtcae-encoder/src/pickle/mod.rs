//! Checkpoints of `torch.save`: a zip with one pickle and one entry a storage.
//!
//! Candle has such a reader; this one is stricter: it names what it leaves out,
//! gathers tensors that are not contiguous, and refuses malformed files instead of
//! printing or panicking.

mod calls;
mod machine;
#[cfg(test)]
mod tests;

use mtcae_core::files::{At, FileError};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use mtcae_nn::candle_core::{Device, Tensor};
use mtcae_nn::weights::{self, Float, Source, SteadyFile, shown};
use zip::read::{Config, ZipFileEntry};
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipReadOptions};

use crate::Error;
use machine::{Object, Pickle, TensorRef, Value};

/// A hundred times the pickle of any state dict, which holds names and shapes only.
const LONGEST_PICKLE: u64 = 64 << 20;

/// Tensors of a state dict, and other entries of it.
const MOST_ENTRIES: usize = 1 << 14;

/// Entries of a zip: a storage each, and those of an optimiser's state.
const MOST_STORAGES: usize = 1 << 16;

/// Of a tensor.
const LONGEST_NAME: usize = 1024;

/// Keys under which training scripts put the state dict.
const ROOTS: [&str; 3] = ["model", "module", "state_dict"];

/// The state dict of a file; tensors are read one at a time when asked for.
pub(crate) struct TorchFile {
    path: PathBuf,
    file: SteadyFile,
    tensors: BTreeMap<String, Entry>,
    /// Entries of the state dict that are no tensors.
    pub skipped: Vec<String>,
}

/// A tensor of the file.
struct Entry {
    shape: Vec<usize>,
    data: Data,
}

/// Where a tensor's elements are.
enum Data {
    Floats {
        float: Float,
        /// Of the first element, in bytes from the start of the file.
        start: u64,
        /// From the first element to the end of the last, in elements.
        span: usize,
        stride: Vec<usize>,
    },
    /// No weights, but elements of this class of storage.
    Foreign(String),
}

/// The type of a storage's elements, where weights are of it.
fn float(class: &str) -> Option<Float> {
    Some(match class {
        "DoubleStorage" => Float::F64,
        "FloatStorage" => Float::F32,
        "HalfStorage" => Float::F16,
        "BFloat16Storage" => Float::Bf16,
        _ => return None,
    })
}

/// Where a storage lies in the file, in bytes; `Err` says why it cannot be read.
type Place = Result<(u64, u64), String>;

impl TorchFile {
    /// Reads the pickle of a file and finds the state dict in it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = SteadyFile::open(path).at(path)?;
        let read = read(&file.lock());
        match read {
            Ok((tensors, skipped)) => Ok(Self {
                path: path.to_owned(),
                file,
                tensors,
                skipped,
            }),
            Err(reason) => Err(Error::File(FileError::new(path, reason))),
        }
    }
}

/// The tensors of a file, and what of its state dict is none.
fn read(file: &File) -> Result<(BTreeMap<String, Entry>, Vec<String>), String> {
    let mut found = None;
    each_entry(file, |name, entry| {
        if name == "data.pkl" || name.ends_with("/data.pkl") {
            found = Some((name.to_owned(), entry));
        }
        Ok(())
    })?;
    let (name, entry) =
        found.ok_or("a zip, but not one that torch.save wrote: it has no data.pkl")?;
    let bytes = content(file, &name, entry, LONGEST_PICKLE)?;
    let pickle = machine::read(&bytes)?;
    let state = state_dict(&pickle)?;
    if state.len() > MOST_ENTRIES {
        return Err(format!(
            "its state dict has {} entries, more than {MOST_ENTRIES}",
            state.len()
        ));
    }
    let tensor = |value: &Value| match pickle.object(*value) {
        Some(Object::Tensor(tensor)) => Some(&**tensor),
        _ => None,
    };
    let mut wanted: BTreeMap<&str, Place> = BTreeMap::new();
    for tensor in state.iter().filter_map(|(_, value)| tensor(value)) {
        if float(tensor.storage.class).is_some() {
            let key = tensor.storage.key;
            wanted.insert(key, Err(format!("its storage {} is not there", shown(key))));
        }
    }
    let folder = name.strip_suffix("data.pkl").unwrap_or_default();
    each_entry(file, |name, entry| {
        let inside = name.strip_prefix(folder).unwrap_or_default();
        if inside == "byteorder" {
            return match content(file, name, entry, 64)?.as_slice() {
                b"little" => Ok(()),
                _ => Err("its tensors are big-endian, which is not supported".to_owned()),
            };
        }
        let key = inside.strip_prefix("data/");
        if let Some(place) = key.and_then(|key| wanted.get_mut(key)) {
            *place = locate(file, name, entry);
        }
        Ok(())
    })?;
    let (mut tensors, mut skipped) = (BTreeMap::new(), Vec::new());
    for (key, value) in state {
        let Some(name) = pickle.text(*key) else {
            continue;
        };
        if name.len() > LONGEST_NAME {
            return Err(format!("the name {} is too long", shown(name)));
        }
        match tensor(value) {
            Some(tensor) => {
                let place = wanted.get(tensor.storage.key);
                let entry = Entry::new(tensor, place)
                    .map_err(|reason| format!("tensor {}: {reason}", shown(name)))?;
                tensors.insert(name.to_owned(), entry);
            }
            None => skipped.push(name.to_owned()),
        }
    }
    Ok((tensors, skipped))
}

/// Goes over the entries of a zip, of which none is kept.
fn each_entry(
    file: &File,
    mut take: impl FnMut(&str, ZipFileEntry<'static>) -> Result<(), String>,
) -> Result<(), String> {
    let broken = |e: zip::result::ZipError| format!("not a whole zip as torch.save writes it: {e}");
    let mut zip = ZipIterable::try_new(file, Config::default()).map_err(broken)?;
    if zip.len() > MOST_STORAGES {
        return Err(format!(
            "its zip has {} entries, more than {MOST_STORAGES}",
            zip.len()
        ));
    }
    for entry in zip.files().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        take(&name, entry)?;
    }
    Ok(())
}

/// Where an entry's bytes lie.
fn locate(mut file: &File, name: &str, entry: ZipFileEntry<'static>) -> Place {
    let fault = |reason: &str| format!("its storage {}: {reason}", shown(name));
    if entry.compression() != CompressionMethod::Stored {
        return Err(fault("it is compressed"));
    }
    let length = entry.size();
    let found = entry
        .with_reader(&mut file, ZipReadOptions::new())
        .map_err(|e| fault(&e.to_string()))?;
    let start = found.data_start().ok_or_else(|| fault("it is nowhere"))?;
    Ok((start, length))
}

/// The bytes of an entry, if they are no more than `limit`.
fn content(
    mut file: &File,
    name: &str,
    entry: ZipFileEntry<'static>,
    limit: u64,
) -> Result<Vec<u8>, String> {
    let fault = |reason: &dyn std::fmt::Display| format!("its entry {}: {reason}", shown(name));
    let length = entry.size();
    if length > limit {
        return Err(fault(&format!("longer than {limit} bytes")));
    }
    let reader = entry.with_reader(&mut file, ZipReadOptions::new());
    let mut bytes = Vec::with_capacity(length as usize);
    let read = reader
        .map_err(|e| fault(&e))?
        .take(length)
        .read_to_end(&mut bytes);
    read.map_err(|e| fault(&e))?;
    Ok(bytes)
}

/// The names and tensors of a checkpoint: what lies under one of [`ROOTS`], or all
/// of it.
fn state_dict<'a>(pickle: &'a Pickle<'_>) -> Result<&'a [(Value, Value)], String> {
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
    /// A tensor whose storage has this place.
    fn new(tensor: &TensorRef<'_>, place: Option<&Place>) -> Result<Self, String> {
        let TensorRef {
            storage,
            offset,
            shape,
            stride,
        } = tensor;
        let (Some(float), Some(place)) = (float(storage.class), place) else {
            return Ok(Self {
                shape: shape.clone(),
                data: Data::Foreign(storage.class.to_owned()),
            });
        };
        let (data, length) = place.clone()?;
        let beyond = || format!("it reaches beyond its storage {}", shown(storage.key));
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
        let span = match elements {
            0 => 0,
            _ => last.checked_add(1).ok_or_else(beyond)?,
        };
        let end = offset
            .checked_add(span)
            .and_then(|n| n.checked_mul(float.size()));
        if end.is_none_or(|end| end as u64 > length) {
            return Err(beyond());
        }
        // Elements that share memory could make a small file a huge tensor.
        if elements > span {
            return Err("its elements overlap; save a contiguous copy of it".to_owned());
        }
        let start = data.checked_add((offset * float.size()) as u64);
        Ok(Self {
            shape: shape.clone(),
            data: Data::Floats {
                float,
                start: start.ok_or_else(beyond)?,
                span,
                // The step of a dimension of one element means nothing and may be anything.
                stride: shape
                    .iter()
                    .zip(stride)
                    .map(|(&size, &step)| if size == 1 { 0 } else { step })
                    .collect(),
            },
        })
    }
}

/// The elements of a tensor in row-major order from those of its span.
fn gather(shape: &[usize], stride: &[usize], span: Vec<f32>) -> Vec<f32> {
    let mut step = 1;
    let contiguous = shape.iter().zip(stride).rev().all(|(&n, &s)| {
        let fits = n == 1 || s == step;
        // Of no elements it may wrap around.
        step = step.wrapping_mul(n);
        fits
    });
    if contiguous {
        return span;
    }
    let elements: usize = shape.iter().product();
    let mut index = vec![0; shape.len()];
    let mut out = Vec::with_capacity(elements);
    let mut at = 0;
    for _ in 0..elements {
        out.push(span[at]);
        // The next index, the last dimension fastest.
        for d in (0..index.len()).rev() {
            index[d] += 1;
            at += stride[d];
            if index[d] < shape[d] {
                break;
            }
            at -= index[d] * stride[d];
            index[d] = 0;
        }
    }
    out
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
        let fault = |reason: String| weights::Error::Tensor {
            origin: self.origin(),
            name: name.to_owned(),
            reason,
        };
        let Some(Entry { shape, data }) = self.tensors.get(name) else {
            return Err(fault("not in the state dict".to_owned()));
        };
        let values = match data {
            Data::Floats {
                float,
                start,
                span,
                stride,
            } => {
                let span = self.file.floats(*float, *start, *span);
                gather(shape, stride, span.map_err(|e| fault(e.to_string()))?)
            }
            Data::Foreign(class) => {
                return Err(fault(format!(
                    "its elements are a {class}; those of a weight are {}",
                    Float::NAMES
                )));
            }
        };
        Ok(Tensor::from_vec(values, shape.as_slice(), device)?)
    }
}
