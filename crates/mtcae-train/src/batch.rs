//! Batches: what goes through the model at once, and what should come out.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use mtcae_core::{Face, Sampling};
use mtcae_model::encoder::Layout;
use mtcae_model::{Config as ModelConfig, Engine};
use mtcae_objective::{Class, Targets, UnitTargets};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};

use crate::cache::FeatureCache;
use crate::data::{Dataset, Item};
use crate::form::Prepared;
use crate::learner::ordered;
use crate::memory::Memory;
use crate::view::{Frames, Viewer};
use crate::{Error, TrainConfig, random};

/// What goes into the model.
#[derive(Clone, Debug)]
pub enum Input {
    /// Normalised clips (B, …), as the encoder takes them.
    Clips(Tensor),
    /// Features of the encoder (B, N, D).
    Features(Tensor),
}

/// Clips that go through the model at once, on their device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What goes into the model.
    pub input: Input,
    /// What should come out.
    pub targets: Targets,
    /// Numbers of the classes, where the clips are not mixed.
    pub classes: Option<Vec<u32>>,
    /// Whether a frame has a face to learn from.
    pub has_faces: bool,
    /// Whether of a frame the model's action units are known.
    pub has_units: bool,
    /// The clips' places in the dataset: one a row.
    pub items: Vec<usize>,
}

impl Batch {
    /// The same in parts of at most so many rows.
    ///
    /// # Errors
    /// When the device has no room.
    pub(crate) fn parts(self, most: usize) -> Result<Vec<Self>, Error> {
        let (rows, most) = (self.items.len(), most.max(1));
        if rows <= most {
            return Ok(vec![self]);
        }
        let part = |from: usize| {
            let count = most.min(rows - from);
            let of = |t: &Tensor| t.narrow(0, from, count);
            Ok(Self {
                input: match &self.input {
                    Input::Clips(t) => Input::Clips(of(t)?),
                    Input::Features(t) => Input::Features(of(t)?),
                },
                targets: Targets {
                    boxes: of(&self.targets.boxes)?,
                    landmarks: of(&self.targets.landmarks)?,
                    valid: of(&self.targets.valid)?,
                    action_units: match &self.targets.action_units {
                        Some(UnitTargets { strengths, known }) => Some(UnitTargets {
                            strengths: of(strengths)?,
                            known: of(known)?,
                        }),
                        None => None,
                    },
                    class: match &self.targets.class {
                        Class::Index(t) => Class::Index(of(t)?),
                        Class::Soft(t) => Class::Soft(of(t)?),
                    },
                },
                classes: self
                    .classes
                    .as_ref()
                    .map(|c| c[from..from + count].to_vec()),
                has_faces: self.has_faces,
                has_units: self.has_units,
                items: self.items[from..from + count].to_vec(),
            })
        };
        (0..rows).step_by(most).map(part).collect()
    }
}

/// A batch as the threads that prepare it hand it on: on the host, and where it goes to a
/// GPU in 8 bits.
pub struct Loaded {
    values: Values,
    targets: Targets,
    classes: Option<Vec<u32>>,
    has_faces: bool,
    has_units: bool,
    items: Vec<usize>,
    /// How clips are mixed that are not yet numbers.
    mix: Option<Mix>,
}

enum Values {
    Clips(Prepared),
    Features(Tensor),
}

/// Where clips come from. Shared by the threads that prepare batches.
pub struct Source {
    pub(crate) data: Arc<Dataset>,
    pub(crate) loading: Loading,
    frames: usize,
    /// Names of the model's action units.
    units: Vec<String>,
    seed: u64,
    mixup: f64,
    cutmix: f64,
    device: Device,
    dtype: DType,
    from: From,
}

/// How batches are fetched: by default 8 clips, decoded by one thread, two batches ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading {
    /// Clips of a batch.
    pub batch: usize,
    /// Threads that decode.
    pub workers: usize,
    /// Batches that may wait for the model.
    pub queue: usize,
}

impl Default for Loading {
    fn default() -> Self {
        Self {
            batch: 8,
            workers: 1,
            queue: 2,
        }
    }
}

#[allow(clippy::large_enum_variant)] // There is one in a run.
enum From {
    Videos { viewer: Viewer, memory: Memory },
    Cache(Arc<FeatureCache>),
}

impl Source {
    /// Clips decoded from their videos, to train on.
    ///
    /// # Errors
    /// When the config asks for a mixture that the encoder's input does not allow, or the
    /// model takes several views of a clip.
    pub fn videos(
        data: &Arc<Dataset>,
        model: &ModelConfig,
        config: &TrainConfig,
        device: &Device,
    ) -> Result<Self, Error> {
        if config.cutmix > 0.0 && model.encoder.input().layout == Layout::Frames {
            return Err(Error::Config {
                field: "cutmix",
                reason: "puts whole tubes of one clip into another, and this encoder takes \
                         frames; set it to 0"
                    .to_owned(),
            });
        }
        let viewer = Viewer::to_train(model, config)?;
        let memory = Memory::new(config.frame_memory << 20);
        let from = From::Videos { viewer, memory };
        Ok(Self::new(data, model, config, from, device))
    }

    /// Features computed before, to train on.
    pub fn cached(
        data: &Arc<Dataset>,
        cache: &Arc<FeatureCache>,
        model: &ModelConfig,
        config: &TrainConfig,
        device: &Device,
    ) -> Self {
        Self::new(data, model, config, From::Cache(cache.clone()), device)
    }

    fn new(
        data: &Arc<Dataset>,
        model: &ModelConfig,
        config: &TrainConfig,
        from: From,
        device: &Device,
    ) -> Self {
        Self {
            data: data.clone(),
            loading: Loading {
                batch: config.batch,
                workers: config.workers,
                queue: config.queue,
            },
            frames: model.encoder.input().frames,
            units: model.action_units.clone(),
            seed: config.seed,
            mixup: config.mixup,
            cutmix: config.cutmix,
            device: device.clone(),
            dtype: config.precision.dtype(),
            from,
        }
    }

    /// Clips as they are, decoded from their videos, to measure a model by: in all views
    /// that it takes of them.
    pub fn to_test(data: &Arc<Dataset>, engine: &Engine, loading: Loading) -> Self {
        let sampling = engine.config().preprocessing.sampling;
        Self::to_test_on(data, engine, loading, sampling)
    }

    /// As [`Self::to_test`], on other frames than those that the model says.
    pub fn to_test_on(
        data: &Arc<Dataset>,
        engine: &Engine,
        loading: Loading,
        sampling: Sampling,
    ) -> Self {
        let mut model = engine.config().clone();
        model.preprocessing.sampling = sampling;
        Self {
            data: data.clone(),
            loading,
            frames: model.encoder.input().frames,
            units: model.action_units.clone(),
            seed: 0,
            mixup: 0.0,
            cutmix: 0.0,
            device: engine.device().clone(),
            dtype: engine.precision().dtype(),
            from: From::Videos {
                viewer: Viewer::to_test(&model),
                memory: Memory::new(0),
            },
        }
    }

    /// The batches of an epoch: every clip once, in an order of the epoch's own.
    /// The last one may be smaller.
    pub fn order(&self, places: &[usize], epoch: usize) -> Vec<Vec<usize>> {
        ordered(places, self.seed, epoch, self.loading.batch)
    }

    /// A batch to train on.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn training(&self, items: &[usize], epoch: usize, number: usize) -> Result<Loaded, Error> {
        let mut rng = random::generator("mix", &[self.seed, epoch as u64, number as u64]);
        match &self.from {
            From::Videos { viewer, memory } => {
                let clips = items.iter().map(|&i| {
                    let mut rng = self.of_a_view(i, epoch);
                    let item = &self.data.items[i];
                    let frames = match viewer.decodes_the_same() {
                        true => memory.get(i, || viewer.decode_for_training(item, None))?,
                        false => Arc::new(viewer.decode_for_training(item, Some(&mut rng))?),
                    };
                    viewer.augmented(&frames, &mut rng)
                });
                let clips = clips.collect::<Result<_, _>>()?;
                self.load_clips(viewer, items, clips, Some(&mut rng))
            }
            From::Cache(cache) => {
                let view = |i: usize| match cache.views() {
                    0 => 0,
                    views => self.of_a_view(i, epoch).random_range(1..=views),
                };
                self.load_features(cache, items, view)
            }
        }
    }

    /// The most rows that a clip takes in a batch as it is.
    pub(crate) fn most_views(&self) -> usize {
        match &self.from {
            From::Videos { viewer, .. } => viewer.most_views(),
            From::Cache(_) => 1,
        }
    }

    /// A batch as it is: a row a view, those of a clip one after the other.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn plain(&self, items: &[usize]) -> Result<Loaded, Error> {
        match &self.from {
            From::Videos { viewer, .. } => {
                let (mut rows, mut clips) = (Vec::new(), Vec::new());
                for &i in items {
                    let views = viewer.views(&self.data.items[i])?;
                    rows.extend(views.iter().map(|_| i));
                    clips.extend(views);
                }
                self.load_clips(viewer, &rows, clips, None)
            }
            From::Cache(cache) => self.load_features(cache, items, |_| 0),
        }
    }

    fn of_a_view(&self, item: usize, epoch: usize) -> ChaCha8Rng {
        random::generator("view", &[self.seed, epoch as u64, item as u64])
    }

    fn load_features(
        &self,
        cache: &FeatureCache,
        items: &[usize],
        view: impl Fn(usize) -> usize,
    ) -> Result<Loaded, Error> {
        let (mut values, mut labels) = (Vec::new(), self.labels(items));
        for &i in items {
            let (features, faces) = cache.read(i, view(i))?;
            values.extend_from_slice(&features);
            let numbers = faces.iter().map(|_| None);
            labels.add_units(&self.data.items[i], &self.units, numbers);
            labels.add(&faces);
        }
        let width = values.len() / (items.len() * cache.tokens());
        let features =
            Tensor::from_vec(values, (items.len(), cache.tokens(), width), &Device::Cpu)?;
        labels.loaded(items, Values::Features(features), None)
    }

    /// Decoded clips, mixed with each other where there is an `rng`.
    fn load_clips(
        &self,
        viewer: &Viewer,
        items: &[usize],
        clips: Vec<Frames>,
        rng: Option<&mut ChaCha8Rng>,
    ) -> Result<Loaded, Error> {
        let mut labels = self.labels(items);
        for (&i, view) in items.iter().zip(&clips) {
            labels.add(&view.faces);
            let numbers = view.numbers.iter().copied().map(Some);
            labels.add_units(&self.data.items[i], &self.units, numbers);
        }
        let mix = rng.and_then(|rng| Mix::draw(self, viewer, items.len(), rng));
        if let Some(mix) = &mix {
            labels.mix(mix);
        }
        let mut clips = viewer.form().prepared(clips, &self.device)?;
        if let (Prepared::Input(input), Some(mix)) = (&mut clips, &mix) {
            *input = mix.of(input)?;
        }
        labels.loaded(items, Values::Clips(clips), mix)
    }

    fn labels(&self, items: &[usize]) -> Labels {
        let classes = self.data.classes.len();
        let numbers: Vec<u32> = items
            .iter()
            .map(|&i| self.data.items[i].class as u32)
            .collect();
        let mut hot = vec![0.0; items.len() * classes];
        for (row, class) in hot.chunks_mut(classes.max(1)).zip(&numbers) {
            row[*class as usize] = 1.0;
        }
        Labels {
            frames: self.frames,
            boxes: Vec::new(),
            landmarks: Vec::new(),
            valid: Vec::new(),
            strengths: Vec::new(),
            known: Vec::new(),
            hot,
            classes: Some(numbers),
        }
    }

    /// A loaded batch on the device.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn on_device(&self, loaded: Loaded) -> Result<Batch, Error> {
        let device = &self.device;
        let input = match (loaded.values, &self.from) {
            (Values::Clips(clips), From::Videos { viewer, .. }) => {
                // What was numbers before it went to the device was mixed there. In f32, as
                // the labels are.
                let mix = loaded.mix.filter(|_| matches!(clips, Prepared::Levels(..)));
                let input = viewer.form().on_device(clips, device)?;
                let input = match mix {
                    Some(mix) => mix.of(&input)?,
                    None => input,
                };
                Input::Clips(input.to_dtype(self.dtype)?)
            }
            (Values::Features(t), _) => Input::Features(t.to_device(device)?.to_dtype(self.dtype)?),
            (Values::Clips(_), From::Cache(_)) => {
                return Err(candle_core::Error::Msg("a cache holds no pixels".to_owned()).into());
            }
        };
        let targets = loaded.targets;
        let class = match targets.class {
            Class::Index(t) => Class::Index(t.to_device(device)?),
            Class::Soft(t) => Class::Soft(t.to_device(device)?),
        };
        Ok(Batch {
            input,
            targets: Targets {
                boxes: targets.boxes.to_device(device)?,
                landmarks: targets.landmarks.to_device(device)?,
                valid: targets.valid.to_device(device)?,
                action_units: match targets.action_units {
                    Some(UnitTargets { strengths, known }) => Some(UnitTargets {
                        strengths: strengths.to_device(device)?,
                        known: known.to_device(device)?,
                    }),
                    None => None,
                },
                class,
            },
            classes: loaded.classes,
            has_faces: loaded.has_faces,
            has_units: loaded.has_units,
            items: loaded.items,
        })
    }
}

/// What should come out of a batch, before it becomes tensors.
struct Labels {
    frames: usize,
    boxes: Vec<f32>,
    landmarks: Vec<f32>,
    valid: Vec<f32>,
    /// (B, T, U): strengths of action units.
    strengths: Vec<f32>,
    /// (B, T): whether they are known.
    known: Vec<f32>,
    /// (B, C): 1 at the clip's class, or mixed.
    hot: Vec<f32>,
    /// None once they are mixed.
    classes: Option<Vec<u32>>,
}

impl Labels {
    /// Adds the faces of the next clip.
    fn add(&mut self, faces: &[Option<Face>]) {
        for face in faces {
            let (bbox, landmarks) = match face {
                Some(face) => (face.face_box.corners(), face.landmarks.points()),
                None => ([0.0; 4], [[0.0; 2]; 5]),
            };
            self.boxes.extend(bbox);
            self.landmarks.extend(landmarks.as_flattened());
            self.valid.push(f32::from(u8::from(face.is_some())));
        }
    }

    /// Adds the action units of the next clip's frames, where a model has a task for any; of
    /// frames without a number they are not known.
    fn add_units(
        &mut self,
        item: &Item,
        names: &[String],
        numbers: impl Iterator<Item = Option<u64>>,
    ) {
        for number in numbers.filter(|_| !names.is_empty()) {
            let units = item.action_units.as_ref();
            let at = units.zip(number).and_then(|(units, n)| units.at(names, n));
            self.known.push(f32::from(u8::from(at.is_some())));
            match at {
                Some(at) => self.strengths.extend(at),
                None => self.strengths.extend(names.iter().map(|_| 0.0)),
            }
        }
    }

    fn mix(&mut self, mix: &Mix) {
        let clips = self.valid.len() / self.frames;
        match &mix.hidden {
            // Part of another face may stand anywhere: no box is right.
            Some(_) => {
                self.valid.fill(0.0);
                self.known.fill(0.0);
            }
            None => {
                blend_with_reversed(&mut self.boxes, clips, mix.keep);
                blend_with_reversed(&mut self.landmarks, clips, mix.keep);
                blend_with_reversed(&mut self.strengths, clips, mix.keep);
                for marks in [&mut self.valid, &mut self.known] {
                    let own = marks.clone();
                    let others = own.chunks_exact(self.frames).rev().flatten();
                    for (a, b) in marks.iter_mut().zip(others) {
                        *a *= b;
                    }
                }
            }
        }
        blend_with_reversed(&mut self.hot, clips, mix.keep);
        self.classes = None;
    }

    fn loaded(self, items: &[usize], values: Values, mix: Option<Mix>) -> Result<Loaded, Error> {
        let (cpu, b, t) = (&Device::Cpu, items.len(), self.frames);
        let has_faces = self.valid.iter().any(|v| *v > 0.0);
        let has_units = self.known.iter().any(|known| *known > 0.0);
        // Where none are known, a loss of 0: their head has a gradient in every batch.
        let action_units = match self.known.is_empty() {
            true => None,
            false => {
                let units = self.strengths.len() / (b * t);
                Some(UnitTargets {
                    strengths: Tensor::from_vec(self.strengths, (b, t, units), cpu)?,
                    known: Tensor::from_vec(self.known, (b, t), cpu)?,
                })
            }
        };
        Ok(Loaded {
            targets: Targets {
                boxes: Tensor::from_vec(self.boxes, (b, t, 4), cpu)?,
                landmarks: Tensor::from_vec(self.landmarks, (b, t, 5, 2), cpu)?,
                valid: Tensor::from_vec(self.valid, (b, t), cpu)?,
                action_units,
                class: match &self.classes {
                    Some(classes) => Class::Index(Tensor::from_slice(classes, b, cpu)?),
                    None => {
                        let classes = self.hot.len() / b;
                        Class::Soft(Tensor::from_vec(self.hot, (b, classes), cpu)?)
                    }
                },
            },
            values,
            classes: self.classes,
            has_faces,
            has_units,
            items: items.to_vec(),
            mix,
        })
    }
}

/// Mixup (Zhang et al., 2018, arXiv 1710.09412) or cutmix (Yun et al., 2019,
/// arXiv 1905.04899) of each clip with the one at the batch's other end, as timm does.
struct Mix {
    /// The share that a clip keeps of itself.
    keep: f32,
    /// For cutmix: which tubes of a frame, row by row, belong to the other clip.
    hidden: Option<Vec<bool>>,
}

impl Mix {
    /// Draws one; half of the batches each where both are on.
    fn draw(source: &Source, viewer: &Viewer, clips: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let both = source.mixup > 0.0 && source.cutmix > 0.0;
        let cut = source.cutmix > 0.0 && (!both || rng.random_bool(0.5));
        let alpha = if cut { source.cutmix } else { source.mixup };
        let beta = Beta::new(alpha, alpha).ok()?;
        if clips < 2 {
            return None;
        }
        let keep = beta.sample(rng) as f32;
        if !cut {
            return Some(Self { keep, hidden: None });
        }
        let hidden = viewer.patches_of_a_cut(f64::from(keep), rng);
        Some(Self {
            keep: 1.0 - hidden.iter().filter(|h| **h).count() as f32 / hidden.len() as f32,
            hidden: Some(hidden),
        })
    }

    /// Clips (B, …), mixed.
    fn of(&self, clips: &Tensor) -> Result<Tensor, Error> {
        let others = clips.flip(&[0])?;
        let Some(hidden) = &self.hidden else {
            let keep = f64::from(self.keep);
            return Ok(((clips * keep)? + (others * f64::from(1.0 - self.keep))?)?);
        };
        let (_, tokens, _) = clips.dims3()?;
        let mask = (0..tokens).map(|n| u8::from(hidden[n % hidden.len()]));
        let mask = Tensor::from_iter(mask, clips.device())?.reshape((1, tokens, 1))?;
        Ok(mask
            .broadcast_as(clips.shape())?
            .where_cond(&others, clips)?)
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
