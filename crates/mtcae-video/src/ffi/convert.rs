//! Frames to RGB with swscale, at their own size.

use std::ffi::CStr;
use std::ptr;

use ffmpeg_next::ffi;
use libc::c_int;

use super::decoder::Frame;
use crate::clip::Warning;

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

#[derive(Clone, Copy, PartialEq, Eq)]
struct Source {
    width: c_int,
    height: c_int,
    format: c_int,
    matrix: i32,
    range: i32,
    siting: i32,
}

/// Converts frames of any format; keeps the last set-up. One per thread.
pub struct Converter {
    context: *mut ffi::SwsContext,
    source: Option<Source>,
}

// SAFETY: the context is owned by this object alone.
unsafe impl Send for Converter {}

fn format_of(value: c_int) -> Option<ffi::AVPixelFormat> {
    let last = ffi::AVPixelFormat::AV_PIX_FMT_NB as c_int;
    // SAFETY: the enum is `repr(i32)` and its values are 0..AV_PIX_FMT_NB
    // without gaps (the C enum assigns none).
    (0..last)
        .contains(&value)
        .then(|| unsafe { std::mem::transmute::<c_int, ffi::AVPixelFormat>(value) })
}

fn source_of(frame: &Frame) -> Source {
    let f = frame.get();
    Source {
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

/// Facts of a pixel format.
struct Format {
    name: String,
    /// log2 of the chroma subsampling, across and down.
    sub: (u8, u8),
    yuv: bool,
    alpha: bool,
}

fn describe(value: c_int) -> Option<Format> {
    let format = format_of(value)?;
    // SAFETY: the descriptor is a static of FFmpeg's, or null; its name is a
    // static string.
    unsafe {
        let d = ffi::av_pix_fmt_desc_get(format);
        if d.is_null() {
            return None;
        }
        let flags = (*d).flags as u32;
        let is = |bit: u32| flags & bit != 0;
        Some(Format {
            name: CStr::from_ptr((*d).name).to_string_lossy().into_owned(),
            sub: ((*d).log2_chroma_w, (*d).log2_chroma_h),
            yuv: (*d).nb_components >= 3
                && !is(ffi::AV_PIX_FMT_FLAG_RGB as u32)
                && !is(ffi::AV_PIX_FMT_FLAG_PAL as u32)
                && !is(ffi::AV_PIX_FMT_FLAG_BAYER as u32),
            alpha: is(ffi::AV_PIX_FMT_FLAG_ALPHA as u32) && !is(ffi::AV_PIX_FMT_FLAG_PAL as u32),
        })
    }
}

/// Name of a pixel format, "unknown" for an invalid one.
pub fn format_name(value: c_int) -> String {
    describe(value).map_or_else(|| "unknown".into(), |d| d.name)
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
            // JPEG (JFIF) defines BT.601; nothing is assumed.
            MATRIX_UNSPECIFIED | MATRIX_RESERVED if !format.name.starts_with("yuvj") => {
                warnings.push(Warning::UnknownMatrix {
                    format: format.name,
                });
            }
            1..=7 | 9 | 10 => {}
            other => warnings.push(Warning::UnsupportedMatrix {
                matrix: matrix_name(other),
            }),
        }
    }
    warnings
        .retain(|w| !matches!(w, Warning::UnsupportedMatrix { matrix } if matrix == "unspecified"));
    warnings
}

fn matrix_name(value: i32) -> String {
    match value {
        0 => "gbr".into(),
        2 => "unspecified".into(),
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
        }
    }

    /// Writes the frame as RGB rows without padding (`width·height·3` bytes)
    /// into `out`, resized as needed.
    pub fn rgb(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Result<(), String> {
        let source = source_of(frame);
        self.prepare(source)?;
        let row = source.width as usize * 3;
        // SIMD paths write whole vectors: rows are padded, and so is the end.
        let stride = row.next_multiple_of(64);
        let height = source.height as usize;
        out.resize(stride * height + 64, 0);
        let f = frame.get();
        let planes = [
            out.as_mut_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
        ];
        let strides = [
            c_int::try_from(stride).map_err(|_| "rows too long".to_string())?,
            0,
            0,
            0,
        ];
        // SAFETY: the context was made for this size and format; the frame's
        // planes are valid for it; `out` holds `height` rows of `stride`.
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
        if stride != row {
            for y in 1..height {
                out.copy_within(y * stride..y * stride + row, y * row);
            }
        }
        out.truncate(row * height);
        Ok(())
    }

    fn prepare(&mut self, source: Source) -> Result<(), String> {
        if self.source == Some(source) && !self.context.is_null() {
            return Ok(());
        }
        self.source = None;
        let facts = describe(source.format).ok_or("unknown pixel format")?;
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
            let rgb = ffi::AVPixelFormat::AV_PIX_FMT_RGB24 as i64;
            for (key, value) in [
                (c"srcw", i64::from(source.width)),
                (c"srch", i64::from(source.height)),
                (c"src_format", i64::from(source.format)),
                (c"dstw", i64::from(source.width)),
                (c"dsth", i64::from(source.height)),
                (c"dst_format", rgb),
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
