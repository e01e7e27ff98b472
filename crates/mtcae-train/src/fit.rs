//! The training loop: one run on one split, which can be stopped at any moment
//! and resumed to the bit.

use mtcae_core::files::FileError;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use mtcae_model::Outputs;
use mtcae_nn::optim::Gradients;
use mtcae_nn::{Pass, on_pool};
use mtcae_objective::{Losses, Objective};

use crate::average::Average;
use crate::batch::{Batch, Input, Loaded, Source};
use crate::cache::FeatureCache;
use crate::data::{Dataset, Split};
use crate::digest::Identity;
use crate::disk::Claim;
use crate::event::Watch;
use crate::folder::{BEST, IDENTITY, LOG, STATE};
use crate::log::{Line, Log, StepLine, TaskNorms, Validation};
use crate::loss::learning;
use crate::optimiser::Optimiser;
use crate::predict::{heads, predict, summarise};
use crate::prefetch::Prefetch;
use crate::start::{Start, Started, group};
use crate::state::{self, Position};
use crate::sums::{Facts, Sums};
use crate::{Error, Event, Keep, TrainConfig, random};

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
/// of another run, or a cross-validation. Otherwise names the setting or file at fault.
pub fn fit(run: &Run<'_>, watch: &mut Watch<'_>) -> Result<Fitted, Error> {
    run.config.validate()?;
    run.start.check()?;
    let _claim = Claim::of(run.folder)?;
    let other = run.folder.join(IDENTITY);
    if other.exists() {
        let reason = "the folder holds a cross-validation, not a single run";
        return Err(FileError::new(other, reason).into());
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
    optimiser: Optimiser,
    average: Option<Average>,
    /// What the state must agree with.
    identity: BTreeMap<String, String>,
    state: PathBuf,
    steps_an_epoch: u64,
}

impl<'a> Trainer<'a> {
    fn new(run: &'a Run<'a>) -> Result<Self, Error> {
        let (config, data) = (run.config, run.data);
        config.prepare(run.device)?;
        let mut started = run.start.build(config, run.cache.is_some(), run.device)?;
        let model = started.model.config();
        if model.classes != data.classes {
            return Err(Error::Config {
                field: "classes",
                reason: format!(
                    "those of the checkpoint are {}; those of the labels are {}",
                    model.classes.join(", "),
                    data.classes.join(", ")
                ),
            });
        }
        if run.cache.is_some() && !data.known_units(&model.action_units).is_empty() {
            return Err(Error::Config {
                field: "action_units",
                reason: "a feature cache does not hold them: train from the videos".to_owned(),
            });
        }
        let source = match run.cache {
            Some(cache) => {
                if config.tune != crate::Tune::Decoder {
                    return Err(Error::Config {
                        field: "tune",
                        reason: format!(
                            "{} needs the videos; cached features are for `decoder`",
                            config.tune
                        ),
                    });
                }
                Source::cached(data, cache, model, config, run.device)
            }
            None => Source::videos(data, model, config, run.device)?,
        };
        // A task that the model lacks is none to have a weight.
        let mut weighed = config.clone();
        if model.action_units.is_empty() {
            weighed.action_unit_weight = 0.0;
        }
        let objective = weighed.objective(data, &run.split.train, model.encoder.input().size)?;
        let objective = learning(objective, model, &mut started.trained, run.device)?;
        let optimiser = Optimiser::new(&started.trained, config, group(&*model.encoder, config))?;
        let average = match config.ema > 0.0 {
            true => Some(Average::new(config.ema, &started.trained)?),
            false => None,
        };
        let batches = run.split.train.len().div_ceil(config.batch);
        let json = |key: &str, value: serde_json::Result<String>| {
            value.map_err(|e| Error::Config {
                field: "state",
                reason: format!("the {key} cannot be written down: {e}"),
            })
        };
        let identity = BTreeMap::from([
            (
                "config".to_owned(),
                json("config", serde_json::to_string(&config.decisive()))?,
            ),
            (
                "model".to_owned(),
                json("model", serde_json::to_string(model))?,
            ),
            ("frozen weights".to_owned(), started.frozen.clone()),
            ("clips".to_owned(), data.digest()),
            ("split".to_owned(), digest_of(run.split)),
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
            average,
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
        for (name, var) in &self.started.followed {
            var.set(&state.tensor(&format!("followed/{name}"), device)?)?;
        }
        if let Some(average) = &mut self.average {
            average.restore(|name| state.tensor(&format!("ema/{name}"), device))?;
        }
        let steps = state.position.step;
        self.optimiser.restore(steps, |name| {
            state.tensor(name, device).map_err(candle_core::Error::wrap)
        })?;
        Ok(state.position)
    }

    fn save(&self, position: &Position) -> Result<(), Error> {
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        for (name, var) in &self.started.trained {
            tensors.push((format!("weights/{name}"), var.as_tensor().clone()));
        }
        tensors.extend(self.followed());
        tensors.extend(self.optimiser.state());
        for (name, tensor) in self.average.iter().flat_map(Average::tensors) {
            tensors.push((format!("ema/{name}"), tensor.clone()));
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
        if let Some(notice) = self.run.start.left_out() {
            tell(watch, &Event::Notice(&notice))?;
        }
        let model = self.started.model.config();
        if let Some(notice) = config.idle_on(model.preprocessing.crop) {
            tell(watch, &Event::Notice(&notice))?;
        }
        let units = &model.action_units;
        if units.len() > self.run.data.known_units(units).len() {
            let notice = format!(
                "no clip's labels say all of the model's action units ({}): what it says of them \
                 is not trained, and is worth less the more the rest is",
                units.join(", ")
            );
            tell(watch, &Event::Notice(&notice))?;
        }
        let encoder = &model.encoder;
        if config.drop_path > 0.0
            && config.tune != crate::Tune::Decoder
            && encoder.with_drop_path(config.drop_path).is_none()
        {
            let family = encoder.family();
            let notice = format!(
                "encoders of the family {family} know no drop path: drop_path is of the \
                 decoders alone"
            );
            tell(watch, &Event::Notice(&notice))?;
        }
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
                for (name, var) in &self.started.followed {
                    var.set(&best.tensor(&format!("followed/{name}"), self.run.device)?)?;
                }
                epoch
            }
            _ => {
                if let Some(average) = &self.average {
                    average.keep(&self.started.trained)?;
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
            let clips = numbers.iter().map(|&n| batches[n].len()).sum();
            let line = self.step(at, &mut loaded, numbers, clips)?;
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
        let line = at.sums.epoch(epoch, validation);
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

    /// One step of the optimiser: the gradient of the mean over the clips of some
    /// batches, the last of which may be smaller.
    fn step(
        &mut self,
        at: &mut Position,
        loaded: &mut Prefetch<Result<Loaded, Error>>,
        numbers: &[usize],
        in_all: usize,
    ) -> Result<StepLine, Error> {
        let config = self.run.config;
        let mut gradients: Option<Gradients> = None;
        let mut measured = Vec::with_capacity(numbers.len());
        let mut clips = Vec::new();
        for &number in numbers {
            let Some(batch) = loaded.next() else {
                break;
            };
            let batch = self.source.on_device(batch?)?;
            clips.extend(batch.items.iter().copied());
            let share = batch.items.len() as f64 / in_all as f64;
            let (facts, values, taken) = on_pool(|| self.gradients(at, &batch, number, share))?;
            measured.push((facts, values));
            match &mut gradients {
                Some(sum) => sum.add(&taken)?,
                None => gradients = Some(taken),
            }
        }
        let Some(gradients) = gradients else {
            return Err(Error::Config {
                field: "batch",
                reason: "no clips of it could be had".to_owned(),
            });
        };
        // All that is read back of a step, once all of it is under way.
        let norm = on_pool(|| gradients.norm())?;
        let mut means = Sums::default();
        for (facts, values) in &measured {
            let part = Sums::of(facts, values)?;
            for (what, value) in [
                ("the loss of the boxes", part.boxes),
                ("the loss of the landmarks", part.landmarks),
                ("the loss of the action units", part.action_units),
                ("the loss of the expression", part.expression),
                ("the loss", part.loss),
            ] {
                self.finite(what, value / part.clips, at, &clips)?;
            }
            means.add(&part);
        }
        self.finite("the gradient's norm", norm, at, &clips)?;
        let clip = match config.clip_norm > 0.0 && norm > config.clip_norm {
            // As torch.nn.utils.clip_grad_norm_.
            true => config.clip_norm / (norm + 1e-6),
            false => 1.0,
        };
        let lr = config.lr_at(at.step, self.steps_an_epoch);
        on_pool(|| {
            self.optimiser.step(&gradients, lr, clip)?;
            match &self.average {
                Some(average) => average.update(&self.started.trained),
                None => Ok(()),
            }
        })?;
        at.sums.add(&means);
        Ok(means.step(at.step, at.epoch, lr, norm))
    }

    /// Forward and backward of a batch, which is a share of the step's clips: what is
    /// measured of it and its part of the gradient.
    fn gradients(
        &self,
        at: &mut Position,
        batch: &Batch,
        number: usize,
        share: f64,
    ) -> Result<(Facts, Tensor, Gradients), Error> {
        let config = self.run.config;
        let seed = random::seed("pass", &[config.seed, at.epoch as u64, number as u64]);
        if config.gradients && at.sums.gradients.is_none() && batch.has_faces {
            at.sums.gradients = Some(self.task_norms(batch, seed)?);
        }
        let mut pass = Pass::training(seed).collecting();
        if config.checkpointing {
            pass = pass.recomputing();
        }
        let f = self.features(batch, &mut pass)?;
        let outputs = self.started.model.decode(&f, &mut pass)?;
        let losses = self.losses(&outputs, batch)?;
        let measured = Sums::measured(batch, &outputs, &losses)?;
        let facts = Facts {
            clips: batch.items.len(),
            has_faces: batch.has_faces,
            is_mixed: batch.classes.is_none(),
            is_multi: losses.boxes.is_some(),
            has_units: batch.has_units && losses.action_units.is_some(),
        };
        let mut store = match share < 1.0 {
            true => (losses.total * share)?.backward()?,
            false => losses.total.backward()?,
        };
        store.extend(pass.into_gradients())?;
        let taken = Gradients::take(&self.started.trained, &mut store)?;
        Ok((facts, measured, taken))
    }

    /// Global features F (B, N, D) of a batch.
    fn features(&self, batch: &Batch, pass: &mut Pass) -> Result<Tensor, Error> {
        Ok(match (&batch.input, &self.started.encoder) {
            (Input::Features(features), _) => features.clone(),
            (Input::Clips(clips), Some(frozen)) => frozen.encode(clips, &mut Pass::inference())?,
            (Input::Clips(clips), None) => match self.started.model.encoder() {
                Some(encoder) => encoder
                    .run(&clips.to_dtype(self.run.config.precision.dtype())?, pass)
                    .map_err(mtcae_model::Error::from)?,
                None => return Err(mtcae_model::Error::NoEncoder.into()),
            },
        })
    }

    fn losses(&self, outputs: &Outputs, batch: &Batch) -> Result<Losses, Error> {
        Ok(self.objective.forward(&heads(outputs), &batch.targets)?)
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
        let f = self.features(batch, &mut pass)?;
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
            action_units: losses
                .action_units
                .as_ref()
                .map(|l| norm(l, config.action_unit_weight))
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
        let mut measure = || {
            let engine = self.started.engine(self.run.config, self.run.device)?;
            let objective = Some(&self.objective);
            predict(&engine, &self.source, places, objective, watch)
        };
        let (results, loss) = match &self.average {
            Some(average) => average.instead(&self.started.trained, measure)?,
            None => measure()?,
        };
        let summary = summarise(&results, &self.run.data.classes, None)?;
        Ok(Some(Validation {
            loss,
            uar: summary.uar,
            war: summary.war,
            mean_iou: summary.mean_iou,
            nme: summary.nme,
        }))
    }

    /// What moves without a gradient, as a state holds it.
    fn followed(&self) -> impl Iterator<Item = (String, Tensor)> {
        let followed = self.started.followed.iter();
        followed.map(|(name, var)| (format!("followed/{name}"), var.as_tensor().clone()))
    }

    fn keep_best(&self, at: &Position) -> Result<(), Error> {
        let kept: Vec<(&String, &Tensor)> = match &self.average {
            Some(average) => average.tensors().iter().map(|(n, t)| (n, t)).collect(),
            None => {
                let trained = self.started.trained.iter();
                trained.map(|(n, v)| (n, v.as_tensor())).collect()
            }
        };
        let tensors: Vec<(String, Tensor)> = kept
            .into_iter()
            .map(|(name, tensor)| (format!("weights/{name}"), tensor.clone()))
            .chain(self.followed())
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

fn digest_of(split: &Split) -> String {
    let mut identity = Identity::new("split", 1);
    identity.numbers(&split.train).numbers(&split.validation);
    identity.numbers(&split.test).finish()
}
