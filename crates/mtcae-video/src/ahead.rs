//! Windows planned before they are decoded: packets are read ahead by a
//! window or two, so that the frames to sample are known from their time
//! stamps, and only what these need is decoded and converted. Memory holds
//! the compressed packets and the sampled frames of the windows in hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::choose::{EPSILON, picks, within};
use crate::clip::{Warning, WindowClip};
use crate::darkroom::{Darkroom, Watch};
use crate::demuxer::Demuxer;
use crate::error::Result;
use crate::ffi::input::Packet;
use crate::options::WindowOptions;
use crate::pump::{Event, Faults, Pump};

/// A window whose frames are chosen: number and time stamp of each.
#[derive(Clone)]
struct Plan {
    index: u64,
    picks: Vec<(u64, i64)>,
    last: bool,
}

/// Reads, plans and decodes windows of a stream with time stamps.
pub struct Ahead {
    options: WindowOptions,
    pump: Pump,
    queue: VecDeque<Packet>,
    /// Time stamps of the shown frames from the oldest that may be wanted on,
    /// sorted.
    frames: VecDeque<i64>,
    /// Number of `frames[0]` in the stream.
    base: u64,
    /// Decoding time of the newest packet, in seconds.
    reached: Option<f64>,
    ended: bool,
    plans: VecDeque<Plan>,
    next: u64,
    planned_all: bool,
    /// Wanted and not yet decoded: time stamp to number.
    wanted: BTreeMap<i64, u64>,
    lost: BTreeSet<u64>,
    room: Darkroom,
    faults: Faults,
    warnings: Vec<Warning>,
    given: bool,
}

/// Packets looked at before trusting that a stream has time stamps.
const PROBE: usize = 64;

impl Ahead {
    /// `Ok(None)` when the stream's packets lack time stamps.
    pub fn new(
        demuxer: &mut Demuxer,
        options: &WindowOptions,
        watch: Option<&Watch>,
    ) -> Result<Option<Self>> {
        demuxer.rewind()?;
        let mut this = Self {
            options: options.clone(),
            pump: Pump::open(demuxer)?,
            queue: VecDeque::new(),
            frames: VecDeque::new(),
            base: 0,
            reached: None,
            ended: false,
            plans: VecDeque::new(),
            next: 0,
            planned_all: false,
            wanted: BTreeMap::new(),
            lost: BTreeSet::new(),
            room: Darkroom::new(&options.clip, watch),
            faults: Faults::default(),
            warnings: demuxer.info.warnings.clone(),
            given: false,
        };
        while this.queue.len() < PROBE && !this.ended {
            this.read(demuxer)?;
        }
        let timed = |p: &Packet| p.pts().is_some() && p.dts().is_some();
        Ok(this.queue.iter().all(timed).then_some(this))
    }

    /// Reads one packet into the queue.
    fn read(&mut self, demuxer: &mut Demuxer) -> Result<()> {
        let reached = self.reached.unwrap_or(0.0);
        let Some(packet) = demuxer.next(reached, &mut self.warnings)? else {
            self.ended = true;
            return Ok(());
        };
        if let Some(dts) = packet.dts() {
            let time = demuxer.time_of(dts);
            self.reached = Some(self.reached.map_or(time, |r| r.max(time)));
        }
        if let Some(pts) = packet.pts().filter(|_| !packet.is_discard()) {
            let at = self.frames.partition_point(|&p| p < pts);
            if self.frames.get(at) != Some(&pts) {
                self.frames.insert(at, pts);
            }
        }
        self.queue.push_back(packet);
        Ok(())
    }

    /// Reads until every frame before `end` is known: no later packet shows
    /// before it is decoded.
    fn look(&mut self, demuxer: &mut Demuxer, end: f64) -> Result<()> {
        while !self.ended && self.reached.is_none_or(|r| within(r, None, Some(end))) {
            self.read(demuxer)?;
        }
        Ok(())
    }

    /// Plans window after window until one starts at or after `until`.
    fn plan(&mut self, demuxer: &mut Demuxer, until: f64) -> Result<()> {
        while !self.planned_all {
            let k = self.next;
            let (start, end) = self.options.bounds(k);
            if !self.plans.is_empty() && !within(start, None, Some(until)) {
                break;
            }
            self.look(demuxer, end)?;
            let time = |p: &i64| demuxer.time_of(*p);
            let inside: Vec<(u64, i64)> = (self.base..)
                .zip(&self.frames)
                .filter(|(_, p)| within(time(p), Some(start), Some(end)))
                .map(|(i, p)| (i, *p))
                .collect();
            let after =
                self.frames.iter().map(time).find(|&t| {
                    !within(t, None, Some(end)) && within(t, None, self.options.clip.end)
                });
            self.planned_all = after.is_none();
            self.next = k + 1;
            if inside.is_empty() {
                if let Some(t) = after {
                    self.next = self.options.first_reaching(t).max(k + 1);
                }
                if self.plans.is_empty() {
                    let (start, _) = self.options.bounds(self.next);
                    self.forget(demuxer, start);
                }
                continue;
            }
            let picks: Vec<(u64, i64)> = picks(demuxer, &self.options.clip, inside.len() as u64)?
                .into_iter()
                .map(|i| inside[i as usize])
                .collect();
            for &(index, pts) in &picks {
                if !self.room.holds(index) && !self.lost.contains(&index) {
                    self.wanted.insert(pts, index);
                }
            }
            self.plans.push_back(Plan {
                index: k,
                picks,
                last: self.planned_all,
            });
        }
        Ok(())
    }

    /// The next window.
    pub fn next(&mut self, demuxer: &mut Demuxer) -> Result<Option<WindowClip>> {
        loop {
            if self.plans.is_empty() {
                self.plan(demuxer, f64::NEG_INFINITY)?;
            }
            let Some(k) = self.plans.front().map(|p| p.index) else {
                self.faults.finish(&mut self.warnings);
                if self.given {
                    return Ok(None);
                }
                return Err(demuxer.no_frames(&self.warnings));
            };
            // Later windows may want frames of this stretch too.
            let (start, end) = self.options.bounds(k);
            self.plan(demuxer, end)?;
            let Some(plan) = self.plans.front().cloned() else {
                return Ok(None);
            };
            self.decode(demuxer, &plan)?;
            self.plans.pop_front();
            self.room.develop(demuxer)?;
            let asked: BTreeSet<u64> = plan.picks.iter().map(|p| p.0).collect();
            let mut chosen: Vec<u64> = plan.picks.iter().map(|p| p.0).collect();
            if asked.iter().any(|i| !self.room.holds(*i)) {
                self.faults.finish(&mut self.warnings);
                let left: Vec<u64> = asked
                    .iter()
                    .copied()
                    .filter(|i| self.room.holds(*i))
                    .collect();
                self.warnings.push(Warning::Resampled {
                    expected: asked.len() as u64,
                    decoded: left.len() as u64,
                });
                chosen = picks(demuxer, &self.options.clip, left.len() as u64)?
                    .into_iter()
                    .map(|i| left[i as usize])
                    .collect();
            }
            let empty = chosen.is_empty();
            let warnings = if empty {
                Vec::new()
            } else {
                std::mem::take(&mut self.warnings)
            };
            let views = self.room.views(&chosen, &warnings);
            let next = self.plans.front().map_or(self.next, |p| p.index);
            if !plan.last {
                let (start, _) = self.options.bounds(next);
                self.forget(demuxer, start);
            }
            if empty {
                continue;
            }
            self.given = true;
            return Ok(Some(WindowClip {
                index: k,
                start,
                end,
                views,
            }));
        }
    }

    /// Lets go of what is before `start`.
    fn forget(&mut self, demuxer: &Demuxer, start: f64) {
        while let Some(&pts) = self.frames.front() {
            if within(demuxer.time_of(pts), Some(start), None) {
                break;
            }
            self.frames.pop_front();
            self.room.shots.remove(&self.base);
            self.lost.remove(&self.base);
            self.base += 1;
        }
    }

    /// Decodes until the plan's frames are there or lost.
    fn decode(&mut self, demuxer: &mut Demuxer, plan: &Plan) -> Result<()> {
        let slack = self.pump.slack();
        loop {
            let target = plan
                .picks
                .iter()
                .map(|p| p.1)
                .filter(|pts| self.wanted.contains_key(pts))
                .min();
            let Some(target) = target else { return Ok(()) };
            // Where to go on from: the front, or a later key frame that the
            // target can be decoded from.
            let place = self.queue.iter().position(|p| p.pts() == Some(target));
            let key = place.and_then(|at| {
                (0..=at).rev().find(|&i| {
                    let p = &self.queue[i];
                    p.is_key() && p.pts().is_some_and(|k| k <= target)
                })
            });
            if let Some(key) = key.filter(|&k| k > slack) {
                if !self.pump.is_intra_only() {
                    self.pump.drain();
                    self.collect(demuxer)?;
                    self.pump.flush();
                }
                self.queue.drain(..key);
            }
            if self.queue.is_empty() && !self.ended {
                self.read(demuxer)?;
            }
            // Decoders on several threads are given packets well past the frame
            // they are asked for: windows that begin there have to be planned
            // before their frames are skipped as nobody's.
            if let Some(pts) = self.queue.front().and_then(Packet::pts) {
                self.plan(demuxer, demuxer.time_of(pts) + 2.0 * EPSILON)?;
            }
            match self.queue.pop_front() {
                Some(packet) => {
                    let skippable = !packet.pts().is_some_and(|p| self.wanted.contains_key(&p));
                    self.pump.push(&packet, skippable);
                    self.collect(demuxer)?;
                }
                None => {
                    self.pump.drain();
                    self.collect(demuxer)?;
                    self.lost.extend(self.wanted.values());
                    self.wanted.clear();
                }
            }
        }
    }

    /// Takes what the decoder has; wanted frames before it that did not come
    /// will not come any more, since frames come in order of presentation.
    fn collect(&mut self, demuxer: &Demuxer) -> Result<()> {
        while let Some(event) = self.pump.out.pop_front() {
            let frame = match event {
                Event::Frame(f) => f,
                Event::Fault(code) => {
                    self.faults.fault(code);
                    continue;
                }
            };
            let Some(pts) = frame.pts() else { continue };
            let time = demuxer.time_of(pts);
            self.faults.good(time, &mut self.warnings);
            let later = self.wanted.split_off(&pts);
            let passed = std::mem::replace(&mut self.wanted, later);
            self.lost.extend(passed.values());
            if let Some(index) = self.wanted.remove(&pts) {
                if frame.is_corrupt() {
                    Warning::corrupt(index, time).add_to(&mut self.warnings);
                }
                self.room
                    .add(demuxer, index, time, frame, &mut self.warnings)?;
            }
        }
        Ok(())
    }
}
