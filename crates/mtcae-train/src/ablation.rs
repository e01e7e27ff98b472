//! The paper's ablation (section IV.B.3, Table I): the six structures under one
//! budget and the same folds.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use mtcae_model::decoder::Structure;

use crate::cross_validation::cross_validate;
use crate::data::Dataset;
use crate::event::Watch;
use crate::folder::write_text;
use crate::folds::CrossValidation;
use crate::log::{EpochLine, Line};
use crate::report::{About, Spread, chance, published_table};
use crate::start::Start;
use crate::{Error, Report, TrainConfig, published};

/// An ablation and where its files go: `STRUCTURE/seed-N/` below its folder.
pub struct Ablation<'a> {
    /// Its folder.
    pub folder: &'a Path,
    /// Whose encoder all structures share. Decoders are drawn.
    pub encoder: &'a Start,
    /// Which structures.
    pub structures: &'a [Structure],
    /// Seeds; each gives every structure one cross-validation.
    pub seeds: &'a [u64],
    /// The labelled clips. Folds do not depend on the seeds.
    pub data: &'a Arc<Dataset>,
    /// Name of the dataset whose published figures stand beside ours; usually that of the
    /// labels.
    pub published: &'a str,
    /// Where features are kept, for a frozen encoder.
    pub cache: Option<&'a Path>,
    /// How; its seed is replaced.
    pub config: &'a TrainConfig,
    /// Where.
    pub device: &'a Device,
}

/// What a structure reached.
struct Row {
    structure: Structure,
    /// Of every seed, in the order of the seeds.
    reports: Vec<Report>,
    flops: f64,
    /// Training loss of the last epoch over that of the one a tenth of the epochs
    /// before: near 1 when it is flat, or when the learning rate has come to its end.
    flatness: f64,
    /// Share of the training clips recognised in the last epoch: what tells the two apart.
    fitted: f64,
}

/// Runs what is left of an ablation and writes `table.md`, which is returned.
///
/// # Errors
/// As [`cross_validate`].
pub fn ablate(ablation: &Ablation<'_>, watch: &mut Watch<'_>) -> Result<String, Error> {
    let mut rows: Vec<Row> = Vec::new();
    for &structure in ablation.structures {
        let units = ablation
            .data
            .known_units(&ablation.encoder.config().action_units);
        let start = ablation
            .encoder
            .with_decoder(structure, &ablation.data.classes, units)?;
        let tokens = start.config().encoder.output().tokens;
        let mut reports = Vec::new();
        let (mut flatness, mut fitted) = (Vec::new(), Vec::new());
        for &seed in ablation.seeds {
            let folder = ablation
                .folder
                .join(structure.name())
                .join(format!("seed-{seed}"));
            let config = TrainConfig {
                seed,
                ..ablation.config.clone()
            };
            let cv = CrossValidation {
                folder: &folder,
                start: &start,
                data: ablation.data,
                cache: ablation.cache,
                save_models: false,
                test: None,
                config: &config,
                device: ablation.device,
            };
            reports.push(cross_validate(&cv, watch)?);
            for fold in 0..ablation.data.folds {
                let log = folder.join(format!("fold-{fold}")).join(crate::LOG);
                let epochs = epochs(&crate::log::read(log)?);
                flatness.push(flat(&epochs));
                fitted.extend(epochs.last().and_then(|e| e.accuracy));
            }
        }
        rows.push(Row {
            structure,
            reports,
            flops: start.config().decoder.flops(tokens),
            flatness: Spread::of(&flatness).mean,
            fitted: Spread::of(&fitted).mean,
        });
    }
    let table = table(ablation, &rows);
    write_text(&ablation.folder.join("table.md"), &table)?;
    Ok(table)
}

fn epochs(lines: &[Line]) -> Vec<EpochLine> {
    lines
        .iter()
        .filter_map(|line| match line {
            Line::Epoch(epoch) => Some(epoch.clone()),
            Line::Step(_) => None,
        })
        .collect()
}

/// Loss of the last epoch over the loss a tenth of the epochs before.
fn flat(epochs: &[EpochLine]) -> f64 {
    let back = (epochs.len() / 10).max(1);
    match epochs.len().checked_sub(1 + back) {
        Some(i) if epochs[i].loss > 0.0 => epochs[epochs.len() - 1].loss / epochs[i].loss,
        _ => f64::NAN,
    }
}

fn table(ablation: &Ablation<'_>, rows: &[Row]) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_rows(ablation, rows, &mut out);
    out
}

fn write_rows(ablation: &Ablation<'_>, rows: &[Row], out: &mut String) -> std::fmt::Result {
    let tables = published::tables(ablation.published);
    let (folds, seeds) = (ablation.data.folds, ablation.seeds.len());
    writeln!(
        out,
        "# Structures of the decoder on {}\n\n{} clips, {folds} subject-independent folds, {} of training ({}), {} \
         epochs each. UAR and WAR are means over folds and seeds ± the standard deviation over \
         the seeds' means; compute is one forward of the decoder for one clip.\n",
        ablation.data.dataset,
        ablation.data.items.len(),
        match seeds {
            1 => "1 seed".to_owned(),
            n => format!("{n} seeds"),
        },
        ablation
            .seeds
            .iter()
            .map(u64::to_string)
            .collect::<Vec<_>>()
            .join(", "),
        ablation.config.epochs
    )?;
    if let Some(pooled) = rows
        .first()
        .and_then(|r| r.reports.first())
        .map(|r| &r.pooled)
    {
        let about = About::new(&ablation.data.detectors, None);
        writeln!(out, "Chance: {}. {}\n", chance(pooled), about.in_words())?;
    }
    if let Some(tables) = tables
        && ablation.published != ablation.data.dataset
    {
        writeln!(
            out,
            "The published figures are of {}, on which nothing was measured here.\n",
            tables.dataset
        )?;
    }
    let head = match tables {
        Some(tables) => format!(
            "published UAR %, {0} | published WAR %, {0} |",
            tables.dataset
        ),
        None => String::new(),
    };
    writeln!(
        out,
        "| structure | UAR % | WAR % | IoU | NME % | parameters | GFLOP | recognised in training % | last loss / loss a tenth earlier | {head}"
    )?;
    let more = if tables.is_some() { "---|---|" } else { "" };
    writeln!(out, "|---|---|---|---|---|---|---|---|---|{more}")?;
    for row in rows {
        let over = |of: &dyn Fn(&Report) -> f64| {
            Spread::of(&row.reports.iter().map(of).collect::<Vec<_>>())
        };
        let mean = |of: &dyn Fn(&Report) -> Option<f64>| {
            let values: Vec<f64> = row.reports.iter().filter_map(of).collect();
            (!values.is_empty()).then(|| Spread::of(&values).mean)
        };
        let number =
            |v: Option<f64>, digits| v.map_or("–".to_owned(), |v| format!("{v:.digits$}"));
        let parameters = row
            .reports
            .first()
            .and_then(|r| r.folds.first())
            .map_or(0, |f| f.parameters);
        write!(
            out,
            "| {} | {} | {} | {} | {} | {parameters} | {:.3} | {:.1} | {} |",
            row.structure,
            over(&|r| r.uar().mean).percent(),
            over(&|r| r.war().mean).percent(),
            number(mean(&|r| r.pooled.mean_iou), 3),
            number(mean(&|r| r.pooled.nme).map(|v| 100.0 * v), 1),
            row.flops / 1e9,
            100.0 * row.fitted,
            number(row.flatness.is_finite().then_some(row.flatness), 3),
        )?;
        match tables.and_then(|t| published::of_structure(t, row.structure)) {
            Some((uar, war)) => writeln!(out, " {uar:.2} | {war:.2} |")?,
            None => writeln!(out)?,
        }
    }
    let others = published_table(ablation.published);
    if !others.is_empty() {
        writeln!(out, "\n{others}")?;
    }
    Ok(())
}
