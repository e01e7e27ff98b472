//! Lips, teeth and tongue.

use super::{Scene, head};
use crate::action_units::ActionUnit as Au;
use crate::geometry::Point;
use crate::identity::{Beard, mix, scaled};
use crate::paint::{Layer, On, curve, ellipse, polygon};

const STEPS: [f32; 13] = [
    -1.0, -0.92, -0.78, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.78, 0.92, 1.0,
];

/// The mouth, open or shut.
pub(crate) fn mouth(layer: &mut Layer, scene: &Scene<'_>) {
    let (who, pose, face) = (scene.who, scene.pose, scene.face);
    let shape = &face.mouth;
    let s = pose.scale;
    let line = |f: &dyn Fn(f32) -> Point| -> Vec<Point> {
        STEPS.iter().map(|&t| pose.raised(f(t), 0.02)).collect()
    };
    let top = line(&|t| shape.top(t));
    let inner_top = line(&|t| shape.inner_top(t));
    let inner_bottom = line(&|t| shape.inner_bottom(t));
    let bottom = line(&|t| shape.bottom(t));
    let between = |a: &[Point], b: &[Point]| {
        let points: Vec<Point> = a.iter().chain(b.iter().rev()).copied().collect();
        polygon(&points)
    };

    let gap = shape.gap[0] + shape.gap[1];
    if gap > 0.004 {
        let inside = between(&inner_top, &inner_bottom);
        layer.fill(inside.clone(), [0.16, 0.05, 0.05], 1.0, On::Painted);
        layer.cut(inside);
        if gap > 0.10 {
            let tongue = pose.raised([0.0, shape.inner_bottom(0.0)[1] + 0.01], 0.0);
            let size = [who.mouth_width * 0.62 * s, 0.36 * gap * s];
            layer.fill_within(ellipse(tongue, size, 0.0), [0.62, 0.27, 0.27], 0.85);
        }
        // The upper teeth show as far as the upper lip is drawn up.
        let smile = face.both(Au::LipCornerPuller);
        let bared = 0.030
            + 0.055 * smile
            + 0.035 * face.both(Au::UpperLipRaiser)
            + 0.015 * face.both(Au::LipStretcher);
        let bared = bared.min(0.8 * gap + 0.01);
        let teeth = |from: &[Point], way: f32, reach: f32| -> Option<tiny_skia::Path> {
            let kept = &from[2..from.len() - 2];
            let other = kept.iter().rev().map(|p| [p[0], p[1] + way * reach * s]);
            let points: Vec<Point> = kept.iter().copied().chain(other).collect();
            polygon(&points)
        };
        layer.fill_within(teeth(&inner_top, 1.0, bared), [0.93, 0.91, 0.86], 1.0);
        let below = 0.030 * face.both(Au::LipStretcher) + 0.014 * face.both(Au::UpperLipRaiser);
        if below > 0.008 {
            layer.fill_within(
                teeth(&inner_bottom, -1.0, below.min(0.3 * gap)),
                [0.88, 0.86, 0.80],
                1.0,
            );
        }
        for i in -2..=2 {
            let t = i as f32 * 0.22;
            let from = pose.raised(shape.inner_top(t), 0.02);
            let to = [from[0], from[1] + bared * s * 0.85];
            layer.fill_within(
                polygon(&[from, [from[0] + 0.008 * s, from[1]], to]),
                [0.6, 0.55, 0.5],
                0.5,
            );
        }
        layer.fill_within(teeth(&inner_top, 1.0, 0.014), [0.1, 0.03, 0.03], 0.35);
    }

    let upper = between(&top, &inner_top);
    let lower = between(&inner_bottom, &bottom);
    layer.fill(upper, scaled(who.lips, 0.84), 0.95, On::Painted);
    layer.fill(lower.clone(), who.lips, 0.95, On::Painted);
    layer.cut(lower);
    let shine = pose.raised(
        [
            0.0,
            0.55 * shape.inner_bottom(0.0)[1] + 0.45 * shape.bottom(0.0)[1],
        ],
        0.02,
    );
    layer.fill_within(
        ellipse(shine, [who.mouth_width * 0.4 * s, 0.012 * s], 0.0),
        mix(who.lips, [1.0, 0.9, 0.88], 0.5),
        0.35,
    );
    // The line where the lips meet, and the pits of the corners.
    let dark = scaled(mix(who.lips, [0.2, 0.05, 0.05], 0.6), 0.6);
    let pressed = face.both(Au::LipPresser).max(face.both(Au::LipTightener));
    if gap <= 0.02 {
        let width = (0.014 + 0.010 * pressed) * s;
        layer.line(curve(&inner_top, false), width, dark, 0.95, On::Painted);
    }
    let pit = match who.beard {
        Beard::None | Beard::Stubble => scaled(who.skin, 0.42),
        _ => scaled(head::beard_colour(scene), 0.55),
    };
    for side in [0, 1] {
        let x = shape.corners[side];
        layer.soft(pose.raised(x, 0.02), [0.045 * s, 0.035 * s], 0.0, pit, 0.75);
    }
    // Shadow below the lower lip.
    let under: Vec<Point> = [-0.55, -0.2, 0.2, 0.55]
        .map(|t: f32| {
            let [x, y] = shape.bottom(t);
            pose.raised([x, y + 0.018], 0.01)
        })
        .to_vec();
    layer.fold(&under, 0.022 * s, scaled(who.skin, 0.55), 0.45);
}
