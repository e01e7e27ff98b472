//! What a model says of labelled clips, measured.

use mtcae_core::argmax;
use mtcae_core::files::{At, FileError, write_atomically};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use mtcae_core::{Crop, Resize};
use mtcae_model::{Engine, Outputs, Preprocessing};
use mtcae_nn::{Pass, on_pool};
use mtcae_objective::{
    Bootstrap, Calibration, ConfusionMatrix, Heads, Objective, Summary, TopLabels, UnitSummary,
    box_iou, landmark_nme,
};
use mtcae_ranks::Deal;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Input, Loading, Source};
use crate::data::Dataset;
use crate::event::Watch;
use crate::prefetch::Prefetch;
use crate::{Error, Event, Ranks};

/// What a model says of a clip, beside what is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipResult {
    /// The clip's name in the label file.
    pub file: String,
    /// The person.
    pub subject: String,
    /// Intensity, in the dataset's words.
    pub level: Option<String>,
    /// Fold, from 0.
    pub fold: u32,
    /// Number of the true class.
    pub class: usize,
    /// Probability of each class, calibrated where the model is.
    pub probabilities: Vec<f64>,
    /// Raw logits of each view, before calibration; none of what a table holds.
    pub logits: Vec<Vec<f64>>,
    /// Labelled frames that boxes and landmarks were measured on, in all views.
    pub frames: usize,
    /// Mean overlap of the boxes on these frames.
    pub iou: Option<f64>,
    /// Mean normalised error of the landmarks on these frames.
    pub nme: Option<f64>,
    /// Of each frame in all views whose action units are known: what is said of them, in the
    /// model's order, and what is true. None of what a table holds.
    pub action_units: Vec<[Vec<f32>; 2]>,
}

impl ClipResult {
    /// The most probable class; of equals the first.
    pub fn predicted(&self) -> usize {
        argmax(&self.probabilities).unwrap_or(0)
    }
}

/// Predicts clips as they are, and with an objective also measures its loss (mean
/// over the clips). Where the model takes several views of a clip, probabilities are their
/// mean; boxes and landmarks are measured in each view, on the frames whose face it shows.
///
/// # Errors
/// Names the clip that cannot be read.
pub fn predict(
    engine: &Engine,
    source: &Arc<Source>,
    places: &[usize],
    objective: Option<&Objective>,
    watch: &mut Watch<'_>,
) -> Result<(Vec<ClipResult>, f64), Error> {
    predict_together(engine, source, places, objective, Ranks::ALONE, watch)
}

/// As [`predict`], by several processes: each predicts some of the clips, all get all results.
///
/// # Errors
/// As [`predict`], and [`Error::Ranks`] when another has failed.
pub fn predict_together(
    engine: &Engine,
    source: &Arc<Source>,
    places: &[usize],
    objective: Option<&Objective>,
    ranks: Ranks<'_>,
    watch: &mut Watch<'_>,
) -> Result<(Vec<ClipResult>, f64), Error> {
    let clips = (source.loading.batch / source.most_views()).max(1);
    let batches: Vec<Vec<usize>> = places.chunks(clips).map(<[usize]>::to_vec).collect();
    let group = ranks.group();
    let own = Deal::new(batches.len(), group.size()).leaves(group.rank());
    let own = predict_batches(engine, source, batches[own].to_vec(), objective, watch);
    let parts = ranks.gather(own)?;
    let (mut results, mut loss, mut rows) = (Vec::with_capacity(places.len()), 0.0, 0);
    for part in parts {
        results.extend(part.results);
        // One after the other, as one process adds them.
        loss = part.losses.iter().fold(loss, |sum, loss| sum + loss);
        rows += part.rows;
    }
    Ok((results, loss / rows.max(1) as f64))
}

/// What was said of some batches.
#[derive(Serialize, Deserialize)]
struct Predicted {
    results: Vec<ClipResult>,
    /// Summed over the rows of each part that went through the model at once.
    losses: Vec<f64>,
    rows: usize,
}

fn predict_batches(
    engine: &Engine,
    source: &Arc<Source>,
    batches: Vec<Vec<usize>>,
    objective: Option<&Objective>,
    watch: &mut Watch<'_>,
) -> Result<Predicted, Error> {
    let Preprocessing { resize, crop, .. } = engine.config().preprocessing;
    let Loading {
        batch,
        workers,
        queue,
    } = source.loading;
    let total = batches.iter().map(Vec::len).sum();
    let from = source.clone();
    let loaded = Prefetch::new(batches.len(), workers, queue, move |i| {
        from.plain(&batches[i])
    });
    let mut results = Vec::with_capacity(total);
    let (mut sums, mut rows) = (Vec::new(), 0);
    for loaded in loaded {
        let whole = source.on_device(loaded?)?;
        let items = whole.items.clone();
        let mut views = Vec::with_capacity(items.len());
        for batch in whole.parts(batch)? {
            let mut pass = Pass::inference();
            let outputs = on_pool(|| match &batch.input {
                Input::Clips(clips) => engine.run(clips, &mut pass),
                Input::Features(features) => engine.decode(features, &mut pass),
            })?;
            if let Some(objective) = objective {
                let losses = objective.forward(&heads(&outputs), &batch.targets)?;
                sums.push(scalar(&losses.total)? * batch.items.len() as f64);
            }
            measure(&outputs, &batch, &source.data, (crop, resize), &mut views)?;
        }
        rows += items.len();
        let mut views = views.into_iter();
        for clip in items.chunk_by(|a, b| a == b) {
            results.extend(of_views(views.by_ref().take(clip.len()).collect()));
        }
        let event = Event::Predicted {
            done: results.len(),
            total,
        };
        if let ControlFlow::Break(()) = watch(&event) {
            return Err(Error::Cancelled);
        }
    }
    Ok(Predicted {
        results,
        losses: sums,
        rows,
    })
}

/// One result of a clip's views; `None` of none.
fn of_views(mut views: Vec<ClipResult>) -> Option<ClipResult> {
    let count = views.len();
    if count < 2 {
        return views.pop();
    }
    let first = views.first()?;
    let mean = |class: usize| {
        let of_class = views.iter().map(|view| view.probabilities[class]);
        of_class.sum::<f64>() / count as f64
    };
    Some(ClipResult {
        probabilities: (0..first.probabilities.len()).map(mean).collect(),
        logits: views.iter().flat_map(|view| view.logits.clone()).collect(),
        frames: views.iter().map(|view| view.frames).sum(),
        iou: over_frames(&views, |view| view.iou),
        nme: over_frames(&views, |view| view.nme),
        action_units: views
            .iter()
            .flat_map(|view| view.action_units.clone())
            .collect(),
        ..first.clone()
    })
}

/// What a model says, as the loss takes it.
pub(crate) fn heads(outputs: &Outputs) -> Heads<'_> {
    Heads {
        boxes: outputs.boxes.as_ref(),
        landmarks: outputs.landmarks.as_ref(),
        action_units: outputs.action_units.as_ref(),
        logits: &outputs.logits,
    }
}

pub(crate) fn scalar(tensor: &Tensor) -> Result<f64, Error> {
    Ok(f64::from(tensor.to_dtype(DType::F32)?.to_scalar::<f32>()?))
}

fn measure(
    outputs: &Outputs,
    batch: &Batch,
    data: &Dataset,
    (crop, resize): (Crop, Resize),
    results: &mut Vec<ClipResult>,
) -> Result<(), Error> {
    let probabilities: Vec<Vec<f32>> = outputs.probabilities()?.to_vec2()?;
    let logits: Vec<Vec<f32>> = outputs.logits.to_dtype(DType::F32)?.to_vec2()?;
    let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
    let boxes = outputs.boxes.as_ref().map(flat).transpose()?;
    let landmarks = outputs.landmarks.as_ref().map(flat).transpose()?;
    let (true_boxes, true_landmarks) =
        (flat(&batch.targets.boxes)?, flat(&batch.targets.landmarks)?);
    let valid: Vec<Vec<f32>> = batch.targets.valid.to_vec2()?;
    let mut units = units_of(outputs, batch)?.into_iter();
    let mut frame = 0;
    let said = probabilities.into_iter().zip(logits);
    for ((&i, (probabilities, logits)), valid) in batch.items.iter().zip(said).zip(valid) {
        let item = &data.items[i];
        let (mut ious, mut nmes) = (Vec::new(), Vec::new());
        // Coordinates are fractions of what the clip shows of the picture.
        let whole = f64::from(item.size.0) / f64::from(item.size.1.max(1));
        let aspect = match (crop, resize) {
            (Crop::Aligned { .. }, _) => 1.0,
            (Crop::Face { .. }, _) => item.aspect / whole,
            (Crop::None, Resize::Squash) => item.aspect,
            (Crop::None, Resize::Crop(part)) => part.width / part.height * item.aspect / whole,
            (Crop::None, Resize::ShortestEdgeCrop | Resize::CentreCrop { .. })
            | (Crop::None, Resize::ThreeCrop) => 1.0,
        };
        let about = |source: mtcae_objective::Error| Error::Clip {
            file: item.file.clone(),
            source: Box::new(source.into()),
        };
        if let Some(value) = probabilities.iter().find(|p| !p.is_finite()) {
            return Err(Error::NoNumber {
                what: "a probability",
                value: f64::from(*value),
                file: item.file.clone(),
            });
        }
        for valid in valid {
            if valid > 0.0 {
                if let Some(boxes) = &boxes {
                    let at = |all: &[f32]| -> [f64; 4] {
                        std::array::from_fn(|k| f64::from(all[frame * 4 + k]))
                    };
                    ious.push(
                        box_iou(ordered(at(boxes)), ordered(at(&true_boxes))).map_err(about)?,
                    );
                }
                if let Some(landmarks) = &landmarks {
                    let at = |all: &[f32]| -> [[f64; 2]; 5] {
                        let value = |k| f64::from(all[frame * 10 + k]);
                        std::array::from_fn(|k| [value(2 * k), value(2 * k + 1)])
                    };
                    nmes.push(
                        landmark_nme(&at(landmarks), &at(&true_landmarks), aspect)
                            .map_err(about)?,
                    );
                }
            }
            frame += 1;
        }
        let mean = |v: &[f64]| (!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64);
        results.push(ClipResult {
            file: item.file.clone(),
            subject: item.subject.clone(),
            level: item.level.clone(),
            fold: item.fold,
            class: item.class,
            probabilities: probabilities.into_iter().map(f64::from).collect(),
            logits: vec![logits.into_iter().map(f64::from).collect()],
            frames: ious.len().max(nmes.len()),
            iou: mean(&ious),
            nme: mean(&nmes),
            action_units: units.next().unwrap_or_default(),
        });
    }
    Ok(())
}

/// Of each row of a batch, the frames whose action units are known: said, and true.
fn units_of(outputs: &Outputs, batch: &Batch) -> Result<Vec<Vec<[Vec<f32>; 2]>>, Error> {
    let (Some(said), Some(truth)) = (&outputs.action_units, &batch.targets.action_units) else {
        return Ok(Vec::new());
    };
    let said: Vec<Vec<Vec<f32>>> = said.to_dtype(DType::F32)?.to_vec3()?;
    let known: Vec<Vec<f32>> = truth.known.to_vec2()?;
    let truth: Vec<Vec<Vec<f32>>> = truth.strengths.to_vec3()?;
    let rows = said.into_iter().zip(truth).zip(known);
    let rows = rows.map(|((said, truth), known)| {
        let frames = said.into_iter().zip(truth).zip(known);
        let known = frames.filter(|(_, known)| *known > 0.0);
        known.map(|((said, truth), _)| [said, truth]).collect()
    });
    Ok(rows.collect())
}

/// A head may say x2 < x1: the box of the same corners.
fn ordered([x1, y1, x2, y2]: [f64; 4]) -> [f64; 4] {
    [x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2)]
}

/// All measures of some results. Confidence intervals draw whole subjects; where these
/// are too few, or all alike, there is none, and the summary says why. Box and landmark
/// errors are means over frames.
///
/// # Errors
/// When there is no result, or a probability is no number.
pub fn summarise(
    results: &[ClipResult],
    classes: &[String],
    bootstrap: Option<&Bootstrap>,
) -> Result<Summary, Error> {
    let (truth, predicted): (Vec<usize>, Vec<usize>) =
        results.iter().map(|r| (r.class, r.predicted())).unzip();
    let matrix = ConfusionMatrix::from_labels(classes.to_vec(), &truth, &predicted)?;
    let mut summary = Summary::new(&matrix)?;
    if let Some(bootstrap) = bootstrap {
        let subjects: Vec<&str> = results.iter().map(|r| r.subject.as_str()).collect();
        let drawn = |clips: &[usize]| {
            let pick = |from: &[usize]| clips.iter().map(|&i| from[i]).collect::<Vec<_>>();
            ConfusionMatrix::from_labels(classes.to_vec(), &pick(&truth), &pick(&predicted))
        };
        let interval = |statistic: fn(&ConfusionMatrix) -> Result<f64, mtcae_objective::Error>| {
            match bootstrap.by_subject(&subjects, |clips| statistic(&drawn(clips)?)) {
                Ok(interval) if interval.low < interval.high => Ok(Ok(interval)),
                // Which says how coarse the measure is, not how sure.
                Ok(_) => Ok(Err("all draws of subjects give the same value".to_owned())),
                Err(e @ mtcae_objective::Error::TooFew { .. }) => Ok(Err(e.to_string())),
                Err(e) => Err(e),
            }
        };
        for (of, slot) in [
            (interval(ConfusionMatrix::uar)?, &mut summary.uar_interval),
            (interval(ConfusionMatrix::war)?, &mut summary.war_interval),
        ] {
            match of {
                Ok(interval) => *slot = Some(interval),
                Err(why) => summary.no_interval = Some(why),
            }
        }
    }
    let probabilities: Vec<&[f64]> = results.iter().map(|r| &r.probabilities[..]).collect();
    let top = TopLabels::new(&probabilities, &truth)?;
    summary.ece = Some(Calibration::new(&top.confidence, &top.right, Calibration::BINS)?.ece);
    summary.mean_iou = over_frames(results, |r| r.iou);
    summary.nme = over_frames(results, |r| r.nme);
    Ok(summary)
}

/// How well action units of these names agree with what is true, over all frames of which it
/// is known; empty where it is of none.
///
/// # Errors
/// When a strength is no number.
pub fn summarise_units(
    results: &[ClipResult],
    names: &[String],
) -> Result<Vec<UnitSummary>, Error> {
    let frames: Vec<&[Vec<f32>; 2]> = results.iter().flat_map(|r| &r.action_units).collect();
    if frames.is_empty() {
        return Ok(Vec::new());
    }
    let of = |unit: usize, side: usize| -> Vec<f64> {
        let values = frames.iter().filter_map(|frame| frame[side].get(unit));
        values.map(|v| f64::from(*v)).collect()
    };
    let each = names.iter().enumerate();
    let each = each.map(|(unit, name)| Ok(UnitSummary::new(name, &of(unit, 0), &of(unit, 1))?));
    each.collect()
}

fn over_frames(results: &[ClipResult], of: impl Fn(&ClipResult) -> Option<f64>) -> Option<f64> {
    let measured = results
        .iter()
        .filter_map(|r| Some((of(r)?, r.frames as f64)));
    let (sum, n) = measured.fold((0.0, 0.0), |(s, n), (v, k)| (s + v * k, n + k));
    (n > 0.0).then(|| sum / n)
}

/// Writes results as a table: one line a clip.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write_table(path: &Path, results: &[ClipResult], classes: &[String]) -> Result<(), Error> {
    let write = |temporary: &Path| -> Result<(), csv::Error> {
        let mut table = csv::Writer::from_path(temporary)?;
        let mut head = COLUMNS.map(str::to_owned).to_vec();
        head.extend(classes.iter().map(|c| format!("p_{c}")));
        table.write_record(&head)?;
        for r in results {
            let number = |v: Option<f64>| v.map_or(String::new(), |v| v.to_string());
            let mut row = vec![
                r.file.clone(),
                r.subject.clone(),
                r.level.clone().unwrap_or_default(),
                r.fold.to_string(),
                classes[r.class].clone(),
                classes[r.predicted()].clone(),
                r.frames.to_string(),
                number(r.iou),
                number(r.nme),
            ];
            row.extend(r.probabilities.iter().map(f64::to_string));
            table.write_record(&row)?;
        }
        table.flush()?;
        Ok(())
    };
    Ok(write_atomically(path, |temporary| Ok(write(temporary)?)).at(path)?)
}

const COLUMNS: [&str; 9] = [
    "file",
    "subject",
    "level",
    "fold",
    "class",
    "predicted",
    "frames",
    "iou",
    "nme",
];

/// Reads a table back: the results and the names of the classes.
///
/// # Errors
/// Names the file, the line and the column at fault.
pub fn read_table(path: &Path) -> Result<(Vec<ClipResult>, Vec<String>), Error> {
    let fault = |reason: String| Error::File(FileError::new(path, reason));
    let file = mtcae_core::files::open(path).at(path)?;
    let mut table = csv::Reader::from_reader(file);
    let head = table.headers().map_err(|e| fault(e.to_string()))?.clone();
    if !head.iter().take(COLUMNS.len()).eq(COLUMNS) {
        return Err(fault(format!(
            "its columns must begin with {}",
            COLUMNS.join(",")
        )));
    }
    let classes: Vec<String> = head
        .iter()
        .skip(COLUMNS.len())
        .map(|name| {
            let class = name.strip_prefix("p_").map(str::to_owned);
            class.ok_or_else(|| {
                fault(format!(
                    "column {name} is not a class's, which begins with p_"
                ))
            })
        })
        .collect::<Result<_, _>>()?;
    let mut results = Vec::new();
    for (i, row) in table.records().enumerate() {
        let row = row.map_err(|e| fault(e.to_string()))?;
        let cell = |k: usize| row.get(k).unwrap_or_default();
        let bad = |k: usize| {
            let name = head.get(k).unwrap_or_default();
            fault(format!("line {}: {name} is {:?}", i + 2, cell(k)))
        };
        let number = |k: usize| cell(k).parse::<f64>().map_err(|_| bad(k));
        let maybe = |k: usize| match cell(k) {
            "" => Ok(None),
            _ => number(k).map(Some),
        };
        results.push(ClipResult {
            file: cell(0).to_owned(),
            subject: cell(1).to_owned(),
            level: Some(cell(2).to_owned()).filter(|l| !l.is_empty()),
            fold: cell(3).parse().map_err(|_| bad(3))?,
            class: classes
                .iter()
                .position(|c| c == cell(4))
                .ok_or_else(|| bad(4))?,
            logits: Vec::new(),
            action_units: Vec::new(),
            frames: cell(6).parse().map_err(|_| bad(6))?,
            iou: maybe(7)?,
            nme: maybe(8)?,
            probabilities: (COLUMNS.len()..head.len())
                .map(number)
                .collect::<Result<_, _>>()?,
        });
        let last = results
            .last()
            .map(|r: &ClipResult| classes[r.predicted()].as_str());
        if last != Some(cell(5)) {
            return Err(bad(5));
        }
    }
    Ok((results, classes))
}
