//! An Arrow table as CSV.

use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;

use crate::Error;

/// Writes a header and the rows, quoted as RFC 4180 has it; what is null is an empty cell.
/// Numbers are the shortest that are read as the same.
pub(crate) fn write(table: &RecordBatch, out: impl Write) -> Result<(), Error> {
    let mut csv = csv::Writer::from_writer(out);
    let schema = table.schema();
    csv.write_record(schema.fields().iter().map(|field| field.name()))?;
    for row in 0..table.num_rows() {
        csv.write_record(table.columns().iter().map(|column| cell(column, row)))?;
    }
    Ok(csv.flush()?)
}

fn cell(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return String::new();
    }
    match column.data_type() {
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => column.as_primitive::<Float32Type>().value(row).to_string(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Dictionary(..) => {
            let words = column.as_dictionary::<Int32Type>();
            let key = words.keys().value(row);
            let key = usize::try_from(key).unwrap_or_default();
            words.values().as_string::<i32>().value(key).to_owned()
        }
        // Lists, which no such table has.
        _ => String::new(),
    }
}
