//! Packets by number, wherever they are: kept from the scan, or in the file.

use crate::demuxer::Demuxer;
use crate::error::Result;
use crate::ffi::input::Packet;
use crate::scan::Scan;

/// A packet of the cache or a fresh one.
pub enum Held<'a> {
    Cached(&'a Packet),
    Read(Packet),
}

impl Held<'_> {
    pub fn packet(&self) -> &Packet {
        match self {
            Self::Cached(p) => p,
            Self::Read(p) => p,
        }
    }
}

/// Packets by number, from the cache or from the file, read forwards where
/// possible.
pub struct Tape<'a> {
    scan: &'a Scan,
    /// Number of the packet that the demuxer gives next, once positioned.
    next: Option<usize>,
}

impl<'a> Tape<'a> {
    pub fn new(scan: &'a Scan) -> Self {
        Self { scan, next: None }
    }

    /// Packet number `at`; `Ok(None)` when the file ends before it.
    pub fn get(&mut self, demuxer: &mut Demuxer, at: usize) -> Result<Option<Held<'a>>> {
        if let Some(packets) = &self.scan.packets {
            return Ok(packets.get(at).map(Held::Cached));
        }
        if let Some(packet) = self.jump(demuxer, at)? {
            return Ok(Some(Held::Read(packet)));
        }
        if self.next.is_none_or(|n| n > at) {
            demuxer.rewind()?;
            self.next = Some(0);
        }
        while let Some(next) = self.next {
            // The scan met the same fault and warned of it.
            let Ok(Some(packet)) = demuxer.read() else {
                return Ok(None);
            };
            self.next = Some(next + 1);
            if next == at {
                return Ok(Some(Held::Read(packet)));
            }
        }
        Ok(None)
    }

    /// Seeks when `at` is far ahead and the container has an index; trusts
    /// the place only when the packet found is the one the scan knows.
    fn jump(&mut self, demuxer: &mut Demuxer, at: usize) -> Result<Option<Packet>> {
        const FAR: usize = 256;
        let ahead = at.saturating_sub(self.next.unwrap_or(0));
        if ahead < FAR || !demuxer.input.is_indexed() {
            return Ok(None);
        }
        let entry = self.scan.entries[at];
        let Some(dts) = entry.dts.filter(|_| entry.key && self.scan.timed) else {
            return Ok(None);
        };
        self.next = None;
        if demuxer.seek(dts.max(entry.pts)).is_err() {
            return Ok(None);
        }
        match demuxer.read() {
            Ok(Some(p)) if p.pts() == Some(entry.pts) && p.dts() == entry.dts => {
                self.next = Some(at + 1);
                Ok(Some(p))
            }
            _ => Ok(None),
        }
    }
}
