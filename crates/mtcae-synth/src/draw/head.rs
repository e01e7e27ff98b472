//! Skin, ears, nose, folds and beard.

use super::{Scene, sign};
use crate::action_units::ActionUnit as Au;
use crate::geometry::Point;
use crate::identity::{Beard, HairStyle, mix, scaled};
use crate::paint::{Layer, On, curve, ellipse, polygon};
use crate::shape::lerp;

/// Ears and the head's skin.
pub(crate) fn skin(layer: &mut Layer, scene: &Scene<'_>) {
    let (who, pose, face) = (scene.who, scene.pose, scene.face);
    let s = pose.scale;
    let covered = matches!(who.hair, HairStyle::Long | HairStyle::Bob);
    for side in [0, 1] {
        let middle = pose.at([sign(side) * who.width * 1.02, who.eye_y + 0.14, -0.12]);
        let size = [0.085 * who.ear * s, 0.19 * who.ear * s];
        if !covered {
            layer.fill(
                ellipse(middle, size, 0.0),
                scaled(who.skin, 0.93),
                1.0,
                On::All,
            );
            let inner = [size[0] * 0.55, size[1] * 0.62];
            layer.fill(
                ellipse(middle, inner, 0.0),
                scaled(who.skin, 0.70),
                0.6,
                On::All,
            );
        }
    }
    let outline: Vec<Point> = face.outline(who).into_iter().map(|p| pose.at(p)).collect();
    layer.fill(curve(&outline, true), who.skin, 1.0, On::All);
    // Blood under the cheeks and the nose.
    let flush = mix(who.skin, [0.85, 0.32, 0.30], 0.42);
    for side in [0, 1] {
        let lifted = face.units[side].get(Au::LipCornerPuller);
        let cheek = [sign(side) * 0.44, 0.22 - 0.05 * lifted];
        let (angle, fx, fy) = pose.tangent(cheek);
        layer.soft(
            pose.on(cheek),
            [0.28 * s * fx, 0.24 * s * fy],
            angle,
            flush,
            0.35 + 0.15 * lifted,
        );
    }
    if who.hair == HairStyle::Bald {
        // A shadow of what is shaved.
        let side = |x: f32| pose.at([x * who.width * 0.93, -0.42, 0.1]);
        for x in [-1.0, 1.0] {
            layer.soft(
                side(x),
                [0.16 * s, 0.40 * s],
                0.0,
                scaled(who.hair_colour, 1.2),
                0.35,
            );
        }
    }
}

/// The nose's wings, nostrils and shadow.
pub(crate) fn nose(layer: &mut Layer, scene: &Scene<'_>) {
    let (who, pose, face) = (scene.who, scene.pose, scene.face);
    let s = pose.scale;
    let [_, tip] = face.nose_tip;
    let wrinkled = face.both(Au::NoseWrinkler);
    let flared = 1.0 + 0.14 * wrinkled;
    let shadow = scaled(who.skin, 0.52);
    let (angle, fx, _) = pose.tangent([0.0, tip]);
    layer.soft(
        pose.raised([0.0, tip + 0.055], 0.06),
        [who.nose_width * 1.25 * s, 0.065 * s],
        angle,
        shadow,
        0.55,
    );
    for side in [0, 1] {
        let way = sign(side);
        let lift = 0.018 * wrinkled + 0.012 * face.units[side].get(Au::UpperLipRaiser);
        let w = who.nose_width * flared;
        let wing: Vec<Point> = [
            [w * 0.80, tip - 0.085],
            [w * 1.02, tip - 0.02],
            [w * 0.98, tip + 0.035],
            [w * 0.74, tip + 0.048],
        ]
        .map(|[x, y]| pose.raised([way * x, y - lift], 0.04))
        .to_vec();
        layer.fold(&wing, 0.020 * s, shadow, 0.75);
        let ridge: Vec<Point> = [
            [0.085, who.eye_y - 0.06],
            [0.075, who.eye_y + 0.1],
            [0.085, tip - 0.12],
        ]
        .map(|[x, y]| pose.raised([way * x, y], 0.05))
        .to_vec();
        layer.fold(&ridge, 0.030 * s, scaled(who.skin, 0.68), 0.30);
        let hole = pose.raised([way * w * 0.46, tip + 0.040 - 0.5 * lift], 0.08);
        layer.fill(
            ellipse(
                hole,
                [0.042 * s * fx * flared, 0.019 * s * (1.0 + 0.3 * wrinkled)],
                angle + way * -0.25,
            ),
            scaled(who.skin, 0.22),
            0.8,
            On::Painted,
        );
        // Wrinkles from the root of the nose down its sides.
        for i in 0..3 {
            let y = who.eye_y + 0.035 + 0.055 * i as f32;
            let line = [[0.015, y - 0.012], [0.065, y + 0.004], [0.115, y + 0.035]]
                .map(|[x, y]| pose.raised([way * x, y], 0.06));
            layer.fold(&line, 0.013 * s, shadow, 0.70 * wrinkled);
        }
    }
    layer.soft(
        pose.raised([0.0, tip - 0.02], 0.14),
        [0.06 * s, 0.05 * s],
        0.0,
        mix(who.skin, [1.0, 1.0, 1.0], 0.35),
        0.40,
    );
}

/// Folds that come and go with action units, on top of those of age.
pub(crate) fn folds(layer: &mut Layer, scene: &Scene<'_>) {
    let (who, pose, face) = (scene.who, scene.pose, scene.face);
    let s = pose.scale;
    let shadow = scaled(who.skin, 0.50);
    for side in [0, 1] {
        let way = sign(side);
        let u = |unit| face.units[side].get(unit);
        // From the wing of the nose around the corner of the mouth.
        let corner = face.mouth.corners[side];
        let deep = (0.9 * u(Au::LipCornerPuller))
            .max(0.85 * u(Au::UpperLipRaiser))
            .max(0.6 * u(Au::NoseWrinkler))
            .max(0.35 * u(Au::LipStretcher));
        let wing = [who.nose_width * 1.08, face.nose_tip[1] - 0.03];
        let out = corner[0].abs() + 0.075;
        let fold: Vec<Point> = [
            wing,
            [lerp(wing[0], out, 0.55), lerp(wing[1], corner[1], 0.35)],
            [out, lerp(wing[1], corner[1], 0.80)],
            [out + 0.005, corner[1] + 0.03],
        ]
        .map(|[x, y]| pose.on([way * x, y]))
        .to_vec();
        layer.fold(
            &fold,
            0.022 * s,
            shadow,
            0.10 + 0.22 * who.age + 0.62 * deep,
        );
        // Corners drawn down pull a line towards the chin.
        let down = u(Au::LipCornerDepressor);
        let line = [[0.015, 0.02], [0.045, 0.07], [0.05, 0.13]]
            .map(|[x, y]| pose.on([corner[0] + way * x, corner[1] + y]));
        layer.fold(&line, 0.020 * s, shadow, 0.55 * down + 0.12 * who.age);
        // Between the brows, upright.
        let frown = u(Au::BrowLowerer).max(0.4 * u(Au::NoseWrinkler));
        let inner = face.brows[side][0];
        let x = way * 0.048;
        let line = [0.085, 0.0, -0.075].map(|d| pose.on([x - way * 0.01 * d, inner[1] + d + 0.01]));
        layer.fold(&line, 0.020 * s, shadow, 0.85 * frown + 0.08 * who.age);
    }
    // Across the forehead.
    let (inner, outer) = (
        face.both(Au::InnerBrowRaiser),
        face.both(Au::OuterBrowRaiser),
    );
    for (i, y) in [-0.50f32, -0.575, -0.645].into_iter().enumerate() {
        let reach = 0.16 + 0.24 * outer - 0.03 * i as f32;
        // Only the middle is drawn up when the outer brows stay.
        let dip = 0.03 * (inner - outer).max(0.0);
        let y = y - 0.02 * outer;
        let line = [-1.0, -0.5, 0.0, 0.5, 1.0]
            .map(|t: f32| pose.on([t * reach, y + dip * t * t - 0.012 * (1.0 - t * t)]));
        let depth = (0.55 * inner).max(0.7 * outer) * (0.55 + 0.45 * who.age) + 0.10 * who.age;
        layer.fold(&line, 0.016 * s, shadow, depth * 0.8);
    }
    // A raised chin dimples.
    let raised = face.both(Au::ChinRaiser);
    let y = 0.83 + face.jaw_drop;
    for (x, dy) in [(-0.08, 0.0), (0.07, 0.01), (-0.02, 0.05), (0.02, -0.03)] {
        layer.soft(
            pose.on([x, y + dy]),
            [0.035 * s, 0.022 * s],
            0.0,
            shadow,
            0.45 * raised,
        );
    }
}

/// The colour of hair on the face.
pub(crate) fn beard_colour(scene: &Scene<'_>) -> [f32; 3] {
    mix(scene.who.hair_colour, scene.who.skin, 0.10)
}

/// Hair on cheeks and chin, under the lips.
pub(crate) fn beard(layer: &mut Layer, scene: &Scene<'_>) {
    let (who, pose, face) = (scene.who, scene.pose, scene.face);
    let colour = beard_colour(scene);
    let opacity = match who.beard {
        Beard::Stubble => 0.22,
        Beard::Full => 0.88,
        Beard::Goatee => 0.85,
        Beard::None | Beard::Moustache => return,
    };
    let d = face.jaw_drop;
    let corner = face.mouth.corners.map(|c| [c[0].abs(), c[1]]);
    let (cx, cy) = (
        (corner[0][0] + corner[1][0]) / 2.0,
        (corner[0][1] + corner[1][1]) / 2.0,
    );
    let lip = face.mouth.bottom(0.0)[1] + 0.025;
    if who.beard == Beard::Goatee {
        let half =
            |way: f32| [[cx + 0.03, cy], [who.chin * 0.95, 0.85 + d]].map(|[x, y]| [way * x, y]);
        let right = half(1.0);
        let left = half(-1.0);
        let area = [
            right[0],
            right[1],
            [0.0, 1.02 + d],
            left[1],
            left[0],
            [0.0, lip + 0.01],
        ];
        layer.fill(curve(&pose.all(&area), true), colour, opacity, On::Painted);
        return;
    }
    // From the temples along the jaw, with an edge on the cheeks.
    let inner = |way: f32| {
        [
            pose.at([way * who.width * 1.02, -0.02, 0.0]),
            pose.on([way * who.width * 0.86, 0.22]),
            pose.on([way * (cx + 0.16), cy - 0.10]),
            pose.on([way * (cx + 0.02), cy - 0.02]),
            pose.on([way * 0.5 * cx, lip]),
        ]
    };
    let mut area: Vec<Point> = inner(-1.0).to_vec();
    area.extend(inner(1.0).into_iter().rev());
    let around = [
        [who.width * 1.1, 0.3],
        [who.jaw * 1.05, 0.62 + 0.5 * d],
        [who.chin * 1.3, 0.97 + d],
    ];
    area.extend(around.map(|[x, y]| pose.at([x, y, 0.1])));
    area.push(pose.at([0.0, 1.08 + d, 0.36]));
    area.extend(around.iter().rev().map(|[x, y]| pose.at([-x, *y, 0.1])));
    layer.fill(polygon(&area), colour, opacity, On::Painted);
}

/// Hair on the upper lip: it follows the lip.
pub(crate) fn moustache(layer: &mut Layer, scene: &Scene<'_>) {
    let (who, pose, face) = (scene.who, scene.pose, scene.face);
    let opacity = match who.beard {
        Beard::None => return,
        Beard::Stubble => 0.20,
        _ => 0.88,
    };
    let steps = [-1.0, -0.6, -0.25, 0.0, 0.25, 0.6, 1.0];
    let lower = steps.map(|t: f32| {
        let [x, y] = face.mouth.top(t);
        pose.raised([x * 1.04, y - 0.004 + 0.03 * t.abs().powi(4)], 0.02)
    });
    let under = face.nose_tip[1] + 0.062;
    let upper = steps.map(|t: f32| {
        let [x, y] = face.mouth.top(t);
        let high = under.max(y - 0.12).min(y - 0.02);
        pose.raised([x * 0.98, lerp(high, y, t.abs().powi(2))], 0.03)
    });
    let area: Vec<Point> = lower.iter().chain(upper.iter().rev()).copied().collect();
    layer.fill(polygon(&area), beard_colour(scene), opacity, On::Painted);
}
