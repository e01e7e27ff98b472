//! What is behind the person: walls, things, and things that have something of a
//! face.

use crate::identity::{Colour, scaled};
use crate::paint::{Layer, On, ellipse, polygon};
use crate::seed::Draw;

/// Paints the background of a take.
pub(crate) fn paint(layer: &mut Layer, seed: u64) {
    let mut d = Draw::new(seed, "background");
    let (w, h) = (
        layer.pixels.width() as usize,
        layer.pixels.height() as usize,
    );
    wall(layer, &mut d, w, h);
    let size = w.max(h) as f32;
    for _ in 0..2 + d.pick(7) {
        thing(layer, &mut d, w as f32, h as f32, size);
    }
    for _ in 0..d.pick(4) {
        distractor(layer, &mut d, w as f32, h as f32, size);
    }
    let blurred = (d.within(0.0, 0.012) * size) as usize;
    for _ in 0..2 {
        blur(layer, blurred);
    }
}

fn colour(d: &mut Draw) -> Colour {
    let grey = d.within(0.12, 0.85);
    let vivid = d.within(0.02, 0.3);
    [0, 1, 2].map(|_| (grey + vivid * (d.unit() - 0.5)).clamp(0.0, 1.0))
}

/// A gradient between four corners, with soft clouds.
fn wall(layer: &mut Layer, d: &mut Draw, w: usize, h: usize) {
    let base = colour(d);
    let corners: [Colour; 4] = [0; 4].map(|_| {
        let by = d.within(0.65, 1.3);
        let other = colour(d);
        [0, 1, 2].map(|i| (0.75 * base[i] * by + 0.25 * other[i]).clamp(0.0, 1.0))
    });
    let cells = 2 + d.pick(9);
    let strength = d.within(0.0, 0.16);
    let noise: Vec<f32> = (0..(cells + 1) * (cells + 1))
        .map(|_| (d.unit() - 0.5) * 2.0 * strength)
        .collect();
    let data = layer.pixels.data_mut();
    for y in 0..h {
        let fy = y as f32 / h as f32;
        let (cy, ty) = ((fy * cells as f32) as usize, (fy * cells as f32).fract());
        for x in 0..w {
            let fx = x as f32 / w as f32;
            let (cx, tx) = ((fx * cells as f32) as usize, (fx * cells as f32).fract());
            let at = |dy: usize, dx: usize| noise[(cy + dy) * (cells + 1) + cx + dx];
            let (sx, sy) = (tx * tx * (3.0 - 2.0 * tx), ty * ty * (3.0 - 2.0 * ty));
            let top = at(0, 0) + (at(0, 1) - at(0, 0)) * sx;
            let bottom = at(1, 0) + (at(1, 1) - at(1, 0)) * sx;
            let cloud = top + (bottom - top) * sy;
            let pixel = &mut data[4 * (y * w + x)..][..4];
            for i in 0..3 {
                let top = corners[0][i] + (corners[1][i] - corners[0][i]) * fx;
                let bottom = corners[2][i] + (corners[3][i] - corners[2][i]) * fx;
                let value = top + (bottom - top) * fy + cloud;
                pixel[i] = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
            }
            pixel[3] = 255;
        }
    }
}

fn rectangle(x: f32, y: f32, w: f32, h: f32) -> Option<tiny_skia::Path> {
    polygon(&[[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
}

/// A box, a disc, stripes, or a shelf of books.
fn thing(layer: &mut Layer, d: &mut Draw, w: f32, h: f32, size: f32) {
    let (x, y) = (d.within(-0.1, 1.0) * w, d.within(-0.1, 1.0) * h);
    let (a, b) = (d.within(0.06, 0.4) * size, d.within(0.06, 0.4) * size);
    let tone = colour(d);
    let alpha = d.within(0.5, 1.0);
    match d.pick(4) {
        0 => {
            layer.fill(rectangle(x, y, a, b), tone, alpha, On::All);
            let inner = rectangle(x + 0.1 * a, y + 0.1 * b, 0.8 * a, 0.8 * b);
            layer.fill(inner, scaled(tone, 1.25), alpha * 0.6, On::All);
        }
        1 => layer.fill(
            ellipse([x, y], [a * 0.5, b * 0.5], d.unit()),
            tone,
            alpha,
            On::All,
        ),
        2 => {
            let n = 3 + d.pick(7);
            let lying = d.chance(0.5);
            for i in 0..n {
                let at = 2.0 * i as f32 / (2 * n) as f32;
                let stripe = if lying {
                    rectangle(x, y + at * b, a * 2.0, 0.5 * b / n as f32)
                } else {
                    rectangle(x + at * a, y, 0.5 * a / n as f32, b * 2.0)
                };
                layer.fill(stripe, tone, alpha, On::All);
            }
        }
        _ => {
            let mut left = x;
            for _ in 0..4 + d.pick(8) {
                let (thick, tall) = (d.within(0.012, 0.035) * size, d.within(0.6, 1.0) * b);
                let book = rectangle(left, y + b - tall, thick, tall);
                layer.fill(book, colour(d), alpha, On::All);
                left += thick;
            }
        }
    }
}

/// Something round or square with two dots and a line: a clock, a socket, a
/// plate, a framed cartoon.
fn distractor(layer: &mut Layer, d: &mut Draw, w: f32, h: f32, size: f32) {
    // Near the sides: the person would hide it in the middle.
    let x = match d.chance(0.5) {
        true => d.within(0.02, 0.22) * w,
        false => d.within(0.78, 0.98) * w,
    };
    let y = d.within(0.05, 0.7) * h;
    let r = d.within(0.025, 0.075) * size;
    let (ground, ink) = (
        [0, 1, 2].map(|_| d.within(0.6, 0.98)),
        scaled(colour(d), 0.4),
    );
    let thin = (0.10 * r).max(0.7);
    match d.pick(4) {
        0 => {
            layer.fill(ellipse([x, y], [r, r], 0.0), ink, 1.0, On::All);
            layer.fill(
                ellipse([x, y], [r * 0.88, r * 0.88], 0.0),
                ground,
                1.0,
                On::All,
            );
            for reach in [0.5, 0.75] {
                let (s, c) = (d.unit() * std::f32::consts::TAU).sin_cos();
                let hand = polygon(&[[x, y], [x + reach * r * s, y - reach * r * c]]);
                layer.line(hand, thin, ink, 1.0, On::All);
            }
        }
        1 => {
            layer.fill(
                rectangle(x - r, y - r, 2.0 * r, 2.0 * r),
                ground,
                1.0,
                On::All,
            );
            for way in [-1.0, 1.0] {
                let hole = ellipse([x + way * 0.35 * r, y - 0.1 * r], [0.12 * r, 0.12 * r], 0.0);
                layer.fill(hole, ink, 1.0, On::All);
            }
            layer.fill(
                rectangle(x - 0.2 * r, y + 0.45 * r, 0.4 * r, 0.1 * r),
                ink,
                1.0,
                On::All,
            );
        }
        2 => {
            layer.fill(ellipse([x, y], [r, r], 0.0), ground, 1.0, On::All);
            for ring in [0.95, 0.7] {
                layer.line(
                    ellipse([x, y], [ring * r, ring * r], 0.0),
                    thin,
                    ink,
                    0.8,
                    On::All,
                );
            }
        }
        _ => {
            let frame = rectangle(x - 1.2 * r, y - 1.3 * r, 2.4 * r, 2.6 * r);
            layer.fill(frame, ink, 1.0, On::All);
            let picture = rectangle(x - r, y - 1.1 * r, 2.0 * r, 2.2 * r);
            layer.fill(picture, ground, 1.0, On::All);
            let disc = ellipse([x, y], [0.75 * r, 0.75 * r], 0.0);
            layer.fill(disc, colour(d), 1.0, On::All);
            for way in [-1.0, 1.0] {
                let dot = ellipse([x + way * 0.28 * r, y - 0.2 * r], [0.08 * r, 0.08 * r], 0.0);
                layer.fill(dot, ink, 1.0, On::All);
            }
            let mouth = polygon(&[[x - 0.3 * r, y + 0.3 * r], [x + 0.3 * r, y + 0.3 * r]]);
            layer.line(mouth, thin, ink, 1.0, On::All);
        }
    }
}

/// A box blur of an opaque layer, along rows and columns.
fn blur(layer: &mut Layer, radius: usize) {
    if radius == 0 {
        return;
    }
    let (w, h) = (
        layer.pixels.width() as usize,
        layer.pixels.height() as usize,
    );
    let data = layer.pixels.data_mut();
    let mut line = Vec::new();
    let mut run = |start: usize, step: usize, n: usize| {
        let count = (2 * radius + 1) as u32;
        for channel in 0..3 {
            line.clear();
            line.extend((0..n).map(|i| u32::from(data[start + i * step + channel])));
            let at = |i: isize| line[i.clamp(0, n as isize - 1) as usize];
            let r = radius as isize;
            let mut sum: u32 = (-r..=r).map(at).sum();
            for i in 0..n {
                data[start + i * step + channel] = ((sum + count / 2) / count) as u8;
                let i = i as isize;
                sum = sum + at(i + r + 1) - at(i - r);
            }
        }
    };
    for y in 0..h {
        run(4 * y * w, 4, w);
    }
    for x in 0..w {
        run(4 * x, 4 * w, h);
    }
}
