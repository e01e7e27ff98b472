//! A report: what it is of, and how it becomes a page.

use std::ffi::OsStr;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use mtcae_core::files::{At, FileError, write_atomically};
use mtcae_dfer::model::Identity;
use mtcae_dfer::video::Geometry;
use mtcae_dfer::{Answer, PURPOSE, Prediction, Results};
use mtcae_faces::DetectorConfig;
use mtcae_faces::tracks::TrackConfig;
use mtcae_labels::labels::{DetectorSettings, RunSettings};
use serde::Serialize;

use crate::clip::{Classes, Entry, Person};
use crate::evaluation::{Evaluation, evaluate};
use crate::pack::Pack;
use crate::{Error, Labels, link, page};

/// Endings of what a browser shows as a picture.
const PICTURES: [&str; 7] = ["apng", "bmp", "gif", "jpeg", "jpg", "png", "webp"];

/// Results of any number of files, as one page.
pub struct Report {
    page: PathBuf,
    /// The page's folder.
    folder: PathBuf,
    classes: Vec<String>,
    models: Vec<Model>,
    entries: Vec<Entry>,
    evaluation: Option<Evaluation>,
}

/// A model, and the program that ran it.
#[derive(PartialEq, Serialize)]
pub(crate) struct Model {
    pub program: Option<String>,
    pub identity: Option<Identity>,
    pub trained_on: Option<String>,
}

/// All that the page knows before it unpacks numbers.
#[derive(Serialize)]
pub(crate) struct Head<'a> {
    pub version: &'static str,
    pub purpose: &'static str,
    /// Whether results come while the page is open ([`Course`](crate::Course)).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
    /// Where the label files' names begin, seen from the page.
    pub root: String,
    pub classes: &'a [String],
    pub models: &'a [Model],
    pub results: &'a [Entry],
    pub evaluation: &'a Option<Evaluation>,
    /// What a label file says of how faces were found.
    pub settings: RunSettings,
}

impl Report {
    /// An empty report that will be written here; videos are linked from its folder.
    ///
    /// # Errors
    /// When the path has no file name, or its folder is not there.
    pub fn new(page: impl AsRef<Path>) -> Result<Self, Error> {
        let page = page.as_ref();
        let folder = match page.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        if page.file_name().is_none() {
            return Err(FileError::new(page, "is no name of a file").into());
        }
        if !folder.is_dir() {
            return Err(FileError::new(folder, "there is no such folder").into());
        }
        Ok(Self {
            page: page.to_owned(),
            folder: link::absolute(folder),
            classes: Vec::new(),
            models: Vec::new(),
            entries: Vec::new(),
            evaluation: None,
        })
    }

    /// How many files it is of.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it is of none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The videos that it links, and those that were not found, as they were named.
    pub fn videos(&self) -> (Vec<&Path>, Vec<&str>) {
        let found = self.entries.iter().filter_map(|e| e.found.as_deref());
        let lost = self.entries.iter().filter(|e| e.found.is_none());
        (found.collect(), lost.map(|e| &e.file[..]).collect())
    }

    /// Adds the results of one file, which lie here: the video is looked for as it is named
    /// and beside them.
    pub fn add(&mut self, results_file: &Path, results: &Results) {
        let predictions = results.answer.predictions();
        let first = predictions.first();
        let origin = results.provenance.as_ref();
        let source = origin.and_then(|p| p.source.as_ref());
        let named = first.and_then(|p| p.file.as_ref());
        let named = named.map(|f| f.to_string_lossy().into_owned());
        let named = named.or_else(|| source.map(|s| s.file.clone()));
        let bytes = source.map(|s| s.bytes);
        let find = |named: &String| link::find(Path::new(named), bytes, results_file, &self.folder);
        let found = named.as_ref().and_then(find);
        // Where it is not there, the link says where it was looked for.
        let target = found.clone();
        let target = target.or_else(|| named.as_ref().map(|n| link::absolute(Path::new(n))));
        let link = target.and_then(|target| link::relative(&self.folder, &target));
        let file = named.unwrap_or_else(|| results_file.to_string_lossy().into_owned());
        let ending = Path::new(&file).extension().and_then(OsStr::to_str);
        let ending = ending.map(str::to_lowercase).unwrap_or_default();

        let local = class_names(&results.answer);
        let global = local.iter().map(|name| self.class(name)).collect();
        let classes = Classes { local, global };
        let mut pack = Pack::default();
        let mut people: Vec<Person> = match &results.answer {
            Answer::Clip(people) => people
                .iter()
                .map(|p| Person::of_clip(p, &classes, &mut pack))
                .collect(),
            Answer::Windows(timelines) => timelines
                .iter()
                .map(|t| Person::of_windows(t, &classes, &mut pack))
                .collect(),
        };
        if people.is_empty() {
            people.push(Person::nobody(&classes, &mut pack));
        }
        let seen = predictions.iter().find_map(|p| p.seen.as_ref());
        let settings = origin.map(|o| &o.settings);
        let geometry = first.map(|p| p.source);
        let model = self.model(results, first.copied());
        self.entries.push(Entry {
            link: link.map(|path| link::url(&path)),
            label: String::new(),
            sha256: source.map(|s| s.sha256.clone()),
            size: geometry.map_or([0; 2], |g| [g.width, g.height]),
            aspect: shown_aspect(geometry),
            still: PICTURES.contains(&&ending[..]),
            model,
            classes: classes.global,
            units: first.map_or_else(Vec::new, |p| p.action_units.clone()),
            windows: match &results.answer {
                Answer::Windows(timelines) => timelines.first().map(|t| [t.length, t.stride]),
                Answer::Clip(_) => None,
            },
            detect_at: seen.map(|s| s.at.clone()),
            min_face: settings.and_then(|s| s["min_face"].as_f64()).unwrap_or(0.0),
            people,
            found,
            pack: pack.bytes,
            file,
        });
    }

    /// Holds the answers against labels.
    ///
    /// # Errors
    /// When they cannot be measured.
    pub fn hold_against(&mut self, labels: &Labels) -> Result<(), Error> {
        self.evaluation = Some(evaluate(labels, &mut self.entries, &self.classes)?);
        Ok(())
    }

    /// Writes the page, whole or not at all; over what is there.
    ///
    /// # Errors
    /// Names the file.
    pub fn save(&mut self) -> Result<(), Error> {
        let root = self.name_labels();
        let head = Head {
            version: env!("CARGO_PKG_VERSION"),
            purpose: PURPOSE,
            live: false,
            root,
            classes: &self.classes,
            models: &self.models,
            results: &self.entries,
            evaluation: &self.evaluation,
            settings: detector(),
        };
        let head = serde_json::to_string(&head)?;
        let packs = self.entries.iter().map(|entry| &entry.pack[..]);
        let written = write_atomically(&self.page, |temporary| {
            let mut file = BufWriter::new(std::fs::File::create(temporary)?);
            page::write(&mut file, page::From::File, &head, packs)
        });
        Ok(written.at(&self.page)?)
    }

    /// Gives each file the name that a label file calls it by, relative to the folder that
    /// all lie in; that folder, seen from the page.
    fn name_labels(&mut self) -> String {
        let found: Vec<&Path> = self
            .entries
            .iter()
            .filter_map(|e| e.found.as_deref())
            .collect();
        let root = link::common(&found).unwrap_or_else(|| self.folder.clone());
        for entry in &mut self.entries {
            let inside = entry
                .found
                .as_ref()
                .and_then(|f| f.strip_prefix(&root).ok());
            entry.label = match inside {
                Some(inside) => link::slashed(inside),
                None => entry.file.replace('\\', "/"),
            };
        }
        match link::relative(&self.folder, &root).map(|way| link::slashed(&way)) {
            Some(way) if way.is_empty() => ".".to_owned(),
            Some(way) => way,
            None => root.to_string_lossy().into_owned(),
        }
    }

    /// The place of a class in the page's list.
    fn class(&mut self, name: &str) -> usize {
        let known = self.classes.iter().position(|c| c == name);
        known.unwrap_or_else(|| {
            self.classes.push(name.to_owned());
            self.classes.len() - 1
        })
    }

    /// The place of a model in the page's list.
    fn model(&mut self, results: &Results, first: Option<&Prediction>) -> Option<usize> {
        let origin = results.provenance.as_ref();
        let identity = origin.map(|o| o.model.clone());
        let trained_on = match &identity {
            Some(identity) => identity.trained_on.clone(),
            None => first?.trained_on.clone(),
        };
        let model = Model {
            program: origin.map(|o| o.program.clone()),
            identity,
            trained_on,
        };
        let known = self.models.iter().position(|m| *m == model);
        Some(known.unwrap_or_else(|| {
            self.models.push(model);
            self.models.len() - 1
        }))
    }
}

/// Width over height of a pixel as shown; 1 where that is not known.
pub(crate) fn shown_aspect(geometry: Option<Geometry>) -> f64 {
    let aspect = geometry.map_or(1.0, |g| g.pixel_aspect());
    match aspect.is_finite() && aspect > 0.0 {
        true => aspect,
        false => 1.0,
    }
}

/// All classes of an answer, in the model's order.
fn class_names(answer: &Answer) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let mut before: &[_] = &[];
    for prediction in answer.predictions() {
        let all = &prediction.probabilities[..];
        let same = |(a, b): (&mtcae_dfer::ClassProbability, &mtcae_dfer::ClassProbability)| {
            a.class == b.class
        };
        if before.len() == all.len() && before.iter().zip(all).all(same) {
            continue;
        }
        for class in all {
            if !names.contains(&&class.class[..]) {
                names.push(&class.class);
            }
        }
        before = all;
    }
    names
}

/// What a label file says of how faces were found: by MTCNN as `infer` has it. The page fills
/// in what differs between files.
pub(crate) fn detector() -> RunSettings {
    let config = DetectorConfig::default();
    RunSettings {
        sampling: "infer".to_owned(),
        detect_at: "source".to_owned(),
        detector: DetectorSettings {
            name: "mtcnn".to_owned(),
            min_face: 0.0,
            factor: config.factor,
            thresholds: config.thresholds,
            keep: "all".to_owned(),
        },
        tracking: TrackConfig::default(),
    }
}
