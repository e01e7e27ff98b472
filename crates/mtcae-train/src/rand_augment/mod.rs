//! RandAugment (Cubuk et al., 2020, arXiv 1909.13719) as timm draws it and Pillow computes it,
//! in the set of operations that grow with their magnitude. What is drawn holds for all frames
//! of a clip, as VideoMAE has it.

mod affine;
mod levels;
mod operation;

use mtcae_core::{Face, ParseError};
use ndarray::Array4;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use operation::{Act, Operation};

/// The greatest magnitude.
const MOST: f64 = 10.0;
/// The most operations of a clip.
const MOST_LAYERS: usize = 16;

/// RandAugment by its name, as timm writes it; by the empty name, none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RandAugment {
    /// `m`: the mean magnitude, 0 to 10.
    magnitude: u8,
    /// `n`: operations that are drawn for a clip; 0 for none.
    layers: usize,
    /// `mstd`: standard deviation of the magnitude.
    deviation: f64,
    /// `p`: probability that an operation that is drawn takes place.
    probability: f64,
}

impl RandAugment {
    /// None.
    pub(crate) const NOTHING: Self = Self {
        magnitude: 0,
        layers: 0,
        deviation: 0.0,
        probability: 0.0,
    };

    /// `rand-m7-n4-mstd0.5-inc1`, of VideoMAE's fine-tuning.
    pub(crate) const VIDEOMAE: Self = Self {
        magnitude: 7,
        layers: 4,
        deviation: 0.5,
        probability: 0.5,
    };

    /// Whether anything is drawn.
    pub fn is_on(&self) -> bool {
        self.layers > 0
    }

    /// Changes the frames (T, H, W, 3) of a clip, and moves their faces (in fractions of the
    /// frame) with the pixels. Gives whether any face was moved.
    pub(crate) fn apply(
        &self,
        clip: &mut Array4<u8>,
        faces: &mut [Option<Face>],
        rng: &mut ChaCha8Rng,
    ) -> bool {
        let mut moved = false;
        for act in self.draw(rng) {
            for mut frame in clip.outer_iter_mut() {
                let (height, width, _) = frame.dim();
                if let Some(pixels) = frame.as_slice_mut() {
                    act.apply(pixels, [width, height]);
                }
            }
            let (_, height, width, _) = clip.dim();
            if let Some(map) = act.map([width, height]) {
                moved = true;
                for face in faces.iter_mut().flatten() {
                    *face = map.carried(face, [width, height]);
                }
            }
        }
        moved
    }

    /// What is done to one clip, in this order.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<Act> {
        let mut acts = Vec::new();
        for _ in 0..self.layers {
            let operation = Operation::ALL[rng.random_range(0..Operation::ALL.len())];
            let happens = rng.random_range(0.0..1.0) < self.probability;
            let noise: f64 = StandardNormal.sample(rng);
            let negative = rng.random_bool(0.5);
            let level = f64::from(self.magnitude) + self.deviation * noise;
            if happens {
                acts.push(operation.at(level.clamp(0.0, MOST), negative));
            }
        }
        acts
    }
}

impl std::fmt::Display for RandAugment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.is_on() {
            return Ok(());
        }
        write!(f, "rand-m{}-n{}", self.magnitude, self.layers)?;
        if self.deviation != 0.0 {
            write!(f, "-mstd{}", self.deviation)?;
        }
        if self.probability != 0.5 {
            write!(f, "-p{}", self.probability)?;
        }
        f.write_str("-inc1")
    }
}

impl std::str::FromStr for RandAugment {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        if s.is_empty() {
            return Ok(Self::default());
        }
        let fault = |part: &str, known: &str| {
            let got = match part == s {
                true => s.to_owned(),
                false => format!("{part}` of `{s}"),
            };
            ParseError::new("RandAugment", &got, known)
        };
        let mut parts = s.split('-');
        if parts.next() != Some("rand") {
            let known = "rand-mM-nN-mstdS-pP-inc1, as rand-m7-n4-mstd0.5-inc1, and none, which is \
                         empty";
            return Err(fault(s, known));
        }
        // Where nothing else is said, as in timm.
        let mut found = Self {
            magnitude: MOST as u8,
            layers: 2,
            deviation: 0.0,
            probability: 0.5,
        };
        let mut grows = false;
        for part in parts {
            let digits = part.find(|c: char| !c.is_ascii_lowercase());
            let (key, value) = part.split_at(digits.unwrap_or(part.len()));
            let number = value.parse::<f64>().ok().filter(|v| v.is_finite());
            let within = |low: f64, high: f64| number.filter(|v| (low..=high).contains(v));
            let whole = |low: f64, high: f64| within(low, high).filter(|v| v.fract() == 0.0);
            let taken = match key {
                "m" => whole(0.0, MOST).map(|v| found.magnitude = v as u8),
                "n" => whole(1.0, MOST_LAYERS as f64).map(|v| found.layers = v as usize),
                "mstd" => within(0.0, MOST).map(|v| found.deviation = v),
                "p" => within(0.0, 1.0).map(|v| found.probability = v),
                "inc" => whole(1.0, 1.0).map(|_| grows = true),
                _ => None,
            };
            let known = "m0 to m10, n1 to n16 (whole numbers), mstd0 to mstd10, p0 to p1, and inc1";
            taken.ok_or_else(|| fault(part, known))?;
        }
        match grows {
            true => Ok(found),
            false => {
                let known = "the operations that grow with their magnitude: add -inc1";
                Err(fault(s, known))
            }
        }
    }
}

mtcae_core::by_name!(RandAugment);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn names_are_written_as_they_are_read() {
        for name in [
            "",
            "rand-m7-n4-mstd0.5-inc1",
            "rand-m0-n1-inc1",
            "rand-m10-n16-mstd10-p0.25-inc1",
        ] {
            let read: RandAugment = name.parse().expect("known");
            assert_eq!(read.to_string(), name);
            assert_eq!(read.is_on(), !name.is_empty());
        }
        let read: RandAugment = "rand-inc1-mstd0.50-n4-m7".parse().expect("any order");
        assert_eq!(read, RandAugment::VIDEOMAE);
        let short: RandAugment = "rand-inc1".parse().expect("timm's defaults");
        assert_eq!(short.to_string(), "rand-m10-n2-inc1");
    }

    #[test]
    fn what_is_not_known_is_named_part_by_part() {
        for (name, begin) in [
            (
                "augmix-m3",
                "`augmix-m3` is no RandAugment; known: rand-mM-nN",
            ),
            (
                "rand-m7-n4",
                "`rand-m7-n4` is no RandAugment; known: the operations that grow",
            ),
            (
                "rand-m7-n4-inc0",
                "`inc0` of `rand-m7-n4-inc0` is no RandAugment; known: m0 to m10",
            ),
            ("rand-m7.5-inc1", "`m7.5` of `rand-m7.5-inc1`"),
            ("rand-m11-inc1", "`m11` of "),
            ("rand-n0-inc1", "`n0` of "),
            ("rand-mstdinf-inc1", "`mstdinf` of "),
            ("rand-mmax9-inc1", "`mmax9` of "),
            ("rand-tweights-inc1", "`tweights` of "),
            ("rand--inc1", "`` of `rand--inc1`"),
            ("rand-m-inc1", "`m` of `rand-m-inc1`"),
        ] {
            let error = name
                .parse::<RandAugment>()
                .expect_err("unknown")
                .to_string();
            assert!(error.starts_with(begin), "{name}: {error}");
        }
    }

    #[test]
    fn draws_have_the_distribution_of_timm() {
        let (clips, policy) = (4000, RandAugment::VIDEOMAE);
        let (mut counts, mut rotated) = ([0; Operation::ALL.len()], Vec::new());
        for clip in 0..clips {
            for act in policy.draw(&mut random::generator("test", &[clip])) {
                counts[act.operation as usize] += 1;
                if act.operation == Operation::Rotate {
                    rotated.push(act.argument / 3.0);
                }
            }
        }
        // Four draws, each of which happens half the time, of fifteen operations.
        let mean = clips as f64 * 4.0 * 0.5 / 15.0;
        for count in counts {
            // Five standard deviations.
            assert!(
                (f64::from(count) - mean).abs() < 5.0 * mean.sqrt(),
                "{counts:?}"
            );
        }
        let n = rotated.len() as f64;
        let negative = rotated.iter().filter(|v| **v < 0.0).count() as f64 / n;
        let level = rotated.iter().map(|v| v.abs()).sum::<f64>() / n;
        let spread = rotated
            .iter()
            .map(|v| (v.abs() - level).powi(2))
            .sum::<f64>()
            / n;
        assert!((negative - 0.5).abs() < 0.1, "{negative}");
        assert!((level - 7.0).abs() < 0.1, "{level}");
        assert!((spread.sqrt() - 0.5).abs() < 0.1, "{spread}");
    }
}
