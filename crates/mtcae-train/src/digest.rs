//! Digests by which files, weights and settings are known again.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The digest of what something was made of, value by value. Its bytes are those written
/// here and nothing else: texts by their length and UTF-8, whole numbers as `u64`, others
/// by their bits, all little-endian. Who changes what is added raises the version.
pub struct Identity(Sha256);

impl Identity {
    /// Of a kind of thing, in a version of what is added.
    pub fn new(kind: &str, version: u64) -> Self {
        let mut this = Self(Sha256::new());
        this.text(kind).number(version);
        this
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64);
        self.0.update(text);
        self
    }

    pub fn number(&mut self, n: u64) -> &mut Self {
        self.0.update(n.to_le_bytes());
        self
    }

    pub fn real(&mut self, x: f64) -> &mut Self {
        self.number(x.to_bits())
    }

    /// Whether it is there, and then what it is.
    pub fn maybe(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.number(1).text(text),
            None => self.number(0),
        }
    }

    pub fn reals(&mut self, values: &[f32]) -> &mut Self {
        self.number(values.len() as u64);
        let mut bytes = Vec::with_capacity(1 << 16);
        for chunk in values.chunks(1 << 14) {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
            self.0.update(&bytes);
        }
        self
    }

    pub fn numbers(&mut self, values: &[usize]) -> &mut Self {
        self.number(values.len() as u64);
        for value in values {
            self.number(*value as u64);
        }
        self
    }

    /// A value of JSON, the fields of an object by name.
    pub fn json(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Object(fields) => {
                let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
                self.text("{}").number(sorted.len() as u64);
                for (name, value) in sorted {
                    self.text(name).json(value);
                }
                self
            }
            other => self.text(&other.to_string()),
        }
    }

    /// Name, shape and values.
    pub fn tensor(&mut self, name: &str, tensor: &Tensor) -> candle_core::Result<&mut Self> {
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        Ok(self.text(name).numbers(tensor.dims()).reals(&values))
    }

    /// Its first 16 bytes.
    pub fn first(&self) -> [u8; 16] {
        let mut first = [0; 16];
        first.copy_from_slice(&self.0.clone().finalize()[..16]);
        first
    }

    /// All of it as hexadecimal digits.
    pub fn finish(&self) -> String {
        hex(&self.0.clone().finalize())
    }
}

/// A digest of named tensors in the order given.
///
/// # Errors
/// When a tensor cannot be read.
pub fn tensors<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> candle_core::Result<String> {
    let mut identity = Identity::new("tensors", 1);
    for (name, tensor) in tensors {
        identity.tensor(name, tensor)?;
    }
    Ok(identity.finish())
}
