//! Views of tensor sources.

use std::collections::BTreeMap;
use std::path::Path;

use mtcae_nn::candle_core::{Device, Tensor};
use mtcae_nn::weights::{self, Source, TensorFile};
use serde::Deserialize;

use crate::Error;

/// The tensors of a source whose names begin with a prefix, without it: the part
/// `encoder.` of a whole model, say.
pub struct Below<'a> {
    source: &'a dyn Source,
    prefix: String,
}

impl<'a> Below<'a> {
    /// The part of `source` below `prefix`, which includes the dot.
    pub fn new(source: &'a dyn Source, prefix: impl Into<String>) -> Self {
        Self {
            source,
            prefix: prefix.into(),
        }
    }
}

impl Source for Below<'_> {
    fn origin(&self) -> String {
        self.source.origin()
    }

    fn names(&self) -> Vec<String> {
        let names = self.source.names();
        names
            .iter()
            .filter_map(|name| Some(name.strip_prefix(&self.prefix)?.to_owned()))
            .collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.source.shape(&format!("{}{name}", self.prefix))
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor, weights::Error> {
        self.source.load(&format!("{}{name}", self.prefix), device)
    }
}

/// Several safetensors files as one source.
pub(crate) struct Shards {
    origin: String,
    files: Vec<TensorFile>,
    /// Name of a tensor → index of its file.
    file_of: BTreeMap<String, usize>,
}

impl Shards {
    /// Opens all files of a `*.safetensors.index.json`.
    pub fn open(index: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let origin = index.display().to_string();
        let text = crate::read_text(index)?;
        let Index { weight_map } = serde_json::from_str(&text).map_err(|source| Error::Json {
            origin: origin.clone(),
            source,
        })?;
        let mut order: Vec<&String> = weight_map.values().collect();
        order.sort_unstable();
        order.dedup();
        let mut files = Vec::with_capacity(order.len());
        for file in &order {
            // An index points at its neighbours, never elsewhere on the disk.
            if Path::new(file).components().count() != 1
                || file.contains(['/', '\\', ':'])
                || file.starts_with("..")
            {
                return Err(Error::Field {
                    origin,
                    field: "weight_map".to_owned(),
                    reason: format!("{:?} is not a plain file name", weights::shown(file)),
                });
            }
            files.push(TensorFile::open(index.with_file_name(file))?);
        }
        let mut file_of = BTreeMap::new();
        for (name, file) in &weight_map {
            if let Ok(i) = order.binary_search(&file) {
                file_of.insert(name.clone(), i);
            }
        }
        Ok(Self {
            origin,
            files,
            file_of,
        })
    }
}

impl Source for Shards {
    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn names(&self) -> Vec<String> {
        self.file_of.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.files[*self.file_of.get(name)?].shape(name)
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor, weights::Error> {
        match self.file_of.get(name) {
            Some(&i) => self.files[i].load(name, device),
            None => Err(weights::Error::Tensor {
                origin: self.origin(),
                name: name.to_owned(),
                reason: "not in the index".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use mtcae_nn::candle_core::DType;
    use mtcae_nn::weights::InMemory;

    use super::*;

    #[test]
    fn below_a_prefix_is_what_bears_it() {
        let ones = |n: usize| Tensor::ones(n, DType::F32, &Device::Cpu).expect("ones");
        let whole = InMemory::new(
            "a map",
            [("encoder.a".to_owned(), ones(2)), ("a".to_owned(), ones(3))],
        );
        let below = Below::new(&whole, "encoder.");
        assert_eq!(below.names(), ["a"]);
        assert_eq!(below.shape("a"), Some(vec![2]));
        assert_eq!(below.load("a", &Device::Cpu).expect("a").dims(), [2]);
        let error = below.load("b", &Device::Cpu).expect_err("gone").to_string();
        assert!(error.contains("encoder.b"), "{error}");
    }
}
