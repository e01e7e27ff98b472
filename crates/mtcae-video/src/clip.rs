//! What decoding gives: frames, their times, where they come from, and all
//! that was not as it should be.

use std::fmt;

use mtcae_core::{FaceBox, Landmarks, Square};
use ndarray::{Array2, Array4, ArrayView3, Axis};
use serde::{Deserialize, Serialize};

use crate::geometry::Geometry;
use crate::normalize::Normalization;
use crate::tubes::{TubeError, TubeShape, tubes};

/// Sampled, resized frames of a video.
#[derive(Clone, Debug)]
pub struct Clip {
    /// (T, H, W, 3), RGB, full range, upright.
    pub frames: Array4<u8>,
    /// Presentation time of each frame in seconds from the stream's first
    /// frame.
    pub times: Vec<f64>,
    /// Number of each frame in the stream, in presentation order, from 0.
    pub indices: Vec<u64>,
    /// Size of the source and the part of it that the frames show.
    pub source: Geometry,
    /// Of a clip that follows a face: the square that each frame shows, in display pixels
    /// ([`Geometry`]); the source's crop is around all of them then. Otherwise empty.
    pub squares: Vec<Square>,
    /// What was dropped, guessed or sampled again; empty when all was well.
    pub warnings: Vec<Warning>,
}

impl Clip {
    /// Number of frames T.
    pub fn len(&self) -> usize {
        self.frames.len_of(Axis(0))
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frame `i`, (H, W, 3); `None` past the end.
    pub fn frame(&self, i: usize) -> Option<ArrayView3<'_, u8>> {
        (i < self.len()).then(|| self.frames.index_axis(Axis(0), i))
    }

    /// VideoMAE tubes (N, 1536): see [`tubes`].
    ///
    /// # Errors
    /// [`TubeError::Shape`] when T is odd or the size no multiple of 16.
    pub fn tubes(&self, normalization: &Normalization) -> Result<Array2<f32>, TubeError> {
        tubes(self.frames.view(), normalization, TubeShape::default())
    }

    /// A box in fractions of frame `i` in pixels of the source: of a turned square, the box
    /// about the same centre with edges along those of the picture.
    pub fn box_in_source(&self, i: usize, face_box: &FaceBox) -> FaceBox {
        let Some(square) = self.squares.get(i) else {
            return face_box.map(|p| self.point_in_source(p));
        };
        let aspect = self.source.pixel_aspect() as f32;
        square.box_outside(face_box).map(|[x, y]| [x / aspect, y])
    }

    /// Landmarks in fractions of frame `i` in pixels of the source.
    pub fn landmarks_in_source(&self, i: usize, landmarks: &Landmarks) -> Landmarks {
        let Some(square) = self.squares.get(i) else {
            return landmarks.map(|p| self.point_in_source(p));
        };
        let aspect = self.source.pixel_aspect() as f32;
        square
            .landmarks_outside(landmarks)
            .map(|[x, y]| [x / aspect, y])
    }

    fn point_in_source(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let (x, y) = self.source.to_source(x.into(), y.into());
        [x as f32, y as f32]
    }

    /// Splits into clips of `count` frames (for multi-clip sampling); a
    /// remainder makes a shorter last clip, and every part carries the
    /// warnings.
    pub fn split(&self, count: usize) -> Vec<Self> {
        let count = count.max(1);
        (0..self.len())
            .step_by(count)
            .map(|from| {
                let to = (from + count).min(self.len());
                Self {
                    frames: self
                        .frames
                        .slice(ndarray::s![from..to, .., .., ..])
                        .to_owned(),
                    times: self.times[from..to].to_vec(),
                    indices: self.indices[from..to].to_vec(),
                    source: self.source,
                    squares: match self.squares.is_empty() {
                        true => Vec::new(),
                        false => self.squares[from..to].to_vec(),
                    },
                    warnings: self.warnings.clone(),
                }
            })
            .collect()
    }
}

/// One window's clip.
#[derive(Clone, Debug)]
pub struct WindowClip {
    /// Number of the window: it starts at `index · stride`.
    pub index: u64,
    /// Seconds from the stream's start.
    pub start: f64,
    /// Seconds, exclusive; may lie past the end of the video.
    pub end: f64,
    /// The window's views, in the order of [`Video::clips`](crate::Video::clips); at
    /// least one. Warnings are those met since the window before, in each of them.
    pub views: Vec<Clip>,
}

/// Something about a video that a careful user should know. None of these
/// stops the work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum Warning {
    /// The decoder refused data; frames near it may be missing.
    DecodeError {
        /// Seconds from the start of the last good frame (or packet) before it.
        time: f64,
        /// How many times in all.
        count: u64,
        /// As `time`, of the last of several such places; the same where there is one.
        last: f64,
        /// The decoder's reason.
        reason: String,
    },
    /// Frames decoded with visible damage; they are kept.
    CorruptFrame {
        /// Number of the first such frame.
        index: u64,
        /// Its seconds from the start.
        time: f64,
        /// How many there are.
        count: u64,
        /// Seconds from the start of the last one.
        last: f64,
    },
    /// Frames of a stream that came while answers were late, and were left out.
    Late {
        /// How many.
        count: u64,
    },
    /// The container broke off: what was read until then is used.
    ReadError {
        /// Seconds from the start of the last packet read.
        time: f64,
        /// The reader's reason.
        reason: String,
    },
    /// Fewer frames decoded than the container announced; the sampling was
    /// done again over those that did.
    Resampled {
        /// Frames the packets announced.
        expected: u64,
        /// Frames that decoded.
        decoded: u64,
    },
    /// The stream does not say which matrix made its YCbCr; BT.601 is taken,
    /// swscale's default (a BT.709 picture then has slightly wrong greens).
    UnknownMatrix {
        /// The pixel format.
        format: String,
    },
    /// The stream names a matrix that swscale does not have; BT.709 or the
    /// nearest is taken.
    UnsupportedMatrix {
        /// FFmpeg's name of the matrix.
        matrix: String,
    },
    /// The picture's size changes within the stream; each frame is resized
    /// from its own size.
    SizeChange {
        /// Frame number of the first frame of the new size.
        index: u64,
        /// Seconds from the start.
        time: f64,
        /// New coded width.
        width: u32,
        /// New coded height.
        height: u32,
        /// How many times it changes in all; the rest of this is of the first.
        count: u64,
    },
    /// The stream has no (usable) time stamps; times are frame number over
    /// frame rate.
    GuessedTimes {
        /// Frames per second used.
        fps: f64,
    },
    /// The display matrix is not a multiple of 90°; it is ignored.
    OddRotation,
    /// The alpha channel is dropped; colours are as stored, not blended.
    AlphaDropped,
    /// There are several video streams; the best was taken.
    SeveralStreams {
        /// Stream used.
        chosen: u32,
        /// Number of video streams.
        count: u32,
    },
}

impl Warning {
    /// One damaged frame.
    #[cfg(feature = "ffmpeg")]
    pub(crate) fn corrupt(index: u64, time: f64) -> Self {
        Self::CorruptFrame {
            index,
            time,
            count: 1,
            last: time,
        }
    }

    /// A mere note: what is usual and harmless enough that a program says it once a
    /// run, however many files it is true of.
    pub fn is_note(&self) -> bool {
        matches!(self, Self::UnknownMatrix { .. } | Self::AlphaDropped)
    }

    /// Adds it to a list in which no warning stands twice; damage of one kind becomes
    /// one warning that counts.
    pub fn add_to(self, list: &mut Vec<Self>) {
        if !list.contains(&self) && !list.iter_mut().any(|w| w.takes(&self)) {
            list.push(self);
        }
    }

    /// Counts another in, if it is of the same kind.
    fn takes(&mut self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::DecodeError {
                    count,
                    last,
                    reason,
                    ..
                },
                Self::DecodeError {
                    count: more,
                    last: later,
                    reason: same,
                    ..
                },
            ) if reason == same => {
                *count += more;
                *last = last.max(*later);
            }
            (
                Self::CorruptFrame { count, last, .. },
                Self::CorruptFrame {
                    count: more,
                    last: later,
                    ..
                },
            ) => {
                *count += more;
                *last = last.max(*later);
            }
            (Self::SizeChange { count, .. }, Self::SizeChange { count: more, .. })
            | (Self::Late { count }, Self::Late { count: more }) => {
                *count += more;
            }
            _ => return false,
        }
        true
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late { count: 1 } => {
                f.write_str("a frame came while answers were late, and was left out")
            }
            Self::Late { count } => write!(
                f,
                "{count} frames came while answers were late, and were left out"
            ),
            Self::DecodeError {
                time,
                count: 1,
                reason,
                ..
            } => write!(f, "a decode error after {time:.3} s ({reason})"),
            Self::DecodeError {
                time,
                count,
                last,
                reason,
            } if last > time => write!(
                f,
                "{count} decode errors, the first after {time:.3} s, the last after {last:.3} s ({reason})"
            ),
            Self::DecodeError {
                time,
                count,
                reason,
                ..
            } => write!(f, "{count} decode errors after {time:.3} s ({reason})"),
            Self::CorruptFrame {
                index,
                time,
                count: 1,
                ..
            } => write!(f, "frame {index} at {time:.3} s is damaged"),
            Self::CorruptFrame {
                index,
                time,
                count,
                last,
            } => write!(
                f,
                "{count} damaged frames, the first (frame {index}) at {time:.3} s, the last at {last:.3} s"
            ),
            Self::ReadError { time, reason } => {
                write!(f, "the file breaks off after {time:.3} s ({reason})")
            }
            Self::Resampled { expected, decoded } => write!(
                f,
                "{decoded} of {expected} frames decoded; sampled again over these"
            ),
            Self::UnknownMatrix { format } => {
                write!(
                    f,
                    "the colour matrix of {format} is not given; BT.601 is assumed"
                )
            }
            Self::UnsupportedMatrix { matrix } => {
                write!(
                    f,
                    "the colour matrix {matrix} is not supported; BT.709 is used"
                )
            }
            Self::SizeChange {
                index,
                time,
                width,
                height,
                count,
            } => {
                write!(
                    f,
                    "the picture size changes to {width}x{height} at frame {index}, {time:.3} s"
                )?;
                match count {
                    1 => Ok(()),
                    n => write!(f, ", and {} more times after it", n - 1),
                }
            }
            Self::GuessedTimes { fps } => {
                write!(
                    f,
                    "no usable time stamps; times are taken from {fps:.3} frames/s"
                )
            }
            Self::OddRotation => {
                f.write_str("the display matrix is not a multiple of 90°; it is ignored")
            }
            Self::AlphaDropped => {
                f.write_str("the alpha channel is dropped; colours are not blended")
            }
            Self::SeveralStreams { chosen, count } => {
                write!(f, "{count} video streams; stream {chosen} used")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_of_one_kind_is_counted_in_one_warning() {
        let mut list = vec![Warning::OddRotation];
        for i in 12..52 {
            let time = f64::from(i) / 25.0;
            Warning::CorruptFrame {
                index: i as u64,
                time,
                count: 1,
                last: time,
            }
            .add_to(&mut list);
            Warning::DecodeError {
                time,
                count: 2,
                last: time,
                reason: "Invalid data".to_owned(),
            }
            .add_to(&mut list);
            Warning::OddRotation.add_to(&mut list);
        }
        let said: Vec<String> = list.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "the display matrix is not a multiple of 90°; it is ignored",
                "40 damaged frames, the first (frame 12) at 0.480 s, the last at 2.040 s",
                "80 decode errors, the first after 0.480 s, the last after 2.040 s (Invalid data)",
            ]
        );
        assert!(list.iter().all(|w| !w.is_note()));
        let matrix = Warning::UnknownMatrix {
            format: "yuv420p".to_owned(),
        };
        assert!(matrix.is_note());
    }

    #[test]
    fn splits_into_clips() {
        let clip = Clip {
            frames: Array4::from_shape_fn((5, 2, 2, 3), |(t, ..)| t as u8),
            times: (0..5).map(f64::from).collect(),
            indices: (0..5).collect(),
            source: Geometry::plain(2, 2),
            squares: Vec::new(),
            warnings: vec![Warning::OddRotation],
        };
        let parts = clip.split(2);
        assert_eq!(parts.iter().map(Clip::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(parts[1].frames[[1, 0, 0, 0]], 3);
        assert_eq!(parts[2].indices, [4]);
        assert!(clip.frame(5).is_none());
    }
}
