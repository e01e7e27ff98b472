//! CREMA-D (Cao et al., 2014, IEEE Transactions on Affective Computing 5(4)): 91
//! actors, files named actor_sentence_emotion_level.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Catalogue, Sample, Sex, walk::walk};
use crate::Error;

const CLASSES: [(&str, &str); 6] = [
    ("ANG", "angry"),
    ("DIS", "disgust"),
    ("FEA", "fear"),
    ("HAP", "happy"),
    ("NEU", "neutral"),
    ("SAD", "sad"),
];
const SENTENCES: [&str; 12] = [
    "IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "WSI", "TSI",
];
const LEVELS: [(&str, &str); 4] = [
    ("LO", "low"),
    ("MD", "medium"),
    ("HI", "high"),
    ("XX", "unspecified"),
];

/// Number of published clips per class, in the order of the classes. They sum to
/// 7442. The full grid of names has 7462: 20 were never published, so that even
/// a complete copy shows missing files.
pub const PUBLISHED: [usize; 6] = [1271, 1271, 1271, 1271, 1087, 1271];

/// Name of the table of actors that comes with the dataset.
const DEMOGRAPHICS: &str = "VideoDemographics.csv";

/// Reads the clips below `root`. Folds are the five published ranges of actors.
/// The actors' sex is known when `VideoDemographics.csv` lies there too.
///
/// # Errors
/// [`Error::File`] when `root` cannot be read.
pub fn read(root: impl AsRef<Path>) -> Result<Catalogue, Error> {
    let names: Vec<&str> = CLASSES.iter().map(|c| c.1).collect();
    let mut c = Catalogue::new("crema-d", &names);
    let found = walk(root.as_ref(), &mut c.problems)?;
    let mut sexes = BTreeMap::new();
    for table in &found {
        if table.parts.last().is_some_and(|n| n == DEMOGRAPHICS) {
            match demographics(&table.path) {
                Ok(table) => sexes.extend(table),
                Err(reason) => c.problems.push(super::Problem::Unreadable {
                    path: table.path.clone(),
                    reason,
                }),
            }
        }
    }
    let mut takes = Vec::new();
    let mut present = BTreeSet::new();
    for (found, parsed) in c.videos(found, |found| parse(found.stem())) {
        let (actor, sentence, class, level) = parsed;
        present.insert(found.stem().to_owned());
        let take = format!("{actor}_{}_{class}_{level}", SENTENCES[sentence]);
        takes.push(take);
        let subject = actor.to_string();
        c.samples.push(Sample {
            file: found.file(),
            path: found.path,
            dataset: "crema-d".to_owned(),
            class: Some(CLASSES[class].1.to_owned()),
            sex: sexes.get(&actor).copied(),
            level: Some(LEVELS[level].1.to_owned()),
            fold: super::folds::of_crema_d(actor),
            subject: Some(subject),
        });
    }
    c.drop_duplicates(takes);
    for actor in 1001..=1091 {
        let own = format!("{actor}_");
        if !present.iter().any(|p| p.starts_with(&own)) {
            c.missing(format!("all clips of actor {actor}"));
            continue;
        }
        for sentence in SENTENCES {
            for (class, _) in CLASSES {
                let levels: &[&str] = match (sentence, class) {
                    ("IEO", class) if class != "NEU" => &["LO", "MD", "HI"],
                    _ => &["XX"],
                };
                for level in levels {
                    let name = format!("{actor}_{sentence}_{class}_{level}");
                    if !present.contains(&name) {
                        c.missing(name);
                    }
                }
            }
        }
    }
    Ok(c)
}

/// Actor and the indices of sentence, class and level.
fn parse(stem: &str) -> Result<(u32, usize, usize, usize), String> {
    let parts: Vec<&str> = stem.split('_').collect();
    let [actor, sentence, class, level] = parts[..] else {
        return Err("not four parts between underscores".to_owned());
    };
    let actor = match actor.parse() {
        Ok(n) if (1001..=1091).contains(&n) && actor.len() == 4 => n,
        _ => return Err(format!("no actor {actor}")),
    };
    let sentences = SENTENCES.iter().position(|s| *s == sentence);
    let classes = CLASSES.iter().position(|c| c.0 == class);
    let levels = LEVELS.iter().position(|l| l.0 == level);
    Ok((
        actor,
        sentences.ok_or_else(|| format!("no sentence {sentence}"))?,
        classes.ok_or_else(|| format!("no emotion {class}"))?,
        levels.ok_or_else(|| format!("no level {level}"))?,
    ))
}

/// Actors' sex from the table's columns `ActorID` and `Sex`.
fn demographics(path: &Path) -> Result<BTreeMap<u32, Sex>, String> {
    let file = mtcae_core::files::open(path).map_err(|e| e.to_string())?;
    let mut table = csv::Reader::from_reader(file);
    let headers = table.headers().map_err(|e| e.to_string())?.clone();
    let column = |name: &str| {
        let found = headers.iter().position(|h| h.trim() == name);
        found.ok_or_else(|| format!("no column {name}"))
    };
    let (actor, sex) = (column("ActorID")?, column("Sex")?);
    let mut sexes = BTreeMap::new();
    for row in table.records() {
        let row = row.map_err(|e| e.to_string())?;
        let sex = match row.get(sex).map(str::trim) {
            Some("Male") => Sex::Male,
            Some("Female") => Sex::Female,
            _ => continue,
        };
        if let Some(actor) = row.get(actor).and_then(|a| a.trim().parse().ok()) {
            sexes.insert(actor, sex);
        }
    }
    Ok(sexes)
}
