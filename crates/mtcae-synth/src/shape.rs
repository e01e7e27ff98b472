//! Where the parts of a face are, given who it is and what its muscles do.

use crate::action_units::{ActionUnit as Au, ActionUnits};
use crate::geometry::{Point, Projection};
use crate::identity::Identity;

/// The share `t` of the way.
pub(crate) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// An eye's opening, in the face's coordinates.
#[derive(Clone, Debug)]
pub(crate) struct Eye {
    pub inner: Point,
    pub outer: Point,
    /// Height of the upper lid's edge above the line of the corners.
    upper: f32,
    /// Depth of the lower lid's edge below it.
    lower: f32,
    /// Positive when the inner part of the upper lid is the higher one.
    skew: f32,
    /// What a blink or closed eyes leave open, 0 to 1.
    pub open: f32,
}

impl Eye {
    /// A point of the upper lid's edge, `t` from -1 (inner corner) to 1.
    pub fn upper(&self, t: f32) -> Point {
        let [x, base] = self.line(t);
        let raised = base - self.upper * (1.0 - t.abs().powf(2.2)) * (1.0 - self.skew * t);
        let shut = self.lower(t)[1] - 0.004;
        [x, lerp(shut, raised, self.open).min(shut)]
    }

    /// A point of the lower lid's edge.
    pub fn lower(&self, t: f32) -> Point {
        let [x, base] = self.line(t);
        let lower = lerp(self.lower.max(0.018), self.lower, self.open);
        [x, base + lower * (1.0 - t * t)]
    }

    fn line(&self, t: f32) -> Point {
        let s = (t + 1.0) / 2.0;
        [0, 1].map(|i| lerp(self.inner[i], self.outer[i], s))
    }

    /// The middle of the eye, where its landmark is: blinks do not move it.
    pub fn middle(&self) -> Point {
        let [x, y] = self.line(0.0);
        [x, y - 0.022]
    }
}

/// A mouth: four edges between its corners.
#[derive(Clone, Debug)]
pub(crate) struct Mouth {
    /// Corners at the viewer's left and right.
    pub corners: [Point; 2],
    /// Height of the middle of the line between closed lips.
    middle: f32,
    /// How far the lips have parted, up and down.
    pub gap: [f32; 2],
    /// Thickness of the lips.
    lips: [f32; 2],
    /// 1 for pointed corners, less for square ones.
    power: f32,
}

impl Mouth {
    fn edge(&self, t: f32, offset: f32) -> Point {
        let corner = self.corners[usize::from(t > 0.0)];
        let bend = t.abs().powf(1.7);
        let y = lerp(self.middle, corner[1], bend);
        let x = (corner[0]).abs() * t;
        [x, y + offset * (1.0 - t * t).max(0.0).powf(self.power)]
    }

    /// The upper lip's upper edge, with its bow, `t` from -1 (left) to 1.
    pub fn top(&self, t: f32) -> Point {
        let bow = 0.2 * self.lips[0] * (1.0 - (t.abs() / 0.22).min(1.0));
        let [x, y] = self.edge(t, -(self.gap[0] + self.lips[0]));
        [x, y + bow]
    }

    /// The upper lip's lower edge.
    pub fn inner_top(&self, t: f32) -> Point {
        self.edge(t, -self.gap[0])
    }

    /// The lower lip's upper edge.
    pub fn inner_bottom(&self, t: f32) -> Point {
        self.edge(t, self.gap[1])
    }

    /// The lower lip's lower edge.
    pub fn bottom(&self, t: f32) -> Point {
        self.edge(t, self.gap[1] + self.lips[1])
    }
}

/// A face at one instant, in its own coordinates. Pairs are the viewer's left,
/// then right.
#[derive(Clone, Debug)]
pub(crate) struct FaceShape {
    /// Strengths on the two sides of the face.
    pub units: [ActionUnits; 2],
    pub eyes: [Eye; 2],
    /// Middle line of each brow from the nose outwards.
    pub brows: [[Point; 5]; 2],
    pub nose_tip: Point,
    pub mouth: Mouth,
    /// How much lower the chin is than at rest.
    pub jaw_drop: f32,
}

/// The furthest that a jaw can drop.
pub(crate) const LARGEST_JAW_DROP: f32 = 0.26;

impl FaceShape {
    /// Of a face whose sides make these action units, with the blink's share.
    pub fn new(who: &Identity, units: [ActionUnits; 2], blink: f32) -> Self {
        let both = |unit: Au| (units[0].get(unit) + units[1].get(unit)) / 2.0;
        let jaw = 0.11 * both(Au::JawDrop) + 0.10 * both(Au::MouthStretch);
        let jaw_drop = (jaw - 0.015 * both(Au::ChinRaiser)).min(LARGEST_JAW_DROP);
        Self {
            units,
            eyes: [0, 1].map(|s| eye(who, s, &units[s], blink)),
            brows: [0, 1].map(|s| brow(who, s, &units[s])),
            nose_tip: [
                0.0,
                who.nose_y - 0.030 * both(Au::NoseWrinkler) - 0.010 * both(Au::UpperLipRaiser),
            ],
            mouth: mouth(who, &units, both, jaw_drop),
            jaw_drop,
        }
    }

    /// Mean strength of a unit on both sides.
    pub fn both(&self, unit: Au) -> f32 {
        (self.units[0].get(unit) + self.units[1].get(unit)) / 2.0
    }

    /// The outline of the head's skin from the crown clockwise, with depth.
    pub fn outline(&self, who: &Identity) -> Vec<[f32; 3]> {
        let (w, d) = (who.width, self.jaw_drop);
        let right = [
            [0.50 * w, -1.14, 0.0],
            [0.87 * w, -0.74, 0.0],
            [1.00 * w, -0.22, 0.0],
            [0.975 * w, 0.14, 0.0],
            [who.jaw, 0.52 + 0.45 * d, 0.05],
            [lerp(who.jaw, who.chin, 0.55), 0.79 + 0.8 * d, 0.18],
            [who.chin, 0.935 + d, 0.30],
            [0.5 * who.chin, 0.99 + d, 0.34],
        ];
        let mut points = vec![[0.0, -1.29, 0.0]];
        points.extend(right);
        points.push([0.0, 1.0 + d, 0.36]);
        points.extend(right.into_iter().rev().map(|[x, y, z]| [-x, y, z]));
        points
    }

    /// Eye centres, nose tip and corners of the mouth, in pixels.
    pub fn landmarks(&self, p: &Projection) -> [Point; 5] {
        let [left, right] = [0, 1].map(|s| p.on(self.eyes[s].middle()));
        let corners = self.mouth.corners.map(|c| p.raised(c, 0.01));
        let nose = [0.0, self.nose_tip[1] - 0.02];
        [left, right, p.raised(nose, 0.12), corners[0], corners[1]]
    }

    /// x1, y1, x2, y2 in pixels around the face: from the middle of the forehead
    /// to the chin and from temple to temple.
    pub fn bounds(&self, who: &Identity, p: &Projection) -> [f32; 4] {
        let forehead = FOREHEAD;
        let brow = [-0.6, -0.3, 0.0, 0.3, 0.6].map(|s| {
            let at = [s * who.width, forehead];
            [at[0], at[1], p.depth(at)]
        });
        let face = self.outline(who).into_iter().filter(|q| q[1] > forehead);
        let mut bounds = [f32::MAX, f32::MAX, f32::MIN, f32::MIN];
        for q in face.chain(brow) {
            let [x, y] = p.at([q[0] * BREADTH, q[1], q[2]]);
            bounds = [
                bounds[0].min(x),
                bounds[1].min(y),
                bounds[2].max(x),
                bounds[3].max(y),
            ];
        }
        bounds
    }
}

/// Height at which the box begins, and the share of the face's width that it has:
/// there MTCNN's edges are, on average.
pub(crate) const FOREHEAD: f32 = -0.86;
const BREADTH: f32 = 0.96;

fn sign(side: usize) -> f32 {
    if side == 0 { -1.0 } else { 1.0 }
}

fn eye(who: &Identity, side: usize, units: &ActionUnits, blink: f32) -> Eye {
    let s = sign(side);
    let u = |unit| units.get(unit);
    let h = who.eye_height;
    let upper = h
        * (1.0 + 0.50 * u(Au::UpperLidRaiser)
            - 0.30 * u(Au::LidTightener)
            - 0.12 * u(Au::CheekRaiser)
            - 0.10 * u(Au::NoseWrinkler));
    let lower = 0.62
        * h
        * (1.0 + 0.25 * u(Au::UpperLidRaiser)
            - 0.55 * u(Au::LidTightener)
            - 0.75 * u(Au::CheekRaiser)
            - 0.30 * u(Au::NoseWrinkler));
    let shut = (1.0 - (1.0 - blink) * (1.0 - u(Au::EyesClosed))).clamp(0.0, 1.0);
    Eye {
        inner: [s * (who.eye_x - who.eye_width), who.eye_y + 0.008],
        outer: [s * (who.eye_x + who.eye_width), who.eye_y - who.eye_tilt],
        upper,
        lower,
        skew: 0.35 * u(Au::InnerBrowRaiser) * (1.0 - 0.8 * u(Au::OuterBrowRaiser))
            - 0.40 * u(Au::BrowLowerer) * (1.0 - u(Au::InnerBrowRaiser)),
        open: 1.0 - shut,
    }
}

fn brow(who: &Identity, side: usize, units: &ActionUnits) -> [Point; 5] {
    let s = sign(side);
    let u = |unit| units.get(unit);
    let (inner, outer) = (
        0.125 - 0.045 * u(Au::BrowLowerer),
        who.eye_x + who.eye_width + 0.055,
    );
    [0.0, 0.22, 0.5, 0.76, 1.0].map(|t: f32| {
        let arch = who.brow_arch * (std::f32::consts::PI * (0.15 + 0.75 * t)).sin();
        let middle = 4.0 * t * (1.0 - t);
        let dy = -0.150 * u(Au::InnerBrowRaiser) * (1.0 - t).powf(1.3)
            - 0.100 * u(Au::OuterBrowRaiser) * (t + 0.4 * middle)
            + u(Au::BrowLowerer) * lerp(0.105, 0.005, t)
            + 0.045 * u(Au::NoseWrinkler) * (1.0 - 0.7 * t)
            + 0.015 * u(Au::CheekRaiser) * t;
        [
            s * lerp(inner, outer, t),
            who.eye_y - who.brow_lift - arch + 0.03 * t + dy,
        ]
    })
}

fn mouth(who: &Identity, units: &[ActionUnits; 2], both: impl Fn(Au) -> f32, jaw: f32) -> Mouth {
    let parted = both(Au::LipsPart);
    // A jaw that drops parts the lips as far as they are let go.
    let dropped = (1.25 * jaw * (parted * 2.0).min(1.0)).max(0.0);
    let corners = [0, 1].map(|side| {
        let u = |unit| units[side].get(unit);
        let out = 0.080 * u(Au::LipCornerPuller) + 0.085 * u(Au::LipStretcher)
            - 0.030 * u(Au::LipTightener)
            - 0.020 * u(Au::LipPresser)
            - 0.075 * u(Au::MouthStretch)
            - 0.025 * u(Au::JawDrop)
            - 0.015 * u(Au::ChinRaiser);
        let down = -0.110 * u(Au::LipCornerPuller)
            + 0.095 * u(Au::LipCornerDepressor)
            + 0.030 * u(Au::LipStretcher)
            - 0.012 * u(Au::UpperLipRaiser);
        [
            sign(side) * (who.mouth_width + out),
            who.mouth_y + down + 0.5 * dropped,
        ]
    });
    let pressed = both(Au::LipTightener).max(both(Au::LipPresser));
    let (smile, raised, stretch) = (
        both(Au::LipCornerPuller),
        both(Au::UpperLipRaiser),
        both(Au::LipStretcher),
    );
    let thin = 1.0 - 0.60 * pressed - 0.25 * stretch;
    Mouth {
        corners,
        middle: who.mouth_y - 0.035 * both(Au::ChinRaiser) - 0.028 * raised
            + 0.012 * smile
            + 0.22 * dropped,
        gap: [
            parted * (0.012 + 0.040 * smile + 0.012 * stretch) + 0.045 * raised + 0.25 * dropped,
            parted * (0.020 + 0.030 * smile + 0.045 * stretch) + 0.010 * raised + 0.78 * dropped,
        ],
        lips: [
            who.upper_lip * (thin - 0.30 * smile - 0.10 * raised),
            who.lower_lip * (thin - 0.20 * smile + 0.20 * both(Au::ChinRaiser)),
        ],
        power: (1.0
            - 0.45 * stretch
            - 0.40 * raised
            - 0.40 * both(Au::MouthStretch)
            - 0.15 * both(Au::JawDrop))
        .max(0.5),
    }
}
