//! The hair of the head.

use super::Scene;
use crate::geometry::Point;
use crate::identity::{HairStyle, scaled};
use crate::paint::{Layer, On, curve, ellipse};
use crate::seed::Draw;
use crate::shape::lerp;

/// What hangs or stands behind the head.
pub(crate) fn back(layer: &mut Layer, scene: &Scene<'_>, light: [f32; 3]) {
    let (who, pose) = (scene.who, scene.pose);
    let s = pose.scale;
    let w = who.width;
    let colour = [0, 1, 2].map(|i| who.hair_colour[i] * 0.72 * light[i]);
    match who.hair {
        HairStyle::Long | HairStyle::Bob => {
            let end = if who.hair == HairStyle::Long {
                1.75
            } else {
                0.78
            };
            let wide = if who.hair == HairStyle::Long {
                1.38
            } else {
                1.34
            };
            let half = [
                [0.55 * w, -1.36],
                [1.05 * w, -0.95],
                [1.24 * w, -0.30],
                [1.30 * w, 0.35],
                [wide * w, end * 0.8],
                [1.15 * w, end],
                [0.5 * w, end + 0.03],
            ];
            let mut points = vec![pose.at([0.0, -1.42, -0.2])];
            points.extend(half.map(|[x, y]| pose.at([x, y, -0.25])));
            points.extend(half.iter().rev().map(|[x, y]| pose.at([-x, *y, -0.25])));
            layer.fill(curve(&points, true), colour, 1.0, On::All);
        }
        HairStyle::Bun => {
            let bun = pose.at([0.0, -1.42, -0.45]);
            layer.fill(
                ellipse(bun, [0.36 * s, 0.30 * s], 0.0),
                colour,
                1.0,
                On::All,
            );
        }
        HairStyle::Curly => {
            let mut d = Draw::new(who.seed(), "curls");
            let big = if who.seed() & 1 == 0 { 1.0 } else { 0.82 };
            for i in 0..22 {
                let a = lerp(-0.60, 1.60, i as f32 / 21.0) * std::f32::consts::PI;
                let (sin, cos) = a.sin_cos();
                let r = d.within(0.20, 0.30) * big;
                let reach = [w * 1.04 + 0.18 * (big - 0.6), 1.08 + 0.18 * (big - 0.6)];
                let y = -0.38 - reach[1] * sin;
                // Not below the ears.
                if y < 0.45 * big {
                    let at = pose.at([reach[0] * cos, y.max(-1.5), -0.2]);
                    layer.fill(ellipse(at, [r * s, r * s], 0.0), colour, 1.0, On::All);
                }
            }
        }
        HairStyle::Bald | HairStyle::Buzz | HairStyle::Short | HairStyle::SideParted => {}
    }
}

/// Height of the hairline across, from the viewer's left to right.
fn hairline(scene: &Scene<'_>) -> Option<Vec<Point>> {
    let who = scene.who;
    let w = who.width;
    let h = who.hairline;
    let shape: &[Point] = match who.hair {
        HairStyle::Bald => return None,
        HairStyle::Buzz => &[[-0.93, -0.30], [-0.86, -0.58], [-0.5, 0.02], [0.0, -0.03]],
        HairStyle::Short => &[[-0.96, -0.22], [-0.88, -0.56], [-0.55, 0.06], [0.0, 0.04]],
        HairStyle::Curly => &[[-0.98, -0.15], [-0.88, -0.50], [-0.5, 0.05], [0.0, 0.02]],
        HairStyle::Bun => &[[-0.95, -0.20], [-0.86, -0.56], [-0.45, -0.04], [0.0, -0.06]],
        HairStyle::Bob => &[[-1.0, 0.62], [-0.90, -0.10], [-0.80, -0.52], [0.0, 0.09]],
        HairStyle::Long => &[[-1.02, 0.95], [-0.90, 0.05], [-0.72, -0.60], [0.0, -0.10]],
        HairStyle::SideParted => {
            return Some(vec![
                [-0.96 * w, -0.20],
                [-0.88 * w, -0.56],
                [-0.50 * w, h - 0.05],
                [-0.30 * w, h - 0.08],
                [0.10 * w, h + 0.05],
                [0.60 * w, h + 0.16],
                [0.88 * w, -0.50],
                [0.96 * w, -0.20],
            ]);
        }
    };
    // The last two points of a half are relative to the hairline when they are
    // near it: its height is the person's own.
    let place = |&[x, y]: &Point| {
        let y = if y.abs() <= 0.1 && x.abs() < 0.6 {
            h + y
        } else {
            y
        };
        [x * w, y]
    };
    let left: Vec<Point> = shape.iter().map(place).collect();
    let right = left.iter().rev().skip(1).map(|[x, y]| [-x, *y]);
    Some(left.iter().copied().chain(right).collect())
}

/// What lies on the skull in front.
pub(crate) fn front(layer: &mut Layer, scene: &Scene<'_>) {
    let (who, pose) = (scene.who, scene.pose);
    let Some(line) = hairline(scene) else {
        return;
    };
    let w = who.width;
    let (thick, opacity) = match who.hair {
        HairStyle::Buzz => (1.015, 0.82),
        HairStyle::Curly => (1.09, 1.0),
        HairStyle::Bob | HairStyle::Long => (1.08, 1.0),
        _ => (1.06, 1.0),
    };
    let first = line[0];
    let z = |y: f32| if y > 0.3 { 0.0 } else { 0.02 };
    let side = first[1];
    let dome = [
        [1.0, lerp(side, -0.30, 0.55)],
        [1.0, -0.28],
        [0.89, -0.74],
        [0.53, -1.15],
        [0.0, -1.30],
    ];
    let outer = |way: f32| {
        dome.map(|[x, y]| {
            let y = if y < -0.3 {
                y * (1.0 + (thick - 1.0) * 0.8)
            } else {
                y
            };
            pose.at([way * x * w * thick, y, z(y)])
        })
    };
    let mut area: Vec<Point> = vec![pose.at([first[0] * thick, side, 0.0])];
    area.extend(outer(-1.0));
    let mut right = outer(1.0).to_vec();
    right.pop();
    area.extend(right.into_iter().rev());
    area.push(pose.at([-first[0] * thick, side, 0.0]));
    area.extend(line.iter().rev().map(|&p| {
        let lift = if who.hair == HairStyle::Buzz {
            0.0
        } else {
            0.03
        };
        pose.raised(p, lift)
    }));
    let path = curve(&area, true);
    layer.fill(path.clone(), who.hair_colour, opacity, On::All);
    if who.hair == HairStyle::Buzz {
        return;
    }
    if who.hair == HairStyle::Curly {
        curls(layer, scene, &line);
        return;
    }
    layer.cut(path);
    strands(layer, scene, &line);
}

/// Curls along the hairline and over the dome.
fn curls(layer: &mut Layer, scene: &Scene<'_>, line: &[Point]) {
    let (who, pose) = (scene.who, scene.pose);
    let mut d = Draw::new(who.seed(), "front curls");
    let n = line.len() - 1;
    for i in 0..60 {
        let along = d.unit() * n as f32;
        let k = (along as usize).min(n - 1);
        let f = along - k as f32;
        let edge = [0, 1].map(|c| lerp(line[k][c], line[k + 1][c], f));
        // From the crown down: the ones at the hairline lie on top.
        let high = 1.0 - i as f32 / 59.0;
        let at = [
            edge[0] * (1.0 - 0.25 * high),
            lerp(edge[1] - 0.03, -1.28, high * 0.95),
        ];
        let r = d.within(0.055, 0.095) * pose.scale;
        let tone = scaled(who.hair_colour, d.within(0.75, 1.30));
        layer.fill(
            ellipse(pose.raised(at, 0.03), [r, r], 0.0),
            tone,
            0.8,
            On::All,
        );
    }
}

/// Lighter and darker streaks from the crown to the hairline, within the cut.
fn strands(layer: &mut Layer, scene: &Scene<'_>, line: &[Point]) {
    let (who, pose) = (scene.who, scene.pose);
    let mut d = Draw::new(who.seed(), "strands");
    let n = line.len() - 1;
    let crown = match who.hair {
        HairStyle::SideParted => [-0.32 * who.width, -1.22],
        _ => [0.0, -1.26],
    };
    let parting = matches!(who.hair, HairStyle::Long | HairStyle::SideParted);
    for _ in 0..20 {
        let t = d.unit() * n as f32;
        let i = (t as usize).min(n - 1);
        let f = t - i as f32;
        let end = [0, 1].map(|k| lerp(line[i][k], line[i + 1][k], f));
        let start = if parting {
            [
                crown[0] + 0.1 * d.bell() * 0.3,
                lerp(crown[1], who.hairline, d.unit() * 0.7),
            ]
        } else {
            [crown[0] + 0.12 * d.bell(), crown[1] + 0.1 * d.unit()]
        };
        let bulge = if parting { 0.35 } else { 0.15 };
        let middle = [
            lerp(start[0], end[0], 0.55) * (1.0 + bulge),
            lerp(start[1], end[1], 0.45) - 0.06,
        ];
        let tone = if d.chance(0.5) { 1.35 } else { 0.62 };
        let width = d.within(0.012, 0.04);
        let alpha = d.within(0.10, 0.30);
        let points = [start, middle, end].map(|p| pose.raised(p, 0.03));
        let tone = scaled(who.hair_colour, tone);
        let path = curve(&points, false);
        layer.line_within(path, width * pose.scale, tone, alpha);
    }
}
