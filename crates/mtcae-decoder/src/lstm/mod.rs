//! "VO-LSTM, our reading" of the visual stream of Ghaleb, Popa and Asteriadis (2019, DOI
//! 10.1109/ACII.2019.8925444), of which no full text or code is open: what an encoder makes
//! of each frame is narrowed, read by an LSTM, and the last state is classified. The tasks
//! of frames, which it does not have, read the states of their frames.

use std::sync::Arc;

use candle_core::{Module, Result as CandleResult, Tensor};
use mtcae_nn::{Dropout, Linear, Lstm, Pass, VarBuilder, linear};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::whole::{Answers, System, Whole, bounded, no_attention, of_clip, rate, wide};
use crate::{Config, Outputs, Structure, Task};

/// What the LSTM reads, a step each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// The mean of each slice's tokens.
    #[default]
    Slices,
    /// Every token.
    Tokens,
}

/// What is this decoder's own. Of a [`Config`] `width` is that of a state in one direction
/// and of what it reads, and `depth` the number of layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What it reads.
    pub over: Over,
    /// Whether a second direction reads from the last step to the first.
    pub both_directions: bool,
    /// Dropout of what it reads.
    pub dropout: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            over: Over::Slices,
            both_directions: false,
            dropout: 0.5,
        }
    }
}

pub(crate) const SYSTEM: System = System {
    structure: Structure::Lstm,
    suit: |cfg| {
        (cfg.width, cfg.depth, cfg.heads, cfg.head_dim) = (256, 1, 1, 1);
        cfg.lstm = Some(Settings::default());
    },
    validate: |cfg, layout| {
        no_attention(cfg)?;
        let s = settings(cfg);
        rate("lstm.dropout", s.dropout)?;
        let ends = if s.both_directions { 2 } else { 1 };
        let weights = [4 * cfg.width, (ends + 1) * cfg.width];
        bounded("width", &[(weights, ends * cfg.depth)])?;
        of_clip("width", &[4, steps(&s, layout), cfg.width])?;
        cfg.tasks.iter().try_for_each(|t| layout.each(t).map(drop))
    },
    flops: |cfg, layout| {
        let s = settings(cfg);
        let (steps, w) = (steps(&s, layout) as f64, cfg.width as f64);
        let ends = if s.both_directions { 2.0 } else { 1.0 };
        let layer = |inputs: f64| 8.0 * ends * steps * w * (inputs + w);
        let outputs: usize = cfg.tasks.iter().map(|t| t.outputs).sum();
        2.0 * steps * cfg.features as f64 * w
            + layer(w)
            + (cfg.depth - 1) as f64 * layer(ends * w)
            + 2.0 * ends * w * outputs as f64
    },
    build: |cfg, layout, vb| Ok(Arc::new(Decoder::new(cfg, *layout, vb)?)),
};

fn settings(cfg: &Config) -> Settings {
    cfg.lstm.clone().unwrap_or_default()
}

fn steps(settings: &Settings, layout: &Layout) -> usize {
    match settings.over {
        Over::Slices => layout.slices,
        Over::Tokens => layout.tokens(),
    }
}

#[derive(Debug)]
struct Decoder {
    layout: Layout,
    over: Over,
    narrow: Linear,
    dropout: Dropout,
    lstm: Lstm,
    heads: Vec<(Task, bool, Linear)>,
}

impl Decoder {
    /// `narrow` (w, D), `lstm`, and `heads.{task}.fc`, of a task of frames with the outputs
    /// of one slice, below `vb`.
    fn new(cfg: &Config, layout: Layout, vb: VarBuilder<'_>) -> CandleResult<Self> {
        let Settings {
            over,
            both_directions,
            dropout,
        } = settings(cfg);
        let lstm = Lstm::new(
            cfg.width,
            cfg.width,
            cfg.depth,
            both_directions,
            vb.pp("lstm"),
        )?;
        let heads = cfg.tasks.iter().map(|task| {
            let each = layout.each(task).map_err(candle_core::Error::wrap)?;
            let vb = vb.pp("heads").pp(&task.name).pp("fc");
            let fc = linear(lstm.width(), each.unwrap_or(task.outputs), vb)?;
            Ok((task.clone(), each.is_some(), fc))
        });
        Ok(Self {
            layout,
            over,
            narrow: linear(cfg.features, cfg.width, vb.pp("narrow"))?,
            dropout: Dropout::new(dropout)?,
            heads: heads.collect::<CandleResult<_>>()?,
            lstm,
        })
    }
}

impl Whole for Decoder {
    fn run(&self, f: &Tensor, pass: &mut Pass) -> CandleResult<Outputs> {
        let batch = f.dim(0)?;
        let (slices, places) = (self.layout.slices, self.layout.places());
        let f = &wide(f)?;
        let f = match self.over {
            Over::Slices => self.layout.means(f)?,
            Over::Tokens => f.clone(),
        };
        let x = self.narrow.forward(&f)?.relu()?;
        let states = self.lstm.forward(&self.dropout.forward(&x, pass)?)?;
        // What has been read by the end of each slice.
        let ends = match self.over {
            Over::Slices => states.clone(),
            Over::Tokens => states
                .reshape((batch, slices, places, self.lstm.width()))?
                .narrow(2, places - 1, 1)?
                .squeeze(2)?,
        };
        let last = self.lstm.last(&states)?;
        let mut answers = Answers::default();
        for (task, of_frames, fc) in &self.heads {
            let head = match of_frames {
                true => fc.forward(&ends)?.reshape((batch, task.outputs))?,
                false => fc.forward(&last)?,
            };
            answers.add(&task.name, &states, head, pass);
        }
        Ok(answers.outputs())
    }
}
