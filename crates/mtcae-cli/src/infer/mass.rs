//! Results as lines of one file, also by many processes.

use std::path::Path;

use mtcae_dfer::video::inputs::Input;
use mtcae_dfer::{Provenance, Results, SourceFile};
use mtcae_shards::Row;
use serde_json::json;

use super::Run;
use crate::mass::Work;
use crate::{Fault, one_line};

/// Answers about this process's share of the files.
///
/// # Errors
/// Files whose names lines of JSON cannot say, and what is wrong with the disk or with what is
/// there; files that cannot be read are rows.
pub fn run(run: &Run<'_>, inputs: &[Input]) -> Result<(), Fault> {
    let args = run.args;
    let mut names = Vec::with_capacity(inputs.len());
    for input in inputs {
        let name = input.path.to_str().ok_or_else(|| {
            format!(
                "{}: its name is not UTF-8, as lines of JSON are, which could not say which file it means; rename it",
                input.path.display()
            )
        })?;
        names.push(name.to_owned());
    }
    let origin = run.origin.as_ref();
    let work = Work {
        task: "infer",
        names: &names,
        settings: json!({
            "asked": origin.map(|o| &o.settings),
            "model": origin.map(|o| &o.model.files),
        }),
        device: &args.device,
        // Each by all threads, as without other processes.
        at_once: 1,
    };
    let make = |place: usize| {
        let row = row(run, &inputs[place].path);
        row.unwrap_or_else(|error| Row::failed(&names[place], &one_line(&*error)))
    };
    let out = args.lines.as_deref();
    args.mass.run(&work, out, args.resume, args.quiet, make)
}

fn row(run: &Run<'_>, path: &Path) -> Result<Row, Fault> {
    let (answer, _) = run.answer(path)?;
    let provenance = match &run.origin {
        Some(origin) => Some(Provenance {
            source: Some(SourceFile::of(path)?),
            ..origin.clone()
        }),
        None => None,
    };
    let mut line = Vec::new();
    Results { provenance, answer }.write(&mut line, false)?;
    line.pop();
    Ok(Row { line, error: None })
}
