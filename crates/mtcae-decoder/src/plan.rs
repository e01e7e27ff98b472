//! The decoder for inference on the CPU: weights packed once, memory used again.

use candle_core::Result as CandleResult;
use mtcae_nn::plan::{
    Arena, CrossAttention, Format, Mlp, Norm, Packed, Workspace, pack, project, project_normed,
};
use mtcae_nn::{CrossAttention as CandleAttention, LayerNorm, Linear, Pool, VarBuilder, on_pool};

use crate::head::{self, Head};
use crate::multi_task::{input_norm, parts};
use crate::stage::Decoder;
use crate::{Config, Error, Input, MultiTaskDecoder, Stage};

/// Decoders and heads of all tasks, packed for one [`Format`]: what
/// [`MultiTaskDecoder`] computes for one clip after the other, without a tensor in
/// between.
///
/// The Dense layers of all stages are one product of F, and keys and values of all
/// layers of a stage one product of its X.
///
/// ```
/// use mtcae_decoder::candle_core::Device;
/// use mtcae_decoder::nn::ParamStore;
/// use mtcae_decoder::nn::plan::{Arena, Precision, format};
/// use mtcae_decoder::{Config, InferencePlan, Task};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config {
///     depth: 1,
///     ..Config::cascade(96, vec![Task::new("age", 1), Task::new("mood", 5)])
/// };
/// let store = ParamStore::new(0);
/// let format = format(Precision::F32)?;
/// let plan = InferencePlan::new(&config, format, store.builder(&Device::Cpu))?;
/// let features = vec![0.5; 10 * 96]; // (N, D), of any encoder
/// let heads = plan.forward(&features, &mut Arena::default())?;
/// assert_eq!((heads[0].len(), heads[1].len()), (1, 5));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InferencePlan {
    config: Config,
    format: Format,
    input_norm: Option<Norm>,
    /// The Dense layers, side by side; none in the single-task structure.
    dense: Option<Packed>,
    stages: Vec<PackedStage>,
    /// How many stages' Y are kept for others than the next.
    kept: usize,
}

/// One decoder and its head.
#[derive(Debug)]
struct PackedStage {
    begin: Begin,
    /// Where its Y is kept, for other stages than the next.
    keep: Option<usize>,
    /// What its layers attend to; none in MLP decoders.
    context: Option<Context>,
    layers: Vec<Layer>,
    /// None where only stages read its Y.
    head: Option<HeadPlan>,
}

/// What Y is before the first layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// There is none: the head reads F.
    Nothing,
    /// Columns of Dense(F): the place among the Dense layers.
    Dense(usize),
    /// Y as the stage before left it.
    Previous,
    /// Y as a stage left it that was kept: the place among these.
    Kept(usize),
}

/// X and the keys and values made of it.
#[derive(Debug)]
struct Context {
    /// The place among the Dense layers.
    dense: usize,
    norm: Option<Norm>,
    /// k and v (H·d each) of each distinct layer, side by side.
    kv: Packed,
}

#[derive(Debug)]
struct Layer {
    attention: Option<(Norm, CrossAttention)>,
    norm2: Norm,
    mlp: Mlp,
}

#[derive(Debug)]
struct HeadPlan {
    norm: HeadNorm,
    pool: Pool,
    /// W (outputs, w), row by row: a product of one row needs no packing.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// As the model's.
#[derive(Debug)]
enum HeadNorm {
    None,
    Tokens(Norm),
    Pooled(Norm),
}

/// Collects the Dense layers of the stages, which are packed as one.
struct Builder<'a> {
    config: &'a Config,
    format: Format,
    dense: Vec<Linear>,
    stages: Vec<PackedStage>,
    /// Stages whose Y is read by others than the next, by their place.
    kept: Vec<usize>,
}

impl InferencePlan {
    /// Packs the tensors below `vb` a decoder at a time, so that no more than one
    /// is held unpacked. They are those of [`MultiTaskDecoder::new`].
    ///
    /// # Errors
    /// As [`MultiTaskDecoder::new`], and [`Error::NoPlan`] of a structure without stages.
    pub fn new(config: &Config, format: Format, vb: VarBuilder<'_>) -> Result<Self, Error> {
        config.validate()?;
        has_plan(config)?;
        let mut builder = Builder::new(config, format);
        for stage in config.stages() {
            let (decoder, head) = parts(config, &stage, &vb)?;
            builder.stage(&stage, decoder.as_ref(), head.as_ref())?;
        }
        builder.build(input_norm(config, &vb)?.as_ref())
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Head outputs of the features F (N, D) of one clip, in the order of
    /// [`Config::active_tasks`].
    ///
    /// # Errors
    /// [`Error::Features`] when F holds no whole rows of D, or none.
    pub fn forward(&self, f: &[f32], arena: &mut Arena) -> Result<Vec<Vec<f32>>, Error> {
        let mut heads = Vec::with_capacity(self.stages.len());
        self.run(f, arena, |_, head| heads.push(head))?;
        Ok(heads)
    }

    /// As [`Self::forward`]: `each` is given the local features Y (N, w) and the
    /// head output of one task after the other. In the single-task structure Y is
    /// F itself.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn run(
        &self,
        f: &[f32],
        arena: &mut Arena,
        each: impl FnMut(&[f32], Vec<f32>) + Send,
    ) -> Result<(), Error> {
        let c = &self.config;
        let d = c.features;
        let tokens = f.len() / d;
        if tokens == 0 || tokens * d != f.len() {
            return Err(Error::Features {
                width: d,
                found: vec![f.len()],
            });
        }
        on_pool(|| self.compute(f, tokens, arena, each));
        Ok(())
    }

    fn compute(
        &self,
        f: &[f32],
        tokens: usize,
        arena: &mut Arena,
        mut each: impl FnMut(&[f32], Vec<f32>),
    ) {
        let c = &self.config;
        let (d, w) = (c.features, c.width);
        let kv_width = |s: &PackedStage| s.context.as_ref().map_or(0, |c| c.kv.outputs());
        let kv_width = self.stages.iter().map(kv_width).max().unwrap_or(0);
        let dense_width = self.dense.as_ref().map_or(0, Packed::outputs);
        let inner = c.heads * c.head_dim;
        let [operand, wide] = Workspace::lengths(self.format, tokens, w, inner, inner, c.hidden());
        let operand = operand.max(self.format.operand_len(tokens, d));
        let normed = if self.input_norm.is_some() {
            tokens * d
        } else {
            0
        };
        let [normed, dense, kv, y, kept, operand, wide] = arena.split([
            normed,
            tokens * dense_width,
            tokens * kv_width,
            tokens * w,
            self.kept * tokens * w,
            operand,
            wide,
        ]);
        let f = match &self.input_norm {
            Some(norm) => {
                norm.forward(f, normed);
                &*normed
            }
            None => f,
        };
        if let Some(layer) = &self.dense {
            project(self.format, f, d, layer, operand, dense);
        }
        let columns = |i: usize| &dense[i * w..];
        let mut room = Workspace { operand, wide };
        for stage in &self.stages {
            match stage.begin {
                Begin::Nothing => {
                    if let Some(head) = &stage.head {
                        each(f, head.forward(f, d));
                    }
                    continue;
                }
                Begin::Dense(place) => {
                    let rows = columns(place).chunks(dense_width);
                    for (y, row) in y.chunks_exact_mut(w).zip(rows) {
                        y.copy_from_slice(&row[..w]);
                    }
                }
                Begin::Kept(place) => y.copy_from_slice(&kept[place * tokens * w..][..tokens * w]),
                Begin::Previous => {}
            }
            if let Some(context) = &stage.context {
                let x = columns(context.dense);
                let kv = &mut kv[..tokens * context.kv.outputs()];
                match &context.norm {
                    Some(norm) => project_normed(
                        self.format,
                        x,
                        dense_width,
                        norm,
                        &context.kv,
                        room.operand,
                        kv,
                    ),
                    None => project(self.format, x, dense_width, &context.kv, room.operand, kv),
                }
            }
            for l in 0..c.depth {
                let place = l % stage.layers.len();
                let layer = &stage.layers[place];
                if let (Some((norm, attention)), Some(context)) = (&layer.attention, &stage.context)
                {
                    let stride = context.kv.outputs();
                    let kv = &kv[..tokens * stride];
                    attention.residual(norm, y, kv, stride, place * 2 * inner, &mut room);
                }
                layer.mlp.residual(&layer.norm2, y, &mut room);
            }
            if let Some(place) = stage.keep {
                kept[place * tokens * w..][..tokens * w].copy_from_slice(y);
            }
            if let Some(head) = &stage.head {
                each(y, head.forward(y, w));
            }
        }
    }
}

impl MultiTaskDecoder {
    /// This decoder for inference on the CPU, packed for `format`.
    ///
    /// # Errors
    /// When its tensors cannot be read, and [`Error::NoPlan`] of a structure without stages.
    pub fn plan(&self, format: Format) -> Result<InferencePlan, Error> {
        has_plan(self.config())?;
        let mut builder = Builder::new(self.config(), format);
        for (stage, decoder, head) in self.stages() {
            builder.stage(stage, decoder, head)?;
        }
        builder.build(self.input_norm())
    }
}

/// Only lists of stages are packed: what the others take time for is packed nowhere, or
/// computed once a clip.
fn has_plan(config: &Config) -> Result<(), Error> {
    let structure = config.structure;
    match structure.has_stages() {
        true => Ok(()),
        false => Err(Error::NoPlan { structure }),
    }
}

impl<'a> Builder<'a> {
    fn new(config: &'a Config, format: Format) -> Self {
        let stages = config.stages();
        let is_kept = |&place: &usize| {
            let later = stages.iter().skip(place + 2);
            later.into_iter().any(|s| s.input == Input::Stage(place))
        };
        Self {
            config,
            format,
            dense: Vec::new(),
            stages: Vec::new(),
            kept: (0..stages.len()).filter(is_kept).collect(),
        }
    }

    /// Packs the next stage.
    fn stage(
        &mut self,
        stage: &Stage,
        decoder: Option<&Decoder>,
        head: Option<&Head>,
    ) -> CandleResult<()> {
        let number = self.stages.len();
        let kept = |place: usize| self.kept.iter().position(|k| *k == place);
        let begin = match (decoder, stage.input) {
            (None, _) => Begin::Nothing,
            (_, Input::Features) => Begin::Dense(self.dense.len()),
            (_, Input::Stage(place)) => match kept(place) {
                Some(kept) if place + 1 < number => Begin::Kept(kept),
                _ => Begin::Previous,
            },
        };
        let keep = kept(number);
        let mut context = None;
        let mut layers = Vec::new();
        if let Some(decoder) = decoder {
            let attentions = decoder.attentions();
            if !attentions.is_empty() {
                context = Some(Context {
                    dense: self.dense.len(),
                    norm: decoder.norm.as_ref().map(LayerNorm::plan).transpose()?,
                    kv: CandleAttention::plan_keys_and_values(self.format, &attentions)?,
                });
            }
            self.dense.extend(decoder.dense.clone());
            for layer in &decoder.layers {
                let attention = match &layer.attention {
                    Some((norm, attention)) => Some((norm.plan()?, attention.plan(self.format)?)),
                    None => None,
                };
                layers.push(Layer {
                    attention,
                    norm2: layer.norm2.plan()?,
                    mlp: layer.mlp.plan(self.format)?,
                });
            }
        }
        self.stages.push(PackedStage {
            begin,
            keep,
            context,
            layers,
            head: head.map(HeadPlan::new).transpose()?,
        });
        Ok(())
    }

    fn build(self, input_norm: Option<&LayerNorm>) -> Result<InferencePlan, Error> {
        let dense: Vec<&Linear> = self.dense.iter().collect();
        Ok(InferencePlan {
            config: self.config.clone(),
            format: self.format,
            input_norm: input_norm.map(LayerNorm::plan).transpose()?,
            dense: match dense.is_empty() {
                true => None,
                false => Some(pack(self.format, &dense)?),
            },
            kept: self.kept.len(),
            stages: self.stages,
        })
    }
}

impl HeadPlan {
    fn new(head: &Head) -> CandleResult<Self> {
        let fc = &head.fc;
        let values = |t: &candle_core::Tensor| t.flatten_all()?.to_vec1();
        Ok(Self {
            norm: match &head.norm {
                head::Norm::None => HeadNorm::None,
                head::Norm::Tokens(norm) => HeadNorm::Tokens(norm.plan()?),
                head::Norm::Pooled(norm) => HeadNorm::Pooled(norm.plan()?),
            },
            pool: head.pool,
            weight: values(fc.weight())?,
            bias: match fc.bias() {
                Some(bias) => values(bias)?,
                None => vec![0.0; fc.weight().dims2()?.0],
            },
        })
    }

    /// Y (N, width) → (outputs).
    fn forward(&self, y: &[f32], width: usize) -> Vec<f32> {
        let pooled = match &self.norm {
            HeadNorm::None => self.pool.row(y, width),
            HeadNorm::Tokens(norm) => norm.mean(y),
            HeadNorm::Pooled(norm) => {
                let row = self.pool.row(y, width);
                let mut normed = vec![0.0; width];
                norm.forward(&row, &mut normed);
                normed
            }
        };
        let rows = self.weight.chunks_exact(width).zip(&self.bias);
        rows.map(|(weight, bias)| {
            let products = weight
                .iter()
                .zip(&pooled)
                .map(|(w, x)| f64::from(*w) * f64::from(*x));
            (f64::from(*bias) + products.sum::<f64>()) as f32
        })
        .collect()
    }
}
