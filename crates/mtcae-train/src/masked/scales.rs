//! Random squares of a frame, and what is nearly one, in sizes that are told beforehand.

use mtcae_core::{ParseError, Rect};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Sides of random crops as shares of the frame's shorter side, by name as
/// `1,0.875,0.75,0.66`; none by the empty name.
///
/// A crop is as wide as one of them and as high as the same or one beside it in the list. It
/// lies at one of thirteen places: a corner of the frame, the middle of a side or of the frame,
/// or halfway from there to a corner (the multi-scale crops of Wang et al., 2015, arXiv
/// 1507.02159, with the further places that VideoMAE's data have).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scales(Vec<f64>);

/// Places of a crop, in quarters of what it leaves free along x and y.
const PLACES: [[u8; 2]; 13] = [
    [0, 0],
    [4, 0],
    [0, 4],
    [4, 4],
    [2, 2],
    [0, 2],
    [4, 2],
    [2, 4],
    [2, 0],
    [1, 1],
    [3, 1],
    [1, 3],
    [3, 3],
];

impl Scales {
    /// Those of VideoMAE's pre-training, and of MAE-DFER's.
    pub(crate) fn published() -> Self {
        Self(vec![1.0, 0.875, 0.75, 0.66])
    }

    /// The smallest of them; `None` where there are none.
    pub fn smallest(&self) -> Option<f64> {
        self.0.iter().copied().reduce(f64::min)
    }

    /// A crop of a frame of a size (width, height), in fractions of it; of no scales the whole
    /// frame.
    pub(crate) fn draw(&self, [width, height]: [usize; 2], rng: &mut ChaCha8Rng) -> Rect {
        let pairs = || {
            let all = 0..self.0.len();
            let beside = |i: usize, j: &usize| i.abs_diff(*j) <= 1;
            all.clone().flat_map(move |i| {
                let all = 0..self.0.len();
                all.filter(move |j| beside(i, j)).map(move |j| (i, j))
            })
        };
        let (pair, place) = (rng.random::<u64>(), rng.random_range(0..PLACES.len()));
        let count = pairs().count().max(1) as u64;
        let Some((i, j)) = pairs().nth((pair % count) as usize) else {
            return whole();
        };
        let shorter = width.min(height) as f64;
        // In whole pixels.
        let side = |scale: f64| (shorter * scale).floor().max(1.0);
        let [w, h] = [side(self.0[i]), side(self.0[j])];
        let (width, height) = (width as f64, height as f64);
        let [x, y] = PLACES[place].map(f64::from);
        Rect {
            x: ((width - w) / 4.0).floor() * x / width,
            y: ((height - h) / 4.0).floor() * y / height,
            width: w / width,
            height: h / height,
        }
    }

    /// What of a frame is shown where nothing is drawn: the square in its middle, or of no
    /// scales the whole frame.
    pub(crate) fn middle(&self, [width, height]: [usize; 2]) -> Rect {
        if self.0.is_empty() {
            return whole();
        }
        let shorter = width.min(height) as f64;
        let [w, h] = [width, height].map(|side| shorter / side as f64);
        Rect {
            x: (1.0 - w) / 2.0,
            y: (1.0 - h) / 2.0,
            width: w,
            height: h,
        }
    }
}

fn whole() -> Rect {
    Rect {
        x: 0.0,
        y: 0.0,
        width: 1.0,
        height: 1.0,
    }
}

impl std::fmt::Display for Scales {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shares: Vec<String> = self.0.iter().map(f64::to_string).collect();
        f.write_str(&shares.join(","))
    }
}

impl std::str::FromStr for Scales {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        if s.is_empty() {
            return Ok(Self::default());
        }
        let shares = s.split(',').map(|share| share.trim().parse().ok());
        let known = "shares of the shorter side, each from 0.1 to 1, as 1,0.875,0.75,0.66";
        shares
            .collect::<Option<Vec<f64>>>()
            .filter(|shares| shares.iter().all(|share| (0.1..=1.0).contains(share)))
            .map(Self)
            .ok_or_else(|| ParseError::new("list of scales", s, known))
    }
}

mtcae_core::by_name!(Scales);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random;

    #[test]
    fn crops_have_the_published_sizes_and_places() {
        let scales = Scales::published();
        let (width, height) = (400, 300);
        let mut sizes = BTreeSet::new();
        for draw in 0..4000 {
            let crop = scales.draw([width, height], &mut random::generator("test", &[draw]));
            let pixels = |share: f64, side: usize| (share * side as f64).round() as i64;
            let (w, h) = (pixels(crop.width, width), pixels(crop.height, height));
            let (x, y) = (pixels(crop.x, width), pixels(crop.y, height));
            assert!(x >= 0 && x + w <= 400 && y >= 0 && y + h <= 300, "{crop:?}");
            sizes.insert((w, h));
        }
        // 300, 262, 225 and 198, each with itself and with its neighbours.
        assert_eq!(sizes.len(), 10);
        assert!(sizes.contains(&(300, 262)) && !sizes.contains(&(300, 225)));
        assert_eq!(
            scales.middle([width, height]),
            Rect {
                x: 0.125,
                y: 0.0,
                width: 0.75,
                height: 1.0
            }
        );
    }

    #[test]
    fn no_scales_show_the_whole_frame() {
        let (none, mut rng) = (Scales::default(), random::generator("test", &[0]));
        assert_eq!(none.draw([40, 30], &mut rng), whole());
        assert_eq!(none.middle([40, 30]), whole());
        assert_eq!(none.smallest(), None);
    }

    #[test]
    fn lists_of_scales_are_written_as_they_are_read() {
        for text in ["", "1", "1,0.875,0.75,0.66"] {
            let scales: Scales = text.parse().expect("scales");
            assert_eq!(scales.to_string(), text);
        }
        for text in [",", "1.5", "0", "a", "-1", "nan"] {
            let error = text.parse::<Scales>().expect_err("no list").to_string();
            let words = format!("`{text}` is no list of scales; known: shares of the shorter");
            assert!(error.starts_with(&words), "{error}");
        }
    }
}
