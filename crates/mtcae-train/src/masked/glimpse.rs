//! Part of a video as a model sees it that is pre-trained on it: some frames, some part of them.

use std::path::Path;

use mtcae_core::{Rect, Resize, Sampling};
use mtcae_video::{ClipOptions, OpenOptions, Video};
use ndarray::Axis;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::form::Form;
use crate::photo::Photo;
use crate::view::{Frames, mirror};
use crate::{Error, Scales, TrainConfig, cut};

/// Longer sides of decoded frames over the shorter ones; what is longer is squeezed.
const LONGEST: f64 = 4.0;

/// How a clip is taken of a video.
#[derive(Clone, Debug)]
pub(crate) struct Glimpse {
    pub form: Form,
    sampling: Sampling,
    scales: Scales,
    flip: bool,
    photo: Photo,
}

impl Glimpse {
    /// As the settings say, in a model's form.
    pub fn new(form: Form, config: &TrainConfig) -> Self {
        Self {
            form,
            sampling: config.sampling,
            scales: config.scales.clone(),
            flip: config.flip,
            photo: Photo::of(config),
        }
    }

    /// A clip to learn from: from a random frame on where frames lie densely, a random part of
    /// them, varied.
    ///
    /// # Errors
    /// Names the file and its fault.
    pub fn drawn(&self, path: &Path, rng: &mut ChaCha8Rng) -> Result<Frames, Error> {
        let frames = self.decode(path, Some(rng))?;
        let crop = self.scales.draw(size(&frames), rng);
        let mirrors = rng.random_bool(0.5) && self.flip;
        let shift = self.photo.draw(rng);
        let mut clip = self.cut(&frames, crop)?;
        if mirrors {
            mirror(&mut clip.pixels);
        }
        let changed = shift.apply(&mut clip.pixels);
        changed.map_err(|reason| Error::Config {
            field: "blur",
            reason,
        })?;
        Ok(clip)
    }

    /// The clip of a video that is measured by: from its middle, the middle of its frames.
    ///
    /// # Errors
    /// Names the file and its fault.
    pub fn fixed(&self, path: &Path) -> Result<Frames, Error> {
        let frames = self.decode(path, None)?;
        self.cut(&frames, self.scales.middle(size(&frames)))
    }

    fn cut(&self, frames: &Frames, crop: Rect) -> Result<Frames, Error> {
        cut::part(frames, crop, self.form.input.size)
    }

    /// Whole frames: undistorted where crops are drawn of them, and otherwise as large as the
    /// model sees them.
    fn decode(&self, path: &Path, rng: Option<&mut ChaCha8Rng>) -> Result<Frames, Error> {
        // One thread a file: the files are decoded side by side.
        let open = OpenOptions {
            threads: 1,
            ..OpenOptions::default()
        };
        let mut video = Video::open_with(path, &open)?;
        let input = &self.form.input;
        let size = match self.scales.smallest() {
            None => (input.size as u32, input.size as u32),
            Some(smallest) => {
                // The smallest crop still has the model's size.
                let shorter = (input.size as f64 / smallest).ceil();
                let (w, h) = video.info().geometry.display_size();
                let (w, h) = (f64::from(w.max(1)), f64::from(h.max(1)));
                let side = |own: f64, other: f64| {
                    (shorter * (own / other).clamp(1.0, LONGEST)).round() as u32
                };
                (side(w, h), side(h, w))
            }
        };
        let sampling = match (self.sampling, rng) {
            (
                Sampling::Dense {
                    stride,
                    offset: None,
                },
                Some(rng),
            ) => {
                let span = input.frames as u64 * u64::from(stride);
                let last = video.frame_count()?.saturating_sub(span);
                Sampling::Dense {
                    stride,
                    offset: Some(rng.random_range(0..=last)),
                }
            }
            (sampling, _) => sampling,
        };
        let clip = video.clip(&ClipOptions {
            frames: input.frames,
            size,
            sampling,
            resize: Resize::Squash,
            ..ClipOptions::default()
        })?;
        Ok(Frames {
            faces: vec![None; clip.frames.len_of(Axis(0))],
            pixels: clip.frames,
            numbers: clip.indices,
            squares: Vec::new(),
            pixel_aspect: 1.0,
            erased: None,
        })
    }
}

/// Width and height of frames.
fn size(frames: &Frames) -> [usize; 2] {
    [frames.pixels.len_of(Axis(2)), frames.pixels.len_of(Axis(1))]
}
