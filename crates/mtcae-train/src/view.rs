//! A labelled clip as the model sees it: decoded, perhaps augmented, with boxes and landmarks that stay true to the pixels.

use mtcae_core::{Crop, Face, Landmarks, Rect, Resize, Sampling, Square};
use mtcae_model::{Config as ModelConfig, Preprocessing};
use mtcae_video::{ClipOptions, Geometry, Normalization, OpenOptions, Video};
use ndarray::{Array4, Axis};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::cropped::{self, Gaze, Looser};
use crate::cut;
use crate::data::Item;
use crate::erase::Erased;
use crate::form::Form;
use crate::photo::Photo;
use crate::{EraseFill, Error, RandAugment, TrainConfig};

/// What a view is made with.
#[derive(Clone, Debug)]
pub struct Viewer {
    clip: ClipOptions,
    crop: Crop,
    form: Form,
    /// Size at which frames are decoded where they will be cropped.
    decoded_side: usize,
    augment: Augment,
}

/// How training clips are varied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    flip: bool,
    rand_augment: RandAugment,
    /// The least area of crops that hold the face, and of those that need not.
    crop: f64,
    free_crop: f64,
    looser: Looser,
    photo: Photo,
    /// How often noise covers a rectangle.
    erase: f64,
    trim: f64,
}

impl Augment {
    /// Not at all.
    pub const NOTHING: Self = Self {
        flip: false,
        rand_augment: RandAugment::NOTHING,
        crop: 1.0,
        free_crop: 1.0,
        looser: Looser::NOTHING,
        photo: Photo::NOTHING,
        erase: 0.0,
        trim: 0.0,
    };

    /// As the settings say.
    pub fn of(config: &TrainConfig) -> Self {
        let (crop, free_crop) = match config.free_crop {
            false => (config.crop, 1.0),
            true => (1.0, config.crop),
        };
        Self {
            flip: config.flip,
            rand_augment: config.rand_augment,
            crop,
            free_crop,
            looser: Looser::of(config),
            photo: Photo::of(config),
            erase: match config.erase_fill {
                EraseFill::Colour => 0.0,
                EraseFill::Pixel => config.erase,
            },
            trim: config.trim,
        }
    }
}

/// A clip: T frames and the face on each as fractions of them.
#[derive(Clone, Debug)]
pub struct Frames {
    /// (T, H, W, 3), RGB.
    pub pixels: Array4<u8>,
    /// `None` where a frame has no label.
    pub faces: Vec<Option<Face>>,
    /// The frames' numbers in the stream.
    pub numbers: Vec<u64>,
    /// Of whole frames that crops are yet to be taken from: the square that a model is to
    /// see of each, in pixels as wide as these are high. Otherwise empty.
    pub squares: Vec<Square>,
    /// Width over height of one of the pixels.
    pub pixel_aspect: f64,
    /// What is noise once the frames are normalised.
    pub erased: Option<Erased>,
}

/// Whether a model takes one view of each clip, as training does.
///
/// # Errors
/// Names the field of the model's config that says otherwise, and what would be right.
pub(crate) fn one_view(model: &ModelConfig) -> Result<(), Error> {
    let Preprocessing {
        sampling, resize, ..
    } = &model.preprocessing;
    let (field, several, one) = match (sampling, resize) {
        (Sampling::MultiClip { clips, stride }, _) if *clips > 1 => (
            "preprocessing.sampling",
            sampling.to_string(),
            format!("multi-clip:1x{stride}"),
        ),
        (_, Resize::ThreeCrop) => (
            "preprocessing.resize",
            resize.to_string(),
            Resize::ShortestEdgeCrop.to_string(),
        ),
        _ => return Ok(()),
    };
    Err(fault(
        field,
        format!(
            "{several} gives several views of a clip, and training takes one: put {one} into \
             the checkpoint's config.json to train, and {several} into that of the trained \
             one to test"
        ),
    ))
}

fn fault(field: &'static str, reason: String) -> Error {
    mtcae_model::Error::Config { field, reason }.into()
}

impl Viewer {
    /// Views to train a model on, varied as the settings say.
    ///
    /// # Errors
    /// As [`Start::check`](crate::Start::check).
    pub fn to_train(model: &ModelConfig, config: &TrainConfig) -> Result<Self, Error> {
        one_view(model)?;
        Ok(Self::new(model, Augment::of(config)))
    }

    /// Views to test a model on.
    pub fn to_test(model: &ModelConfig) -> Self {
        Self::new(model, Augment::NOTHING)
    }

    fn new(model: &ModelConfig, mut augment: Augment) -> Self {
        let (input, preprocessing) = (model.encoder.input(), &model.preprocessing);
        // Each is of one of the two.
        match preprocessing.crop.is_none() {
            true => augment.looser = Looser::NOTHING,
            false => augment.crop = 1.0,
        }
        Self {
            clip: ClipOptions {
                frames: input.frames,
                sampling: preprocessing.sampling,
                resize: preprocessing.resize,
                ..ClipOptions::default()
            },
            crop: preprocessing.crop,
            form: Form {
                normalization: Normalization {
                    mean: preprocessing.mean,
                    std: preprocessing.std,
                },
                input,
            },
            // A crop of the smallest area still has the model's size.
            decoded_side: (input.size as f64 / augment.crop.sqrt()).ceil() as usize,
            augment,
        }
    }

    /// Whether training frames are the same each time a clip is decoded.
    pub fn decodes_the_same(&self) -> bool {
        self.augment.trim == 0.0
    }

    /// Frames T of a view.
    pub fn frames(&self) -> usize {
        self.form.input.frames
    }

    /// The most views of a clip.
    pub fn most_views(&self) -> usize {
        match self.crop.is_none() {
            true => self.clip.most_views(),
            // A crop to a face is one view of a frame.
            false => self.clip.sampling.clips(),
        }
    }

    /// What the encoder takes, and how.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// For cutmix: which patches of a frame, row by row, belong to the other clip
    /// when this one keeps about `keep` of the area.
    pub fn patches_of_a_cut(&self, keep: f64, rng: &mut ChaCha8Rng) -> Vec<bool> {
        let grid = self.form.input.size / self.form.input.tube().1;
        let half = ((1.0 - keep).sqrt() * grid as f64 / 2.0).round() as usize;
        let (cy, cx) = (rng.random_range(0..grid), rng.random_range(0..grid));
        let inside = |at: usize, centre: usize| at + half >= centre && at < centre + half;
        (0..grid * grid)
            .map(|n| inside(n / grid, cy) && inside(n % grid, cx))
            .collect()
    }

    /// Decodes a clip for training: at the size that crops are taken from, and
    /// trimmed at random where `rng` is given.
    ///
    /// # Errors
    /// Names the file and its fault.
    pub fn decode_for_training(
        &self,
        item: &Item,
        rng: Option<&mut ChaCha8Rng>,
    ) -> Result<Frames, Error> {
        let loose = self.augment.looser != Looser::NOTHING;
        one(self.decode(item, (self.decoded_side, loose), rng)?)
    }

    /// The clip as it is, to train or validate on.
    ///
    /// # Errors
    /// Names the file and its fault.
    pub fn plain(&self, item: &Item) -> Result<Frames, Error> {
        one(self.views(item)?)
    }

    /// All views of the clip as it is: what is tested and predicted. A face that one of
    /// three crops does not hold counts as none in it.
    ///
    /// # Errors
    /// Names the file and its fault.
    pub fn views(&self, item: &Item) -> Result<Vec<Frames>, Error> {
        self.decode(item, (self.form.input.size, false), None)
    }

    /// Views of frames of a side; `loose` ones of a model that sees crops are whole frames.
    fn decode(
        &self,
        item: &Item,
        (side, loose): (usize, bool),
        rng: Option<&mut ChaCha8Rng>,
    ) -> Result<Vec<Frames>, Error> {
        // One thread a file: the files are decoded side by side.
        let open = OpenOptions {
            threads: 1,
            ..OpenOptions::default()
        };
        let mut video = Video::open_with(&item.path, &open)?;
        let mut options = ClipOptions {
            size: (side as u32, side as u32),
            ..self.clip.clone()
        };
        if let (Some(rng), true, Some(length)) =
            (rng, self.augment.trim > 0.0, video.info().duration)
        {
            options.start = Some(length * rng.random_range(0.0..self.augment.trim));
            options.end = Some(length * (1.0 - rng.random_range(0.0..self.augment.trim)));
        }
        if !self.crop.is_none() {
            let gaze = Gaze::at(item, self.crop, &mut options);
            return match loose {
                true => {
                    let smallest = self.augment.looser.scale.min;
                    cropped::whole(item, gaze, video, &options, side, smallest)
                }
                false => cropped::views(item, gaze, video, &options, side),
            };
        }
        let views = video.clips(&options)?.into_iter().map(|clip| {
            let (width, height) = (f64::from(clip.source.width), f64::from(clip.source.height));
            let to_frame = |[x, y]: [f32; 2]| {
                let (x, y) = clip
                    .source
                    .to_fraction(f64::from(x) * width, f64::from(y) * height);
                [x as f32, y as f32]
            };
            // Another crop shows what this one cuts off.
            let is_held = |face: &Face| match options.resize {
                Resize::ThreeCrop => holds(&clip.source, face),
                _ => true,
            };
            let face = |&index| item.face_at(index).filter(is_held);
            let faces = clip.indices.iter().map(|i| Some(face(i)?.map(to_frame)));
            Frames {
                faces: faces.collect(),
                pixels: clip.frames,
                numbers: clip.indices.clone(),
                squares: Vec::new(),
                pixel_aspect: 1.0,
                erased: None,
            }
        });
        Ok(views.collect())
    }

    /// Varies a decoded clip. Boxes and landmarks follow the pixels.
    ///
    /// # Errors
    /// When a frame cannot be resized.
    pub fn augmented(&self, frames: &Frames, rng: &mut ChaCha8Rng) -> Result<Frames, Error> {
        // All draws come in the same order whatever is switched on.
        let side = self.form.input.size;
        let augment = &self.augment;
        let mut view = match frames.squares.is_empty() {
            true => cut::part(
                frames,
                cut::about_faces(&frames.faces, augment.crop, rng),
                side,
            )?,
            false => cropped::varied(frames, &augment.looser, side, rng),
        };
        let mirrors = rng.random_bool(0.5) && augment.flip;
        let shift = augment.photo.draw(rng);
        // What came later has draws of its own, so that those of earlier runs stay.
        let mut later = shift.generator();
        let policy = &augment.rand_augment;
        let mut moved = policy.apply(&mut view.pixels, &mut view.faces, &mut later);
        if augment.free_crop < 1.0 {
            let rect = cut::anywhere([side; 2], augment.free_crop, &mut later);
            view = cut::part(&view, rect, side)?;
            moved = true;
        }
        if moved {
            view.faces.iter_mut().for_each(cut::only_what_is_seen);
        }
        if mirrors {
            mirror(&mut view.pixels);
            for face in view.faces.iter_mut().flatten() {
                *face = mirrored(*face);
            }
        }
        let changed = shift.apply(&mut view.pixels);
        changed.map_err(|reason| Error::Config {
            field: "blur",
            reason,
        })?;
        view.erased = Erased::draw(augment.erase, side, &mut later);
        Ok(view)
    }
}

/// The only view.
fn one(mut views: Vec<Frames>) -> Result<Frames, Error> {
    let none = || fault("preprocessing", "gives no view of a clip".to_owned());
    views.pop().ok_or_else(none)
}

/// Whether a part of the picture holds a face, in fractions of the picture; where the
/// picture cuts it, the part may as well.
fn holds(source: &Geometry, face: &Face) -> bool {
    let Rect {
        x,
        y,
        width,
        height,
    } = source.shown();
    let (w, h) = (f64::from(source.width), f64::from(source.height));
    let [x1, y1, x2, y2] = face
        .face_box
        .corners()
        .map(|v| f64::from(v.clamp(0.0, 1.0)));
    // Labels are rounded to `f32`.
    let near = 1e-3;
    x1 * w >= x - near
        && y1 * h >= y - near
        && x2 * w <= x + width + near
        && y2 * h <= y + height + near
}

/// Frames (T, H, W, 3) in a mirror.
pub(crate) fn mirror(pixels: &mut Array4<u8>) {
    for mut frame in pixels.outer_iter_mut() {
        frame.invert_axis(Axis(1));
        let turned = frame.to_owned();
        frame.invert_axis(Axis(1));
        frame.assign(&turned);
    }
}

/// A face in a mirror: what was on the left is on the right, by name as well.
fn mirrored(face: Face) -> Face {
    let Face {
        face_box,
        landmarks,
        ..
    } = face.map(|[x, y]| [1.0 - x, y]);
    let [x2, y1, x1, y2] = face_box.corners();
    Face {
        face_box: [x1, y1, x2, y2].into(),
        landmarks: Landmarks {
            left_eye: landmarks.right_eye,
            right_eye: landmarks.left_eye,
            nose: landmarks.nose,
            mouth_left: landmarks.mouth_right,
            mouth_right: landmarks.mouth_left,
        },
        score: face.score,
    }
}

#[cfg(test)]
mod tests {
    use mtcae_model::encoder::{Input, Layout};

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

    /// A black frame with one bright square at each landmark, in its own colour.
    fn marked(side: usize, face: &Face) -> Frames {
        let mut pixels = Array4::zeros((2, side, side, 3));
        let colours = [
            [255, 0, 0],
            [0, 255, 0],
            [0, 0, 255],
            [255, 255, 0],
            [0, 255, 255],
        ];
        for ([x, y], colour) in face.landmarks.points().into_iter().zip(colours) {
            let (cx, cy) = ((x * side as f32) as usize, (y * side as f32) as usize);
            for (dy, dx) in (0..5).flat_map(|a| (0..5).map(move |b| (a, b))) {
                for t in 0..2 {
                    for (c, &level) in colour.iter().enumerate() {
                        pixels[[t, cy + dy - 2, cx + dx - 2, c]] = level;
                    }
                }
            }
        }
        Frames {
            pixels,
            faces: vec![Some(*face); 2],
            numbers: vec![0, 1],
            squares: Vec::new(),
            pixel_aspect: 1.0,
            erased: None,
        }
    }

    fn viewer(side: usize) -> Viewer {
        Viewer {
            clip: ClipOptions::default(),
            crop: Crop::None,
            form: Form {
                normalization: Normalization {
                    mean: [0.0; 3],
                    std: [1.0; 3],
                },
                input: Input {
                    frames: 2,
                    size: side,
                    channels: 3,
                    layout: Layout::Frames,
                },
            },
            decoded_side: side,
            augment: Augment {
                flip: true,
                crop: 0.5,
                ..Augment::NOTHING
            },
        }
    }

    /// Centre of the pixels brighter than half in the channels of `colour` alone.
    fn centre(view: &Frames, side: usize, colour: [bool; 3]) -> [f32; 2] {
        let at = |c: usize, y: usize, x: usize| view.pixels[[0, y, x, c]];
        let (mut sum, mut n) = ([0.0, 0.0], 0.0);
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            if (0..3).all(|c| (at(c, y, x) > 127) == colour[c]) {
                sum = [sum[0] + x as f32 + 0.5, sum[1] + y as f32 + 0.5];
                n += 1.0;
            }
        }
        [sum[0] / n / side as f32, sum[1] / n / side as f32]
    }

    const COLOURS: [[bool; 3]; 5] = [
        [true, false, false],
        [false, true, false],
        [false, false, true],
        [true, true, false],
        [false, true, true],
    ];

    /// Whether a varied view is mirrored, once its landmarks are found so many pixels from
    /// theirs at most; `None` where it has no face.
    fn mirrored_view(viewer: &Viewer, frames: &Frames, draw: u64, most: f32) -> Option<bool> {
        let side = viewer.form.input.size;
        let mut rng = random::generator("test", &[draw]);
        let view = viewer.augmented(frames, &mut rng).expect("a view");
        let label = view.faces[0]?;
        let points = label.landmarks.points();
        assert!(points[0][0] < points[1][0], "the left eye is left");
        let corners = label.face_box.corners();
        assert!(corners.iter().all(|v| (-1e-6..=1.0 + 1e-6).contains(v)));
        let flipped = centre(&view, side, COLOURS[0])[0] > centre(&view, side, COLOURS[1])[0];
        let order = match flipped {
            true => [1, 0, 2, 4, 3],
            false => [0, 1, 2, 3, 4],
        };
        for (point, colour) in points.iter().zip(order.map(|k| COLOURS[k])) {
            // Of a square at the edge a part is cut off.
            if point.iter().any(|v| !(0.05..0.95).contains(v)) {
                continue;
            }
            let seen = centre(&view, side, colour);
            // The squares are drawn on whole pixels: half a pixel of the
            // source, and the blur of resizing.
            let off = (seen[0] - point[0]).hypot(seen[1] - point[1]) * side as f32;
            assert!(off < most, "draw {draw}: {off} pixels off");
        }
        Some(flipped)
    }

    #[test]
    fn landmarks_stay_on_their_pixels_and_names_follow_a_mirror() {
        let side = 160;
        let (viewer, frames) = (viewer(side), marked(side, &face()));
        let each = (0..20).map(|draw| mirrored_view(&viewer, &frames, draw, 1.5).expect("a face"));
        let mirrored = each.filter(|flipped| *flipped).count();
        assert!((4..=16).contains(&mirrored), "{mirrored} of 20 mirrored");
    }

    #[test]
    fn a_free_crop_shows_the_face_or_says_that_there_is_none() {
        let side = 160;
        let mut viewer = viewer(side);
        (viewer.augment.crop, viewer.augment.free_crop) = (1.0, 0.1);
        let frames = marked(side, &face());
        // Enlarged up to four times, and half a pixel of the source with it.
        let each = (0..100).map(|draw| mirrored_view(&viewer, &frames, draw, 3.5));
        let faces = each.filter(Option::is_some).count();
        assert!((20..95).contains(&faces), "{faces} of 100 with a face");
    }

    #[test]
    fn what_is_drawn_holds_for_all_frames_of_a_clip() {
        let mut viewer = viewer(160);
        viewer.augment.rand_augment = RandAugment::VIDEOMAE;
        viewer.augment.free_crop = 0.08;
        viewer.augment.erase = 0.5;
        let frames = marked(160, &face());
        let mut erased = 0;
        for draw in 0..20 {
            let mut rng = random::generator("test", &[draw]);
            let view = viewer.augmented(&frames, &mut rng).expect("a view");
            let first = view.pixels.index_axis(Axis(0), 0);
            assert_eq!(first, view.pixels.index_axis(Axis(0), 1));
            assert_eq!(view.faces[0], view.faces[1]);
            erased += u32::from(view.erased.is_some());
        }
        assert!((3..=17).contains(&erased), "{erased} of 20 erased");
    }
}
