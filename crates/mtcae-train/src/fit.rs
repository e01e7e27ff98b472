//! The training loop: one run on one split, which can be stopped at any moment
//! and resumed to the bit.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use mtcae_model::Outputs;
use mtcae_nn::Pass;
use mtcae_nn::optim::{AdamW, AdamWConfig, Gradients, blend};
use mtcae_objective::{
    Class, Config as ObjectiveConfig, Losses, Objective, Unit as LossUnit, Weights,
};
use sha2::{Digest, Sha256};

use crate::batch::{Batch, Source};
use crate::cache::FeatureCache;
use crate::data::{Dataset, Split};
use crate::event::Watch;
use crate::log::{EpochLine, Line, Log, StepLine, TaskNorms, Validation};
use crate::predict::{self, scalar};
use crate::prefetch::Prefetch;
use crate::start::{Start, Started, group};
use crate::state::{self, Position, Sums};
use crate::view::Viewer;
use crate::{ClassWeights, Error, Event, Keep, TrainConfig, Unit, random};

/// The state's file name in a run's folder.
pub const STATE: &str = "state.safetensors";
/// The log's file name in a run's folder.
pub const LOG: &str = "metrics.jsonl";
/// The kept weights of the best epoch, while the run goes on.
const BEST: &str = "best.safetensors";

/// One run: what is trained on what, and where its files go.
pub struct Run<'a> {
    /// What it is, in the caller's words.
    pub name: &'a str,
    /// Its folder, which is created if need be.
    pub folder: &'a Path,
    /// Where its weights begin.
    pub start: &'a Start,
    /// The labelled clips.
    pub data: &'a Arc<Dataset>,
    /// Which of them do what.
    pub split: &'a Split,
    /// Features computed before, for a frozen encoder.
    pub cache: Option<&'a Arc<FeatureCache>>,
    /// How.
    pub config: &'a TrainConfig,
    /// Where.
    pub device: &'a Device,
}

/// A run that has come to its end.
pub struct Fitted {
    /// The model with the weights that are kept.
    pub started: Started,
    /// Where its clips came from: to predict others likewise.
    pub source: Arc<Source>,
    /// The epoch whose weights are kept, from 0.
    pub epoch: usize,
}

/// Trains, beginning anew or going on from the state in the run's folder.
///
/// # Errors
/// [`Error::NotFinite`] when a loss or gradient is not a number: the state saved
/// before is kept. [`Error::File`] when the folder holds a state that is damaged or
/// of another run. Otherwise names the setting or file at fault.
pub fn fit(run: &Run<'_>, watch: &mut Watch<'_>) -> Result<Fitted, Error> {
    run.config.validate()?;
    std::fs::create_dir_all(run.folder).map_err(|source| Error::Io {
        path: run.folder.to_owned(),
        source,
    })?;
    // A run that was killed while it saved leaves a file as large as its state.
    for entry in std::fs::read_dir(run.folder)
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry.file_name().to_string_lossy().starts_with(".writing-") {
            // What cannot be removed only takes up room.
            drop(std::fs::remove_file(entry.path()));
        }
    }
    let mut trainer = Trainer::new(run)?;
    let first = trainer.resume()?;
    trainer.train(first, watch)
}

struct Trainer<'a> {
    run: &'a Run<'a>,
    started: Started,
    source: Arc<Source>,
    objective: Objective,
    optimiser: AdamW,
    /// The moving average of each trained parameter, where there is one.
    ema: Vec<(String, Tensor)>,
    /// What the state must agree with.
    identity: BTreeMap<String, String>,
    state: PathBuf,
    steps_an_epoch: u64,
}

impl<'a> Trainer<'a> {
    fn new(run: &'a Run<'a>) -> Result<Self, Error> {
        let (config, data) = (run.config, run.data);
        config
            .precision
            .precision()
            .prepare(run.device)
            .map_err(|reason| Error::Config {
                field: "precision",
                reason,
            })?;
        let started = run.start.build(config, run.device)?;
        let model = started.model.config();
        if model.classes != data.classes {
            return Err(Error::Config {
                field: "classes",
                reason: format!(
                    "the checkpoint knows {}; the labels have {}",
                    model.classes.join(", "),
                    data.classes.join(", ")
                ),
            });
        }
        let frames = model.encoder.frames;
        let source = match run.cache {
            Some(cache) => {
                if config.tune != crate::Tune::Decoder {
                    return Err(Error::Config {
                        field: "tune",
                        reason: format!("{} needs the videos, not cached features", config.tune),
                    });
                }
                Source::cached(data.clone(), cache.clone(), frames, config)
            }
            None => Source::videos(data.clone(), Viewer::new(model, config)?, frames, config),
        };
        let objective = objective(config, data, run.split, model.encoder.image_size)?;
        let depth = model.encoder.depth;
        let adamw = AdamWConfig {
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
        };
        let optimiser = AdamW::new(&started.trained, adamw, |name, var| {
            group(name, var, config, depth)
        })?;
        let ema = match config.ema > 0.0 {
            true => copies(&started.trained)?,
            false => Vec::new(),
        };
        let batches = run.split.train.len().div_ceil(config.batch);
        let json = |value: serde_json::Result<String>| value.unwrap_or_default();
        let identity = BTreeMap::from([
            ("config".to_owned(), json(serde_json::to_string(config))),
            ("model".to_owned(), json(serde_json::to_string(model))),
            ("frozen weights".to_owned(), started.frozen.clone()),
            ("clips".to_owned(), data.digest()),
            ("split".to_owned(), digest(run.split)),
            // Cached features are rounded, and are neither mixed nor cropped anew.
            (
                "features".to_owned(),
                run.cache
                    .map_or("of videos", |cache| cache.key())
                    .to_owned(),
            ),
        ]);
        Ok(Self {
            run,
            source: Arc::new(source),
            objective,
            optimiser,
            ema,
            identity,
            state: run.folder.join(STATE),
            steps_an_epoch: batches.div_ceil(config.accumulate) as u64,
            started,
        })
    }

    /// Takes up the saved state, if there is one.
    fn resume(&mut self) -> Result<Position, Error> {
        if !self.state.exists() {
            return Ok(Position::default());
        }
        let state = state::read(&self.state, &self.identity)?;
        let device = self.run.device;
        for (name, var) in &self.started.trained {
            var.set(&state.tensor(&format!("weights/{name}"), device)?)?;
        }
        for (name, tensor) in &mut self.ema {
            *tensor = state.tensor(&format!("ema/{name}"), device)?;
        }
        let steps = state.position.step;
        self.optimiser.restore(steps, |name| {
            state
                .tensor(&format!("adamw/{name}"), device)
                .map_err(candle_core::Error::wrap)
        })?;
        Ok(state.position)
    }

    fn save(&self, position: &Position) -> Result<(), Error> {
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        for (name, var) in &self.started.trained {
            tensors.push((format!("weights/{name}"), var.as_tensor().clone()));
        }
        for (name, state) in self.optimiser.state() {
            tensors.push((format!("adamw/{name}"), state.clone()));
        }
        for (name, average) in &self.ema {
            tensors.push((format!("ema/{name}"), average.clone()));
        }
        state::write(&self.state, &self.identity, position, &tensors)
    }

    fn train(mut self, mut at: Position, watch: &mut Watch<'_>) -> Result<Fitted, Error> {
        let config = self.run.config;
        let mut log = Log::open(&self.run.folder.join(LOG), at.log)?;
        let count = self
            .started
            .trained
            .iter()
            .map(|(_, v)| v.elem_count())
            .sum();
        tell(
            watch,
            &Event::Start {
                name: self.run.name,
                epochs: config.epochs,
                steps: self.steps_an_epoch,
                from_step: at.step,
                parameters: count,
            },
        )?;
        while at.epoch < config.epochs {
            self.epoch(&mut at, &mut log, watch)?;
        }
        let epoch = match (config.keep, at.best) {
            (Keep::Best, Some((_, epoch))) => {
                let best = state::read(&self.run.folder.join(BEST), &self.identity)?;
                for (name, var) in &self.started.trained {
                    var.set(&best.tensor(&format!("weights/{name}"), self.run.device)?)?;
                }
                epoch
            }
            _ => {
                for ((_, var), (_, average)) in self.started.trained.iter().zip(&self.ema) {
                    var.set(average)?;
                }
                config.epochs - 1
            }
        };
        Ok(Fitted {
            started: self.started,
            source: self.source,
            epoch,
        })
    }

    /// What is left of an epoch, its end included.
    fn epoch(
        &mut self,
        at: &mut Position,
        log: &mut Log,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        let (config, epoch) = (self.run.config, at.epoch);
        let batches = self.source.order(&self.run.split.train, epoch);
        let done = at.step_in_epoch * config.accumulate;
        let (from, jobs) = (self.source.clone(), batches.clone());
        let mut loaded = Prefetch::new(
            batches.len() - done.min(batches.len()),
            config.workers,
            config.queue,
            move |i| from.training(&jobs[done + i], epoch, done + i),
        );
        let before = (at.sums.seconds, at.sums.waited);
        let since = Instant::now();
        for (k, numbers) in (done..batches.len())
            .collect::<Vec<_>>()
            .chunks(config.accumulate)
            .enumerate()
        {
            let line = self.step(at, &mut loaded, numbers)?;
            let saves = config.save_every > 0 && (k + 1) % config.save_every == 0;
            if saves || numbers.last() == Some(&(batches.len() - 1)) {
                // The next loss would show it, but then the state would be lost.
                self.weights_are_finite(at, &batches[numbers[0]..=numbers[numbers.len() - 1]])?;
            }
            at.step += 1;
            at.step_in_epoch += 1;
            at.sums.seconds = before.0 + since.elapsed().as_secs_f64();
            at.sums.waited = before.1 + loaded.waited().as_secs_f64();
            log.write(&Line::Step(line.clone()))?;
            at.log = log.length();
            if saves {
                log.sync()?;
                self.save(at)?;
            }
            tell(watch, &Event::Step(&line))?;
        }
        drop(loaded);
        let validation = self.validate(watch)?;
        if let Some(v) = validation
            && config.keep == Keep::Best
            && at.best.is_none_or(|(best, _)| v.uar > best)
        {
            at.best = Some((v.uar, epoch));
            self.keep_best(at)?;
        }
        let line = epoch_line(epoch, &at.sums, validation);
        log.write(&Line::Epoch(line.clone()))?;
        *at = Position {
            step: at.step,
            epoch: epoch + 1,
            step_in_epoch: 0,
            log: log.length(),
            sums: Sums::default(),
            best: at.best,
        };
        log.sync()?;
        self.save(at)?;
        tell(watch, &Event::Epoch(&line))
    }

    /// One step of the optimiser: the mean gradient of some batches.
    fn step(
        &mut self,
        at: &mut Position,
        loaded: &mut Prefetch<Result<Batch, Error>>,
        numbers: &[usize],
    ) -> Result<StepLine, Error> {
        let config = self.run.config;
        let mut gradients: Option<Gradients> = None;
        let mut means = Sums::default();
        let mut clips = Vec::new();
        for &number in numbers {
            let Some(batch) = loaded.next() else {
                break;
            };
            let batch = batch?.to_device(self.run.device)?;
            clips.extend(batch.items.iter().copied());
            let seed = random::seed("pass", &[config.seed, at.epoch as u64, number as u64]);
            if config.gradients && number == 0 {
                at.sums.gradients = Some(self.task_norms(&batch, seed)?);
            }
            let mut pass = Pass::training(seed);
            if config.checkpointing {
                pass = pass.recomputing();
            }
            let input = batch.input.in_type(config.precision.precision().dtype())?;
            let outputs = predict::run(&self.started.model, &input, &mut pass)?;
            let losses = self.losses(&outputs, &batch)?;
            let n = batch.items.len() as f64;
            let part = Sums {
                clips: n,
                loss: scalar(&losses.total)? * n,
                boxes: losses.boxes.as_ref().map_or(Ok(0.0), scalar)? * n,
                landmarks: losses.landmarks.as_ref().map_or(Ok(0.0), scalar)? * n,
                expression: scalar(&losses.expression)? * n,
                ..right(&outputs, &batch)?
            };
            for (what, value) in [
                ("the loss of the boxes", part.boxes),
                ("the loss of the landmarks", part.landmarks),
                ("the loss of the expression", part.expression),
                ("the loss", part.loss),
            ] {
                self.finite(what, value / n, at, &clips)?;
            }
            means.add(&part);
            let mut store = losses.total.backward()?;
            store.extend(pass.into_gradients())?;
            let taken = Gradients::take(&self.started.trained, &mut store)?;
            match &mut gradients {
                Some(sum) => sum.add(&taken)?,
                None => gradients = Some(taken),
            }
        }
        let Some(gradients) = gradients else {
            return Err(Error::Config {
                field: "batch",
                reason: "there was none".to_owned(),
            });
        };
        let mean = 1.0 / numbers.len() as f64;
        let norm = gradients.norm()? * mean;
        self.finite("the gradient's norm", norm, at, &clips)?;
        let clip = match config.clip_norm > 0.0 && norm > config.clip_norm {
            // As torch.nn.utils.clip_grad_norm_.
            true => config.clip_norm / (norm + 1e-6),
            false => 1.0,
        };
        let lr = config.lr_at(at.step, self.steps_an_epoch);
        self.optimiser.step(&gradients, lr, mean * clip)?;
        for ((_, average), (_, var)) in self.ema.iter().zip(&self.started.trained) {
            blend(average, var.as_tensor(), config.ema, 1.0 - config.ema)?;
        }
        let (step, epoch) = (at.step, at.epoch);
        let has = |task: Option<f64>| task.map(|sum| sum / means.clips);
        let multi = self.started.model.decoder().config().active_tasks().len() > 1;
        let line = StepLine {
            step,
            epoch,
            lr,
            loss: means.loss / means.clips,
            boxes: has(multi.then_some(means.boxes)),
            landmarks: has(multi.then_some(means.landmarks)),
            expression: means.expression / means.clips,
            gradient_norm: norm,
        };
        at.sums.add(&means);
        at.sums.multi = multi;
        Ok(line)
    }

    fn losses(&self, outputs: &Outputs, batch: &Batch) -> Result<Losses, Error> {
        Ok(self.objective.forward(
            outputs.boxes.as_ref(),
            outputs.landmarks.as_ref(),
            &outputs.logits,
            &batch.targets,
        )?)
    }

    fn finite(&self, what: &str, value: f64, at: &Position, clips: &[usize]) -> Result<(), Error> {
        if value.is_finite() {
            return Ok(());
        }
        let clips = clips.iter().map(|&i| self.run.data.items[i].file.clone());
        Err(Error::NotFinite {
            what: what.to_owned(),
            value,
            step: at.step,
            epoch: at.epoch,
            clips: clips.collect(),
        })
    }

    /// Refuses weights that the last step, on these batches, has spoilt.
    fn weights_are_finite(&self, at: &Position, batches: &[Vec<usize>]) -> Result<(), Error> {
        for (name, var) in &self.started.trained {
            let sum = mtcae_nn::optim::sum_of_squares(var.as_tensor())?;
            self.finite(&format!("weight {name}"), sum, at, &batches.concat())?;
        }
        Ok(())
    }

    /// The norm of each task's weighted gradient on F, for a batch.
    fn task_norms(&self, batch: &Batch, seed: u64) -> Result<TaskNorms, Error> {
        let model = &self.started.model;
        let mut pass = Pass::training(seed);
        let f = match &batch.input {
            crate::batch::Input::Tubes(tubes) => model.encoder().run(tubes, &mut pass)?,
            crate::batch::Input::Features(f) => f.clone(),
        };
        let leaf = Var::from_tensor(&f.detach())?;
        let outputs = model.decode(leaf.as_tensor(), &mut pass)?;
        let losses = self.losses(&outputs, batch)?;
        let norm = |loss: &Tensor, weight: f64| -> Result<f64, Error> {
            match (loss * weight)?.backward()?.get(&leaf) {
                Some(gradient) => Ok(mtcae_nn::optim::sum_of_squares(gradient)?.sqrt()),
                None => Ok(0.0),
            }
        };
        let config = self.run.config;
        Ok(TaskNorms {
            boxes: losses
                .boxes
                .as_ref()
                .map(|l| norm(l, config.box_weight))
                .transpose()?,
            landmarks: losses
                .landmarks
                .as_ref()
                .map(|l| norm(l, config.landmark_weight))
                .transpose()?,
            expression: norm(&losses.expression, config.expression_weight)?,
        })
    }

    /// The validation subjects, by the weights that would be kept.
    fn validate(&self, watch: &mut Watch<'_>) -> Result<Option<Validation>, Error> {
        let places = &self.run.split.validation;
        if places.is_empty() {
            return Ok(None);
        }
        let measured = self.with_kept_weights(|| {
            predict::predict(
                &self.started.model,
                &self.source,
                self.run.data,
                places,
                Some(&self.objective),
                self.run.config,
                self.run.device,
                watch,
            )
        })?;
        let (results, loss) = measured;
        let summary = predict::summarise(&results, &self.run.data.classes, None)?;
        Ok(Some(Validation {
            loss,
            uar: summary.uar,
            war: summary.war,
            mean_iou: summary.mean_iou,
            nme: summary.nme,
        }))
    }

    /// Puts the moving average in the weights' place meanwhile, where there is one.
    fn with_kept_weights<R>(&self, f: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
        if self.ema.is_empty() {
            return f();
        }
        let own = copies(&self.started.trained)?;
        let put = |weights: &[(String, Tensor)]| -> Result<(), Error> {
            for ((_, var), (_, tensor)) in self.started.trained.iter().zip(weights) {
                var.set(tensor)?;
            }
            Ok(())
        };
        put(&self.ema)?;
        let result = f();
        put(&own)?;
        result
    }

    fn keep_best(&self, at: &Position) -> Result<(), Error> {
        let kept: Vec<(String, Tensor)> = match self.ema.is_empty() {
            true => self
                .started
                .trained
                .iter()
                .map(|(n, v)| (n.clone(), v.as_tensor().clone()))
                .collect(),
            false => self.ema.clone(),
        };
        let tensors: Vec<(String, Tensor)> = kept
            .into_iter()
            .map(|(name, tensor)| (format!("weights/{name}"), tensor))
            .collect();
        state::write(&self.run.folder.join(BEST), &self.identity, at, &tensors)
    }
}

fn tell(watch: &mut Watch<'_>, event: &Event<'_>) -> Result<(), Error> {
    match watch(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}

/// Copies that later changes of the parameters do not reach.
fn copies(vars: &[(String, Var)]) -> Result<Vec<(String, Tensor)>, Error> {
    vars.iter()
        .map(|(name, var)| Ok((name.clone(), var.as_tensor().copy()?.detach())))
        .collect()
}

fn digest(split: &Split) -> String {
    random::hex(&Sha256::digest(format!("{split:?}")))
}

fn objective(
    config: &TrainConfig,
    data: &Dataset,
    split: &Split,
    image_size: usize,
) -> Result<Objective, Error> {
    let unit = match config.unit {
        Unit::Fraction => LossUnit::Fraction,
        Unit::Pixel => LossUnit::Pixel(image_size as u32),
    };
    let class_weights = match config.class_weights {
        ClassWeights::Equal => None,
        ClassWeights::Balanced => {
            let classes = data.classes.len();
            let mut counts = vec![0usize; classes];
            for &i in &split.train {
                counts[data.items[i].class] += 1;
            }
            let there = counts.iter().filter(|n| **n > 0).count();
            let even = split.train.len() as f64 / there.max(1) as f64;
            let weight = |&n: &usize| if n == 0 { 0.0 } else { even / n as f64 };
            Some(counts.iter().map(weight).collect())
        }
    };
    Ok(Objective::new(ObjectiveConfig {
        weights: Weights {
            boxes: config.box_weight,
            landmarks: config.landmark_weight,
            expression: config.expression_weight,
        },
        box_unit: unit,
        landmark_unit: unit,
        class_weights,
        label_smoothing: config.smoothing,
    })?)
}

/// How many clips of a batch were recognised, where it is not mixed.
fn right(outputs: &Outputs, batch: &Batch) -> Result<Sums, Error> {
    let Class::Index(truth) = &batch.targets.class else {
        return Ok(Sums::default());
    };
    let truth: Vec<u32> = truth.to_vec1()?;
    let predicted: Vec<u32> = outputs.logits.argmax(1)?.to_vec1()?;
    let right = truth.iter().zip(&predicted).filter(|(a, b)| a == b).count();
    Ok(Sums {
        plain: truth.len() as u64,
        right: right as u64,
        ..Sums::default()
    })
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.clips += other.clips;
        self.loss += other.loss;
        self.boxes += other.boxes;
        self.landmarks += other.landmarks;
        self.expression += other.expression;
        self.plain += other.plain;
        self.right += other.right;
    }
}

fn epoch_line(epoch: usize, sums: &Sums, validation: Option<Validation>) -> EpochLine {
    let mean = |sum: f64| sum / sums.clips.max(1.0);
    EpochLine {
        epoch,
        loss: mean(sums.loss),
        boxes: sums.multi.then(|| mean(sums.boxes)),
        landmarks: sums.multi.then(|| mean(sums.landmarks)),
        expression: mean(sums.expression),
        accuracy: (sums.plain > 0).then(|| sums.right as f64 / sums.plain as f64),
        gradients: sums.gradients,
        validation,
        seconds: sums.seconds,
        waiting: sums.waited / sums.seconds.max(1e-9),
        clips_per_second: sums.clips / sums.seconds.max(1e-9),
    }
}
