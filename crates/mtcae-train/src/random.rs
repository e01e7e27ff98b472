//! Randomness that depends on nothing but what it is for.
//!
//! Every draw has a generator of its own, seeded by a purpose and some numbers
//! (the run's seed, the epoch, the clip). Nothing has to be saved to resume a
//! run, and no thread's timing can change what is drawn.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// The generator of a purpose.
pub fn generator(purpose: &str, numbers: &[u64]) -> ChaCha8Rng {
    let mut hash = Sha256::new_with_prefix(purpose.as_bytes());
    for number in numbers {
        hash.update(number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// A seed for something that takes one number.
pub fn seed(purpose: &str, numbers: &[u64]) -> u64 {
    use rand::RngCore;
    generator(purpose, numbers).next_u64()
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A digest of named tensors: names, shapes and values, in the order given.
///
/// # Errors
/// When a tensor cannot be read.
pub fn digest<'a>(
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
