//! Decoded frames to RGB of the wanted size, upright; several at a time.

use std::cell::RefCell;

use mtcae_core::{Rect, Resize};
use ndarray::Array3;

use crate::demuxer::VideoInfo;
use crate::ffi::convert::{Converter, LARGE, Picture};
use crate::ffi::decoder::Frame;
use crate::geometry::{Geometry, Orientation};
use crate::resize::{FrameResizer, orient, to_coded};

/// Scratch of one thread.
struct Tools {
    converter: Converter,
    resizer: FrameResizer,
    small: Vec<u8>,
}

thread_local! {
    static TOOLS: RefCell<Vec<Tools>> = const { RefCell::new(Vec::new()) };
}

/// Runs with this thread's scratch. Taken out while in use: the resizer runs
/// on rayon, which may start another frame on this thread while one waits.
fn with_tools<R>(work: impl FnOnce(&mut Tools) -> R) -> R {
    let mut tools = TOOLS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Tools {
        converter: Converter::new(),
        resizer: FrameResizer::default(),
        small: Vec::new(),
    });
    let result = work(&mut tools);
    TOOLS.with_borrow_mut(|list| {
        if list.len() < 2 && !tools.converter.is_large() {
            list.push(tools);
        }
    });
    result
}

/// What is wrong: the frame, or the request.
pub enum ShrinkFault {
    Convert(String),
    Resize(String),
}

/// Geometry of a decoded frame: its own size and aspect, the container's
/// orientation, else its own.
pub fn geometry(frame: &Frame, info: &VideoInfo) -> Geometry {
    let aspect = if info.geometry.sample_aspect == (1, 1) {
        frame.sample_aspect().unwrap_or((1, 1))
    } else {
        info.geometry.sample_aspect
    };
    let orientation = if info.geometry.orientation == Orientation::default() {
        frame.orientation().flatten().unwrap_or_default()
    } else {
        info.geometry.orientation
    };
    Geometry::new(frame.width(), frame.height(), aspect, orientation)
}

/// A view of a frame.
pub struct View {
    /// (H, W, 3).
    pub pixels: Array3<u8>,
    /// What of the picture it shows.
    pub source: Geometry,
}

/// A frame for clips.
pub struct Shrunk {
    /// As many as [`Geometry::parts`] has, in its order.
    pub views: Vec<View>,
    /// The picture at full size, as [`full`] gives it, where it was asked for.
    pub whole: Option<Array3<u8>>,
}

/// One frame to views of `size`; with `whole`, also at full size, of the same conversion.
pub fn shrink(
    frame: &Frame,
    info: &VideoInfo,
    resize: &Resize,
    size: (u32, u32),
    whole: bool,
) -> Result<Shrunk, ShrinkFault> {
    let source = geometry(frame, info);
    let parts = source.parts(resize, size).map_err(ShrinkFault::Resize)?;
    let stored = if source.orientation.transposes() {
        (size.1, size.0)
    } else {
        size
    };
    let bytes = size.0 as usize * size.1 as usize * 3;
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    // Of larger ones, rows are made without the planes.
    let with_whole = whole && width * height <= LARGE;
    let mut rgb = Vec::new();
    let mut views = Vec::with_capacity(parts.len());
    with_tools(|tools| {
        let picture = tools
            .converter
            .picture(frame)
            .map_err(ShrinkFault::Convert)?;
        if with_whole {
            picture.pack(width, &mut rgb);
        }
        let coded = (source.coded_width, source.coded_height);
        let resizer = &mut tools.resizer;
        let mut resize = |crop: Option<Rect>, out: &mut [u8]| {
            let crop = crop.map(|r| to_coded(r, &source));
            let done = match &picture {
                Picture::Packed(rgb) => resizer.resize(rgb, coded, crop, stored, out),
                Picture::Planes { planes, stride } => {
                    resizer.resize_planes((*planes, *stride), coded, crop, stored, out)
                }
            };
            done.map_err(ShrinkFault::Resize)
        };
        for crop in parts {
            let mut out = vec![0; bytes];
            if source.orientation == Orientation::default() {
                resize(crop, &mut out)?;
            } else {
                tools.small.resize(bytes, 0);
                resize(crop, &mut tools.small)?;
                orient(&tools.small, stored, source.orientation, &mut out);
            }
            let pixels = Array3::from_shape_vec((size.1 as usize, size.0 as usize, 3), out)
                .map_err(|e| ShrinkFault::Resize(e.to_string()))?;
            views.push(View {
                pixels,
                source: Geometry { crop, ..source },
            });
        }
        Ok(())
    })?;
    let whole = match (whole, with_whole) {
        (false, _) => None,
        (true, true) => Some(upright(rgb, &source).map_err(ShrinkFault::Convert)?),
        (true, false) => Some(full(frame, info).map_err(ShrinkFault::Convert)?.0),
    };
    Ok(Shrunk { views, whole })
}

/// One frame at full size, upright, (H, W, 3).
pub fn full(frame: &Frame, info: &VideoInfo) -> Result<(Array3<u8>, Geometry), String> {
    let source = geometry(frame, info);
    let mut rgb = Vec::new();
    with_tools(|tools| tools.converter.rgb(frame, &mut rgb))?;
    Ok((upright(rgb, &source)?, source))
}

/// Rows as they are stored, turned upright, (H, W, 3).
fn upright(mut rgb: Vec<u8>, source: &Geometry) -> Result<Array3<u8>, String> {
    if source.orientation != Orientation::default() {
        let mut turned = vec![0; rgb.len()];
        orient(
            &rgb,
            (source.coded_width, source.coded_height),
            source.orientation,
            &mut turned,
        );
        rgb = turned;
    }
    let shape = (source.height as usize, source.width as usize, 3);
    Array3::from_shape_vec(shape, rgb).map_err(|e| e.to_string())
}
