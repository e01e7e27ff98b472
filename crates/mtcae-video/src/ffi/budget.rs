//! What a frame takes in memory, and what it may take.

use ffmpeg_next::ffi;
use libc::c_int;

use super::pixel_format::format_of;
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

/// Bytes of a pixel in the decoder, where the format is not known yet.
fn guess(codec: ffi::AVCodecID) -> u64 {
    use ffi::AVCodecID as Id;
    match codec {
        // `png` has looked at its header.
        Id::AV_CODEC_ID_PNG | Id::AV_CODEC_ID_APNG => 0,
        Id::AV_CODEC_ID_TIFF => 13,
        Id::AV_CODEC_ID_MJPEG => 3,
        Id::AV_CODEC_ID_JPEG2000 | Id::AV_CODEC_ID_JPEGXL => 15,
        Id::AV_CODEC_ID_GIF => 12,
        Id::AV_CODEC_ID_WEBP => 8,
        _ => 1,
    }
}

/// Width, height and bytes until it is RGB of a PNG file that begins with `header`,
/// since FFmpeg decodes it to find out what it is.
pub fn png(header: &[u8; 26]) -> Option<(u32, u32, u64)> {
    if header[..8] != *b"\x89PNG\r\n\x1a\n" || header[12..16] != *b"IHDR" {
        return None;
    }
    let number = |at: usize| {
        let bytes: [u8; 4] = std::array::from_fn(|i| header[at + i]);
        u32::from_be_bytes(bytes)
    };
    let (width, height, depth, colour) = (number(16), number(20), header[24], header[25]);
    let channels = match colour {
        2 => 3,
        4 => 2,
        6 => 4,
        _ => 1,
    };
    let pixels = u64::from(width) * u64::from(height);
    let bytes = channels * u64::from(depth.div_ceil(8)) + RGB;
    Some((width, height, pixels.saturating_mul(bytes)))
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
