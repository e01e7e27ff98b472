//! What FFmpeg knows of a pixel format.

use std::ffi::{CStr, CString};

use ffmpeg_next::ffi;
use libc::c_int;

/// A pixel format of FFmpeg's by its number; `None` for one that it does not have.
pub fn format_of(value: c_int) -> Option<ffi::AVPixelFormat> {
    let last = ffi::AVPixelFormat::AV_PIX_FMT_NB as c_int;
    // SAFETY: the enum is `repr(i32)` and its values are 0..AV_PIX_FMT_NB
    // without gaps (the C enum assigns none).
    (0..last)
        .contains(&value)
        .then(|| unsafe { std::mem::transmute::<c_int, ffi::AVPixelFormat>(value) })
}

/// Facts of a pixel format.
pub struct Format {
    pub name: String,
    /// log2 of the chroma subsampling, across and down.
    pub sub: (u8, u8),
    pub yuv: bool,
    pub alpha: bool,
}

/// `None` for an invalid one.
pub fn describe(value: c_int) -> Option<Format> {
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

/// Whether there is a pixel format of this name.
pub fn is_known(name: &str) -> bool {
    let Ok(name) = CString::new(name) else {
        return false;
    };
    // SAFETY: the name ends in NUL and is only read.
    let format = unsafe { ffi::av_get_pix_fmt(name.as_ptr()) };
    format != ffi::AVPixelFormat::AV_PIX_FMT_NONE
}

/// Name of a pixel format, "unknown" for an invalid one.
pub fn format_name(value: c_int) -> String {
    describe(value).map_or_else(|| "unknown".into(), |d| d.name)
}
