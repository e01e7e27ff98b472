//! What can go wrong with a loss or a measure.

/// What can go wrong with a loss or a measure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of a configuration cannot be used.
    #[error("objective config: {field}: {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// A tensor has another shape than the loss takes.
    #[error("{what} must have the shape {expected}, not {found:?}")]
    Shape {
        /// The tensor.
        what: &'static str,
        /// The shape wanted, in letters or numbers.
        expected: String,
        /// The shape given.
        found: Vec<usize>,
    },
    /// There is nothing to measure.
    #[error("there are no {what}, so nothing can be measured")]
    Empty {
        /// What there is none of.
        what: &'static str,
    },
    /// There are too few to draw an interval from.
    #[error("too few {what} to draw an interval from: {found}, and {fewest} are needed")]
    TooFew {
        /// What is drawn.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many it takes.
        fewest: usize,
    },
    /// Two lists that belong together differ in length.
    #[error("{what}: {found} given, {expected} expected")]
    Length {
        /// The list at fault.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A number cannot be measured: a NaN, an infinity, or out of its range.
    #[error("{what} {index}: {reason}")]
    Value {
        /// The list it stands in.
        what: &'static str,
        /// Where it stands there.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A class that does not exist.
    #[error("{what} {index}: is class {class}, but there are {classes} classes, numbered from 0")]
    Class {
        /// The list it stands in.
        what: &'static str,
        /// Where it stands there.
        index: usize,
        /// The class given.
        class: usize,
        /// How many classes there are; they count from 0.
        classes: usize,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] mtcae_nn::candle_core::Error),
}

/// The places of `found` are as many as `expected`.
pub(crate) fn same_length(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found {
        Ok(())
    } else {
        Err(Error::Length {
            what,
            expected,
            found,
        })
    }
}

/// None of the numbers is a NaN or an infinity.
pub(crate) fn finite<'a>(
    what: &'static str,
    index: usize,
    values: impl IntoIterator<Item = &'a f64>,
) -> Result<(), Error> {
    match values.into_iter().find(|v| !v.is_finite()) {
        None => Ok(()),
        Some(v) => Err(Error::Value {
            what,
            index,
            reason: format!("{v} is not a finite number"),
        }),
    }
}
