//! Frames to RGB with swscale, at their own size.

use std::ptr;

use ffmpeg_next::ffi;
use libc::c_int;

use super::decoder::Frame;
use super::pixel_format::{describe, format_name, format_of};
use crate::clip::Warning;
use crate::resize::interleave;

/// The flags that make swscale take its exact path: chroma interpolated to
/// full size, no dithered or table-based shortcut. Bicubic (FFmpeg's own
/// default), because at equal size FFmpeg before 7 rounds a two-tap vertical
/// chroma filter to the nearest line: measured with `SWS_BILINEAR`, 1.7 levels
/// off the same picture in FFmpeg 8.
const FLAGS: i64 =
    ffi::SWS_BICUBIC as i64 | ffi::SWS_ACCURATE_RND as i64 | ffi::SWS_FULL_CHR_H_INT as i64;

// Values of AVColorSpace and AVColorRange; read as integers, since a newer
// library may have values that the bound enum lacks.
const MATRIX_RGB: i32 = 0;
const MATRIX_BT709: i32 = 1;
const MATRIX_UNSPECIFIED: i32 = 2;
const MATRIX_RESERVED: i32 = 3;
const RANGE_FULL: i32 = 2;

/// From this many pixels a side on, planes have the levels of packed RGB.
const SMALLEST_PLANAR: c_int = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
struct FrameFormat {
    width: c_int,
    height: c_int,
    format: c_int,
    matrix: i32,
    range: i32,
    siting: i32,
}

/// Pixels from which a frame is large: no second copy of it is made, and no scratch
/// kept. 8K video stays below.
pub const LARGE: usize = 1 << 25;

/// A converted frame: RGB levels, in one of two layouts.
pub enum Picture<'a> {
    /// Rows of RGB without padding.
    Packed(&'a [u8]),
    /// Red, green and blue apart, in rows of `stride` bytes.
    Planes {
        /// Each of `height · stride` bytes.
        planes: [&'a [u8]; 3],
        /// At least the frame's width.
        stride: usize,
    },
}

impl Picture<'_> {
    /// Writes it as RGB rows of `width` pixels without padding into `out`, resized as
    /// needed.
    pub fn pack(&self, width: usize, out: &mut Vec<u8>) {
        out.clear();
        match *self {
            Self::Packed(rgb) => out.extend_from_slice(rgb),
            Self::Planes { planes, stride } => {
                out.resize(planes[0].len() / stride * width * 3, 0);
                let [red, green, blue] = planes.map(|p| p.chunks_exact(stride));
                let rows = out.chunks_exact_mut(width * 3);
                for (((row, r), g), b) in rows.zip(red).zip(green).zip(blue) {
                    interleave([&r[..width], &g[..width], &b[..width]], row);
                }
            }
        }
    }
}

/// Converts frames of any format; keeps the last set-up and the last frame's
/// pixels. One per thread.
pub struct Converter {
    context: *mut ffi::SwsContext,
    source: Option<FrameFormat>,
    planar: bool,
    pixels: Vec<u8>,
}

// SAFETY: the context is owned by this object alone.
unsafe impl Send for Converter {}

fn source_of(frame: &Frame) -> FrameFormat {
    let f = frame.get();
    FrameFormat {
        width: f.width,
        height: f.height,
        format: f.format,
        // SAFETY: both fields are C enums of the size of an int; see above
        // why they are not read as Rust enums.
        matrix: unsafe { (&raw const f.colorspace).cast::<i32>().read() },
        // SAFETY: as above.
        range: unsafe { (&raw const f.color_range).cast::<i32>().read() },
        // SAFETY: as above.
        siting: unsafe { (&raw const f.chroma_location).cast::<i32>().read() },
    }
}

/// swscale's position of the chroma samples for an AVChromaLocation, in 1/256
/// of a chroma sample's step of `1 << sub` pixels; −513 is its "unknown",
/// centred.
fn chroma_position(siting: i32, sub: (u8, u8)) -> (i64, i64) {
    let (x, y) = match siting {
        1 => (0, 128),   // left: MPEG-2, H.264
        2 => (128, 128), // centre: JPEG, MPEG-1
        3 => (0, 0),
        4 => (128, 0),
        5 => (0, 256),
        6 => (128, 256),
        _ => return (-513, -513),
    };
    let scale = |v: i64, sub: u8| if sub == 0 { -513 } else { v * ((1 << sub) - 1) };
    (scale(x, sub.0), scale(y, sub.1))
}

/// What has to be assumed or dropped to show this frame.
pub fn assumptions(frame: &Frame) -> Vec<Warning> {
    let source = source_of(frame);
    let Some(format) = describe(source.format) else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    if format.alpha {
        warnings.push(Warning::AlphaDropped);
    }
    if format.yuv {
        match source.matrix {
            MATRIX_UNSPECIFIED | MATRIX_RESERVED if !format.name.starts_with("yuvj") => {
                warnings.push(Warning::UnknownMatrix {
                    format: format.name,
                });
            }
            // Those of swscale, and an unspecified one of JPEG (JFIF), which is BT.601.
            1..=7 | 9 | 10 => {}
            other => warnings.push(Warning::UnsupportedMatrix {
                matrix: matrix_name(other),
            }),
        }
    }
    warnings
}

fn matrix_name(value: i32) -> String {
    match value {
        0 => "gbr".into(),
        8 => "ycgco".into(),
        11 => "smpte2085".into(),
        12 => "chroma-derived-nc".into(),
        13 => "chroma-derived-c".into(),
        14 => "ictcp".into(),
        n => format!("{n}"),
    }
}

/// swscale's table for a matrix: BT.601 for an unspecified one, BT.709 for
/// those it does not have.
fn table(matrix: i32) -> c_int {
    match matrix {
        MATRIX_BT709 => 1,
        MATRIX_RGB | MATRIX_UNSPECIFIED | MATRIX_RESERVED => 5,
        4..=7 => matrix,
        9 | 10 => 9,
        _ => 1,
    }
}

impl Converter {
    pub fn new() -> Self {
        Self {
            context: ptr::null_mut(),
            source: None,
            planar: false,
            pixels: Vec::new(),
        }
    }

    /// The frame's pixels, in the layout that swscale reaches sooner.
    pub fn picture(&mut self, frame: &Frame) -> Result<Picture<'_>, String> {
        let source = source_of(frame);
        self.prepare(source, true)?;
        self.scale(frame, source)
    }

    /// Whether it holds the pixels of a large frame.
    pub fn is_large(&self) -> bool {
        self.pixels.capacity() > 3 * LARGE
    }

    /// Writes the frame as RGB rows without padding (`width·height·3` bytes)
    /// into `out`, resized as needed.
    pub fn rgb(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), String> {
        let width = frame.width() as usize;
        out.clear();
        if width * frame.height() as usize > LARGE {
            // Planes would be there twice, apart and together.
            let source = source_of(frame);
            self.source = None;
            self.prepare(source, false)?;
            let Picture::Packed(rgb) = self.scale(frame, source)? else {
                return Err("planes instead of rows".into());
            };
            let length = rgb.len();
            self.source = None;
            *out = std::mem::take(&mut self.pixels);
            out.truncate(length);
            return Ok(());
        }
        self.picture(frame)?.pack(width, out);
        Ok(())
    }

    /// Runs swscale as [`Converter::prepare`] set it up.
    fn scale(&mut self, frame: &Frame, source: FrameFormat) -> Result<Picture<'_>, String> {
        let (width, height) = (source.width as usize, source.height as usize);
        let row = if self.planar { width } else { width * 3 };
        // SIMD paths write whole vectors: rows are padded, and so is the end.
        let stride = row.next_multiple_of(64);
        let plane = stride * height;
        let count = if self.planar { 3 } else { 1 };
        self.pixels.resize(plane * count + 64, 0);
        let step = c_int::try_from(stride).map_err(|_| "rows too long".to_string())?;
        let mut planes = [ptr::null_mut(); 4];
        let mut strides = [0; 4];
        for (i, part) in self.pixels.chunks_exact_mut(plane).take(count).enumerate() {
            planes[i] = part.as_mut_ptr();
            strides[i] = step;
        }
        let f = frame.get();
        // SAFETY: the context was made for this size and format; the frame's
        // planes are valid for it; each plane of `pixels` holds `height` rows
        // of `stride`, and what follows the last belongs to it too.
        let lines = unsafe {
            ffi::sws_scale(
                self.context,
                f.data.as_ptr().cast(),
                f.linesize.as_ptr(),
                0,
                source.height,
                planes.as_ptr(),
                strides.as_ptr(),
            )
        };
        if lines != source.height {
            return Err(format!(
                "{}: swscale gave {lines} lines",
                format_name(source.format)
            ));
        }
        if self.planar {
            let part = |i: usize| &self.pixels[i * plane..(i + 1) * plane];
            // FFmpeg's order is green, blue, red.
            let planes = [part(2), part(0), part(1)];
            return Ok(Picture::Planes { planes, stride });
        }
        if stride != row {
            for y in 1..height {
                self.pixels
                    .copy_within(y * stride..y * stride + row, y * row);
            }
        }
        Ok(Picture::Packed(&self.pixels[..row * height]))
    }

    /// Sets swscale up for `source`; with `planes`, for planes apart where that
    /// is sooner and the same.
    fn prepare(&mut self, source: FrameFormat, planes: bool) -> Result<(), String> {
        if self.source == Some(source) && !self.context.is_null() {
            return Ok(());
        }
        self.source = None;
        let facts = describe(source.format).ok_or("unknown pixel format")?;
        // From YUV, swscale has SIMD for planes and none for packed RGB with
        // chroma at full size: an eighth of the time for equal levels. Of
        // pictures of a few lines it makes packed RGB by shorter filters that
        // round otherwise.
        let chroma = (source.width >> facts.sub.0).min(source.height >> facts.sub.1);
        self.planar = planes
            && facts.yuv
            && source.width.min(source.height) >= SMALLEST_PLANAR
            && chroma >= SMALLEST_PLANAR / 2;
        let format = format_of(source.format).ok_or("unknown pixel format")?;
        let name = facts.name;
        if source.width <= 0 || source.height <= 0 {
            return Err("the frame has no pixels".into());
        }
        // SAFETY: sizes are positive and the format valid; the old context is
        // freed once; null is checked before use.
        unsafe {
            if ffi::sws_isSupportedInput(format) == 0 {
                return Err(format!("pixel format {name} is not supported by swscale"));
            }
            ffi::sws_freeContext(self.context);
            self.context = ffi::sws_alloc_context();
            if self.context.is_null() {
                return Err("out of memory".into());
            }
            let (h_pos, v_pos) = chroma_position(source.siting, facts.sub);
            let target = if self.planar {
                ffi::AVPixelFormat::AV_PIX_FMT_GBRP
            } else {
                ffi::AVPixelFormat::AV_PIX_FMT_RGB24
            };
            for (key, value) in [
                (c"srcw", i64::from(source.width)),
                (c"srch", i64::from(source.height)),
                (c"src_format", i64::from(source.format)),
                (c"dstw", i64::from(source.width)),
                (c"dsth", i64::from(source.height)),
                (c"dst_format", target as i64),
                (c"sws_flags", FLAGS),
                (c"src_h_chr_pos", h_pos),
                (c"src_v_chr_pos", v_pos),
            ] {
                let code = ffi::av_opt_set_int(self.context.cast(), key.as_ptr(), value, 0);
                if code < 0 {
                    return Err(format!("swscale has no {key:?}: {}", super::reason(code)));
                }
            }
            let code = ffi::sws_init_context(self.context, ptr::null_mut(), ptr::null_mut());
            if code < 0 {
                return Err(format!(
                    "{name} at {}x{}: swscale refuses: {}",
                    source.width,
                    source.height,
                    super::reason(code)
                ));
            }
            // Grey is full range to swscale, whatever the tag (FFmpeg's own
            // encoders write it so).
            let full = source.range == RANGE_FULL
                || ["yuvj", "gray", "ya8", "ya16"]
                    .iter()
                    .any(|p| name.starts_with(p));
            let coefficients = ffi::sws_getCoefficients(table(source.matrix));
            // Fails for sources without a matrix (RGB, palette): not needed there.
            let _ = ffi::sws_setColorspaceDetails(
                self.context,
                coefficients,
                c_int::from(full),
                coefficients,
                1,
                0,
                1 << 16,
                1 << 16,
            );
        }
        self.source = Some(source);
        Ok(())
    }
}

impl Drop for Converter {
    fn drop(&mut self) {
        // SAFETY: null or ours; freed once.
        unsafe { ffi::sws_freeContext(self.context) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of noise, its planes allocated by FFmpeg.
    fn noise(format: c_int, width: c_int, height: c_int, siting: i32, range: i32) -> Frame {
        let frame = Frame::new().unwrap();
        let raw = frame.as_ptr();
        let mut state = 1u32;
        // SAFETY: the frame is ours alone; its buffers are made by FFmpeg and
        // written within their sizes; the two enums take values of FFmpeg's.
        unsafe {
            (*raw).format = format;
            (*raw).width = width;
            (*raw).height = height;
            (&raw mut (*raw).chroma_location)
                .cast::<i32>()
                .write(siting);
            (&raw mut (*raw).color_range).cast::<i32>().write(range);
            (&raw mut (*raw).colorspace)
                .cast::<i32>()
                .write(MATRIX_BT709);
            assert_eq!(ffi::av_frame_get_buffer(raw, 0), 0);
            let depth = (*ffi::av_pix_fmt_desc_get(format_of(format).unwrap())).comp[0].depth;
            for buffer in (*raw).buf.into_iter().filter(|b| !b.is_null()) {
                let bytes = std::slice::from_raw_parts_mut((*buffer).data, (*buffer).size as _);
                for (i, byte) in bytes.iter_mut().enumerate() {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Deep samples are little-endian: the high byte stays in range.
                    let top = depth > 8 && i % 2 == 1;
                    *byte = (state >> 24) as u8
                        & if top {
                            ((1 << (depth - 8)) - 1) as u8
                        } else {
                            255
                        };
                }
            }
        }
        frame
    }

    /// Planes have the levels of swscale's packed RGB, in every layout, range
    /// and siting, at sizes with and without padding.
    #[test]
    fn planes_have_the_levels_of_packed_rgb() {
        let names = [
            c"yuv420p",
            c"yuvj420p",
            c"yuv422p",
            c"yuv444p",
            c"yuv411p",
            c"yuv410p",
            c"yuv440p",
            c"nv12",
            c"nv21",
            c"yuyv422",
            c"uyvy422",
            c"yuva420p",
            c"yuva444p",
            c"yuv420p10le",
            c"yuv422p10le",
            c"yuv444p12le",
            c"p010le",
        ];
        let (mut planar, mut packed) = (Converter::new(), Converter::new());
        for name in names {
            // SAFETY: a static string.
            let format = unsafe { ffi::av_get_pix_fmt(name.as_ptr()) } as c_int;
            for (width, height) in [(16, 16), (17, 19), (64, 18), (100, 57), (130, 64)] {
                for (siting, range) in [(0, 1), (1, 1), (2, 2), (3, 2)] {
                    let frame = noise(format, width, height, siting, range);
                    let source = source_of(&frame);
                    packed.prepare(source, false).unwrap();
                    let Picture::Packed(want) = packed.scale(&frame, source).unwrap() else {
                        panic!("asked for packed RGB");
                    };
                    let mut got = Vec::new();
                    planar.rgb(&frame, &mut got).unwrap();
                    assert!(planar.planar || height < 32, "{name:?}");
                    assert!(got == want, "{name:?} {width}x{height} {siting} {range}");
                }
            }
        }
    }
}
