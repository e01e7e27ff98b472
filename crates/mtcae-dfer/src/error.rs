//! What can go wrong between a video and its prediction.

use std::path::PathBuf;

/// What can go wrong between a video and its prediction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The video's fault; the message names the file.
    #[error(transparent)]
    Video(#[from] mtcae_video::Error),
    /// The checkpoint's or model's fault; the message names file, field or tensor.
    #[error(transparent)]
    Model(#[from] mtcae_model::Error),
    /// A fault met while a file was looked at, with the file in front.
    #[error("{}: {source}", path.display())]
    In {
        /// The file.
        path: PathBuf,
        /// The fault.
        source: Box<Error>,
    },
    /// A file that cannot be read or written; the message names it.
    #[error(transparent)]
    File(#[from] mtcae_core::files::FileError),
    /// A file of results that is none.
    #[error("{}: {reason}", path.display())]
    Results {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A head gave NaN or an infinity, which says nothing of the clip.
    #[error(
        "the model's head {head} gives numbers that are not finite; its weights may be damaged"
    )]
    NotFinite {
        /// The head's task.
        head: &'static str,
    },
    /// A clip cannot be cut into the model's tubes.
    #[error("the clip does not fit the model: {0}")]
    Tubes(#[from] mtcae_video::TubeError),
    /// A clip of another size than the model takes.
    #[error("the model takes clips of {expected} (frames × height × width), not {found}")]
    Clip {
        /// Frames, height and width of the model.
        expected: String,
        /// Those of the clip.
        found: String,
    },
    /// A clip whose frames, times and numbers are not as many.
    #[error(
        "the clip has {frames} frames, {times} times and {indices} numbers of frames; there must be one of each a frame"
    )]
    Uneven {
        /// Frames.
        frames: usize,
        /// Times.
        times: usize,
        /// Frame numbers.
        indices: usize,
    },
    /// An option outside its range.
    #[error("{option}: {reason}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A GPU's memory is not enough for a batch.
    #[error("a batch of {batch} clips: {source}; {}", match fits { 0 => "not even one clip fits".to_owned(), n => format!("a batch of {n} would fit") })]
    OutOfMemory {
        /// Clips of the batch.
        batch: usize,
        /// Clips that would fit, by what was free.
        fits: usize,
        /// What the GPU said: what was asked for and what was free.
        source: Box<Error>,
    },
    /// MTCNN's fault.
    #[cfg(feature = "faces")]
    #[error(transparent)]
    Faces(#[from] mtcae_faces::Error),
    /// Nobody to crop to.
    #[cfg(feature = "faces")]
    #[error("MTCNN finds no face to crop to")]
    NoFace,
    /// Nobody who is seen in enough frames of a clip.
    #[cfg(feature = "faces")]
    #[error(
        "MTCNN sees nobody in {min_seen} frames of a clip; `min_seen` 1 takes whoever is seen at all"
    )]
    SeenTooSeldom {
        /// Frames that were asked for.
        min_seen: usize,
    },
    /// A part of a frame that cannot be cut out.
    #[cfg(feature = "faces")]
    #[error("{0}")]
    Part(String),
    /// The file changed between two readings.
    #[cfg(feature = "faces")]
    #[error("other frames came when it was read again")]
    Changed,
    /// A picture that cannot be drawn or written.
    #[cfg(feature = "annotate")]
    #[error(transparent)]
    Picture(#[from] mtcae_viz::Error),
    /// The picture's size changes within the video, which an annotated video, of one
    /// size, cannot follow.
    #[cfg(feature = "annotate")]
    #[error("the picture's size changes at {time:.2} s, which an annotated video cannot follow")]
    SizeChange {
        /// Seconds from the start.
        time: f64,
    },
    /// The caller's progress callback asked to stop.
    #[error("cancelled after {done} windows")]
    Cancelled {
        /// Windows that were done.
        done: u64,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// The fault with the file that was looked at in front.
    #[cfg(feature = "ffmpeg")]
    pub(crate) fn of(self, path: &std::path::Path) -> Self {
        Self::In {
            path: path.to_owned(),
            source: Box::new(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_says_which_batch_would_fit() {
        let text = |fits| {
            let source = Error::NotFinite { head: "boxes" };
            Error::OutOfMemory {
                batch: 32,
                fits,
                source: Box::new(source),
            }
            .to_string()
        };
        assert!(text(12).contains("batch of 32") && text(12).ends_with("a batch of 12 would fit"));
        assert!(text(0).ends_with("not even one clip fits"), "{}", text(0));
    }
}
