//! Crops that follow a labelled face: cut out of a video, and varied.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mtcae_core::{Crop, Face, Rect, Resize, Square};
use mtcae_video::{ClipOptions, FrameResizer, FullFrame, Geometry, Video, square_of};
use ndarray::{Array3, Array4, Axis};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::data::Item;
use crate::view::Frames;
use crate::{Error, Range, TrainConfig};

/// Labels may be rounded: frames so many seconds before the first face and after the last
/// are theirs.
const ROUNDED: f64 = 1e-3;

/// Where a model looks in the frames of a labelled clip.
pub struct Gaze {
    crop: Crop,
    /// Number, time and face of each labelled frame, in display pixels.
    faces: Vec<(u64, f64, Face)>,
    /// The same without numbers.
    track: Vec<(f64, Face)>,
    /// Of [`Crop::Face`]: the square around all faces, in pixels of the source.
    around: Rect,
    /// Height of the picture that these are pixels of.
    height: u32,
}

/// What is seen of a frame.
enum Part {
    Upright(Rect),
    Turned(Square),
}

/// A frame as it was taken.
struct Shot {
    pixels: Array3<u8>,
    /// The picture that it was taken from, and what of it is shown where that is upright.
    source: Geometry,
    square: Option<Square>,
}

impl Gaze {
    /// At the subject of a clip. Where the labels say that they come later or leave earlier,
    /// the bounds of what is read are brought there.
    pub fn at(item: &Item, crop: Crop, options: &mut ClipOptions) -> Self {
        let start = item.there.0.map_or(f64::NEG_INFINITY, |t| t - ROUNDED);
        let end = item.there.1.map_or(f64::INFINITY, |t| t + ROUNDED);
        let low = options.start.map_or(start, |s| s.max(start));
        let high = options.end.map_or(end, |e| e.min(end));
        // What is trimmed to a part without the face is not trimmed.
        let (low, high) = match item.times.iter().any(|t| (low..high).contains(t)) {
            true => (low, high),
            false => (start, end),
        };
        options.start = low.is_finite().then_some(low.max(0.0));
        options.end = high.is_finite().then_some(high);
        let (width, height) = item.size;
        // Display pixels are as high as the source's.
        let shown = [(item.aspect * f64::from(height)) as f32, height as f32];
        let labelled = item.faces.iter().zip(&item.times);
        let inside = labelled.filter(|(_, time)| (low..high).contains(*time));
        let faces: Vec<(u64, f64, Face)> = inside
            .map(|((number, face), time)| {
                let face = face.map(|[x, y]| [x * shown[0], y * shown[1]]);
                (*number, *time, face)
            })
            .collect();
        let stored = width as f32 / shown[0];
        let boxes: Vec<_> = faces
            .iter()
            .map(|(.., face)| face.face_box.map(|[x, y]| [x * stored, y]))
            .collect();
        let margin = match crop {
            Crop::Face { margin } => margin,
            Crop::None | Crop::Aligned { .. } => Crop::MARGIN,
        };
        Self {
            crop,
            track: faces.iter().map(|(_, time, face)| (*time, *face)).collect(),
            faces,
            around: Crop::surround(&boxes, margin, (width.into(), height.into())),
            height,
        }
    }

    /// What is seen of a frame.
    fn part(&self, number: u64, time: f64, source: &Geometry) -> Part {
        // A picture whose size changes shows the same in other pixels.
        let scale = f64::from(source.height) / f64::from(self.height.max(1));
        let Crop::Aligned { scale: sides } = self.crop else {
            return Part::Upright(Rect {
                x: scale * self.around.x,
                y: scale * self.around.y,
                width: scale * self.around.width,
                height: scale * self.around.height,
            });
        };
        let labelled = self.faces.binary_search_by_key(&number, |(n, ..)| *n);
        let at = labelled.map_or(time, |place| self.faces[place].1);
        let square = Square::aligned(&self.track, at, sides).unwrap_or(Square {
            centre: [0.0; 2],
            side: 1.0,
            roll: 0.0,
        });
        Part::Turned(Square {
            centre: square.centre.map(|v| scale * v),
            side: scale * square.side,
            roll: square.roll,
        })
    }

    /// As [`Self::part`], as a square of display pixels.
    fn square(&self, number: u64, time: f64, source: &Geometry) -> Square {
        match self.part(number, time, source) {
            Part::Turned(square) => square,
            Part::Upright(rect) => Square {
                centre: [
                    (rect.x + rect.width / 2.0) * source.pixel_aspect(),
                    rect.y + rect.height / 2.0,
                ],
                side: rect.height,
                roll: 0.0,
            },
        }
    }

    /// The least side of a square, in display pixels of the labels' picture.
    fn least_side(&self) -> f64 {
        let sides = self.faces.iter().map(|(_, time, _)| match self.crop {
            Crop::Aligned { scale } => Square::aligned(&self.track, *time, scale)
                .map_or(f64::INFINITY, |square| square.side),
            Crop::Face { .. } | Crop::None => self.around.height,
        });
        sides.fold(f64::INFINITY, f64::min)
    }

    /// A frame as the model sees it.
    fn cut(&self, frame: &FullFrame, side: usize) -> Result<Shot, String> {
        match self.part(frame.index, frame.time, &frame.source) {
            Part::Turned(square) => Ok(Shot {
                pixels: square_of(
                    frame.pixels.view(),
                    frame.source.pixel_aspect(),
                    &square,
                    side,
                ),
                source: frame.source,
                square: Some(square),
            }),
            Part::Upright(rect) => {
                let mut resizer = FrameResizer::default();
                let size = (side as u32, side as u32);
                let (pixels, source) = frame.part(&Resize::Crop(rect), size, &mut resizer)?;
                Ok(Shot {
                    pixels,
                    source,
                    square: None,
                })
            }
        }
    }

    /// A whole frame, `times` smaller, and the square of it that the model sees.
    fn whole(&self, frame: FullFrame, times: f64) -> Result<Shot, String> {
        let square = self.square(frame.index, frame.time, &frame.source);
        let small = |v: u32| (f64::from(v) / times).round().max(1.0) as u32;
        let (width, height) = (small(frame.source.width), small(frame.source.height));
        if (width, height) == (frame.source.width, frame.source.height) {
            return Ok(Shot {
                pixels: frame.pixels,
                source: frame.source,
                square: Some(square),
            });
        }
        let mut resizer = FrameResizer::default();
        let part = frame.part(&Resize::Squash, (width, height), &mut resizer);
        let (pixels, source) = part?;
        let scale = f64::from(height) / f64::from(source.height);
        Ok(Shot {
            pixels,
            source,
            square: Some(Square {
                centre: square.centre.map(|v| scale * v),
                side: scale * square.side,
                roll: square.roll,
            }),
        })
    }
}

/// Each view of a video as it is, cut to the face.
///
/// # Errors
/// Names the file and its fault.
pub fn views(
    item: &Item,
    gaze: Gaze,
    video: Video,
    options: &ClipOptions,
    side: usize,
) -> Result<Vec<Frames>, Error> {
    let Reel { views, shots } = read(video, options, move |frame| gaze.cut(&frame, side))?;
    let views = views.iter().map(|numbers| {
        let mut pixels = Array4::zeros((numbers.len(), side, side, 3));
        let mut faces = Vec::with_capacity(numbers.len());
        for (number, mut to) in numbers.iter().zip(pixels.outer_iter_mut()) {
            let Some(shot) = shots.get(number) else {
                faces.push(None);
                continue;
            };
            to.assign(&shot.pixels);
            faces.push(item.face_at(*number).map(|face| match &shot.square {
                Some(square) => square.face_within(&displayed(&face, &shot.source)),
                None => face.map(|[x, y]| {
                    let (w, h) = (shot.source.width, shot.source.height);
                    let (x, y) = (f64::from(x) * f64::from(w), f64::from(y) * f64::from(h));
                    let (x, y) = shot.source.to_fraction(x, y);
                    [x as f32, y as f32]
                }),
            }));
        }
        Frames {
            pixels,
            faces,
            numbers: numbers.clone(),
            squares: Vec::new(),
            pixel_aspect: 1.0,
            erased: None,
        }
    });
    Ok(views.collect())
}

/// A clip's whole frames with the squares that the model sees, from which crops between
/// `smallest` times as large as these and the whole frame are taken of `side` pixels.
///
/// # Errors
/// Names the file and its fault.
pub fn whole(
    item: &Item,
    gaze: Gaze,
    video: Video,
    options: &ClipOptions,
    side: usize,
    smallest: f64,
) -> Result<Vec<Frames>, Error> {
    // Pixels that no crop shows are not kept.
    let times = (smallest * gaze.least_side() / side as f64)
        .min(1e4)
        .floor()
        .max(1.0);
    let Reel { views, shots } = read(video, options, move |frame| gaze.whole(frame, times))?;
    let views = views.iter().map(|numbers| {
        let first = numbers.iter().find_map(|number| shots.get(number));
        let shape = first.map_or((1, 1, 3), |shot| shot.pixels.dim());
        let mut pixels = Array4::zeros((numbers.len(), shape.0, shape.1, 3));
        let mut squares = Vec::with_capacity(numbers.len());
        let mut pixel_aspect = 1.0;
        for (number, mut to) in numbers.iter().zip(pixels.outer_iter_mut()) {
            let shot = shots.get(number).filter(|shot| shot.pixels.dim() == shape);
            let Some(shot) = shot.or(first) else {
                continue;
            };
            to.assign(&shot.pixels);
            squares.extend(shot.square);
            let stretched = f64::from(shot.source.width) / shape.1 as f64 * shape.0 as f64
                / f64::from(shot.source.height);
            pixel_aspect = shot.source.pixel_aspect() * stretched;
        }
        Frames {
            pixels,
            faces: numbers.iter().map(|number| item.face_at(*number)).collect(),
            numbers: numbers.clone(),
            squares,
            pixel_aspect,
            erased: None,
        }
    });
    Ok(views.collect())
}

/// A face in fractions of a picture in its display pixels.
fn displayed(face: &Face, source: &Geometry) -> Face {
    let width = (f64::from(source.width) * source.pixel_aspect()) as f32;
    face.map(|[x, y]| [x * width, y * source.height as f32])
}

/// Frames as they were taken.
struct Reel<T> {
    /// The numbers of each view's frames.
    views: Vec<Vec<u64>>,
    /// What was made of each, by its number.
    shots: BTreeMap<u64, T>,
}

/// What `take` makes of the frames of a video's views.
fn read<T: Send + 'static>(
    video: Video,
    options: &ClipOptions,
    take: impl Fn(FullFrame) -> Result<T, String> + Send + Sync + 'static,
) -> Result<Reel<T>, Error> {
    let taken = Arc::new(Mutex::new((BTreeMap::new(), None)));
    let into = taken.clone();
    let mut video = video.watched_by(move |frame| {
        let number = frame.index;
        let shot = take(frame);
        let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
        match shot {
            Ok(shot) => {
                into.0.insert(number, shot);
            }
            Err(fault) => into.1 = Some(fault),
        }
    });
    let options = ClipOptions {
        // Nobody looks at these pictures.
        size: (16, 16),
        resize: Resize::Squash,
        ..options.clone()
    };
    let clips = video.clips(&options)?;
    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    let (shots, fault) = std::mem::take(&mut *taken);
    if let Some(reason) = fault {
        let field = "crop";
        return Err(Error::Config { field, reason });
    }
    let views = clips.into_iter().map(|clip| clip.indices);
    Ok(Reel {
        views: views.collect(),
        shots,
    })
}

/// How crops to a face are varied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Looser {
    pub scale: Range,
    shift: f64,
    turn: f64,
    wide: f64,
    squeeze: f64,
}

/// How the crops of one clip are varied.
struct Look {
    scale: f64,
    shift: [f64; 2],
    turn: f64,
    /// How far from the crop to the whole frame, from 0 to 1.
    wide: f64,
    /// Factor of the picture's width.
    squeeze: f64,
}

impl Looser {
    /// Not at all.
    pub const NOTHING: Self = Self {
        scale: Range { min: 1.0, max: 1.0 },
        shift: 0.0,
        turn: 0.0,
        wide: 0.0,
        squeeze: 1.0,
    };

    /// As the settings say.
    pub fn of(config: &TrainConfig) -> Self {
        Self {
            scale: config.crop_scale,
            shift: config.crop_shift,
            turn: config.crop_turn,
            wide: config.wide,
            squeeze: config.squeeze,
        }
    }

    /// Draws how a clip is seen; always as many numbers.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Look {
        let mut unit = || rng.random_range(-1.0..1.0);
        let (low, high) = (self.scale.min.ln(), self.scale.max.ln());
        let scale = (low + (high - low) * (unit() + 1.0) / 2.0).exp();
        let shift = [self.shift * unit(), self.shift * unit()];
        let turn = self.turn * unit();
        let is_wide = rng.random_range(0.0..1.0) < self.wide;
        let wide = rng.random_range(0.0..1.0);
        let squeeze = self.squeeze.powf(rng.random_range(-1.0..1.0));
        Look {
            scale,
            shift,
            turn,
            wide: if is_wide { wide } else { 0.0 },
            squeeze: if is_wide { squeeze } else { 1.0 },
        }
    }
}

impl Look {
    /// The square that is seen in place of another, in a picture whose middle and longer
    /// side these are.
    fn of(&self, square: &Square, middle: [f64; 2], longest: f64) -> Square {
        let side = self.scale * square.side;
        let moved = [0, 1].map(|axis| square.centre[axis] + side * self.shift[axis]);
        // Seen wide, it is on the way to the whole frame, which does not follow the face: by
        // the logarithm of its side, place and turn as far as the side.
        let full = longest.max(side);
        let wide = side * (full / side).powf(self.wide);
        let share = match full > side {
            true => (wide - side) / (full - side),
            false => self.wide,
        };
        Square {
            centre: [0, 1].map(|axis| moved[axis] + share * (middle[axis] - moved[axis])),
            side: wide,
            roll: (1.0 - share) * (square.roll + self.turn),
        }
    }
}

/// Crops of whole frames, varied at random, at a model's size. Faces follow the pixels.
pub fn varied(frames: &Frames, looser: &Looser, side: usize, rng: &mut ChaCha8Rng) -> Frames {
    let look = looser.draw(rng);
    let (count, height, width, _) = frames.pixels.dim();
    let pixel_aspect = frames.pixel_aspect * look.squeeze;
    let shown = [width as f64 * pixel_aspect, height as f64];
    let (middle, longest) = (shown.map(|v| v / 2.0), shown[0].max(shown[1]));
    let mut pixels = Array4::zeros((count, side, side, 3));
    let mut faces = Vec::with_capacity(count);
    let each = frames.pixels.axis_iter(Axis(0)).zip(&frames.squares);
    for ((picture, square), mut to) in each.zip(pixels.outer_iter_mut()) {
        let [x, y] = square.centre;
        let square = Square {
            centre: [look.squeeze * x, y],
            ..*square
        };
        let square = look.of(&square, middle, longest);
        to.assign(&square_of(picture, pixel_aspect, &square, side));
        let face = frames.faces[faces.len()];
        faces.push(face.map(|face| {
            let face = face.map(|[x, y]| [x * shown[0] as f32, y * shown[1] as f32]);
            square.face_within(&face)
        }));
    }
    Frames {
        pixels,
        faces,
        numbers: frames.numbers.clone(),
        squares: Vec::new(),
        pixel_aspect: 1.0,
        erased: None,
    }
}
