//! Many clips at once, written in the order of the inputs.

use std::ops::ControlFlow;

use mtcae_core::in_order;

use super::record::{LabelledClip, Validity};
use super::writer::LabelWriter;
use crate::Error;
use crate::dataset::Sample;

/// What happened so far, after each clip.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Clips in the file, those of earlier runs included.
    pub done: usize,
    /// Clips altogether.
    pub total: usize,
    /// The clip just written.
    pub clip: &'a LabelledClip,
}

/// What a run found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Clips labelled by this run.
    pub clips: usize,
    /// Clips that earlier runs had labelled.
    pub resumed: usize,
    /// Frames looked at.
    pub frames: usize,
    /// Frames in which the subject was found.
    pub detected: usize,
    /// Frames in which the subject was interpolated.
    pub interpolated: usize,
    /// Clips in which there is no face at all.
    pub without_face: Vec<String>,
    /// Clips that could not be read, with the reason.
    pub failed: Vec<(String, String)>,
}

impl Summary {
    fn add(&mut self, clip: &LabelledClip) {
        self.clips += 1;
        self.frames += clip.frames.len();
        let count = |v: Validity| clip.frames.iter().filter(|f| f.validity == v).count();
        self.detected += count(Validity::Detected);
        self.interpolated += count(Validity::Interpolated);
        match &clip.error {
            Some(error) => self.failed.push((clip.file.clone(), error.clone())),
            None if clip.tracks.is_empty() => self.without_face.push(clip.file.clone()),
            None => {}
        }
    }
}

/// Labels `inputs` from the writer's position on with `label`, `jobs` at a time,
/// and writes them in their order: the file does not depend on `jobs`.
///
/// `label` is [`Labeller::label_file`](super::Labeller::label_file) or anything
/// like it; `progress` is called after each clip is written, and returning
/// `false` ends the run there. At most 2·`jobs` clips are held in memory.
///
/// # Errors
/// [`Error::File`] when the file cannot be written; what was written stays.
pub fn label_all(
    inputs: &[Sample],
    writer: &mut LabelWriter,
    jobs: usize,
    label: impl Fn(&Sample) -> LabelledClip + Sync,
    mut progress: impl FnMut(Progress<'_>) -> bool,
) -> Result<Summary, Error> {
    let first = writer.clips();
    let mut summary = Summary {
        resumed: first,
        ..Summary::default()
    };
    let mut fault = Ok(());
    let write = |i: usize, clip: LabelledClip| {
        fault = writer.write(&clip);
        if fault.is_err() {
            return ControlFlow::Break(());
        }
        summary.add(&clip);
        let go_on = progress(Progress {
            done: i + 1,
            total: inputs.len(),
            clip: &clip,
        });
        match go_on {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    in_order(first..inputs.len(), jobs, |i| label(&inputs[i]), write);
    fault?;
    Ok(summary)
}

#[cfg(all(test, target_os = "linux", feature = "embedded-weights"))]
mod tests {
    use mtcae_faces::{Detector, DetectorConfig};

    use super::*;
    use crate::labels::{LabelSettings, Labeller};

    #[test]
    fn a_full_disk_is_an_error_and_stops_the_run() {
        let detector = Detector::new(DetectorConfig::default()).unwrap();
        let labeller = Labeller::new(detector, LabelSettings::default()).unwrap();
        let settings = labeller.run_settings();
        let inputs: Vec<Sample> = (0..9)
            .map(|i| Sample::bare(format!("{i}")).unwrap())
            .collect();
        // A device on which every write fails for want of space.
        let mut writer = LabelWriter::into_device("/dev/full".as_ref()).unwrap();
        let label = |s: &Sample| LabelledClip::unlabelled(s, &settings);
        let error = label_all(&inputs, &mut writer, 3, label, |_| true).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("/dev/full") && error.contains("No space"),
            "{error}"
        );
        assert_eq!(writer.clips(), 0);
    }
}
