//! Weights from and to files: reading one tensor at a time, strict loading, writing.

mod file;
mod strict;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use mtcae_core::files::{At, Draft, FileError, write_text_atomically};
use safetensors::tensor::{Metadata, TensorInfo, View};
use serde::Serialize;

pub use file::{Float, SteadyFile, TensorFile};
pub(crate) use strict::through;
pub use strict::{Record, asked_for, compare, load_strict, load_strict_as, recorded};

/// What can go wrong with weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read or written, or is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
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
    #[error("{origin}: tensor {}: {reason}", shown(name))]
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

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            error => Self::wrap(error),
        }
    }
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
    /// Whether there is no fault.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the tensors are not those of the model", self.origin)?;
        let (missing, unexpected) = (self.missing.iter(), self.unexpected.iter());
        list(f, "missing", missing.map(|name| shown(name)))?;
        list(f, "unexpected", unexpected.map(|name| shown(name)))?;
        let misshapen = self.misshapen.iter().map(|(name, want, found)| {
            format!("{} is {found:?} and should be {want:?}", shown(name))
        });
        list(f, "wrong shape", misshapen)
    }
}

/// Names that an error lists; of more it says how many.
const LISTED: usize = 10;

fn list(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    mut names: impl ExactSizeIterator<Item = String>,
) -> fmt::Result {
    let mut separator = format!("; {what}: ");
    for name in names.by_ref().take(LISTED) {
        write!(f, "{separator}{name}")?;
        ", ".clone_into(&mut separator);
    }
    match names.len() {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

/// A text of a file as an error shows it: on one line, and no longer than 200 characters.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(LONGEST).collect();
    let start = start.replace(char::is_control, "\u{fffd}");
    match chars.next() {
        Some(_) => start + "…",
        None => start,
    }
}

/// Named tensors somewhere: a file, a pickle, a map under other names.
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
/// [`Error::File`] names the file; nothing is left behind then.
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
    Ok(write().at(path)?)
}

/// The config's name in the folder of a model.
pub const CONFIG: &str = "config.json";
/// The weights' name in the folder of a model.
pub const WEIGHTS: &str = "model.safetensors";

/// Writes the folder of a model, which is created if need be: [`CONFIG`] and [`WEIGHTS`],
/// each whole or not at all, the weights before the config.
///
/// # Errors
/// [`Error::File`] names the file that cannot be written.
pub fn save_folder<'a>(
    folder: impl AsRef<Path>,
    config: &impl Serialize,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: BTreeMap<String, String>,
) -> Result<(), Error> {
    let folder = folder.as_ref();
    std::fs::create_dir_all(folder).at(folder)?;
    save(folder.join(WEIGHTS), tensors, metadata)?;
    let path = folder.join(CONFIG);
    let json = serde_json::to_string_pretty(config).at(&path)?;
    Ok(write_text_atomically(&path, &json).at(path)?)
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

    use candle_nn::VarBuilder;

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
        let opened = TensorFile::open(&path).expect("opened");
        assert_eq!(opened.names(), ["a.weight", "b", "odd"]);
        assert_eq!(opened.metadata()["k"], "v");
        let build = |vb: VarBuilder<'_>| -> candle_core::Result<_> {
            Ok((
                vb.pp("a").get(3, "weight")?,
                vb.get(2, "b")?,
                vb.get(1, "odd")?,
            ))
        };
        let (a, ..) = load_strict(&opened, &Device::Cpu, build).expect("loaded");
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
        let opened = TensorFile::open(&path).expect("opened");
        let build = |vb: VarBuilder<'_>| -> Result<(), Error> {
            vb.get(4, "a.weight")?;
            vb.get(2, "b")?;
            vb.get(1, "gone")?;
            vb.get(1, "lost")?;
            Ok(())
        };
        let error = load_strict(&opened, &Device::Cpu, build).expect_err("faulty");
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
            let error = TensorFile::open(&path).err().expect("refused").to_string();
            assert!(error.contains("m.safetensors"), "{error}");
        }
        assert!(TensorFile::open(dir.path()).is_err());
    }
}
