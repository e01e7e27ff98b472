//! Boxes between the networks: suppression, squaring, clipping. Arithmetic is
//! `f32` in facenet-pytorch's order, because a box that rounds to another pixel
//! is another crop.

use std::cmp::Ordering;
use std::ops::Range;

/// x1, y1, x2, y2 in pixels.
pub type Rect = [f32; 4];

/// Indices of the boxes that stay, the most probable first: a box goes when it
/// overlaps one that stays by more than `threshold` of their union.
pub fn suppress(boxes: &[(Rect, f32)], threshold: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    // Stable, so that equals stay in their order.
    order.sort_by(|&a, &b| descending(boxes[a].1, boxes[b].1));
    let mut kept: Vec<(Rect, f32)> = Vec::new();
    order.retain(|&i| {
        let b = boxes[i].0;
        let area = (b[2] - b[0]) * (b[3] - b[1]);
        let overlaps = kept.iter().any(|(k, kept_area)| {
            let w = (k[2].min(b[2]) - k[0].max(b[0])).max(0.0);
            let h = (k[3].min(b[3]) - k[1].max(b[1])).max(0.0);
            let common = w * h;
            common > 0.0 && f64::from(common / (kept_area + area - common)) > threshold
        });
        if !overlaps {
            kept.push((b, area));
        }
        !overlaps
    });
    order
}

/// As [`suppress`], but measured against the smaller of the two boxes, whose
/// borders belong to them (+1).
pub fn suppress_by_smaller(boxes: &[(Rect, f32)], threshold: f32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by(|&a, &b| descending(boxes[b].1, boxes[a].1));
    order.reverse(); // of equals, the last goes first
    let area = |b: &Rect| (b[2] - b[0] + 1.0) * (b[3] - b[1] + 1.0);
    let mut kept: Vec<Rect> = Vec::new();
    order.retain(|&i| {
        let b = boxes[i].0;
        let overlaps = kept.iter().any(|k| {
            let w = (k[2].min(b[2]) - k[0].max(b[0]) + 1.0).max(0.0);
            let h = (k[3].min(b[3]) - k[1].max(b[1]) + 1.0).max(0.0);
            w * h / area(k).min(area(&b)) > threshold
        });
        if !overlaps {
            kept.push(b);
        }
        !overlaps
    });
    order
}

/// Orders numbers with the largest first.
pub fn descending(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// Moves a box by offsets that are fractions of its width and height, to which
/// `extra` pixels are added (0 after P-Net, 1 after the others).
pub fn regress(b: Rect, offsets: [f32; 4], extra: f32) -> Rect {
    let (w, h) = (b[2] - b[0] + extra, b[3] - b[1] + extra);
    [
        b[0] + offsets[0] * w,
        b[1] + offsets[1] * h,
        b[2] + offsets[2] * w,
        b[3] + offsets[3] * h,
    ]
}

/// The square of the longer side around the same centre.
pub fn square(b: Rect) -> Rect {
    let (w, h) = (b[2] - b[0], b[3] - b[1]);
    let side = w.max(h);
    let x = b[0] + w * 0.5 - side * 0.5;
    let y = b[1] + h * 0.5 - side * 0.5;
    [x, y, x + side, y + side]
}

/// The pixels (columns, rows) of a box within a frame; `None` when there are
/// none. Coordinates count from 1 and the last pixel belongs to the box.
pub fn pixels(b: Rect, width: usize, height: usize) -> Option<(Range<usize>, Range<usize>)> {
    // `as` saturates, and a NaN gives 0.
    let axis = |from: f32, to: f32, n: usize| {
        let from = (from as i64).max(1) as usize - 1;
        let to = (to as i64).min(n as i64).max(0) as usize;
        (from < to).then_some(from..to)
    };
    Some((axis(b[0], b[2], width)?, axis(b[1], b[3], height)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suppression_keeps_the_best_of_a_heap() {
        let boxes = [
            ([0.0, 0.0, 10.0, 10.0], 0.8),
            ([1.0, 0.0, 11.0, 10.0], 0.9),
            ([20.0, 0.0, 30.0, 10.0], 0.7),
            ([0.0, 0.0, 10.0, 10.0], 0.8),
        ];
        assert_eq!(suppress(&boxes, 0.5), [1, 2]);
        assert_eq!(suppress(&boxes, 0.9), [1, 0, 2]);
        assert!(suppress(&[], 0.5).is_empty());
        // A small box inside a large one: little of the union, all of the smaller.
        let nested = [([0.0, 0.0, 99.0, 99.0], 0.9), ([0.0, 0.0, 9.0, 9.0], 0.8)];
        assert_eq!(suppress(&nested, 0.5), [0, 1]);
        assert_eq!(suppress_by_smaller(&nested, 0.7), [0]);
    }

    #[test]
    fn a_box_is_cut_at_the_frame() {
        assert_eq!(
            pixels([-3.7, 0.2, 5.9, 99.0], 8, 6),
            Some((0..5, 0..6)),
            "x from 1, the last pixel included"
        );
        assert_eq!(pixels([3.0, 3.0, 3.0, 3.0], 8, 6), Some((2..3, 2..3)));
        assert_eq!(pixels([9.0, 0.0, 12.0, 5.0], 8, 6), None);
        assert_eq!(pixels([f32::NAN; 4], 8, 6), None);
        assert_eq!(pixels([-1e30, -1e30, 1e30, 1e30], 8, 6), Some((0..8, 0..6)));
    }

    #[test]
    fn squares_keep_the_centre() {
        assert_eq!(square([0.0, 0.0, 4.0, 10.0]), [-3.0, 0.0, 7.0, 10.0]);
    }
}
