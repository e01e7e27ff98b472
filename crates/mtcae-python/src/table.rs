//! The table of frames, handed over by Arrow's PyCapsule interface: the receiver gets the
//! memory itself.

use arrow_array::ffi::to_ffi;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{Array, RecordBatch, RecordBatchIterator, StructArray};
use arrow_schema::ffi::FFI_ArrowSchema;
use mtcae_core::one_line;
use mtcae_dfer::Results;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::errors::raised_as;

/// Names that Arrow gives its capsules.
const SCHEMA: &std::ffi::CStr = c"arrow_schema";
const ARRAY: &std::ffi::CStr = c"arrow_array";
const STREAM: &std::ffi::CStr = c"arrow_array_stream";

/// A row for each frame and person, however many windows the frame is in.
///
/// # Errors
/// What Arrow refuses, in words.
pub fn frames(results: &Results) -> Result<RecordBatch, String> {
    mtcae_formats::arrow::frames(&[results]).map_err(|e| one_line(&e))
}

/// The batch's schema.
///
/// # Errors
/// `Error` where Arrow refuses.
pub fn schema<'py>(py: Python<'py>, batch: &RecordBatch) -> PyResult<Bound<'py, PyCapsule>> {
    let schema = FFI_ArrowSchema::try_from(&*batch.schema());
    let schema = schema.map_err(|e| raised_as(py, "Error", &e))?;
    PyCapsule::new_with_value(py, schema, SCHEMA)
}

/// The batch's schema, and the batch as an array of structs.
///
/// # Errors
/// `Error` where Arrow refuses.
pub fn array<'py>(
    py: Python<'py>,
    batch: &RecordBatch,
) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
    let rows = StructArray::from(batch.clone());
    let (array, _) = to_ffi(&rows.to_data()).map_err(|e| raised_as(py, "Error", &e))?;
    // With the batch's own metadata.
    Ok((
        schema(py, batch)?,
        PyCapsule::new_with_value(py, array, ARRAY)?,
    ))
}

/// A stream of the batch alone.
///
/// # Errors
/// Where there is no memory for it.
pub fn stream(py: Python<'_>, batch: RecordBatch) -> PyResult<Bound<'_, PyCapsule>> {
    let schema = batch.schema();
    let batches = RecordBatchIterator::new([Ok(batch)], schema);
    let stream = FFI_ArrowArrayStream::new(Box::new(batches));
    PyCapsule::new_with_value(py, stream, STREAM)
}
