//! The whole model for inference on the CPU.

use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Tensor};
use mtcae_decoder::InferencePlan as DecoderPlan;
use mtcae_encoder::InferencePlan as EncoderPlan;
use mtcae_nn::VarBuilder;
use mtcae_nn::plan::{Arena, Precision, format};

use crate::{Config, Error, Mtcae, Outputs};

/// What [`Mtcae`] computes, from weights packed once for this CPU and in memory
/// that is used again: a forward allocates nothing that grows with the model.
/// It can be shared between threads; each forward under way has memory of its own.
#[derive(Debug)]
pub struct InferencePlan {
    config: Config,
    precision: Precision,
    encoder: EncoderPlan,
    decoder: DecoderPlan,
    /// Memory of forwards that are done, for the next ones.
    free: Mutex<Vec<Memory>>,
}

/// What one forward works in.
#[derive(Debug, Default)]
struct Memory {
    features: Vec<f32>,
    arena: Arena,
}

impl InferencePlan {
    /// Packs the tensors below `vb`, those of [`Mtcae::new`], a block at a time.
    ///
    /// # Errors
    /// Names the field of the config or the tensor at fault, or
    /// [`Error::Precision`] where the CPU lacks what the precision needs.
    pub fn new(config: &Config, precision: Precision, vb: VarBuilder<'_>) -> Result<Self, Error> {
        config.validate()?;
        let format = format(precision)?;
        Ok(Self {
            encoder: EncoderPlan::new(&config.encoder, format, vb.pp("encoder"))?,
            decoder: DecoderPlan::new(&config.decoder, format, vb.pp("decoder"))?,
            config: config.clone(),
            precision,
            free: Mutex::default(),
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What its products multiply.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Normalised tubes (B, N, C·t·h·w) → head outputs, one clip after the other.
    ///
    /// # Errors
    /// When the tubes have another shape or type than the model takes.
    pub fn forward_tubes(&self, tubes: &Tensor) -> Result<Outputs, Error> {
        let c = &self.config.encoder;
        if tubes.rank() != 3 || tubes.dims()[1..] != [c.tokens(), c.tube_len()] {
            return Err(self.refuse(tubes.dims()));
        }
        let tubes = tubes.contiguous()?;
        let (storage, layout) = tubes.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            return Err(candle_core::Error::Msg("a plan computes on the CPU".to_owned()).into());
        };
        let from = layout.start_offset();
        let tubes = &storage.as_slice::<f32>()?[from..from + tubes.elem_count()];
        self.forward_slice(tubes)
    }

    /// As [`Self::forward_tubes`], from the tubes of whole clips in a slice.
    ///
    /// # Errors
    /// When they are no whole clips, or none.
    pub fn forward_slice(&self, tubes: &[f32]) -> Result<Outputs, Error> {
        let c = &self.config.encoder;
        let clip = c.tokens() * c.tube_len();
        if tubes.is_empty() || !tubes.len().is_multiple_of(clip) {
            return Err(self.refuse(&[tubes.len()]));
        }
        let mut memory = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default();
        memory.features.resize(c.tokens() * c.width, 0.0);
        let mut heads: Vec<Vec<f32>> = Vec::new();
        for tubes in tubes.chunks(clip) {
            let Memory { features, arena } = &mut memory;
            self.encoder.forward(tubes, arena, features)?;
            let mut task = 0;
            self.decoder.run(features, arena, |_, head| {
                match heads.get_mut(task) {
                    Some(all) => all.extend(head),
                    None => heads.push(head),
                }
                task += 1;
            })?;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(memory);
        drop(free);
        let clips = tubes.len() / clip;
        let tasks = self.config.decoder.active_tasks();
        let heads = tasks.iter().zip(heads).map(|(task, values)| {
            let tensor = Tensor::from_vec(values, (clips, task.outputs), &Device::Cpu)?;
            Ok((task.name.as_str(), tensor))
        });
        let heads: Vec<(&str, Tensor)> = heads.collect::<Result<_, candle_core::Error>>()?;
        let head = |task: &str| heads.iter().find(|(name, _)| *name == task).map(|(_, t)| t);
        Outputs::new(c.frames, clips, head)
    }

    /// What is said of tubes of another shape.
    fn refuse(&self, found: &[usize]) -> Error {
        let c = &self.config.encoder;
        Error::Input {
            expected: format!("tubes (B, {}, {}), B at least 1", c.tokens(), c.tube_len()),
            found: found.to_vec(),
        }
    }
}

impl Mtcae {
    /// This model for inference on the CPU.
    ///
    /// # Errors
    /// [`Error::Precision`] where the CPU lacks what the precision needs.
    pub fn plan(&self, precision: Precision) -> Result<InferencePlan, Error> {
        let format = format(precision)?;
        Ok(InferencePlan {
            config: self.config().clone(),
            precision,
            encoder: self.encoder().plan(format)?,
            decoder: self.decoder().plan(format)?,
            free: Mutex::default(),
        })
    }
}
