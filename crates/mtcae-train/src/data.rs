//! Labelled clips and how they are divided: folds by subject, validation
//! subjects carved from the training folds.

use mtcae_core::files::FileError;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mtcae_core::{Face, gaps};
use mtcae_labels::dataset::{Sample, Sex, folds};
use mtcae_labels::labels::{LabelReader, LabelledClip};
use rand::seq::SliceRandom;

use crate::action_units::Units;
use crate::digest::Identity;
use crate::error::list;
use crate::{Error, TrainConfig, random};

/// Folds where neither the label file nor the config says how many.
const FOLDS: usize = 5;

/// Which clips of a label file are read, and from where. By default all, from the label
/// file's folder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// The folder that the videos lie in.
    pub root: Option<&'a Path>,
    /// Classes in the order of the logits; by default those of `only`, or else all that
    /// occur, by name.
    pub classes: Option<&'a [String]>,
    /// The classes whose clips are read, others being left out; by default all.
    pub only: Option<&'a [String]>,
    /// A clip's class where it is another one than the label file says; `None` of it leaves
    /// that.
    pub class: Option<fn(&LabelledClip) -> Option<String>>,
}

/// Clips, their labels and their folds.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The label file.
    pub labels: PathBuf,
    /// Name of the dataset, as the labels have it.
    pub dataset: String,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// The clips that can be trained on, in the order of the label file.
    pub items: Vec<Item>,
    /// Numbers of the classes that clips were asked for: all, or those of
    /// [`Selection::only`].
    pub wanted: Vec<usize>,
    /// Number of folds; every item's fold is below it. 0 where the clips have none.
    pub folds: u32,
    /// The seed by which people were dealt to the folds; `None` where the folds are those
    /// of the label file.
    pub dealt: Option<u64>,
    /// What found the faces, as the labels have it: `mtcnn`, or `rendered` where they are
    /// where they were drawn.
    pub detectors: BTreeSet<String>,
    /// What was left out and why, in words.
    pub notices: Vec<String>,
}

/// A labelled clip.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where the video lies.
    pub path: PathBuf,
    /// Its name in the label file.
    pub file: String,
    /// Its dataset.
    pub dataset: String,
    /// SHA-256 of its content, where the labels have it.
    pub sha256: Option<String>,
    /// Number of its class.
    pub class: usize,
    /// The person.
    pub subject: String,
    /// Intensity, in the dataset's words.
    pub level: Option<String>,
    /// Fold, from 0.
    pub fold: u32,
    /// Width and height of the picture that the labels are fractions of.
    pub size: (u32, u32),
    /// Its width over its height as it is shown: pixels need not be square.
    pub aspect: f64,
    /// The subject's face by the number of the frame in the stream, ascending, in
    /// fractions of the source's picture.
    pub faces: Vec<(u64, Face)>,
    /// What the face does, where the labels say it.
    pub action_units: Option<Units>,
    /// When each of these frames is shown, in seconds from the stream's first.
    pub times: Vec<f64>,
    /// From when and until when the subject is there, where the labels say that they are
    /// not before or after it.
    pub there: (Option<f64>, Option<f64>),
}

impl Item {
    /// Adds what is seen and labelled of the clip.
    pub(crate) fn identify(&self, identity: &mut Identity) {
        identity.text(&self.file).maybe(self.sha256.as_deref());
        identity.number(self.faces.len() as u64);
        for (frame, face) in &self.faces {
            identity.number(*frame).reals(&face.face_box.corners());
            identity.reals(face.landmarks.points().as_flattened());
        }
        if let Some(units) = &self.action_units {
            units.identify(identity);
        }
    }

    /// Whether the labels do not say who it shows; its file's name stands for the person.
    pub fn is_nameless(&self) -> bool {
        self.subject == self.file
    }

    /// The face at a frame of the stream: labelled there, or on the straight line
    /// between the labels before and after it.
    pub fn face_at(&self, frame: u64) -> Option<Face> {
        let at = frame as f64;
        let (before, after) = gaps::around(&self.faces, at, |(f, _)| *f as f64);
        let (next_frame, next) = after?;
        if *next_frame == frame {
            return Some(*next);
        }
        let (last_frame, last) = before?;
        let share = gaps::share(*last_frame as f64, *next_frame as f64, at);
        Some(last.towards(next, share))
    }
}

/// Which clips do what in one run: places in [`Dataset::items`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Trained on.
    pub train: Vec<usize>,
    /// Looked at after each epoch.
    pub validation: Vec<usize>,
    /// Held out; read once, at the end.
    pub test: Vec<usize>,
}

impl Dataset {
    /// Reads a label file to train on. Folds are those of the file, unless the config asks
    /// for another number or the file has none: then people are dealt to folds by the
    /// config's seed, which the notices say.
    ///
    /// # Errors
    /// Names the label file and all that is wrong with it: videos that are missing
    /// (unless they may be left out), a class that is not among those given or has no
    /// clip, a subject in two folds, clips with and clips without a fold, fewer subjects
    /// than the config has folds, eyes that are one point.
    pub fn read(
        labels: impl AsRef<Path>,
        selection: &Selection<'_>,
        config: &TrainConfig,
    ) -> Result<Self, Error> {
        let folds = Some((config.folds, config.seed));
        Self::gather(labels.as_ref(), selection, config.allow_missing, folds)
    }

    /// As [`Self::read`], but to measure a model that is there: folds are those of
    /// the file, if it has any.
    ///
    /// # Errors
    /// As [`Self::read`]; any number of subjects will do.
    pub fn read_to_test(
        labels: impl AsRef<Path>,
        selection: &Selection<'_>,
    ) -> Result<Self, Error> {
        Self::gather(labels.as_ref(), selection, false, None)
    }

    /// Reads a label file, with folds of some number (0 for the file's) and seed.
    fn gather(
        labels: &Path,
        selection: &Selection<'_>,
        allow_missing: bool,
        wanted: Option<(usize, u64)>,
    ) -> Result<Self, Error> {
        let root = match selection.root {
            Some(root) => root,
            None => labels.parent().unwrap_or(Path::new("")),
        };
        let fault = |reason: String| Error::File(FileError::new(labels, reason));
        let mut clips = Vec::new();
        let mut left_out: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for clip in LabelReader::open(labels)? {
            let mut clip = clip?;
            if let Some(other) = selection.class.and_then(|class| class(&clip)) {
                clip.class = Some(other);
            }
            let why = match &clip {
                c if c.error.is_some() => "could not be labelled",
                c if c.class.is_none() => "have no class",
                c if c.source.is_none() || c.subject_track().is_none() => "show no face",
                _ => {
                    clips.push(clip);
                    continue;
                }
            };
            left_out.entry(why).or_default().push(clip.file);
        }
        // Before any is left out by its class: the file has as many folds as it says.
        let mut folds = clips
            .iter()
            .filter_map(|c| c.fold)
            .max()
            .map_or(0, |f| f + 1);
        let mut notices = Vec::new();
        if let Some(only) = selection.only {
            notices.extend(keep_classes(&mut clips, only).map_err(fault)?);
        }
        let missing: Vec<String> = clips
            .iter()
            .filter(|c| !root.join(&c.file).is_file())
            .map(|c| c.file.clone())
            .collect();
        if !missing.is_empty() {
            if !allow_missing {
                return Err(Error::Missing {
                    labels: labels.to_owned(),
                    root: root.to_owned(),
                    files: missing,
                });
            }
            clips.retain(|c| !missing.contains(&c.file));
            left_out.insert("are missing", missing);
        }
        if clips.is_empty() {
            let mut reason = "no labelled clip can be used".to_owned();
            for (why, files) in &left_out {
                reason += &format!("; {}", list(&format!("clips {why}"), files));
            }
            return Err(fault(reason));
        }
        let classes = match selection.classes.or(selection.only) {
            Some(classes) => classes.to_vec(),
            None => {
                let names: BTreeSet<&String> =
                    clips.iter().filter_map(|c| c.class.as_ref()).collect();
                names.into_iter().cloned().collect()
            }
        };
        let place = |name: &String| {
            let known = classes.join(", ");
            let place = classes.iter().position(|c| c == name);
            place.ok_or_else(|| {
                fault(format!(
                    "class {name:?} is not one of the model's, which are {known}"
                ))
            })
        };
        let wanted_classes = match selection.only {
            Some(only) => only.iter().map(place).collect::<Result<_, _>>()?,
            None => (0..classes.len()).collect(),
        };
        let mut samples: Vec<Sample> = clips.iter().map(|c| sample(c, root)).collect();
        if folds > 0 {
            // What the file says must be right, whether it is used or not.
            folds::prove(&samples).map_err(|e| fault(e.to_string()))?;
        }
        let mut dealt = None;
        if let Some((asked, seed)) = wanted {
            let k = match asked {
                0 if folds > 0 => folds as usize,
                0 => FOLDS.min(people(&samples)),
                asked => asked,
            };
            if k != folds as usize && k > 1 {
                notices.push(match folds {
                    0 => {
                        format!("the labels have no folds: people are dealt to {k} by seed {seed}")
                    }
                    _ => format!(
                        "the labels have {folds} folds and {k} are asked for: people are dealt \
                         anew, by seed {seed}, and fold 0 is no longer the labels' fold 0"
                    ),
                });
                folds::assign(&mut samples, k, seed).map_err(|e| fault(e.to_string()))?;
                folds = k as u32;
                dealt = Some(seed);
            }
        }
        let detectors = clips.iter().map(|c| c.settings.detector.name.clone());
        Ok(Self {
            labels: labels.to_owned(),
            dataset: clips[0].dataset.clone(),
            wanted: wanted_classes,
            folds,
            dealt,
            detectors: detectors.collect(),
            notices: left_out
                .into_iter()
                .map(|(why, files)| format!("left out: {}", list(&format!("clips {why}"), &files)))
                .chain(notices)
                .collect(),
            items: clips
                .into_iter()
                .zip(samples)
                .map(|(clip, sample)| item(clip, sample, &classes).map_err(fault))
                .collect::<Result<_, _>>()?,
            classes,
        })
    }

    /// These action units, where the labels of any clip say all of them; otherwise none.
    pub fn known_units<'a>(&self, names: &'a [String]) -> &'a [String] {
        let mut units = self.items.iter().filter_map(|i| i.action_units.as_ref());
        match units.any(|units| units.have(names)) {
            true => names,
            false => &[],
        }
    }

    /// Divides the clips with one fold held out, or with none.
    ///
    /// # Errors
    /// [`Error::Fold`] names the fold and the class when a class has no clip to
    /// train on or, with a fold held out, none to be tested on, unless the config
    /// allows it; or when validation would take all subjects.
    pub fn split(&self, held_out: Option<u32>, config: &TrainConfig) -> Result<Split, Error> {
        let all = 0..self.items.len();
        let (test, rest): (Vec<usize>, Vec<usize>) =
            all.partition(|&i| Some(self.items[i].fold) == held_out);
        let mut subjects: Vec<&str> = rest.iter().map(|&i| &self.items[i].subject[..]).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let seed = [config.seed, u64::from(held_out.unwrap_or(u32::MAX))];
        subjects.shuffle(&mut random::generator("validation", &seed));
        let wanted = (rest.len() as f64 * config.validation).round() as usize;
        let mut chosen: BTreeSet<&str> = BTreeSet::new();
        let mut taken = 0;
        for subject in subjects {
            let of_subject = |i: &&usize| self.items[**i].subject == subject;
            let clips = rest.iter().filter(of_subject).count();
            // A subject goes where that brings the count nearer to what is wanted.
            if taken < wanted && (chosen.is_empty() || 2 * (wanted - taken) >= clips) {
                chosen.insert(subject);
                taken += clips;
            }
        }
        let (validation, train): (Vec<usize>, Vec<usize>) = rest
            .into_iter()
            .partition(|&i| chosen.contains(&self.items[i].subject[..]));
        let split = Split {
            train,
            validation,
            test,
        };
        self.check(&split, held_out, config)?;
        Ok(split)
    }

    /// Divides the clips for a cross-validation, with each fold held out once.
    ///
    /// # Errors
    /// As [`Self::split`]; [`Error::File`] when there are fewer than two folds.
    pub fn splits(&self, config: &TrainConfig) -> Result<Vec<Split>, Error> {
        if self.folds < 2 {
            let what = match self.folds {
                1 => "its clips are all in one fold",
                _ => "its clips have no folds, and show one person",
            };
            let reason = format!(
                "{what}; a cross-validation takes 2 folds or more, to which `folds` deals people"
            );
            return Err(Error::File(FileError::new(&self.labels, reason)));
        }
        let folds = 0..self.folds;
        folds.map(|fold| self.split(Some(fold), config)).collect()
    }

    /// A digest of all that training and testing take from the labels.
    pub(crate) fn digest(&self) -> String {
        let mut identity = Identity::new("clips", 1);
        identity.number(self.classes.len() as u64);
        for class in &self.classes {
            identity.text(class);
        }
        for item in &self.items {
            let (width, height) = item.size;
            identity.number(item.class as u64).text(&item.subject);
            identity.number(item.fold.into());
            identity.numbers(&[width as usize, height as usize]);
            item.identify(&mut identity);
        }
        identity.finish()
    }

    fn check(
        &self,
        split: &Split,
        held_out: Option<u32>,
        config: &TrainConfig,
    ) -> Result<(), Error> {
        let fault = |reason: String| match held_out {
            Some(fold) => Error::Fold { fold, reason },
            None => Error::File(FileError::new(&self.labels, reason)),
        };
        let lacking = |places: &[usize]| {
            let there: BTreeSet<usize> = places.iter().map(|&i| self.items[i].class).collect();
            let lacking = self.wanted.iter().filter(|c| !there.contains(c));
            lacking
                .map(|&c| self.classes[c].clone())
                .collect::<Vec<_>>()
        };
        if split.train.is_empty() {
            return Err(fault("nobody is left to train on".to_owned()));
        }
        let mut parts = vec![("to train on", &split.train)];
        if held_out.is_some() {
            parts.push(("to be tested on", &split.test));
        }
        for (purpose, places) in parts {
            let lacking = lacking(places);
            if !lacking.is_empty() && (!config.allow_empty_classes || places.is_empty()) {
                return Err(fault(format!(
                    "class {} has no clip {purpose}; `allow_empty_classes` goes on without",
                    lacking.join(" and class ")
                )));
            }
        }
        Ok(())
    }
}

/// Keeps the clips of some classes; what was left out, in words.
fn keep_classes(clips: &mut Vec<LabelledClip>, only: &[String]) -> Result<Option<String>, String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for class in clips.iter().filter_map(|c| c.class.as_ref()) {
        *counts.entry(class.clone()).or_default() += 1;
    }
    let known = counts.keys().cloned().collect::<Vec<_>>().join(", ");
    if let Some(class) = only.iter().find(|c| !counts.contains_key(*c)) {
        return Err(format!("no clip is of class {class:?}; there are {known}"));
    }
    let is_kept = |class: &String| only.contains(class);
    clips.retain(|c| c.class.as_ref().is_some_and(is_kept));
    counts.retain(|class, _| !is_kept(class));
    let all: usize = counts.values().sum();
    let each: Vec<String> = counts.iter().map(|(c, n)| format!("{c} {n}")).collect();
    let left_out = format!(
        "left out: {all} clips of other classes ({})",
        each.join(", ")
    );
    Ok((all > 0).then_some(left_out))
}

/// How many people there are; a clip that names nobody counts as one of its own.
fn people(samples: &[Sample]) -> usize {
    let names = samples
        .iter()
        .map(|s| s.subject.as_ref().unwrap_or(&s.file));
    names.collect::<BTreeSet<_>>().len()
}

fn sample(clip: &LabelledClip, root: &Path) -> Sample {
    Sample {
        path: root.join(&clip.file),
        file: clip.file.clone(),
        dataset: clip.dataset.clone(),
        class: clip.class.clone(),
        subject: clip.subject.clone(),
        sex: clip.sex as Option<Sex>,
        level: clip.level.clone(),
        fold: clip.fold,
    }
}

fn item(clip: LabelledClip, sample: Sample, classes: &[String]) -> Result<Item, String> {
    let name = clip.class.as_deref().unwrap_or_default();
    let Some(class) = classes.iter().position(|c| c == name) else {
        let known = classes.join(", ");
        return Err(format!(
            "{}: class {name:?} is not one of the model's, which are {known}",
            clip.file
        ));
    };
    let size = clip.source.map_or((0, 0), |s| (s.width, s.height));
    let aspect = clip.source.map_or(1.0, |s| {
        f64::from(s.width) * s.pixel_aspect / f64::from(s.height.max(1))
    });
    let mut timed: Vec<(u64, f64, Face)> = match clip.subject_track() {
        Some(track) => track
            .faces
            .iter()
            .filter_map(|f| {
                let frame = clip.frames.get(f.frame)?;
                Some((frame.index, frame.time, f.into()))
            })
            .collect(),
        None => Vec::new(),
    };
    timed.sort_by_key(|(frame, ..)| *frame);
    timed.dedup_by_key(|(frame, ..)| *frame);
    let times: Vec<f64> = timed.iter().map(|(_, time, _)| *time).collect();
    let looked_at = |is: fn(&f64, &f64) -> bool, place: &f64| {
        clip.frames.iter().any(|frame| is(&frame.time, place))
    };
    let there = (
        times.first().filter(|first| looked_at(f64::lt, first)),
        times.last().filter(|last| looked_at(f64::gt, last)),
    );
    let there = (there.0.copied(), there.1.copied());
    let faces: Vec<(u64, Face)> = timed.iter().map(|(frame, _, f)| (*frame, *f)).collect();
    let finite = |f: &Face| {
        let points = f.landmarks.points();
        let mut all = f
            .face_box
            .corners()
            .into_iter()
            .chain(points.into_iter().flatten());
        all.all(f32::is_finite)
    };
    if let Some((frame, _)) = faces.iter().find(|(_, f)| !finite(f)) {
        return Err(format!(
            "{}: the face of frame {frame} is not finite",
            clip.file
        ));
    }
    if let Some((frame, _)) = faces
        .iter()
        .find(|(_, f)| f.landmarks.left_eye == f.landmarks.right_eye)
    {
        return Err(format!(
            "{}: both eyes of frame {frame} are one point; errors of landmarks are measured by \
             their distance",
            clip.file
        ));
    }
    let action_units = Units::of(&clip)?;
    Ok(Item {
        action_units,
        path: sample.path,
        subject: sample.subject.unwrap_or_else(|| clip.file.clone()),
        file: clip.file,
        dataset: clip.dataset,
        sha256: clip.sha256,
        class,
        level: clip.level,
        fold: sample.fold.unwrap_or(0),
        size,
        aspect,
        faces,
        times,
        there,
    })
}
