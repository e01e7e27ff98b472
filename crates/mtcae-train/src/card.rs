//! What is measured of a model, into its card.

use std::collections::BTreeMap;
use std::path::Path;

use mtcae_model::Config;
use mtcae_model::card::{self, Figure, Group, Measurement};
use mtcae_objective::{Interval, Summary};

use crate::Error;

/// Clips that are alike.
#[derive(Clone, Debug)]
pub struct Alike {
    /// In what: a column's name.
    pub by: String,
    /// How: a value.
    pub name: String,
    /// Figures over them.
    pub summary: Summary,
}

/// Figures of a model, for its card.
#[derive(Clone, Debug)]
pub struct Noted<'a> {
    /// What it was measured on, and whether it knows the people; a sentence or two.
    pub on: String,
    /// The command that measured.
    pub command: String,
    /// The figures.
    pub summary: &'a Summary,
    /// Figures by what clips show.
    pub groups: &'a [Alike],
}

impl Noted<'_> {
    /// Adds them to the card in a checkpoint's folder, whose config this is. The model must
    /// have been measured as that says it.
    ///
    /// # Errors
    /// Names the file that cannot be read or written.
    pub fn write(self, folder: impl AsRef<Path>, config: &Config) -> Result<(), Error> {
        let s = self.summary;
        let bounds = |i: Option<Interval>| i.map(|i| [i.low, i.high]);
        let recall = s.classes.iter().filter_map(|class| {
            let name = format!("{} ({} clips)", class.name, class.support);
            Some(Figure::share(name, class.recall?, None))
        });
        let mut figures = vec![
            Figure::share("UAR", s.uar, bounds(s.uar_interval)),
            Figure::share("UAR of chance", s.uar_chance, None),
            Figure::share("WAR", s.war, bounds(s.war_interval)),
            Figure::share("macro F1", s.macro_f1, None),
        ];
        figures.extend(faces(s));
        figures.extend(
            s.ece
                .map(|v| Figure::number("expected calibration error", v)),
        );
        let units = s.action_units.iter().filter_map(|unit| {
            Some(Figure::number(
                format!("ICC(3,1) of {}", unit.name),
                unit.icc?,
            ))
        });
        figures.extend(units);
        let measurement = Measurement {
            on: self.on,
            command: self.command,
            model: BTreeMap::new(),
            clips: s.clips,
            figures,
            recall: recall.collect(),
            groups: self.groups.iter().map(group).collect(),
            remarks: Vec::new(),
        };
        Ok(card::add(folder, config, measurement)?)
    }
}

fn group(group: &Alike) -> Group {
    let s = &group.summary;
    let uar = Figure::share("UAR", s.uar, None);
    Group {
        by: group.by.clone(),
        name: group.name.clone(),
        clips: s.clips,
        figures: [uar].into_iter().chain(faces(s)).collect(),
    }
}

fn faces(s: &Summary) -> impl Iterator<Item = Figure> {
    let iou = s.mean_iou.map(|v| Figure::number("IoU of boxes", v));
    let nme = s.nme.map(|v| Figure::share("NME of landmarks", v, None));
    iou.into_iter().chain(nme)
}
