//! What is done to which files.

use std::collections::HashSet;
use std::path::Path;

use mtcae_core::files::sha256_of;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Difference, Error};

/// What is done to which files: equal in all processes that work on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What does it, with its version: `mtcae 0.1.0`.
    pub program: String,
    /// What is done: `label`, `infer`.
    pub task: String,
    /// The list of files.
    pub inputs: Listing,
    /// All that the rows depend on besides, [`as_text`].
    pub settings: Value,
}

/// A value whose fractions are text, which is the same when it was written and read again.
pub fn as_text(value: Value) -> Value {
    match value {
        Value::Number(n) if n.is_f64() => Value::String(n.to_string()),
        Value::Array(list) => list.into_iter().map(as_text).collect(),
        Value::Object(map) => {
            let fields = map.into_iter().map(|(name, value)| (name, as_text(value)));
            Value::Object(fields.collect())
        }
        other => other,
    }
}

/// A list of names, by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// How many there are.
    pub files: usize,
    /// SHA-256 of the names in their order, each followed by a zero byte.
    pub sha256: String,
}

impl Listing {
    /// Of these names.
    ///
    /// # Errors
    /// [`Error::Twice`].
    pub fn of(names: &[String]) -> Result<Self, Error> {
        let mut seen = HashSet::with_capacity(names.len());
        let mut digest = ListDigest::default();
        for name in names {
            if !seen.insert(name) {
                return Err(Error::Twice { name: name.clone() });
            }
            digest.add(name);
        }
        Ok(digest.finish())
    }
}

/// A [`Listing`], name by name.
#[derive(Default)]
pub(crate) struct ListDigest {
    files: usize,
    hash: Sha256,
}

impl ListDigest {
    pub fn add(&mut self, name: &str) {
        self.files += 1;
        self.hash.update(name);
        self.hash.update([0]);
    }

    pub fn finish(self) -> Listing {
        Listing {
            files: self.files,
            sha256: hexadecimal(&self.hash.finalize()),
        }
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Job {
    /// SHA-256 of all that it says.
    ///
    /// # Errors
    /// When the settings cannot be written as JSON.
    pub fn digest(&self) -> serde_json::Result<String> {
        Ok(sha256_of(&serde_json::to_vec(self)?))
    }

    /// Refuses another job, which is described at `path`, and names the first field in which
    /// it differs.
    ///
    /// # Errors
    /// [`Error::OtherJob`].
    pub(crate) fn same(
        &self,
        other: &Self,
        path: &Path,
        advice: &'static str,
    ) -> Result<(), Error> {
        if self == other {
            return Ok(());
        }
        let json = |job: &Self| serde_json::to_value(job).unwrap_or_default();
        let (field, there, here) = difference("", &json(other), &json(self)).unwrap_or_else(|| {
            (
                "settings".to_owned(),
                "other".to_owned(),
                "as given".to_owned(),
            )
        });
        Err(Difference {
            path: path.to_owned(),
            field,
            there,
            here,
            place: "here".to_owned(),
            advice,
        }
        .into())
    }
}

/// The first field in which two values differ, by its path, and the two.
fn difference(path: &str, was: &Value, is: &Value) -> Option<(String, String, String)> {
    if let (Value::Object(was), Value::Object(is)) = (was, is) {
        let below = |name: &str| match path {
            "" => name.to_owned(),
            _ => format!("{path}.{name}"),
        };
        let names: std::collections::BTreeSet<_> = was.keys().chain(is.keys()).collect();
        let value = |of: &serde_json::Map<String, Value>, name: &str| {
            of.get(name).cloned().unwrap_or(Value::Null)
        };
        return names
            .into_iter()
            .find_map(|name| difference(&below(name), &value(was, name), &value(is, name)));
    }
    let said = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    (was != is).then(|| (path.to_owned(), said(was), said(is)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(names: &[&str], settings: Value) -> Job {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        Job {
            program: "mtcae 1".to_owned(),
            task: "label".to_owned(),
            inputs: Listing::of(&names).expect("each once"),
            settings: as_text(settings),
        }
    }

    #[test]
    fn a_list_is_told_by_its_names_and_their_order() {
        let of = |names: &[&str]| job(names, Value::Null).inputs;
        // printf 'a\0b\0' | sha256sum
        assert_eq!(
            of(&["a", "b"]).sha256,
            "8fb20ef63ced4145fc2e983ffe597d1dcff39154c3bf21f0fa9dde6a0c50fdc9"
        );
        let lists = [of(&["a", "b"]), of(&["b", "a"]), of(&["ab"]), of(&["a"])];
        for (i, a) in lists.iter().enumerate() {
            assert!(lists[..i].iter().all(|b| a.sha256 != b.sha256));
        }
        assert!(Listing::of(&["a".to_owned(), "a".to_owned()]).is_err());
    }

    #[test]
    fn another_job_is_refused_by_the_field_that_differs() {
        let one = job(
            &["a"],
            json!({"detector": {"min_face": 20.0}, "every": null}),
        );
        for (other, said) in [
            (
                job(
                    &["a"],
                    json!({"detector": {"min_face": 24.0}, "every": null}),
                ),
                "settings.detector.min_face is 24.0 there and 20.0 here",
            ),
            (
                job(&["a"], json!({"detector": {"min_face": 20.0}, "every": 2})),
                "settings.every is 2 there and null here",
            ),
            (
                job(&["a", "b"], one.settings.clone()),
                "inputs.files is 2 there and 1 here",
            ),
        ] {
            let error = one
                .same(&other, Path::new("job.json"), "x")
                .expect_err("other");
            assert!(error.to_string().contains(said), "{error}");
            assert_ne!(one.digest().ok(), other.digest().ok());
        }
        assert!(one.same(&one.clone(), Path::new("job.json"), "x").is_ok());
    }
}
