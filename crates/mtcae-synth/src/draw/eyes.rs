//! Eyes, brows and glasses.

use super::{Scene, sign};
use crate::action_units::ActionUnit as Au;
use crate::geometry::Point;
use crate::identity::{mix, scaled};
use crate::paint::{Layer, On, curve, ellipse, polygon};
use crate::shape::lerp;

const STEPS: [f32; 9] = [-1.0, -0.8, -0.55, -0.28, 0.0, 0.28, 0.55, 0.8, 1.0];

/// An eye between its lids.
pub(crate) fn eye(layer: &mut Layer, scene: &Scene<'_>, side: usize) {
    let (who, pose) = (scene.who, scene.pose);
    let shape = &scene.face.eyes[side];
    let u = |unit| scene.face.units[side].get(unit);
    let s = pose.scale;
    let upper: Vec<Point> = STEPS.map(|t| pose.on(shape.upper(t))).to_vec();
    let lower: Vec<Point> = STEPS.map(|t| pose.on(shape.lower(t))).to_vec();
    let middle = shape.middle();
    let (angle, fx, fy) = pose.tangent(middle);
    let shadow = scaled(who.skin, 0.55);

    // The socket, and the lid over the eyeball.
    layer.soft(
        pose.on([middle[0] * 0.96, middle[1] - 0.05]),
        [0.25 * s * fx, 0.15 * s * fy],
        angle,
        scaled(mix(who.skin, [0.45, 0.25, 0.25], 0.25), 0.75),
        0.45,
    );
    let open: Vec<Point> = upper
        .iter()
        .copied()
        .chain(lower.iter().rev().copied())
        .collect();
    let opening = polygon(&open);
    layer.fill(opening.clone(), [0.93, 0.92, 0.90], 1.0, On::Painted);
    layer.cut(opening);
    let gaze = [
        middle[0] + 0.045 * scene.gaze[0],
        middle[1] + 0.006 + 0.020 * scene.gaze[1],
    ];
    let centre = pose.on(gaze);
    let disc = |r: f32| ellipse(centre, [r * s * fx, r * s * fy], angle);
    layer.fill_within(disc(0.070), scaled(who.iris, 0.45), 1.0);
    layer.fill_within(disc(0.060), who.iris, 1.0);
    layer.fill_within(disc(0.030), [0.02, 0.02, 0.02], 1.0);
    let spot = [centre[0] - 0.02 * s, centre[1] - 0.022 * s];
    let glint = ellipse(spot, [0.013 * s, 0.013 * s], 0.0);
    layer.fill_within(glint, [1.0, 1.0, 1.0], 0.9);
    // The upper lid throws a shadow on the ball.
    let band: Vec<Point> = upper
        .iter()
        .copied()
        .chain(upper.iter().rev().map(|p| [p[0], p[1] + 0.022 * s]))
        .collect();
    layer.fill_within(polygon(&band), [0.1, 0.06, 0.05], 0.35);

    // Lashes, the lower rim and the crease of the upper lid.
    let lash = mix(scaled(who.hair_colour, 0.5), [0.08, 0.05, 0.04], 0.7);
    let female = who.seed() & 1 == 0;
    let thick = if female { 0.030 } else { 0.022 };
    layer.line(curve(&upper, false), thick * s, lash, 0.95, On::Painted);
    layer.line(
        curve(&lower[1..], false),
        0.011 * s,
        scaled(who.skin, 0.5),
        0.6,
        On::Painted,
    );
    let crease: Vec<Point> = [-0.85, -0.5, 0.0, 0.5, 0.95]
        .map(|t: f32| {
            let at = shape.upper(t);
            let rest = shape.lower(t)[1] - 1.95 * who.eye_height * (1.0 - 0.55 * t * t);
            let lifted = lerp(rest, at[1] - 0.035, 0.45).min(at[1] - 0.012);
            pose.on([at[0], lifted])
        })
        .to_vec();
    layer.fold(&crease, 0.014 * s, shadow, 0.75);

    // Below: the bag of a raised cheek, and crow's feet.
    let raised = u(Au::CheekRaiser).max(0.5 * u(Au::LidTightener));
    let bag: Vec<Point> = [-0.8, -0.35, 0.1, 0.5, 0.85]
        .map(|t: f32| {
            let [x, y] = shape.lower(t);
            pose.on([x, y + 0.055 - 0.012 * raised + 0.02 * (1.0 - t * t)])
        })
        .to_vec();
    layer.fold(
        &bag,
        0.018 * s,
        shadow,
        0.12 + 0.2 * who.age + 0.55 * raised,
    );
    let feet = u(Au::CheekRaiser) * (0.5 + 0.5 * who.age);
    for tilt in [-0.05, 0.0, 0.05] {
        let [x, y] = shape.outer;
        let way = sign(side);
        let line = [0.03, 0.07, 0.11].map(|d| pose.on([x + way * d, y + 0.01 + tilt * d * 12.0]));
        layer.fold(&line, 0.010 * s, shadow, 0.7 * feet);
    }
}

/// A brow.
pub(crate) fn brow(layer: &mut Layer, scene: &Scene<'_>, side: usize) {
    let (who, pose) = (scene.who, scene.pose);
    let line = scene.face.brows[side];
    let half = who.brow_thickness * 0.62;
    let taper = [0.85, 1.1, 1.0, 0.75, 0.25];
    let edge = |way: f32| {
        line.iter()
            .zip(taper)
            .map(move |(p, t)| pose.raised([p[0], p[1] + way * half * t], 0.02))
    };
    let area: Vec<Point> = edge(-1.0).chain(edge(1.0).rev()).collect();
    // Brows are seldom as fair as the hair, and seen on any skin.
    let hair = match who.hair_colour {
        [r, _, _] if r > 0.45 => mix(scaled(who.hair_colour, 0.62), scaled(who.skin, 0.40), 0.55),
        other => scaled(other, 0.85),
    };
    let colour = mix(hair, who.skin, 0.10);
    let middle: Vec<Point> = line.iter().map(|&p| pose.raised(p, 0.02)).collect();
    layer.line(
        curve(&middle, false),
        who.brow_thickness * 1.7 * pose.scale,
        colour,
        0.25,
        On::Painted,
    );
    layer.fill(polygon(&area), colour, 0.92, On::Painted);
}

/// Glasses, where they are worn: in front of everything.
pub(crate) fn glasses(layer: &mut Layer, scene: &Scene<'_>) {
    let (who, pose) = (scene.who, scene.pose);
    let Some(glasses) = who.glasses else {
        return;
    };
    let width = glasses.thickness * pose.scale;
    let colour = glasses.colour;
    let lift = 0.10;
    for side in [0, 1] {
        let s = sign(side);
        let middle = [s * (who.eye_x + 0.015), who.eye_y + 0.035];
        let rim: Vec<Point> = (0..16)
            .map(|i| {
                let (b, a) = (i as f32 / 16.0 * std::f32::consts::TAU).sin_cos();
                let square = |v: f32| {
                    if glasses.round {
                        v
                    } else {
                        v.signum() * v.abs().powf(0.55)
                    }
                };
                let x = middle[0] + 0.245 * square(a);
                let y = middle[1] + 0.185 * square(b);
                pose.raised([x, y], lift)
            })
            .collect();
        let path = curve(&rim, true);
        layer.fill(path.clone(), [0.8, 0.9, 1.0], 0.07, On::All);
        layer.line(path, width, colour, 0.95, On::All);
        let hinge = pose.raised([s * (who.eye_x + 0.26), middle[1] - 0.05], lift);
        let ear = pose.at([s * who.width * 1.02, who.eye_y + 0.02, -0.05]);
        layer.line(polygon(&[hinge, ear]), width, colour, 0.95, On::All);
    }
    let x = who.eye_x - 0.23;
    let bridge = [-x, 0.0, x]
        .map(|x| pose.raised([x, who.eye_y + if x == 0.0 { -0.02 } else { 0.01 }], lift));
    layer.line(curve(&bridge, false), width, colour, 0.95, On::All);
}
