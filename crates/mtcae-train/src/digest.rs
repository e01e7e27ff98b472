//! Digests by which files, weights and settings are known again.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::Error;

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A digest of named tensors: names, shapes and values, in the order given.
///
/// # Errors
/// When a tensor cannot be read.
pub fn tensors<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a candle_core::Tensor)>,
) -> candle_core::Result<String> {
    let mut hash = Sha256::new();
    for (name, tensor) in tensors {
        hash.update(format!("{name} {:?}\n", tensor.dims()));
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        let mut bytes = Vec::with_capacity(1 << 16);
        for chunk in values.chunks(1 << 14) {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
            hash.update(&bytes);
        }
    }
    Ok(hex(&hash.finalize()))
}

/// A digest of a file's content.
pub fn file(path: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    mtcae_core::files::open(path)
        .and_then(|mut file| std::io::copy(&mut file, &mut hash))
        .map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
    Ok(hex(&hash.finalize()))
}
