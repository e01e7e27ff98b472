//! Weights from and to files: memory-mapped reading, strict loading, writing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use mtcae_core::files::Draft;
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorInfo, View};

/// What can go wrong with weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is no whole safetensors file.
    #[error("{}: not a complete safetensors file: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tensors of the file are not those of the model.
    #[error(transparent)]
    Tensors(#[from] Faults),
    /// A tensor cannot be used.
    #[error("{origin}: tensor {name}: {reason}")]
    Tensor {
        /// Where it comes from.
        origin: String,
        /// The tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Building the model failed for a reason other than its tensors.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Every tensor of a source that is not as the model needs it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Where the tensors come from.
    pub origin: String,
    /// Tensors that the model needs and the source lacks.
    pub missing: Vec<String>,
    /// Tensors of the source that the model does not know.
    pub unexpected: Vec<String>,
    /// Tensors of another shape: name, shape that the model needs, shape found.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Faults {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the tensors are not those of the model", self.origin)?;
        if !self.missing.is_empty() {
            write!(f, "; missing: {}", self.missing.join(", "))?;
        }
        if !self.unexpected.is_empty() {
            write!(f, "; unexpected: {}", self.unexpected.join(", "))?;
        }
        if !self.misshapen.is_empty() {
            let list: Vec<String> = self
                .misshapen
                .iter()
                .map(|(name, want, found)| format!("{name} is {found:?} and should be {want:?}"))
                .collect();
            write!(f, "; wrong shape: {}", list.join(", "))?;
        }
        Ok(())
    }
}

/// Named tensors somewhere: a mapped file, a pickle, a map under other names.
pub trait Source: Send + Sync {
    /// Where the tensors come from, as an error message should name it.
    fn origin(&self) -> String;

    /// All names, sorted.
    fn names(&self) -> Vec<String>;

    /// The shape of a tensor, or `None` when there is none of this name.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// A tensor as `f32` on `device`.
    fn load(&self, name: &str, device: &Device) -> Result<Tensor, Error>;
}

/// Builds a model from all tensors of a source.
///
/// `build` asks its builder for every tensor of the model. All faults are
/// gathered before any is reported.
///
/// # Errors
/// [`Error::Tensors`] with every missing, unexpected and wrongly shaped tensor;
/// otherwise what the source or `build` report.
pub fn load_strict<M>(
    source: &dyn Source,
    device: &Device,
    build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
) -> Result<M, Error> {
    load_strict_as(source, device, DType::F32, build)
}

/// As [`load_strict`], with the tensors rounded to a type; those of norms stay `f32`.
///
/// # Errors
/// As [`load_strict`].
pub fn load_strict_as<M>(
    source: &dyn Source,
    device: &Device,
    dtype: DType,
    build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
) -> Result<M, Error> {
    let state = Arc::new(Mutex::new(State::default()));
    let backend = Strict {
        source,
        state: state.clone(),
    };
    let model = build(VarBuilder::from_backend(
        Box::new(backend),
        dtype,
        device.clone(),
    ));
    let mut state = std::mem::take(&mut *state.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(error) = state.failed.take() {
        return Err(error);
    }
    let mut faults = state.faults;
    // A model that failed half way has not asked for the rest.
    if model.is_ok() {
        faults.unexpected = source
            .names()
            .into_iter()
            .filter(|n| !state.asked.contains(n))
            .collect();
    }
    if !faults.is_empty() {
        faults.origin = source.origin();
        return Err(faults.into());
    }
    Ok(model?)
}

#[derive(Default)]
struct State {
    asked: BTreeSet<String>,
    faults: Faults,
    failed: Option<Error>,
}

/// Serves a model under construction, noting what is at fault and putting zeros
/// in its place, so that the construction goes on and finds the other faults.
struct Strict<'a> {
    source: &'a dyn Source,
    state: Arc<Mutex<State>>,
}

impl SimpleBackend for Strict<'_> {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.insert(name.to_owned());
        match self.source.shape(name) {
            Some(found) if found == shape.dims() => match self.source.load(name, device) {
                Ok(tensor) => return tensor.to_dtype(dtype),
                Err(error) => {
                    let message = error.to_string();
                    state.failed = Some(error);
                    return Err(candle_core::Error::Msg(message));
                }
            },
            Some(found) => {
                let fault = (name.to_owned(), shape.dims().to_vec(), found);
                state.faults.misshapen.push(fault);
            }
            None => state.faults.missing.push(name.to_owned()),
        }
        Tensor::zeros(1, dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let shape = self.source.shape(name).unwrap_or_default();
        self.get(Shape::from(shape), name, Init::Const(0.0), dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.source.shape(name).is_some()
    }
}

/// A memory-mapped safetensors file.
///
/// Tensors are copied out one at a time and their pages given back at once, so
/// loading costs the memory of the tensors and no more.
pub struct Mapped {
    path: PathBuf,
    map: memmap2::Mmap,
    /// Where the tensors begin in the file.
    data: usize,
    metadata: Metadata,
}

impl Mapped {
    /// Maps a file and checks its header.
    ///
    /// # Errors
    /// [`Error::Io`] or, for a truncated or foreign file, [`Error::Safetensors`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let io = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let file = std::fs::File::open(&path).map_err(io)?;
        if file.metadata().map_err(io)?.is_dir() {
            return Err(io(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        // SAFETY: the mapping is read-only and private. As with every mapped
        // file, another process that truncates it meanwhile can make reads fail;
        // checkpoints are replaced by renaming, never rewritten in place.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
        // This checks that the header is whole and that the tensors fill the file.
        let header = SafeTensors::deserialize(&map).and_then(|_| SafeTensors::read_metadata(&map));
        match header {
            Ok((length, metadata)) => Ok(Self {
                data: length + size_of::<u64>(),
                path,
                map,
                metadata,
            }),
            Err(error) => Err(Error::Safetensors {
                path,
                reason: error.to_string(),
            }),
        }
    }

    /// The free text that the file carries beside its tensors.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.metadata
            .metadata()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    }
}

impl Source for Mapped {
    fn origin(&self) -> String {
        self.path.display().to_string()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.metadata.tensors().into_keys().collect();
        names.sort_unstable();
        names
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.metadata.info(name)?.shape.clone())
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor, Error> {
        let fault = |reason: String| Error::Tensor {
            origin: self.origin(),
            name: name.to_owned(),
            reason,
        };
        let Some(info) = self.metadata.info(name) else {
            return Err(fault("not in the file".to_owned()));
        };
        let dtype = DType::try_from(info.dtype).map_err(|e| fault(e.to_string()))?;
        let (start, end) = (
            self.data + info.data_offsets.0,
            self.data + info.data_offsets.1,
        );
        let tensor = Tensor::from_raw_buffer(&self.map[start..end], dtype, &info.shape, device)?
            .to_dtype(DType::F32)?;
        #[cfg(unix)]
        self.release(start, end);
        Ok(tensor)
    }
}

#[cfg(unix)]
impl Mapped {
    /// Gives the pages of a copied tensor back to the system.
    fn release(&self, start: usize, end: usize) {
        // SAFETY: the mapping is read-only and backed by the file, so dropped
        // pages are read from it again when touched; nothing is lost.
        let advised = unsafe {
            self.map
                .unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
        };
        // Advice: the tensor has been copied whether or not it is taken.
        drop(advised);
    }
}

/// Tensors in memory as a [`Source`].
pub struct InMemory {
    origin: String,
    tensors: BTreeMap<String, Tensor>,
}

impl InMemory {
    /// Tensors that errors will say come from `origin`.
    pub fn new(
        origin: impl Into<String>,
        tensors: impl IntoIterator<Item = (String, Tensor)>,
    ) -> Self {
        Self {
            origin: origin.into(),
            tensors: tensors.into_iter().collect(),
        }
    }
}

impl Source for InMemory {
    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors.get(name)?.dims().to_vec())
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor, Error> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(tensor.to_device(device)?.to_dtype(DType::F32)?),
            None => Err(Error::Tensor {
                origin: self.origin(),
                name: name.to_owned(),
                reason: "not among the tensors".to_owned(),
            }),
        }
    }
}

/// Writes tensors and free text to a safetensors file, whole or not at all.
///
/// # Errors
/// [`Error::Io`] names the file; nothing is left behind then.
pub fn save<'a>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: BTreeMap<String, String>,
) -> Result<(), Error> {
    let path = path.as_ref();
    let write = || {
        let mut draft = Draft::new(path)?;
        write_safetensors(draft.file(), tensors.into_iter().collect(), metadata)?;
        draft.commit()
    };
    write().map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })
}

/// The format as <https://github.com/huggingface/safetensors> describes it: the length
/// of the header, the header in JSON, the tensors. The crate's own writer puts a file of
/// its own beside the target, which stays where the process is killed.
fn write_safetensors(
    file: &mut std::fs::File,
    mut tensors: Vec<(&str, &Tensor)>,
    metadata: BTreeMap<String, String>,
) -> std::io::Result<()> {
    // Large types first, so that every tensor lies where its type may.
    tensors.sort_by_key(|&(name, tensor)| (std::cmp::Reverse(View::dtype(&tensor)), name));
    let mut offset = 0;
    let infos = tensors.iter().map(|&(name, tensor)| {
        let start = offset;
        offset += View::data_len(&tensor);
        let info = TensorInfo {
            dtype: View::dtype(&tensor),
            shape: tensor.dims().to_vec(),
            data_offsets: (start, offset),
        };
        (name.to_owned(), info)
    });
    let infos = infos.collect();
    let metadata = (!metadata.is_empty()).then(|| metadata.into_iter().collect());
    let header = Metadata::new(metadata, infos).map_err(std::io::Error::other)?;
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, tensor) in tensors {
        out.write_all(&View::data(&tensor))?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn tensors() -> Vec<(String, Tensor)> {
        let ones = |n| Tensor::ones(n, DType::F32, &Device::Cpu).expect("ones");
        vec![
            ("a.weight".into(), ones(3)),
            ("b".into(), ones(2)),
            ("odd".into(), ones(1)),
        ]
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("m.safetensors");
        let all = tensors();
        save(
            &path,
            all.iter().map(|(n, t)| (n.as_str(), t)),
            [("k".to_owned(), "v".to_owned())].into(),
        )
        .expect("saved");
        (dir, path)
    }

    #[test]
    fn what_is_saved_is_loaded_and_nothing_else_is_left() {
        let (dir, path) = file();
        let mapped = Mapped::open(&path).expect("opened");
        assert_eq!(mapped.names(), ["a.weight", "b", "odd"]);
        assert_eq!(mapped.metadata()["k"], "v");
        let build = |vb: VarBuilder<'_>| {
            Ok((
                vb.pp("a").get(3, "weight")?,
                vb.get(2, "b")?,
                vb.get(1, "odd")?,
            ))
        };
        let (a, ..) = load_strict(&mapped, &Device::Cpu, build).expect("loaded");
        assert_eq!(a.to_vec1::<f32>().expect("values"), [1.0; 3]);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
        // The bytes are those of the format's own library.
        let all = tensors();
        let pairs = all.iter().map(|(n, t)| (n.as_str(), t));
        let metadata = HashMap::from([("k".to_owned(), "v".to_owned())]);
        let theirs = safetensors::serialize(pairs, Some(metadata)).expect("serialised");
        assert_eq!(std::fs::read(&path).expect("read"), theirs);
    }

    #[test]
    fn all_faults_come_in_one_error() {
        let (_dir, path) = file();
        let mapped = Mapped::open(&path).expect("opened");
        let build = |vb: VarBuilder<'_>| {
            vb.get(4, "a.weight")?;
            vb.get(2, "b")?;
            vb.get(1, "gone")?;
            vb.get(1, "lost")
        };
        let error = load_strict(&mapped, &Device::Cpu, build).expect_err("faulty");
        let Error::Tensors(faults) = &error else {
            panic!("{error}")
        };
        assert_eq!(faults.missing, ["gone", "lost"]);
        assert_eq!(faults.unexpected, ["odd"]);
        assert_eq!(
            faults.misshapen,
            [("a.weight".to_owned(), vec![4], vec![3])]
        );
        assert!(
            error
                .to_string()
                .contains("a.weight is [3] and should be [4]"),
            "{error}"
        );
    }

    #[test]
    fn truncated_and_foreign_files_are_refused_by_name() {
        let (dir, path) = file();
        let whole = std::fs::read(&path).expect("read");
        for length in [0, 4, 20, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).expect("cut");
            let error = Mapped::open(&path).err().expect("refused").to_string();
            assert!(error.contains("m.safetensors"), "{error}");
        }
        assert!(Mapped::open(dir.path()).is_err());
    }
}
