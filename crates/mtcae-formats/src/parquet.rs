//! Results as Parquet files.

use std::io::Write;

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::Error;

/// Writes a table as a Parquet file, packed with Snappy. The metadata of its schema is that of
/// the file.
///
/// # Errors
/// What the writer reports.
pub fn write_parquet(table: &RecordBatch, out: impl Write + Send) -> Result<(), Error> {
    let schema = table.schema();
    let mut about: Vec<_> = schema.metadata().iter().collect();
    about.sort();
    let about = about
        .into_iter()
        .map(|(k, v)| KeyValue::new(k.clone(), v.clone()));
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(about.collect()))
        .build();
    let mut writer = ArrowWriter::try_new(out, schema.clone(), Some(properties))?;
    writer.write(table)?;
    writer.close()?;
    Ok(())
}
