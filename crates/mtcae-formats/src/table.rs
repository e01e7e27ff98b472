//! Columns of an Arrow table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array,
    RecordBatch,
};
use arrow_schema::{Field, Schema};
use mtcae_core::{FaceBox, Landmarks};
use mtcae_dfer::{FACE_COLUMNS, PURPOSE, Results};
use serde_json::Value;

use crate::{Error, about, file_of};

/// A table that is being built, column by column; every column has as many rows.
#[derive(Default)]
pub(crate) struct Table {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Table {
    fn add(&mut self, name: &str, column: impl Array + 'static) {
        let kind = column.data_type().clone();
        self.fields.push(Field::new(name, kind, true));
        self.columns.push(Arc::new(column));
    }

    /// Words of which many are the same.
    pub fn words<'a>(&mut self, name: &str, rows: impl Iterator<Item = Option<&'a str>>) {
        self.add(name, rows.collect::<DictionaryArray<Int32Type>>());
    }

    pub fn integers(&mut self, name: &str, rows: impl Iterator<Item = Option<u32>>) {
        let rows = rows.map(|n| n.map(|n| i32::try_from(n).unwrap_or(i32::MAX)));
        self.add(name, rows.collect::<Int32Array>());
    }

    /// Numbers of frames.
    pub fn frames(&mut self, name: &str, rows: impl Iterator<Item = Option<u64>>) {
        let rows = rows.map(|n| n.map(|n| i64::try_from(n).unwrap_or(i64::MAX)));
        self.add(name, rows.collect::<Int64Array>());
    }

    /// Seconds.
    pub fn times(&mut self, name: &str, rows: impl Iterator<Item = Option<f64>>) {
        self.add(name, rows.collect::<Float64Array>());
    }

    pub fn numbers(&mut self, name: &str, rows: impl Iterator<Item = Option<f32>>) {
        self.add(name, rows.collect::<Float32Array>());
    }

    #[cfg(feature = "labels")]
    pub fn switches(&mut self, name: &str, rows: impl Iterator<Item = Option<bool>>) {
        self.add(name, rows.collect::<arrow_array::BooleanArray>());
    }

    pub fn lists(&mut self, name: &str, rows: impl Iterator<Item = Vec<String>>) {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in rows {
            lists.append_value(row.into_iter().map(Some));
        }
        self.add(name, lists.finish());
    }

    /// The fourteen columns of a face, with `prefix` in front of their names.
    pub fn faces<R>(
        &mut self,
        prefix: &str,
        rows: &[R],
        face: impl Fn(&R) -> (Option<FaceBox>, Option<Landmarks>),
    ) {
        for (i, name) in FACE_COLUMNS.iter().enumerate() {
            let of = |row: &R| match (i.checked_sub(4), face(row)) {
                (None, (face_box, _)) => face_box.map(|b| b.corners()[i]),
                (Some(i), (_, points)) => points.map(|l| l.points().as_flattened()[i]),
            };
            self.numbers(&format!("{prefix}{name}"), rows.iter().map(of));
        }
    }

    /// The table, with what it is, what for and where it comes from.
    pub fn finish(self, format: &str, results: &[&Results]) -> Result<RecordBatch, Error> {
        let mut metadata = vec![
            ("format", format.to_owned()),
            ("purpose", PURPOSE.to_owned()),
            ("provenance", provenance(results).to_string()),
        ];
        if let [results] = results {
            metadata.extend(file_of(results).map(|file| (about::FILE, file)));
        }
        self.with(metadata)
    }

    /// The table with metadata.
    pub fn with(self, metadata: Vec<(&str, String)>) -> Result<RecordBatch, Error> {
        let metadata = metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        let metadata: HashMap<_, _> = metadata.collect();
        let schema = Schema::new_with_metadata(self.fields, metadata);
        Ok(RecordBatch::try_new(Arc::new(schema), self.columns)?)
    }
}

/// Where each of the results comes from: a list, with `null` for what does not say it.
pub(crate) fn provenance(results: &[&Results]) -> Value {
    let of = |r: &&Results| serde_json::to_value(&r.provenance).unwrap_or(Value::Null);
    Value::Array(results.iter().map(of).collect())
}

/// Each name once, in the order in which they come.
pub(crate) fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = std::collections::HashSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}
