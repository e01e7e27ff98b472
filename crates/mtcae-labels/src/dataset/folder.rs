//! A tree of one's own: class/file or class/subject/file.

use std::path::Path;

use super::{Catalogue, Sample, walk::walk};
use crate::Error;

/// Reads the videos and images below `root`: the first folder is the class, the
/// second, if there is one, the subject. Classes are numbered in the order of
/// their names. There are no folds; see
/// [`folds::assign`](super::folds::assign).
///
/// # Errors
/// [`Error::File`] when `root` cannot be read.
pub fn read(root: impl AsRef<Path>) -> Result<Catalogue, Error> {
    let mut c = Catalogue::new("folder", &[]);
    for found in walk(root.as_ref(), &mut c.problems)? {
        if !found.is_visual() {
            c.leave_out(format!("no video or image by its name: {}", found.ending()));
            continue;
        }
        let (class, subject) = match &found.parts[..] {
            [class, _] => (class.clone(), None),
            [class, subject, ..] if found.parts.len() > 2 => (class.clone(), Some(subject.clone())),
            _ => {
                c.misnamed(&found.path, "lies in no folder of a class");
                continue;
            }
        };
        if c.classes.last() != Some(&class) {
            c.classes.push(class.clone()); // files come sorted by folder
        }
        c.samples.push(Sample {
            file: found.file(),
            path: found.path,
            dataset: "folder".to_owned(),
            class: Some(class),
            subject,
            sex: None,
            level: None,
            fold: None,
        });
    }
    Ok(c)
}
