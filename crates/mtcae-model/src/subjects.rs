//! Whom a model was trained on, without their names.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;

/// Whom a model was trained on: salted digests, by which a person whose name is known is
/// found again, and no name is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedSubjects {
    /// 16 bytes in hexadecimal, others in each model but those that one was made of, so
    /// that digests of models that have nothing to do with each other cannot be compared.
    pub salt: String,
    /// Whether they are all: false where the training began with a trained model that
    /// does not say whom it was trained on.
    pub complete: bool,
    /// The first 16 bytes of SHA-256 of salt, dataset, a zero byte and subject, in
    /// hexadecimal.
    pub digests: BTreeSet<String>,
}

impl TrainedSubjects {
    /// Nobody yet.
    pub fn new(salt: [u8; 16]) -> Self {
        Self {
            salt: hex(&salt),
            complete: true,
            digests: BTreeSet::new(),
        }
    }

    /// Adds a dataset's subject.
    pub fn add(&mut self, dataset: &str, subject: &str) {
        self.digests.insert(self.digest(dataset, subject));
    }

    /// Whether a dataset's subject is among them.
    pub fn has(&self, dataset: &str, subject: &str) -> bool {
        self.digests.contains(&self.digest(dataset, subject))
    }

    fn digest(&self, dataset: &str, subject: &str) -> String {
        let salt = self.salt.as_bytes().chunks(2).filter_map(byte);
        let hash = Sha256::new()
            .chain_update(salt.collect::<Vec<u8>>())
            .chain_update(dataset)
            .chain_update([0])
            .chain_update(subject)
            .finalize();
        hex(&hash[..16])
    }

    /// Checks salt and digests.
    ///
    /// # Errors
    /// When one is not 16 bytes in lower-case hexadecimal.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        for text in std::iter::once(&self.salt).chain(&self.digests) {
            let digits = text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
            if text.len() != 32 || !digits {
                return Err(Error::Config {
                    field: "trained_subjects",
                    reason: format!("{text:?} is not 16 bytes in lower-case hexadecimal"),
                });
            }
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_found_by_name_and_not_told() {
        let mut subjects = TrainedSubjects::new([7; 16]);
        subjects.add("ravdess", "01");
        assert!(subjects.has("ravdess", "01"));
        assert!(!subjects.has("ravdess", "02") && !subjects.has("crema-d", "01"));
        assert!(!subjects.has("ravdes", "s01"));
        subjects.validate().expect("valid");
        let json = serde_json::to_string(&subjects).expect("JSON");
        assert!(
            !json.contains("ravdess") && !json.contains("\"01\""),
            "{json}"
        );
        // python3 -c "import hashlib; print(hashlib.sha256(b'\7'*16 + b'ravdess\0' + b'01').hexdigest()[:32])"
        assert_eq!(
            subjects.digests.iter().next().map(String::as_str),
            Some("550d213e54d486b043169f465e015b56")
        );
        let mut other = TrainedSubjects::new([8; 16]);
        other.add("ravdess", "01");
        assert!(other.digests.is_disjoint(&subjects.digests));
        for broken in [
            "",
            "0",
            "zz000000000000000000000000000000",
            &"A0".repeat(16),
        ] {
            other.salt = broken.to_owned();
            let said = other.validate().expect_err("broken").to_string();
            assert!(said.contains("trained_subjects"), "{said}");
        }
    }
}
