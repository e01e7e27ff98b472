//! RGB frames to an encoded video file: encoder, colour conversion, muxer.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::ptr;

use ffmpeg_next::ffi;
use libc::c_int;

use super::decoder::Frame;
use super::io::FileIo;
use super::reason;

/// Encoders, best first.
const ENCODERS: [&CStr; 3] = [c"libx264", c"libopenh264", c"mpeg4"];

/// Ticks per second of the written time stamps: MPEG-4 part 2 allows at most
/// 65535, and 60000 has the NTSC rates 60000/1001 and 30000/1001 exactly.
pub const TICKS: i32 = 60_000;

/// What is to be written.
pub struct Settings<'a> {
    pub width: u32,
    pub height: u32,
    pub fps: (u32, u32),
    pub crf: u8,
    /// FFmpeg's name of the container.
    pub container: &'a CStr,
    pub threads: usize,
    pub encoder: Option<&'a str>,
}

/// An open output file.
pub struct Output {
    format: *mut ffi::AVFormatContext,
    encoder: *mut ffi::AVCodecContext,
    scaler: *mut ffi::SwsContext,
    packet: *mut ffi::AVPacket,
    stream: *mut ffi::AVStream,
    name: String,
    io: FileIo,
}

// SAFETY: all objects are owned by this one alone and tied to no thread.
unsafe impl Send for Output {}

fn check(code: c_int, call: &str) -> Result<(), String> {
    if code < 0 {
        Err(format!("{call}: {}", reason(code)))
    } else {
        Ok(())
    }
}

impl Output {
    pub fn create(file: File, s: &Settings<'_>) -> Result<Self, String> {
        super::quiet();
        let io = FileIo::new(file, true).ok_or("out of memory")?;
        let mut this = Self {
            format: ptr::null_mut(),
            encoder: ptr::null_mut(),
            scaler: ptr::null_mut(),
            packet: ptr::null_mut(),
            stream: ptr::null_mut(),
            name: String::new(),
            io,
        };
        // SAFETY: each pointer is checked; Drop frees whatever was made, in
        // whatever state.
        unsafe {
            check(
                ffi::avformat_alloc_output_context2(
                    &raw mut this.format,
                    ptr::null(),
                    s.container.as_ptr(),
                    ptr::null(),
                ),
                "container",
            )?;
            (*this.format).pb = this.io.as_ptr();
            (*this.format).flags |= ffi::AVFMT_FLAG_CUSTOM_IO as c_int;
            this.open_encoder(s)?;
            this.stream = ffi::avformat_new_stream(this.format, ptr::null());
            if this.stream.is_null() {
                return Err("out of memory".into());
            }
            (*this.stream).time_base = (*this.encoder).time_base;
            (*this.stream).avg_frame_rate = (*this.encoder).framerate;
            check(
                ffi::avcodec_parameters_from_context((*this.stream).codecpar, this.encoder),
                "parameters",
            )?;
            (*(*this.stream).codecpar).codec_tag = 0;
            check(
                ffi::avformat_write_header(this.format, ptr::null_mut()),
                "header",
            )?;
            this.packet = ffi::av_packet_alloc();
            this.scaler = ffi::sws_getContext(
                s.width as c_int,
                s.height as c_int,
                ffi::AVPixelFormat::AV_PIX_FMT_RGB24,
                s.width as c_int,
                s.height as c_int,
                ffi::AVPixelFormat::AV_PIX_FMT_YUV420P,
                (ffi::SWS_BILINEAR | ffi::SWS_ACCURATE_RND | ffi::SWS_FULL_CHR_H_INP) as c_int,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null(),
            );
            if this.packet.is_null() || this.scaler.is_null() {
                return Err("out of memory".into());
            }
            // Full-range RGB to limited-range BT.709, as the stream is tagged.
            let table = ffi::sws_getCoefficients(1);
            ffi::sws_setColorspaceDetails(this.scaler, table, 1, table, 0, 0, 1 << 16, 1 << 16);
        }
        Ok(this)
    }

    /// The first encoder of the list that is built in and accepts the
    /// settings.
    ///
    /// # Safety
    /// `self.format` must be allocated.
    unsafe fn open_encoder(&mut self, s: &Settings<'_>) -> Result<(), String> {
        let mut tried = String::from("no encoder in the installed FFmpeg");
        for name in ENCODERS {
            if s.encoder.is_some_and(|e| e.as_bytes() != name.to_bytes()) {
                continue;
            }
            let name_text = name.to_string_lossy();
            // SAFETY: see `create`; the names are NUL-terminated.
            unsafe {
                let codec = ffi::avcodec_find_encoder_by_name(name.as_ptr());
                if codec.is_null() {
                    continue;
                }
                self.encoder = ffi::avcodec_alloc_context3(codec);
                if self.encoder.is_null() {
                    return Err("out of memory".into());
                }
                let e = &mut *self.encoder;
                e.width = s.width as c_int;
                e.height = s.height as c_int;
                e.pix_fmt = ffi::AVPixelFormat::AV_PIX_FMT_YUV420P;
                e.time_base = ffi::AVRational { num: 1, den: TICKS };
                e.framerate = ffi::AVRational {
                    num: s.fps.0 as c_int,
                    den: s.fps.1 as c_int,
                };
                e.gop_size = 60;
                e.thread_count = s.threads.clamp(1, 64) as c_int;
                e.color_range = ffi::AVColorRange::AVCOL_RANGE_MPEG;
                e.colorspace = ffi::AVColorSpace::AVCOL_SPC_BT709;
                e.color_primaries = ffi::AVColorPrimaries::AVCOL_PRI_BT709;
                e.color_trc = ffi::AVColorTransferCharacteristic::AVCOL_TRC_BT709;
                if (*(*self.format).oformat).flags & ffi::AVFMT_GLOBALHEADER as c_int != 0 {
                    e.flags |= ffi::AV_CODEC_FLAG_GLOBAL_HEADER as c_int;
                }
                let mut options = ptr::null_mut();
                let fps = f64::from(s.fps.0) / f64::from(s.fps.1);
                match name.to_bytes() {
                    b"libx264" => {
                        let crf = CString::new(s.crf.to_string()).unwrap_or_default();
                        ffi::av_dict_set(&raw mut options, c"crf".as_ptr(), crf.as_ptr(), 0);
                        ffi::av_dict_set(
                            &raw mut options,
                            c"preset".as_ptr(),
                            c"veryfast".as_ptr(),
                            0,
                        );
                    }
                    b"libopenh264" => {
                        // About the size that the CRF gives in x264.
                        let pixels = f64::from(s.width) * f64::from(s.height) * fps.min(120.0);
                        let bits = pixels * 0.2 * 2f64.powf((18.0 - f64::from(s.crf)) / 6.0);
                        e.bit_rate = bits.clamp(64_000.0, 100_000_000.0) as i64;
                    }
                    _ => {
                        e.flags |= ffi::AV_CODEC_FLAG_QSCALE as c_int;
                        let q = (c_int::from(s.crf) / 6).clamp(2, 31);
                        e.global_quality = ffi::FF_QP2LAMBDA as c_int * q;
                    }
                }
                let code = ffi::avcodec_open2(self.encoder, codec, &raw mut options);
                ffi::av_dict_free(&raw mut options);
                if code >= 0 {
                    self.name = name_text.into_owned();
                    return Ok(());
                }
                tried = format!("{name_text} refuses: {}", reason(code));
                ffi::avcodec_free_context(&raw mut self.encoder);
            }
        }
        Err(tried)
    }

    /// The encoder in use.
    pub fn encoder_name(&self) -> &str {
        &self.name
    }

    /// Encodes RGB rows without padding, shown from `pts` ticks on.
    pub fn write(&mut self, rgb: &[u8], pts: i64) -> Result<(), String> {
        let frame = Frame::new().ok_or("out of memory")?;
        // SAFETY: the frame is fresh; its size and format are set before its
        // buffer is made; `rgb` holds `height` rows of `width·3` (checked).
        unsafe {
            let (w, h) = ((*self.encoder).width, (*self.encoder).height);
            if rgb.len() != w as usize * h as usize * 3 {
                return Err("the frame has another size than the video".into());
            }
            let f = frame.as_ptr();
            (*f).width = w;
            (*f).height = h;
            (*f).format = ffi::AVPixelFormat::AV_PIX_FMT_YUV420P as c_int;
            (*f).pts = pts;
            (*f).color_range = ffi::AVColorRange::AVCOL_RANGE_MPEG;
            (*f).colorspace = ffi::AVColorSpace::AVCOL_SPC_BT709;
            if (*self.encoder).flags & ffi::AV_CODEC_FLAG_QSCALE as c_int != 0 {
                (*f).quality = (*self.encoder).global_quality;
            }
            check(ffi::av_frame_get_buffer(f, 0), "frame")?;
            let planes = [rgb.as_ptr(), ptr::null(), ptr::null(), ptr::null()];
            let strides = [w * 3, 0, 0, 0];
            ffi::sws_scale(
                self.scaler,
                planes.as_ptr(),
                strides.as_ptr(),
                0,
                h,
                (*f).data.as_ptr(),
                (*f).linesize.as_ptr(),
            );
            check(ffi::avcodec_send_frame(self.encoder, f), "encoder")?;
        }
        self.collect()
    }

    /// Moves finished packets to the file.
    fn collect(&mut self) -> Result<(), String> {
        loop {
            // SAFETY: encoder and packet are open; the muxer takes the
            // packet's data and leaves it blank.
            unsafe {
                let code = ffi::avcodec_receive_packet(self.encoder, self.packet);
                if code == ffi::AVERROR(libc::EAGAIN) || code == ffi::AVERROR_EOF {
                    return Ok(());
                }
                check(code, "encoder")?;
                (*self.packet).stream_index = (*self.stream).index;
                ffi::av_packet_rescale_ts(
                    self.packet,
                    (*self.encoder).time_base,
                    (*self.stream).time_base,
                );
                let code = ffi::av_interleaved_write_frame(self.format, self.packet);
                if let Some(fault) = self.io.take_fault() {
                    return Err(fault.to_string());
                }
                check(code, "container")?;
            }
        }
    }

    /// Writes what is left and syncs the file to disk.
    pub fn finish(&mut self) -> Result<(), String> {
        // SAFETY: encoder and muxer are open; the trailer is written once.
        unsafe {
            check(
                ffi::avcodec_send_frame(self.encoder, ptr::null()),
                "encoder",
            )?;
            self.collect()?;
            check(ffi::av_write_trailer(self.format), "trailer")?;
        }
        self.io.flush();
        if let Some(fault) = self.io.take_fault() {
            return Err(fault.to_string());
        }
        self.io.file().sync_all().map_err(|e| e.to_string())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: each pointer is null or ours; all free functions take null.
        // The custom I/O is not the muxer's to close.
        unsafe {
            ffi::av_packet_free(&raw mut self.packet);
            ffi::sws_freeContext(self.scaler);
            ffi::avcodec_free_context(&raw mut self.encoder);
            ffi::avformat_free_context(self.format);
        }
    }
}
