//! The page of a stream, whose results come while it is open.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mtcae_dfer::{PURPOSE, Prediction, Provenance, Timeline};
use serde::Serialize;

use crate::Error;
use crate::clip::{Classes, Entry, Person};
use crate::pack::Pack;
use crate::page::{self, From};
use crate::report::{Head, Model, detector, shown_aspect};

/// Windows on either side that a point is smoothed by at most, so that what is kept and told
/// anew with each window is bounded whatever windows are asked for.
const REACH: usize = 32;

/// People whose windows are kept; of more, those who were not seen longest are forgotten.
const PEOPLE: usize = 64;

/// A page as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The HTML.
    pub html: String,
    /// Its Content-Security-Policy, to be sent with it.
    pub policy: String,
}

/// The course of a stream, told piece by piece to pages that show it.
///
/// A piece has the last windows of those people of whom something new is said, with all that
/// the newest window changes of how they are smoothed: a page puts it in the place of what it
/// has from there on (`assets/course.js`), so that pieces may be lost or come twice.
pub struct Course {
    name: String,
    classes: Vec<String>,
    units: Vec<String>,
    models: Vec<Model>,
    min_face: f64,
    length: f64,
    stride: f64,
    reach: usize,
    people: BTreeMap<Option<u32>, VecDeque<Prediction>>,
}

/// What is said of one window, as a page takes it.
#[derive(Serialize)]
struct Piece<'a> {
    results: Entry,
    /// For each person, after which time the page's frames give way to these; `None` for all.
    cuts: Vec<Option<f64>>,
    classes: &'a [String],
    /// The columns in base64.
    pack: String,
}

impl Course {
    /// The course of a stream of this name, by a model of these classes and action units, in
    /// windows of `length` seconds, `stride` seconds apart.
    pub fn new(
        name: &str,
        provenance: Option<&Provenance>,
        classes: &[String],
        units: &[String],
        (length, stride): (f64, f64),
    ) -> Self {
        let identity = provenance.map(|p| p.model.clone());
        let model = Model {
            program: provenance.map(|p| p.program.clone()),
            trained_on: identity.as_ref().and_then(|i| i.trained_on.clone()),
            identity,
        };
        let min_face = provenance.and_then(|p| p.settings["min_face"].as_f64());
        Self {
            name: name.to_owned(),
            classes: classes.to_vec(),
            units: units.to_vec(),
            models: vec![model],
            min_face: min_face.unwrap_or(0.0),
            length,
            stride,
            // Windows that touch count for nothing. A cast of what is no number is 0.
            reach: ((length / stride).ceil() as usize).min(REACH),
            people: BTreeMap::new(),
        }
    }

    /// The page, without results. `script` runs in the page's scope before it starts: it hands
    /// over each piece by `course.take(piece)`, and may connect to where the page is from.
    ///
    /// # Errors
    /// When the page's head is no JSON.
    pub fn page(&self, script: &str) -> Result<Page, Error> {
        let head = Head {
            version: env!("CARGO_PKG_VERSION"),
            purpose: PURPOSE,
            live: true,
            root: ".".to_owned(),
            classes: &self.classes,
            models: &self.models,
            results: &[],
            evaluation: &None,
            settings: detector(),
        };
        let head = serde_json::to_string(&head)?;
        let from = From::Server(script);
        let mut html = Vec::new();
        // A vector takes everything.
        drop(page::write(&mut html, from, &head, std::iter::empty()));
        Ok(Page {
            html: String::from_utf8_lossy(&html).into_owned(),
            policy: from.policy(),
        })
    }

    /// Takes what is said of one window, a prediction a person; the piece, as JSON, that pages
    /// are told. `None` where nothing is said.
    ///
    /// # Errors
    /// When windows are no lengths of time.
    pub fn add(&mut self, predictions: &[Prediction]) -> Result<Option<String>, Error> {
        let Some(first) = predictions.first() else {
            return Ok(None);
        };
        let local: Vec<&str> = self.classes.iter().map(|class| &class[..]).collect();
        let classes = Classes {
            global: (0..local.len()).collect(),
            local,
        };
        let mut pack = Pack::default();
        let (mut people, mut cuts) = (Vec::new(), Vec::new());
        for prediction in predictions {
            let windows = self.people.entry(prediction.person).or_default();
            windows.push_back(prediction.clone());
            // A point of the window before the first that is told changes no more.
            while windows.len() > 2 * self.reach + 2 {
                windows.pop_front();
            }
            let all = windows.iter().cloned().map(|mut window| {
                // Where nothing was computed, columns of action units are there all the same.
                window.action_units.clone_from(&self.units);
                window
            });
            let mut timeline = Timeline::new(self.length, self.stride, all.collect())?;
            let before = timeline.windows.len().saturating_sub(self.reach + 1);
            let middle = |w: &Prediction| (w.start + w.end) / 2.0;
            // As `pack.rs` has it: a frame is told by the window whose middle is nearest.
            cuts.push(before.checked_sub(1).map(|last| {
                let windows = &timeline.windows;
                (middle(&windows[last]) + middle(&windows[before])) / 2.0
            }));
            timeline.windows.drain(..before);
            timeline.points.drain(..before);
            people.push(Person::of_windows(&timeline, &classes, &mut pack));
        }
        let seen = predictions.iter().find_map(|p| p.seen.as_ref());
        let piece = Piece {
            results: Entry {
                file: self.name.clone(),
                link: None,
                label: self.name.clone(),
                sha256: None,
                size: [first.source.width, first.source.height],
                aspect: shown_aspect(Some(first.source)),
                still: false,
                model: Some(0),
                classes: classes.global,
                units: self.units.clone(),
                windows: Some([self.length, self.stride]),
                detect_at: seen.map(|s| s.at.clone()),
                min_face: self.min_face,
                people,
                found: None,
                pack: Vec::new(),
            },
            cuts,
            classes: &self.classes,
            pack: STANDARD.encode(pack.bytes),
        };
        let piece = serde_json::to_string(&piece)?;
        self.forget();
        Ok(Some(piece))
    }

    fn forget(&mut self) {
        while self.people.len() > PEOPLE {
            let end = |windows: &VecDeque<Prediction>| windows.back().map_or(0.0, |w| w.end);
            let ended = self
                .people
                .iter()
                .map(|(who, windows)| (*who, end(windows)));
            let longest = ended.min_by(|a, b| a.1.total_cmp(&b.1));
            let Some((who, _)) = longest else { return };
            self.people.remove(&who);
        }
    }
}
