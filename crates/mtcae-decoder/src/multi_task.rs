//! The six structures behind one type.

use candle_core::{Module, Result as CandleResult, Tensor};
use mtcae_nn::weights::recorded;
use mtcae_nn::{LayerNorm, Pass, VarBuilder};

use crate::{Config, Error, Head, KvOrder, MlpDecoder, Structure, VitDecoder};

/// Decoders and heads of all tasks over the features of one encoder.
///
/// Its tensors are `stages.{task}.…`, `shared.…` (structures 4 and 5),
/// `input_norm.…` (order norm-dense) and `heads.{task}.…`.
#[derive(Clone, Debug)]
pub struct MultiTaskDecoder {
    config: Config,
    input_norm: Option<LayerNorm>,
    decoders: Decoders,
    heads: Vec<Head>,
    /// All tensors by name, in memory that the layers share.
    tensors: Vec<(String, Tensor)>,
}

/// What stands between F and the heads.
#[derive(Clone, Debug)]
pub(crate) enum Decoders {
    None,
    SeparateMlp(Vec<MlpDecoder>),
    SeparateVit(Vec<VitDecoder>),
    SharedMlp(MlpDecoder, Vec<MlpDecoder>),
    SharedVit(VitDecoder, Vec<VitDecoder>),
    Cascade(Vec<VitDecoder>),
}

/// What the decoder gives for a batch.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Task names, in the order of the other fields.
    pub tasks: Vec<String>,
    /// Local features Y_t (B, N, w) of each task; F itself in the single-task
    /// structure.
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

impl MultiTaskDecoder {
    /// Builds the structure from the tensors below `vb`.
    ///
    /// # Errors
    /// [`Error::Config`] names the field at fault; [`Error::Candle`] a tensor that
    /// is missing or has another shape.
    pub fn new(cfg: &Config, vb: VarBuilder<'_>) -> Result<Self, Error> {
        cfg.validate()?;
        let (vb, record) = recorded(&vb);
        let stages = vb.pp("stages");
        let vit = || -> CandleResult<Vec<VitDecoder>> {
            cfg.tasks
                .iter()
                .map(|task| VitDecoder::new(cfg, stages.pp(&task.name)))
                .collect()
        };
        let mlp = |new: fn(&Config, VarBuilder<'_>) -> CandleResult<MlpDecoder>| -> CandleResult<Vec<MlpDecoder>> {
            cfg.tasks.iter().map(|task| new(cfg, stages.pp(&task.name))).collect()
        };
        let decoders = match cfg.structure {
            Structure::SingleTask => Decoders::None,
            Structure::SeparateMlp => Decoders::SeparateMlp(mlp(MlpDecoder::of_features)?),
            Structure::SeparateVit => Decoders::SeparateVit(vit()?),
            Structure::SharedMlp => {
                let shared = MlpDecoder::of_features(cfg, vb.pp("shared"))?;
                Decoders::SharedMlp(shared, mlp(MlpDecoder::of_local)?)
            }
            Structure::SharedVit => {
                Decoders::SharedVit(VitDecoder::new(cfg, vb.pp("shared"))?, vit()?)
            }
            Structure::Cascade => Decoders::Cascade(vit()?),
        };
        let head = match cfg.structure {
            Structure::SingleTask => Head::of_features,
            _ => Head::new,
        };
        let heads = vb.pp("heads");
        Ok(Self {
            config: cfg.clone(),
            input_norm: input_norm(cfg, &vb)?,
            decoders,
            heads: cfg
                .active_tasks()
                .iter()
                .map(|task| head(cfg, task.outputs, heads.pp(&task.name)))
                .collect::<CandleResult<_>>()?,
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

    pub(crate) fn decoders(&self) -> &Decoders {
        &self.decoders
    }

    pub(crate) fn heads(&self) -> &[Head] {
        &self.heads
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
    /// [`Error::Features`] when F has another shape.
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
        let f = match &self.input_norm {
            Some(norm) => norm.forward(f)?,
            None => f.clone(),
        };
        let features = self.decoders.forward(&f, pass)?;
        let tasks: Vec<String> = self
            .config
            .active_tasks()
            .iter()
            .map(|task| task.name.clone())
            .collect();
        let mut heads = Vec::with_capacity(tasks.len());
        for ((name, head), y) in tasks.iter().zip(&self.heads).zip(&features) {
            let output = head.forward(y)?;
            pass.record(|| format!("head.{name}"), &output);
            heads.push(output);
        }
        Ok(Outputs {
            tasks,
            features,
            heads,
        })
    }
}

/// The norm of F that all tasks share, in the order norm-dense.
pub(crate) fn input_norm(cfg: &Config, vb: &VarBuilder<'_>) -> CandleResult<Option<LayerNorm>> {
    Ok(match cfg.kv_order {
        KvOrder::DenseNorm => None,
        KvOrder::NormDense => Some(LayerNorm::new(cfg.features, cfg.eps, vb.pp("input_norm"))?),
    })
}

impl Decoders {
    /// F (B, N, D) → what each head reads.
    fn forward(&self, f: &Tensor, pass: &mut Pass) -> CandleResult<Vec<Tensor>> {
        match self {
            Self::None => Ok(vec![f.clone()]),
            Self::SeparateMlp(tasks) => each(tasks, |t, task| task.forward(f, t, pass)),
            Self::SeparateVit(tasks) => each(tasks, |t, task| task.forward(None, f, t, pass)),
            Self::SharedMlp(shared, tasks) => {
                let y = shared.forward(f, 0, pass)?;
                each(tasks, |t, task| task.forward(&y, t, pass))
            }
            Self::SharedVit(shared, tasks) => {
                let y = shared.forward(None, f, 0, pass)?;
                each(tasks, |t, task| task.forward(Some(&y), f, t, pass))
            }
            Self::Cascade(stages) => {
                let mut y: Option<Tensor> = None;
                each(stages, |t, stage| {
                    let next = stage.forward(y.as_ref(), f, t, pass)?;
                    y = Some(next.clone());
                    Ok(next)
                })
            }
        }
    }
}

/// `run(t, item)` for each item, t counting from 1.
fn each<T>(
    items: &[T],
    mut run: impl FnMut(usize, &T) -> CandleResult<Tensor>,
) -> CandleResult<Vec<Tensor>> {
    items
        .iter()
        .enumerate()
        .map(|(i, item)| run(i + 1, item))
        .collect()
}
