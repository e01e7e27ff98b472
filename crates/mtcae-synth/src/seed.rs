//! Random numbers: one stream a purpose, so that a draw more in one place moves
//! nothing elsewhere, and seeds that are hashes of what they are for.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A seed from parts, by feeding them block by block into the key of ChaCha8.
/// Parts are told apart by their lengths, so ("ab", "c") is not ("a", "bc").
pub(crate) fn derive(parts: &[&[u8]]) -> u64 {
    let mut key = [0u8; 32];
    let mut absorb = |block: &[u8]| {
        for (k, b) in key.iter_mut().zip(block) {
            *k ^= b;
        }
        ChaCha8Rng::from_seed(key).fill_bytes(&mut key);
    };
    for part in parts {
        absorb(&(part.len() as u64).to_le_bytes());
        for block in part.chunks(32) {
            absorb(block);
        }
    }
    let mut seed = [0u8; 8];
    seed.copy_from_slice(&key[..8]);
    u64::from_le_bytes(seed)
}

/// A stream of random numbers.
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream of a purpose.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let seed = derive(&[&seed.to_le_bytes(), purpose.as_bytes()]);
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / 16_777_216.0
    }

    /// Uniform in [low, high).
    pub fn within(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Near 0, of variance 1, within ±√12: a sum of four uniform numbers.
    pub fn bell(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 1.732_050_8
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// One of 0..n.
    pub fn pick(&mut self, n: usize) -> usize {
        ((self.unit() * n as f32) as usize).min(n.saturating_sub(1))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_depend_on_every_part_and_where_it_ends() {
        let seeds = [
            derive(&[b"ab", b"c"]),
            derive(&[b"a", b"bc"]),
            derive(&[b"abc"]),
            derive(&[b"abc", b""]),
            derive(&[&[0; 40]]),
            derive(&[&[0; 41]]),
        ];
        for (i, a) in seeds.iter().enumerate() {
            assert!(seeds[i + 1..].iter().all(|b| a != b), "{i}");
        }
    }
}
