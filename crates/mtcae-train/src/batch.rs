//! Batches: what goes through the model at once, and what should come out.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use mtcae_core::Face;
use mtcae_objective::{Class, Targets};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};

use crate::cache::FeatureCache;
use crate::data::Dataset;
use crate::view::{Frames, View, Viewer};
use crate::{Error, TrainConfig, memory::Memory, random};

/// What goes into the model.
#[derive(Clone, Debug)]
pub enum Input {
    /// Normalised tubes (B, N, C·t·p·p).
    Tubes(Tensor),
    /// Features of the encoder (B, N, D).
    Features(Tensor),
}

impl Input {
    /// The same in the type that the model is to compute in.
    pub(crate) fn in_type(&self, dtype: DType) -> Result<Self, Error> {
        Ok(match self {
            Self::Tubes(tubes) => Self::Tubes(tubes.to_dtype(dtype)?),
            Self::Features(features) => Self::Features(features.to_dtype(dtype)?),
        })
    }
}

/// Clips that go through the model at once.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What goes into the model.
    pub input: Input,
    /// What should come out.
    pub targets: Targets,
    /// The clips' places in the dataset.
    pub items: Vec<usize>,
}

/// Where clips come from. Shared by the threads that prepare batches.
pub struct Source {
    data: Arc<Dataset>,
    config: TrainConfig,
    frames: usize,
    from: From,
}

#[allow(clippy::large_enum_variant)] // There is one in a run.
enum From {
    Videos {
        viewer: Viewer,
        memory: Memory<Frames>,
    },
    Cache(Arc<FeatureCache>),
}

/// Inputs and faces of one clip: (values, face of each frame).
type Clip = (Vec<f32>, Vec<Option<Face>>);

impl Source {
    /// Clips decoded from their videos.
    pub fn videos(data: Arc<Dataset>, viewer: Viewer, frames: usize, config: &TrainConfig) -> Self {
        let memory = Memory::new(config.frame_memory << 20);
        Self {
            data,
            config: config.clone(),
            frames,
            from: From::Videos { viewer, memory },
        }
    }

    /// Features computed before.
    pub fn cached(
        data: Arc<Dataset>,
        cache: Arc<FeatureCache>,
        frames: usize,
        config: &TrainConfig,
    ) -> Self {
        Self {
            data,
            config: config.clone(),
            frames,
            from: From::Cache(cache),
        }
    }

    /// The batches of an epoch: every clip once, in an order of the epoch's own.
    /// The last one may be smaller.
    pub fn order(&self, places: &[usize], epoch: usize) -> Vec<Vec<usize>> {
        let mut order = places.to_vec();
        order.shuffle(&mut random::generator(
            "order",
            &[self.config.seed, epoch as u64],
        ));
        order
            .chunks(self.config.batch)
            .map(<[usize]>::to_vec)
            .collect()
    }

    /// A batch to train on, on the CPU.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn training(&self, items: &[usize], epoch: usize, number: usize) -> Result<Batch, Error> {
        let clips: Vec<Clip> = items
            .iter()
            .map(|&i| self.training_clip(i, epoch))
            .collect::<Result<_, _>>()?;
        let mut rng = random::generator("mix", &[self.config.seed, epoch as u64, number as u64]);
        let mut batch = self.raw(items, clips);
        if let From::Videos { viewer, .. } = &self.from {
            batch.mix(&self.config, viewer, &mut rng);
        }
        batch.tensors(items)
    }

    /// A batch as it is.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn plain(&self, items: &[usize]) -> Result<Batch, Error> {
        let clip = |&i: &usize| -> Result<Clip, Error> {
            match &self.from {
                From::Videos { viewer, .. } => {
                    let View { tubes, faces } = viewer.plain(&self.data.items[i])?;
                    Ok((tubes, faces))
                }
                From::Cache(cache) => cache.read(i, 0),
            }
        };
        let clips = items.iter().map(clip).collect::<Result<_, _>>()?;
        self.raw(items, clips).tensors(items)
    }

    fn training_clip(&self, i: usize, epoch: usize) -> Result<Clip, Error> {
        let mut rng = random::generator("view", &[self.config.seed, epoch as u64, i as u64]);
        match &self.from {
            From::Videos { viewer, memory } => {
                let item = &self.data.items[i];
                let frames = match viewer.decodes_the_same() {
                    true => memory.get(i, || viewer.decode_for_training(item, None))?,
                    false => Arc::new(viewer.decode_for_training(item, Some(&mut rng))?),
                };
                let View { tubes, faces } = viewer.augmented(&frames, &mut rng)?;
                Ok((tubes, faces))
            }
            From::Cache(cache) => match cache.views() {
                0 => cache.read(i, 0),
                views => cache.read(i, rng.random_range(1..=views)),
            },
        }
    }

    fn raw(&self, items: &[usize], clips: Vec<Clip>) -> Raw {
        let classes = self.data.classes.len();
        let (t, b) = (self.frames, clips.len());
        let mut raw = Raw {
            is_features: matches!(self.from, From::Cache(_)),
            tokens: match &self.from {
                From::Videos { viewer, .. } => viewer.tokens(),
                From::Cache(cache) => cache.tokens(),
            },
            frames: t,
            values: Vec::with_capacity(clips.iter().map(|c| c.0.len()).sum()),
            boxes: Vec::with_capacity(b * t * 4),
            landmarks: Vec::with_capacity(b * t * 10),
            valid: Vec::with_capacity(b * t),
            hot: vec![0.0; b * classes],
            classes: items
                .iter()
                .map(|&i| self.data.items[i].class as u32)
                .collect(),
            mixed: false,
        };
        for (k, (values, faces)) in clips.into_iter().enumerate() {
            raw.values.extend_from_slice(&values);
            raw.hot[k * classes + raw.classes[k] as usize] = 1.0;
            for face in faces {
                let (bbox, landmarks) = match face {
                    Some(face) => (face.face_box.corners(), face.landmarks.points()),
                    None => ([0.0; 4], [[0.0; 2]; 5]),
                };
                raw.boxes.extend(bbox);
                raw.landmarks.extend(landmarks.as_flattened());
                raw.valid.push(f32::from(u8::from(face.is_some())));
            }
        }
        raw
    }
}

/// A batch before it becomes tensors.
struct Raw {
    is_features: bool,
    tokens: usize,
    frames: usize,
    values: Vec<f32>,
    boxes: Vec<f32>,
    landmarks: Vec<f32>,
    valid: Vec<f32>,
    /// (B, C): 1 at the clip's class, or mixed.
    hot: Vec<f32>,
    classes: Vec<u32>,
    mixed: bool,
}

impl Raw {
    /// Mixup (Zhang et al., 2018, arXiv 1710.09412) or cutmix (Yun et al., 2019,
    /// arXiv 1905.04899) of each clip with the one at the batch's other end, as
    /// timm does; half of the batches each where both are on.
    fn mix(&mut self, config: &TrainConfig, viewer: &Viewer, rng: &mut ChaCha8Rng) {
        let both = config.mixup > 0.0 && config.cutmix > 0.0;
        let cut = config.cutmix > 0.0 && (!both || rng.random_bool(0.5));
        let alpha = if cut { config.cutmix } else { config.mixup };
        let Ok(beta) = Beta::new(alpha, alpha) else {
            return;
        };
        let clips = self.classes.len();
        if clips < 2 {
            return;
        }
        self.mixed = true;
        let mut keep = beta.sample(rng) as f32;
        if cut {
            let hidden = viewer.patches_of_a_cut(f64::from(keep), rng);
            keep = 1.0 - hidden.iter().filter(|h| **h).count() as f32 / hidden.len() as f32;
            let width = self.values.len() / (clips * self.tokens);
            let original = self.values.clone();
            let tokens = self.values.chunks_exact_mut(width).enumerate();
            for (place, token) in tokens {
                let (clip, n) = (place / self.tokens, place % self.tokens);
                if hidden[n % hidden.len()] {
                    let from = ((clips - 1 - clip) * self.tokens + n) * width;
                    token.copy_from_slice(&original[from..from + width]);
                }
            }
            // Part of another face may stand anywhere: no box is right.
            self.valid.fill(0.0);
        } else {
            blend_with_reversed(&mut self.values, clips, keep);
            blend_with_reversed(&mut self.boxes, clips, keep);
            blend_with_reversed(&mut self.landmarks, clips, keep);
            let valid = self.valid.clone();
            let others = valid.chunks_exact(self.frames).rev().flatten();
            for (a, b) in self.valid.iter_mut().zip(others) {
                *a *= b;
            }
        }
        blend_with_reversed(&mut self.hot, clips, keep);
    }

    fn tensors(self, items: &[usize]) -> Result<Batch, Error> {
        let (cpu, b, t) = (&Device::Cpu, self.classes.len(), self.frames);
        let width = self.values.len() / (b * self.tokens);
        let values = Tensor::from_vec(self.values, (b, self.tokens, width), cpu)?;
        let classes = self.hot.len() / b;
        Ok(Batch {
            input: match self.is_features {
                true => Input::Features(values),
                false => Input::Tubes(values),
            },
            targets: Targets {
                boxes: Tensor::from_vec(self.boxes, (b, t, 4), cpu)?,
                landmarks: Tensor::from_vec(self.landmarks, (b, t, 5, 2), cpu)?,
                valid: Tensor::from_vec(self.valid, (b, t), cpu)?,
                class: match self.mixed {
                    true => Class::Soft(Tensor::from_vec(self.hot, (b, classes), cpu)?),
                    false => Class::Index(Tensor::from_vec(self.classes, b, cpu)?),
                },
            },
            items: items.to_vec(),
        })
    }
}

impl Batch {
    /// The batch on another device.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn to_device(&self, device: &Device) -> Result<Self, Error> {
        let class = match &self.targets.class {
            Class::Index(t) => Class::Index(t.to_device(device)?),
            Class::Soft(t) => Class::Soft(t.to_device(device)?),
        };
        Ok(Self {
            input: match &self.input {
                Input::Tubes(t) => Input::Tubes(t.to_device(device)?),
                Input::Features(t) => Input::Features(t.to_device(device)?),
            },
            targets: Targets {
                boxes: self.targets.boxes.to_device(device)?,
                landmarks: self.targets.landmarks.to_device(device)?,
                valid: self.targets.valid.to_device(device)?,
                class,
            },
            items: self.items.clone(),
        })
    }
}

/// Row k ← keep · row k + (1 − keep) · row (rows − 1 − k).
fn blend_with_reversed(values: &mut [f32], rows: usize, keep: f32) {
    let width = values.len() / rows;
    for k in 0..rows / 2 {
        let (head, tail) = values.split_at_mut((rows - 1 - k) * width);
        let (a, b) = (&mut head[k * width..(k + 1) * width], &mut tail[..width]);
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = (keep * *a + (1.0 - keep) * *b, keep * *b + (1.0 - keep) * *a);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_mixed_with_those_at_the_other_end() {
        let mut values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        blend_with_reversed(&mut values, 3, 0.75);
        assert_eq!(values, [2.0, 3.0, 3.0, 4.0, 4.0, 5.0]);
    }
}
