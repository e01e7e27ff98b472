//! Neck, shoulders and clothes.

use super::{Scene, hair};
use crate::geometry::Point;
use crate::identity::{mix, scaled};
use crate::paint::{Layer, On, curve, polygon};

/// All behind and below the head, in this light. The body follows the head's
/// place, and its roll a little.
pub(crate) fn body(layer: &mut Layer, scene: &Scene<'_>, roll: f32, light: [f32; 3]) {
    let who = scene.who;
    let still = scene.pose.upright(0.25 * roll);
    let lit = |colour: [f32; 3], by: f32| [0, 1, 2].map(|i| colour[i] * light[i] * by);
    let place = |points: &[Point]| -> Vec<Point> {
        points.iter().map(|p| still.at([p[0], p[1], 0.0])).collect()
    };
    let neck = if who.seed() & 1 == 1 { 0.78 } else { 0.66 } * who.jaw;
    let cloth = lit(who.clothes, 0.95);
    let half = [
        [0.0, 1.36],
        [neck * 1.1, 1.34],
        [1.0, 1.52],
        [1.62, 1.72],
        [1.95, 2.2],
        [2.05, 3.6],
    ];
    let mut torso: Vec<Point> = half.to_vec();
    torso.extend(half.iter().rev().map(|[x, y]| [-x, *y]));
    layer.fill(curve(&place(&torso), true), cloth, 1.0, On::All);
    let seam = scaled(cloth, 0.75);
    let width = 0.02 * still.scale;
    for way in [-1.0, 1.0] {
        let arm = place(&[[way * 1.35, 1.95], [way * 1.25, 2.4], [way * 1.3, 3.0]]);
        layer.line(curve(&arm, false), width, seam, 0.8, On::All);
    }
    hair::back(layer, scene, light);

    let skin = lit(who.skin, 0.80);
    let base = 1.42;
    let throat = match who.collar {
        0 => [0.0, 1.66],
        1 => [0.0, 1.95],
        _ => [0.0, 1.50],
    };
    let points = [
        [-neck, 0.3],
        [neck, 0.3],
        [neck, 1.15],
        [neck * 1.22, base],
        throat,
        [-neck * 1.22, base],
        [-neck, 1.15],
    ];
    layer.fill(polygon(&place(&points)), skin, 1.0, On::All);
    // The chin's shadow falls on the neck, softly.
    let dark = scaled(mix(skin, [0.1, 0.05, 0.05], 0.35), 0.75);
    layer.cut(polygon(&place(&points)));
    for i in 0..3 {
        let reach = 0.05 * i as f32;
        let shadow = place(&[
            [-neck * 1.3, 0.2],
            [neck * 1.3, 0.2],
            [neck * 1.3, 0.82 + reach],
            [neck * 0.7, 1.12 + reach],
            [0.0, 1.20 + reach],
            [-neck * 0.7, 1.12 + reach],
            [-neck * 1.3, 0.82 + reach],
        ]);
        layer.fill_within(curve(&shadow, true), dark, 0.34);
    }
    // The neck is round: its sides turn away.
    for way in [-1.0, 1.0] {
        for i in 0..2 {
            let inner = neck * (0.88 - 0.18 * i as f32);
            let side = place(&[
                [way * inner, 0.3],
                [way * neck * 1.4, 0.3],
                [way * neck * 1.6, 1.6],
                [way * inner * 1.15, 1.6],
            ]);
            layer.fill_within(polygon(&side), dark, 0.20);
        }
    }
    let edge = place(&[
        [-neck * 1.25, base - 0.03],
        throat,
        [neck * 1.25, base - 0.03],
    ]);
    let collar = scaled(cloth, if who.collar == 2 { 1.3 } else { 0.8 });
    let thick = if who.collar == 2 { 0.13 } else { 0.05 };
    layer.line(
        curve(&edge, false),
        thick * still.scale,
        collar,
        1.0,
        On::All,
    );
}
