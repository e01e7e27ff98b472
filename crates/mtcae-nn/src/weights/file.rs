//! Safetensors files, and files that are read at places.

use mtcae_core::files::At;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use mtcae_core::files;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};

use super::{Error, Source, shown};

/// The longest header: a hundred times that of the largest model here, and what is made
/// of it stays below a hundred megabytes.
const LONGEST_HEADER: u64 = 8 << 20;

/// A hundred times the tensors of the largest model here.
const MOST_TENSORS: usize = 1 << 16;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 18;

/// Types of weights, as files hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// 8 bytes.
    F64,
    /// 4 bytes.
    F32,
    /// IEEE's half.
    F16,
    /// The upper half of an `f32`.
    Bf16,
}

impl Float {
    /// What a refusal of another type says would be right.
    pub const NAMES: &'static str = "F32, F16, BF16 or F64";

    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        fn each<const N: usize>(bytes: &[u8], out: &mut Vec<f32>, read: impl Fn([u8; N]) -> f32) {
            out.extend(bytes.as_chunks().0.iter().map(|&b| read(b)));
        }
        match self {
            Self::F64 => each(bytes, out, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => each(bytes, out, f32::from_le_bytes),
            Self::F16 => each(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => each(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        }
    }
}

/// A regular file that is read at places and has to stay as it was when it was opened.
///
/// Nothing of it is mapped: what another process does to it is an error of the next
/// read, not a fault of this one.
#[derive(Debug)]
pub struct SteadyFile {
    file: Mutex<File>,
    length: u64,
    modified: Option<SystemTime>,
}

impl SteadyFile {
    /// Opens a regular file.
    ///
    /// # Errors
    /// What the system reports; pipes and devices are refused.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = files::open(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            file: Mutex::new(file),
            length: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file itself, for readers of formats; nobody else reads it meanwhile.
    pub fn lock(&self) -> MutexGuard<'_, File> {
        // A panic elsewhere leaves the file as it was; every read seeks first.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `count` numbers from byte `from` on, as `f32`.
    ///
    /// # Errors
    /// What the system reports, or that the file is no longer what it was.
    pub fn floats(&self, float: Float, from: u64, count: usize) -> io::Result<Vec<f32>> {
        let bytes = (count as u64).saturating_mul(float.size() as u64);
        self.within(from, bytes)?;
        let mut values = Vec::with_capacity(count);
        self.each_chunk(from, bytes, |chunk| float.decode(chunk, &mut values))?;
        Ok(values)
    }

    /// `count` bytes from byte `from` on.
    ///
    /// # Errors
    /// As [`Self::floats`].
    pub fn bytes(&self, from: u64, count: u64) -> io::Result<Vec<u8>> {
        self.within(from, count)?;
        let mut bytes = Vec::new();
        self.each_chunk(from, count, |chunk| bytes.extend_from_slice(chunk))?;
        Ok(bytes)
    }

    /// Before memory for them is had.
    fn within(&self, from: u64, count: u64) -> io::Result<()> {
        match from.checked_add(count) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    }

    fn each_chunk(&self, from: u64, mut count: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut file = self.lock();
        file.seek(SeekFrom::Start(from))?;
        let mut chunk = vec![0; CHUNK.min(count.try_into().unwrap_or(CHUNK))];
        while count > 0 {
            let some = chunk.len().min(count.try_into().unwrap_or(chunk.len()));
            match file.read_exact(&mut chunk[..some]) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(changed()),
                done => done?,
            }
            take(&chunk[..some]);
            count -= some as u64;
        }
        let now = file.metadata()?;
        match now.len() == self.length && now.modified().ok() == self.modified {
            true => Ok(()),
            false => Err(changed()),
        }
    }
}

fn changed() -> io::Error {
    io::Error::other("the file was changed while it was read")
}

/// A safetensors file.
///
/// Tensors are read one at a time when they are asked for, so loading costs the memory of
/// the tensors and no more.
pub struct TensorFile {
    path: PathBuf,
    file: SteadyFile,
    /// Where the tensors begin in the file.
    data: u64,
    header: Metadata,
}

impl TensorFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// [`Error::File`] or, for a truncated or foreign file and for one whose header is
    /// larger than any model's, [`Error::Safetensors`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let file = SteadyFile::open(&path).at(&path)?;
        match read_header(&file) {
            Ok((data, header)) => Ok(Self {
                path,
                file,
                data,
                header,
            }),
            Err(reason) => Err(Error::Safetensors { path, reason }),
        }
    }

    /// The free text that the file carries beside its tensors.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.header
            .metadata()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }

    fn read(&self, info: &TensorInfo, device: &Device) -> Result<Tensor, String> {
        let (start, end) = info.data_offsets;
        let from = self.data + start as u64;
        let shape = info.shape.as_slice();
        let float = match info.dtype {
            Dtype::F64 => Float::F64,
            Dtype::F32 => Float::F32,
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::Bf16,
            Dtype::F8_E4M3 => {
                let bytes = self.file.bytes(from, (end - start) as u64);
                let bytes = bytes.map_err(|e| e.to_string())?;
                return Tensor::from_raw_buffer(&bytes, DType::F8E4M3, shape, device)
                    .and_then(|t| t.to_dtype(DType::F32))
                    .map_err(|e| e.to_string());
            }
            other => {
                return Err(format!(
                    "its elements are {other:?}; those of a weight are {}",
                    Float::NAMES
                ));
            }
        };
        let values = self.file.floats(float, from, (end - start) / float.size());
        Tensor::from_vec(values.map_err(|e| e.to_string())?, shape, device)
            .map_err(|e| e.to_string())
    }
}

/// Where the tensors begin, and the header, whose tensors fill the rest of the file.
fn read_header(file: &SteadyFile) -> Result<(u64, Metadata), String> {
    let io = |e: io::Error| e.to_string();
    let length = file.bytes(0, 8).map_err(|_| "it has no header")?;
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
    let data = match length.checked_add(8) {
        Some(data) if data <= file.length() => data,
        _ => return Err("its header ends beyond its end".to_owned()),
    };
    if length > LONGEST_HEADER {
        return Err(format!(
            "its header of {length} bytes is longer than {LONGEST_HEADER}"
        ));
    }
    let text = file.bytes(8, length).map_err(io)?;
    let header = serde_json::Deserializer::from_slice(&text)
        .deserialize_map(Header)
        .map_err(|e| format!("its header: {}", shown(&e.to_string())))?;
    let end = data.checked_add(header.data_len() as u64);
    match end == Some(file.length()) {
        true => Ok((data, header)),
        false => Err(format!(
            "its tensors take {} bytes and there are {}",
            header.data_len(),
            file.length() - data
        )),
    }
}

/// Reads a header entry by entry, so that what is too much is refused on the way.
struct Header;

impl<'de> Visitor<'de> for Header {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        let (mut metadata, mut tensors) = (None, Vec::<(String, TensorInfo)>::new());
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                metadata = map.next_value()?;
                continue;
            }
            if tensors.len() == MOST_TENSORS {
                return Err(A::Error::custom(format_args!(
                    "more than {MOST_TENSORS} tensors"
                )));
            }
            let info = map
                .next_value()
                .map_err(|e| A::Error::custom(format_args!("tensor {}: {e}", shown(&name))))?;
            tensors.push((name, info));
        }
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        Metadata::new(metadata, tensors).map_err(A::Error::custom)
    }
}

impl Source for TensorFile {
    fn origin(&self) -> String {
        self.path.display().to_string()
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.header.offset_keys();
        names.sort_unstable();
        names
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.header.info(name)?.shape.clone())
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor, Error> {
        let loaded = match self.header.info(name) {
            Some(info) => self.read(info, device),
            None => Err("not in the file".to_owned()),
        };
        loaded.map_err(|reason| Error::Tensor {
            origin: self.origin(),
            name: name.to_owned(),
            reason,
        })
    }
}
