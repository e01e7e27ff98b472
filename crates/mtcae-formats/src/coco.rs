//! Faces and landmarks as COCO has objects and keypoints.

use std::io::Write;

use mtcae_core::{Face, FaceBox, Landmarks};
use mtcae_dfer::{PURPOSE, Results};
use serde::Serialize;
use serde_json::{Value, json};

use crate::frame::frames_of;
use crate::table::provenance;
use crate::{Error, about, file_of};

/// The category of the model's faces, or of labelled ones.
pub const FACE: u32 = 1;
/// The category of the faces that a detector found beside the model.
pub const DETECTED: u32 = 2;

/// Names of the keypoints, in the order of [`Landmarks::points`]; left is the viewer's.
const KEYPOINTS: [&str; 5] = ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"];
/// Pairs of keypoints that are joined, from 1 as COCO counts them.
const SKELETON: [[u32; 2]; 5] = [[1, 2], [1, 3], [2, 3], [3, 4], [3, 5]];
/// COCO's number for a keypoint that is there and can be seen.
const VISIBLE: u32 = 2;

/// A data set that is being put together.
#[derive(Serialize)]
pub(crate) struct Coco {
    info: Value,
    licenses: [u32; 0],
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Value,
}

/// One frame.
#[derive(Serialize)]
struct Image {
    id: usize,
    file_name: String,
    width: u32,
    height: u32,
    video: String,
    frame: u64,
    time: f64,
}

/// One face in pixels.
#[derive(Serialize)]
struct Annotation {
    id: usize,
    image_id: usize,
    category_id: u32,
    bbox: [f32; 4],
    area: f32,
    iscrowd: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keypoints: Vec<f32>,
    num_keypoints: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    attributes: Value,
}

impl Coco {
    pub fn new(about: Value) -> Self {
        let category = |id, name| {
            json!({
                "id": id,
                "name": name,
                "supercategory": "person",
                "keypoints": KEYPOINTS,
                "skeleton": SKELETON,
            })
        };
        Self {
            info: about,
            licenses: [],
            images: Vec::new(),
            annotations: Vec::new(),
            categories: json!([category(FACE, "face"), category(DETECTED, "detected face")]),
        }
    }

    /// A frame of a video, once; its number among the images.
    pub fn image(
        &mut self,
        video: &str,
        frame: u64,
        time: f64,
        [width, height]: [u32; 2],
    ) -> usize {
        let id = self.images.len() + 1;
        self.images.push(Image {
            id,
            file_name: format!("{video}#frame={frame}"),
            width,
            height,
            video: video.to_owned(),
            frame,
            time,
        });
        id
    }

    /// A face in a frame, in pixels.
    pub fn face(
        &mut self,
        image_id: usize,
        category_id: u32,
        (face_box, landmarks): (FaceBox, Option<Landmarks>),
        score: Option<f32>,
        attributes: Value,
    ) {
        let [x1, y1, x2, y2] = face_box.corners();
        let (width, height) = (x2 - x1, y2 - y1);
        let points = landmarks.map(|l| l.points());
        let keypoints: Vec<f32> = points
            .iter()
            .flatten()
            .flat_map(|p| [p[0], p[1], VISIBLE as f32])
            .collect();
        self.annotations.push(Annotation {
            id: self.annotations.len() + 1,
            image_id,
            category_id,
            bbox: [x1, y1, width, height],
            area: width * height,
            iscrowd: 0,
            num_keypoints: keypoints.len() / 3,
            keypoints,
            score,
            attributes,
        });
    }

    pub fn write(&self, mut out: impl Write) -> Result<(), Error> {
        serde_json::to_writer(&mut out, self)?;
        Ok(out.write_all(b"\n")?)
    }
}

/// Writes one file's results as a COCO data set: an image a frame, named `VIDEO#frame=N`; the
/// model's face of each person in the category `face`, and the detector's in `detected face`,
/// each with five keypoints. The `attributes` of a face are its `person`, `expression`,
/// `confidence` and `refusal`; the score of a model's face is 1, since the model has none.
///
/// # Errors
/// What the writer reports.
pub fn write_coco(results: &Results, out: impl Write) -> Result<(), Error> {
    let file = file_of(results);
    let mut coco = Coco::new(json!({
        "description": PURPOSE,
        "provenance": provenance(&[results]),
        (about::FILE): file,
    }));
    let video = file.unwrap_or_default();
    let mut images = std::collections::HashMap::new();
    for row in frames_of(results) {
        let (prediction, frame) = (row.prediction, row.frame);
        let size = [prediction.source.width, prediction.source.height];
        let image = *images
            .entry(frame.index)
            .or_insert_with(|| coco.image(&video, frame.index, frame.time, size));
        let attributes = json!({
            "person": prediction.person,
            "expression": Some(&prediction.expression).filter(|e| !e.is_empty()),
            "confidence": prediction.confidence,
            "refusal": prediction.refusal.as_ref().map(|r| r.name()),
        });
        if let Some(face_box) = frame.face_box {
            let face = (face_box, frame.landmarks);
            coco.face(image, FACE, face, Some(1.0), attributes.clone());
        }
        if let Some(Face {
            face_box,
            landmarks,
            score,
        }) = frame.detected
        {
            coco.face(
                image,
                DETECTED,
                (face_box, Some(landmarks)),
                Some(score),
                attributes,
            );
        }
    }
    coco.write(out)
}
