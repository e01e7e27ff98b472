//! Learning from labelled clips: one run on one split.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use mtcae_model::Outputs;
use mtcae_nn::Pass;
use mtcae_objective::{Contrast, Losses, Objective};

use crate::batch::{Batch, Input, Loaded, Source};
use crate::cache::FeatureCache;
use crate::data::{Dataset, Split};
use crate::digest::Identity;
use crate::event::Watch;
use crate::fit::{claim, learn};
use crate::learner::{Forward, Leaf, Learner, Loader};
use crate::log::{TaskNorms, Validation};
use crate::loss::{contrast, learning};
use crate::optimiser::Optimiser;
use crate::predict::{heads, predict_together, summarise};
use crate::start::{Start, Started, group};
use crate::sums::{Facts, Sums};
use crate::{Error, Ranks, TrainConfig, Tune, random};

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
    fit_together(run, Ranks::ALONE, watch)
}

/// As [`fit`], by several processes: each computes some of a step's batches, one writes. The run
/// is the same to the bit, whatever their number, and goes on with another.
///
/// # Errors
/// As [`fit`]; [`Error::Ranks`] when they differ in what they train on, or another has failed.
pub fn fit_together(
    run: &Run<'_>,
    ranks: Ranks<'_>,
    watch: &mut Watch<'_>,
) -> Result<Fitted, Error> {
    run.config.validate()?;
    run.start.check()?;
    ranks.check(run.config)?;
    let _claim = ranks.by_first(|| claim(run.folder))?;
    let learner = Supervised::new(run)?;
    let (learner, epoch) = learn(learner, run.name, run.folder, ranks, watch)?;
    Ok(Fitted {
        started: learner.started,
        source: learner.source,
        epoch,
    })
}

struct Supervised<'a> {
    run: &'a Run<'a>,
    started: Started,
    source: Arc<Source>,
    objective: Objective,
    contrast: Option<Contrast>,
    identity: BTreeMap<String, String>,
    /// The epoch of which the tasks' gradients were measured last.
    measured: Option<usize>,
}

impl<'a> Supervised<'a> {
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
                if config.tune != Tune::Decoder {
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
        let contrast = contrast(config, model, &mut started.trained, run.device)?;
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
            contrast,
            identity,
            started,
            measured: None,
        })
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

    /// The norm of each task's weighted gradient on F, for a batch.
    fn task_norms(&self, batch: &Batch, seed: u64) -> Result<TaskNorms, Error> {
        let model = &self.started.model;
        // It only looks: running statistics stay as they are.
        let mut pass = Pass::training(seed).apart();
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
}

/// What is measured of a batch.
struct Measured {
    facts: Facts,
    numbers: Tensor,
    norms: Option<TaskNorms>,
}

impl Learner for Supervised<'_> {
    type Loaded = Loaded;
    type Measured = Measured;
    type Sums = Sums;
    type Validation = Validation;

    fn config(&self) -> &TrainConfig {
        self.run.config
    }

    fn device(&self) -> &Device {
        self.run.device
    }

    fn identity(&self) -> &BTreeMap<String, String> {
        &self.identity
    }

    fn trained(&self) -> &[(String, Var)] {
        &self.started.trained
    }

    fn followed(&self) -> &[(String, Var)] {
        &self.started.followed
    }

    fn optimiser(&self) -> Result<Optimiser, Error> {
        let config = self.run.config;
        let group = group(&*self.started.model.config().encoder, config);
        Ok(Optimiser::new(&self.started.trained, config, group)?)
    }

    fn notices(&self) -> Vec<String> {
        let (config, model) = (self.run.config, self.started.model.config());
        let mut notices: Vec<String> = self.run.start.left_out().into_iter().collect();
        notices.extend(config.idle_on(model.preprocessing.crop));
        let units = &model.action_units;
        if units.len() > self.run.data.known_units(units).len() {
            notices.push(format!(
                "no clip's labels say all of the model's action units ({}): what it says of them \
                 is not trained, and is worth less the more the rest is",
                units.join(", ")
            ));
        }
        let encoder = &model.encoder;
        if config.drop_path > 0.0
            && config.tune != Tune::Decoder
            && encoder.with_drop_path(config.drop_path).is_none()
        {
            let family = encoder.family();
            notices.push(format!(
                "encoders of the family {family} know no drop path: drop_path is of the \
                 decoders alone"
            ));
        }
        notices
    }

    fn batches(&self) -> usize {
        self.run.split.train.len().div_ceil(self.run.config.batch)
    }

    fn order(&self, epoch: usize) -> Vec<Vec<usize>> {
        self.source.order(&self.run.split.train, epoch)
    }

    fn loader(&self) -> Loader<Loaded> {
        let source = self.source.clone();
        Arc::new(move |leaf| source.training(&leaf.clips, leaf.epoch, leaf.number))
    }

    fn clip(&self, place: usize) -> &str {
        &self.run.data.items[place].file
    }

    fn forward(
        &mut self,
        leaf: &Leaf,
        loaded: Loaded,
        so_far: &Sums,
    ) -> Result<Forward<Measured>, Error> {
        let config = self.run.config;
        let batch = self.source.on_device(loaded)?;
        let seed = random::seed(
            "pass",
            &[config.seed, leaf.epoch as u64, leaf.number as u64],
        );
        let known = so_far.gradients.is_some() || self.measured == Some(leaf.epoch);
        let norms = match config.gradients && batch.has_faces && !known {
            true => {
                self.measured = Some(leaf.epoch);
                Some(self.task_norms(&batch, seed)?)
            }
            false => None,
        };
        let mut pass = Pass::training(seed).collecting().apart();
        if config.checkpointing {
            pass = pass.recomputing();
        }
        let f = self.features(&batch, &mut pass)?;
        let (outputs, features) = self.started.model.decode_in_full(&f, &mut pass)?;
        let mut losses = self.losses(&outputs, &batch)?;
        let contrast = self.contrast.as_ref();
        let between = contrast.map(|c| c.forward(&features)).transpose()?;
        if let Some(between) = &between {
            losses.total = (&losses.total + (between * config.contrastive)?)?;
        }
        let facts = Facts {
            clips: batch.items.len(),
            has_faces: batch.has_faces,
            is_mixed: batch.classes.is_none(),
            is_multi: losses.boxes.is_some(),
            has_units: batch.has_units && losses.action_units.is_some(),
            has_contrast: between.is_some(),
        };
        let numbers = Sums::measured(&batch, &outputs, &losses, between.as_ref())?;
        Ok(Forward {
            loss: losses.total,
            pass,
            measured: Measured {
                facts,
                numbers,
                norms,
            },
        })
    }

    fn sums(&self, measured: &Measured) -> Result<Sums, Error> {
        Ok(Sums {
            gradients: measured.norms,
            ..Sums::of(&measured.facts, &measured.numbers)?
        })
    }

    fn validate(
        &self,
        ranks: Ranks<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Validation>, Error> {
        let places = &self.run.split.validation;
        if places.is_empty() {
            return Ok(None);
        }
        let engine = self.started.engine(self.run.config, self.run.device)?;
        let objective = Some(&self.objective);
        let (results, loss) =
            predict_together(&engine, &self.source, places, objective, ranks, watch)?;
        let summary = summarise(&results, &self.run.data.classes, None)?;
        Ok(Some(Validation {
            loss,
            uar: summary.uar,
            war: summary.war,
            mean_iou: summary.mean_iou,
            nme: summary.nme,
        }))
    }
}

fn digest_of(split: &Split) -> String {
    let mut identity = Identity::new("split", 1);
    identity.numbers(&split.train).numbers(&split.validation);
    identity.numbers(&split.test).finish()
}
