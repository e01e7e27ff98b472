//! What a camera, a file and a hand in front of it do to a clip, drawn once a clip.

use mtcae_video::FrameResizer;
use ndarray::{Array4, ArrayViewMut3};
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;

use crate::{EraseFill, TrainConfig, random};

/// How the pixels of training clips are varied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Photo {
    jitter: f64,
    gamma: f64,
    grey: f64,
    blur: f64,
    noise: f64,
    erase: f64,
}

impl Photo {
    /// Not at all.
    pub const NOTHING: Self = Self {
        jitter: 0.0,
        gamma: 0.0,
        grey: 0.0,
        blur: 0.0,
        noise: 0.0,
        erase: 0.0,
    };

    /// As the settings say.
    pub fn of(config: &TrainConfig) -> Self {
        Self {
            jitter: config.jitter,
            gamma: config.gamma,
            grey: config.grey,
            blur: config.blur,
            noise: config.noise,
            erase: match config.erase_fill {
                EraseFill::Colour => config.erase,
                EraseFill::Pixel => 0.0,
            },
        }
    }

    /// Draws how a clip is changed; always as many numbers.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Shift {
        let colours = Colours::draw(self.jitter, rng);
        let gamma = (self.gamma * rng.random_range(-1.0..1.0)).exp();
        let is_grey = rng.random_range(0.0..1.0) < self.grey;
        let blurred: f64 = rng.random_range(-1.0..1.0);
        let sigma = self.noise * rng.random_range(0.0..1.0);
        let is_covered = rng.random_range(0.0..1.0) < self.erase;
        let patch = Patch {
            size: [0; 2].map(|_| rng.random_range(0.1..0.35)),
            place: [0; 2].map(|_| rng.random_range(0.0..1.0)),
            colour: [0; 3].map(|_| rng.random_range(0..=255)),
        };
        Shift {
            colours,
            gamma,
            is_grey,
            shrink: 1.0 + (self.blur - 1.0).max(0.0) * blurred.max(0.0),
            sigma: sigma as f32,
            patch: is_covered.then_some(patch),
            seed: rng.next_u64(),
        }
    }
}

/// What is done to one clip.
pub struct Shift {
    colours: Colours,
    gamma: f64,
    is_grey: bool,
    /// How many times a frame is made smaller, and large again.
    shrink: f64,
    /// Standard deviation of the noise.
    sigma: f32,
    patch: Option<Patch>,
    seed: u64,
}

/// A rectangle of one colour; size and place (of what is left) in parts of the frame.
struct Patch {
    size: [f64; 2],
    place: [f64; 2],
    colour: [u8; 3],
}

/// Brightness, contrast and saturation of a clip: factors around 1.
struct Colours {
    brightness: f32,
    contrast: f32,
    saturation: f32,
}

/// Rec. 601 luma.
fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

impl Shift {
    /// What draws how else the clip is changed.
    pub fn generator(&self) -> ChaCha8Rng {
        random::generator("later", &[self.seed])
    }

    /// Changes the frames (T, H, W, 3) of a clip: what is before the lens, then light and
    /// lens, then the camera.
    ///
    /// # Errors
    /// A text when a frame cannot be resized.
    pub fn apply(&self, clip: &mut Array4<u8>) -> Result<(), String> {
        let mut noise = Noise(self.seed);
        let levels = (self.gamma != 1.0).then(|| {
            let level = |v: usize| (255.0 * (v as f64 / 255.0).powf(self.gamma)).round() as u8;
            std::array::from_fn::<u8, 256, _>(level)
        });
        let mut resizer = FrameResizer::default();
        for mut frame in clip.outer_iter_mut() {
            if let Some(patch) = &self.patch {
                patch.cover(&mut frame);
            }
            if self.shrink > 1.0 {
                self.blur(&mut frame, &mut resizer)?;
            }
            self.colours.apply(&mut frame);
            let Some(pixels) = frame.as_slice_mut() else {
                continue;
            };
            if let Some(levels) = &levels {
                pixels.iter_mut().for_each(|v| *v = levels[usize::from(*v)]);
            }
            if self.is_grey {
                for pixel in pixels.as_chunks_mut::<3>().0 {
                    *pixel = [(luma(pixel.map(f32::from)) + 0.5) as u8; 3];
                }
            }
            if self.sigma > 0.0 {
                // The cast saturates.
                let noisy = |v: u8, n: f32| (f32::from(v) + self.sigma * n + 0.5).floor() as u8;
                pixels.iter_mut().for_each(|v| *v = noisy(*v, noise.next()));
            }
        }
        Ok(())
    }

    fn blur(
        &self,
        frame: &mut ArrayViewMut3<'_, u8>,
        resizer: &mut FrameResizer,
    ) -> Result<(), String> {
        let (height, width, _) = frame.dim();
        let small = |v: usize| (v as f64 / self.shrink).round().max(1.0) as u32;
        let (size, less) = ((width as u32, height as u32), (small(width), small(height)));
        let mut reduced = vec![0; less.0 as usize * less.1 as usize * 3];
        if let Some(pixels) = frame.as_slice_mut() {
            resizer.resize(pixels, size, None, less, &mut reduced)?;
            resizer.resize(&reduced, less, None, size, pixels)?;
        }
        Ok(())
    }
}

impl Patch {
    fn cover(&self, frame: &mut ArrayViewMut3<'_, u8>) {
        let (height, width, _) = frame.dim();
        let span = |axis: usize, all: usize| {
            let size = (self.size[axis] * all as f64) as usize;
            let start = (self.place[axis] * (all - size) as f64) as usize;
            start..start + size
        };
        for y in span(1, height) {
            for x in span(0, width) {
                for c in 0..3 {
                    frame[[y, x, c]] = self.colour[c];
                }
            }
        }
    }
}

impl Colours {
    fn draw(strength: f64, rng: &mut ChaCha8Rng) -> Self {
        let mut factor = || (1.0 + strength * rng.random_range(-1.0..1.0)) as f32;
        Self {
            brightness: factor(),
            contrast: factor(),
            saturation: factor(),
        }
    }

    /// Luma is the grey that saturation and contrast turn around.
    fn apply(&self, frame: &mut ArrayViewMut3<'_, u8>) {
        if (self.brightness, self.contrast, self.saturation) == (1.0, 1.0, 1.0) {
            return;
        }
        let Some(pixels) = frame.as_slice_mut() else {
            return;
        };
        let (pixels, _) = pixels.as_chunks_mut::<3>();
        let sum: f64 = pixels
            .iter()
            .map(|p| f64::from(luma(p.map(f32::from))))
            .sum();
        let mean = (sum / pixels.len().max(1) as f64) as f32;
        for pixel in pixels {
            let levels = pixel.map(f32::from);
            let luma = luma(levels);
            *pixel = levels.map(|c| {
                let c = luma + self.saturation * (c - luma);
                let c = mean + self.contrast * (c - mean);
                // The cast saturates; levels are not negative but for rounding.
                (c * self.brightness + 0.5) as u8
            });
        }
    }
}

/// Nearly normal numbers of mean 0 and deviation 1, quickly: sums of four bytes of a
/// splitmix64 (Steele, Lea and Flood, 2014, OOPSLA).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let sum: u64 = (0..4).map(|k| (z >> (16 * k)) & 0xffff).sum();
        // Of four numbers that are even over 0 to 65,535: mean 131,070, deviation 37,837.2.
        (sum as f32 - 131_070.0) / 37_837.2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip() -> Array4<u8> {
        Array4::from_shape_fn((2, 40, 40, 3), |(t, y, x, c)| {
            (100 + 3 * ((x + y) % 20) + 20 * c + t) as u8
        })
    }

    fn changed(photo: &Photo, seed: u64) -> Array4<u8> {
        let mut clip = clip();
        let shift = photo.draw(&mut random::generator("test", &[seed]));
        shift.apply(&mut clip).expect("changed");
        clip
    }

    #[test]
    fn nothing_leaves_a_clip_as_it_is() {
        assert_eq!(changed(&Photo::NOTHING, 1), clip());
    }

    #[test]
    fn each_does_what_it_says_and_the_same_each_time() {
        let photo = |change: fn(&mut Photo)| {
            let mut photo = Photo::NOTHING;
            change(&mut photo);
            photo
        };
        let grey = changed(&photo(|p| p.grey = 1.0), 1);
        assert!(
            grey.rows()
                .into_iter()
                .all(|p| p[0] == p[1] && p[1] == p[2])
        );
        assert_eq!(grey[[0, 0, 0, 0]], 116); // 0.299·100 + 0.587·120 + 0.114·140

        let noise = photo(|p| p.noise = 8.0);
        let (mut sum, mut squares, mut n) = (0.0, 0.0, 0.0);
        let noisy = changed(&noise, 1);
        for (a, b) in noisy.iter().zip(clip()) {
            let d = f64::from(*a) - f64::from(b);
            (sum, squares, n) = (sum + d, squares + d * d, n + 1.0);
        }
        let (mean, deviation): (f64, f64) = (sum / n, (squares / n).sqrt());
        assert!(
            mean.abs() < 0.4 && (0.5..9.0).contains(&deviation),
            "{mean} {deviation}"
        );
        assert_eq!(noisy, changed(&noise, 1));
        assert_ne!(noisy, changed(&noise, 2));

        let covered = changed(&photo(|p| p.erase = 1.0), 1);
        let all = (40 * 40) as f64;
        let other = |t: usize| {
            let before = clip();
            let pixels = (0..40 * 40).map(|n| (n / 40, n % 40));
            pixels
                .filter(|&(y, x)| (0..3).any(|c| covered[[t, y, x, c]] != before[[t, y, x, c]]))
                .count() as f64
        };
        assert!((0.008..0.13).contains(&(other(0) / all)));
        assert_eq!(other(0), other(1), "the same place in each frame");

        // A gamma keeps order, black and white.
        let mut ramp = Array4::from_shape_fn((1, 16, 16, 3), |(_, y, x, _)| (16 * y + x) as u8);
        let shift = photo(|p| p.gamma = 0.5).draw(&mut random::generator("test", &[3]));
        shift.apply(&mut ramp).expect("changed");
        let levels: Vec<u8> = ramp.iter().step_by(3).copied().collect();
        assert!(levels.is_sorted() && (levels[0], levels[255]) == (0, 255));
        assert_ne!(levels[128], 128);
    }

    #[test]
    fn half_of_the_clips_are_blurred() {
        let photo = Photo {
            blur: 4.0,
            ..Photo::NOTHING
        };
        let blurred = (0..200).filter(|&seed| changed(&photo, seed) != clip());
        assert!((70..130).contains(&blurred.count()));
    }
}
