//! One clip of a video: plan from the scan, decode what the plan needs.

use std::collections::BTreeSet;

use crate::choose::{outside, picks, within};
use crate::clip::Warning;
use crate::darkroom::{Darkroom, Watch};
use crate::demuxer::Demuxer;
use crate::error::Result;
use crate::options::ClipOptions;
use crate::pump::{Event, Faults, Pump};
use crate::scan::Scan;
use crate::sequence::Clock;
use crate::tape::Tape;

/// The frames of a clip.
pub struct Roll {
    pub room: Darkroom,
    /// Their numbers, as the sampling has them.
    pub picks: Vec<u64>,
    pub warnings: Vec<Warning>,
}

/// See [`Video::clips`](crate::Video::clips); the options were checked by [`check`](crate::choose::check).
pub fn roll(
    demuxer: &mut Demuxer,
    scan: &Scan,
    options: &ClipOptions,
    watch: Option<&Watch>,
) -> Result<Roll> {
    let mut base = demuxer.info.warnings.clone();
    base.extend(scan.warnings.iter().cloned());
    let mut expected = scan.shown.len();
    let mut room = Darkroom::new(options, watch);
    if scan.timed {
        let inside = |i: &usize| {
            let time = demuxer.time_of(scan.shown[*i].0);
            within(time, options.start, options.end)
        };
        let all = 0..scan.shown.len();
        let low = all.clone().find(inside).unwrap_or(0);
        expected = all.skip(low).take_while(inside).count();
        if expected == 0 {
            return Err(outside(demuxer, options, scan_end(demuxer, scan)));
        }
        let picks: Vec<u64> = picks(demuxer, options, expected as u64)?
            .into_iter()
            .map(|i| i + low as u64)
            .collect();
        let mut warnings = base.clone();
        sparse(demuxer, scan, &picks, &mut room, &mut warnings)?;
        if picks.iter().all(|&i| room.holds(i)) {
            room.develop(demuxer)?;
            return Ok(Roll {
                room,
                picks,
                warnings,
            });
        }
        room = Darkroom::new(options, watch);
    }
    sequential(demuxer, scan, options, expected as u64, room, base)
}

fn scan_end(demuxer: &Demuxer, scan: &Scan) -> f64 {
    match scan.shown.last() {
        Some(&(pts, _)) if scan.timed => demuxer.time_of(pts),
        _ => scan.total() as f64 / demuxer.info.fps,
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
    demuxer: &mut Demuxer,
    scan: &Scan,
    picks: &[u64],
    room: &mut Darkroom,
    warnings: &mut Vec<Warning>,
) -> Result<()> {
    let wanted: BTreeSet<u64> = picks.iter().copied().collect();
    let packets: BTreeSet<usize> = wanted
        .iter()
        .filter_map(|&i| scan.shown.get(i as usize).map(|s| s.1))
        .collect();
    let mut pump = Pump::open(demuxer)?;
    let runs = runs(scan, &wanted, pump.slack());
    let mut tape = Tape::new(scan);
    let mut faults = Faults::default();
    let last = runs.len().saturating_sub(1);
    for (r, &(from, to)) in runs.iter().enumerate() {
        for at in from..=to {
            match tape.get(demuxer, at)? {
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
                let time = demuxer.time_of(pts);
                faults.good(time, warnings);
                let Some(ordinal) = scan.ordinal(pts) else {
                    continue;
                };
                let index = ordinal as u64;
                if wanted.contains(&index) && !room.holds(index) {
                    if frame.is_corrupt() {
                        Warning::corrupt(index, time).add_to(warnings);
                    }
                    room.add(demuxer, index, time, frame, warnings)?;
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
    demuxer: &mut Demuxer,
    scan: &Scan,
    options: &ClipOptions,
    expected: u64,
    mut room: Darkroom,
    base: Vec<Warning>,
) -> Result<Roll> {
    // First guess: all packets decode, so that one pass is enough. Whether
    // bounds cut frames off is only known after a pass.
    let bounded = options.start.is_some() || options.end.is_some();
    let mut wanted: BTreeSet<u64> = if scan.timed || bounded {
        BTreeSet::new()
    } else {
        picks(demuxer, options, expected)?.into_iter().collect()
    };
    for _ in 0..2 {
        let mut warnings = base.clone();
        let mut inside = Vec::new();
        let mut clock = Clock::new(!scan.timed);
        let mut pump = Pump::open(demuxer)?;
        let mut tape = Tape::new(scan);
        let mut at = 0;
        loop {
            let done = at == scan.entries.len();
            match if done { None } else { tape.get(demuxer, at)? } {
                Some(packet) => pump.push(packet.packet(), false),
                None => {
                    pump.drain();
                    at = scan.entries.len();
                }
            }
            while let Some(event) = pump.out.pop_front() {
                let Some(d) = clock.stamp(demuxer, event, &mut warnings) else {
                    continue;
                };
                if within(d.time, options.start, options.end) {
                    inside.push(d.index);
                }
                if wanted.contains(&d.index) && !room.holds(d.index) {
                    room.add(demuxer, d.index, d.time, d.frame, &mut warnings)?;
                }
            }
            if at == scan.entries.len() {
                break;
            }
            at += 1;
        }
        clock.finish(&mut warnings);
        if clock.count() == 0 {
            return Err(demuxer.no_frames(&warnings));
        }
        if inside.is_empty() {
            return Err(outside(demuxer, options, clock.last()));
        }
        let total = inside.len() as u64;
        if total < expected && (scan.timed || !bounded) {
            Warning::Resampled {
                expected,
                decoded: total,
            }
            .add_to(&mut warnings);
        }
        let picks: Vec<u64> = picks(demuxer, options, total)?
            .into_iter()
            .map(|i| inside[i as usize])
            .collect();
        if picks.iter().all(|&i| room.holds(i)) {
            room.develop(demuxer)?;
            return Ok(Roll {
                room,
                picks,
                warnings,
            });
        }
        wanted = picks.into_iter().collect();
    }
    // The second pass decodes the same frames as the first.
    Err(demuxer.no_frames(&base))
}
