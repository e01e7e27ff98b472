//! One pass over the packets: how many frames, when, and from which key
//! frame each can be reached.

use crate::clip::Warning;
use crate::demuxer::Demuxer;
use crate::error::{Fault, Result};
use crate::ffi::input::Packet;

/// One packet in decoding order.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Presentation time stamp; only meaningful when the scan is `timed`.
    pub pts: i64,
    pub dts: Option<i64>,
    pub key: bool,
}

/// What the packets tell.
pub struct Scan {
    /// All packets, in decoding order.
    pub entries: Vec<Entry>,
    /// Time stamp and packet of each frame to be shown, in presentation order
    /// (in decoding order when not `timed`).
    pub shown: Vec<(i64, usize)>,
    /// Every shown frame has a time stamp of its own.
    pub timed: bool,
    /// The packets themselves, unless they exceed the cache.
    pub packets: Option<Vec<Packet>>,
    /// Whether the container broke off.
    pub warnings: Vec<Warning>,
}

impl Scan {
    /// Reads all packets.
    pub fn of(demuxer: &mut Demuxer) -> Result<Self> {
        demuxer.rewind()?;
        let mut entries = Vec::new();
        let mut shown = Vec::new();
        let mut packets = Some(Vec::new());
        let mut bytes = 0usize;
        let mut timed = true;
        let mut reached = 0.0;
        let mut latest = None;
        let mut warnings = Vec::new();
        while let Some(packet) = demuxer.next(reached, &mut warnings)? {
            let discard = packet.is_discard();
            timed &= discard || packet.pts().is_some();
            let pts = packet.pts().unwrap_or(i64::MIN);
            if !discard {
                shown.push((pts, entries.len()));
                latest = latest.max(packet.pts());
                reached = latest.map_or(0.0, |p| demuxer.time_of(p));
            }
            entries.push(Entry {
                pts,
                dts: packet.dts(),
                key: packet.is_key(),
            });
            bytes = bytes.saturating_add(packet.size());
            if bytes > demuxer.options.cache_bytes {
                packets = None;
            }
            if let Some(list) = &mut packets {
                list.push(packet);
            }
        }
        if timed {
            let order = shown.clone();
            shown.sort_unstable();
            if shown.windows(2).any(|w| w[0].0 == w[1].0) {
                timed = false;
                shown = order;
            }
        }
        if shown.is_empty() {
            return Err(Fault::NoFrames {
                reason: match warnings.first() {
                    Some(w) => format!("no packet can be read: {w}"),
                    None => "the video stream has no packets".into(),
                },
            }
            .of(&demuxer.path));
        }
        Ok(Self {
            entries,
            shown,
            timed,
            packets,
            warnings,
        })
    }

    pub fn total(&self) -> u64 {
        self.shown.len() as u64
    }

    /// Position in `shown` of a time stamp (only when `timed`).
    pub fn ordinal(&self, pts: i64) -> Option<usize> {
        self.shown.binary_search_by_key(&pts, |&(p, _)| p).ok()
    }

    /// The packet to start decoding from to see the frame of packet `at` with
    /// time stamp `pts`: the last key frame that neither comes after it in
    /// decoding order nor in presentation order (frames that lead a key frame
    /// refer to what is before it).
    pub fn key_before(&self, at: usize, pts: i64) -> usize {
        (0..=at)
            .rev()
            .find(|&i| self.entries[i].key && self.entries[i].pts <= pts)
            .unwrap_or(0)
    }
}
