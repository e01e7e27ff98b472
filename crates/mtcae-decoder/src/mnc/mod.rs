//! Multi-task network cascades (Dai, He and Sun, 2016, arXiv 1512.04412), adapted to one
//! face a frame: a box; landmarks from the region that the box cuts out of the features;
//! the class from the region and from what a mask around the landmarks leaves of it. Boxes
//! and masks are differentiable, so that later stages teach earlier ones. All of the
//! adaptation is ours: landmarks stand for the instance's mask, and there are no proposals.

mod boxes;

use std::sync::Arc;

use candle_core::{Module, Result as CandleResult, Tensor};
use mtcae_nn::ops::gather_rows;
use mtcae_nn::{Dropout, Gather, Linear, Pass, VarBuilder, linear, roi_warp};
use serde::{Deserialize, Serialize};

use self::boxes::{corners, grown, masks, refined};
use crate::layout::{FACE_BOX, LANDMARKS, Layout};
use crate::whole::{Answers, System, Whole, bounded, no_attention, of_clip, rate, wide};
use crate::{Config, Error, Outputs, Structure, Task};

/// What is this decoder's own. Of a [`Config`] `width` is that of the features that regions
/// are cut out of, `mlp_ratio` the hidden channels of the classifier, and `depth` how often
/// landmarks and class are computed: 1 for the cascade of three stages; 2 for that of five,
/// which moves the boxes by what the first class layers found and computes both again with
/// the same weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Cells of a region's side, half of which the classifier sees; even.
    pub region: usize,
    /// Hidden channels of the landmarks.
    pub landmark_hidden: usize,
    /// How many times larger than its box a region is.
    pub grow: f64,
    /// σ of the Gaussian around a landmark, in cells of the region.
    pub sigma: f64,
    /// Dropout of the classifier.
    pub dropout: f64,
    /// The most that a number of a region's gradient is let through.
    pub box_gradient: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: 14,
            landmark_hidden: 256,
            grow: 1.2,
            sigma: 1.5,
            dropout: 0.5,
            box_gradient: 1.0 / 512.0,
        }
    }
}

pub(crate) const SYSTEM: System = System {
    structure: Structure::Mnc,
    suit: |cfg| {
        (cfg.width, cfg.depth, cfg.heads, cfg.head_dim) = (512, 2, 1, 1);
        cfg.mlp_ratio = 2.0;
        cfg.mnc = Some(Settings::default());
    },
    validate,
    flops: |cfg, layout| {
        let s = settings(cfg);
        let (n, w, hidden) = (
            layout.tokens() as f64,
            cfg.width as f64,
            cfg.hidden() as f64,
        );
        let slices = layout.slices as f64;
        let (region, side) = (s.region as f64, 2.0 * s.region as f64);
        let each = |task: usize| (cfg.tasks[task].outputs / layout.slices) as f64;
        let warp = 2.0 * side * w * layout.width as f64 * (layout.height as f64 + side);
        let landmarks = 2.0 * s.landmark_hidden as f64 * (region * region * w + each(1));
        let class = 4.0 * hidden * (region * region / 4.0 * w + hidden);
        let again = (cfg.depth - 1) as f64;
        2.0 * n * w * (cfg.features as f64 + 9.0 * w)
            + slices * cfg.depth as f64 * (warp + landmarks + class)
            + slices * 2.0 * each(0) * (w + again * 2.0 * hidden)
            + 4.0 * hidden * cfg.tasks[2].outputs as f64
    },
    build: |cfg, layout, vb| Ok(Arc::new(Decoder::new(cfg, *layout, vb)?)),
};

fn validate(cfg: &Config, layout: &Layout) -> Result<(), Error> {
    no_attention(cfg)?;
    let fault = |field, reason| Err(Error::Config { field, reason });
    let names: Vec<&str> = cfg.tasks.iter().map(|t| t.name.as_str()).collect();
    let whole = |task: &Task| matches!(layout.each(task), Ok(None));
    match &cfg.tasks[..] {
        [a, b, c] if a.name == FACE_BOX && b.name == LANDMARKS && whole(c) => {}
        _ => {
            return fault(
                "tasks",
                format!(
                    "are {}; mnc has stages for {FACE_BOX}, {LANDMARKS} and one task of the whole \
                     clip, in this order, and for no others",
                    names.join(", ")
                ),
            );
        }
    }
    let frames = layout.each(&cfg.tasks[0])?.filter(|n| n.is_multiple_of(4));
    let Some(frames) = frames.map(|n| n / 4) else {
        let reason = format!("{FACE_BOX} has no whole boxes for each slice of the grid");
        return fault("tasks", reason);
    };
    if layout.each(&cfg.tasks[1])? != Some(10 * frames) {
        let reason = format!("{LANDMARKS} must have ten numbers for each box of {FACE_BOX}");
        return fault("tasks", reason);
    }
    if cfg.depth > 8 {
        return fault("depth", format!("is {}; mnc has 1 to 8 rounds", cfg.depth));
    }
    let s = settings(cfg);
    if !(2..=64).contains(&s.region) || !s.region.is_multiple_of(2) {
        return fault(
            "mnc.region",
            format!("is {}; must be even, 2 to 64", s.region),
        );
    }
    if !(1..=1 << 14).contains(&s.landmark_hidden) {
        let (hidden, most) = (s.landmark_hidden, 1 << 14);
        return fault(
            "mnc.landmark_hidden",
            format!("is {hidden}; must be 1 to {most}"),
        );
    }
    for (field, value) in [
        ("mnc.grow", s.grow),
        ("mnc.sigma", s.sigma),
        ("mnc.box_gradient", s.box_gradient),
    ] {
        if !(value > 0.0 && value <= 1e3) {
            return fault(field, format!("is {value}; must be above 0, at most 1000"));
        }
    }
    let (w, hidden) = (cfg.width, cfg.hidden());
    let cells = s.region * s.region * w;
    bounded("width", &[([9 * w, w], 1), ([hidden, hidden], 4)])?;
    bounded(
        "mnc.region",
        &[([cells, s.landmark_hidden], 1), ([cells / 4, hidden], 2)],
    )?;
    of_clip("width", &[9, layout.tokens(), w])?;
    of_clip(
        "mnc.region",
        &[layout.slices, 2 * s.region, 2 * s.region, w],
    )?;
    rate("mnc.dropout", s.dropout)
}

fn settings(cfg: &Config) -> Settings {
    cfg.mnc.clone().unwrap_or_default()
}

/// Two layers with ReLU.
#[derive(Debug)]
struct Path {
    fc1: Linear,
    fc2: Linear,
}

impl Path {
    /// `fc1` and `fc2` below `vb`.
    fn new(inputs: usize, hidden: usize, vb: VarBuilder<'_>) -> CandleResult<Self> {
        Ok(Self {
            fc1: linear(inputs, hidden, vb.pp("fc1"))?,
            fc2: linear(hidden, hidden, vb.pp("fc2"))?,
        })
    }

    /// A region (M, S, S, w), halved → (M, hidden).
    fn forward(&self, region: &Tensor, drop: &Dropout, pass: &mut Pass) -> CandleResult<Tensor> {
        let x = halved(region)?.flatten_from(1)?;
        let x = drop.forward(&self.fc1.forward(&x)?.relu()?, pass)?;
        drop.forward(&self.fc2.forward(&x)?.relu()?, pass)
    }
}

#[derive(Debug)]
struct Decoder {
    layout: Layout,
    settings: Settings,
    rounds: usize,
    /// Boxes of a slice.
    frames: usize,
    tasks: Vec<Task>,
    trunk: Linear,
    /// The nine places around each, zeros beyond the border.
    around: Arc<Gather>,
    conv: Linear,
    boxes: Linear,
    landmarks: [Linear; 2],
    paths: [Path; 2],
    /// Absent where the boxes stay.
    refine: Option<Linear>,
    class: Linear,
    dropout: Dropout,
}

impl Decoder {
    /// With r boxes a slice and S = `region`: `trunk` (w, D), `box.conv` (w, 9·w) over the
    /// places around each, row by row, `box.fc` (4·r, w), `landmarks.fc1` (·, S²·w) and
    /// `.fc2` (10·r, ·), `class.box` and `class.mask` with `fc1` and `fc2`, `class.refine`
    /// (4·r, 2·hidden) and `class.fc` below `vb`.
    fn new(cfg: &Config, layout: Layout, vb: VarBuilder<'_>) -> CandleResult<Self> {
        let s = settings(cfg);
        let (w, hidden) = (cfg.width, cfg.hidden());
        let frames = cfg.tasks[0].outputs / (4 * layout.slices);
        let (class, landmarks) = (vb.pp("class"), vb.pp("landmarks"));
        let half = s.region / 2;
        let path = |name| Path::new(half * half * w, hidden, class.pp(name));
        Ok(Self {
            trunk: linear(cfg.features, w, vb.pp("trunk"))?,
            around: Arc::new(around(&layout)),
            conv: linear(9 * w, w, vb.pp("box").pp("conv"))?,
            boxes: linear(w, 4 * frames, vb.pp("box").pp("fc"))?,
            landmarks: [
                linear(
                    s.region * s.region * w,
                    s.landmark_hidden,
                    landmarks.pp("fc1"),
                )?,
                linear(s.landmark_hidden, 10 * frames, landmarks.pp("fc2"))?,
            ],
            paths: [path("box")?, path("mask")?],
            refine: match cfg.depth {
                1 => None,
                _ => Some(linear(2 * hidden, 4 * frames, class.pp("refine"))?),
            },
            class: linear(2 * hidden, cfg.tasks[2].outputs, class.pp("fc"))?,
            dropout: Dropout::new(s.dropout)?,
            rounds: cfg.depth,
            tasks: cfg.tasks.clone(),
            settings: s,
            layout,
            frames,
        })
    }

    /// The first boxes (M, r, 4) of maps (M, h·w, C): centre and size.
    fn first(&self, maps: &Tensor) -> CandleResult<Tensor> {
        let (count, places, width) = maps.dims3()?;
        let around = gather_rows(maps, &self.around)?.reshape((count, places, 9 * width))?;
        let row = self.conv.forward(&around)?.relu()?.mean(1)?;
        let boxes = self.boxes.forward(&row)?;
        candle_nn::ops::sigmoid(&boxes)?.reshape((count, self.frames, 4))
    }

    /// The features (M, S, S, C) of a region (M, 4) of centre and size.
    fn region(&self, maps: &Tensor, region: &Tensor) -> CandleResult<Tensor> {
        let (count, _, width) = maps.dims3()?;
        let Layout {
            height,
            width: across,
            ..
        } = self.layout;
        let side = 2 * self.settings.region;
        let of = |i: usize| region.narrow(1, i, 1);
        // In cells, the first sample in the middle of its part of the region.
        let begin = |centre: Tensor, size: &Tensor, cells: usize| -> CandleResult<Tensor> {
            let from = (centre * cells as f64)?;
            (from - (size * (0.5 - 0.5 / side as f64))?)? - 0.5
        };
        let (w, h) = ((of(2)? * across as f64)?, (of(3)? * height as f64)?);
        let (x, y) = (begin(of(0)?, &w, across)?, begin(of(1)?, &h, height)?);
        let cells = Tensor::cat(&[x, y, w, h], 1)?;
        let maps = maps.reshape((count, height, across, width))?;
        let limit = Some(self.settings.box_gradient);
        halved(&roi_warp(&maps, &cells, side, limit)?)
    }
}

/// Which places lie around each of a slice.
fn around(layout: &Layout) -> Gather {
    let (height, width) = (layout.height, layout.width);
    let mut order = Vec::with_capacity(9 * layout.places());
    for y in 0..height {
        for x in 0..width {
            for (dy, dx) in (0..9).map(|i| (i / 3, i % 3)) {
                let inside = (1..=height).contains(&(y + dy)) && (1..=width).contains(&(x + dx));
                order.push(match inside {
                    true => ((y + dy - 1) * width + x + dx - 1) as u32,
                    false => Gather::NONE,
                });
            }
        }
    }
    Gather::new(layout.places(), order)
}

/// The largest of each two by two: (M, 2·S, 2·S, C) → (M, S, S, C).
fn halved(x: &Tensor) -> CandleResult<Tensor> {
    let (count, height, width, channels) = x.dims4()?;
    let of = |x: &Tensor, half: usize| x.narrow(1, half, 1)?.squeeze(1);
    let rows = x.reshape((count * height / 2, 2, width * channels))?;
    let rows = of(&rows, 0)?.maximum(&of(&rows, 1)?)?;
    let columns = rows.reshape((count * height / 2 * width / 2, 2, channels))?;
    of(&columns, 0)?
        .maximum(&of(&columns, 1)?)?
        .reshape((count, height / 2, width / 2, channels))
}

impl Whole for Decoder {
    fn run(&self, f: &Tensor, pass: &mut Pass) -> CandleResult<Outputs> {
        let (batch, _, features) = f.dims3()?;
        let (slices, places) = (self.layout.slices, self.layout.places());
        let (s, count, frames) = (&self.settings, batch * slices, self.frames);
        let least = [
            2.0 / self.layout.width as f64,
            2.0 / self.layout.height as f64,
        ];
        let maps = f.reshape((count, places, features))?;
        let maps = wide(&self.trunk.forward(&maps)?)?;
        let mut boxes = self.first(&maps)?;
        let mut round = 0;
        loop {
            pass.record(|| format!("boxes.{round}"), &boxes);
            let region = grown(&boxes, s.grow, least)?;
            let cut = self.region(&maps, &region)?;
            pass.record(|| format!("region.{round}"), &cut);
            let [fc1, fc2] = &self.landmarks;
            let points = fc2.forward(&fc1.forward(&cut.flatten_from(1)?)?.relu()?)?;
            // Of the region: the middle of it where the layer says nothing.
            let points = (points.reshape((count, frames, 5, 2))? + 0.5)?;
            let mask = masks(&points, s.region, s.sigma)?;
            pass.record(|| format!("mask.{round}"), &mask);
            let masked = cut.broadcast_mul(&mask)?;
            let [whole, around] = &self.paths;
            let whole = whole.forward(&cut, &self.dropout, pass)?;
            let around = around.forward(&masked, &self.dropout, pass)?;
            let row = Tensor::cat(&[whole, around], 1)?;
            round += 1;
            if let (Some(refine), true) = (&self.refine, round < self.rounds) {
                let by = refine.forward(&row)?.reshape((count, frames, 4))?;
                boxes = refined(&boxes, &by)?;
                continue;
            }
            let class = self
                .class
                .forward(&row.reshape((batch, slices, ()))?.mean(1)?)?;
            let points = boxes::of_frame(&points, &region)?;
            let mut answers = Answers::default();
            let of_clip = |t: &Tensor, task: &Task| t.reshape((batch, task.outputs));
            let heads = [
                of_clip(&corners(&boxes)?, &self.tasks[0])?,
                of_clip(&points, &self.tasks[1])?,
                class,
            ];
            let maps = maps.reshape((batch, slices * places, ()))?;
            for (task, head) in self.tasks.iter().zip(heads) {
                answers.add(&task.name, &maps, head, pass);
            }
            return Ok(answers.outputs());
        }
    }
}
