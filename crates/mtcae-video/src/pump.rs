//! Packets in, frames and faults out: the decoder's send-and-receive dance
//! in one place.

use std::collections::VecDeque;

use crate::clip::Warning;
use crate::demuxer::Demuxer;
use crate::error::{Fault, Result};
use crate::ffi::decoder::{Decoder, Frame, Received};
use crate::ffi::input::Packet;
use crate::ffi::reason;

/// What a packet brought forth.
pub enum Event {
    Frame(Frame),
    Fault(i32),
}

/// A decoder with its output queue.
pub struct Pump {
    decoder: Decoder,
    pub out: VecDeque<Event>,
}

/// A decoder that faults this often in a row without taking anything is
/// stuck; it is left alone until the next packet.
const STUCK: usize = 64;

impl Pump {
    /// Opens the decoder of the stream.
    pub fn open(demuxer: &Demuxer) -> Result<Self> {
        let path = || demuxer.path.clone();
        match Decoder::open(&demuxer.input, demuxer.options.threads, demuxer.budget) {
            Ok(Some(decoder)) => Ok(Self {
                decoder,
                out: VecDeque::new(),
            }),
            Ok(None) => Err(Fault::NoDecoder {
                codec: demuxer.info.codec.clone(),
            }
            .of(&path())),
            Err(code) => Err(Fault::Ffmpeg {
                call: "opening the decoder",
                reason: reason(code),
            }
            .of(&path())),
        }
    }

    pub fn is_intra_only(&self) -> bool {
        self.decoder.is_intra_only()
    }

    /// Packets that are better decoded than the decoder emptied for their sake, which
    /// costs about a frame for each that it holds.
    pub fn slack(&self) -> usize {
        match self.is_intra_only() {
            true => 0,
            false => self.decoder.delay() + 1,
        }
    }

    /// Sends one packet and takes what comes; `skippable` when its frame is
    /// not wanted.
    pub fn push(&mut self, packet: &Packet, skippable: bool) {
        for _ in 0..STUCK {
            match self.decoder.send(Some(packet), skippable) {
                Ok(true) => break,
                Ok(false) => self.take(),
                Err(code) => {
                    self.out.push_back(Event::Fault(code));
                    break;
                }
            }
        }
        self.take();
    }

    /// Takes all that is left in the decoder.
    pub fn drain(&mut self) {
        if let Err(code) = self.decoder.send(None, false) {
            self.out.push_back(Event::Fault(code));
        }
        self.take();
    }

    /// After [`Pump::drain`]: ready for packets of elsewhere.
    pub fn flush(&mut self) {
        self.decoder.flush();
    }

    fn take(&mut self) {
        let mut faults = 0;
        while faults < STUCK {
            match self.decoder.receive() {
                Received::Frame(f) => {
                    faults = 0;
                    self.out.push_back(Event::Frame(f));
                }
                Received::Again | Received::End => return,
                Received::Fault(code) => {
                    faults += 1;
                    self.out.push_back(Event::Fault(code));
                }
            }
        }
    }
}

/// Counts decode faults, with the time of the last good frame before each run of
/// them.
#[derive(Default)]
pub struct Faults {
    time: f64,
    count: u64,
    code: i32,
}

impl Faults {
    pub fn fault(&mut self, code: i32) {
        self.count += 1;
        self.code = code;
    }

    /// A good frame at `time` ends the run.
    pub fn good(&mut self, time: f64, warnings: &mut Vec<Warning>) {
        self.finish(warnings);
        self.time = time;
    }

    pub fn finish(&mut self, warnings: &mut Vec<Warning>) {
        if self.count > 0 {
            Warning::DecodeError {
                time: self.time,
                count: self.count,
                last: self.time,
                reason: reason(self.code),
            }
            .add_to(warnings);
            self.count = 0;
        }
    }
}
