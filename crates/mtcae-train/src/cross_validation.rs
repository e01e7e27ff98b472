//! Subject-independent cross-validation: every fold held out once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mtcae_core::files::{self, At, FileError};
use mtcae_objective::Bootstrap;

use crate::batch::Source;
use crate::cache::FeatureCache;
use crate::data::Split;
use crate::disk::Claim;
use crate::event::{Event, Watch, tell};
use crate::folder::{BEST, IDENTITY, PREDICTIONS, RESULT, STATE, TEST_SECONDS, write_json};
use crate::folds::{CrossValidation, FoldResult};
use crate::state::differences;
use crate::supervised::{Fitted, Run, fit_together};
use crate::{
    Error, Noted, Ranks, Report, TrainConfig, predict_together, read_table, summarise, write_table,
};

/// What `run.json` is written by: who changes what identifies a run raises it.
const FORMAT: &str = "mtcae-cross-validation/2";
/// Bytes of the largest of these files: a fold's result with a thousand classes.
const LARGEST: u64 = 64 << 20;

/// Trains and tests every fold, going on where an earlier call was stopped, and
/// writes the report.
///
/// # Errors
/// As [`fit`](crate::fit); [`Error::File`] when the folder holds a cross-validation of other
/// settings. Folds that are done stay done.
pub fn cross_validate(cv: &CrossValidation<'_>, watch: &mut Watch<'_>) -> Result<Report, Error> {
    cross_validate_together(cv, Ranks::ALONE, watch)
}

/// As [`cross_validate`], by several processes, which train and test each fold together: one
/// writes, and all get the report.
///
/// # Errors
/// As [`cross_validate`]; [`Error::Ranks`] when they differ in what they train on, or another has
/// failed.
pub fn cross_validate_together(
    cv: &CrossValidation<'_>,
    ranks: Ranks<'_>,
    watch: &mut Watch<'_>,
) -> Result<Report, Error> {
    // Before the first hour is spent, and before the folder becomes one of a run that
    // cannot be.
    ranks.together(checked(cv))?;
    ranks.check(cv.config)?;
    let _claim = ranks.by_first(|| {
        let claim = Claim::of(cv.folder)?;
        identify(cv)?;
        Ok(claim)
    })?;
    let cache = open_cache(cv, ranks, watch)?;
    let mut done = Vec::new();
    for fold in 0..cv.data.folds {
        let folder = cv.folder.join(format!("fold-{fold}"));
        let result = match ranks.found_by_first(|| read_result(&folder))? {
            Some(result) => result,
            None => {
                let (done, of) = (fold as usize, cv.data.folds as usize);
                tell(watch, &Event::Next { done, of })?;
                one_fold(cv, fold, &folder, cache.as_ref(), ranks, watch)?
            }
        };
        // What a fold was trained by is several times its weights, and is not read again.
        ranks.by_first(|| {
            [STATE, BEST]
                .iter()
                .try_for_each(|name| remove(&folder.join(name)))
        })?;
        done.push(result);
    }
    let pooled = ranks.found_by_first(|| {
        let mut pooled = Vec::new();
        for result in &done {
            let folder = cv.folder.join(format!("fold-{}", result.fold));
            pooled.extend(read_table(&folder.join(PREDICTIONS))?.0);
        }
        write_table(&cv.folder.join(PREDICTIONS), &pooled, &cv.data.classes)?;
        Ok(pooled)
    })?;
    let report = Report::new(done, &pooled, &cv.data.classes)?;
    ranks.by_first(|| report.write(cv))?;
    Ok(report)
}

fn checked(cv: &CrossValidation<'_>) -> Result<(), Error> {
    cv.config.validate()?;
    cv.config.prepare(cv.device)?;
    cv.data.splits(cv.config)?;
    cv.start.check()
}

/// The feature cache of a model and its clips, filled where need be.
///
/// # Errors
/// As [`FeatureCache::open`].
fn open_cache(
    cv: &CrossValidation<'_>,
    ranks: Ranks<'_>,
    watch: &mut Watch<'_>,
) -> Result<Option<Arc<FeatureCache>>, Error> {
    let Some(folder) = cv.cache else {
        return Ok(None);
    };
    Ok(Some(Arc::new(FeatureCache::open_together(
        folder, cv.start, cv.data, cv.config, cv.device, ranks, watch,
    )?)))
}

fn one_fold(
    cv: &CrossValidation<'_>,
    fold: u32,
    folder: &Path,
    cache: Option<&Arc<FeatureCache>>,
    ranks: Ranks<'_>,
    watch: &mut Watch<'_>,
) -> Result<FoldResult, Error> {
    let split = cv.data.split(Some(fold), cv.config)?;
    let name = format!("fold {fold} (of {}, from 0)", cv.data.folds);
    let run = Run {
        name: &name,
        folder,
        start: cv.start,
        data: cv.data,
        split: &split,
        cache,
        config: cv.config,
        device: cv.device,
    };
    let fitted = fit_together(&run, ranks, watch)?;
    // The one time that the held-out fold is read.
    let engine = fitted.started.engine(cv.config, cv.device)?;
    let source = match cv.test {
        None => fitted.source.clone(),
        Some(sampling) => Arc::new(Source::to_test_on(
            cv.data,
            &engine,
            fitted.source.loading,
            sampling,
        )),
    };
    let since = Instant::now();
    let (results, _) = predict_together(&engine, &source, &split.test, None, ranks, watch)?;
    let seconds = since.elapsed().as_secs_f64();
    let summary = summarise(&results, &cv.data.classes, Some(&Bootstrap::default()))?;
    let result = FoldResult {
        fold,
        train: split.train.len(),
        validation: split.validation.len(),
        test: split.test.len(),
        epoch: fitted.epoch,
        parameters: fitted
            .started
            .trained
            .iter()
            .map(|(_, v)| v.elem_count())
            .sum(),
        summary,
    };
    ranks.by_first(|| {
        // By itself: what a clock measured is no measure of the model.
        write_json(&folder.join(TEST_SECONDS), &seconds)?;
        write_table(&folder.join(PREDICTIONS), &results, &cv.data.classes)?;
        if cv.save_models {
            save(cv, &fitted, &split, &result, &folder.join("model"))?;
        }
        write_json(&folder.join(RESULT), &result)
    })?;
    Ok(result)
}

/// Writes a fold's model, and how it did in the test.
fn save(
    cv: &CrossValidation<'_>,
    fitted: &Fitted,
    split: &Split,
    result: &FoldResult,
    model: &Path,
) -> Result<(), Error> {
    let fold = result.fold;
    let config = fitted.started.save(model, cv.data, split, Some(fold))?;
    let noted = Noted {
        on: format!(
            "Fold {fold}, of whose people it was trained on none: {}",
            cv.data.in_words(None, &split.test)
        ),
        command: "mtcae train --cross-validate".to_owned(),
        summary: &result.summary,
        groups: &[],
    };
    noted.write(model, &config)
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Ok(Err(e).at(path)?),
        _ => Ok(()),
    }
}

fn read_result(folder: &Path) -> Result<Option<FoldResult>, Error> {
    let path = folder.join(RESULT);
    match files::read_to_string(&path, LARGEST) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| {
            let reason = format!(
                "{e}: it is damaged or from another version; delete it to train this fold \
                     again, or take another folder"
            );
            FileError::new(path, reason).into()
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Ok(Err(e).at(path)?),
    }
}

/// Makes the folder this cross-validation's, or makes sure that it is.
fn identify(cv: &CrossValidation<'_>) -> Result<(), Error> {
    let path: PathBuf = cv.folder.join(IDENTITY);
    let other = cv.folder.join(STATE);
    if other.exists() {
        let reason = "the folder holds a single run, not a cross-validation";
        return Err(FileError::new(other, reason).into());
    }
    let value = |v: serde_json::Result<serde_json::Value>| v.at(&path);
    let mut about = BTreeMap::from([
        ("format".to_owned(), FORMAT.into()),
        (
            "config".to_owned(),
            value(serde_json::to_value(cv.config.decisive()))?,
        ),
        (
            "model".to_owned(),
            value(serde_json::to_value(cv.start.config()))?,
        ),
        ("starting weights".to_owned(), cv.start.digest()?.into()),
        (
            "labels".to_owned(),
            cv.data.labels.display().to_string().into(),
        ),
        ("clips".to_owned(), cv.data.digest().into()),
        (
            "features".to_owned(),
            if cv.cache.is_some() {
                "cached"
            } else {
                "of videos"
            }
            .into(),
        ),
        (
            "classes".to_owned(),
            value(serde_json::to_value(&cv.data.classes))?,
        ),
    ]);
    // Not where it is as in training: folders of before do not say it.
    if let Some(sampling) = cv.test {
        about.insert("test".to_owned(), sampling.to_string().into());
    }
    match files::read_to_string(&path, LARGEST) {
        Ok(text) => {
            let fault = |reason: String| Error::File(FileError::new(&path, reason));
            let mut found: BTreeMap<String, serde_json::Value> =
                serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
            if let Some(config) = found.get_mut("config") {
                *config = TrainConfig::of_before(config);
            }
            if found.get("format") != about.get("format") {
                return Err(fault(format!(
                    "the folder holds a run of another version of this program, not of {FORMAT}; \
                     go on with that version or take another folder"
                )));
            }
            let differing: Vec<String> = about
                .iter()
                .filter(|(key, value)| found.get(*key) != Some(value))
                .map(|(key, value)| differences(key, found.get(key), value))
                .collect();
            match differing.is_empty() {
                true => Ok(()),
                false => Err(fault(format!(
                    "the folder holds a run of other settings ({}); go on with those or take another folder",
                    differing.join("; ")
                ))),
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => write_json(&path, &about),
        Err(e) => Ok(Err(e).at(path)?),
    }
}
