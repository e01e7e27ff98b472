//! Arrays in and out.

use numpy::ndarray::{Array, Dimension, ShapeBuilder, StrideShape};
use numpy::{Element, IntoPyArray, PyArray, PyArrayMethods};
use pyo3::prelude::*;

/// Numbers row by row as an array of NumPy, which takes their memory over. As many as the
/// shape has, which is zeros where they are not.
pub fn array<'py, T: Element + Clone + Default, D: Dimension>(
    py: Python<'py>,
    shape: impl ShapeBuilder<Dim = D> + Into<StrideShape<D>> + Clone,
    numbers: Vec<T>,
) -> Bound<'py, PyArray<T, D>> {
    let array = Array::from_shape_vec(shape.clone(), numbers);
    array
        .unwrap_or_else(|_| Array::default(shape))
        .into_pyarray(py)
}

/// What Python's side makes of frames, of one (H, W, 3) or several (T, H, W, 3): an array of
/// NumPy that shares their memory where it can.
///
/// # Errors
/// `TypeError` or `ValueError`, which name the argument.
pub fn checked<'py>(function: &str, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let module = object.py().import("mtcae._arrays")?;
    module.call_method1(function, (object,))
}

/// A copy of an array's numbers, row by row, and its shape.
///
/// # Errors
/// `TypeError` where it is another kind of array.
pub fn numbers<T: Element + Copy>(object: &Bound<'_, PyAny>) -> PyResult<(Vec<T>, Vec<usize>)> {
    let array = object.cast::<numpy::PyArrayDyn<T>>()?.try_readonly()?;
    let view = array.as_array();
    Ok((view.iter().copied().collect(), view.shape().to_vec()))
}
