//! Label files: what is written about a clip, and how.
//!
//! JSON Lines, one clip a line; `docs/label-format.md` describes every field.

mod label_all;
mod labeller;
mod reader;
mod record;
mod table;
mod writer;

pub use label_all::{Progress, Summary, label_all};
pub use labeller::{DetectAt, FrameFaces, LabelSettings, Labeller, Pick};
pub use reader::LabelReader;
pub use record::{
    DetectorSettings, FaceRecord, FrameRecord, LabelledClip, RunSettings, SCHEMA, Source,
    TrackRecord, UnitRecord, Validity,
};
pub use table::write_table;
pub use writer::LabelWriter;
