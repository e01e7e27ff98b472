//! The sizes that encoders over tubes share, and their checks.

use crate::error::Error;
use crate::seam::{Input, Layout};

/// What an encoder over tubes is made of, whatever its blocks do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub image_size: usize,
    pub frames: usize,
    pub channels: usize,
    pub patch: usize,
    pub tubelet: usize,
    pub width: usize,
    pub depth: usize,
    pub heads: usize,
    pub hidden: usize,
    pub eps: f64,
    pub drop_path: f64,
}

/// Numbers in the largest tensor of a model or of a forward of one clip: a gigabyte of
/// them, thirty times ViT-H's.
pub(crate) const MOST_NUMBERS: u64 = 1 << 28;

/// More blocks than any model has.
pub(crate) const MOST_BLOCKS: usize = 1 << 10;

impl Sizes {
    pub fn input(&self) -> Input {
        Input {
            frames: self.frames,
            size: self.image_size,
            channels: self.channels,
            layout: Layout::Tubes {
                tubelet: self.tubelet,
                patch: self.patch,
            },
        }
    }

    /// The grid (t, h, w) of the tubes.
    pub fn grid(&self) -> [usize; 3] {
        let side = self.image_size / self.patch;
        [self.frames / self.tubelet, side, side]
    }

    /// Tubes N of a clip.
    pub fn tokens(&self) -> usize {
        self.grid().iter().product()
    }

    /// Values C·t·p·p of one tube.
    pub fn tube_len(&self) -> usize {
        self.channels * self.tubelet * self.patch * self.patch
    }

    /// Numbers that blocks of these sizes take at their peak, over `rows` tokens: in the MLP,
    /// x, its norm, the hidden layer before and after GELU, the result; or in attention, x,
    /// its norm, q, k and v, what attention gives, its projection.
    pub fn activations(&self, rows: usize) -> usize {
        let widest = (3 * self.width + 2 * self.hidden).max(7 * self.width);
        rows * widest.max(self.tube_len())
    }

    /// The drop path rate of block `i`: it grows linearly from 0 at the first, as
    /// `torch.linspace(0, drop_path, depth)`.
    pub fn drop_path(&self, i: usize) -> f64 {
        let step = self.drop_path / self.depth.saturating_sub(1).max(1) as f64;
        step * i as f64
    }

    /// Checks that the values, which come from `origin`, make an encoder, before memory
    /// for any of it is had.
    pub fn check(&self, origin: &str) -> Result<(), Error> {
        let fail = |field: &str, reason: String| Err(fault(origin, field, reason));
        // Far above any model, low enough that no product of five overflows.
        let sizes = [
            ("image_size", self.image_size, 1 << 14),
            ("frames", self.frames, 1 << 14),
            ("channels", self.channels, 1 << 8),
            ("patch", self.patch, 1 << 10),
            ("tubelet", self.tubelet, 1 << 10),
            ("width", self.width, 1 << 16),
            ("depth", self.depth, MOST_BLOCKS),
            ("heads", self.heads, 1 << 10),
            ("hidden", self.hidden, 1 << 18),
        ];
        for (field, value, most) in sizes {
            if value == 0 || value > most {
                return fail(field, format!("{value} is not within 1 to {most}"));
            }
        }
        self.check_products(fail)?;
        if !self.image_size.is_multiple_of(self.patch) {
            let reason = format!(
                "{} is not a multiple of the patch size {}",
                self.image_size, self.patch
            );
            return fail("image_size", reason);
        }
        if !self.frames.is_multiple_of(self.tubelet) {
            let reason = format!(
                "{} is not a multiple of the tubelet size {}",
                self.frames, self.tubelet
            );
            return fail("frames", reason);
        }
        if !self.width.is_multiple_of(self.heads) {
            let reason = format!(
                "{} heads do not divide the width {}",
                self.heads, self.width
            );
            return fail("heads", reason);
        }
        // As it is used: in `f32`.
        if !(self.eps as f32 > 0.0 && self.eps < 1.0) {
            return fail(
                "eps",
                format!("{:e} is not an f32 between 0 and 1", self.eps),
            );
        }
        if !(0.0..1.0).contains(&self.drop_path) {
            return fail("drop_path", format!("{} is not in [0, 1)", self.drop_path));
        }
        Ok(())
    }

    /// Checks what the values that are within their bounds make together.
    fn check_products(
        &self,
        fail: impl Fn(&str, String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let product = |factors: &[usize]| factors.iter().map(|&n| n as u64).product::<u64>();
        let tokens = product(&self.grid());
        let made = [
            (
                "image_size",
                "a clip has",
                product(&[self.frames, self.channels, self.image_size, self.image_size]),
            ),
            (
                "width",
                "the tokens of a clip have",
                tokens * self.width as u64,
            ),
            ("hidden", "a hidden layer has", tokens * self.hidden as u64),
            (
                "hidden",
                "a weight has",
                product(&[self.width, self.hidden]),
            ),
            (
                "width",
                "a weight has",
                product(&[3, self.width, self.width]),
            ),
            (
                "patch",
                "a weight has",
                product(&[self.width, self.tube_len()]),
            ),
        ];
        for (field, what, numbers) in made {
            if numbers > MOST_NUMBERS {
                let reason = format!("{what} {numbers} numbers, more than {MOST_NUMBERS}");
                return fail(field, reason);
            }
        }
        Ok(())
    }
}

/// A field of a config that does not fit.
pub(crate) fn fault(origin: &str, field: &str, reason: String) -> Error {
    Error::Field {
        origin: origin.to_owned(),
        field: field.to_owned(),
        reason,
    }
}
