//! The log of a run once more as an event file, which TensorBoard shows while it grows.
//!
//! Such a file is records one after the other: the length in 8 bytes, its checksum, the bytes
//! of a protobuf message `Event`, their checksum (TensorFlow's `core/lib/io/record_writer.h`,
//! `core/util/event.proto`, `core/framework/summary.proto`). Of the messages only what is
//! written here is described.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crc::{CRC_32_ISCSI, Crc};
use mtcae_core::files::At;
use prost::Message;
use serde::Serialize;
use serde_json::Value as Json;

use crate::Error;

/// What the first record says.
const VERSION: &str = "brain.Event:2";
/// What TensorFlow adds to a checksum once it is turned, so that checksums of data with
/// checksums in it are sound.
const MASK: u32 = 0xa282_ead8;

static CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// 3: RGB.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    /// A PNG.
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

/// A PNG that is shown beside the curves.
pub(crate) struct Picture {
    pub width: u32,
    pub height: u32,
    pub png: Vec<u8>,
}

/// Appends records to an event file.
pub(crate) struct Events {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Events {
    /// Goes on after the first `length` bytes; what came after them belongs to steps that were
    /// lost and will be taken again. A file that is shorter, or is not there, is begun anew: it
    /// only repeats the log.
    pub fn open(path: &Path, length: u64) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(path).at(path)?;
        let found = file.metadata().at(path)?.len();
        let length = if found < length { 0 } else { length };
        file.set_len(length).at(path)?;
        let mut events = Self {
            path: path.to_owned(),
            file,
            length,
        };
        if length == 0 {
            events.write(0, Some(VERSION), Vec::new())?;
        }
        Ok(events)
    }

    /// Bytes written.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// All numbers of something that serialises to an object, each by the names that lead to it:
    /// `epoch/validation/uar`.
    pub fn numbers(&mut self, step: u64, group: &str, of: &impl Serialize) -> Result<(), Error> {
        let json = serde_json::to_value(of).at(&self.path)?;
        let mut values = Vec::new();
        collect(group, &json, &mut values);
        self.write(step, None, values)
    }

    /// A picture.
    pub fn picture(&mut self, step: u64, tag: &str, picture: &Picture) -> Result<(), Error> {
        let image = Image {
            height: picture.height as i32,
            width: picture.width as i32,
            colorspace: 3,
            encoded_image_string: picture.png.clone(),
        };
        let value = Value {
            tag: tag.to_owned(),
            simple_value: None,
            image: Some(image),
        };
        self.write(step, None, vec![value])
    }

    /// Waits until the disk has what was written.
    pub fn sync(&self) -> Result<(), Error> {
        Ok(self.file.sync_data().at(&self.path)?)
    }

    fn write(&mut self, step: u64, version: Option<&str>, values: Vec<Value>) -> Result<(), Error> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let event = Event {
            wall_time: now.map_or(0.0, |now| now.as_secs_f64()),
            step: step as i64,
            file_version: version.map(str::to_owned),
            summary: (!values.is_empty()).then_some(Summary { values }),
        };
        let record = record(&event.encode_to_vec());
        self.file.write_all(&record).at(&self.path)?;
        self.length += record.len() as u64;
        Ok(())
    }
}

/// A record of these bytes.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked(data).to_le_bytes());
    record
}

fn masked(data: &[u8]) -> u32 {
    CRC.checksum(data).rotate_right(15).wrapping_add(MASK)
}

/// The numbers of a value by their names; where lines stand in a log is no curve.
fn collect(name: &str, json: &Json, values: &mut Vec<Value>) {
    match json {
        Json::Number(number) => values.extend(number.as_f64().map(|v| Value {
            tag: name.to_owned(),
            simple_value: Some(v as f32),
            image: None,
        })),
        Json::Object(fields) => {
            for (field, value) in fields {
                if !matches!(field.as_str(), "step" | "epoch") {
                    collect(&format!("{name}/{field}"), value, values);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a file, checked.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).expect("read");
        let mut rest = &bytes[..];
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().expect("eight")) as usize;
            let data = &rest[12..12 + length];
            assert_eq!(rest[..16 + length], record(data)[..]);
            events.push(Event::decode(data).expect("an event"));
            rest = &rest[16 + length..];
        }
        events
    }

    #[test]
    fn checksums_are_those_of_the_castagnoli_polynomial_turned_and_moved() {
        // RFC 3720, B.4: 32 bytes of zeros.
        let zeros = CRC.checksum(&[0; 32]);
        assert_eq!(zeros.to_be_bytes(), [0x8a, 0x91, 0x36, 0xaa]);
        let want = zeros.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked(&[0; 32]), want);
    }

    #[test]
    fn a_file_is_gone_on_from_where_a_state_was_saved() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events.out.tfevents.run");
        let line = serde_json::json!({
            "kind": "step", "step": 7, "epoch": 1, "loss": 0.5, "boxes": null,
            "parts": { "wait": 2, "forward": 0.25 },
        });
        let mut events = Events::open(&path, 0).expect("new");
        events.numbers(7, "step", &line).expect("written");
        let saved = events.length();
        events.numbers(8, "step", &line).expect("written");
        drop(events);
        let mut events = Events::open(&path, saved).expect("there");
        events.numbers(8, "again", &line).expect("written");
        let tags = |event: &Event| -> Vec<(String, f32)> {
            let values = event.summary.iter().flat_map(|s| &s.values);
            values
                .map(|v| (v.tag.clone(), v.simple_value.expect("a number")))
                .collect()
        };
        let found = read(&path);
        assert_eq!(found[0].file_version.as_deref(), Some(VERSION));
        let want = [
            ("step/loss", 0.5),
            ("step/parts/forward", 0.25),
            ("step/parts/wait", 2.0),
        ];
        assert_eq!(tags(&found[1]), want.map(|(tag, v)| (tag.to_owned(), v)));
        assert_eq!((found[1].step, found[2].step, found.len()), (7, 8, 3));
        assert_eq!(tags(&found[2])[0].0, "again/loss");
        // One that somebody has removed is begun anew.
        std::fs::remove_file(&path).expect("removed");
        drop(Events::open(&path, saved).expect("new"));
        assert_eq!(read(&path).len(), 1);
    }
}
