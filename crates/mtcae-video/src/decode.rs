//! One clip of a video: plan from the scan, decode what the plan needs.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array3, Array4, Axis};
use rayon::prelude::*;

use crate::clip::{Clip, Warning};
use crate::error::{Error, Result};
use crate::ffi::convert::{LARGE, assumptions};
use crate::ffi::decoder::Frame;
use crate::frames::FullFrame;
use crate::geometry::Geometry;
use crate::options::ClipOptions;
use crate::pump::{Event, Faults, Pump};
use crate::scan::Scan;
use crate::sequence::{Clock, no_frames};
use crate::shrink::{ShrinkFault, geometry, shrink, warn};
use crate::tape::Tape;
use crate::video::Video;

/// Half a microsecond, so that a bound computed in floating point (three times
/// 0.1 s) means the frame it was meant for.
pub const EPSILON: f64 = 5e-7;

/// Whether a frame at `time` lies in `[start, end)`.
pub fn within(time: f64, start: Option<f64>, end: Option<f64>) -> bool {
    start.is_none_or(|s| time >= s - EPSILON) && end.is_none_or(|e| time < e - EPSILON)
}

/// A finished frame.
pub struct Shot {
    pub pixels: Array3<u8>,
    pub source: Geometry,
    pub time: f64,
}

/// Decoded frames on their way to shots, converted several at a time.
pub struct Darkroom {
    waiting: Vec<(u64, f64, Frame)>,
    batch: usize,
    pub shots: BTreeMap<u64, Shot>,
}

impl Darkroom {
    pub fn new() -> Self {
        Self {
            waiting: Vec::new(),
            // Enough for every thread, few enough to hold undecoded.
            batch: rayon::current_num_threads().clamp(1, 16),
            shots: BTreeMap::new(),
        }
    }

    pub fn holds(&self, key: u64) -> bool {
        self.shots.contains_key(&key) || self.waiting.iter().any(|w| w.0 == key)
    }

    pub fn add(
        &mut self,
        video: &Video,
        options: &ClipOptions,
        key: u64,
        time: f64,
        frame: Frame,
        warnings: &mut Vec<Warning>,
    ) -> Result<()> {
        for w in assumptions(&frame) {
            warn(warnings, w);
        }
        let pixels = frame.width() as usize * frame.height() as usize;
        self.waiting.push((key, time, frame));
        if self.waiting.len() >= self.batch.min(LARGE / pixels.max(1)) {
            self.develop(video, options)?;
        }
        Ok(())
    }

    pub fn develop(&mut self, video: &Video, options: &ClipOptions) -> Result<()> {
        let mut stamps = Vec::with_capacity(self.waiting.len());
        let mut frames = Vec::with_capacity(self.waiting.len());
        for (key, time, frame) in self.waiting.drain(..) {
            stamps.push((key, time));
            frames.push(frame);
        }
        // Several at a time, whoever watches included.
        let (info, watch) = (&video.info, video.watch.as_deref());
        let work = |(&(index, time), frame): (&(u64, f64), &Frame)| {
            let resize = &options.resize;
            let shrunk = shrink(frame, info, resize, options.size, watch.is_some())?;
            if let (Some(watch), Some(pixels)) = (watch, shrunk.whole) {
                watch(FullFrame {
                    pixels,
                    time,
                    index,
                    source: geometry(frame, info),
                });
            }
            Ok((shrunk.small, shrunk.source))
        };
        let done: Vec<Result<_, ShrinkFault>> = stamps.par_iter().zip(&frames).map(work).collect();
        for ((index, time), result) in stamps.into_iter().zip(done) {
            let path = || video.path.clone();
            let (pixels, source) = result.map_err(|fault| match fault {
                ShrinkFault::Convert(reason) => Error::Convert {
                    path: path(),
                    index,
                    reason,
                },
                ShrinkFault::Resize(reason) => Error::Resize {
                    path: path(),
                    reason,
                },
            })?;
            self.shots.insert(
                index,
                Shot {
                    pixels,
                    source,
                    time,
                },
            );
        }
        Ok(())
    }
}

/// Checks what can be checked before decoding.
pub fn check(video: &Video, options: &ClipOptions) -> Result<()> {
    let bad = |option, got: String, want| {
        Err(Error::Option {
            path: video.path.clone(),
            option,
            got,
            want,
        })
    };
    if options.frames == 0 {
        return bad("frames", "0".into(), "at least 1");
    }
    let (start, end) = (options.start.unwrap_or(0.0), options.end);
    if !start.is_finite() {
        return bad("start", start.to_string(), "a finite number of seconds");
    }
    if end.is_some_and(|e| e.is_nan() || e <= start) {
        return bad("end", format!("{end:?}"), "later than start");
    }
    let source = &video.info.geometry;
    source
        .part(&options.resize, options.size)
        .map(|_| ())
        .or_else(|reason| {
            // A size of zero never works; a crop may fit frames of another
            // size than the headers', or of unknown size.
            let (w, h) = options.size;
            if w == 0 || h == 0 || w > 65_535 || h > 65_535 {
                Err(Error::Resize {
                    path: video.path.clone(),
                    reason,
                })
            } else {
                Ok(())
            }
        })
}

/// Frame numbers for `total` frames, within the limit.
pub fn picks(video: &Video, options: &ClipOptions, total: u64) -> Result<Vec<u64>> {
    let asked = match options.sampling {
        mtcae_core::Sampling::All => total,
        s => (s.clips() as u64).saturating_mul(options.frames as u64),
    };
    if asked > options.max_frames {
        return Err(Error::TooManyFrames {
            path: video.path.clone(),
            frames: asked,
            limit: options.max_frames,
        });
    }
    Ok(options.sampling.indices(total, options.frames))
}

/// See [`Video::clip`].
pub fn clip(video: &mut Video, options: &ClipOptions) -> Result<Clip> {
    check(video, options)?;
    video.scan()?;
    let Some(scan) = video.scan.take() else {
        return Err(no_frames(video, &[]));
    };
    let result = clip_of(video, &scan, options);
    video.scan = Some(scan);
    result
}

fn clip_of(video: &mut Video, scan: &Scan, options: &ClipOptions) -> Result<Clip> {
    let mut base = video.info.warnings.clone();
    base.extend(scan.broken.clone());
    let mut expected = scan.shown.len();
    let mut room = Darkroom::new();
    if scan.timed {
        let inside = |i: &usize| {
            let time = video.time_of(scan.shown[*i].0);
            within(time, options.start, options.end)
        };
        let all = 0..scan.shown.len();
        let low = all.clone().find(inside).unwrap_or(0);
        expected = all.skip(low).take_while(inside).count();
        if expected == 0 {
            return Err(outside(video, options, scan_end(video, scan)));
        }
        let picks: Vec<u64> = picks(video, options, expected as u64)?
            .into_iter()
            .map(|i| i + low as u64)
            .collect();
        let mut warnings = base.clone();
        sparse(video, scan, options, &picks, &mut room, &mut warnings)?;
        if picks.iter().all(|&i| room.holds(i)) {
            room.develop(video, options)?;
            return Ok(assemble(&room.shots, &picks, options, warnings));
        }
        room = Darkroom::new();
    }
    sequential(video, scan, options, expected as u64, room, base)
}

fn scan_end(video: &Video, scan: &Scan) -> f64 {
    match scan.shown.last() {
        Some(&(pts, _)) if scan.timed => video.time_of(pts),
        _ => scan.total() as f64 / video.info.fps,
    }
}

fn outside(video: &Video, options: &ClipOptions, duration: f64) -> Error {
    Error::NoFramesBetween {
        path: video.path.clone(),
        start: options.start.unwrap_or(0.0),
        end: options.end.unwrap_or(f64::INFINITY),
        duration,
    }
}

/// Stretches of packets, first to last, that have to be decoded to see the
/// frames numbered `picks`.
fn runs(scan: &Scan, picks: &BTreeSet<u64>, slack: usize) -> Vec<(usize, usize)> {
    let mut spans: Vec<(usize, usize)> = picks
        .iter()
        .filter_map(|&i| scan.shown.get(i as usize))
        .map(|&(pts, at)| (scan.key_before(at, pts), at))
        .collect();
    spans.sort_unstable();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (from, to) in spans {
        match runs.last_mut() {
            Some(last) if from <= last.1.saturating_add(slack) => last.1 = last.1.max(to),
            _ => runs.push((from, to)),
        }
    }
    runs
}

/// Decodes only the stretches that `picks` need.
fn sparse(
    video: &mut Video,
    scan: &Scan,
    options: &ClipOptions,
    picks: &[u64],
    room: &mut Darkroom,
    warnings: &mut Vec<Warning>,
) -> Result<()> {
    let wanted: BTreeSet<u64> = picks.iter().copied().collect();
    let packets: BTreeSet<usize> = wanted
        .iter()
        .filter_map(|&i| scan.shown.get(i as usize).map(|s| s.1))
        .collect();
    let mut pump = Pump::new(video.decoder()?);
    let runs = runs(scan, &wanted, pump.slack());
    let mut tape = Tape::new(scan);
    let mut faults = Faults::default();
    let last = runs.len().saturating_sub(1);
    for (r, &(from, to)) in runs.iter().enumerate() {
        for at in from..=to {
            match tape.get(video, at)? {
                Some(packet) => {
                    pump.push(packet.packet(), !packets.contains(&at));
                }
                None => break,
            }
            if at == to && (r == last || !pump.is_intra_only()) {
                pump.drain();
                pump.flush();
            }
            while let Some(event) = pump.out.pop_front() {
                let frame = match event {
                    Event::Frame(f) => f,
                    Event::Fault(code) => {
                        faults.fault(code);
                        continue;
                    }
                };
                let Some(pts) = frame.pts() else { continue };
                let time = video.time_of(pts);
                faults.good(time, warnings);
                let Some(ordinal) = scan.ordinal(pts) else {
                    continue;
                };
                let index = ordinal as u64;
                if wanted.contains(&index) && !room.holds(index) {
                    if frame.is_corrupt() {
                        Warning::corrupt(index, time).add_to(warnings);
                    }
                    room.add(video, options, index, time, frame, warnings)?;
                }
            }
        }
    }
    faults.finish(warnings);
    Ok(())
}

/// Decodes everything in order: for streams without time stamps, and when a
/// sampled frame did not decode.
fn sequential(
    video: &mut Video,
    scan: &Scan,
    options: &ClipOptions,
    expected: u64,
    mut room: Darkroom,
    base: Vec<Warning>,
) -> Result<Clip> {
    // First guess: all packets decode, so that one pass is enough. Whether
    // bounds cut frames off is only known after a pass.
    let bounded = options.start.is_some() || options.end.is_some();
    let mut wanted: BTreeSet<u64> = if scan.timed || bounded {
        BTreeSet::new()
    } else {
        picks(video, options, expected)?.into_iter().collect()
    };
    for _ in 0..2 {
        let mut warnings = base.clone();
        let mut inside = Vec::new();
        let mut clock = Clock::new(!scan.timed);
        let mut pump = Pump::new(video.decoder()?);
        let mut tape = Tape::new(scan);
        let mut at = 0;
        loop {
            let done = at == scan.entries.len();
            match if done { None } else { tape.get(video, at)? } {
                Some(packet) => pump.push(packet.packet(), false),
                None => {
                    pump.drain();
                    at = scan.entries.len();
                }
            }
            while let Some(event) = pump.out.pop_front() {
                let Some(d) = clock.stamp(video, event, &mut warnings) else {
                    continue;
                };
                if within(d.time, options.start, options.end) {
                    inside.push(d.index);
                }
                if wanted.contains(&d.index) && !room.holds(d.index) {
                    room.add(video, options, d.index, d.time, d.frame, &mut warnings)?;
                }
            }
            if at == scan.entries.len() {
                break;
            }
            at += 1;
        }
        clock.finish(&mut warnings);
        if clock.count() == 0 {
            return Err(no_frames(video, &warnings));
        }
        if inside.is_empty() {
            return Err(outside(video, options, clock.last()));
        }
        let total = inside.len() as u64;
        if total < expected && (scan.timed || !bounded) {
            warn(
                &mut warnings,
                Warning::Resampled {
                    expected,
                    decoded: total,
                },
            );
        }
        let picks: Vec<u64> = picks(video, options, total)?
            .into_iter()
            .map(|i| inside[i as usize])
            .collect();
        if picks.iter().all(|&i| room.holds(i)) {
            room.develop(video, options)?;
            return Ok(assemble(&room.shots, &picks, options, warnings));
        }
        wanted = picks.into_iter().collect();
    }
    // The second pass decodes the same frames as the first.
    Err(no_frames(video, &base))
}

/// Puts shots together in the order of `picks`.
pub fn assemble(
    shots: &BTreeMap<u64, Shot>,
    picks: &[u64],
    options: &ClipOptions,
    mut warnings: Vec<Warning>,
) -> Clip {
    let (w, h) = (options.size.0 as usize, options.size.1 as usize);
    let mut frames = Array4::zeros((picks.len(), h, w, 3));
    let mut times = Vec::with_capacity(picks.len());
    let mut source: Option<Geometry> = None;
    let mut size = None;
    for (i, index) in picks.iter().enumerate() {
        let Some(shot) = shots.get(index) else {
            continue;
        };
        frames.index_axis_mut(Axis(0), i).assign(&shot.pixels);
        times.push(shot.time);
        source.get_or_insert(shot.source);
        let now = (shot.source.coded_width, shot.source.coded_height);
        if size.is_some_and(|s| s != now) {
            warn(
                &mut warnings,
                Warning::SizeChange {
                    index: *index,
                    time: shot.time,
                    width: now.0,
                    height: now.1,
                    count: 1,
                },
            );
        }
        size = Some(now);
    }
    Clip {
        frames,
        times,
        indices: picks.to_vec(),
        source: source.unwrap_or_else(|| Geometry::plain(0, 0)),
        warnings,
    }
}
