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
