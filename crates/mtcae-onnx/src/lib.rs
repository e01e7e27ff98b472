//! MTCAE-DFER as ONNX: what ONNX Runtime and others compute without a line of ours.
//!
//! ```no_run
//! use mtcae_model::Checkpoint;
//! use mtcae_onnx::{Onnx, Options, Part};
//!
//! let checkpoint = Checkpoint::open("my-model")?;
//! let encoder = Options {
//!     part: Part::Encoder,
//!     ..Options::default()
//! };
//! Onnx::new(&checkpoint, encoder)?.write("encoder.onnx")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The graph is built from the checkpoint's config, layer by layer as the model's own code
//! has it, a file for each family of encoders: nothing is traced or run. Weights are read,
//! and written, a tensor at a time. Inputs, outputs and what else the file says stand in
//! `docs/onnx.md`.
//!
//! Operator set 17 is the first with LayerNormalization and what runtimes of 2022 read.

mod decoder;
mod embedding;
mod error;
mod graph;
mod layers;
mod lgi_former;
mod proto;
#[cfg(test)]
mod tests;
mod tpsbt;
mod videomae;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use mtcae_decoder::Config as DecoderConfig;
use mtcae_encoder::Config as EncoderConfig;
use mtcae_model::{Checkpoint, Config};
use mtcae_nn::weights::Source;
use serde::de::DeserializeOwned;

pub use error::Error;

use graph::{Data, Graph, Initializer, Value};
use proto::{
    GraphProto, IR_VERSION, ModelProto, OPSET, OperatorSetIdProto, StringStringEntryProto,
};

/// What of a model is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Clips to boxes, landmarks, action units, logits and probabilities.
    #[default]
    Whole,
    /// Clips to features.
    Encoder,
    /// Features to what the whole model gives.
    Decoder,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Whole, Self::Encoder, Self::Decoder];

    /// Its name on command lines and in files: `whole`, `encoder` or `decoder`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is of no [`Part`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not one of {names}", names = Part::ALL.map(Part::name).join(", "))]
pub struct UnknownPart(String);

impl FromStr for Part {
    type Err = UnknownPart;

    fn from_str(name: &str) -> Result<Self, UnknownPart> {
        let found = Self::ALL.into_iter().find(|part| part.name() == name);
        found.ok_or_else(|| UnknownPart(name.to_owned()))
    }
}

/// How a model is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What of it.
    pub part: Part,
    /// Whether `features` and each stage's `Y{t}`, as traces name it, are outputs too.
    pub intermediates: bool,
    /// Whether weights lie in a file of their own beside the model, as they must from 2 GiB
    /// on, where they do in any case.
    pub external: bool,
}

/// A model, or a part of it, ready to be written.
pub struct Onnx<'a> {
    weights: &'a dyn Source,
    model: ModelProto,
    graph: GraphProto,
    /// With the shapes they are written in.
    initializers: Vec<(Initializer, Vec<usize>)>,
    external: bool,
}

impl<'a> Onnx<'a> {
    /// The graph of a checkpoint. No weight is read yet.
    ///
    /// # Errors
    /// [`Error::Family`] for an encoder of another crate's family, where it is a part of
    /// what is asked for; [`Error::NoDecoder`] for the decoder of the single-task structure, [`Error::Structure`] for
    /// one that is none of the six.
    pub fn new(checkpoint: &'a Checkpoint, options: Options) -> Result<Self, Error> {
        let config = checkpoint.config();
        let graph = build(config, options)?;
        let (graph, initializers) = graph.finish(options.part.name());
        let shapes: BTreeMap<String, Vec<usize>> = config.tensors()?.into_iter().collect();
        let initializers = initializers.into_iter().map(|initializer| {
            let of_tensor = || shapes.get(&initializer.name).cloned().unwrap_or_default();
            let shape = match &initializer.data {
                Data::Tensor => of_tensor(),
                Data::Transposed => of_tensor().into_iter().rev().collect(),
                Data::Floats { shape, .. } => shape.clone(),
                Data::Ints(values) => vec![values.len()],
            };
            (initializer, shape)
        });
        let mut onnx = Self {
            weights: checkpoint.weights(),
            model: model(config, options.part)?,
            graph,
            initializers: initializers.collect(),
            external: options.external,
        };
        onnx.external |= !onnx.fits();
        Ok(onnx)
    }

    /// Names of the inputs.
    pub fn inputs(&self) -> Vec<&str> {
        let inputs = self.graph.input.iter();
        inputs.filter_map(|port| port.name.as_deref()).collect()
    }

    /// Names of the outputs, in order.
    pub fn outputs(&self) -> Vec<&str> {
        let outputs = self.graph.output.iter();
        outputs.filter_map(|port| port.name.as_deref()).collect()
    }

    /// The files that [`Self::write`] writes for a model of this name: itself and, where
    /// weights lie apart, the same with `.data` after it.
    pub fn files(&self, path: impl AsRef<Path>) -> Vec<PathBuf> {
        let path = path.as_ref();
        let mut files = vec![path.to_owned()];
        if self.external {
            files.push(write::data_of(path));
        }
        files
    }
}

fn build(config: &Config, options: Options) -> Result<Graph, Error> {
    let DecoderConfig { structure, .. } = config.decoder;
    let mut g = Graph::new(options.intermediates);
    let (input, output) = (config.encoder.input(), config.encoder.output());
    let features = vec![output.tokens, output.width];
    if options.part != Part::Encoder && !structure.has_stages() {
        return Err(Error::Structure { structure });
    }
    if options.part == Part::Decoder {
        if structure.kind().is_none() {
            return Err(Error::NoDecoder { structure });
        }
        let f = g.input("features", features);
        decoder::decoder(&mut g, config, f);
        return Ok(g);
    }
    let clip = vec![input.frames, input.channels, input.size, input.size];
    let clip = g.input("clip", clip);
    let f = encoder(&mut g, &config.encoder, clip)?;
    if options.part == Part::Encoder {
        g.output("features", f, features);
        return Ok(g);
    }
    g.intermediate("features", f, features);
    decoder::decoder(&mut g, config, f);
    Ok(g)
}

/// Clips → F, by the family's own file.
fn encoder(g: &mut Graph, config: &EncoderConfig, clips: Value) -> Result<Value, Error> {
    fn read<T: DeserializeOwned>(config: &EncoderConfig) -> Result<T, Error> {
        Ok(serde_json::from_value(config.fields()?)?)
    }
    match config.family() {
        "videomae" => videomae::encoder(g, &read(config)?, clips),
        "lgi-former" => lgi_former::encoder(g, &read(config)?, clips),
        "tpsbt" => tpsbt::encoder(g, &read(config)?, clips),
        family => Err(Error::Family {
            family: family.to_owned(),
        }),
    }
}

/// The message around the graph: what wrote it, and what it is.
fn model(config: &Config, part: Part) -> Result<ModelProto, Error> {
    let pixels = &config.preprocessing;
    let mut properties = vec![
        ("part", part.name().to_owned()),
        ("classes", serde_json::to_string(&config.classes)?),
        ("mean", serde_json::to_string(&pixels.mean)?),
        ("std", serde_json::to_string(&pixels.std)?),
        ("config", serde_json::to_string(config)?),
    ];
    if !config.action_units.is_empty() {
        let units = serde_json::to_string(&config.action_units)?;
        properties.push(("action_units", units));
    }
    if let Some(trained_on) = &config.trained_on {
        properties.push(("trained_on", trained_on.clone()));
    }
    let properties = properties.into_iter();
    Ok(ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: Some("mtcae".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        doc_string: Some(DESCRIPTION.to_owned()),
        graph: None,
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(OPSET),
        }],
        metadata_props: properties
            .map(|(key, value)| StringStringEntryProto::new(key, value))
            .collect(),
    })
}

/// What a person reads who opens the file.
const DESCRIPTION: &str = "Facial expressions of video. clip: (batch, frames, RGB, height, width), \
    (level/255 - mean)/std with mean and std of the metadata. boxes: x1, y1, x2, y2; landmarks: x, y \
    of left eye, right eye, nose, left and right corner of the mouth (left is the viewer's), all as \
    fractions of the clip's frame. logits are raw, probabilities calibrated; classes in the metadata.";
