//! RAVDESS (Livingstone and Russo, 2018, PLOS ONE 13(5), e0196391): 24 actors,
//! files named modality-channel-emotion-intensity-statement-repetition-actor.

use std::collections::BTreeSet;
use std::path::Path;

use super::{
    Catalogue, Sample, Sex,
    walk::{Found, walk},
};
use crate::Error;

/// Which of the two recordings of each take is used; they show the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Modality {
    /// `01`, with sound.
    #[default]
    AudioVideo,
    /// `02`, without.
    VideoOnly,
}

/// The classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Classes {
    /// Calm counts as neutral, as in the paper.
    #[default]
    Seven,
    /// As recorded.
    Eight,
}

/// What is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// One of the two recordings.
    pub modality: Modality,
    /// Seven or eight classes.
    pub classes: Classes,
}

const EIGHT: [&str; 8] = [
    "neutral",
    "calm",
    "happy",
    "sad",
    "angry",
    "fearful",
    "disgust",
    "surprised",
];
const SEVEN: [&str; 7] = [
    "neutral",
    "happy",
    "sad",
    "angry",
    "fearful",
    "disgust",
    "surprised",
];

/// Number of published speech clips of one modality: per class of the eight, in
/// their order. They sum to 1440.
pub const PUBLISHED: [usize; 8] = [96, 192, 192, 192, 192, 192, 192, 192];

/// The numbers of a name, when it is one of RAVDESS and possible.
fn parse(stem: &str) -> Result<[u32; 7], String> {
    let parts: Vec<&str> = stem.split('-').collect();
    if parts.len() != 7 || parts.iter().any(|p| p.len() != 2) {
        return Err("not seven two-digit numbers".to_owned());
    }
    let limits = [3, 2, 8, 2, 2, 2, 24];
    let names = [
        "modality",
        "channel",
        "emotion",
        "intensity",
        "statement",
        "repetition",
        "actor",
    ];
    let mut numbers = [0; 7];
    for i in 0..7 {
        match parts[i].parse() {
            Ok(n) if (1..=limits[i]).contains(&n) => numbers[i] = n,
            _ => return Err(format!("no {} {}", names[i], parts[i])),
        }
    }
    if numbers[2] == 1 && numbers[3] == 2 {
        return Err("neutral has no strong intensity".to_owned());
    }
    Ok(numbers)
}

/// The expression of a clip by its file's name, of the eight; `None` where it is none of
/// RAVDESS's names.
pub fn expression_of(file: &str) -> Option<&'static str> {
    let stem = Path::new(file).file_stem()?.to_str()?;
    Some(EIGHT[parse(stem).ok()?[2] as usize - 1])
}

/// Reads the speech clips below `root`. Folds are the five published groups of
/// actors ([`folds::RAVDESS`](super::folds::RAVDESS)).
///
/// # Errors
/// [`Error::File`] when `root` cannot be read.
pub fn read(root: impl AsRef<Path>, options: &Options) -> Result<Catalogue, Error> {
    let classes: &[&str] = match options.classes {
        Classes::Seven => &SEVEN,
        Classes::Eight => &EIGHT,
    };
    let wanted = match options.modality {
        Modality::AudioVideo => 1,
        Modality::VideoOnly => 2,
    };
    let mut c = Catalogue::new("ravdess", classes);
    let mut takes = Vec::new();
    let mut present = BTreeSet::new();
    let found = walk(root.as_ref(), &mut c.problems)?;
    let read = |found: &Found| {
        let numbers = parse(found.stem())?;
        let (actor, folder) = (numbers[6], found.parts.iter().rev().nth(1));
        match folder.and_then(|f| f.strip_prefix("Actor_")) {
            Some(of) if of.parse() != Ok(actor) => {
                Err(format!("says actor {actor:02} and lies in Actor_{of}"))
            }
            _ => Ok(numbers),
        }
    };
    for (found, numbers) in c.videos(found, read) {
        let [
            modality,
            channel,
            emotion,
            intensity,
            statement,
            repetition,
            actor,
        ] = numbers;
        if channel != 1 {
            c.leave_out("song");
            continue;
        }
        if modality != wanted {
            c.leave_out(match modality {
                1 => "modality 01 (audio-video): the same takes",
                2 => "modality 02 (video only): the same takes",
                _ => "modality 03 (audio only)",
            });
            continue;
        }
        let name = EIGHT[emotion as usize - 1];
        let class = match options.classes {
            Classes::Seven if name == "calm" => "neutral",
            _ => name,
        };
        present.insert((actor, emotion, intensity, statement, repetition));
        takes.push(found.stem().to_owned());
        c.samples.push(Sample {
            file: found.file(),
            path: found.path,
            dataset: "ravdess".to_owned(),
            class: Some(class.to_owned()),
            subject: Some(format!("{actor:02}")),
            sex: Some(if actor % 2 == 1 {
                Sex::Male
            } else {
                Sex::Female
            }),
            level: Some(if intensity == 1 { "normal" } else { "strong" }.to_owned()),
            fold: super::folds::of(&super::folds::RAVDESS, &format!("{actor:02}")),
        });
    }
    c.drop_duplicates(takes);
    for actor in 1..=24 {
        if !present.iter().any(|p| p.0 == actor) {
            c.missing(format!("all 60 speech clips of actor {actor:02}"));
            continue;
        }
        for emotion in 1..=8 {
            for intensity in 1..=if emotion == 1 { 1 } else { 2 } {
                for statement in 1..=2 {
                    for repetition in 1..=2 {
                        let take = (actor, emotion, intensity, statement, repetition);
                        if !present.contains(&take) {
                            c.missing(format!(
                                "{wanted:02}-01-{emotion:02}-{intensity:02}-{statement:02}-\
                                 {repetition:02}-{actor:02}"
                            ));
                        }
                    }
                }
            }
        }
    }
    Ok(c)
}
