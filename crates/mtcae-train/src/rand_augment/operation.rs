//! The operations, and what a magnitude means to each.

use super::affine::Map;
use super::levels;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Color,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
}

/// An operation with its argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Act {
    pub operation: Operation,
    pub argument: f64,
}

impl Operation {
    /// Those that are drawn from.
    pub const ALL: [Self; 15] = [
        Self::AutoContrast,
        Self::Equalize,
        Self::Invert,
        Self::Rotate,
        Self::Posterize,
        Self::Solarize,
        Self::SolarizeAdd,
        Self::Color,
        Self::Contrast,
        Self::Brightness,
        Self::Sharpness,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
    ];

    /// At a magnitude from 0 to 10, in one of two directions where it has them.
    pub fn at(self, magnitude: f64, negative: bool) -> Act {
        let share = magnitude / 10.0;
        let signed = |value: f64| if negative { -value } else { value };
        let argument = match self {
            Self::AutoContrast | Self::Equalize | Self::Invert => 0.0,
            // Degrees.
            Self::Rotate => signed(share * 30.0),
            // Bits that are kept.
            Self::Posterize => 4.0 - (share * 4.0).trunc(),
            // The level from which on all are turned around.
            Self::Solarize => 256.0 - (share * 256.0).trunc().min(256.0),
            // What is added to the dark half.
            Self::SolarizeAdd => (share * 110.0).trunc().min(128.0),
            // How much of the picture is left (1: all), beside what lacks colour and so on.
            Self::Color | Self::Contrast | Self::Brightness | Self::Sharpness => {
                (1.0 + signed(share * 0.9)).max(0.1)
            }
            // Pixels a pixel.
            Self::ShearX | Self::ShearY => signed(share * 0.3),
            // In sides of the frame.
            Self::TranslateX | Self::TranslateY => signed(share * 0.45),
        };
        Act {
            operation: self,
            argument,
        }
    }
}

impl Act {
    /// Changes a frame of packed RGB, `size` (width, height).
    pub fn apply(&self, frame: &mut [u8], size: [usize; 2]) {
        let factor = self.argument as f32;
        match self.operation {
            Operation::AutoContrast => levels::auto_contrast(frame),
            Operation::Equalize => levels::equalize(frame),
            Operation::Invert => levels::mapped(frame, |v| 255 - v),
            Operation::Posterize => {
                let mask = !((1u32 << (8 - self.argument as u32)) - 1) as u8;
                levels::mapped(frame, |v| v & mask);
            }
            Operation::Solarize => {
                let from = self.argument;
                levels::mapped(frame, |v| if f64::from(v) < from { v } else { 255 - v });
            }
            Operation::SolarizeAdd => {
                let more = self.argument as u8;
                levels::mapped(frame, |v| if v < 128 { v.saturating_add(more) } else { v });
            }
            Operation::Color => levels::color(frame, factor),
            Operation::Contrast => levels::contrast(frame, factor),
            Operation::Brightness => levels::brightness(frame, factor),
            Operation::Sharpness => levels::sharpness(frame, size, factor),
            Operation::Rotate
            | Operation::ShearX
            | Operation::ShearY
            | Operation::TranslateX
            | Operation::TranslateY => {
                if let Some(map) = self.map(size) {
                    map.apply(frame, size);
                }
            }
        }
    }

    /// Where each pixel of the result lies in the frame; `None` where it stays.
    pub fn map(&self, size: [usize; 2]) -> Option<Map> {
        let by = self.argument;
        let [width, height] = size.map(|v| v as f64);
        match self.operation {
            Operation::Rotate => Map::turned(by, size),
            Operation::ShearX => Some(Map([1.0, by, 0.0, 0.0, 1.0, 0.0])),
            Operation::ShearY => Some(Map([1.0, 0.0, 0.0, by, 1.0, 0.0])),
            Operation::TranslateX => Some(Map([1.0, 0.0, by * width, 0.0, 1.0, 0.0])),
            Operation::TranslateY => Some(Map([1.0, 0.0, 0.0, 0.0, 1.0, by * height])),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const NAMES: [&str; 15] = [
        "AutoContrast",
        "Equalize",
        "Invert",
        "Rotate",
        "PosterizeIncreasing",
        "SolarizeIncreasing",
        "SolarizeAdd",
        "ColorIncreasing",
        "ContrastIncreasing",
        "BrightnessIncreasing",
        "SharpnessIncreasing",
        "ShearX",
        "ShearY",
        "TranslateXRel",
        "TranslateYRel",
    ];

    /// A picture that both sides can make: splitmix64 from a seed, a byte a step, over a slope.
    fn drawn(seed: u64, [width, height]: [usize; 2]) -> Vec<u8> {
        let mut state = seed;
        let pixels = (0..width * height * 3).map(|n| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            ((z % 96) as usize + (n / 3) % width + n % 3 * 20).min(255) as u8
        });
        pixels.collect()
    }

    fn reference() -> Value {
        let path = mtcae_testing::fixtures().join("rand_augment/rand_augment.json");
        serde_json::from_slice(&std::fs::read(path).expect("read")).expect("json")
    }

    #[test]
    fn magnitudes_mean_what_they_mean_to_timm() {
        let levels = &reference()["levels"];
        for (operation, name) in Operation::ALL.into_iter().zip(NAMES) {
            let of = levels[name].as_array().expect(name);
            assert_eq!(of.len(), 41, "{name}");
            for (quarters, pair) in of.iter().enumerate() {
                for (negative, want) in [false, true].into_iter().zip([&pair[0], &pair[1]]) {
                    let act = operation.at(quarters as f64 / 4.0, negative);
                    let want = want.as_f64().expect("a number");
                    let got = act.argument;
                    assert!(got == want, "{name} at {quarters}/4: {got} for {want}");
                }
            }
        }
    }

    #[test]
    fn every_operation_equals_pillow_to_the_bit() {
        let file = reference();
        let whole = |value: &Value| value.as_u64().expect("a number");
        let of_picture = |value: &Value| {
            let size = [0, 1].map(|k| whole(&value["size"][k]) as usize);
            let levels = match value["levels"].as_array() {
                Some(levels) => levels.iter().map(|level| whole(level) as u8).collect(),
                None => drawn(whole(&value["seed"]), size),
            };
            (value["name"].to_string(), size, levels)
        };
        let listed = file["pictures"].as_array().expect("pictures");
        let pictures: Vec<(String, [usize; 2], Vec<u8>)> = listed.iter().map(of_picture).collect();
        let mut seen = [0; 15];
        for case in file["cases"].as_array().expect("cases") {
            let name = case["operation"].as_str().expect("a name");
            let place = NAMES.iter().position(|n| *n == name).expect(name);
            let magnitude = case["magnitude"].as_f64().expect("a magnitude");
            let act = Operation::ALL[place].at(magnitude, case["negative"] == true);
            let crcs = case["crcs"].as_array().expect("sums");
            assert_eq!(crcs.len(), pictures.len());
            for ((of, size, levels), want) in pictures.iter().zip(crcs) {
                let mut got = levels.clone();
                act.apply(&mut got, *size);
                let sum = format!("{:08x}", crc32fast::hash(&got));
                assert_eq!(sum, *want, "{name} at {magnitude} ({act:?}) of {of}");
            }
            seen[place] += 1;
        }
        assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
    }
}
