//! Boxes and landmarks of models in three views of a file, beside MTCNN's and a person's.

use std::collections::BTreeMap;
use std::path::Path;

use mtcae_dfer::video::{ClipOptions, Geometry};
use mtcae_dfer::{Crop, Face, FaceBox, FaceFinder, Pipeline, Prediction, Rect, Resize};
use mtcae_train::objective::{box_iou, landmark_nme};

use super::list::{Entry, Mark};
use crate::Fault;

/// Seconds of video that a model is shown from a marked frame on.
const STRETCH: f64 = 1.0;
/// A face is large whose box is this part of the picture's short side, or more.
const LARGE: f64 = 0.25;

/// What of a picture a model is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// The square 1.5 times as large as MTCNN's box.
    Loose,
    /// Twice as large.
    Twice,
    /// All of it, as the checkpoint brings it to its size.
    Whole,
    /// All of it, where there is one face, and that is large.
    WholeLarge,
}

impl View {
    /// Those that a model is asked for.
    const SHOWN: [Self; 3] = [Self::Loose, Self::Twice, Self::Whole];

    pub fn name(self) -> &'static str {
        match self {
            Self::Loose => "loose crop",
            Self::Twice => "crop, twice",
            Self::Whole => "whole frame",
            Self::WholeLarge => "whole, large face",
        }
    }

    fn factor(self) -> Option<f64> {
        match self {
            Self::Loose => Some(1.5),
            Self::Twice => Some(2.0),
            Self::Whole | Self::WholeLarge => None,
        }
    }
}

/// Whose boxes and landmarks are held to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Against {
    Mtcnn,
    Marks,
}

impl Against {
    pub fn name(self) -> &'static str {
        match self {
            Self::Mtcnn => "MTCNN",
            Self::Marks => "marks",
        }
    }
}

/// Where a face is, in pixels of the file's picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub bounds: Option<[f64; 4]>,
    pub points: [[f64; 2]; 5],
}

/// What is held to be true of a frame, and what a model is shown of it.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Number of the entry in the list.
    pub entry: usize,
    pub frame: u64,
    pub view: View,
    pub against: Against,
    pub place: Place,
    /// Width over height of the picture's pixels.
    pub aspect: f64,
    /// What of the picture is shown.
    pub shown: Rect,
}

/// How far off somebody is from a truth.
#[derive(Clone, Debug)]
pub struct Off {
    pub entry: usize,
    pub frame: u64,
    pub view: View,
    pub against: Against,
    /// Mean distance of the landmarks, over that of the eyes.
    pub nme: Option<f64>,
    pub iou: Option<f64>,
}

impl Truth {
    /// How far off a place is; landmarks whose true eyes are one point have no error.
    pub fn off(&self, place: &Place) -> Off {
        let nme = landmark_nme(&place.points, &self.place.points, self.aspect).ok();
        let bounds = place.bounds.zip(self.place.bounds);
        Off {
            entry: self.entry,
            frame: self.frame,
            view: self.view,
            against: self.against,
            nme,
            iou: bounds.and_then(|(a, b)| box_iou(ordered(a), ordered(b)).ok()),
        }
    }

    /// The place in fractions of what is shown.
    pub fn fractions(&self) -> Place {
        self.place.map(|[x, y]| {
            [
                (x - self.shown.x) / self.shown.width,
                (y - self.shown.y) / self.shown.height,
            ]
        })
    }

    /// Undoes [`Self::fractions`] for a place of another frame.
    pub fn pixels(&self, fractions: &Place) -> Place {
        fractions.map(|[x, y]| {
            [
                self.shown.x + x * self.shown.width,
                self.shown.y + y * self.shown.height,
            ]
        })
    }
}

impl Place {
    fn map(&self, to: impl Fn([f64; 2]) -> [f64; 2]) -> Self {
        let bounds = self.bounds.map(|[x1, y1, x2, y2]| {
            let ([x1, y1], [x2, y2]) = (to([x1, y1]), to([x2, y2]));
            [x1, y1, x2, y2]
        });
        Self {
            bounds,
            points: self.points.map(&to),
        }
    }

    fn of(face: &Face) -> Self {
        Self {
            bounds: Some(face.face_box.corners().map(f64::from)),
            points: face.landmarks.points().map(|p| p.map(f64::from)),
        }
    }
}

/// A head may say x2 < x1: the box of the same corners.
fn ordered([x1, y1, x2, y2]: [f64; 4]) -> [f64; 4] {
    [x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2)]
}

/// What is known of an entry's faces, and how far off each model is.
#[derive(Default)]
pub struct Seen {
    pub truths: Vec<Truth>,
    /// One list a model.
    pub models: Vec<Vec<Off>>,
    /// MTCNN's errors by the marks.
    pub mtcnn: Vec<Off>,
    /// Marked frames that no clip shows.
    pub unshown: usize,
}

/// A stretch of a file that is shown.
struct Shot {
    options: ClipOptions,
    /// Whether MTCNN's faces are measured by it, and not a mark alone.
    is_main: bool,
}

/// Looks at an entry through all views with all models.
///
/// # Errors
/// Names the file that cannot be read.
pub fn look(
    (number, entry): (usize, &Entry),
    path: &Path,
    marks: &[Mark],
    models: &[&Pipeline],
    finder: &FaceFinder,
) -> Result<Seen, Fault> {
    let mut seen = Seen {
        models: vec![Vec::new(); models.len()],
        ..Seen::default()
    };
    let Some(first) = models.first() else {
        return Ok(seen);
    };
    let stretch = |start, end, is_main| Shot {
        options: ClipOptions {
            start,
            end,
            ..first.clip_options().clone()
        },
        is_main,
    };
    let main = stretch(entry.start, entry.end, true);
    let mut left: Vec<&Mark> = marks.iter().collect();
    shoot(
        number, entry, path, &main, &mut left, models, finder, &mut seen,
    )?;
    // A frame that was not among those of the clip begins one of its own.
    let fps = match left.is_empty() {
        true => 1.0,
        false => first.open(path)?.info().fps,
    };
    while let Some(mark) = left.first().copied() {
        // Half a frame early, whatever times are rounded to.
        let start = (mark.frame as f64 - 0.5) / fps;
        let shot = stretch(Some(start.max(0.0)), Some(start + STRETCH), false);
        let before = left.len();
        // A mark may lie behind the last frame.
        let result = shoot(
            number, entry, path, &shot, &mut left, models, finder, &mut seen,
        );
        if result.is_err() || left.len() == before {
            seen.unshown += 1;
            left.remove(0);
        }
    }
    Ok(seen)
}

#[allow(clippy::too_many_arguments)] // What `look` has, and what it fills.
fn shoot(
    number: usize,
    entry: &Entry,
    path: &Path,
    shot: &Shot,
    marks: &mut Vec<&Mark>,
    models: &[&Pipeline],
    finder: &FaceFinder,
    seen: &mut Seen,
) -> Result<(), Fault> {
    let Some(first) = models.first() else {
        return Ok(());
    };
    let shown = |pipeline: &Pipeline, resize: Option<Resize>| {
        let own = pipeline.clip_options().resize;
        let options = ClipOptions {
            resize: resize.unwrap_or(own),
            sampling: pipeline.clip_options().sampling,
            ..shot.options.clone()
        };
        (*pipeline)
            .clone()
            .with_crop(Crop::None)
            .with_clip_options(options)
    };
    let whole = finder.predict(&shown(first, None), path)?;
    let faces: BTreeMap<u64, Face> = whole
        .frames
        .iter()
        .filter_map(|f| Some((f.index, f.detected.filter(Face::is_detected)?)))
        .collect();
    let of_shot: BTreeMap<u64, &Mark> = {
        let indices: Vec<u64> = whole.frames.iter().map(|f| f.index).collect();
        let (here, later): (Vec<&Mark>, Vec<&Mark>) = marks
            .drain(..)
            .partition(|mark| indices.contains(&mark.frame));
        *marks = later;
        here.into_iter().map(|mark| (mark.frame, mark)).collect()
    };
    let source = whole.source;
    let boxes: Vec<FaceBox> = faces.values().map(|face| face.face_box).collect();
    for view in View::SHOWN {
        let resize = match (view.factor(), square(&boxes, view.factor(), &source)) {
            (None, _) => None,
            (Some(_), Some(square)) => Some(Resize::Crop(square)),
            // Nobody to crop to.
            (Some(_), None) => continue,
        };
        for (m, model) in models.iter().enumerate() {
            let prediction = match (m, view) {
                (0, View::Whole) => whole.clone(),
                _ => shown(model, resize).predict(path)?,
            };
            let truths = truths(number, entry, shot, view, &faces, &of_shot, &prediction);
            let places = places(&prediction);
            for truth in &truths {
                if let Some(place) = places.get(&truth.frame) {
                    seen.models[m].push(truth.off(place));
                }
            }
            if m == 0 {
                seen.truths.extend(truths);
            }
        }
    }
    for (frame, mark) in of_shot {
        if let Some(face) = faces.get(&frame) {
            let truth = Truth {
                entry: number,
                frame,
                view: View::Whole,
                against: Against::Marks,
                place: marked(mark),
                aspect: source.pixel_aspect(),
                shown: source.shown(),
            };
            seen.mtcnn.push(truth.off(&Place::of(face)));
        }
    }
    Ok(())
}

fn marked(mark: &Mark) -> Place {
    Place {
        bounds: None,
        points: mark.landmarks,
    }
}

/// What is held to be true of the frames of a clip that a model was shown.
fn truths(
    entry: usize,
    about: &Entry,
    shot: &Shot,
    view: View,
    faces: &BTreeMap<u64, Face>,
    marks: &BTreeMap<u64, &Mark>,
    prediction: &Prediction,
) -> Vec<Truth> {
    let source = prediction.source;
    let truth = |frame: u64, view, against, place| Truth {
        entry,
        frame,
        view,
        against,
        place,
        aspect: source.pixel_aspect(),
        shown: source.shown(),
    };
    let mut truths = Vec::new();
    let found = faces.iter().filter(|_| shot.is_main);
    for (&frame, face) in found {
        truths.push(truth(frame, view, Against::Mtcnn, Place::of(face)));
        if view == View::Whole && about.faces.unwrap_or(1) == 1 && is_large(face, &source) {
            let view = View::WholeLarge;
            truths.push(truth(frame, view, Against::Mtcnn, Place::of(face)));
        }
    }
    for (&frame, mark) in marks {
        truths.push(truth(frame, view, Against::Marks, marked(mark)));
    }
    truths
}

fn is_large(face: &Face, source: &Geometry) -> bool {
    let [x1, y1, x2, y2] = face.face_box.corners().map(f64::from);
    let (width, height) = (f64::from(source.width), f64::from(source.height));
    let aspect = source.pixel_aspect();
    (aspect * (x2 - x1)).max(y2 - y1) >= LARGE * (aspect * width).min(height)
}

/// Where a model has the face in each frame, once a frame.
fn places(prediction: &Prediction) -> BTreeMap<u64, Place> {
    let place = |frame: &mtcae_dfer::FramePrediction| {
        let points = frame.landmarks?.points().map(|p| p.map(f64::from));
        let bounds = frame.face_box.map(|b| b.corners().map(f64::from));
        Some((frame.index, Place { bounds, points }))
    };
    prediction.frames.iter().filter_map(place).collect()
}

/// The square around boxes, some times as large as they are, moved into the picture where it
/// fits; no larger than that. `None` of no box, or no factor.
fn square(boxes: &[FaceBox], factor: Option<f64>, source: &Geometry) -> Option<Rect> {
    let corners = boxes.iter().map(|b| b.corners().map(f64::from));
    let around = corners.reduce(|a, b| {
        [
            a[0].min(b[0]),
            a[1].min(b[1]),
            a[2].max(b[2]),
            a[3].max(b[3]),
        ]
    });
    let [x1, y1, x2, y2] = around?;
    // In square pixels.
    let aspect = source.pixel_aspect();
    let (x1, x2) = (aspect * x1, aspect * x2);
    let (w, h) = (aspect * f64::from(source.width), f64::from(source.height));
    let side = (factor? * (x2 - x1).max(y2 - y1)).clamp(1.0, w.min(h));
    let start = |low: f64, high: f64, size: f64| {
        ((low + high - side) / 2.0).clamp(0.0, (size - side).max(0.0))
    };
    Some(Rect {
        x: start(x1, x2, w) / aspect,
        y: start(y1, y2, h),
        width: side / aspect,
        height: side,
    })
}

/// How many faces, and the sums of their boxes and landmarks.
type Sums = (f64, [f64; 4], [[f64; 2]; 5]);

/// The constant guess: of each view, the mean of where the list's faces are in it.
pub fn guess(truths: &[Truth]) -> Vec<Off> {
    let mut sums: BTreeMap<View, Sums> = BTreeMap::new();
    for truth in truths.iter().filter(|t| t.against == Against::Mtcnn) {
        let Place { bounds, points } = truth.fractions();
        let (n, all, mean) = sums.entry(truth.view).or_default();
        *n += 1.0;
        for (sum, v) in all.iter_mut().zip(bounds.unwrap_or_default()) {
            *sum += v;
        }
        for (sum, v) in mean
            .as_flattened_mut()
            .iter_mut()
            .zip(points.as_flattened())
        {
            *sum += v;
        }
    }
    let mean = |view: View| {
        let (n, bounds, points) = sums.get(&view)?;
        Some(Place {
            bounds: Some(bounds.map(|v| v / n)),
            points: points.map(|p| p.map(|v| v / n)),
        })
    };
    let off = |truth: &Truth| Some(truth.off(&truth.pixels(&mean(truth.view)?)));
    truths.iter().filter_map(off).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_square_is_as_large_as_asked_and_stays_in_the_picture() {
        let source = Geometry::plain(100, 80);
        let at = |b: [f32; 4], factor| square(&[FaceBox::from(b)], Some(factor), &source);
        let rect = |x, y, side| {
            Some(Rect {
                x,
                y,
                width: side,
                height: side,
            })
        };
        assert_eq!(at([40.0, 30.0, 60.0, 50.0], 1.5), rect(35.0, 25.0, 30.0));
        assert_eq!(at([40.0, 30.0, 60.0, 50.0], 2.0), rect(30.0, 20.0, 40.0));
        assert_eq!(at([90.0, 0.0, 100.0, 20.0], 2.0), rect(60.0, 0.0, 40.0));
        assert_eq!(at([0.0, 0.0, 100.0, 80.0], 2.0), rect(10.0, 0.0, 80.0));
        assert_eq!(square(&[], Some(2.0), &source), None);
        // Pixels twice as wide as high.
        let wide = Geometry::new(50, 80, (2, 1), Default::default());
        let boxes = [FaceBox::from([20.0, 30.0, 30.0, 50.0])];
        let found = square(&boxes, Some(1.5), &wide).expect("a square");
        assert_eq!((found.x, found.width, found.height), (17.5, 15.0, 30.0));
    }

    #[test]
    fn the_constant_guess_is_the_mean_of_the_views_faces() {
        let truth = |entry, dx: f64| Truth {
            entry,
            frame: 0,
            view: View::Loose,
            against: Against::Mtcnn,
            place: Place {
                bounds: Some([dx, 0.0, dx + 10.0, 10.0]),
                points: [[2.0, 3.0], [8.0, 3.0], [5.0, 5.0], [3.0, 8.0], [7.0, 8.0]]
                    .map(|[x, y]| [x + dx, y]),
            },
            aspect: 1.0,
            shown: Rect {
                x: 0.0,
                y: 0.0,
                width: 20.0,
                height: 20.0,
            },
        };
        // 3 pixels to each side of their mean, with eyes 6 apart.
        let found = guess(&[truth(0, 0.0), truth(1, 6.0)]);
        for off in &found {
            assert!((off.nme.expect("an error") - 0.5).abs() < 1e-12, "{off:?}");
            assert!((off.iou.expect("a share") - 7.0 / 13.0).abs() < 1e-12);
        }
        assert_eq!(found.len(), 2);
    }
}
