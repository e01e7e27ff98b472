//! Checkpoints by their name on the Hugging Face hub.

use std::path::PathBuf;

use crate::checkpoint::Files;
use crate::{Checkpoint, Error, Families, HubFault, Overrides};

/// Called while a file is downloaded: its name, the bytes that have arrived, and
/// its length in bytes.
pub type Progress<'a> = dyn FnMut(&str, u64, u64) + 'a;

/// A model's name, `hub:ORG/NAME` or `hub:ORG/NAME@REVISION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// `ORG/NAME`.
    pub model: String,
    /// A branch, tag or commit; `main` where the name does not say.
    pub revision: String,
}

impl HubName {
    /// Whether a text is meant as such a name and not as a path.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("hub:")
    }

    /// Reads `hub:ORG/NAME[@REVISION]`.
    ///
    /// # Errors
    /// [`Error::Hub`] with [`HubFault::Name`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fault = |reason: &str| Error::Hub {
            name: text.to_owned(),
            fault: HubFault::Name(reason.to_owned()),
        };
        let name = text
            .strip_prefix("hub:")
            .ok_or_else(|| fault("it does not begin with hub:"))?;
        let (model, revision) = name.split_once('@').unwrap_or((name, "main"));
        // Names become parts of paths and addresses.
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && !part.contains("..")
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        match model.split_once('/') {
            Some((organisation, model)) if plain(organisation) && plain(model) => {}
            Some(_) => return Err(fault("a part of it is empty or has a character of no name")),
            None => return Err(fault("there is no organisation")),
        }
        if !revision.split('/').all(plain) {
            return Err(fault(
                "the revision is empty or has a character of no revision",
            ));
        }
        Ok(Self {
            model: model.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

impl std::fmt::Display for HubName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "hub:{}", self.model)?;
        match self.revision.as_str() {
            "main" => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

/// Opens a checkpoint by `hub:ORG/NAME[@REVISION]` or, for any other text, by path.
///
/// Only a hub name that is not in the cache yet reaches for the network.
///
/// # Errors
/// As [`crate::open`]; [`Error::Hub`] when the model cannot be had, and always for
/// a hub name when the crate is built without the feature `hub`.
pub fn open_named(
    name: &str,
    overrides: &Overrides,
    families: &Families,
    progress: &mut Progress<'_>,
) -> Result<Checkpoint, Error> {
    if !HubName::is_meant(name) {
        return crate::open_with(name, overrides, families);
    }
    fetch(&HubName::parse(name)?, progress)?.open(overrides, families)
}

/// The local folder of `hub:ORG/NAME[@REVISION]`, downloaded if need be: its
/// `config.json` and weights, whatever model they are of.
///
/// # Errors
/// As [`open_named`], but the files are not looked into.
pub fn fetch_folder(name: &str, progress: &mut Progress<'_>) -> Result<PathBuf, Error> {
    let files = fetch(&HubName::parse(name)?, progress)?;
    match files.weights.parent() {
        Some(folder) => Ok(folder.to_owned()),
        None => Ok(files.weights),
    }
}

#[cfg(feature = "hub")]
fn fetch(name: &HubName, progress: &mut Progress<'_>) -> Result<Files, Error> {
    Hub::from_env()?.fetch(name, progress)
}

#[cfg(not(feature = "hub"))]
fn fetch(name: &HubName, _: &mut Progress<'_>) -> Result<Files, Error> {
    Err(Error::Hub {
        name: name.to_string(),
        fault: HubFault::FeatureOff,
    })
}

#[cfg(feature = "hub")]
pub use online::Hub;

#[cfg(feature = "hub")]
mod online;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_wrong_ones_refused() {
        let name = HubName::parse("hub:MCG-NJU/videomae-large").expect("a name");
        assert_eq!(name.model, "MCG-NJU/videomae-large");
        assert_eq!(name.revision, "main");
        let pinned = HubName::parse("hub:a/b@refs/pr/1").expect("a name");
        assert_eq!(pinned.revision, "refs/pr/1");
        assert_eq!(pinned.to_string(), "hub:a/b@refs/pr/1");
        for wrong in [
            "hub:",
            "hub:videomae",
            "hub:a/",
            "hub:a/b/c",
            "hub:../b",
            "hub:a/b@",
            "hub:a/b@../x",
            "hub:a/b c",
            "a/b",
        ] {
            let error = HubName::parse(wrong).expect_err(wrong).to_string();
            assert!(
                error.starts_with(wrong) && error.contains("hub:ORG/NAME"),
                "{error}"
            );
        }
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn without_the_feature_an_error_says_so() {
        let error = open_named(
            "hub:a/b",
            &Overrides::default(),
            &Families::default(),
            &mut |_, _, _| {},
        );
        let error = error.expect_err("refused").to_string();
        assert!(
            error.starts_with("hub:a/b: ") && error.contains("feature `hub`"),
            "{error}"
        );
    }
}
