//! What a label file says of a rendered clip.

use std::path::Path;

use mtcae_core::files::sha256;
use mtcae_faces::tracks::TrackConfig;
use mtcae_labels::dataset::{Sample, Sex};
use mtcae_labels::labels::{
    DetectorSettings, FaceRecord, FrameRecord, LabelledClip, RunSettings, Source, TrackRecord,
    UnitRecord, Validity,
};
use mtcae_synth::{ActionUnit, Dataset, Planned, Rendered, Renderer, write_clip};

/// A planned clip as a dataset's sample. Splits and seeds have different people of the
/// same numbers, and so are datasets of their own.
pub fn sample(root: &Path, of: &Dataset, planned: &Planned) -> Sample {
    Sample {
        path: root.join(&planned.file),
        file: planned.file.clone(),
        dataset: format!("synth/{}-{}", of.split, of.seed),
        class: Some(planned.take.expression.name().to_owned()),
        subject: Some(planned.subject()),
        sex: Some(if planned.actor % 2 == 1 {
            Sex::Male
        } else {
            Sex::Female
        }),
        level: Some(planned.take.intensity.code().to_string()),
        fold: None,
    }
}

/// No detector looked at the frames: the faces are where they were drawn.
pub fn settings() -> RunSettings {
    RunSettings {
        sampling: "every/1".to_owned(),
        detect_at: "source".to_owned(),
        detector: DetectorSettings {
            name: "rendered".to_owned(),
            min_face: 0.0,
            factor: 0.0,
            thresholds: [0.0; 3],
            keep: "all".to_owned(),
        },
        tracking: TrackConfig::default(),
    }
}

/// Renders a clip's file and labels it.
pub fn render(
    root: &Path,
    sample: &Sample,
    planned: Option<&Planned>,
    renderer: &Renderer,
) -> LabelledClip {
    let mut clip = LabelledClip::unlabelled(sample, &settings());
    let Some(planned) = planned else {
        clip.error = Some(format!("{}: is not planned", sample.file));
        return clip;
    };
    let written = write_clip(root, planned, renderer)
        .map_err(|e| e.to_string())
        .and_then(|clip| Ok((clip, sha256(&sample.path).map_err(|e| e.to_string())?)));
    match written {
        Ok((rendered, hash)) => {
            clip.sha256 = Some(hash);
            label(&mut clip, planned, &rendered);
        }
        Err(error) => clip.error = Some(error),
    }
    clip
}

fn label(clip: &mut LabelledClip, planned: &Planned, rendered: &Rendered) {
    let take = &planned.take;
    clip.source = Some(Source {
        width: take.width,
        height: take.height,
        pixel_aspect: 1.0,
    });
    clip.frames = (0..rendered.truth.len() as u64)
        .map(|index| FrameRecord {
            index,
            time: index as f64 / f64::from(take.fps),
            validity: Validity::Detected,
        })
        .collect();
    clip.tracks = vec![TrackRecord {
        id: 0,
        is_subject: true,
        faces: (0..)
            .zip(&rendered.truth)
            .map(|(i, face)| FaceRecord::new(i, face))
            .collect(),
    }];
    // To a thousandth: nobody's strength is known better.
    let rounded = |strength: &f32| (strength * 1000.0).round() / 1000.0;
    clip.action_units = Some(UnitRecord {
        names: ActionUnit::ALL.map(ActionUnit::name).to_vec(),
        strengths: rendered
            .units
            .iter()
            .map(|units| units.strengths().iter().map(rounded).collect())
            .collect(),
    });
}
