//! Many files by many processes: what `label` and `infer` share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use mtcae_dfer::video::inputs::{Inputs, beside, drawn, expand, read_list};
use mtcae_nn::Isa;
use mtcae_shards::lease::{self, Folder};
use mtcae_shards::shard::{self, Shard};
use mtcae_shards::{Job, Listing, Row, Task};
use serde_json::Value;

use crate::{Bars, Fault, note, say};

/// Files that are named in lists.
#[derive(Args)]
pub struct Lists {
    /// A list of inputs beside those named here: files, folders and tar archives, one a line or
    /// as `find -print0` writes them, relative to the current folder; no patterns.
    #[arg(long, value_name = "FILE")]
    pub list: Vec<PathBuf>,
}

impl Lists {
    /// What is named, and what is listed after it.
    ///
    /// # Errors
    /// When a list cannot be read, or names something twice.
    pub fn inputs(
        &self,
        names: &[impl AsRef<Path>],
        quiet: bool,
        complain: &mut impl FnMut(&str),
    ) -> Result<Inputs, Fault> {
        let mut inputs = expand(names, complain);
        for list in &self.list {
            read_list(list, &mut inputs, complain).map_err(|e| format!("--list {e}"))?;
        }
        if !quiet {
            if inputs.drawn > 0 {
                note!("{}", drawn(inputs.drawn));
            }
            if !inputs.beside.is_empty() {
                note!("{}", beside(&inputs.beside));
            }
        }
        Ok(inputs)
    }
}

/// How files are divided among processes.
#[derive(Args)]
pub struct Mass {
    /// Do every N-th file from the I-th on; shards are counted from 1/N to N/N. Rows go to a
    /// file of the shard's own, as in NAME.shard-003-of-008.jsonl, which `mtcae merge` puts
    /// together; files that cannot be read are rows as well, and no failure (docs/scale.md).
    #[arg(long, value_name = "I/N", conflicts_with = "lease")]
    pub shard: Option<Shard>,

    /// Do a few files at a time, which no other process with this folder does meanwhile, until
    /// all are done; processes may be started and killed at will (docs/scale.md). The folder
    /// must be one that all see; `mtcae merge` reads it.
    #[arg(long, value_name = "DIR")]
    pub lease: Option<PathBuf>,

    /// After how long others take over what a process does that shows no sign of life
    /// [default: 60].
    #[arg(long, value_name = "SECONDS", requires = "lease", value_parser = expiry)]
    expiry: Option<Duration>,

    /// Files that are taken at a time, equal in all processes of a folder [default: 16, of more
    /// than 160,000 files a ten-thousandth].
    #[arg(long, value_name = "N", requires = "lease", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    part: Option<u32>,
}

fn expiry(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.5..=86_400.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err("a number of seconds from 0.5 to 86400 is needed".to_owned()),
    }
}

/// What is done to which files.
pub struct Work<'a> {
    /// `label`, `infer`.
    pub task: &'static str,
    /// As rows have them.
    pub names: &'a [String],
    /// All that rows depend on besides.
    pub settings: Value,
    /// Where it is computed, as it was given.
    pub device: &'a str,
    /// Files at once.
    pub at_once: usize,
}

impl Mass {
    /// Whether the files are divided.
    pub fn is_asked(&self) -> bool {
        self.shard.is_some() || self.lease.is_some()
    }

    /// Does this process's share of the work: `make` gives the row of the file at a place of
    /// the list. Rows go to `out`, or that of the shard beside it.
    ///
    /// # Errors
    /// What is wrong with the inputs, with rows that are there, or with the disk.
    pub fn run(
        &self,
        work: &Work<'_>,
        out: Option<&Path>,
        resume: bool,
        quiet: bool,
        make: impl Fn(usize) -> Row + Sync,
    ) -> Result<(), Fault> {
        let job = Job {
            program: concat!("mtcae ", env!("CARGO_PKG_VERSION")).to_owned(),
            task: work.task.to_owned(),
            inputs: Listing::of(work.names)?,
            settings: mtcae_shards::as_text(work.settings.clone()),
        };
        let arithmetic = match work.device {
            "cpu" => format!("cpu {}", Isa::held()?.name()),
            _ => "cuda".to_owned(),
        };
        let task = Task {
            job: &job,
            names: work.names,
            arithmetic: &arithmetic,
            at_once: work.at_once,
        };
        let bars = Bars::new(quiet);
        let make = |place: usize| {
            let row = make(place);
            if let Some(error) = &row.error {
                let name = &work.names[place];
                match error.contains(name.as_str()) {
                    true => note!("error: {error}"),
                    false => note!("error: {name}: {error}"),
                }
            }
            row
        };
        if let Some(root) = &self.lease {
            let folder = Folder::join(root, &job, self.part.map(|n| n as usize))?;
            let expiry = self.expiry.unwrap_or(Duration::from_secs(60));
            let bar = bars.items("parts", folder.parts() as u64);
            let done = lease::run(task, &folder, expiry, make, |parts, rows| {
                bar.set_message(format!("{rows} files here"));
                bar.set_position(parts as u64);
            })?;
            bar.finish_and_clear();
            if !quiet {
                say!(
                    "{}: all {} parts are done, {} of them here ({} files, of which {} could not be read; {} parts taken over); mtcae merge OUT {} puts them together",
                    root.display(),
                    folder.parts(),
                    done.parts,
                    done.rows,
                    done.failed,
                    done.taken_over,
                    root.display()
                );
            }
            return Ok(());
        }
        let out = out.ok_or("rows need a file to go to")?;
        let (shard, path) = match self.shard {
            Some(shard) => (shard, shard.path(out)),
            None => (Shard::WHOLE, out.to_owned()),
        };
        let bar = bars.items("files", shard.files(work.names.len()) as u64);
        let mut begun = false;
        let done = shard::run(task, shard, &path, resume, make, |rows| {
            bar.set_position(rows as u64);
            if !begun {
                bar.reset_eta();
                begun = true;
            }
        })?;
        bar.finish_and_clear();
        if !quiet {
            say!(
                "{}: {} files of {}, {} of them done before; {} could not be read",
                path.display(),
                done.rows,
                work.names.len(),
                done.before,
                done.failed
            );
        }
        Ok(())
    }
}

/// Refuses to divide a list of which something is missing: others might see all of it.
///
/// # Errors
/// When something is.
pub fn all_there(well: bool) -> Result<(), Fault> {
    match well {
        true => Ok(()),
        false => Err("not all inputs can be listed, and every process must see the same list: nothing was begun".into()),
    }
}
