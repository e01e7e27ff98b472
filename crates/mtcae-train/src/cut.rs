//! Parts of the frames of a clip: drawn, and cut out with the faces in them.

use mtcae_core::{Face, Rect};
use mtcae_video::FrameResizer;
use ndarray::{Array4, Axis};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::Error;
use crate::view::Frames;

/// Shapes of crops that need not hold the face: width over height at least this, and at most
/// its inverse.
const NARROWEST: f64 = 3.0 / 4.0;
/// Such crops that are drawn until one fits into the frame.
const TRIES: usize = 10;

/// The whole frame.
const WHOLE: Rect = Rect {
    x: 0.0,
    y: 0.0,
    width: 1.0,
    height: 1.0,
};

/// A random part of each frame at a model's size; the same of all, in fractions of the frame.
///
/// # Errors
/// When a frame cannot be resized.
pub fn part(frames: &Frames, crop: Rect, side: usize) -> Result<Frames, Error> {
    let t = frames.pixels.len_of(Axis(0));
    let mut pixels = Array4::zeros((t, side, side, 3));
    let (h, w) = (frames.pixels.len_of(Axis(1)), frames.pixels.len_of(Axis(2)));
    let rect = Rect {
        x: crop.x * w as f64,
        y: crop.y * h as f64,
        width: crop.width * w as f64,
        height: crop.height * h as f64,
    };
    let mut resizer = FrameResizer::default();
    for (source, mut target) in frames.pixels.outer_iter().zip(pixels.outer_iter_mut()) {
        let source = source.as_standard_layout();
        if let (Some(source), Some(out)) = (source.as_slice(), target.as_slice_mut()) {
            let (from, to) = ((w as u32, h as u32), (side as u32, side as u32));
            resizer
                .resize(source, from, Some(rect), to, out)
                .map_err(|reason| Error::Config {
                    field: "crop",
                    reason,
                })?;
        }
    }
    let to_crop = |[x, y]: [f32; 2]| {
        let x = ((f64::from(x) - crop.x) / crop.width) as f32;
        let y = ((f64::from(y) - crop.y) / crop.height) as f32;
        [x, y]
    };
    let faces = frames.faces.iter().map(|face| face.map(|f| f.map(to_crop)));
    Ok(Frames {
        pixels,
        faces: faces.collect(),
        numbers: frames.numbers.clone(),
        squares: Vec::new(),
        pixel_aspect: 1.0,
        erased: None,
    })
}

/// A face of which all landmarks are in the picture keeps them, and of its box what is there;
/// any other is none to learn from.
pub fn only_what_is_seen(face: &mut Option<Face>) {
    let within = |[x, y]: [f32; 2]| (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y);
    *face = face.filter(|face| face.landmarks.points().into_iter().all(within));
    if let Some(face) = face {
        face.face_box = face.face_box.corners().map(|v| v.clamp(0.0, 1.0)).into();
    }
}

/// A part of frames of a size (width, height) that need not hold the face, as torchvision's
/// `RandomResizedCrop` draws it: whole pixels, of an area of at least `least` and a shape
/// between 3:4 and 4:3, even in its logarithm. In fractions of the frame.
pub fn anywhere([width, height]: [usize; 2], least: f64, rng: &mut ChaCha8Rng) -> Rect {
    let all = (width * height) as f64;
    for _ in 0..TRIES {
        let area = all * rng.random_range(least..=1.0);
        let shape = rng.random_range(NARROWEST.ln()..=-NARROWEST.ln()).exp();
        let w = (area * shape).sqrt().round() as usize;
        let h = (area / shape).sqrt().round() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = rng.random_range(0..=height - h);
            let left = rng.random_range(0..=width - w);
            return Rect {
                x: left as f64 / width as f64,
                y: top as f64 / height as f64,
                width: w as f64 / width as f64,
                height: h as f64 / height as f64,
            };
        }
    }
    // As torchvision has it of frames that are not narrower than the narrowest crop.
    WHOLE
}

/// A rectangle in fractions of the frame, of an area of at least `least` and a
/// shape between 9:10 and 10:9, that no face sticks out of; the whole frame when
/// none is found.
pub fn about_faces(faces: &[Option<Face>], least: f64, rng: &mut ChaCha8Rng) -> Rect {
    if least >= 1.0 {
        return WHOLE;
    }
    let mut found = WHOLE;
    // All tries are drawn, so that what follows does not depend on the faces.
    for _ in 0..8 {
        let area = rng.random_range(least..1.0);
        let shape = rng.random_range((0.9f64).ln()..(1.0f64 / 0.9).ln()).exp();
        let width = (area * shape).sqrt().min(1.0);
        let height = (area / shape).sqrt().min(1.0);
        let x = rng.random_range(0.0..=1.0 - width);
        let y = rng.random_range(0.0..=1.0 - height);
        let holds = |face: &Face| {
            let [x1, y1, x2, y2] = face.face_box.corners().map(f64::from);
            // Where the frame cuts a face, the crop may as well.
            x1.max(0.0) >= x
                && y1.max(0.0) >= y
                && x2.min(1.0) <= x + width
                && y2.min(1.0) <= y + height
        };
        if found == WHOLE && faces.iter().flatten().all(holds) {
            found = Rect {
                x,
                y,
                width,
                height,
            };
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn face() -> Face {
        Face {
            face_box: [0.3, 0.35, 0.6, 0.75].into(),
            landmarks: [
                [0.4, 0.5],
                [0.5, 0.5],
                [0.46, 0.55],
                [0.41, 0.65],
                [0.51, 0.65],
            ]
            .into(),
            score: 0.9,
        }
    }

    #[test]
    fn a_crop_keeps_every_face() {
        let faces = [Some(face()), None];
        for draw in 0..200 {
            let crop = about_faces(&faces, 0.4, &mut random::generator("test", &[draw]));
            assert!(crop.x <= 0.3 && crop.y <= 0.35);
            assert!(crop.x + crop.width >= 0.6 && crop.y + crop.height >= 0.75);
            assert!(crop.width * crop.height >= 0.39);
        }
    }

    #[test]
    fn crops_anywhere_have_the_distribution_of_torchvision() {
        let (crops, side) = (4000, 160);
        let (mut areas, mut wide, mut far) = (Vec::new(), 0.0, 0.0);
        for draw in 0..crops {
            let rect = anywhere([side; 2], 0.08, &mut random::generator("test", &[draw]));
            let [w, h] = [rect.width, rect.height].map(|v| v * side as f64);
            for v in [w, h, rect.x * side as f64, rect.y * side as f64] {
                assert!((v - v.round()).abs() < 1e-9, "whole pixels, not {v}");
            }
            assert!(rect.x >= 0.0 && rect.x + rect.width <= 1.0 + 1e-12);
            assert!(rect.y >= 0.0 && rect.y + rect.height <= 1.0 + 1e-12);
            assert!((0.73..1.37).contains(&(w / h)), "{rect:?}");
            areas.push(rect.width * rect.height);
            wide += f64::from(u8::from(w > h));
            far += f64::from(u8::from(rect.x > 0.5 * (1.0 - rect.width)));
        }
        let n = areas.len() as f64;
        assert!((wide / n - 0.5).abs() < 0.05 && (far / n - 0.5).abs() < 0.08);
        assert!(areas.iter().all(|a| (0.077..=1.0).contains(a)));
        // Even between 0.08 and 1, but for large ones that do not fit and are drawn again.
        let small = areas.iter().filter(|a| **a < 0.31).count() as f64 / n;
        assert!((0.25..0.33).contains(&small), "{small}");
        assert_eq!(
            anywhere([1, 40], 1.0, &mut random::generator("test", &[0])),
            WHOLE
        );
    }

    #[test]
    fn a_face_counts_as_long_as_its_landmarks_are_seen() {
        let moved = |by: [f32; 2]| {
            let mut face = Some(face().map(|[x, y]| [x + by[0], y + by[1]]));
            only_what_is_seen(&mut face);
            face
        };
        assert_eq!(moved([0.0, 0.0]), Some(face()));
        let cut = moved([-0.35, 0.0]).expect("all landmarks");
        assert_eq!(cut.face_box.corners()[0], 0.0);
        assert!((cut.face_box.corners()[2] - 0.25).abs() < 1e-6);
        assert_eq!(moved([-0.41, 0.0]), None);
        assert_eq!(moved([0.0, 0.36]), None);
    }
}
