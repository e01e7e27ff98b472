//! What speaks against an answer, and where none is given.

use mtcae_core::{Face, Refusal, face_size, turn};
use mtcae_model::Answers;
use mtcae_video::Geometry;

use crate::prediction::FramePrediction;
use crate::{FaceWarning, Prediction, Seen, Warning};

/// The turn of a face that is not found where it must be: between two frames in which it is.
const HIDDEN: f64 = 10.0;
/// A face of which a larger part is beyond the border is not all there.
const OUTSIDE: f64 = 0.2;

impl Prediction {
    /// Names no class where the face that a detector saw is none, doubtful, too small or turned
    /// away,
    /// as far as the model's config asks for that. By [`Self::seen`] and the frames'
    /// [`detected`](crate::FramePrediction::detected) faces; of several frames the middle
    /// one counts, and a frame in which a followed face is not found counts as turned away.
    pub fn judge(&mut self, answers: &Answers) {
        if let Some(seen) = &self.seen
            && seen.frames == 0
        {
            let of = seen.of;
            self.refuse(Refusal::NoFace { of });
            // It rests on nothing no more.
            let none = |w: &Warning| matches!(w, Warning::Face(FaceWarning::NoFace { .. }));
            self.warnings.retain(|warning| !none(warning));
            return;
        }
        let aspect = self.source.pixel_aspect() as f32;
        let displayed = |face: &Face| face.landmarks.map(|[x, y]| [x * aspect, y]);
        let mut frames: Vec<_> = self.frames.iter().collect();
        frames.dedup_by_key(|frame| frame.index);
        let faces: Vec<&Face> = frames.iter().filter_map(|f| f.detected.as_ref()).collect();
        let scores = faces.iter().map(|face| f64::from(face.score));
        let score = scores.fold(0.0, f64::max);
        if let Some(least) = answers.least_face_score
            && score < least
            && !faces.is_empty()
        {
            self.refuse(Refusal::DoubtfulFace { score, least });
            return;
        }
        let found = faces.iter().filter(|face| face.is_detected());
        let eyes = middle(found.map(|face| face_size(&displayed(face))));
        if let (Some(eyes), Some(smallest)) = (eyes, answers.smallest_eyes)
            && eyes < smallest
        {
            self.refuse(Refusal::TooSmall { eyes, smallest });
            return;
        }
        let turns = faces.iter().map(|face| match face.is_detected() {
            true => turn(&displayed(face)),
            false => HIDDEN,
        });
        if let (Some(turn), Some(farthest)) = (middle(turns), answers.farthest_turn)
            && turn > farthest
        {
            self.refuse(Refusal::TurnedAway { turn, farthest });
        }
    }

    /// What is said of a clip in which there is nobody to show to the model, by the numbers
    /// and times of its frames.
    pub(crate) fn of_nobody(
        source: Geometry,
        frames: impl Iterator<Item = (u64, f64)>,
        seen: Seen,
        trained_on: Option<&str>,
    ) -> Self {
        let frames: Vec<FramePrediction> = frames
            .map(|(index, time)| FramePrediction {
                index,
                time,
                face_box: None,
                landmarks: None,
                action_units: Vec::new(),
                detected: None,
                square: None,
            })
            .collect();
        let of = seen.of;
        let mut prediction = Self {
            file: None,
            person: None,
            start: frames.first().map_or(0.0, |f| f.time),
            end: frames.last().map_or(0.0, |f| f.time),
            expression: String::new(),
            confidence: 0.0,
            refusal: None,
            probabilities: Vec::new(),
            action_units: Vec::new(),
            frames,
            source,
            trained_on: trained_on.map(str::to_owned),
            seen: Some(seen),
            warnings: Vec::new(),
        };
        prediction.refuse(Refusal::NoFace { of });
        prediction
    }

    /// A [`FaceWarning`] where the face that a detector found, or followed, is partly beyond
    /// the picture's border; `gone` more frames are those after it left, or before it came.
    pub(crate) fn note_border(&mut self, gone: u32) {
        let size = [self.source.width, self.source.height].map(f64::from);
        let mut frames: Vec<_> = self.frames.iter().collect();
        frames.dedup_by_key(|frame| frame.index);
        let cut = frames.iter().filter_map(|f| f.detected.as_ref());
        let cut = cut.filter(|face| outside(face, size) > OUTSIDE).count() as u32;
        let (frames, of) = (cut + gone, frames.len() as u32 + gone);
        if frames > 0 {
            let warning = FaceWarning::LeavesPicture { frames, of };
            self.warnings.push(Warning::Face(warning));
        }
    }
}

/// How much of a face's box is beyond the border of a picture.
pub(crate) fn outside(face: &Face, [width, height]: [f64; 2]) -> f64 {
    let [x1, y1, x2, y2] = face.face_box.corners().map(f64::from);
    let within = |low: f64, high: f64, size: f64| (high.min(size) - low.max(0.0)).max(0.0);
    let all = (x2 - x1) * (y2 - y1);
    match all > 0.0 {
        true => 1.0 - within(x1, x2, width) * within(y1, y2, height) / all,
        false => 0.0,
    }
}

/// The middle one; the lower of both where there are two.
fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(eyes: f32, nose: f32, score: f32) -> Face {
        let points = [
            [50.0 - eyes / 2.0, 40.0],
            [50.0 + eyes / 2.0, 40.0],
            [50.0 + nose, 50.0],
            [50.0 - eyes / 2.0, 40.0 + eyes],
            [50.0 + eyes / 2.0, 40.0 + eyes],
        ];
        Face {
            face_box: [30.0, 20.0, 70.0, 70.0].into(),
            landmarks: points.into(),
            score,
        }
    }

    fn judged(faces: &[Option<Face>], answers: &Answers) -> Prediction {
        let of = faces.len() as u32;
        let seen = Seen {
            frames: faces.iter().flatten().filter(|f| f.is_detected()).count() as u32,
            of,
            at: "source".to_owned(),
            min_face: 20.0,
        };
        let frames = (0..faces.len()).map(|i| (i as u64, i as f64));
        let source = Geometry::plain(100, 80);
        let mut prediction = Prediction::of_nobody(source, frames, seen.clone(), None);
        (prediction.refusal, prediction.expression) = (None, "happy".to_owned());
        for (frame, face) in prediction.frames.iter_mut().zip(faces) {
            frame.detected = *face;
        }
        prediction.note_seen(seen);
        prediction.judge(answers);
        prediction
    }

    fn strict() -> Answers {
        let fields = serde_json::json!({"smallest_eyes": 12.0, "farthest_turn": 0.8});
        serde_json::from_value(fields).expect("answers")
    }

    #[test]
    fn reasons_are_told_apart() {
        let name = |faces: &[Option<Face>], answers: &Answers| {
            let prediction = judged(faces, answers);
            assert_eq!(
                prediction.refusal.is_some(),
                prediction.expression.is_empty()
            );
            prediction.refusal.map(|refusal| refusal.name())
        };
        let (good, small) = (Some(face(30.0, 0.0, 0.9)), Some(face(8.0, 0.0, 0.9)));
        let (away, hidden) = (Some(face(30.0, 14.0, 0.9)), Some(face(30.0, 0.0, 0.0)));
        assert_eq!(name(&[good; 3], &strict()), None);
        assert_eq!(name(&[None; 3], &strict()), Some("no-face"));
        assert_eq!(name(&[small; 3], &strict()), Some("too-small"));
        assert_eq!(name(&[away; 3], &strict()), Some("turned-away"));
        // The middle one of the frames counts.
        assert_eq!(name(&[good, good, small], &strict()), None);
        assert_eq!(name(&[good, small, small], &strict()), Some("too-small"));
        // Where a face that is followed is not found, it is turned away.
        assert_eq!(name(&[good, hidden, good], &strict()), None);
        let most = [good, hidden, hidden, hidden, good];
        assert_eq!(name(&most, &strict()), Some("turned-away"));
        // The best frame counts: in one of them the detector is sure.
        let doubtful = Some(face(30.0, 0.0, 0.9));
        let sure = Some(face(30.0, 0.0, 0.99));
        let least = Answers {
            least_face_score: Some(0.95),
            ..Answers::default()
        };
        assert_eq!(name(&[doubtful; 3], &least), Some("doubtful-face"));
        assert_eq!(name(&[doubtful, sure, doubtful], &least), None);
        // What is absent is no reason.
        let lax = Answers::default();
        for faces in [[small; 3], [away; 3]] {
            assert_eq!(name(&faces, &lax), None);
        }
        // The reason is said once, and not as a warning.
        let nobody = judged(&[None; 3], &lax);
        assert_eq!(nobody.refusal, Some(Refusal::NoFace { of: 3 }));
        assert_eq!(nobody.warnings, []);
    }

    #[test]
    fn a_turned_head_is_not_small() {
        // Eyes 0.5 apart of a face whose mouth is 30 below them.
        let mut turned = face(30.0, 0.0, 0.9);
        turned.landmarks.left_eye[0] = 45.0;
        turned.landmarks.right_eye[0] = 55.0;
        let answers = Answers {
            smallest_eyes: Some(25.0),
            ..Answers::default()
        };
        assert_eq!(judged(&[Some(turned)], &answers).refusal, None);
    }

    #[test]
    fn a_face_beyond_the_border_is_said() {
        let said = |x: f32, gone: u32| {
            let moved = face(30.0, 0.0, 0.9).map(|[a, b]| [a + x, b]);
            let mut prediction = judged(&[Some(moved), Some(face(30.0, 0.0, 0.9))], &strict());
            prediction.warnings.clear();
            prediction.note_border(gone);
            let words = prediction.warnings.iter().map(ToString::to_string);
            words.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(said(0.0, 0), "");
        // An eighth of the box.
        assert_eq!(said(35.0, 0), "");
        assert_eq!(
            said(45.0, 0),
            "the face leaves the picture in 1 of 2 frames"
        );
        assert_eq!(said(0.0, 3), "the face leaves the picture in 3 of 5 frames");
    }
}
