//! What can go wrong between results and a file of another format.

/// What can go wrong between results and a file of another format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A timeline whose points are not those of its windows.
    #[error(
        "a timeline has {windows} windows and {points} points; there must be one point a window"
    )]
    Timeline {
        /// Windows.
        windows: usize,
        /// Points.
        points: usize,
    },
    /// Labels in a format that is for answers.
    #[cfg(feature = "labels")]
    #[error(
        "labels are written as parquet, arrow or coco, not as *{0}: other formats are for what a model says of one video"
    )]
    NotForLabels(&'static str),
    /// A table that Arrow refuses.
    #[error(transparent)]
    Arrow(#[from] arrow_schema::ArrowError),
    /// A table that Parquet refuses.
    #[cfg(feature = "parquet")]
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
    /// A place that cannot be written to.
    #[error(transparent)]
    Write(#[from] std::io::Error),
}

impl From<csv::Error> for Error {
    fn from(error: csv::Error) -> Self {
        Self::Write(error.into())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Write(error.into())
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Write(error) => error,
            other => Self::other(other),
        }
    }
}
