//! Which file results in other formats are about, as they say themselves.

use std::fs::File;
use std::path::Path;

use mtcae_core::files::{open, read};
use mtcae_dfer::Results;
use serde_json::Value;

use crate::{Columns, Document};

/// The field, property or note that names the file.
pub(crate) const FILE: &str = "mtcae.file";

/// What is larger is no annotation.
const MOST: u64 = 1 << 30;

impl Document {
    /// Whether such a document says which file it is about.
    pub fn names_its_file(self) -> bool {
        !matches!(
            self,
            Self::TextGrid | Self::Srt | Self::Events | Self::Csv(Columns::OpenFace)
        )
    }

    /// The file that a document is about; `None` where it does not say it, or is another's.
    pub fn about(self, path: &Path) -> Option<String> {
        match self {
            Self::Json => {
                let results = Results::read(path).ok()?;
                crate::file_of(&results)
            }
            Self::Csv(Columns::Own) => first_cell(path, "file"),
            Self::Boris => first_cell(path, "Media file name"),
            Self::Sidecar => in_json(path, |json| json.get(FILE)),
            Self::Coco => in_json(path, |json| json.get("info")?.get(FILE)),
            Self::Eaf => in_property(path),
            Self::Vtt => {
                let text = String::from_utf8(read(path, MOST).ok()?).ok()?;
                let head = format!("NOTE {FILE} ");
                let line = text.lines().find_map(|line| line.strip_prefix(&head))?;
                serde_json::from_str(line).ok()
            }
            Self::Arrow(_) => {
                let file = arrow_ipc::reader::FileReader::try_new(file(path)?, None).ok()?;
                file.schema().metadata().get(FILE).cloned()
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(_) => {
                use parquet::file::reader::{FileReader, SerializedFileReader};
                let file = SerializedFileReader::new(file(path)?).ok()?;
                let metadata = file.metadata().file_metadata().key_value_metadata()?;
                let entry = metadata.iter().find(|entry| entry.key == FILE)?;
                entry.value.clone()
            }
            Self::TextGrid | Self::Srt | Self::Events | Self::Csv(Columns::OpenFace) => None,
        }
    }
}

fn file(path: &Path) -> Option<File> {
    open(path).ok()
}

fn first_cell(path: &Path, column: &str) -> Option<String> {
    let mut table = csv::Reader::from_reader(file(path)?);
    let column = table
        .headers()
        .ok()?
        .iter()
        .position(|name| name == column)?;
    let row = table.records().next()?.ok()?;
    Some(row.get(column)?.to_owned())
}

fn in_json(path: &Path, field: impl Fn(&Value) -> Option<&Value>) -> Option<String> {
    let json: Value = serde_json::from_slice(&read(path, MOST).ok()?).ok()?;
    Some(field(&json)?.as_str()?.to_owned())
}

fn in_property(path: &Path) -> Option<String> {
    use quick_xml::Reader;
    use quick_xml::events::Event;
    let text = String::from_utf8(read(path, MOST).ok()?).ok()?;
    let mut xml = Reader::from_str(&text);
    loop {
        match xml.read_event().ok()? {
            Event::Start(element) if element.name().as_ref() == "PROPERTY" => {
                let name = element.try_get_attribute("NAME").ok()??;
                if name.value == FILE {
                    let text = xml.read_text(element.name()).ok()?;
                    return Some(quick_xml::escape::unescape(&text).ok()?.into_owned());
                }
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}
