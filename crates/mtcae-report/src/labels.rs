//! What is known of clips, to hold answers against.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mtcae_core::files::same_file;
use mtcae_labels::dataset::{Sex, manifest};
use mtcae_labels::labels::LabelReader;

use crate::Error;

/// What labels say of clips.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// The file that says it.
    pub path: PathBuf,
    /// The clips that have a class, in the file's order.
    pub truths: Vec<Truth>,
    /// What of it is left out and why, in words.
    pub notes: Vec<String>,
    /// Places in `truths` by the name of the file alone.
    by_name: BTreeMap<String, Vec<usize>>,
}

/// What is known of one clip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// The clip's file, relative to the dataset's root.
    pub file: String,
    /// SHA-256 of its content in hexadecimal, where the labels have it.
    pub sha256: Option<String>,
    /// The expression's name.
    pub class: String,
    /// The person.
    pub subject: Option<String>,
    /// The person's sex.
    pub sex: Option<Sex>,
    /// Intensity, in the dataset's words.
    pub level: Option<String>,
}

impl Labels {
    /// Reads a label file or, where its name ends in `.csv`, a manifest.
    ///
    /// # Errors
    /// Names the file, and the line where one is wrong.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut labels = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        let mut classless = 0;
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("csv"))
        {
            let table = manifest::read(path, &[])?;
            labels.notes = table.problems.iter().map(ToString::to_string).collect();
            for sample in table.samples {
                let Some(class) = sample.class else { continue };
                labels.truths.push(Truth {
                    file: sample.file,
                    sha256: None,
                    class,
                    subject: sample.subject,
                    sex: sample.sex,
                    level: sample.level,
                });
            }
        } else {
            for clip in LabelReader::open(path)? {
                let clip = clip?;
                match clip.class {
                    None => classless += 1,
                    Some(class) => labels.truths.push(Truth {
                        file: clip.file,
                        sha256: clip.sha256,
                        class,
                        subject: clip.subject,
                        sex: clip.sex,
                        level: clip.level,
                    }),
                }
            }
        }
        if classless > 0 {
            labels
                .notes
                .push(format!("{classless} clips have no class"));
        }
        for (i, truth) in labels.truths.iter().enumerate() {
            let name = name(&truth.file).to_owned();
            labels.by_name.entry(name).or_default().push(i);
        }
        Ok(labels)
    }

    /// Which clip a video is: the one whose content has the same digest; or else, of those of
    /// its name, the one that is the same file, whose path the video's ends in, or that is the
    /// only one. A digest that differs says that it is another.
    pub(crate) fn place(
        &self,
        video: &Path,
        found: Option<&Path>,
        sha: Option<&str>,
    ) -> Option<usize> {
        let known = |i: &usize| self.truths[*i].sha256.as_deref();
        if let Some(sha) = sha {
            let same = (0..self.truths.len()).find(|i| known(i) == Some(sha));
            if same.is_some() {
                return same;
            }
        }
        let shown = video.to_string_lossy().replace('\\', "/");
        let named = self.by_name.get(name(&shown))?;
        let may_be = |i: &&usize| match (known(i), sha) {
            (Some(known), Some(sha)) => known == sha,
            _ => true,
        };
        let named: Vec<usize> = named.iter().filter(may_be).copied().collect();
        let root = self.path.parent().unwrap_or(Path::new(""));
        let is_it = |i: &&usize| {
            found.is_some_and(|found| same_file(found, root.join(&self.truths[**i].file)))
        };
        let ends = |i: &&usize| Path::new(&shown).ends_with(&self.truths[**i].file);
        let place = named.iter().find(is_it).or_else(|| named.iter().find(ends));
        match (place, &named[..]) {
            (Some(place), _) => Some(*place),
            (None, [only]) => Some(*only),
            (None, _) => None,
        }
    }
}

fn name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}
