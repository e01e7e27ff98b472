//! Every frame at full size, one at a time.

use mtcae_core::Resize;
use ndarray::Array3;

use crate::clip::Warning;
use crate::demuxer::Demuxer;
use crate::error::{Fault, Result};
use crate::ffi::convert::assumptions;
use crate::ffi::decoder::Frame;
use crate::geometry::Geometry;
use crate::resize::FrameResizer;
use crate::sequence::Sequence;
use crate::shrink::full;

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
    fn new(demuxer: &Demuxer, frame: &Frame, index: u64, time: f64) -> Result<Self> {
        let (pixels, source) = full(frame, &demuxer.info)
            .map_err(|reason| Fault::Convert { index, reason }.of(&demuxer.path))?;
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

/// Every frame in order; holds the decoder's frames and one converted frame, whatever
/// the video's length.
pub struct FrameReader {
    sequence: Sequence,
    size: Option<(u32, u32)>,
}

impl FrameReader {
    pub fn new(demuxer: &mut Demuxer) -> Result<Self> {
        Ok(Self {
            sequence: Sequence::new(demuxer)?,
            size: None,
        })
    }

    /// What was dropped or assumed up to here.
    pub fn warnings(&self) -> &[Warning] {
        &self.sequence.warnings
    }

    /// Takes what was dropped or assumed up to here.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.sequence.warnings)
    }

    /// The next frame; `Ok(None)` at the end.
    pub fn next(&mut self, demuxer: &mut Demuxer) -> Result<Option<FullFrame>> {
        self.next_from(demuxer, f64::NEG_INFINITY)
    }

    /// The next frame whose time is not before this one; those before are decoded alone.
    pub fn next_from(&mut self, demuxer: &mut Demuxer, time: f64) -> Result<Option<FullFrame>> {
        let d = loop {
            match self.sequence.next(demuxer)? {
                Some(d) if d.time < time => {}
                Some(d) => break d,
                None if self.sequence.count() == 0 => {
                    return Err(self.sequence.nothing(demuxer));
                }
                None => return Ok(None),
            }
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
                w.add_to(&mut self.sequence.warnings);
            }
        }
        FullFrame::new(demuxer, &d.frame, d.index, d.time).map(Some)
    }
}
