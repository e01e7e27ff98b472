//! What computes: packed weights on the CPU, the model on Candle elsewhere.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Storage, Tensor};
use mtcae_decoder::{InferencePlan, MultiTaskDecoder};
use mtcae_encoder::{Below, Encoder, EncoderPlan};
use mtcae_nn::plan::{Arena, Precision, format, give_back};
use mtcae_nn::weights::{Source, load_strict, load_strict_as};
use mtcae_nn::{Pass, VarBuilder};

use crate::{Config, Error, Mtcae, Outputs};

/// A model for inference on one device: what [`Mtcae`] computes, as fast as the device
/// can.
///
/// On the CPU weights are packed once, and forwards take memory that was used before: one
/// of a packed encoder and decoder allocates nothing that grows with the model. An engine
/// can be shared between threads; each forward under way has memory of its own.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    device: Device,
    precision: Precision,
    /// None where features are decoded that were made before.
    encoder: Option<Encoding>,
    /// None where features are all that is asked for.
    decoder: Option<Decoding>,
    /// Memory of forwards that are done, for the next ones.
    free: Mutex<Vec<Memory>>,
}

/// How an encoder is computed.
#[derive(Clone, Debug)]
enum Encoding {
    Plan(Arc<dyn EncoderPlan>),
    Model(Arc<dyn Encoder>),
}

/// How a decoder is computed.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // There is one in an engine.
enum Decoding {
    Plan(InferencePlan),
    Model(Arc<MultiTaskDecoder>),
}

/// What one forward works in.
#[derive(Debug, Default)]
struct Memory {
    features: Vec<f32>,
    arena: Arena,
}

impl Engine {
    /// Packs the tensors below `vb`, those of [`Mtcae::new`], for the CPU, a block at a
    /// time.
    ///
    /// # Errors
    /// Names the field of the config or the tensor at fault, or what the CPU lacks for
    /// the precision.
    pub fn pack(config: &Config, precision: Precision, vb: VarBuilder<'_>) -> Result<Self, Error> {
        config.validate()?;
        let cpu = &Device::Cpu;
        let encoder = built(config, cpu, precision, vb.pp("encoder"))?;
        let (decoder, vb) = (&config.decoder, vb.pp("decoder"));
        let decoder = match decoder.structure.has_stages() {
            true => Decoding::Plan(InferencePlan::new(decoder, format(precision)?, vb)?),
            false => {
                unpacked_decoder(config, precision)?;
                Decoding::Model(Arc::new(MultiTaskDecoder::new(decoder, vb)?))
            }
        };
        let decoder = Some(decoder);
        Self::new(config, cpu, precision, Some(encoder), decoder)
    }

    /// Loads a model: on the CPU packed as it is read, so that the weights are held once;
    /// elsewhere rounded to the precision, but for those of norms.
    pub(crate) fn load(
        config: &Config,
        weights: &dyn Source,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        if device.is_cpu() {
            // Before minutes of reading.
            format(precision)?;
            let engine = load_strict(weights, device, |vb| Self::pack(config, precision, vb));
            give_back();
            return engine;
        }
        precision.prepare(device)?;
        let build = |vb: VarBuilder<'_>| Mtcae::new(config, vb);
        let model = load_strict_as(weights, device, precision.dtype(), build)?;
        Self::of(&model, device, precision)
    }

    /// Loads the encoder of a model alone, as [`Self::load`] does.
    pub(crate) fn load_encoder(
        config: &Config,
        weights: &dyn Source,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        let weights = Below::new(weights, "encoder.");
        // Packing rounds on the CPU, whose tensors are of f32.
        let dtype = match device.is_cpu() {
            true => DType::F32,
            false => precision.dtype(),
        };
        load_strict_as(&weights, device, dtype, |vb| {
            let encoder = built(config, device, precision, vb)?;
            Self::new(config, device, precision, Some(encoder), None)
        })
    }

    /// A model as it is now: packed on the CPU, elsewhere with its parameters as they are,
    /// whose products are of the precision. A model without its encoder gives an engine
    /// without one.
    ///
    /// # Errors
    /// Names what the device lacks for the precision.
    pub fn of(model: &Mtcae, device: &Device, precision: Precision) -> Result<Self, Error> {
        let encoder = match model.encoder() {
            Some(encoder) => Some(encoding(encoder, device, precision)?),
            None => None,
        };
        Self::new(
            model.config(),
            device,
            precision,
            encoder,
            Some(decoding(model, device, precision)?),
        )
    }

    /// The model on Candle as it is, of `f32`, on the CPU too: slower there, but its named
    /// intermediates can be recorded.
    pub fn on_candle(model: &Mtcae, device: &Device) -> Self {
        Self {
            config: model.config().clone(),
            device: device.clone(),
            precision: Precision::F32,
            encoder: model.encoder().cloned().map(Encoding::Model),
            decoder: Some(Decoding::Model(model.decoder().clone())),
            free: Mutex::default(),
        }
    }

    /// This engine's encoder before the decoder of another model.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn with_decoder_of(&self, model: &Mtcae) -> Result<Self, Error> {
        Self::new(
            model.config(),
            &self.device,
            self.precision,
            self.encoder.clone(),
            Some(decoding(model, &self.device, self.precision)?),
        )
    }

    fn new(
        config: &Config,
        device: &Device,
        precision: Precision,
        encoder: Option<Encoding>,
        decoder: Option<Decoding>,
    ) -> Result<Self, Error> {
        if !device.is_cpu() {
            precision.prepare(device)?;
        }
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            precision,
            encoder,
            decoder,
            free: Mutex::default(),
        })
    }

    /// The model's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What its products multiply.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Normalised input (B, …), as the encoder's [`Input`](mtcae_encoder::Input) says →
    /// head outputs. Packed weights give no intermediates to record: see
    /// [`Self::on_candle`].
    ///
    /// # Errors
    /// When the input has another shape or type than the model takes.
    pub fn run(&self, input: &Tensor, pass: &mut Pass) -> Result<Outputs, Error> {
        match (&self.encoder, &self.decoder) {
            (Some(Encoding::Plan(_)), Some(Decoding::Plan(_))) => {
                self.config.encoder.input().check(input)?;
                on_slice(input, |clips| self.run_slice(clips))
            }
            _ => self.decode(&self.encode(input, pass)?, pass),
        }
    }

    /// As [`Self::run`], from the numbers of whole clips. On the CPU nothing is copied.
    ///
    /// # Errors
    /// When they are not whole clips, or none.
    pub fn run_slice(&self, clips: &[f32]) -> Result<Outputs, Error> {
        let input = self.config.encoder.input();
        let clip = input.numbers();
        if clips.is_empty() || !clips.len().is_multiple_of(clip) {
            return Err(Error::Input {
                expected: format!("whole clips of {clip} numbers, at least one"),
                found: vec![clips.len()],
            });
        }
        let batch = clips.len() / clip;
        let (Some(Encoding::Plan(encoder)), Some(Decoding::Plan(decoder))) =
            (&self.encoder, &self.decoder)
        else {
            let shape = [&[batch], &input.shape()[..]].concat();
            let input = Tensor::from_slice(clips, shape, &self.device)?;
            return self.run(&input, &mut Pass::inference());
        };
        self.in_memory(|memory| {
            let Memory { features, arena } = memory;
            features.resize(self.config.encoder.output().numbers(), 0.0);
            let mut heads = Heads::default();
            for clip in clips.chunks(clip) {
                encoder.forward(clip, arena, features)?;
                heads.add(decoder, features, arena)?;
            }
            heads.outputs(&self.config, batch)
        })
    }

    /// The first half of [`Self::run`]: input → F (B, N, D).
    ///
    /// # Errors
    /// When the input has another shape or type than the model takes, or this engine has
    /// no encoder.
    pub fn encode(&self, input: &Tensor, pass: &mut Pass) -> Result<Tensor, Error> {
        let encoder = match &self.encoder {
            None => return Err(Error::NoEncoder),
            Some(Encoding::Model(encoder)) => {
                let input = input.to_dtype(self.precision.dtype())?;
                return Ok(encoder.run(&input, pass)?);
            }
            Some(Encoding::Plan(plan)) => plan,
        };
        let of = &self.config.encoder;
        of.input().check(input)?;
        let (clip, output) = (of.input().numbers(), of.output());
        let features = self.in_memory(|memory| {
            on_slice(input, |clips| {
                let mut features = vec![0.0; clips.len() / clip * output.numbers()];
                let into = features.chunks_mut(output.numbers());
                for (clip, into) in clips.chunks(clip).zip(into) {
                    encoder.forward(clip, &mut memory.arena, into)?;
                }
                Ok(features)
            })
        })?;
        let shape = (input.dim(0)?, output.tokens, output.width);
        Ok(Tensor::from_vec(features, shape, &self.device)?)
    }

    /// The second half of [`Self::run`]: global features F (B, N, D) → head outputs.
    ///
    /// # Errors
    /// When F has another shape or type than the decoder takes.
    pub fn decode(&self, f: &Tensor, pass: &mut Pass) -> Result<Outputs, Error> {
        let width = self.config.decoder.features;
        if !matches!(f.dims(), [b, n, d] if *b > 0 && *n > 0 && *d == width) {
            return Err(Error::Input {
                expected: format!("features (B, N, {width})"),
                found: f.dims().to_vec(),
            });
        }
        let decoder = match &self.decoder {
            None => return Err(Error::NoDecoder),
            Some(Decoding::Model(decoder)) => {
                let f = f.to_dtype(self.precision.dtype())?;
                let outputs = decoder.run(&f, pass)?;
                return Outputs::new(&self.config, f.dim(0)?, |task| outputs.head(task));
            }
            Some(Decoding::Plan(plan)) => plan,
        };
        let (batch, tokens, _) = f.dims3()?;
        self.in_memory(|memory| {
            on_slice(f, |features| {
                let mut heads = Heads::default();
                for features in features.chunks(tokens * width) {
                    heads.add(decoder, features, &mut memory.arena)?;
                }
                heads.outputs(&self.config, batch)
            })
        })
    }

    /// Lends memory of a forward that is done, or new.
    fn in_memory<R>(&self, work: impl FnOnce(&mut Memory) -> Result<R, Error>) -> Result<R, Error> {
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = free().pop();
        let mut memory = lent.unwrap_or_default();
        let result = work(&mut memory);
        free().push(memory);
        result
    }
}

/// The encoder of the tensors below `vb`.
fn built(
    config: &Config,
    device: &Device,
    precision: Precision,
    vb: VarBuilder<'_>,
) -> Result<Encoding, Error> {
    let encoder = &config.encoder;
    if device.is_cpu() {
        if let Some(plan) = encoder.plan(format(precision)?, vb.clone())? {
            return Ok(Encoding::Plan(plan));
        }
        unpacked(encoder.family(), precision)?;
    }
    Ok(Encoding::Model(encoder.build(vb)?))
}

fn encoding(
    encoder: &Arc<dyn Encoder>,
    device: &Device,
    precision: Precision,
) -> Result<Encoding, Error> {
    if device.is_cpu() {
        if let Some(plan) = encoder.plan(format(precision)?)? {
            return Ok(Encoding::Plan(plan));
        }
        unpacked(encoder.config().family(), precision)?;
    }
    Ok(Encoding::Model(encoder.clone()))
}

/// Candle's operations on the CPU take `f32` alone.
fn unpacked(family: &'static str, precision: Precision) -> Result<(), Error> {
    match precision {
        Precision::F32 => Ok(()),
        precision => Err(Error::NoPlan { family, precision }),
    }
}

fn decoding(model: &Mtcae, device: &Device, precision: Precision) -> Result<Decoding, Error> {
    let has_stages = model.config().decoder.structure.has_stages();
    Ok(match device.is_cpu() {
        true if has_stages => Decoding::Plan(model.decoder().plan(format(precision)?)?),
        true => {
            unpacked_decoder(model.config(), precision)?;
            Decoding::Model(model.decoder().clone())
        }
        false => Decoding::Model(model.decoder().clone()),
    })
}

/// As [`unpacked`], of a decoder that is no list of stages.
fn unpacked_decoder(config: &Config, precision: Precision) -> Result<(), Error> {
    let structure = config.decoder.structure;
    match precision {
        Precision::F32 => Ok(()),
        precision => Err(Error::NoDecoderPlan {
            structure,
            precision,
        }),
    }
}

/// Head outputs of one clip after the other.
#[derive(Default)]
struct Heads(Vec<Vec<f32>>);

impl Heads {
    fn add(&mut self, decoder: &InferencePlan, f: &[f32], arena: &mut Arena) -> Result<(), Error> {
        let mut task = 0;
        decoder.run(f, arena, |_, head| {
            match self.0.get_mut(task) {
                Some(all) => all.extend(head),
                None => self.0.push(head),
            }
            task += 1;
        })?;
        Ok(())
    }

    fn outputs(self, config: &Config, batch: usize) -> Result<Outputs, Error> {
        let tasks = config.decoder.active_tasks();
        let heads = tasks.iter().zip(self.0).map(|(task, values)| {
            let tensor = Tensor::from_vec(values, (batch, task.outputs), &Device::Cpu)?;
            Ok((task.name.as_str(), tensor))
        });
        let heads: Vec<(&str, Tensor)> = heads.collect::<Result<_, candle_core::Error>>()?;
        let head = |task: &str| heads.iter().find(|(name, _)| *name == task).map(|(_, t)| t);
        Outputs::new(config, batch, head)
    }
}

/// Gives the numbers of a tensor of `f32` on the CPU to `read`.
fn on_slice<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> Result<R, Error>) -> Result<R, Error> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(candle_core::Error::Msg("packed weights compute on the CPU".to_owned()).into());
    };
    let from = layout.start_offset();
    read(&storage.as_slice::<f32>()?[from..from + tensor.elem_count()])
}
