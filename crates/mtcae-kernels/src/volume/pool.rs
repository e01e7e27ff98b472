//! Pooling over volumes, channels last, and its backward. Windows are cut at the volume's
//! border; as PyTorch without `ceil_mode`, the last window lies within the padded volume.

use std::ops::Range;

use rayon::prelude::*;

use crate::isa::Isa;
use crate::lanes::{Lanes, vectorise};
use crate::matrix::size;
use crate::product::rectangle::Rectangle;

/// What becomes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Its largest number; the gradient goes to the first of them. NaNs are passed over.
    Max,
    /// Its mean, for which the padding counts as zeros.
    Mean,
}

/// Windows over (t, h, w).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// What becomes of a window.
    pub kind: Kind,
    /// Length of a window along (t, h, w).
    pub kernel: [usize; 3],
    /// Steps from window to window.
    pub stride: [usize; 3],
    /// Places before the first and after the last that windows may reach.
    pub padding: [usize; 3],
}

impl Pool {
    /// What of it makes no pooling, in words.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), String> {
        let (kernel, stride, padding) = (self.kernel, self.stride, self.padding);
        if kernel.contains(&0) || stride.contains(&0) {
            return Err(format!(
                "windows of {kernel:?} at stride {stride:?}: no length may be 0"
            ));
        }
        match (0..3).all(|i| 2 * padding[i] <= kernel[i]) {
            true => Ok(()),
            false => Err(format!(
                "padding {padding:?} should be at most half of the windows' {kernel:?}"
            )),
        }
    }

    /// (t, h, w) of the output of volumes of (t, h, w); `None` where a window is larger than
    /// the padded volume.
    pub fn output(&self, input: [usize; 3]) -> Option<[usize; 3]> {
        let mut out = [0; 3];
        for i in 0..3 {
            let padded = input[i].checked_add(2 * self.padding[i])?;
            out[i] = padded.checked_sub(self.kernel[i])? / self.stride[i] + 1;
        }
        Some(out)
    }

    fn checked(&self, clips: usize, input: [usize; 3], c: usize, x: usize, y: usize) -> [usize; 3] {
        if let Err(reason) = self.check() {
            panic!("pooling: {reason}");
        }
        let output = self.output(input);
        let Some(output) = output.filter(|_| clips > 0 && c > 0 && !input.contains(&0)) else {
            panic!("pooling: {clips} volumes of {input:?} and {c} channels by {self:?}");
        };
        let numbers = |[t, h, w]: [usize; 3]| size([clips, t, h, w, c]);
        assert_eq!(x, numbers(input), "pooling: input");
        assert_eq!(y, numbers(output), "pooling: output");
        output
    }

    /// The places of window `at` along an axis of `n`.
    fn window(&self, axis: usize, at: usize, n: usize) -> Range<usize> {
        let first = at * self.stride[axis];
        let end = (first + self.kernel[axis]).saturating_sub(self.padding[axis]);
        first.saturating_sub(self.padding[axis]).min(n)..end.min(n)
    }

    /// x (clips, t, h, w, channels) → (clips, t′, h′, w′, channels).
    ///
    /// # Panics
    /// When the lengths disagree or [`Self::check`] finds a fault.
    pub fn forward(
        &self,
        isa: Isa,
        clips: usize,
        input: [usize; 3],
        channels: usize,
        x: &[f32],
        out: &mut [f32],
    ) {
        let output = self.checked(clips, input, channels, x.len(), out.len());
        let line = output[2] * channels;
        let volume = input.iter().product::<usize>() * channels;
        out.par_chunks_mut(line).enumerate().for_each(|(row, out)| {
            let (plane, y) = (row / output[1], row % output[1]);
            let x = &x[plane / output[0] * volume..][..volume];
            let line = Line {
                pool: self,
                input,
                channels,
                at: [plane % output[0], y],
            };
            let x = &x;
            vectorise!(isa, pool_line(line: Line<'_>, x: &[f32], out: &mut [f32]));
        });
    }

    /// The gradient of x, from x, what became of it and the gradient of that.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn backward(
        &self,
        isa: Isa,
        clips: usize,
        input: [usize; 3],
        channels: usize,
        [x, y, grad]: [&[f32]; 3],
        out: &mut [f32],
    ) {
        let output = self.checked(clips, input, channels, x.len(), y.len());
        assert_eq!(grad.len(), y.len(), "pooling: gradient");
        assert_eq!(out.len(), x.len(), "pooling: gradient of the input");
        let pixels = |n: [usize; 3]| n.iter().product::<usize>();
        let (from, to) = (pixels(output), pixels(input));
        let whole = Rectangle::new(out, channels, clips * to, channels);
        let chunks = channels.div_ceil(16);
        // Windows overlap, so that a task has channels of its own.
        (0..clips * chunks).into_par_iter().for_each(|task| {
            let (clip, first) = (task / chunks, task % chunks * 16);
            let some = 16.min(channels - first);
            // SAFETY: each task has a volume or channels of its own.
            let out = &mut unsafe { whole.part(clip * to, to, first, some) };
            let of = Back {
                pool: self,
                sizes: [input, output],
                channels,
                first,
                x: &x[clip * to * channels..][..to * channels],
                y: &y[clip * from * channels..][..from * channels],
                grad: &grad[clip * from * channels..][..from * channels],
            };
            vectorise!(isa, spread(of: Back<'_>, out: &mut Rectangle<'_>));
        });
    }
}

/// A row of windows.
#[derive(Clone, Copy)]
struct Line<'a> {
    pool: &'a Pool,
    input: [usize; 3],
    channels: usize,
    at: [usize; 2],
}

#[inline(always)]
fn pool_line<L: Lanes>(simd: L, line: Line<'_>, x: &[f32], out: &mut [f32]) {
    let Line {
        pool,
        input: [t, h, w],
        channels,
        at,
    } = line;
    let (of_t, of_h) = (pool.window(0, at[0], t), pool.window(1, at[1], h));
    let share = simd.splat(1.0 / pool.kernel.iter().product::<usize>() as f32);
    for (i, out) in out.chunks_exact_mut(channels).enumerate() {
        let of_w = pool.window(2, i, w);
        for (chunk, out) in out.chunks_mut(16).enumerate() {
            let mut sum = match pool.kind {
                Kind::Max => simd.splat(f32::NEG_INFINITY),
                Kind::Mean => simd.splat(0.0),
            };
            for t in of_t.clone() {
                for y in of_h.clone() {
                    for z in of_w.clone() {
                        let at = ((t * h + y) * w + z) * channels + chunk * 16;
                        let pixel = load(simd, &x[at..at + out.len()]);
                        sum = match pool.kind {
                            Kind::Max => simd.max(pixel, sum),
                            Kind::Mean => simd.add(pixel, sum),
                        };
                    }
                }
            }
            if pool.kind == Kind::Mean {
                sum = simd.mul(sum, share);
            }
            store(simd, sum, out);
        }
    }
}

/// Some channels of a volume on the way back.
#[derive(Clone, Copy)]
struct Back<'a> {
    pool: &'a Pool,
    sizes: [[usize; 3]; 2],
    channels: usize,
    first: usize,
    x: &'a [f32],
    y: &'a [f32],
    grad: &'a [f32],
}

#[inline(always)]
fn spread<L: Lanes>(simd: L, of: Back<'_>, out: &mut Rectangle<'_>) {
    let Back {
        pool,
        sizes: [[t, h, w], [to_t, to_h, to_w]],
        channels,
        first,
        ..
    } = of;
    let some = out.cols();
    for pixel in 0..out.rows() {
        out.row(pixel, 0, some).fill(0.0);
    }
    let zero = simd.splat(0.0);
    let share = simd.splat(1.0 / pool.kernel.iter().product::<usize>() as f32);
    for window in 0..to_t * to_h * to_w {
        let of_t = pool.window(0, window / (to_h * to_w), t);
        let of_h = pool.window(1, window / to_w % to_h, h);
        let of_w = pool.window(2, window % to_w, w);
        let at = window * channels + first;
        // What is still to be given away.
        let mut left = load(simd, &of.grad[at..at + some]);
        let y = load(simd, &of.y[at..at + some]);
        if pool.kind == Kind::Mean {
            left = simd.mul(left, share);
        }
        for t in of_t {
            for y_in in of_h.clone() {
                for z in of_w.clone() {
                    let pixel = (t * h + y_in) * w + z;
                    let given = match pool.kind {
                        Kind::Mean => left,
                        Kind::Max => {
                            let at = pixel * channels + first;
                            let x = load(simd, &of.x[at..at + some]);
                            let given = simd.if_below(x, y, zero, left);
                            left = simd.if_below(x, y, left, zero);
                            given
                        }
                    };
                    let out = out.row(pixel, 0, some);
                    store(simd, simd.add(load(simd, out), given), out);
                }
            }
        }
    }
}

/// At most sixteen numbers, zeros beyond them.
#[inline(always)]
fn load<L: Lanes>(simd: L, some: &[f32]) -> L::F {
    match some.first_chunk() {
        Some(all) => simd.load(all),
        None => {
            let mut all = [0.0; 16];
            all[..some.len()].copy_from_slice(some);
            simd.load(&all)
        }
    }
}

/// As many as there is room for.
#[inline(always)]
fn store<L: Lanes>(simd: L, x: L::F, out: &mut [f32]) {
    match out.first_chunk_mut() {
        Some(out) => simd.store(x, out),
        None => {
            let mut all = [0.0; 16];
            simd.store(x, &mut all);
            out.copy_from_slice(&all[..out.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, randn};

    /// Value and gradient, window by window, in f64.
    fn reference(
        pool: &Pool,
        input: [usize; 3],
        c: usize,
        x: &[f32],
        grad: &[f32],
    ) -> (Vec<f64>, Vec<f64>) {
        let [t, h, w] = pool.output(input).expect("an output");
        let mut out = Vec::new();
        let mut back = vec![0.0; x.len()];
        for window in 0..t * h * w {
            let at = [window / (h * w), window / w % h, window % w];
            for channel in 0..c {
                let mut inside = Vec::new();
                for tap in 0..pool.kernel.iter().product::<usize>() {
                    let [_, kh, kw] = pool.kernel;
                    let tap = [tap / (kh * kw), tap / kw % kh, tap % kw];
                    let place = [0, 1, 2]
                        .map(|i| (at[i] * pool.stride[i] + tap[i]).wrapping_sub(pool.padding[i]));
                    if (0..3).all(|i| place[i] < input[i]) {
                        let pixel = (place[0] * input[1] + place[1]) * input[2] + place[2];
                        inside.push(pixel * c + channel);
                    }
                }
                let given = f64::from(grad[window * c + channel]);
                match pool.kind {
                    Kind::Mean => {
                        let all = pool.kernel.iter().product::<usize>() as f64;
                        out.push(inside.iter().map(|&i| f64::from(x[i])).sum::<f64>() / all);
                        inside.iter().for_each(|&i| back[i] += given / all);
                    }
                    Kind::Max => {
                        let mut best = inside[0];
                        for &i in &inside {
                            if x[i] > x[best] {
                                best = i;
                            }
                        }
                        out.push(x[best].into());
                        back[best] += given;
                    }
                }
            }
        }
        (out, back)
    }

    #[test]
    fn pools_and_their_gradients_are_their_definition_and_ties_go_to_the_first() {
        let cases = [
            ([3; 3], [2; 3], [1; 3], [4, 7, 10], 20),
            ([1, 3, 3], [1, 2, 2], [0, 1, 1], [2, 8, 9], 64),
            ([2, 2, 3], [2, 1, 3], [1, 0, 1], [5, 6, 7], 3),
            ([2, 7, 7], [1; 3], [0; 3], [2, 7, 7], 33),
        ];
        for (kernel, stride, padding, input, c) in cases {
            for kind in [Kind::Max, Kind::Mean] {
                let pool = Pool {
                    kind,
                    kernel,
                    stride,
                    padding,
                };
                let mut x = randn(input.iter().product::<usize>() * c, 1);
                // Coarse numbers, so that many windows have several largest ones.
                x.iter_mut().for_each(|x| *x = (*x * 2.0).round());
                let windows: usize = pool.output(input).expect("an output").iter().product();
                let grad = randn(windows * c, 2);
                let (want, back) = reference(&pool, input, c, &x, &grad);
                for isa in Isa::available() {
                    let what = format!("{} {pool:?}", isa.name());
                    let mut out = vec![f32::NAN; windows * c];
                    pool.forward(isa, 1, input, c, &x, &mut out);
                    // A dozen additions.
                    compare(&out, &want, 1e-6, &what);
                    let mut dx = vec![f32::NAN; x.len()];
                    pool.backward(isa, 1, input, c, [&x, &out, &grad], &mut dx);
                    compare(&dx, &back, 1e-6, &what);
                }
            }
        }
    }

    #[test]
    fn windows_that_are_none_are_refused_in_words() {
        let fine = Pool {
            kind: Kind::Max,
            kernel: [3; 3],
            stride: [2; 3],
            padding: [1; 3],
        };
        assert_eq!(
            (fine.check(), fine.output([2, 1, 4])),
            (Ok(()), Some([1, 1, 2]))
        );
        let wide = Pool {
            padding: [1, 2, 1],
            ..fine
        };
        let reason = wide.check().expect_err("a fault");
        assert!(reason.contains("at most half"), "{reason}");
        let none = Pool {
            stride: [0; 3],
            ..fine
        };
        assert!(none.check().is_err());
    }
}
