//! The loop: learns whatever a [`Learner`] has to be learned, can be stopped at any moment and
//! resumed to the bit. It knows no task.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Tensor;
use mtcae_core::files::FileError;
use mtcae_nn::on_pool;
use mtcae_nn::ops::Followed;
use mtcae_nn::optim::Gradients;
use mtcae_ranks::{Deal, Tree};

use crate::average::Average;
use crate::clock::{Clock, timed};
use crate::disk::Claim;
use crate::event::{Watch, tell};
use crate::folder::{BEST, IDENTITY, STATE};
use crate::learner::{Drawn, Forward, Leaf, Learner, StepFacts, Sums, Told};
use crate::logs::Logs;
use crate::optimiser::Optimiser;
use crate::prefetch::Prefetch;
use crate::state;
use crate::{Error, Event, Keep, Ranks, digest};

/// Claims the folder of a run for this process.
///
/// # Errors
/// When another process has it, or it is one of a cross-validation.
pub(crate) fn claim(folder: &Path) -> Result<Claim, Error> {
    let claim = Claim::of(folder)?;
    let other = folder.join(IDENTITY);
    if other.exists() {
        let reason = "the folder holds a cross-validation, not a single run";
        return Err(FileError::new(other, reason).into());
    }
    Ok(claim)
}

/// Learns, beginning anew or going on from the state in a folder that the first of the ranks has
/// claimed. Gives the learner with the weights that are kept, and their epoch, from 0.
///
/// # Errors
/// [`Error::NotFinite`] when a loss or gradient is not a number: the state saved before is kept.
/// [`Error::File`] when the folder holds a state that is damaged or of another run. Otherwise
/// what the learner says.
pub(crate) fn learn<L: Learner>(
    learner: L,
    name: &str,
    folder: &Path,
    ranks: Ranks<'_>,
    watch: &mut Watch<'_>,
) -> Result<(L, usize), Error> {
    let mut trainer = ranks.together(Trainer::new(learner, folder, ranks))?;
    let (first, saved) = ranks.together(trainer.resume())?;
    let weights = ranks.together(trainer.digest())?;
    let (identity, device) = (trainer.learner.identity(), trainer.learner.device());
    ranks.agree(identity, device, weights, saved)?;
    trainer.train(name, first, watch)
}

/// Where a run stands.
type Position<L> = state::Position<<L as Learner>::Sums>;

/// The batches of an epoch, as threads in the background make them.
type Loading<L> = Prefetch<Result<<L as Learner>::Loaded, Error>>;

/// What one rank has of a step.
struct Own<S> {
    /// Sums of gradients over nodes of the step's tree.
    nodes: Vec<Gradients>,
    /// What its batches add up.
    parts: Vec<S>,
    /// What running statistics are to follow of each batch.
    followed: Vec<Vec<Followed>>,
}

struct Trainer<'a, L> {
    learner: L,
    folder: &'a Path,
    ranks: Ranks<'a>,
    optimiser: Optimiser,
    average: Option<Average>,
    state: PathBuf,
    steps_an_epoch: u64,
}

impl<'a, L: Learner> Trainer<'a, L> {
    fn new(learner: L, folder: &'a Path, ranks: Ranks<'a>) -> Result<Self, Error> {
        let config = learner.config();
        let average = match config.ema > 0.0 {
            true => Some(Average::new(config.ema, learner.trained())?),
            false => None,
        };
        Ok(Self {
            optimiser: learner.optimiser()?,
            average,
            state: folder.join(STATE),
            steps_an_epoch: learner.batches().div_ceil(config.accumulate) as u64,
            folder,
            ranks,
            learner,
        })
    }

    /// Takes up the saved state, if there is one, and says which it is.
    fn resume(&mut self) -> Result<(Position<L>, String), Error> {
        if !self.state.exists() {
            return Ok((Position::<L>::default(), "none".to_owned()));
        }
        let state = state::read(&self.state, self.learner.identity())?;
        let device = self.learner.device();
        for (name, var) in self.learner.trained() {
            var.set(&state.tensor(&format!("weights/{name}"), device)?)?;
        }
        for (name, var) in self.learner.followed() {
            var.set(&state.tensor(&format!("followed/{name}"), device)?)?;
        }
        if let Some(average) = &mut self.average {
            average.restore(|name| state.tensor(&format!("ema/{name}"), device))?;
        }
        let steps = state.position.step;
        self.optimiser.restore(steps, |name| {
            state.tensor(name, device).map_err(candle_core::Error::wrap)
        })?;
        Ok((state.position, format!("step {steps} ({})", state.digest)))
    }

    /// A digest of the weights that a run begins with, which all must have alike; none where there
    /// are no others.
    fn digest(&self) -> Result<String, Error> {
        if self.ranks.group().size() == 1 {
            return Ok(String::new());
        }
        let (trained, followed) = (self.learner.trained(), self.learner.followed());
        let all = trained.iter().chain(followed);
        Ok(digest::tensors(all.map(|(n, v)| (&n[..], v.as_tensor())))?)
    }

    /// Saves the state, which all have alike: one of them writes it.
    fn save(&self, position: &Position<L>) -> Result<(), Error> {
        if !self.ranks.is_first() {
            return Ok(());
        }
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        for (name, var) in self.learner.trained() {
            tensors.push((format!("weights/{name}"), var.as_tensor().clone()));
        }
        tensors.extend(self.followed());
        tensors.extend(self.optimiser.state());
        for (name, tensor) in self.average.iter().flat_map(Average::tensors) {
            tensors.push((format!("ema/{name}"), tensor.clone()));
        }
        state::write(&self.state, self.learner.identity(), position, &tensors)
    }

    fn train(
        mut self,
        name: &str,
        mut at: Position<L>,
        watch: &mut Watch<'_>,
    ) -> Result<(L, usize), Error> {
        let logs = || Logs::open(self.folder, &at);
        let mut logs = self.ranks.by_first(logs)?;
        for notice in self.learner.notices() {
            tell(watch, &Event::Notice(&notice))?;
        }
        let trained = self.learner.trained().iter();
        let epochs = self.learner.config().epochs;
        tell(
            watch,
            &Event::Start {
                name,
                epochs,
                steps: self.steps_an_epoch,
                from_step: at.step,
                parameters: trained.map(|(_, v)| v.elem_count()).sum(),
            },
        )?;
        while at.epoch < epochs {
            self.epoch(&mut at, &mut logs, watch)?;
        }
        // What the first has written is there for all.
        self.ranks.together(Ok(()))?;
        let epoch = self.keep(&at)?;
        Ok((self.learner, epoch))
    }

    /// Makes the weights those that are kept, and says of which epoch they are.
    fn keep(&self, at: &Position<L>) -> Result<usize, Error> {
        let (config, device) = (self.learner.config(), self.learner.device());
        match (config.keep, at.best) {
            (Keep::Best, Some((_, epoch))) => {
                let path = self.folder.join(BEST);
                let best = state::read::<L::Sums>(&path, self.learner.identity())?;
                for (name, var) in self.learner.trained() {
                    var.set(&best.tensor(&format!("weights/{name}"), device)?)?;
                }
                for (name, var) in self.learner.followed() {
                    var.set(&best.tensor(&format!("followed/{name}"), device)?)?;
                }
                Ok(epoch)
            }
            _ => {
                if let Some(average) = &self.average {
                    average.keep(self.learner.trained())?;
                }
                Ok(config.epochs - 1)
            }
        }
    }

    /// What is left of an epoch, its end included.
    fn epoch(
        &mut self,
        at: &mut Position<L>,
        logs: &mut Option<Logs>,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        let config = self.learner.config().clone();
        let epoch = at.epoch;
        let batches = self.learner.order(epoch).into_iter().enumerate();
        let leaves: Vec<Leaf> = batches
            .map(|(number, clips)| Leaf {
                epoch,
                number,
                clips,
            })
            .skip(at.step_in_epoch * config.accumulate)
            .collect();
        let load = self.learner.loader();
        let of_steps = leaves.chunks(config.accumulate);
        let own = of_steps.flat_map(|leaves| &leaves[self.own(leaves.len())]);
        let jobs: Vec<Leaf> = own.cloned().collect();
        let mut loaded = Prefetch::new(jobs.len(), config.workers, config.queue, move |i| {
            load(&jobs[i])
        });
        let steps = leaves.len().div_ceil(config.accumulate);
        let (before, since) = (at.sums.clock, Instant::now());
        let mut spent = Clock::default();
        for (k, leaves) in leaves.chunks(config.accumulate).enumerate() {
            let mut clock = Clock::default();
            let begun = Instant::now();
            let (numbers, facts) = self.step(at, &mut loaded, leaves, &mut clock)?;
            let saves = config.save_every > 0 && (k + 1) % config.save_every == 0;
            if saves || k + 1 == steps {
                // The next loss would show it, but then the state would be lost.
                self.weights_are_finite(at, leaves)?;
            }
            at.step += 1;
            at.step_in_epoch += 1;
            at.sums.numbers.add(&numbers);
            clock.seconds = begun.elapsed().as_secs_f64();
            spent.add(&clock);
            // What comes between two steps is a part of the epoch as well.
            spent.seconds = since.elapsed().as_secs_f64();
            at.sums.clock = before;
            at.sums.clock.add(&spent);
            let told = |clock| numbers.step(StepFacts { clock, ..facts });
            let line = told(config.times.then_some(clock));
            if let Some(logs) = logs {
                let whole = told(Some(clock));
                logs.step(facts.step, &line, &whole, &clock, numbers.clips())?;
                if saves {
                    logs.sync(at)?;
                    self.save(at)?;
                }
            }
            for news in self.learner.news(&numbers) {
                tell(watch, &Event::Notice(&news))?;
            }
            tell(watch, &line.event())?;
        }
        drop(loaded);
        self.end(at, logs, watch)
    }

    /// The end of an epoch.
    fn end(
        &mut self,
        at: &mut Position<L>,
        logs: &mut Option<Logs>,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        let epoch = at.epoch;
        let (validation, drawn) = self.look(epoch, watch)?;
        let score = validation.as_ref().map(L::Sums::score);
        if let Some(score) = score
            && self.learner.config().keep == Keep::Best
            && at.best.is_none_or(|(best, _)| score > best)
        {
            at.best = Some((score, epoch));
            self.keep_best(at)?;
        }
        let line = at.sums.numbers.epoch(epoch, &at.sums.clock, validation);
        // It stands where its last step does.
        let last = at.step.saturating_sub(1);
        *at = Position::<L> {
            step: at.step,
            epoch: epoch + 1,
            best: at.best,
            ..Position::<L>::default()
        };
        if let Some(logs) = logs {
            logs.epoch(last, epoch, &line, drawn.as_ref())?;
            logs.sync(at)?;
        }
        self.save(at)?;
        tell(watch, &line.event())
    }

    /// Which of a step's batches this rank computes.
    fn own(&self, leaves: usize) -> Range<usize> {
        let group = self.ranks.group();
        Deal::new(leaves, group.size()).leaves(group.rank())
    }

    /// One step of the optimiser: the gradient of the mean over the clips of some
    /// batches, the last of which may be smaller.
    fn step(
        &mut self,
        at: &Position<L>,
        loaded: &mut Loading<L>,
        leaves: &[Leaf],
        clock: &mut Clock,
    ) -> Result<(L::Sums, StepFacts), Error> {
        let own = self.compute(at, loaded, leaves, clock);
        let (ranks, group) = (self.ranks, self.ranks.group());
        // All that is read back of a step, once all of it is under way.
        let (nodes, parts, followed) = match own {
            Ok(own) => (own.nodes, Ok(own.parts), own.followed),
            Err(error) => (Vec::new(), Err(error), Vec::new()),
        };
        let deal = Deal::new(leaves.len(), group.size());
        let (trained, device) = (self.learner.trained(), self.learner.device());
        let (parts, gradients) = timed(&mut clock.reduce, || -> Result<_, Error> {
            let parts = ranks.gather(parts)?;
            ranks.follow(&followed, self.learner.followed())?;
            let gradients = match group.size() {
                1 => nodes.into_iter().next(),
                _ => Some(ranks.sum(deal, nodes, trained, device)?.0),
            };
            Ok((parts, gradients))
        })?;
        let Some(gradients) = gradients else {
            return Err(Error::Config {
                field: "batch",
                reason: "no clips of it could be had".to_owned(),
            });
        };
        let norm = timed(&mut clock.backward, || on_pool(|| gradients.norm()))?;
        let mut numbers = L::Sums::default();
        for part in parts.iter().flatten() {
            numbers.add(part);
        }
        self.finite("the gradient's norm", norm, at, leaves)?;
        let config = self.learner.config();
        let clip = match config.clip_norm > 0.0 && norm > config.clip_norm {
            // As torch.nn.utils.clip_grad_norm_.
            true => config.clip_norm / (norm + 1e-6),
            false => 1.0,
        };
        let lr = config.lr_at(at.step, self.steps_an_epoch);
        let (optimiser, average) = (&mut self.optimiser, &self.average);
        let trained = self.learner.trained();
        timed(&mut clock.update, || {
            on_pool(|| {
                optimiser.step(&gradients, lr, clip)?;
                match average {
                    Some(average) => average.update(trained),
                    None => Ok(()),
                }
            })
        })?;
        let facts = StepFacts {
            step: at.step,
            epoch: at.epoch,
            lr,
            gradient_norm: norm,
            clock: None,
        };
        Ok((numbers, facts))
    }

    /// Computes this rank's batches of a step, and adds up their gradients as far as the tree
    /// goes without those of others.
    fn compute(
        &mut self,
        at: &Position<L>,
        loaded: &mut Loading<L>,
        leaves: &[Leaf],
        clock: &mut Clock,
    ) -> Result<Own<L::Sums>, Error> {
        let in_all: usize = leaves.iter().map(|leaf| leaf.clips.len()).sum();
        let mut gradients = Tree::new(leaves.len());
        let (mut measured, mut followed) = (Vec::new(), Vec::new());
        let before = (loaded.waited(), loaded.worked());
        for place in self.own(leaves.len()) {
            let leaf = &leaves[place];
            let Some(batch) = loaded.next() else {
                break;
            };
            let batch = batch?;
            let learner = &mut self.learner;
            let Forward {
                loss,
                pass,
                measured: numbers,
            } = timed(&mut clock.forward, || {
                on_pool(|| learner.forward(leaf, batch, &at.sums.numbers))
            })?;
            measured.push(numbers);
            followed.push(pass.take_followed());
            let trained = learner.trained();
            let share = leaf.clips.len() as f64 / in_all as f64;
            let backward = || -> candle_core::Result<()> {
                let taken = on_pool(|| {
                    let mut store = match share < 1.0 {
                        true => (loss * share)?.backward()?,
                        false => loss.backward()?,
                    };
                    store.extend(pass.into_gradients())?;
                    Gradients::take(trained, &mut store)
                })?;
                gradients.add(place..place + 1, taken, |sum, other| sum.add(&other))
            };
            timed(&mut clock.backward, backward)?;
        }
        clock.wait += (loaded.waited() - before.0).as_secs_f64();
        clock.decode += (loaded.worked() - before.1).as_secs_f64();
        let learner = &self.learner;
        let parts = timed(&mut clock.backward, || {
            let parts = measured.iter().map(|measured| learner.sums(measured));
            parts.collect::<Result<Vec<_>, _>>()
        })?;
        for part in &parts {
            for (what, value) in part.losses() {
                self.finite(what, value, at, leaves)?;
            }
        }
        let nodes = gradients.into_nodes().into_iter();
        Ok(Own {
            nodes: nodes.map(|(_, sum)| sum).collect(),
            parts,
            followed,
        })
    }

    fn finite(
        &self,
        what: &str,
        value: f64,
        at: &Position<L>,
        leaves: &[Leaf],
    ) -> Result<(), Error> {
        if value.is_finite() {
            return Ok(());
        }
        let clips = leaves.iter().flat_map(|leaf| &leaf.clips);
        Err(Error::NotFinite {
            what: what.to_owned(),
            value,
            step: at.step,
            epoch: at.epoch,
            clips: clips.map(|&i| self.learner.clip(i).to_owned()).collect(),
        })
    }

    /// Refuses weights that the last step, on these batches, has spoilt.
    fn weights_are_finite(&self, at: &Position<L>, leaves: &[Leaf]) -> Result<(), Error> {
        for (name, var) in self.learner.trained() {
            let sum = mtcae_nn::optim::sum_of_squares(var.as_tensor())?;
            self.finite(&format!("weight {name}"), sum, at, leaves)?;
        }
        Ok(())
    }

    /// What is measured and drawn at the end of an epoch, by the weights that would be kept.
    fn look(
        &self,
        epoch: usize,
        watch: &mut Watch<'_>,
    ) -> Result<(Option<L::Validation>, Option<Drawn>), Error> {
        let (learner, ranks) = (&self.learner, self.ranks);
        let mut look = || {
            let measured = learner.validate(ranks, watch)?;
            let drawn = ranks.by_first(|| learner.picture(epoch))?;
            Ok((measured, drawn.flatten()))
        };
        match &self.average {
            Some(average) => average.instead(learner.trained(), look),
            None => look(),
        }
    }

    /// What moves without a gradient, as a state holds it.
    fn followed(&self) -> impl Iterator<Item = (String, Tensor)> {
        let followed = self.learner.followed().iter();
        followed.map(|(name, var)| (format!("followed/{name}"), var.as_tensor().clone()))
    }

    fn keep_best(&self, at: &Position<L>) -> Result<(), Error> {
        if !self.ranks.is_first() {
            return Ok(());
        }
        let kept: Vec<(&String, &Tensor)> = match &self.average {
            Some(average) => average.tensors().iter().map(|(n, t)| (n, t)).collect(),
            None => {
                let trained = self.learner.trained().iter();
                trained.map(|(n, v)| (n, v.as_tensor())).collect()
            }
        };
        let tensors: Vec<(String, Tensor)> = kept
            .into_iter()
            .map(|(name, tensor)| (format!("weights/{name}"), tensor.clone()))
            .chain(self.followed())
            .collect();
        let path = self.folder.join(BEST);
        state::write(&path, self.learner.identity(), at, &tensors)
    }
}
