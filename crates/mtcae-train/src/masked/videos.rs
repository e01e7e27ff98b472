//! Videos that nobody has labelled: which there are, and which are kept for validation.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use mtcae_core::files::FileError;
use mtcae_labels::labels::LabelReader;
use mtcae_video::inputs::{self, expand};
use mtcae_video::{is_media, is_video};
use rand::seq::SliceRandom;

use crate::cache::MAGIC;
use crate::digest::Identity;
use crate::error::list;
use crate::{Error, TrainConfig, random};

/// Videos to learn from without labels.
#[derive(Clone, Debug)]
pub struct Videos {
    /// In the order in which they were named; those of folders by their names.
    pub files: Vec<Footage>,
    /// What was left out and why, in words.
    pub notices: Vec<String>,
}

/// A video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footage {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name within the folder, the pattern or the label file that named it.
    pub name: String,
}

/// Which videos do what: places in [`Videos::files`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub train: Vec<usize>,
    pub validation: Vec<usize>,
}

impl Videos {
    /// Files, the videos of folders, and what patterns match. Pictures in folders are left out.
    ///
    /// # Errors
    /// Names what cannot be found, unless that may be left out; says so when no video is left.
    pub fn find(names: &[PathBuf], allow_missing: bool) -> Result<Self, Error> {
        let (mut notices, mut faults) = (Vec::new(), Vec::new());
        let found = expand(names, &mut |fault| faults.push(fault.to_owned()));
        if found.drawn > 0 {
            notices.push(inputs::drawn(found.drawn));
        }
        let all = found.files.len();
        let files = found.files.into_iter().map(|file| Footage {
            name: file.name.display().to_string(),
            path: file.path,
        });
        // Whoever names a picture by itself means it.
        let is_still = |path: &Path| is_media(path) && !is_video(path);
        let is_meant = |file: &Footage| !is_still(&file.path) || names.contains(&file.path);
        let files: Vec<Footage> = files.filter(is_meant).collect();
        if files.len() < all {
            let stills = all - files.len();
            notices.push(format!("left out: {stills} pictures, which do not move"));
        }
        let named = files.iter().filter(|file| names.contains(&file.path));
        if let Some(file) = named.into_iter().find(|file| holds_features(&file.path)) {
            let reason = "holds cached features; pre-training takes the videos themselves";
            return Err(FileError::new(&file.path, reason).into());
        }
        if !allow_missing && let Some(fault) = faults.first() {
            return Err(fault_of(fault));
        }
        notices.extend(faults.into_iter().map(|fault| format!("left out: {fault}")));
        Self::of(files, notices, allow_missing)
    }

    /// The videos that a label file names, below `root` or by default the file's own folder.
    /// Nothing else is taken from it; clips that could not be labelled count as well.
    ///
    /// # Errors
    /// As [`Self::find`]; names the label file and what is wrong with it.
    pub fn of_labels(
        labels: &Path,
        root: Option<&Path>,
        allow_missing: bool,
    ) -> Result<Self, Error> {
        let own = labels.parent().unwrap_or(Path::new(""));
        let root = root.unwrap_or(own);
        let mut files = Vec::new();
        for clip in LabelReader::open(labels)? {
            let name = clip?.file;
            let path = root.join(&name);
            files.push(Footage { path, name });
        }
        if files.is_empty() {
            return Err(FileError::new(labels, "names no clip").into());
        }
        Self::of(files, Vec::new(), allow_missing)
    }

    fn of(
        files: Vec<Footage>,
        mut notices: Vec<String>,
        allow_missing: bool,
    ) -> Result<Self, Error> {
        let all = files.len();
        let mut seen = BTreeSet::new();
        let is_new = |file: &Footage| seen.insert(file.path.clone());
        let files: Vec<Footage> = files.into_iter().filter(is_new).collect();
        if files.len() < all {
            let doubles = all - files.len();
            notices.push(format!("left out: {doubles} videos that are named twice"));
        }
        let (files, missing): (Vec<_>, Vec<_>) = files.into_iter().partition(|f| f.path.is_file());
        if !missing.is_empty() {
            let names: Vec<String> = missing
                .iter()
                .map(|f| f.path.display().to_string())
                .collect();
            let missing = list("videos are missing", &names);
            if !allow_missing {
                return Err(fault_of(&format!(
                    "{missing}; `allow_missing` leaves them out"
                )));
            }
            notices.push(format!("left out: {missing}"));
        }
        if files.is_empty() {
            let mut reason = "there is no video to learn from".to_owned();
            for notice in &notices {
                reason += &format!("; {notice}");
            }
            return Err(fault_of(&reason));
        }
        Ok(Self { files, notices })
    }

    /// Divides them: a share that is drawn from the seed is kept for validation.
    ///
    /// # Errors
    /// When none is left to learn from.
    pub(crate) fn split(&self, config: &TrainConfig) -> Result<Parts, Error> {
        let mut order: Vec<usize> = (0..self.files.len()).collect();
        order.shuffle(&mut random::generator("validation videos", &[config.seed]));
        let share = self.files.len() as f64 * config.validation;
        let kept = match config.validation > 0.0 {
            true => (share.round() as usize).max(1),
            false => 0,
        };
        if kept >= order.len() {
            let reason = format!(
                "{} of {} videos leaves none to learn from",
                config.validation,
                order.len()
            );
            return Err(Error::Config {
                field: "validation",
                reason,
            });
        }
        let mut validation = order[..kept].to_vec();
        let mut train = order[kept..].to_vec();
        validation.sort_unstable();
        train.sort_unstable();
        Ok(Parts { train, validation })
    }

    /// A digest of their names, in their order.
    pub(crate) fn digest(&self) -> String {
        let mut identity = Identity::new("videos", 1);
        identity.number(self.files.len() as u64);
        for file in &self.files {
            identity.text(&file.name);
        }
        identity.finish()
    }
}

/// Whether a file begins as a feature cache.
fn holds_features(path: &Path) -> bool {
    let mut begin = [0; MAGIC.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == *MAGIC
}

fn fault_of(reason: &str) -> Error {
    Error::Config {
        field: "videos",
        reason: reason.to_owned(),
    }
}
