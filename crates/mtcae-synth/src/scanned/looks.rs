//! What a person looks like, apart from the shape of the head.

use glam::Vec3;

use crate::seed::Draw;

/// A colour in linear light.
pub(super) type Light = Vec3;

/// From a displayed (sRGB) value to linear light.
pub(super) fn linear(c: f32) -> f32 {
    let c = c.clamp(0.0, 1.0);
    if c <= 0.040_45 {
        c / 12.92
    } else {
        ((c + 0.055) / 1.055).powf(2.4)
    }
}

/// From linear light to a displayed (sRGB) value.
pub(super) fn displayed(c: f32) -> f32 {
    let c = c.clamp(0.0, 1.0);
    if c <= 0.003_130_8 {
        c * 12.92
    } else {
        1.055 * c.powf(1.0 / 2.4) - 0.055
    }
}

/// A displayed colour in linear light.
pub(super) fn colour(c: [f32; 3]) -> Light {
    Vec3::from_array(c.map(linear))
}

/// Skin from light to dark, displayed.
const SKIN: [[f32; 3]; 6] = [
    [0.96, 0.83, 0.76],
    [0.90, 0.73, 0.63],
    [0.80, 0.60, 0.48],
    [0.66, 0.46, 0.34],
    [0.48, 0.32, 0.23],
    [0.30, 0.20, 0.15],
];
/// Black, four browns, blond, red, grey, white.
const HAIR: [[f32; 3]; 9] = [
    [0.07, 0.055, 0.05],
    [0.12, 0.085, 0.065],
    [0.20, 0.13, 0.085],
    [0.32, 0.21, 0.12],
    [0.50, 0.36, 0.20],
    [0.66, 0.52, 0.34],
    [0.40, 0.16, 0.08],
    [0.42, 0.41, 0.41],
    [0.58, 0.57, 0.56],
];
const IRIS: [[f32; 3]; 6] = [
    [0.14, 0.075, 0.04],
    [0.30, 0.18, 0.10],
    [0.40, 0.30, 0.16],
    [0.35, 0.40, 0.25],
    [0.38, 0.50, 0.62],
    [0.45, 0.47, 0.48],
];

/// How hair is worn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Style {
    Bald,
    /// Bald on top.
    Wreath,
    Buzz,
    Crop,
    /// Up and back from the forehead.
    Quiff,
    SideParted,
    /// Back, close to the head.
    Slick,
    Curly,
    Afro,
    Bob,
    Long,
    /// Drawn back into a knot.
    Bun,
}

/// Hair on the face.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Beard {
    None,
    Stubble,
    Moustache,
    Goatee,
    Full,
}

/// What is worn on the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cover {
    None,
    Beanie,
    /// Around the face and over the shoulders.
    Scarf,
}

/// A pair of glasses; lengths in centimetres.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glasses {
    pub half: [f32; 2],
    /// Of the superellipse; 2 is an ellipse.
    pub power: f32,
    pub thickness: f32,
    pub colour: Light,
    /// Share of light that passes: below 0.5 they are sunglasses.
    pub clear: f32,
}

/// What a person looks like.
#[derive(Clone, Debug)]
pub(super) struct Looks {
    pub seed: u64,
    pub male: bool,
    /// 0 the lightest skin, 1 the darkest.
    pub tone: f32,
    pub skin: Light,
    pub hair: Light,
    pub brows: Light,
    pub lips: Light,
    pub iris: Light,
    pub sclera: Light,
    pub teeth: Light,
    /// 0 young, 1 old.
    pub age: f32,
    pub style: Style,
    pub fringe: bool,
    pub beard: Beard,
    pub cover: Cover,
    pub glasses: Option<Glasses>,
    /// Colour and strength of what is on the lids.
    pub shadow: Option<(Light, f32)>,
    pub cloth: [Light; 2],
    pub gloss: [f32; 2],
}

impl Looks {
    /// Of a seed; odd ones are men's.
    pub fn new(seed: u64) -> Self {
        let male = seed & 1 == 1;
        let mut d = Draw::new(seed, "scan.looks");
        let tone = d.unit();
        let at = (tone * 4.999) as usize;
        let skin = mix(SKIN[at], SKIN[at + 1], (tone * 4.999).fract());
        let skin = colour(skin.map(|c| c * (1.0 + 0.025 * d.bell())));
        let age = d.unit();
        let dark = tone > 0.5;
        let shade = match d.unit() {
            u if age > 0.7 && u < 0.6 => 7 + d.pick(2),
            u if dark && u < 0.9 => d.pick(2),
            u if u < 0.2 => 0,
            u if u < 0.45 => 1,
            u if u < 0.65 => 2,
            u if u < 0.8 => 3,
            u if u < 0.88 => 4,
            u if u < 0.95 => 5,
            _ => 6,
        };
        let hair = HAIR[shade].map(|c| c * (1.0 + 0.08 * d.bell()));
        let hair = colour(hair);
        let bright = hair.element_sum() / 3.0;
        let brows = hair
            * if bright < 0.1 {
                d.within(0.5, 0.9)
            } else {
                d.within(0.12, 0.4)
            };
        let style = style(&mut d, male, age, dark);
        let beard = match d.unit() {
            _ if !male => Beard::None,
            u if u < 0.45 => Beard::None,
            u if u < 0.68 => Beard::Stubble,
            u if u < 0.76 => Beard::Moustache,
            u if u < 0.84 => Beard::Goatee,
            _ => Beard::Full,
        };
        let cover = match d.unit() {
            u if u < 0.05 => Cover::Beanie,
            u if !male && u < 0.14 => Cover::Scarf,
            _ => Cover::None,
        };
        let made_up = !male && d.chance(0.5);
        let natural = skin * Vec3::new(0.92, 0.62, 0.62) * d.within(0.75, 1.05);
        let painted = [
            d.within(0.45, 0.8),
            d.within(0.1, 0.38),
            d.within(0.14, 0.4),
        ];
        let painted = colour(painted) * (1.0 - 0.3 * tone);
        let iris = IRIS[if dark {
            [0, 0, 0, 1][d.pick(4)]
        } else {
            [0, 0, 1, 1, 2, 3, 4, 4, 5][d.pick(9)]
        }];
        let iris = colour(iris.map(|c| c * (1.0 + 0.1 * d.bell())));
        let white = [0.93, 0.90, 0.87].map(|c| c * (1.0 + 0.015 * d.bell()));
        let sclera = colour(white) * d.within(0.75, 1.0) * (1.0 - 0.3 * tone);
        let teeth = colour([0.92, 0.88, 0.78].map(|c| c * d.within(0.85, 1.02)));
        let shadow = (made_up && d.chance(0.6)).then(|| {
            let paint = colour([0, 1, 2].map(|_| d.within(0.0, 0.6)));
            (paint, d.within(0.2, 0.6))
        });
        let glasses = d
            .chance(if age > 0.6 { 0.26 } else { 0.15 })
            .then(|| Glasses {
                half: [d.within(2.1, 2.9), d.within(1.5, 2.3)],
                power: d.within(2.0, 3.6),
                thickness: d.within(0.10, 0.28),
                colour: colour([0, 1, 2].map(|_| d.within(0.0, 1.0))) * d.within(0.0, 0.4),
                clear: if d.chance(0.9) {
                    1.0
                } else {
                    d.within(0.12, 0.6)
                },
            });
        Self {
            seed,
            male,
            tone,
            skin,
            hair,
            brows,
            lips: if made_up { painted } else { natural },
            iris,
            sclera,
            teeth,
            age,
            style,
            fringe: d.chance(0.35),
            beard,
            cover,
            glasses,
            shadow,
            cloth: [cloth(&mut d), cloth(&mut d)],
            gloss: [d.within(0.08, 0.45), d.within(8.0, 26.0)],
        }
    }
}

fn mix(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    [0, 1, 2].map(|i| a[i] + (b[i] - a[i]) * t)
}

fn cloth(d: &mut Draw) -> Light {
    let grey = d.unit().powf(1.3);
    let vivid = if d.chance(0.55) { d.unit() } else { 0.1 };
    colour([0, 1, 2].map(|_| grey * (1.0 - vivid) + vivid * d.unit()))
}

fn style(d: &mut Draw, male: bool, age: f32, dark: bool) -> Style {
    let weights: &[(Style, f32)] = if male {
        &[
            (Style::Bald, 0.06),
            (Style::Wreath, 0.05),
            (Style::Buzz, 0.16),
            (Style::Crop, 0.22),
            (Style::Quiff, 0.15),
            (Style::SideParted, 0.17),
            (Style::Slick, 0.07),
            (Style::Curly, 0.08),
            (Style::Afro, 0.03),
            (Style::Long, 0.03),
        ]
    } else {
        &[
            (Style::Crop, 0.05),
            (Style::SideParted, 0.06),
            (Style::Curly, 0.10),
            (Style::Afro, 0.05),
            (Style::Bob, 0.20),
            (Style::Long, 0.36),
            (Style::Bun, 0.18),
        ]
    };
    let weight = |&(style, share): &(Style, f32)| match style {
        Style::Bald | Style::Wreath => share * (0.3 + 2.0 * age),
        Style::Buzz | Style::Curly | Style::Afro if dark => 2.5 * share,
        _ => share,
    };
    let sum: f32 = weights.iter().map(weight).sum();
    let mut left = d.unit() * sum;
    for entry in weights {
        left -= weight(entry);
        if left < 0.0 {
            return entry.0;
        }
    }
    Style::Crop
}
