//! Runs what is left of a comparison.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use mtcae_core::files::{self, At, FileError};
use mtcae_model::checkpoint;
use mtcae_model::encoder::Progress;
use serde::{Deserialize, Serialize};
use toml::Table;

use super::cell::{self, Cell, FAILED, Peak};
use super::model::{Build, test_sampling, write_start};
use super::{Size, Status, System, Track};
use crate::cross_validation::cross_validate;
use crate::data::Dataset;
use crate::disk::Claim;
use crate::event::{Event, Watch};
use crate::folder::{write_json, write_text};
use crate::folds::CrossValidation;
use crate::start::Start;
use crate::state::differences;
use crate::{Error, TrainConfig};

/// What a folder is a comparison of.
pub const PLAN: &str = "compare.json";
/// Bytes of the largest plan.
const LARGEST: u64 = 1 << 24;
/// What [`PLAN`] is written by.
const FORMAT: &str = "mtcae-comparison/1";

/// A comparison and where its files go: `SYSTEM/seed-N/` below its folder.
pub struct Comparison<'a> {
    /// Its folder.
    pub folder: &'a Path,
    /// What is compared.
    pub systems: &'a [System],
    /// In which sizes.
    pub size: Size,
    /// Under which protocol; [`Track::apply`] has made the data its own.
    pub track: Track,
    /// Seeds; each gives every system one cross-validation.
    pub seeds: &'a [u64],
    /// The labelled clips. Folds do not depend on the seeds.
    pub data: &'a Arc<Dataset>,
    /// Settings that go over those of every system, by name.
    pub settings: &'a Table,
    /// Where.
    pub device: &'a Device,
    /// On what, in words.
    pub machine: &'a str,
}

/// What a comparison is of, as it stands in its folder: all that its table needs but what
/// was predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub format: String,
    /// Name of the dataset.
    pub dataset: String,
    /// The protocol in words.
    pub protocol: String,
    /// Under which track.
    pub track: Track,
    pub size: Size,
    pub clips: usize,
    pub subjects: usize,
    pub folds: u32,
    pub classes: Vec<String>,
    pub seeds: Vec<u64>,
    /// What boxes and landmarks are measured against, in words.
    pub about: String,
    /// A digest of the clips and their labels.
    pub digest: String,
    pub systems: Vec<Planned>,
}

/// A system of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    pub name: String,
    pub title: String,
    pub encoder: String,
    pub decoder: String,
    pub recipe: String,
    pub status: Status,
    pub pretrained: bool,
    pub published: Option<String>,
    pub under: Option<String>,
    pub note: Option<String>,
    /// Settings of the recipe that no source publishes.
    pub unpublished: Vec<String>,
    /// How it is trained, but for the seed and what changes nothing.
    pub settings: TrainConfig,
}

/// A cell that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of which system.
    pub system: String,
    /// With which seed.
    pub seed: u64,
    /// Why.
    pub reason: String,
}

/// Runs what is left. A cell that fails does not stop the others: what it failed of is given,
/// and stands beside it until it is run again.
///
/// # Errors
/// [`Error::Cancelled`], a full disk, or a folder that holds another comparison.
pub fn run(
    comparison: &Comparison<'_>,
    progress: &mut Progress<'_>,
    watch: &mut Watch<'_>,
) -> Result<Vec<Failure>, Error> {
    let _claim = Claim::of(comparison.folder)?;
    // Before the first hour is spent.
    let mut configs = Vec::with_capacity(comparison.systems.len());
    for system in comparison.systems {
        configs.push(system.settings(comparison.settings)?);
        system.shown(comparison.track)?;
    }
    identify(comparison, &configs)?;
    let mut failures = Vec::new();
    for (system, config) in comparison.systems.iter().zip(&configs) {
        for &seed in comparison.seeds {
            let folder = cell::folder(comparison.folder, &system.name, seed);
            if Cell::read(&folder)?.is_some() {
                continue;
            }
            let config = TrainConfig {
                seed,
                ..config.clone()
            };
            let done = one(comparison, system, &config, &folder, progress, watch);
            if let Some(reason) = survived(done, &folder)? {
                let text = format!("{}, seed {seed}, failed: {reason}", system.title);
                tell(watch, &text)?;
                failures.push(Failure {
                    system: system.name.clone(),
                    seed,
                    reason,
                });
            }
        }
    }
    Ok(failures)
}

fn tell(watch: &mut Watch<'_>, text: &str) -> Result<(), Error> {
    match watch(&Event::Notice(text)).is_break() {
        true => Err(Error::Cancelled),
        false => Ok(()),
    }
}

/// Why a cell failed, which is written beside it; `None` where it did not. What stops
/// everything is an error.
fn survived(outcome: Result<(), Error>, folder: &Path) -> Result<Option<String>, Error> {
    let path = folder.join(FAILED);
    match outcome {
        Ok(()) => {
            remove(std::fs::remove_file(&path)).at(path)?;
            Ok(None)
        }
        Err(e @ (Error::Cancelled | Error::Full { .. })) => Err(e),
        Err(e) => {
            let reason = e.to_string();
            std::fs::create_dir_all(folder).at(folder)?;
            write_text(&path, &format!("{reason}\n"))?;
            Ok(Some(reason))
        }
    }
}

/// What is not there need not be removed.
fn remove(outcome: std::io::Result<()>) -> std::io::Result<()> {
    match outcome {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn one(
    comparison: &Comparison<'_>,
    system: &System,
    config: &TrainConfig,
    folder: &Path,
    progress: &mut Progress<'_>,
    watch: &mut Watch<'_>,
) -> Result<(), Error> {
    tell(watch, &format!("{}, seed {}", system.title, config.seed))?;
    let peak = Peak::start();
    // Beside the cell, which no checkpoint is a part of; its config is written last.
    let begin = folder.with_extension("start");
    if !begin.join(checkpoint::CONFIG).is_file() {
        let build = Build {
            size: comparison.size,
            track: comparison.track,
            classes: &comparison.data.classes,
            seed: config.seed,
        };
        for note in write_start(system, &build, &begin, progress)? {
            tell(watch, &note)?;
        }
    }
    let start = Start::checkpoint(&begin)?;
    let test = test_sampling(system, comparison.track)?;
    let cv = CrossValidation {
        folder,
        start: &start,
        data: comparison.data,
        cache: None,
        save_models: false,
        test,
        config,
        device: comparison.device,
    };
    let report = cross_validate(&cv, watch)?;
    let (hours, [training, inference]) = cell::logged(folder, &report)?;
    let model = start.config();
    let tokens = model.encoder.output().tokens;
    let cell = Cell {
        parameters: start.parameters(),
        trained: report.folds.first().map_or(0, |f| f.parameters),
        flops: model.encoder.flops() + model.decoder.flops(tokens),
        epochs: config.epochs,
        hours,
        training,
        inference,
        peak_bytes: peak.bytes(),
        machine: comparison.machine.to_owned(),
    };
    cell.write(folder)?;
    // It can be drawn again, and of a large encoder takes more room than all the rest.
    Ok(remove(std::fs::remove_dir_all(&begin)).at(begin)?)
}

/// Makes the folder this comparison's, or makes sure that it is. Systems and seeds may be
/// added; those that are there stay in the table.
fn identify(comparison: &Comparison<'_>, configs: &[TrainConfig]) -> Result<(), Error> {
    let path = comparison.folder.join(PLAN);
    let mut plan = planned(comparison, configs);
    if let Some(there) = read(comparison.folder)? {
        let value = |plan: &Plan| {
            let same = Plan {
                seeds: Vec::new(),
                systems: Vec::new(),
                ..plan.clone()
            };
            serde_json::to_value(same).at(&path)
        };
        let (found, wanted) = (value(&there)?, value(&plan)?);
        if found != wanted {
            let differing = differences("comparison", Some(&found), &wanted);
            let reason = format!(
                "the folder holds another comparison ({differing}); go on with that or take \
                 another folder"
            );
            return Err(FileError::new(path, reason).into());
        }
        for system in &there.systems {
            let Some(now) = plan.systems.iter().find(|now| now.name == system.name) else {
                continue;
            };
            let value = |planned| serde_json::to_value(planned).at(&path);
            let (found, wanted) = (value(system)?, value(now)?);
            if found != wanted {
                let differing = differences(&system.name, Some(&found), &wanted);
                let reason = format!(
                    "the folder holds {} by another definition or other settings ({differing}); go \
                     on with those, or give it another name (--define)",
                    system.name
                );
                return Err(FileError::new(path, reason).into());
            }
        }
        let new = |now: &Planned| there.systems.iter().all(|s| s.name != now.name);
        plan.systems.retain(new);
        plan.systems = [there.systems, plan.systems].concat();
        plan.seeds.retain(|seed| !there.seeds.contains(seed));
        plan.seeds = [there.seeds, plan.seeds].concat();
    }
    write_json(&path, &plan)
}

fn planned(comparison: &Comparison<'_>, configs: &[TrainConfig]) -> Plan {
    let data = comparison.data;
    let all: Vec<usize> = (0..data.items.len()).collect();
    let systems = comparison.systems.iter().zip(configs);
    let systems = systems.map(|(system, config)| Planned {
        settings: TrainConfig {
            seed: 0,
            ..config.decisive()
        },
        name: system.name.clone(),
        title: system.title.clone(),
        encoder: match &system.weights {
            Some(weights) => weights.clone(),
            None => system.preset(comparison.size).to_string(),
        },
        decoder: system.decoder.clone(),
        recipe: config.recipe.to_string(),
        status: system.status,
        pretrained: system.weights.is_some(),
        published: system.published.clone(),
        under: system.under.clone(),
        note: system.note.clone(),
        unpublished: config.unpublished().iter().map(|&f| f.to_owned()).collect(),
    });
    Plan {
        format: FORMAT.to_owned(),
        dataset: data.dataset.clone(),
        protocol: comparison.track.in_words(data),
        track: comparison.track,
        size: comparison.size,
        clips: data.items.len(),
        subjects: data.people(&all).len(),
        folds: data.folds,
        classes: data.classes.clone(),
        seeds: comparison.seeds.to_vec(),
        about: crate::About::new(&data.detectors, None).in_words(),
        digest: data.digest(),
        systems: systems.collect(),
    }
}

/// What a folder is a comparison of; `None` where it is none.
///
/// # Errors
/// Names the file that is damaged or of another version.
pub fn read(folder: &Path) -> Result<Option<Plan>, Error> {
    let path = folder.join(PLAN);
    let text = match files::read_to_string(&path, LARGEST) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Ok(Err(e).at(path)?),
    };
    let fault = |reason: String| Error::File(FileError::new(&path, reason));
    let plan: Plan = serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
    match plan.format == FORMAT {
        true => Ok(Some(plan)),
        false => Err(fault(format!("is {:?}, not {FORMAT:?}", plan.format))),
    }
}
