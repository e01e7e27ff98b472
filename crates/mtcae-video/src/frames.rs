//! Every frame at full size, one at a time.

use mtcae_core::Resize;
use ndarray::Array3;

use crate::clip::Warning;
use crate::error::{Error, Result};
use crate::ffi::convert::assumptions;
use crate::ffi::decoder::Frame;
use crate::geometry::Geometry;
use crate::resize::FrameResizer;
use crate::sequence::Sequence;
use crate::shrink::{full, warn};
use crate::video::Video;

/// One full-size frame.
#[derive(Clone, Debug)]
pub struct FullFrame {
    /// (H, W, 3), RGB, upright, source pixels.
    pub pixels: Array3<u8>,
    /// Seconds from the stream's start.
    pub time: f64,
    /// Number among the frames that decoded, from 0.
    pub index: u64,
    /// Size, aspect and orientation of this frame.
    pub source: Geometry,
}

impl FullFrame {
    pub(crate) fn new(video: &Video, frame: &Frame, index: u64, time: f64) -> Result<Self> {
        let (pixels, source) = full(frame, &video.info).map_err(|reason| Error::Convert {
            path: video.path.clone(),
            index,
            reason,
        })?;
        Ok(Self {
            pixels,
            time,
            index,
            source,
        })
    }

    /// A part of the frame, brought to `size` (width, height) as a clip's frames are:
    /// (H, W, 3), and the geometry of what it shows.
    ///
    /// # Errors
    /// A text that says what is wrong with the part or the size, as [`Geometry::part`].
    pub fn part(
        &self,
        part: &Resize,
        size: (u32, u32),
        resizer: &mut FrameResizer,
    ) -> std::result::Result<(Array3<u8>, Geometry), String> {
        let crop = self.source.part(part, size)?;
        let whole = (self.source.width, self.source.height);
        let mut small = Array3::zeros((size.1 as usize, size.0 as usize, 3));
        let pixels = self.pixels.as_standard_layout();
        if let (Some(from), Some(to)) = (pixels.as_slice(), small.as_slice_mut()) {
            resizer.resize(from, whole, crop, size, to)?;
        }
        let source = Geometry {
            crop,
            ..self.source
        };
        Ok((small, source))
    }
}

/// Iterator over all frames of a video; holds the decoder's frames and one
/// converted frame, whatever the video's length.
pub struct Frames {
    video: Video,
    sequence: Sequence,
    size: Option<(u32, u32)>,
    done: bool,
}

impl Frames {
    pub(crate) fn new(mut video: Video) -> Result<Self> {
        let sequence = Sequence::new(&mut video)?;
        Ok(Self {
            video,
            sequence,
            size: None,
            done: false,
        })
    }

    /// What was dropped or assumed up to here; complete at the end.
    pub fn warnings(&self) -> &[Warning] {
        &self.sequence.warnings
    }

    /// The video that is read.
    pub fn video(&self) -> &Video {
        &self.video
    }

    fn step(&mut self) -> Result<Option<FullFrame>> {
        let Some(d) = self.sequence.next(&mut self.video)? else {
            if self.sequence.count() == 0 {
                return Err(self.sequence.nothing(&self.video));
            }
            return Ok(None);
        };
        let size = (d.frame.width(), d.frame.height());
        if self.size != Some(size) {
            if self.size.is_some() {
                Warning::SizeChange {
                    index: d.index,
                    time: d.time,
                    width: size.0,
                    height: size.1,
                    count: 1,
                }
                .add_to(&mut self.sequence.warnings);
            }
            self.size = Some(size);
            for w in assumptions(&d.frame) {
                warn(&mut self.sequence.warnings, w);
            }
        }
        FullFrame::new(&self.video, &d.frame, d.index, d.time).map(Some)
    }
}

impl Iterator for Frames {
    type Item = Result<FullFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.step().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}
