//! A job of which the rows are known.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::Path;

use mtcae_shards::shard::{self, Shard};
use mtcae_shards::{Job, Listing, Row, Task, as_text};
use serde_json::json;

pub fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("clips/{i:03}.mp4")).collect()
}

pub fn job(names: &[String], min_face: f64) -> Job {
    Job {
        program: "mtcae 0".to_owned(),
        task: "label".to_owned(),
        inputs: Listing::of(names).expect("each once"),
        settings: as_text(json!({"detector": {"min_face": min_face}})),
    }
}

pub fn task<'a>(job: &'a Job, names: &'a [String]) -> Task<'a> {
    Task {
        job,
        names,
        arithmetic: "cpu portable",
        at_once: 2,
    }
}

/// Every seventh file cannot be read.
pub fn row(names: &[String], place: usize) -> Row {
    let error = (place % 7 == 3).then(|| "is empty".to_owned());
    let faces = "face ".repeat(place % 5);
    let line = json!({"error": error, "faces": faces, "file": names[place]});
    Row {
        line: line.to_string().into_bytes(),
        error,
    }
}

/// What one process writes.
pub fn whole(names: &[String]) -> Vec<u8> {
    let lines = (0..names.len()).flat_map(|place| [row(names, place).line, vec![b'\n']].concat());
    lines.collect()
}

pub fn run_shard(
    names: &[String],
    min_face: f64,
    shard: &str,
    out: &Path,
    resume: bool,
) -> Result<shard::Done, String> {
    let job = job(names, min_face);
    let shard: Shard = shard.parse()?;
    let path = shard.path(out);
    shard::run(
        task(&job, names),
        shard,
        &path,
        resume,
        |place| row(names, place),
        |_| {},
    )
    .map_err(|e| e.to_string())
}
