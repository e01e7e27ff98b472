//! Boxes between the networks: suppression, squaring, clipping. Arithmetic is
//! `f32` in facenet-pytorch's order, because a box that rounds to another pixel
//! is another crop.

use std::ops::Range;

use mtcae_core::iou;

/// x1, y1, x2, y2 in pixels.
pub type Rect = [f32; 4];

/// Indices of the boxes that stay, the most probable first: a box goes when it
/// overlaps one that stays by more than `threshold` of their union.
pub fn suppress(boxes: &[(Rect, f32)], threshold: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    // Stable, so that equals stay in their order.
    order.sort_by(|&a, &b| boxes[b].1.total_cmp(&boxes[a].1));
    let mut kept: Vec<Rect> = Vec::new();
    order.retain(|&i| {
        let b = boxes[i].0;
        let beyond = |k: &Rect| iou(*k, b).is_some_and(|v| f64::from(v) > threshold);
        let overlaps = kept.iter().any(beyond);
        if !overlaps {
            kept.push(b);
        }
        !overlaps
    });
    order
}

/// As [`suppress`], but measured against the smaller of the two boxes, whose
/// borders belong to them (+1).
pub fn suppress_by_smaller(boxes: &[(Rect, f32)], threshold: f32) -> Vec<usize> {
    let mut order = argsort(boxes.iter().map(|b| b.1));
    order.reverse(); // the last of the order goes first, of equals too
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

/// Indices of the values, the smallest first, in the order of `numpy.argsort`. Scores
/// of sure faces saturate, so that which of several candidates stays depends on how
/// equals are ordered: numpy leaves up to 16 values in their order and splits more of
/// them around a median, which stirs equals. (From numpy 1.25 on, vector instructions
/// order equals otherwise, on each processor in its own way; this is the order without.)
pub fn argsort(values: impl Iterator<Item = f32>) -> Vec<usize> {
    let values: Vec<f32> = values.collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    sort(&mut order, &values);
    order
}

/// Sorts indices by their values.
fn sort(mut order: &mut [usize], values: &[f32]) {
    let less =
        |a: usize, b: usize| values[a] < values[b] || values[b].is_nan() && !values[a].is_nan();
    while order.len() > 16 {
        let last = order.len() - 1;
        let middle = last / 2;
        for (a, b) in [(0, middle), (middle, last), (0, middle)] {
            if less(order[b], order[a]) {
                order.swap(a, b);
            }
        }
        let pivot = order[middle];
        order.swap(middle, last - 1);
        let (mut i, mut j) = (1, last - 2);
        loop {
            while less(order[i], pivot) {
                i += 1;
            }
            while less(pivot, order[j]) {
                j -= 1;
            }
            if i >= j {
                break;
            }
            order.swap(i, j);
            (i, j) = (i + 1, j - 1);
        }
        order.swap(i, last - 1);
        let (left, right) = order.split_at_mut(i);
        let right = &mut right[1..];
        let (short, long) = match left.len() < right.len() {
            true => (left, right),
            false => (right, left),
        };
        sort(short, values);
        order = long;
    }
    order.sort_by(|&a, &b| less(b, a).cmp(&less(a, b)));
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

    /// Candidates as `fixtures/mtcnn/make.py` made them, and what numpy and
    /// facenet-pytorch do with them.
    #[derive(serde::Deserialize)]
    struct Ties {
        below_1: Vec<u16>,
        eighths: Vec<[f32; 4]>,
        argsort: Vec<usize>,
        stay: Vec<usize>,
    }

    #[test]
    fn of_equally_probable_candidates_the_same_stay() {
        let path = mtcae_testing::fixtures().join("mtcnn/ties.json");
        let text = std::fs::read_to_string(path).unwrap();
        for t in serde_json::from_str::<Vec<Ties>>(&text).unwrap() {
            let scores = t.below_1.iter().map(|&n| 1.0 - f32::from(n) * f32::EPSILON);
            let boxes: Vec<(Rect, f32)> = (t.eighths.iter().map(|b| b.map(|v| v / 8.0)))
                .zip(scores.clone())
                .collect();
            assert_eq!(argsort(scores), t.argsort);
            assert_eq!(suppress_by_smaller(&boxes, 0.7), t.stay);
        }
    }

    #[test]
    fn what_is_no_number_is_sorted_last() {
        let n = f32::NAN;
        assert_eq!(argsort([n, 2.0, n, -1.0].into_iter()), [3, 1, 0, 2]);
        let mixed = (0..100).map(|i| if i % 3 == 0 { n } else { (i % 7) as f32 });
        let order = argsort(mixed);
        assert!(order[66..].iter().all(|i| i % 3 == 0), "{order:?}");
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
