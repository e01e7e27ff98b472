//! The decoder and its frames.

use std::ptr;

use ffmpeg_next::ffi;
use libc::c_int;

use super::budget::Budget;
use super::input::{Input, Packet, matrix};
use crate::geometry::Orientation;
use crate::nal::Units;

/// A decoded picture; cheap to hold (the pixels are reference-counted).
pub struct Frame(*mut ffi::AVFrame);

// SAFETY: the frame's buffers are reference-counted with atomics, the wrapper
// is its only owner, and shared references only read.
unsafe impl Send for Frame {}
// SAFETY: as above; no interior mutability.
unsafe impl Sync for Frame {}

impl Frame {
    pub fn new() -> Option<Self> {
        // SAFETY: no precondition; null is checked.
        let f = unsafe { ffi::av_frame_alloc() };
        (!f.is_null()).then_some(Self(f))
    }

    pub fn as_ptr(&self) -> *mut ffi::AVFrame {
        self.0
    }

    pub fn get(&self) -> &ffi::AVFrame {
        // SAFETY: never null, valid until drop.
        unsafe { &*self.0 }
    }

    pub fn width(&self) -> u32 {
        self.get().width.max(0) as u32
    }

    pub fn height(&self) -> u32 {
        self.get().height.max(0) as u32
    }

    /// Best-effort presentation time stamp.
    pub fn pts(&self) -> Option<i64> {
        let t = self.get().best_effort_timestamp;
        (t != ffi::AV_NOPTS_VALUE).then_some(t)
    }

    pub fn is_corrupt(&self) -> bool {
        let f = self.get();
        f.decode_error_flags != 0 || f.flags & ffi::AV_FRAME_FLAG_CORRUPT != 0
    }

    pub fn sample_aspect(&self) -> Option<(u32, u32)> {
        let r = self.get().sample_aspect_ratio;
        (r.num > 0 && r.den > 0).then_some((r.num as u32, r.den as u32))
    }

    /// Orientation in the frame itself: a display matrix, or the EXIF tag that
    /// the JPEG decoder leaves in the metadata. `Some(None)` for an odd matrix.
    pub fn orientation(&self) -> Option<Option<Orientation>> {
        // SAFETY: the frame is valid; side data are valid for `size` bytes
        // while the frame lives.
        unsafe {
            let side = ffi::av_frame_get_side_data(
                self.0,
                ffi::AVFrameSideDataType::AV_FRAME_DATA_DISPLAYMATRIX,
            );
            if !side.is_null() && !(*side).data.is_null() {
                let data = std::slice::from_raw_parts((*side).data, (*side).size as _);
                return Some(matrix(data));
            }
            let entry =
                ffi::av_dict_get(self.get().metadata, c"Orientation".as_ptr(), ptr::null(), 0);
            if entry.is_null() {
                return None;
            }
            let text = std::ffi::CStr::from_ptr((*entry).value).to_string_lossy();
            let (mirrored, rotation) = match text.trim() {
                "2" => (true, 0),
                "3" => (false, 180),
                "4" => (true, 180),
                "5" => (true, 270),
                "6" => (false, 90),
                "7" => (true, 90),
                "8" => (false, 270),
                _ => return None,
            };
            Some(Some(Orientation { mirrored, rotation }))
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: allocated by av_frame_alloc, freed once.
        unsafe { ffi::av_frame_free(&raw mut self.0) };
    }
}

/// What came of asking for a frame.
pub enum Received {
    Frame(Frame),
    /// More packets are needed.
    Again,
    /// Drained.
    End,
    /// A decode error of this code; decoding may go on.
    Fault(i32),
}

/// A decoder opened for one stream.
pub struct Decoder {
    context: *mut ffi::AVCodecContext,
    intra_only: bool,
    can_skip: bool,
    /// Of H.264.
    units: Option<Units>,
}

// SAFETY: the context is owned by this object alone; its worker threads are
// FFmpeg's own.
unsafe impl Send for Decoder {}

/// FFmpeg's name of a codec.
pub fn codec_name(parameters: &ffi::AVCodecParameters) -> String {
    // SAFETY: gives a static string for any id.
    unsafe { std::ffi::CStr::from_ptr(ffi::avcodec_get_name(parameters.codec_id)) }
        .to_string_lossy()
        .into_owned()
}

/// Pictures that are decoded side by side on `threads` threads. Each waits for rows of
/// those that it refers to, so that one more than threads keeps these busy: by it two
/// threads decode 1080p H.264 in 0.95 of the time, and in 0.78 where every other
/// picture is left out.
fn frames_at_once(threads: usize) -> usize {
    match threads.clamp(1, 64) {
        1 => 1,
        n => n + 1,
    }
}

/// The codec's own header.
pub fn extradata(parameters: &ffi::AVCodecParameters) -> &[u8] {
    if parameters.extradata.is_null() {
        return &[];
    }
    // SAFETY: FFmpeg's field, valid for `extradata_size` bytes as long as the
    // parameters live.
    unsafe {
        std::slice::from_raw_parts(
            parameters.extradata,
            parameters.extradata_size.max(0) as usize,
        )
    }
}

impl Decoder {
    /// Opens a decoder for the input's stream; `Ok(None)` when FFmpeg has none.
    pub fn open(input: &Input, threads: usize, budget: Budget) -> Result<Option<Self>, i32> {
        let parameters = input.parameters();
        // SAFETY: the context is fresh and freed by Drop on each early return;
        // the parameters outlive the copying call.
        unsafe {
            let codec = ffi::avcodec_find_decoder(parameters.codec_id);
            if codec.is_null() {
                return Ok(None);
            }
            let context = ffi::avcodec_alloc_context3(codec);
            if context.is_null() {
                return Err(ffi::AVERROR(libc::ENOMEM));
            }
            let descriptor = ffi::avcodec_descriptor_get(parameters.codec_id);
            let intra_only = !descriptor.is_null()
                && (*descriptor).props & ffi::AV_CODEC_PROP_INTRA_ONLY as c_int != 0;
            // Codecs whose non-reference frames are never used by any other
            // (HEVC's may be, by higher temporal layers).
            let can_skip = matches!(
                parameters.codec_id,
                ffi::AVCodecID::AV_CODEC_ID_H264
                    | ffi::AVCodecID::AV_CODEC_ID_MPEG4
                    | ffi::AVCodecID::AV_CODEC_ID_MPEG2VIDEO
                    | ffi::AVCodecID::AV_CODEC_ID_MPEG1VIDEO
            );
            let units = (parameters.codec_id == ffi::AVCodecID::AV_CODEC_ID_H264)
                .then(|| Units::of(extradata(parameters)));
            let this = Self {
                context,
                intra_only,
                can_skip,
                units,
            };
            let code = ffi::avcodec_parameters_to_context(context, parameters);
            if code < 0 {
                return Err(code);
            }
            (*context).pkt_timebase = input.time_base();
            (*context).thread_count = frames_at_once(threads) as c_int;
            (*context).thread_type = (ffi::FF_THREAD_FRAME | ffi::FF_THREAD_SLICE) as c_int;
            let mut pixels = budget.pixels(parameters.codec_id);
            // FFmpeg holds rows of whole vectors against the limit.
            let row = (parameters.width.max(0) as u64).next_multiple_of(128);
            let first = row * parameters.height.max(0) as u64;
            if input.is_pipe() && first > 0 {
                // What follows the picture that was looked at is no larger.
                pixels = pixels.min(first);
            }
            (*context).max_pixels = i64::try_from(pixels).unwrap_or(i64::MAX);
            let code = ffi::avcodec_open2(context, codec, ptr::null_mut());
            if code < 0 {
                return Err(code);
            }
            Ok(Some(this))
        }
    }

    /// Packets that it may hold before it gives a frame, its pictures' own order
    /// aside.
    pub fn delay(&self) -> usize {
        // SAFETY: the context is open.
        unsafe { (*self.context).thread_count.max(1) as usize }
    }

    /// Every packet decodes on its own.
    pub fn is_intra_only(&self) -> bool {
        self.intra_only
    }

    /// Feeds a packet, or the end with `None`. With `skippable`, the packet's
    /// frame is not wanted and need not be decoded unless others refer to it.
    /// `Ok(false)`: take frames first, then send again.
    pub fn send(&mut self, packet: Option<&Packet>, skippable: bool) -> Result<bool, i32> {
        if let (true, Some(packet), Some(units)) = (skippable, packet, self.units)
            && units.is_disposable(packet.data())
        {
            return Ok(true);
        }
        // SAFETY: the context is open; null means the end; the packet is only
        // read.
        let code = unsafe {
            (*self.context).skip_frame = if skippable && self.can_skip {
                ffi::AVDiscard::AVDISCARD_NONREF
            } else {
                ffi::AVDiscard::AVDISCARD_DEFAULT
            };
            ffi::avcodec_send_packet(self.context, packet.map_or(ptr::null(), Packet::as_ptr))
        };
        match code {
            c if c == ffi::AVERROR(libc::EAGAIN) => Ok(false),
            c if c == ffi::AVERROR_EOF => Ok(true),
            c if c < 0 => Err(c),
            _ => Ok(true),
        }
    }

    /// The next frame, in presentation order.
    pub fn receive(&mut self) -> Received {
        let Some(frame) = Frame::new() else {
            return Received::Fault(ffi::AVERROR(libc::ENOMEM));
        };
        // SAFETY: context open, frame valid.
        match unsafe { ffi::avcodec_receive_frame(self.context, frame.0) } {
            c if c == ffi::AVERROR(libc::EAGAIN) => Received::Again,
            c if c == ffi::AVERROR_EOF => Received::End,
            c if c < 0 => Received::Fault(c),
            _ => Received::Frame(frame),
        }
    }

    /// Forgets everything, ready for a packet of elsewhere.
    pub fn flush(&mut self) {
        // SAFETY: the context is open.
        unsafe { ffi::avcodec_flush_buffers(self.context) };
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: allocated by avcodec_alloc_context3, freed once.
        unsafe { ffi::avcodec_free_context(&raw mut self.context) };
    }
}
