//! The FFmpeg edge: the only place with `unsafe`. Each file wraps one object
//! (I/O, demuxer, decoder, converter, muxer) so that nothing outside holds a
//! raw pointer.

use std::ffi::CStr;
use std::sync::Once;

use ffmpeg_next::ffi;

pub mod budget;
pub mod convert;
pub mod decoder;
pub mod input;
pub mod io;
pub mod output;
pub mod pixel_format;

/// FFmpeg's text for an error code.
pub fn reason(code: i32) -> String {
    let mut text = [0u8; 128];
    // SAFETY: the buffer's length is given; the text is NUL-terminated within.
    unsafe { ffi::av_strerror(code, text.as_mut_ptr().cast(), text.len()) };
    CStr::from_bytes_until_nul(&text).map_or_else(
        |_| format!("error {code}"),
        |t| t.to_string_lossy().into_owned(),
    )
}

/// Sets FFmpeg's log to quiet, once per process: libraries never print.
pub fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: av_log_set_level stores one integer; no precondition.
        unsafe { ffi::av_log_set_level(ffi::AV_LOG_QUIET) };
    });
}

/// Value times a rational as seconds; the product is exact below 2^53.
pub fn seconds(value: i64, base: ffi::AVRational) -> f64 {
    value as f64 * f64::from(base.num) / f64::from(base.den)
}
