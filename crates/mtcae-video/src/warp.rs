//! A turned square of a picture at a model's size.

use mtcae_core::Square;
use ndarray::{Array3, ArrayView3};

/// What a square of a picture (H, W, 3) shows, in `side` by `side` pixels.
///
/// The square is in pixels that are as wide as high; those of the picture are
/// `pixel_aspect` times as wide as high. Each pixel is the mean of what lies at a grid
/// within it, at most a pixel of the picture apart and interpolated between its neighbours,
/// so that nothing is left out of a square that is made smaller. Beyond the border are the
/// border's own pixels.
pub fn square_of(
    picture: ArrayView3<'_, u8>,
    pixel_aspect: f64,
    square: &Square,
    side: usize,
) -> Array3<u8> {
    let picture = picture.as_standard_layout();
    let (height, width, channels) = picture.dim();
    let mut out = Array3::zeros((side, side, 3));
    let (Some(levels), Some(pixels)) = (picture.as_slice(), out.as_slice_mut()) else {
        return out;
    };
    if channels != 3 || width == 0 || height == 0 || side == 0 {
        return out;
    }
    let levels = levels.as_chunks::<3>().0;
    // Pixels of the picture along a row and along a column of the result, and to its start.
    let stored = |[x, y]: [f64; 2]| [x / pixel_aspect, y];
    let origin = stored(square.at([0.0, 0.0]));
    let step = |corner: [f64; 2]| {
        let corner = stored(square.at(corner));
        [
            (corner[0] - origin[0]) / side as f64,
            (corner[1] - origin[1]) / side as f64,
        ]
    };
    let (along, down) = (step([1.0, 0.0]), step([0.0, 1.0]));
    let longest = along[0].hypot(along[1]).max(down[0].hypot(down[1]));
    // A pixel of the picture less a rounding.
    let grid = (longest - 1e-6).ceil().max(1.0) as usize;
    let share = 1.0 / grid as f64;
    let offsets: Vec<[f32; 2]> = (0..grid * grid)
        .map(|n| {
            let x = (0.5 + (n % grid) as f64) * share;
            let y = (0.5 + (n / grid) as f64) * share;
            [0, 1].map(|axis| (x * along[axis] + y * down[axis]) as f32)
        })
        .collect();
    let (last_x, last_y) = ((width - 1) as f32, (height - 1) as f32);
    let weight = 1.0 / offsets.len() as f32;
    for (i, row) in pixels.chunks_exact_mut(3 * side).enumerate() {
        for (j, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            // Centres of the picture's pixels are whole numbers here.
            let corner = [0, 1].map(|axis| {
                let at = origin[axis] + j as f64 * along[axis] + i as f64 * down[axis];
                (at - 0.5) as f32
            });
            let mut sum = [0.0f32; 3];
            for offset in &offsets {
                let x = (corner[0] + offset[0]).max(0.0).min(last_x);
                let y = (corner[1] + offset[1]).max(0.0).min(last_y);
                let (x1, y1) = (x as usize, y as usize);
                let (x2, y2) = ((x1 + 1).min(width - 1), (y1 + 1).min(height - 1));
                let (u, v) = (x - x1 as f32, y - y1 as f32);
                let (above, below) = (&levels[y1 * width..], &levels[y2 * width..]);
                for (c, sum) in sum.iter_mut().enumerate() {
                    let at = |row: &[[u8; 3]], x: usize| f32::from(row[x][c]);
                    let upper = at(above, x1) + u * (at(above, x2) - at(above, x1));
                    let lower = at(below, x1) + u * (at(below, x2) - at(below, x1));
                    *sum += upper + v * (lower - upper);
                }
            }
            *pixel = sum.map(|v| (v * weight + 0.5) as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Array3<u8> {
        Array3::from_shape_fn((height, width, 3), |(y, x, c)| {
            ((x * 37 + y * 91 + c * 55 + x * y) % 251) as u8
        })
    }

    #[test]
    fn what_needs_no_resampling_is_cut_out() {
        let whole = picture(9, 7);
        let square = |roll, centre| Square {
            centre,
            side: 4.0,
            roll,
        };
        let cut = square_of(whole.view(), 1.0, &square(0.0, [5.0, 4.0]), 4);
        assert_eq!(cut, whole.slice(ndarray::s![2..6, 3..7, ..]));
        // Turned clockwise by a quarter, what was on the right is above.
        let turned = square_of(whole.view(), 1.0, &square(90.0, [5.0, 4.0]), 4);
        for (y, x) in (0..4).flat_map(|y| (0..4).map(move |x| (y, x))) {
            for c in 0..3 {
                assert_eq!(turned[[y, x, c]], whole[[2 + x, 6 - y, c]]);
            }
        }
        // Beyond the border is the border.
        let out = square_of(whole.view(), 1.0, &square(0.0, [0.0, 4.0]), 4);
        assert_eq!(out[[1, 0, 0]], whole[[3, 0, 0]]);
        assert_eq!(out[[1, 3, 0]], whole[[3, 1, 0]]);
    }

    /// Green of `skimage.transform.warp` (order 1, edge), of a square turned by 30°, inside
    /// and over the border.
    #[test]
    fn turned_squares_are_those_of_another_program() {
        let whole = picture(10, 9);
        for (centre, want) in [
            (
                [5.3, 4.1],
                [
                    [109, 178, 134, 105],
                    [172, 112, 86, 169],
                    [163, 113, 148, 66],
                    [97, 127, 173, 102],
                ],
            ),
            (
                [1.2, 8.4],
                [
                    [92, 174, 70, 93],
                    [164, 178, 110, 131],
                    [97, 31, 70, 109],
                    [30, 30, 47, 86],
                ],
            ),
        ] {
            let square = Square {
                centre,
                side: 4.0,
                roll: 30.0,
            };
            let seen = square_of(whole.view(), 1.0, &square, 4);
            for (y, x) in (0..4).flat_map(|y| (0..4).map(move |x| (y, x))) {
                assert!(seen[[y, x, 1]].abs_diff(want[y][x]) <= 1, "{y} {x}");
            }
        }
    }

    #[test]
    fn what_is_made_smaller_is_averaged() {
        let whole = picture(12, 12);
        let square = Square {
            centre: [6.0, 6.0],
            side: 12.0,
            roll: 0.0,
        };
        let small = square_of(whole.view(), 1.0, &square, 3);
        for (y, x) in (0..3).flat_map(|y| (0..3).map(move |x| (y, x))) {
            let part = whole.slice(ndarray::s![4 * y..4 * y + 4, 4 * x..4 * x + 4, 1]);
            let mean = part.iter().map(|&v| f64::from(v)).sum::<f64>() / 16.0;
            assert!((f64::from(small[[y, x, 1]]) - mean).abs() <= 0.51);
        }
    }

    /// Pixels twice as wide as high: a square is half as many of them wide.
    #[test]
    fn pixels_that_are_no_squares_are_told() {
        let narrow = picture(6, 12);
        let square = Square {
            centre: [6.0, 6.0],
            side: 6.0,
            roll: 0.0,
        };
        let seen = square_of(narrow.view(), 2.0, &square, 6);
        // Columns 1.5 to 4.5; every second sample lies a quarter beside a centre.
        let between = |y: usize, x: usize, u: f64| {
            let at = |x: usize| f64::from(narrow[[y, x, 0]]);
            at(x) + u * (at(x + 1) - at(x))
        };
        for (j, (x, u)) in [(1, 0.25), (1, 0.75), (2, 0.25)].into_iter().enumerate() {
            let want = between(4, x, u);
            assert!((f64::from(seen[[1, j, 0]]) - want).abs() <= 0.51, "{j}");
        }
    }
}
