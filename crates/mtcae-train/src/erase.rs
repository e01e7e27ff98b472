//! Random erasing (Zhong et al., 2020, arXiv 1708.04896) as timm draws it: a rectangle of a
//! normalised clip, the same in all frames, becomes noise.

use std::ops::Range;

use candle_core::{Device, Tensor};
use mtcae_model::encoder::Input;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::random;

/// Least and greatest share of the frame.
const AREA: Range<f64> = 0.02..1.0 / 3.0;
/// The greatest height over width, and width over height.
const SHAPE: f64 = 1.0 / 0.3;
/// Rectangles that are drawn until one is smaller than the frame.
const TRIES: usize = 100;

/// Where a clip is noise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    x: Range<usize>,
    y: Range<usize>,
    /// What the noise is drawn from.
    seed: u64,
}

impl Erased {
    /// Draws whether a clip has one, which it has with a probability, and where in frames of a
    /// side.
    pub fn draw(probability: f64, side: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        if rng.random_range(0.0..1.0) >= probability {
            return None;
        }
        for _ in 0..TRIES {
            let area = rng.random_range(AREA) * (side * side) as f64;
            let shape = rng.random_range(-SHAPE.ln()..SHAPE.ln()).exp();
            let height = (area * shape).sqrt().round() as usize;
            let width = (area / shape).sqrt().round() as usize;
            if width < side && height < side {
                let top = rng.random_range(0..=side - height);
                let left = rng.random_range(0..=side - width);
                return Some(Self {
                    x: left..left + width,
                    y: top..top + height,
                    seed: rng.random(),
                });
            }
        }
        None
    }

    /// Puts the noise (mean 0, deviation 1) into a clip's numbers, laid out as an encoder takes
    /// them; `place` is told where.
    fn each(&self, input: &Input, mut place: impl FnMut(usize, f32)) {
        let (tubelet, patch) = input.tube();
        let grid = input.size / patch;
        let mut rng = random::generator("erased", &[self.seed]);
        for t in 0..input.frames {
            for c in 0..input.channels {
                for y in self.y.clone() {
                    for x in self.x.clone() {
                        let token = (t / tubelet * grid + y / patch) * grid + x / patch;
                        let plane = c * tubelet + t % tubelet;
                        let within = (plane * patch + y % patch) * patch + x % patch;
                        let width = input.channels * tubelet * patch * patch;
                        place(token * width + within, StandardNormal.sample(&mut rng));
                    }
                }
            }
        }
    }

    /// Erases it of a clip's numbers.
    pub fn fill(&self, input: &Input, numbers: &mut [f32]) {
        self.each(input, |place, noise| numbers[place] = noise);
    }
}

/// Clips (B, …) of `f32` without what is erased of each, on their device.
///
/// # Errors
/// When the device has no room.
pub fn erased(
    clips: &Tensor,
    input: &Input,
    rectangles: &[Option<Erased>],
) -> candle_core::Result<Tensor> {
    if rectangles.iter().all(Option::is_none) {
        return Ok(clips.clone());
    }
    let rows = rectangles.iter().enumerate().map(|(row, rectangle)| {
        let clip = clips.narrow(0, row, 1)?;
        let Some(rectangle) = rectangle else {
            return Ok(clip);
        };
        let (mut noise, mut mask) = (vec![0f32; clip.elem_count()], vec![0u8; clip.elem_count()]);
        rectangle.each(input, |place, value| {
            noise[place] = value;
            mask[place] = 1;
        });
        let there = |t: Tensor| t.reshape(clip.shape())?.to_device(clips.device());
        let noise = there(Tensor::new(noise, &Device::Cpu)?)?;
        there(Tensor::new(mask, &Device::Cpu)?)?.where_cond(&noise, &clip.contiguous()?)
    });
    Tensor::cat(&rows.collect::<candle_core::Result<Vec<_>>>()?, 0)
}

#[cfg(test)]
mod tests {
    use mtcae_model::encoder::Layout;
    use mtcae_video::{Normalization, TubeShape, tubes};
    use ndarray::Array4;

    use super::*;

    fn input(layout: Layout) -> Input {
        Input {
            frames: 4,
            size: 24,
            channels: 3,
            layout,
        }
    }

    #[test]
    fn rectangles_have_the_distribution_of_timm() {
        let (clips, side) = (4000, 160);
        let (mut found, mut shares, mut tall) = (0.0, Vec::new(), 0.0);
        for clip in 0..clips {
            let mut rng = random::generator("test", &[clip]);
            let Some(one) = Erased::draw(0.25, side, &mut rng) else {
                continue;
            };
            assert!(one.x.end <= side && one.y.end <= side, "{one:?}");
            let (w, h) = (one.x.len() as f64, one.y.len() as f64);
            assert!((0.29..3.4).contains(&(h / w)), "{one:?}");
            found += 1.0;
            shares.push(w * h / (side * side) as f64);
            tall += f64::from(u8::from(h > w));
        }
        assert!((found / clips as f64 - 0.25).abs() < 0.03, "{found}");
        assert!((tall / found - 0.5).abs() < 0.08, "{tall}");
        let mean = shares.iter().sum::<f64>() / found;
        assert!((mean - (0.02 + 1.0 / 3.0) / 2.0).abs() < 0.02, "{mean}");
        // Rounded to pixels.
        assert!(shares.iter().all(|s| (0.018..0.337).contains(s)));
    }

    #[test]
    fn noise_lies_in_its_rectangle_of_every_frame_whatever_the_layout() {
        let one = Erased {
            x: 3..13,
            y: 7..24,
            seed: 5,
        };
        // Tubes of a clip whose levels are 1 in the rectangle and 0 elsewhere say where it is.
        let inside = |y: &usize, x: &usize| one.y.contains(y) && one.x.contains(x);
        let marked = Array4::from_shape_fn((4, 24, 24, 3), |(_, y, x, _)| {
            255 * u8::from(inside(&y, &x))
        });
        for (layout, tubelet, patch) in [
            (
                Layout::Tubes {
                    tubelet: 2,
                    patch: 8,
                },
                2,
                8,
            ),
            (Layout::Frames, 1, 24),
        ] {
            let input = input(layout);
            let shape = TubeShape { tubelet, patch };
            let where_to = tubes(marked.view(), &Normalization::NONE, shape).expect("tubes");
            let mut numbers = vec![9.0; input.numbers()];
            one.fill(&input, &mut numbers);
            for (number, mark) in numbers.iter().zip(&where_to) {
                assert_eq!(*number != 9.0, *mark > 0.0);
            }
            let noise: Vec<f64> = numbers
                .iter()
                .filter(|v| **v != 9.0)
                .map(|v| f64::from(*v))
                .collect();
            let n = noise.len() as f64;
            assert_eq!(noise.len(), 10 * 17 * 4 * 3);
            let mean = noise.iter().sum::<f64>() / n;
            let deviation = (noise.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            assert!(
                mean.abs() < 0.1 && (deviation - 1.0).abs() < 0.1,
                "{mean} {deviation}"
            );

            // Where a whole batch is on its device already, the same comes out.
            let clip = Tensor::full(9f32, &[&[2], &input.shape()[..]].concat()[..], &Device::Cpu);
            let clips = clip.expect("clips");
            let got = erased(&clips, &input, &[None, Some(one.clone())]).expect("erased");
            let got: Vec<f32> = got.flatten_all().expect("flat").to_vec1().expect("values");
            let (first, second) = got.split_at(numbers.len());
            assert!(first.iter().all(|v| *v == 9.0));
            assert_eq!(second, numbers);
        }
    }
}
