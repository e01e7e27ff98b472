//! The decoder for inference on the CPU: weights packed once, memory used again.

use candle_core::Result as CandleResult;
use mtcae_nn::plan::{
    Arena, CrossAttention, Format, Mlp, Norm, Packed, Workspace, pack, project, project_normed,
};
use mtcae_nn::{CrossAttention as CandleAttention, LayerNorm, Linear, VarBuilder, on_pool};

use crate::multi_task::{Decoders, input_norm};
use crate::{
    Config, Error, Head, MlpDecoder, MlpLayer, MultiTaskDecoder, Structure, VitDecoder, VitLayer,
};

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
    stages: Vec<Stage>,
}

/// One decoder and its head.
#[derive(Debug)]
struct Stage {
    start: Start,
    /// What its layers attend to; none in MLP decoders.
    context: Option<Context>,
    layers: Vec<Layer>,
    /// None in the shared decoder.
    head: Option<HeadPlan>,
}

/// What Y is before the first layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Columns of Dense(F): the place among the Dense layers.
    Dense(usize),
    /// Y as the stage before left it.
    Previous,
    /// Y as the shared decoder, the first stage, left it.
    Shared,
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
    norm: Option<Norm>,
    /// W (outputs, w), row by row: a product of one row needs no packing.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Collects the Dense layers of the stages, which are packed as one.
struct Builder<'a> {
    config: &'a Config,
    format: Format,
    dense: Vec<Linear>,
    stages: Vec<Stage>,
}

impl InferencePlan {
    /// Packs the tensors below `vb` a decoder at a time, so that no more than one
    /// is held unpacked. They are those of [`MultiTaskDecoder::new`].
    ///
    /// # Errors
    /// As [`MultiTaskDecoder::new`].
    pub fn new(config: &Config, format: Format, vb: VarBuilder<'_>) -> Result<Self, Error> {
        config.validate()?;
        let mut builder = Builder::new(config, format);
        let (stages, heads) = (vb.pp("stages"), vb.pp("heads"));
        let shared = vb.pp("shared");
        match config.structure {
            Structure::SingleTask => {}
            Structure::SharedMlp => {
                builder.mlp(
                    &MlpDecoder::of_features(config, shared)?,
                    Start::Previous,
                    None,
                )?;
            }
            Structure::SharedVit => {
                builder.vit(&VitDecoder::new(config, shared)?, Start::Dense(0), None)?;
            }
            Structure::SeparateMlp | Structure::SeparateVit | Structure::Cascade => {}
        }
        for (t, task) in config.active_tasks().iter().enumerate() {
            let (vb, head) = (stages.pp(&task.name), heads.pp(&task.name));
            let head = match config.structure {
                Structure::SingleTask => Head::of_features(config, task.outputs, head)?,
                _ => Head::new(config, task.outputs, head)?,
            };
            let head = Some(&head);
            match config.structure {
                Structure::SingleTask => builder.head_alone(head)?,
                Structure::SeparateMlp => {
                    builder.mlp(&MlpDecoder::of_features(config, vb)?, Start::Previous, head)?;
                }
                Structure::SharedMlp => {
                    builder.mlp(&MlpDecoder::of_local(config, vb)?, Start::Shared, head)?;
                }
                Structure::SeparateVit | Structure::SharedVit | Structure::Cascade => {
                    let start = builder.start(t);
                    builder.vit(&VitDecoder::new(config, vb)?, start, head)?;
                }
            }
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
        let kv_width = |s: &Stage| s.context.as_ref().map_or(0, |c| c.kv.outputs());
        let kv_width = self.stages.iter().map(kv_width).max().unwrap_or(0);
        let dense_width = self.dense.as_ref().map_or(0, Packed::outputs);
        let shared = self.stages.iter().any(|s| s.start == Start::Shared);
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
            if shared { tokens * w } else { 0 },
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
        for (i, stage) in self.stages.iter().enumerate() {
            if self.dense.is_none() {
                if let Some(head) = &stage.head {
                    each(f, head.forward(f, d));
                }
                continue;
            }
            match stage.start {
                Start::Dense(place) => {
                    let rows = columns(place).chunks(dense_width);
                    for (y, row) in y.chunks_exact_mut(w).zip(rows) {
                        y.copy_from_slice(&row[..w]);
                    }
                }
                Start::Shared => y.copy_from_slice(kept),
                Start::Previous => {}
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
            if shared && i == 0 {
                kept.copy_from_slice(y);
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
    /// When its tensors cannot be read.
    pub fn plan(&self, format: Format) -> Result<InferencePlan, Error> {
        let mut builder = Builder::new(self.config(), format);
        match self.decoders() {
            Decoders::SharedMlp(shared, _) => builder.mlp(shared, Start::Previous, None)?,
            Decoders::SharedVit(shared, _) => builder.vit(shared, Start::Dense(0), None)?,
            _ => {}
        }
        for (t, head) in self.heads().iter().enumerate() {
            let head = Some(head);
            match self.decoders() {
                Decoders::None => builder.head_alone(head)?,
                Decoders::SeparateMlp(tasks) => builder.mlp(&tasks[t], Start::Previous, head)?,
                Decoders::SharedMlp(_, tasks) => builder.mlp(&tasks[t], Start::Shared, head)?,
                Decoders::SeparateVit(tasks)
                | Decoders::SharedVit(_, tasks)
                | Decoders::Cascade(tasks) => {
                    let start = builder.start(t);
                    builder.vit(&tasks[t], start, head)?;
                }
            }
        }
        builder.build(self.input_norm())
    }
}

impl<'a> Builder<'a> {
    fn new(config: &'a Config, format: Format) -> Self {
        Self {
            config,
            format,
            dense: Vec::new(),
            stages: Vec::new(),
        }
    }

    /// Where task `t` of an attending structure starts from.
    fn start(&self, t: usize) -> Start {
        match (self.config.structure, t) {
            (Structure::SharedVit, _) => Start::Shared,
            (Structure::Cascade, 1..) => Start::Previous,
            _ => Start::Dense(self.dense.len()),
        }
    }

    fn vit(&mut self, decoder: &VitDecoder, start: Start, head: Option<&Head>) -> CandleResult<()> {
        let (dense, norm, layers) = decoder.parts();
        let attentions: Vec<&CandleAttention> = layers.iter().map(VitLayer::attention).collect();
        let context = Context {
            dense: self.dense.len(),
            norm: norm.map(LayerNorm::plan).transpose()?,
            kv: CandleAttention::plan_keys_and_values(self.format, &attentions)?,
        };
        self.dense.push(dense.clone());
        let layers = layers.iter().map(|layer| {
            let (norm1, attention, mlp) = layer.parts();
            let attention = (norm1.plan()?, attention.plan(self.format)?);
            self.layer(Some(attention), mlp)
        });
        let layers = layers.collect::<CandleResult<_>>()?;
        self.stage(start, Some(context), layers, head)
    }

    /// `start` stands where the decoder has no Dense layer of its own.
    fn mlp(&mut self, decoder: &MlpDecoder, start: Start, head: Option<&Head>) -> CandleResult<()> {
        let (dense, layers) = decoder.parts();
        let start = match dense {
            Some(dense) => {
                self.dense.push(dense.clone());
                Start::Dense(self.dense.len() - 1)
            }
            None => start,
        };
        let layers = layers.iter().map(|layer| self.layer(None, layer));
        let layers = layers.collect::<CandleResult<_>>()?;
        self.stage(start, None, layers, head)
    }

    fn head_alone(&mut self, head: Option<&Head>) -> CandleResult<()> {
        self.stage(Start::Previous, None, Vec::new(), head)
    }

    fn layer(
        &self,
        attention: Option<(Norm, CrossAttention)>,
        mlp: &MlpLayer,
    ) -> CandleResult<Layer> {
        let (norm2, mlp) = mlp.parts();
        Ok(Layer {
            attention,
            norm2: norm2.plan()?,
            mlp: mlp.plan(self.format)?,
        })
    }

    fn stage(
        &mut self,
        start: Start,
        context: Option<Context>,
        layers: Vec<Layer>,
        head: Option<&Head>,
    ) -> CandleResult<()> {
        self.stages.push(Stage {
            start,
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
            stages: self.stages,
        })
    }
}

impl HeadPlan {
    fn new(head: &Head) -> CandleResult<Self> {
        let (norm, fc) = head.parts();
        let values = |t: &candle_core::Tensor| t.flatten_all()?.to_vec1();
        Ok(Self {
            norm: norm.map(LayerNorm::plan).transpose()?,
            weight: values(fc.weight())?,
            bias: match fc.bias() {
                Some(bias) => values(bias)?,
                None => vec![0.0; fc.weight().dims2()?.0],
            },
        })
    }

    /// Y (N, width) → (outputs).
    fn forward(&self, y: &[f32], width: usize) -> Vec<f32> {
        let mean = match &self.norm {
            Some(norm) => norm.mean(y),
            None => mtcae_nn::plan::mean(y, width),
        };
        let rows = self.weight.chunks_exact(width).zip(&self.bias);
        rows.map(|(weight, bias)| {
            let products = weight
                .iter()
                .zip(&mean)
                .map(|(w, x)| f64::from(*w) * f64::from(*x));
            (f64::from(*bias) + products.sum::<f64>()) as f32
        })
        .collect()
    }
}
