//! The form in which an encoder takes clips: normalised, and cut as it wants them.

use candle_core::{DType, Device, Tensor};
use mtcae_model::encoder::Input;
use mtcae_nn::ops::tubes_of_levels;
use mtcae_video::{Normalization, TubeShape, tubes_into};

use crate::Error;
use crate::erase::{Erased, erased};
use crate::view::Frames;

/// What an encoder takes, and how its pixels are normalised.
#[derive(Clone, Debug)]
pub struct Form {
    pub input: Input,
    pub normalization: Normalization,
}

/// Clips as the threads that prepare them hand them on: on the host, and where they go to a GPU
/// in 8 bits.
pub enum Prepared {
    /// Levels of whole clips, and what is erased of each.
    Levels(Vec<u8>, Vec<Option<Erased>>),
    /// Normalised input (B, …).
    Input(Tensor),
}

impl Form {
    /// Clips on their way to a device.
    ///
    /// # Errors
    /// As [`Self::input`].
    pub fn prepared(&self, clips: Vec<Frames>, device: &Device) -> Result<Prepared, Error> {
        if device.is_cpu() {
            return Ok(Prepared::Input(self.input(&clips)?));
        }
        let mut bytes = Vec::with_capacity(clips.iter().map(|clip| clip.pixels.len()).sum());
        for clip in &clips {
            let levels = clip.pixels.as_standard_layout();
            bytes.extend_from_slice(levels.as_slice().unwrap_or_default());
        }
        let erased = clips.into_iter().map(|clip| clip.erased).collect();
        Ok(Prepared::Levels(bytes, erased))
    }

    /// Normalised input (B, …) on the device, `f32`.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn on_device(&self, clips: Prepared, device: &Device) -> Result<Tensor, Error> {
        match clips {
            Prepared::Levels(levels, erased) => self.upload(levels, &erased, device),
            Prepared::Input(input) => Ok(input.to_device(device)?),
        }
    }

    /// Normalised input (B, …) of clips, as the encoder takes it, on the CPU.
    ///
    /// # Errors
    /// When a clip has another size than the encoder takes.
    pub fn input(&self, clips: &[Frames]) -> Result<Tensor, Error> {
        let (tubelet, patch) = self.input.tube();
        let shape = TubeShape { tubelet, patch };
        let mut values = vec![0.0; clips.len() * self.input.numbers()];
        let each = values.chunks_exact_mut(self.input.numbers());
        for (clip, out) in clips.iter().zip(each) {
            let frames = clip.pixels.view();
            tubes_into(frames, &self.normalization, shape, out).map_err(|e| Error::Config {
                field: "encoder",
                reason: e.to_string(),
            })?;
            if let Some(erased) = &clip.erased {
                erased.fill(&self.input, out);
            }
        }
        let shape = [&[clips.len()], &self.input.shape()[..]].concat();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// The same of levels, which go to a GPU in 8 bits and become tubes of `f32` there.
    fn upload(
        &self,
        levels: Vec<u8>,
        rectangles: &[Option<Erased>],
        device: &Device,
    ) -> Result<Tensor, Error> {
        let size = [self.input.frames, self.input.size, self.input.size, 3];
        let shape = [
            &[levels.len() / self.input.numbers()],
            &self.input.shape()[..],
        ]
        .concat();
        let (table, tube) = (self.normalization.table(), self.input.tube());
        let tubes = tubes_of_levels(levels, size, &table, tube, DType::F32, device)?;
        Ok(erased(&tubes.reshape(shape)?, &self.input, rectangles)?)
    }
}
