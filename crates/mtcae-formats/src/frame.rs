//! Results as frames: what tables are made of.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use mtcae_dfer::{Answer, FramePrediction, Prediction, Results};

/// A frame, and the prediction that it is a part of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame<'a> {
    /// What is said of the clip or window.
    pub prediction: &'a Prediction,
    /// What is said of the frame.
    pub frame: &'a FramePrediction,
}

/// The frames of one file's results: person by person and in the order of time, each frame
/// once a person.
///
/// Of a frame in several windows, what the window says whose centre is nearest to it, the
/// first of equals; of one that the sampling repeats, the first.
pub fn frames_of(results: &Results) -> Vec<Frame<'_>> {
    let people: Vec<&[Prediction]> = match &results.answer {
        Answer::Clip(people) => people.chunks(1).collect(),
        Answer::Windows(timelines) => timelines.iter().map(|t| &t.windows[..]).collect(),
    };
    let mut nearest: BTreeMap<(usize, u64), (f64, Frame<'_>)> = BTreeMap::new();
    for (person, predictions) in people.into_iter().enumerate() {
        for prediction in predictions {
            let centre = (prediction.start + prediction.end) / 2.0;
            for frame in &prediction.frames {
                let distance = (frame.time - centre).abs();
                let this = (distance, Frame { prediction, frame });
                match nearest.entry((person, frame.index)) {
                    Entry::Vacant(entry) => {
                        entry.insert(this);
                    }
                    Entry::Occupied(mut entry) if distance < entry.get().0 => {
                        entry.insert(this);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
    }
    nearest.into_values().map(|(_, frame)| frame).collect()
}

impl<'a> Frame<'a> {
    /// The expression; `None` where no answer is given.
    pub fn expression(&self) -> Option<&'a str> {
        Some(&self.prediction.expression[..]).filter(|e| !e.is_empty())
    }

    /// The kind of refusal.
    pub fn refusal(&self) -> Option<&'static str> {
        self.prediction
            .refusal
            .as_ref()
            .map(|refusal| refusal.name())
    }
}

/// How strong an action unit is in a frame, from 0 to 1.
pub(crate) fn strength(row: &Frame<'_>, unit: &str) -> Option<f32> {
    let position = row
        .prediction
        .action_units
        .iter()
        .position(|name| name == unit)?;
    row.frame.action_units.get(position).copied()
}
