//! Action units of labelled clips.

use mtcae_core::gaps;
use mtcae_labels::labels::LabelledClip;

use crate::digest::Identity;

/// Action units of a clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Units {
    /// U names.
    pub names: Vec<String>,
    /// By the number of the frame in the stream, ascending, U strengths.
    pub strengths: Vec<(u64, Vec<f32>)>,
}

impl Units {
    /// Those of a line of a label file; `None` where it says none.
    ///
    /// # Errors
    /// Names the clip and what is wrong with them.
    pub(crate) fn of(clip: &LabelledClip) -> Result<Option<Self>, String> {
        let Some(record) = &clip.action_units else {
            return Ok(None);
        };
        let fault = |what: String| Err(format!("{}: action_units: {what}", clip.file));
        let (frames, names) = (clip.frames.len(), record.names.len());
        if record.strengths.len() != frames {
            let found = record.strengths.len();
            return fault(format!("{found} rows of strengths for {frames} frames"));
        }
        if let Some(row) = record.strengths.iter().find(|row| row.len() != names) {
            return fault(format!("{} strengths for {names} names", row.len()));
        }
        let mut all = record.strengths.iter().flatten();
        if let Some(strength) = all.find(|s| !s.is_finite()) {
            return fault(format!("a strength is {strength}"));
        }
        let rows = clip.frames.iter().zip(&record.strengths);
        let mut strengths: Vec<_> = rows.map(|(f, row)| (f.index, row.clone())).collect();
        strengths.sort_by_key(|(frame, _)| *frame);
        Ok(Some(Self {
            names: record.names.clone(),
            strengths,
        }))
    }

    /// Whether all of these are known.
    pub fn have(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.names.contains(name))
    }

    /// Strengths of named units at a frame of the stream: labelled there, or on the straight
    /// line between the labels before and after it. `None` where these, or a name, are missing.
    pub fn at(&self, names: &[String], frame: u64) -> Option<Vec<f32>> {
        let (before, after) = gaps::around(&self.strengths, frame as f64, |(f, _)| *f as f64);
        let after = after?;
        let before = if after.0 == frame { after } else { before? };
        let ((from, last), (to, next)) = (before, after);
        let share = match from == to {
            true => 1.0,
            false => gaps::share(*from as f64, *to as f64, frame as f64) as f32,
        };
        let of = |name: &String| {
            let place = self.names.iter().position(|n| n == name)?;
            Some(last[place] + share * (next[place] - last[place]))
        };
        names.iter().map(of).collect()
    }

    /// Adds them to a digest.
    pub(crate) fn identify(&self, identity: &mut Identity) {
        for name in &self.names {
            identity.text(name);
        }
        for (frame, strengths) in &self.strengths {
            identity.number(*frame).reals(strengths);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strengths_lie_between_those_that_are_labelled_and_follow_their_names() {
        let units = Units {
            names: ["AU1", "AU12"].map(str::to_owned).to_vec(),
            strengths: vec![(2, vec![0.0, 1.0]), (6, vec![0.8, 0.0])],
        };
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let both = names(&["AU12", "AU1"]);
        assert_eq!(units.at(&both, 2), Some(vec![1.0, 0.0]));
        assert_eq!(units.at(&both, 3), Some(vec![0.75, 0.2]));
        assert_eq!(units.at(&both, 6), Some(vec![0.0, 0.8]));
        // Nobody knows what was before the first, or after the last.
        assert_eq!(units.at(&both, 1), None);
        assert_eq!(units.at(&both, 7), None);
        assert_eq!(units.at(&names(&["AU4"]), 2), None);
        assert!(units.have(&both) && !units.have(&names(&["AU4"])));
    }
}
