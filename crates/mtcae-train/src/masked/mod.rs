//! Learning from videos without labels: an encoder sees a part of each clip, and a decoder
//! predicts the rest.

mod glimpse;
mod scales;
mod start;
mod sums;
mod videos;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use mtcae_model::encoder::masked::{Mask, Masked, MaskedConfig, Pictures, Reconstruction};
use mtcae_nn::{ParamStore, Pass, on_pool};
use mtcae_video::Normalization;
use mtcae_viz::{Canvas, contact_sheet};
use ndarray::ArrayView3;
use rand::Rng;
use serde::Serialize;

pub use scales::Scales;
pub use start::{MaskedStart, Pretrained};
pub(crate) use sums::MaskedSums;
pub use sums::{MaskedEpoch, MaskedLine, MaskedStep, MaskedValidation};
pub use videos::{Footage, Videos};

use crate::event::{Event, Watch, tell};
use crate::fit::{claim, learn};
use crate::form::{Form, Prepared};
use crate::learner::{Drawn, Forward, Leaf, Learner, Loader, ordered};
use crate::optimiser::Optimiser;
use crate::predict::scalar;
use crate::prefetch::Prefetch;
use crate::view::Frames;
use crate::{Error, Ranks, TrainConfig, random};
use glimpse::Glimpse;
use videos::Parts;

/// Videos that are tried in place of one that cannot be read.
const TRIES: u64 = 20;
/// Clips of a picture of reconstructions.
const SHOWN: usize = 4;
/// Frames that it shows of each.
const FRAMES: usize = 8;

/// One pre-training: what is learned from which videos, and where its files go.
pub struct Pretraining<'a> {
    /// What it is, in the caller's words.
    pub name: &'a str,
    /// Its folder, which is created if need be.
    pub folder: &'a Path,
    /// Where its weights begin.
    pub start: &'a MaskedStart,
    /// The videos.
    pub videos: &'a Arc<Videos>,
    /// How.
    pub config: &'a TrainConfig,
    /// Where.
    pub device: &'a Device,
}

/// Pre-trains, beginning anew or going on from the state in the run's folder.
///
/// # Errors
/// As [`fit`](crate::fit()); of a video that cannot be read names the file, unless such may be
/// left out.
pub fn pretrain(run: &Pretraining<'_>, watch: &mut Watch<'_>) -> Result<Pretrained, Error> {
    pretrain_together(run, Ranks::ALONE, watch)
}

/// As [`pretrain`], by several processes: each computes some of a step's batches, one writes. The
/// run is the same to the bit, whatever their number, and goes on with another.
///
/// # Errors
/// As [`pretrain`]; [`Error::Ranks`] when they differ in what they train on, or another has
/// failed.
pub fn pretrain_together(
    run: &Pretraining<'_>,
    ranks: Ranks<'_>,
    watch: &mut Watch<'_>,
) -> Result<Pretrained, Error> {
    run.config.validate()?;
    ranks.check(run.config)?;
    let _claim = ranks.by_first(|| claim(run.folder))?;
    let learner = MaskedLearner::new(run)?;
    let (learner, epoch) = learn(learner, run.name, run.folder, ranks, watch)?;
    Ok(Pretrained {
        config: run.start.config().clone(),
        store: learner.store,
        epoch,
        videos: run.videos.files.len(),
    })
}

struct MaskedLearner<'a> {
    run: &'a Pretraining<'a>,
    model: Masked,
    store: ParamStore,
    trained: Vec<(String, Var)>,
    source: Arc<Source>,
    parts: Parts,
    identity: BTreeMap<String, String>,
    /// What was told of videos that cannot be read.
    told: BTreeSet<String>,
}

/// Where clips come from. Shared by the threads that prepare batches.
struct Source {
    videos: Arc<Videos>,
    /// Those that are trained on.
    train: Vec<usize>,
    glimpse: Glimpse,
    model: MaskedConfig,
    seed: u64,
    allow_missing: bool,
    device: Device,
    dtype: DType,
}

/// A batch on the host.
struct Loaded {
    levels: Prepared,
    masks: Vec<Mask>,
    /// What could not be read, a line each: other clips stand in its place.
    faults: Vec<String>,
}

/// What is measured of a batch.
struct Measured {
    clips: usize,
    faults: Vec<String>,
    loss: Tensor,
}

impl Source {
    fn training(&self, leaf: &Leaf) -> Result<Loaded, Error> {
        let (mut clips, mut masks, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for &place in &leaf.clips {
            let of = [self.seed, leaf.epoch as u64, place as u64];
            masks.push(self.model.mask(random::seed("mask", &of))?);
            clips.push(self.clip(place, of, &mut faults)?);
        }
        self.loaded(clips, masks, faults)
    }

    /// A clip of a video; where that cannot be read and may be left out, of another.
    fn clip(
        &self,
        mut place: usize,
        [seed, epoch, own]: [u64; 3],
        faults: &mut Vec<String>,
    ) -> Result<Frames, Error> {
        let mut attempt = 0;
        loop {
            let mut rng = random::generator("glimpse", &[seed, epoch, own, attempt]);
            let error = match self.glimpse.drawn(&self.videos.files[place].path, &mut rng) {
                Ok(frames) => return Ok(frames),
                Err(error) => error,
            };
            self.may_be_left_out(error, attempt, faults)?;
            attempt += 1;
            place = self.train[rng.random_range(0..self.train.len())];
        }
    }

    /// Clips that are measured by: always the same, under masks that stay as well.
    fn fixed(&self, places: &[usize]) -> Result<Loaded, Error> {
        let (mut clips, mut masks, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for &place in places {
            match self.glimpse.fixed(&self.videos.files[place].path) {
                Ok(frames) => {
                    let seed = random::seed("fixed mask", &[self.seed, place as u64]);
                    masks.push(self.model.mask(seed)?);
                    clips.push(frames);
                }
                Err(error) => self.may_be_left_out(error, 0, &mut faults)?,
            }
        }
        self.loaded(clips, masks, faults)
    }

    fn may_be_left_out(
        &self,
        error: Error,
        attempt: u64,
        faults: &mut Vec<String>,
    ) -> Result<(), Error> {
        let reason = mtcae_core::one_line(&error);
        if self.allow_missing && attempt < TRIES {
            faults.push(reason);
            return Ok(());
        }
        let reason = match self.allow_missing {
            true => format!("{reason}; nor could the {TRIES} tried before it be read"),
            false => format!("{reason}; `allow_missing` leaves such videos out"),
        };
        Err(Error::Config {
            field: "videos",
            reason,
        })
    }

    fn loaded(
        &self,
        clips: Vec<Frames>,
        masks: Vec<Mask>,
        faults: Vec<String>,
    ) -> Result<Loaded, Error> {
        Ok(Loaded {
            levels: self.glimpse.form.prepared(clips, &self.device)?,
            masks,
            faults,
        })
    }

    /// Normalised tubes (B, N, P) on the device.
    fn on_device(&self, clips: Prepared) -> Result<Tensor, Error> {
        let tubes = self.glimpse.form.on_device(clips, &self.device)?;
        Ok(tubes.to_dtype(self.dtype)?)
    }
}

/// What is done with a batch of clips, their masks, and what the model makes of them.
type Each<'a> = dyn FnMut(&Tensor, &[Mask], &Reconstruction) -> Result<(), Error> + 'a;

impl<'a> MaskedLearner<'a> {
    fn new(run: &'a Pretraining<'a>) -> Result<Self, Error> {
        let (config, device) = (run.config, run.device);
        config.prepare(device)?;
        let (model, store) = run.start.build(config, device)?;
        let parts = run.videos.split(config)?;
        let masked = model.config();
        let form = Form {
            input: masked.encoder.input(),
            normalization: Normalization {
                mean: masked.mean,
                std: masked.std,
            },
        };
        let source = Source {
            videos: run.videos.clone(),
            train: parts.train.clone(),
            glimpse: Glimpse::new(form, config),
            model: masked.clone(),
            seed: config.seed,
            allow_missing: config.allow_missing,
            device: device.clone(),
            dtype: config.precision.dtype(),
        };
        let identity = BTreeMap::from([
            ("config".to_owned(), written("config", &config.decisive())?),
            ("model".to_owned(), written("model", masked)?),
            ("videos".to_owned(), run.videos.digest()),
        ]);
        Ok(Self {
            run,
            trained: store.vars(),
            model,
            store,
            source: Arc::new(source),
            parts,
            identity,
            told: BTreeSet::new(),
        })
    }

    /// What the model makes of some clips that stay the same, a batch at a time. Gives what was
    /// left out, and why.
    fn of_fixed(
        &self,
        places: &[usize],
        watch: &mut Watch<'_>,
        each: &mut Each<'_>,
    ) -> Result<Vec<String>, Error> {
        let config = self.run.config;
        let batches: Vec<Vec<usize>> = places.chunks(config.batch).map(<[_]>::to_vec).collect();
        let (source, count) = (self.source.clone(), batches.len());
        let loaded = Prefetch::new(count, config.workers, config.queue, move |i| {
            source.fixed(&batches[i])
        });
        let (mut done, mut left_out) = (0, Vec::new());
        for loaded in loaded {
            let Loaded {
                levels,
                masks,
                faults,
            } = loaded?;
            left_out.extend(faults);
            if masks.is_empty() {
                continue;
            }
            let tubes = self.source.on_device(levels)?;
            let model = &self.model;
            let made = on_pool(|| model.forward(&tubes, &masks, &mut Pass::inference()))?;
            each(&tubes, &masks, &made)?;
            done += masks.len();
            let total = places.len();
            tell(watch, &Event::Predicted { done, total })?;
        }
        Ok(left_out)
    }
}

/// Something as JSON, for a state.
fn written(key: &str, value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::Config {
        field: "state",
        reason: format!("the {key} cannot be written down: {e}"),
    })
}

impl Learner for MaskedLearner<'_> {
    type Loaded = Loaded;
    type Measured = Measured;
    type Sums = MaskedSums;
    type Validation = MaskedValidation;

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
        &self.trained
    }

    fn followed(&self) -> &[(String, Var)] {
        &[]
    }

    fn optimiser(&self) -> Result<Optimiser, Error> {
        let config = self.run.config;
        let group = start::group(self.model.config(), config);
        Ok(Optimiser::new(&self.trained, config, group)?)
    }

    fn notices(&self) -> Vec<String> {
        Vec::new()
    }

    fn batches(&self) -> usize {
        self.parts.train.len().div_ceil(self.run.config.batch)
    }

    fn order(&self, epoch: usize) -> Vec<Vec<usize>> {
        let config = self.run.config;
        ordered(&self.parts.train, config.seed, epoch, config.batch)
    }

    fn loader(&self) -> Loader<Loaded> {
        let source = self.source.clone();
        Arc::new(move |leaf| source.training(leaf))
    }

    fn clip(&self, place: usize) -> &str {
        &self.run.videos.files[place].name
    }

    fn forward(
        &mut self,
        leaf: &Leaf,
        loaded: Loaded,
        _: &MaskedSums,
    ) -> Result<Forward<Measured>, Error> {
        let config = self.run.config;
        let tubes = self.source.on_device(loaded.levels)?;
        let (epoch, number) = (leaf.epoch as u64, leaf.number as u64);
        let seed = random::seed("pass", &[config.seed, epoch, number]);
        let mut pass = Pass::training(seed).collecting();
        if config.checkpointing {
            pass = pass.recomputing();
        }
        let made = self.model.forward(&tubes, &loaded.masks, &mut pass)?;
        let loss = made.loss()?;
        Ok(Forward {
            measured: Measured {
                clips: leaf.clips.len(),
                faults: loaded.faults,
                loss: loss.detach(),
            },
            loss,
            pass,
        })
    }

    fn sums(&self, measured: &Measured) -> Result<MaskedSums, Error> {
        let clips = measured.clips as f64;
        Ok(MaskedSums {
            clips,
            loss: scalar(&measured.loss)? * clips,
            replaced: measured.faults.len() as u64,
            faults: measured.faults.iter().cloned().collect(),
        })
    }

    fn news(&mut self, numbers: &MaskedSums) -> Vec<String> {
        let told = &mut self.told;
        let news = numbers
            .faults
            .iter()
            .filter(|fault| told.insert((*fault).clone()));
        news.map(|fault| format!("left out, and another in its place: {fault}"))
            .collect()
    }

    fn validate(
        &self,
        ranks: Ranks<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Option<MaskedValidation>, Error> {
        let places = &self.parts.validation;
        // Whole batches, so that each is the same whoever measures it.
        let group = ranks.group();
        let batches = places.len().div_ceil(self.run.config.batch);
        let of =
            |rank: usize| (batches * rank / group.size() * self.run.config.batch).min(places.len());
        let own = &places[of(group.rank())..of(group.rank() + 1)];
        let mut parts: Vec<(f64, f64)> = Vec::new();
        let measured = self.of_fixed(own, watch, &mut |_, masks, made| {
            parts.push((scalar(&made.loss()?)?, masks.len() as f64));
            Ok(())
        });
        let parts = ranks.gather(measured.map(|left_out| (parts, left_out)))?;
        let (mut sum, mut clips) = (0.0, 0.0);
        for (parts, left_out) in parts {
            for fault in left_out {
                let notice = format!("left out of what is measured: {fault}");
                tell(watch, &Event::Notice(&notice))?;
            }
            for (loss, of) in parts {
                sum += loss * of;
                clips += of;
            }
        }
        Ok((clips > 0.0).then(|| MaskedValidation { loss: sum / clips }))
    }

    fn picture(&self, epoch: usize) -> Result<Option<Drawn>, Error> {
        let every = self.run.config.pictures;
        if every == 0 || !(epoch + 1).is_multiple_of(every) {
            return Ok(None);
        }
        let of = match self.parts.validation.is_empty() {
            true => &self.parts.train,
            false => &self.parts.validation,
        };
        let mut cells = Vec::new();
        let mut columns = 1;
        let shown = &of[..of.len().min(SHOWN)];
        self.of_fixed(
            shown,
            &mut |_| ControlFlow::Continue(()),
            &mut |tubes, masks, made| {
                let drawn = Pictures::new(self.model.config(), tubes, masks, made)?;
                for clip in 0..masks.len() {
                    for kind in [&drawn.original, &drawn.masked, &drawn.reconstructed] {
                        let row = row(&kind.get(clip)?)?;
                        columns = row.len();
                        cells.extend(row);
                    }
                }
                Ok(())
            },
        )?;
        if cells.is_empty() {
            return Ok(None);
        }
        Ok(Some(Drawn {
            folder: "reconstructions",
            picture: contact_sheet(&cells, columns)?,
        }))
    }
}

/// Some frames of a clip (T, H, W, 3), evenly.
fn row(clip: &Tensor) -> Result<Vec<Canvas>, Error> {
    let (frames, height, width, channels) = clip.dims4()?;
    let shown = frames.min(FRAMES);
    let mut row = Vec::with_capacity(shown);
    for i in 0..shown {
        let levels: Vec<u8> = clip.get(i * frames / shown)?.flatten_all()?.to_vec1()?;
        let frame = ArrayView3::from_shape((height, width, channels), &levels);
        let frame = frame.map_err(candle_core::Error::wrap)?;
        row.push(Canvas::from_frame(frame)?);
    }
    Ok(row)
}
