//! The stages of a structure, built and computed one after the other.

use std::sync::Arc;

use candle_core::{Module, Result as CandleResult, Tensor};
use mtcae_nn::weights::{asked_for, recorded};
use mtcae_nn::{LayerNorm, Pass, VarBuilder};

use crate::head::Head;
use crate::layout::Layout;
use crate::stage::Decoder;
use crate::whole::{Whole, system};
use crate::{Config, Error, Input, KvOrder, Stage};

/// Decoders and heads of all tasks over the features of one encoder.
///
/// Its tensors are `stages.{task}.…`, `shared.…` (structures 4 and 5),
/// `input_norm.…` (order norm-dense) and `heads.{task}.…`; those of
/// [`Structure::COMPARED`](crate::Structure::COMPARED) stand in `docs/decoders.md`.
#[derive(Clone, Debug)]
pub struct MultiTaskDecoder {
    config: Config,
    input_norm: Option<LayerNorm>,
    /// None where the decoder is no list of stages.
    stages: Vec<Built>,
    /// The decoder, where it is none.
    whole: Option<(Layout, Arc<dyn Whole>)>,
    /// All tensors by name, in memory that the layers share.
    tensors: Vec<(String, Tensor)>,
}

/// A stage with its layers.
#[derive(Clone, Debug)]
struct Built {
    stage: Stage,
    decoder: Option<Decoder>,
    head: Option<Head>,
}

/// What the decoder gives for a batch.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Task names, in the order of the other fields.
    pub tasks: Vec<String>,
    /// Local features Y_t (B, N, w) of each task; F itself in the single-task
    /// structure. In others than the six what their heads read, of fewer rows where it is
    /// one a slice.
    pub features: Vec<Tensor>,
    /// Head outputs (B, outputs) of each task.
    pub heads: Vec<Tensor>,
}

impl Outputs {
    /// The head output (B, outputs) of a task.
    pub fn head(&self, task: &str) -> Option<&Tensor> {
        let place = self.tasks.iter().position(|name| name == task)?;
        self.heads.get(place)
    }
}

impl Config {
    /// Names and shapes of all tensors, as [`MultiTaskDecoder::new`] asks for them.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field at fault.
    pub fn tensors(&self) -> Result<Vec<(String, Vec<usize>)>, Error> {
        asked_for(|vb| MultiTaskDecoder::new(self, vb))
    }
}

impl MultiTaskDecoder {
    /// Builds the structure from the tensors below `vb`.
    ///
    /// # Errors
    /// [`Error::Config`] names the field at fault; [`Error::Candle`] a tensor that
    /// is missing or has another shape.
    pub fn new(cfg: &Config, vb: VarBuilder<'_>) -> Result<Self, Error> {
        cfg.validate()?;
        let (vb, record) = recorded(&vb);
        let whole = match system(cfg.structure) {
            Some(system) => {
                let layout = Layout::of(cfg)?;
                Some((layout, (system.build)(cfg, &layout, vb.clone())?))
            }
            None => None,
        };
        let stages = cfg.stages().into_iter().map(|stage| {
            let (decoder, head) = parts(cfg, &stage, &vb)?;
            Ok(Built {
                stage,
                decoder,
                head,
            })
        });
        Ok(Self {
            config: cfg.clone(),
            stages: stages.collect::<CandleResult<_>>()?,
            input_norm: input_norm(cfg, &vb)?,
            whole,
            tensors: record.take(),
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// All tensors by name, as they are now.
    pub fn tensors(&self) -> &[(String, Tensor)] {
        &self.tensors
    }

    /// Each stage with its decoder and head.
    pub(crate) fn stages(&self) -> impl Iterator<Item = (&Stage, Option<&Decoder>, Option<&Head>)> {
        let stages = self.stages.iter();
        stages.map(|s| (&s.stage, s.decoder.as_ref(), s.head.as_ref()))
    }

    pub(crate) fn input_norm(&self) -> Option<&LayerNorm> {
        self.input_norm.as_ref()
    }

    /// Local features and head outputs of F (B, N, D), for inference.
    ///
    /// # Errors
    /// [`Error::Features`] when F has another shape.
    pub fn forward(&self, f: &Tensor) -> Result<Outputs, Error> {
        self.run(f, &mut Pass::inference())
    }

    /// As [`Self::forward`], in the mode of `pass`. Recorded intermediates are
    /// `X{t}`, `Y{t}.layers.{l}`, `Y{t}` with t from 1 in the order of the tasks
    /// (0 is the shared decoder), and `head.{task}`.
    ///
    /// # Errors
    /// [`Error::Features`] when F has another shape, [`Error::Tokens`] where the tokens are
    /// not those of the config's grid.
    pub fn run(&self, f: &Tensor, pass: &mut Pass) -> Result<Outputs, Error> {
        match f.dims() {
            [b, n, d] if *d == self.config.features && *b > 0 && *n > 0 => {}
            found => {
                return Err(Error::Features {
                    width: self.config.features,
                    found: found.to_vec(),
                });
            }
        }
        if let Some((layout, decoder)) = &self.whole {
            let (want, found) = (layout.tokens(), f.dim(1)?);
            if want != found {
                let grid = [layout.slices, layout.height, layout.width];
                return Err(Error::Tokens { grid, want, found });
            }
            return Ok(decoder.run(f, pass)?);
        }
        let f = match &self.input_norm {
            Some(norm) => norm.forward(f)?,
            None => f.clone(),
        };
        let mut outputs = Outputs::default();
        let mut ys: Vec<Tensor> = Vec::with_capacity(self.stages.len());
        for built in &self.stages {
            let stage = &built.stage;
            let before = match stage.input {
                Input::Features => None,
                Input::Stage(place) => ys.get(place),
            };
            let y = match &built.decoder {
                Some(decoder) => decoder.forward(before, &f, stage.number, pass)?,
                None => f.clone(),
            };
            if let (Some(head), Some(t)) = (&built.head, stage.task) {
                let name = &self.config.tasks[t].name;
                let output = head.forward(&y)?;
                pass.record(|| format!("head.{name}"), &output);
                outputs.tasks.push(name.clone());
                outputs.features.push(y.clone());
                outputs.heads.push(output);
            }
            ys.push(y);
        }
        Ok(outputs)
    }
}

/// Decoder and head of a stage, from the tensors below `vb`.
pub(crate) fn parts(
    cfg: &Config,
    stage: &Stage,
    vb: &VarBuilder<'_>,
) -> CandleResult<(Option<Decoder>, Option<Head>)> {
    let decoder = match stage.decoder {
        Some(kind) => Some(Decoder::new(cfg, stage, kind, vb.pp(&stage.name))?),
        None => None,
    };
    let head = match stage.task {
        Some(t) => {
            let task = &cfg.tasks[t];
            Some(Head::new(cfg, stage, task, vb.pp("heads").pp(&task.name))?)
        }
        None => None,
    };
    Ok((decoder, head))
}

/// The norm of F that all tasks share, in the order norm-dense.
pub(crate) fn input_norm(cfg: &Config, vb: &VarBuilder<'_>) -> CandleResult<Option<LayerNorm>> {
    Ok(match cfg.kv_order {
        KvOrder::DenseNorm => None,
        KvOrder::NormDense => Some(LayerNorm::new(cfg.features, cfg.eps, vb.pp("input_norm"))?),
    })
}
