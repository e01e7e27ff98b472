//! Clips to the tokens of a VideoMAE encoder.
//!
//! A tube is `tubelet × patch × patch` pixels of three channels. Tokens are
//! in row-major order of (t′, h′, w′); the numbers of one token are in the
//! order (C, t, h, w) of a `Conv3d` kernel, so that
//! `tubes · kernel.reshape(D, C·t·h·w)ᵀ + bias` is VideoMAE's patch embedding.

use ndarray::{Array2, Array4, ArrayView4};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::normalize::Normalization;

/// Size of one tube. VideoMAE: 2 frames of 16×16 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TubeShape {
    /// Frames per tube.
    pub tubelet: usize,
    /// Height and width of a tube in pixels.
    pub patch: usize,
}

impl Default for TubeShape {
    fn default() -> Self {
        Self {
            tubelet: 2,
            patch: 16,
        }
    }
}

/// A clip that cannot be cut into tubes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TubeError {
    /// The clip cannot be cut into whole tubes.
    #[error(
        "a clip of shape {shape:?} (T, H, W, C) cannot be cut into whole {tubelet}x{patch}x{patch} tubes of 3 channels; T must be a multiple of {tubelet}, H and W of {patch}, C must be 3"
    )]
    Shape {
        /// The clip's (T, H, W, C).
        shape: [usize; 4],
        /// Frames per tube.
        tubelet: usize,
        /// Pixels per tube side.
        patch: usize,
    },
    /// The output slice has another length than the tubes.
    #[error("the output holds {got} numbers, the tubes need {want}")]
    Output {
        /// Length given.
        got: usize,
        /// Length needed.
        want: usize,
    },
}

impl TubeShape {
    /// Tubes along (t′, h′, w′) of a clip of shape (T, H, W, 3).
    ///
    /// # Errors
    /// [`TubeError::Shape`] when the clip cannot be cut into whole tubes.
    pub fn grid(&self, shape: [usize; 4]) -> Result<[usize; 3], TubeError> {
        let [t, h, w, c] = shape;
        let (tt, p) = (self.tubelet, self.patch);
        let whole = |n: usize, d: usize| d > 0 && n > 0 && n.is_multiple_of(d);
        if c == 3 && whole(t, tt) && whole(h, p) && whole(w, p) {
            Ok([t / tt, h / p, w / p])
        } else {
            Err(TubeError::Shape {
                shape,
                tubelet: tt,
                patch: p,
            })
        }
    }

    /// Numbers per token: `3 · tubelet · patch²` (1536 for VideoMAE).
    pub fn width(&self) -> usize {
        3 * self.tubelet * self.patch * self.patch
    }
}

fn shape_of(frames: &ArrayView4<'_, u8>) -> [usize; 4] {
    let (t, h, w, c) = frames.dim();
    [t, h, w, c]
}

/// Cuts frames (T, H, W, 3) into tubes (N, 3·t·p²), normalised: 16×224²
/// frames give (1568, 1536).
///
/// # Errors
/// [`TubeError::Shape`] when the clip cannot be cut into whole tubes.
pub fn tubes(
    frames: ArrayView4<'_, u8>,
    normalization: &Normalization,
    shape: TubeShape,
) -> Result<Array2<f32>, TubeError> {
    let [t, h, w] = shape.grid(shape_of(&frames))?;
    let mut out = Array2::zeros((t * h * w, shape.width()));
    // A fresh ndarray is contiguous; the slice is there.
    if let Some(slice) = out.as_slice_mut() {
        tubes_into(frames, normalization, shape, slice)?;
    }
    Ok(out)
}

/// As [`tubes`], into a slice of `N · 3·t·p²` numbers: for a batch, hand each
/// clip its part of one buffer. Threaded over tokens.
///
/// # Errors
/// [`TubeError`] when the clip cannot be cut into whole tubes or `out` has
/// another length.
pub fn tubes_into(
    frames: ArrayView4<'_, u8>,
    normalization: &Normalization,
    shape: TubeShape,
    out: &mut [f32],
) -> Result<(), TubeError> {
    let [t, h, w] = shape.grid(shape_of(&frames))?;
    let (tt, p, width) = (shape.tubelet, shape.patch, shape.width());
    let want = t * h * w * width;
    if out.len() != want {
        return Err(TubeError::Output {
            got: out.len(),
            want,
        });
    }
    let table = normalization.table();
    let contiguous = frames.as_standard_layout();
    let Some(pixels) = contiguous.as_slice() else {
        return Ok(());
    };
    let line = w * p * 3;
    let frame = h * p * line;
    // One task per row of tubes: w′ tokens, whose pixels are contiguous lines.
    out.par_chunks_mut(w * width)
        .enumerate()
        .for_each(|(row, tokens)| {
            let (ti, hi) = (row / h, row % h);
            for dt in 0..tt {
                for dy in 0..p {
                    let start = (ti * tt + dt) * frame + (hi * p + dy) * line;
                    let source = &pixels[start..start + line];
                    let at = dt * p * p + dy * p;
                    for (token, patch) in tokens
                        .chunks_exact_mut(width)
                        .zip(source.chunks_exact(p * 3))
                    {
                        let (red, rest) = token.split_at_mut(tt * p * p);
                        let (green, blue) = rest.split_at_mut(tt * p * p);
                        let r = &mut red[at..at + p];
                        let g = &mut green[at..at + p];
                        let b = &mut blue[at..at + p];
                        for (((r, g), b), rgb) in
                            r.iter_mut().zip(g).zip(b).zip(patch.chunks_exact(3))
                        {
                            *r = table[0][rgb[0] as usize];
                            *g = table[1][rgb[1] as usize];
                            *b = table[2][rgb[2] as usize];
                        }
                    }
                }
            }
        });
    Ok(())
}

/// Undoes [`tubes`] on tubes (N, 3·t·p²) of a `grid` (t′, h′, w′): frames
/// (T, H, W, 3) of floats, still normalised. For showing reconstructions.
///
/// # Errors
/// [`TubeError::Output`] when `tubes` is not of `grid`'s size.
pub fn untube(
    tubes: ndarray::ArrayView2<'_, f32>,
    shape: TubeShape,
    grid: [usize; 3],
) -> Result<Array4<f32>, TubeError> {
    let [t, h, w] = grid;
    let (tt, p) = (shape.tubelet, shape.patch);
    if tubes.dim() != (t * h * w, shape.width()) {
        return Err(TubeError::Output {
            got: tubes.len(),
            want: t * h * w * shape.width(),
        });
    }
    Ok(Array4::from_shape_fn(
        (t * tt, h * p, w * p, 3),
        |(f, y, x, c)| {
            let token = ((f / tt) * h + y / p) * w + x / p;
            tubes[[token, ((c * tt + f % tt) * p + y % p) * p + x % p]]
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(t: usize, h: usize, w: usize) -> Array4<u8> {
        let mut state = 7u32;
        Array4::from_shape_simple_fn((t, h, w, 3), || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
    }

    /// The readable twin of [`tubes`]: one index formula, one number at a time.
    fn tubes_reference(
        frames: ArrayView4<'_, u8>,
        normalization: &Normalization,
        shape: TubeShape,
    ) -> Result<Array2<f32>, TubeError> {
        let [t, h, w] = shape.grid(shape_of(&frames))?;
        let (tt, p) = (shape.tubelet, shape.patch);
        Ok(Array2::from_shape_fn(
            (t * h * w, shape.width()),
            |(token, k)| {
                let (ti, hi, wi) = (token / (h * w), token / w % h, token % w);
                let (c, dt, dy, dx) = (k / (tt * p * p), k / (p * p) % tt, k / p % p, k % p);
                let level = frames[[ti * tt + dt, hi * p + dy, wi * p + dx, c]];
                normalization.apply(level, c)
            },
        ))
    }

    #[test]
    fn fast_path_equals_the_index_formula() {
        for (t, h, w, shape) in [
            (16, 224, 224, TubeShape::default()),
            (4, 32, 48, TubeShape::default()),
            (
                3,
                10,
                15,
                TubeShape {
                    tubelet: 1,
                    patch: 5,
                },
            ),
        ] {
            let frames = noise(t, h, w);
            for norm in [Normalization::IMAGENET, Normalization::NONE] {
                let fast = tubes(frames.view(), &norm, shape).unwrap();
                let slow = tubes_reference(frames.view(), &norm, shape).unwrap();
                assert_eq!(fast, slow);
            }
        }
        let full = tubes(
            noise(16, 224, 224).view(),
            &Normalization::IMAGENET,
            TubeShape::default(),
        )
        .unwrap();
        assert_eq!(full.dim(), (1568, 1536));
    }

    /// The token times a flattened kernel is the convolution, by definition
    /// of a strided Conv3d over (C, T, H, W).
    #[test]
    fn token_times_kernel_is_the_convolution() {
        let shape = TubeShape {
            tubelet: 2,
            patch: 4,
        };
        let frames = noise(4, 8, 12);
        let norm = Normalization::HALF;
        let value = |[t, c, y, x]: [usize; 4]| norm.apply(frames[[t, y, x, c]], c);
        let weight = |c: usize, t: usize, y: usize, x: usize| {
            ((c * 31 + t * 17 + y * 5 + x) % 13) as f32 / 7.0 - 0.8
        };
        let tokens = tubes(frames.view(), &norm, shape).unwrap();
        for t in 0..2 {
            for y in 0..2 {
                for x in 0..3 {
                    let mut conv = 0.0;
                    let mut flat = Vec::new();
                    for c in 0..3 {
                        for dt in 0..2 {
                            for dy in 0..4 {
                                for dx in 0..4 {
                                    let v = value([t * 2 + dt, c, y * 4 + dy, x * 4 + dx]);
                                    conv += v * weight(c, dt, dy, dx);
                                    flat.push(weight(c, dt, dy, dx));
                                }
                            }
                        }
                    }
                    let row = tokens.row((t * 2 + y) * 3 + x);
                    let dot: f32 = row.iter().zip(&flat).map(|(a, b)| a * b).sum();
                    assert!((dot - conv).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn untube_undoes_tubes() {
        let frames = noise(4, 32, 48);
        let t = tubes(frames.view(), &Normalization::NONE, TubeShape::default()).unwrap();
        let back = untube(t.view(), TubeShape::default(), [2, 2, 3]).unwrap();
        assert_eq!(back.mapv(|v| (v * 255.0).round() as u8), frames);
        assert!(untube(t.view(), TubeShape::default(), [2, 2, 2]).is_err());
    }

    #[test]
    fn wrong_shapes_are_named() {
        let e = tubes(
            noise(3, 32, 32).view(),
            &Normalization::NONE,
            TubeShape::default(),
        )
        .unwrap_err();
        assert!(e.to_string().contains("[3, 32, 32, 3]"), "{e}");
        let frames = noise(2, 16, 16);
        let e = tubes_into(
            frames.view(),
            &Normalization::NONE,
            TubeShape::default(),
            &mut [0.0; 5],
        );
        assert_eq!(e, Err(TubeError::Output { got: 5, want: 1536 }));
    }
}
