//! Expressions over the length of a video.

use mtcae_core::Refusal;
use serde::{Deserialize, Serialize};

use crate::prediction::most_probable;
use crate::{ClassProbability, Error, Prediction};

/// The predictions of a window that slides over a video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Length of a window in seconds.
    pub length: f64,
    /// From one window's start to the next one's, in seconds.
    pub stride: f64,
    /// Every window, in the order of time.
    pub windows: Vec<Prediction>,
    /// The smoothed course: one point a window.
    pub points: Vec<TimelinePoint>,
}

/// The smoothed expression at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimelinePoint {
    /// Centre of the window in seconds.
    pub time: f64,
    /// The most probable expression; empty where its window has no answer.
    pub expression: String,
    /// All classes in the model's order; the probabilities sum to 1.
    pub probabilities: Vec<ClassProbability>,
}

/// What the model says of one file.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Of the whole of it: one person's or, in order of appearance, everybody's.
    Clip(Vec<Prediction>),
    /// Window by window: one timeline or, in order of appearance, everybody's.
    Windows(Vec<Timeline>),
}

impl Answer {
    /// The predictions, one a clip or window.
    pub fn predictions(&self) -> Vec<&Prediction> {
        match self {
            Self::Clip(people) => people.iter().collect(),
            Self::Windows(timelines) => timelines.iter().flat_map(|t| &t.windows).collect(),
        }
    }
}

impl Timeline {
    /// Smooths the windows: a point is the mean of the windows that overlap its
    /// own, weighted by 1 − distance of the centres / length. Windows that do not
    /// overlap stay as they are. A window without an answer counts for none, and its own
    /// point names no expression.
    ///
    /// # Errors
    /// [`Error::Option`] for a length or stride that is not finite and above 0.
    pub fn new(length: f64, stride: f64, windows: Vec<Prediction>) -> Result<Self, Error> {
        for (option, seconds) in [("length", length), ("stride", stride)] {
            if !(seconds.is_finite() && seconds > 0.0) {
                return Err(Error::Option {
                    option,
                    reason: format!("{seconds} is not a finite number of seconds above 0"),
                });
            }
        }
        let centre = |w: &Prediction| (w.start + w.end) / 2.0;
        let reach = (length / stride).ceil() as usize;
        let points = windows.iter().enumerate().map(|(i, window)| {
            let time = centre(window);
            let end = windows.len().min(i.saturating_add(reach).saturating_add(1));
            let near = &windows[i.saturating_sub(reach)..end];
            let mut probabilities = window.probabilities.clone();
            probabilities.iter_mut().for_each(|p| p.probability = 0.0);
            let mut total = 0.0;
            for other in near {
                if !other.is_judged() {
                    continue;
                }
                let weight = (1.0 - (centre(other) - time).abs() / length).max(0.0) as f32;
                total += weight;
                for (sum, p) in probabilities.iter_mut().zip(&other.probabilities) {
                    sum.probability += weight * p.probability;
                }
            }
            match total > 0.0 {
                true => probabilities
                    .iter_mut()
                    .for_each(|p| p.probability /= total),
                // No answer is near.
                false => probabilities.clone_from(&window.probabilities),
            }
            // Doubt that the neighbours take away is none.
            let named = |p: &&ClassProbability| match &window.refusal {
                None => true,
                Some(Refusal::Unsure { least, .. }) => f64::from(p.probability) >= *least,
                Some(_) => false,
            };
            let best = most_probable(&probabilities).filter(named);
            TimelinePoint {
                time,
                expression: best.map(|p| p.class.clone()).unwrap_or_default(),
                probabilities,
            }
        });
        let points = points.collect();
        Ok(Self {
            length,
            stride,
            windows,
            points,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mtcae_video::Geometry;

    fn window(start: f64, length: f64, p: f32) -> Prediction {
        let class = |class: &str, probability| ClassProbability {
            class: class.to_owned(),
            probability,
        };
        Prediction {
            file: None,
            person: None,
            start,
            end: start + length,
            expression: String::new(),
            confidence: 0.0,
            refusal: None,
            probabilities: vec![class("a", p), class("b", 1.0 - p)],
            action_units: Vec::new(),
            frames: vec![],
            source: Geometry::plain(1, 1),
            trained_on: Some("faces".to_owned()),
            seen: None,
            warnings: vec![],
        }
    }

    #[test]
    fn lengths_and_strides_that_are_no_times_are_refused() {
        for (length, stride, option) in [
            (2.0, 0.0, "stride"),
            (2.0, f64::NAN, "stride"),
            (-1.0, 2.0, "length"),
            (f64::INFINITY, 2.0, "length"),
        ] {
            let error = Timeline::new(length, stride, vec![window(0.0, 2.0, 1.0)]);
            let error = error.expect_err(option).to_string();
            assert!(error.starts_with(option), "{error}");
        }
        let long = Timeline::new(f64::MAX, f64::MIN_POSITIVE, vec![window(0.0, 2.0, 1.0)]);
        assert_eq!(long.expect("smoothed").points.len(), 1);
    }

    #[test]
    fn windows_that_do_not_overlap_stay_as_they_are() {
        let windows: Vec<_> = [0.9, 0.1, 0.6]
            .iter()
            .enumerate()
            .map(|(i, &p)| window(2.0 * i as f64, 2.0, p))
            .collect();
        let timeline = Timeline::new(2.0, 2.0, windows).expect("smoothed");
        let p: Vec<f32> = timeline
            .points
            .iter()
            .map(|point| point.probabilities[0].probability)
            .collect();
        assert_eq!(p, [0.9, 0.1, 0.6]);
        assert_eq!(timeline.points[1].expression, "b");
    }

    #[test]
    fn doubt_about_a_class_alone_is_smoothed_with_the_others() {
        let unsure = |mut window: Prediction, least| {
            window.refuse(Refusal::Unsure {
                confidence: 0.6,
                least,
            });
            window
        };
        let course = |least| {
            let sure = |at, p| window(at, 2.0, p);
            let windows = vec![
                sure(0.0, 1.0),
                unsure(sure(1.0, 0.6), least),
                sure(2.0, 1.0),
            ];
            Timeline::new(2.0, 1.0, windows).expect("smoothed").points
        };
        // (½ + 0.6 + ½) / 2.
        let points = course(0.75);
        assert!((points[1].probabilities[0].probability - 0.8).abs() < 1e-6);
        assert_eq!(points[1].expression, "a");
        assert!(points[0].probabilities[0].probability < 1.0);
        assert_eq!(course(0.9)[1].expression, "");
    }

    #[test]
    fn a_point_is_the_triangle_weighted_mean_of_its_neighbours() {
        let windows: Vec<_> = [1.0, 0.0, 0.0]
            .iter()
            .enumerate()
            .map(|(i, &p)| window(i as f64, 2.0, p))
            .collect();
        let timeline = Timeline::new(2.0, 1.0, windows).expect("smoothed");
        let p: Vec<f32> = timeline
            .points
            .iter()
            .map(|point| point.probabilities[0].probability)
            .collect();
        // Weights 1 at its own centre, ½ one stride off, 0 two strides off.
        assert_eq!(p, [1.0 / 1.5, 0.5 / 2.0, 0.0]);
        let sum: f32 = timeline.points[1]
            .probabilities
            .iter()
            .map(|p| p.probability)
            .sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }
}
