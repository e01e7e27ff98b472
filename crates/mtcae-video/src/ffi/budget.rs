//! What a frame takes in memory, and what it may take.

use ffmpeg_next::ffi;
use libc::c_int;

use super::convert::format_of;
use crate::options::OpenOptions;

/// Bytes of memory that each byte of a file adds to what its frames may take.
const PER_BYTE: u64 = 64;
/// Bytes of a pixel in RGB.
const RGB: u64 = 3;

/// What the frames of a file may take.
#[derive(Clone, Copy)]
pub struct Budget {
    /// See [`OpenOptions::max_pixels`].
    pixels: u64,
    bytes: u64,
}

impl Budget {
    /// For a file of `length` bytes.
    pub fn new(options: &OpenOptions, length: u64) -> Self {
        let more = length.saturating_mul(PER_BYTE);
        Self {
            pixels: options.max_pixels,
            bytes: options.max_bytes.saturating_add(more),
        }
    }

    /// Most bytes for a frame.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Most pixels that are worth a try where only the codec is known.
    pub fn pixels(&self, codec: ffi::AVCodecID) -> u64 {
        match guess(codec) {
            0 => self.pixels,
            bytes => self.pixels.min(self.bytes / (bytes + RGB)),
        }
    }
}

/// Bytes that the decoder holds for a byte of a frame, itself included: coefficients of
/// progressive JPEG, samples of JPEG 2000 and JPEG XL, both pictures of animations.
fn copies(codec: ffi::AVCodecID) -> u64 {
    use ffi::AVCodecID as Id;
    match codec {
        Id::AV_CODEC_ID_MJPEG => 3,
        Id::AV_CODEC_ID_JPEG2000 | Id::AV_CODEC_ID_JPEGXL => 5,
        Id::AV_CODEC_ID_APNG | Id::AV_CODEC_ID_GIF => 3,
        Id::AV_CODEC_ID_TIFF | Id::AV_CODEC_ID_PSD | Id::AV_CODEC_ID_WEBP => 2,
        _ => 1,
    }
}

/// Bytes of a pixel in the decoder, where the format is not known yet; 0 of codecs that
/// tell it without decoding.
fn guess(codec: ffi::AVCodecID) -> u64 {
    use ffi::AVCodecID as Id;
    match codec {
        Id::AV_CODEC_ID_PNG | Id::AV_CODEC_ID_APNG | Id::AV_CODEC_ID_TIFF => 0,
        Id::AV_CODEC_ID_MJPEG => 3,
        Id::AV_CODEC_ID_JPEG2000 | Id::AV_CODEC_ID_JPEGXL => 15,
        Id::AV_CODEC_ID_GIF => 12,
        Id::AV_CODEC_ID_WEBP => 8,
        _ => 1,
    }
}

/// Bytes that a frame of this many pixels takes until it is RGB, that included.
/// `format` is an `AVPixelFormat`.
pub fn frame_bytes(codec: ffi::AVCodecID, format: c_int, pixels: u64) -> u64 {
    let bits = format_of(format).map_or(0, |format| {
        // SAFETY: the descriptor is a static of FFmpeg's, or null.
        unsafe {
            let d = ffi::av_pix_fmt_desc_get(format);
            if d.is_null() {
                0
            } else {
                ffi::av_get_padded_bits_per_pixel(d).max(0)
            }
        }
    });
    let decoder = (pixels.saturating_mul(bits as u64) / 8).saturating_mul(copies(codec));
    decoder.saturating_add(pixels.saturating_mul(RGB))
}
