//! One answer of several views of a video.

use mtcae_core::Rect;
use mtcae_model::Config;
use mtcae_video::Geometry;

use crate::{FramePrediction, Prediction};

impl Prediction {
    /// One prediction of several views of a video: probabilities averaged (as VideoMAE
    /// tests), frames in the order of time. Crops of a clip stand together; each of its
    /// frames is listed once, by the median of what they say.
    pub(crate) fn merge(views: Vec<Self>, model: &Config) -> Option<Self> {
        let count = views.len() as f32;
        let source = views.first()?.source;
        let shown = around(&source, views.iter().map(|view| view.source.shown()));
        let mut clips: Vec<Vec<Self>> = Vec::new();
        for view in views {
            match clips.last_mut() {
                Some(crops) if crops.iter().all(|c| c.is_beside(&view)) => crops.push(view),
                _ => clips.push(vec![view]),
            }
        }
        let mut frames: Vec<FramePrediction> = clips.iter().flat_map(|c| of_crops(c)).collect();
        frames.sort_by(|a, b| a.time.total_cmp(&b.time));
        let mut views = clips.into_iter().flatten();
        let mut merged = views.next()?;
        for view in views {
            for (sum, p) in merged.probabilities.iter_mut().zip(&view.probabilities) {
                sum.probability += p.probability;
            }
            merged.start = merged.start.min(view.start);
            merged.end = merged.end.max(view.end);
        }
        merged
            .probabilities
            .iter_mut()
            .for_each(|p| p.probability /= count);
        merged.frames = frames;
        merged.source.crop = shown;
        merged.decide(model);
        Some(merged)
    }

    /// Whether another view shows another part of the same frames.
    fn is_beside(&self, other: &Self) -> bool {
        let numbers = |p: &Self| p.frames.iter().map(|f| f.index).collect::<Vec<_>>();
        self.source.crop != other.source.crop && numbers(self) == numbers(other)
    }
}

/// The rectangle around the parts of a picture that views show; `None` for all of it.
fn around(source: &Geometry, parts: impl Iterator<Item = Rect>) -> Option<Rect> {
    let parts: Vec<Rect> = parts.collect();
    if parts.iter().all(|part| source.crop == Some(*part)) {
        return source.crop;
    }
    let edge = |of: fn(&Rect) -> f64, pick: fn(f64, f64) -> f64| parts.iter().map(of).reduce(pick);
    let (x, y) = (edge(|r| r.x, f64::min)?, edge(|r| r.y, f64::min)?);
    let right = edge(|r| r.x + r.width, f64::max)?;
    let bottom = edge(|r| r.y + r.height, f64::max)?;
    let left_out = [
        x,
        y,
        f64::from(source.width) - right,
        f64::from(source.height) - bottom,
    ];
    // Edges are computed in fractions of pixels.
    left_out
        .iter()
        .any(|pixels| *pixels > 1e-6)
        .then_some(Rect {
            x,
            y,
            width: right - x,
            height: bottom - y,
        })
}

/// The frames of a clip by what several crops of it say, at least one: of each coordinate
/// the median, so that a crop which cuts the face off is outvoted.
fn of_crops(crops: &[Prediction]) -> Vec<FramePrediction> {
    let frames = crops.first().map_or(&[][..], |crop| &crop.frames);
    let frames = frames.iter().enumerate().map(|(i, frame)| {
        let each = || crops.iter().map(move |crop| &crop.frames[i]);
        let boxes: Option<Vec<_>> = each().map(|f| Some(f.face_box?.corners())).collect();
        let points: Option<Vec<_>> = each().map(|f| Some(f.landmarks?.points())).collect();
        let corner = |boxes: &[[f32; 4]], k: usize| median(boxes.iter().map(|b| b[k]));
        FramePrediction {
            face_box: boxes.map(|b| std::array::from_fn(|k| corner(&b, k)).into()),
            landmarks: points.map(|p| {
                let axis = |k: usize, a: usize| median(p.iter().map(|p| p[k][a]));
                std::array::from_fn(|k| [axis(k, 0), axis(k, 1)]).into()
            }),
            action_units: (0..frame.action_units.len())
                .map(|unit| median(each().map(|f| f.action_units[unit])))
                .collect(),
            ..frame.clone()
        }
    });
    frames.collect()
}

/// The middle one; the mean of both where there are two.
fn median(values: impl Iterator<Item = f32>) -> f32 {
    let mut values: Vec<f32> = values.collect();
    values.sort_by(f32::total_cmp);
    let (low, high) = ((values.len() - 1) / 2, values.len() / 2);
    values[low] + (values[high] - values[low]) / 2.0
}
