//! Labels by many processes.

use mtcae_core::files::sha256_of;
use mtcae_labels::dataset::Sample;
use mtcae_labels::labels::{LabelledClip, Labeller};
use mtcae_shards::Row;
use serde_json::Value;

use super::args::Args;
use super::preview;
use crate::mass::Work;
use crate::{Fault, note, one_line};

/// Refuses what is made of a whole label file.
///
/// # Errors
/// Names the flag.
pub fn check(args: &Args) -> Result<(), Fault> {
    let flag = match () {
        () if args.csv.is_some() => "--csv",
        () if !args.format.is_empty() => "--format",
        () => return Ok(()),
    };
    Err(format!(
        "{flag}: is made of the whole label file: merge it, and give {flag} with --out MERGED --resume and the same inputs"
    )
    .into())
}

/// Labels this process's share of the clips.
pub fn run(args: &Args, labeller: &Labeller, samples: &[Sample]) -> Result<(), Fault> {
    let settings = labeller.run_settings();
    // By way of the text, in which an `f32` is as short as in the label file.
    let mut all: Value = serde_json::from_str(&serde_json::to_string(&settings)?)?;
    // What a dataset says of each clip, which its name does not.
    let said: Vec<_> = samples
        .iter()
        .map(|s| (&s.dataset, &s.class, &s.subject, s.sex, &s.level, s.fold))
        .collect();
    all["dataset"] = sha256_of(&serde_json::to_vec(&said)?).into();
    let names: Vec<String> = samples.iter().map(|s| s.file.clone()).collect();
    let work = Work {
        task: "label",
        names: &names,
        settings: all,
        device: &args.device,
        at_once: args.jobs.into(),
    };
    let make = |place: usize| {
        let sample = &samples[place];
        let clip = labeller.label_file(sample);
        if let Some(folder) = &args.preview
            && let Err(error) = preview::write(folder, place + 1, sample, &clip)
        {
            note!("warning: preview of {}: {}", sample.file, one_line(&*error));
        }
        row(sample, &clip)
    };
    args.mass
        .run(&work, Some(args.out()), args.resume, args.quiet, make)
}

fn row(sample: &Sample, clip: &LabelledClip) -> Row {
    match serde_json::to_vec(clip) {
        Ok(line) => Row {
            line,
            error: clip.error.clone(),
        },
        Err(e) => Row::failed(&sample.file, &e.to_string()),
    }
}
