//! MEAD (Wang et al., 2020, ECCV): 48 published actors, files lying at
//! actor/video/view/emotion/level_n/number.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Catalogue, Sample, Sex, walk::walk};
use crate::Error;

const CLASSES: [&str; 8] = [
    "angry",
    "contempt",
    "disgusted",
    "fear",
    "happy",
    "neutral",
    "sad",
    "surprised",
];

/// Camera positions, as the folders are named.
pub const VIEWS: [&str; 7] = [
    "front", "down", "left_30", "left_60", "right_30", "right_60", "top",
];

/// Clips per class that the MTCAE-DFER paper used, in the order of the classes;
/// they sum to 6568. Which clips these were is not published.
pub const PAPER: [usize; 8] = [884, 884, 884, 884, 884, 380, 884, 884];

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Camera positions of [`VIEWS`].
    pub views: Vec<String>,
    /// Intensities out of 1, 2, 3; neutral has only the first and is always read.
    pub levels: Vec<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            views: vec!["front".to_owned()],
            levels: vec![1, 2, 3],
        }
    }
}

/// Reads the clips below `root`. Folds are ours
/// ([`folds::mead`](super::folds::mead)): none are in print.
///
/// # Errors
/// [`Error::File`] when `root` cannot be read, [`Error::Config`] for an unknown
/// view or level.
pub fn read(root: impl AsRef<Path>, options: &Options) -> Result<Catalogue, Error> {
    if let Some(view) = options.views.iter().find(|v| !VIEWS.contains(&&v[..])) {
        return Err(Error::Config {
            field: "views",
            reason: format!("there is no view {view}; there are {}", VIEWS.join(", ")),
        });
    }
    if let Some(level) = options.levels.iter().find(|l| !(1..=3).contains(*l)) {
        return Err(Error::Config {
            field: "levels",
            reason: format!("there is no level {level}; there are 1, 2 and 3"),
        });
    }
    let folds = super::folds::mead();
    let actors: BTreeSet<&str> = folds.iter().flatten().map(String::as_str).collect();
    let mut c = Catalogue::new("mead", &CLASSES);
    let mut takes = Vec::new();
    let mut present = BTreeSet::new();
    let found = walk(root.as_ref(), &mut c.problems)?;
    for (found, parsed) in c.videos(found, |found| parse(&found.parts, &actors)) {
        let (actor, view, class, level) = parsed;
        if !options.views.contains(&view) {
            c.leave_out(format!("view {view}"));
            continue;
        }
        if class != "neutral" && !options.levels.contains(&level) {
            c.leave_out(format!("level {level}"));
            continue;
        }
        takes.push(format!("{actor}/{view}/{class}/{level}/{}", found.stem()));
        present.insert((actor.clone(), view, class.clone(), level));
        c.samples.push(Sample {
            file: found.file(),
            path: found.path,
            dataset: "mead".to_owned(),
            class: Some(class),
            sex: Some(if actor.starts_with('M') {
                Sex::Male
            } else {
                Sex::Female
            }),
            level: Some(level.to_string()),
            fold: super::folds::of(&folds, &actor),
            subject: Some(actor),
        });
    }
    c.drop_duplicates(takes);
    for actor in actors {
        if !present.iter().any(|p| p.0 == actor) {
            c.missing(format!("all clips of actor {actor}"));
            continue;
        }
        for view in &options.views {
            for class in CLASSES {
                for level in 1..=3 {
                    let wanted = match class {
                        "neutral" => level == 1,
                        _ => options.levels.contains(&level),
                    };
                    let key = (actor.to_owned(), view.clone(), class.to_owned(), level);
                    if wanted && !present.contains(&key) {
                        c.missing(format!("{actor}/video/{view}/{class}/level_{level}"));
                    }
                }
            }
        }
    }
    Ok(c)
}

/// Actor, view, class and level from a path's parts.
fn parse(
    parts: &[String],
    actors: &BTreeSet<&str>,
) -> Result<(String, String, String, u32), String> {
    let Some([actor, video, view, class, level, _]) = parts.last_chunk::<6>() else {
        return Err("does not lie at actor/video/view/emotion/level_n".to_owned());
    };
    if video != "video" {
        return Err(format!("lies in {video} and not in video"));
    }
    if !actors.contains(&actor[..]) {
        return Err(format!("no actor {actor} among the 48 published"));
    }
    if !VIEWS.contains(&&view[..]) {
        return Err(format!("no view {view}"));
    }
    if !CLASSES.contains(&&class[..]) {
        return Err(format!("no emotion {class}"));
    }
    let number = match level.strip_prefix("level_").map(str::parse) {
        Some(Ok(n)) if (1..=3).contains(&n) => n,
        _ => return Err(format!("no level {level}")),
    };
    if class == "neutral" && number != 1 {
        return Err(format!("neutral has no {level}"));
    }
    Ok((actor.clone(), view.clone(), class.clone(), number))
}
