//! RGB frames to an encoded video file: encoder, colour conversion, muxer; sound is
//! carried over packet by packet.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::ptr;

use ffmpeg_next::ffi;
use libc::c_int;

use super::decoder::Frame;
use super::input::{Input, Packet};
use super::io::FileIo;
use super::reason;

/// Encoders, best first.
const ENCODERS: [&CStr; 3] = [c"libx264", c"libopenh264", c"mpeg4"];

/// Ticks per second of the written time stamps: whole for the rates and time bases
/// that are met most (1/600, 1/1000, 1/90000, 1001/24000, 1001/60000 s).
const TICKS: c_int = 360_000;

/// As [`TICKS`], of MPEG-4 part 2, which allows at most 65535.
const FEW_TICKS: c_int = 60_000;

/// swscale reads rows in whole vectors, and so past the last pixel; what lies there
/// must be ours and always the same.
const PADDING: usize = 64;

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

/// A stream of sound on its way from one file into another.
struct Carried {
    from: Input,
    /// Time stamp of the source that is the film's 0.
    origin: i64,
    stream: *mut ffi::AVStream,
    /// Read, and of a later time than the pictures so far.
    waiting: Option<Packet>,
    last: Option<i64>,
    /// Packets that the container did not take.
    refused: u64,
}

/// An open output file.
pub struct Output {
    format: *mut ffi::AVFormatContext,
    encoder: *mut ffi::AVCodecContext,
    scaler: *mut ffi::SwsContext,
    packet: *mut ffi::AVPacket,
    stream: *mut ffi::AVStream,
    sound: Option<Carried>,
    name: String,
    /// The next frame's rows of RGB, `stride` bytes apart.
    rows: Vec<u8>,
    stride: usize,
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
    /// With `sound`, its chosen stream is carried over; see [`Input::open_sound`].
    pub fn create(
        file: File,
        s: &Settings<'_>,
        sound: Option<(Input, i64)>,
    ) -> Result<Self, String> {
        super::quiet();
        let stride = (s.width as usize * 3).next_multiple_of(PADDING);
        let io = FileIo::writing(file).ok_or("out of memory")?;
        let mut this = Self {
            format: ptr::null_mut(),
            encoder: ptr::null_mut(),
            scaler: ptr::null_mut(),
            packet: ptr::null_mut(),
            stream: ptr::null_mut(),
            sound: None,
            name: String::new(),
            rows: vec![0; stride * s.height as usize + PADDING],
            stride,
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
            if let Some((from, origin)) = sound {
                this.add_sound(from, origin)?;
            }
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

    /// Adds a stream for the sound, if the container can carry it.
    ///
    /// # Safety
    /// `self.format` must be allocated, and its header not written.
    unsafe fn add_sound(&mut self, from: Input, origin: i64) -> Result<(), String> {
        // SAFETY: see above; the parameters are copied.
        unsafe {
            let p = from.parameters();
            let fits = ffi::avformat_query_codec(
                (*self.format).oformat,
                p.codec_id,
                ffi::FF_COMPLIANCE_NORMAL as c_int,
            );
            if fits != 1 {
                return Err("the container cannot carry it".into());
            }
            let stream = ffi::avformat_new_stream(self.format, ptr::null());
            if stream.is_null() {
                return Err("out of memory".into());
            }
            check(
                ffi::avcodec_parameters_copy((*stream).codecpar, p),
                "parameters",
            )?;
            (*(*stream).codecpar).codec_tag = 0;
            (*stream).time_base = from.time_base();
            self.sound = Some(Carried {
                from,
                origin,
                stream,
                waiting: None,
                last: None,
                refused: 0,
            });
        }
        Ok(())
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
                e.time_base = ffi::AVRational {
                    num: 1,
                    den: match name.to_bytes() {
                        b"mpeg4" => FEW_TICKS,
                        _ => TICKS,
                    },
                };
                // The mean of a variable rate may be a fraction of large numbers.
                ffi::av_reduce(
                    &raw mut e.framerate.num,
                    &raw mut e.framerate.den,
                    s.fps.0.into(),
                    s.fps.1.into(),
                    1_000_000,
                );
                e.framerate.num = e.framerate.num.max(1);
                e.framerate.den = e.framerate.den.max(1);
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

    /// Ticks per second of the times that [`Output::write`] takes.
    pub fn ticks(&self) -> f64 {
        // SAFETY: the encoder is open.
        f64::from(unsafe { (*self.encoder).time_base.den })
    }

    /// Row `y` of the next frame, RGB, to be filled.
    pub fn row(&mut self, y: usize) -> &mut [u8] {
        // SAFETY: the encoder is open.
        let width = unsafe { (*self.encoder).width } as usize;
        &mut self.rows[y * self.stride..][..3 * width]
    }

    /// Encodes the frame in the rows, shown from `pts` ticks on.
    pub fn write(&mut self, pts: i64) -> Result<(), String> {
        let frame = Frame::new().ok_or("out of memory")?;
        // SAFETY: the frame is fresh; its size and format are set before its
        // buffer is made; `rows` holds `height` rows of `stride` and padding.
        unsafe {
            let (w, h) = ((*self.encoder).width, (*self.encoder).height);
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
            let planes = [self.rows.as_ptr(), ptr::null(), ptr::null(), ptr::null()];
            let strides = [self.stride as c_int, 0, 0, 0];
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
        self.collect()?;
        self.carry(Some(pts))
    }

    /// Carries the sound over, up to the time of a picture or to its end.
    fn carry(&mut self, until: Option<i64>) -> Result<(), String> {
        let Some(mut sound) = self.sound.take() else {
            return Ok(());
        };
        let result = self.carry_from(&mut sound, until);
        self.sound = Some(sound);
        result
    }

    fn carry_from(&mut self, sound: &mut Carried, until: Option<i64>) -> Result<(), String> {
        let base = sound.from.time_base();
        loop {
            let mut packet = match sound.waiting.take() {
                Some(packet) => packet,
                None => match sound.from.read() {
                    Ok(Some(packet)) => packet,
                    // What breaks off ends there, as the pictures do.
                    Ok(None) | Err(_) => return Ok(()),
                },
            };
            let (Some(dts), pts) = (packet.dts().or(packet.pts()), packet.pts()) else {
                sound.refused += 1;
                continue;
            };
            // SAFETY: encoder, muxer and packet are open and ours; the muxer takes the
            // packet's data and leaves it blank.
            unsafe {
                let time = dts.saturating_sub(sound.origin);
                if let Some(until) = until
                    && ffi::av_compare_ts(time, base, until, (*self.encoder).time_base) > 0
                {
                    sound.waiting = Some(packet);
                    return Ok(());
                }
                let p = packet.as_mut_ptr();
                (*p).dts = time;
                (*p).pts = pts.map_or(time, |t| t.saturating_sub(sound.origin));
                (*p).pos = -1;
                (*p).stream_index = (*sound.stream).index;
                ffi::av_packet_rescale_ts(p, base, (*sound.stream).time_base);
                let dts = (*p).dts;
                // The container wants times that grow.
                if sound.last.is_some_and(|last| dts <= last) {
                    sound.refused += 1;
                    continue;
                }
                let code = ffi::av_interleaved_write_frame(self.format, p);
                if let Some(fault) = self.io.take_fault() {
                    return Err(fault.to_string());
                }
                match code < 0 {
                    true => sound.refused += 1,
                    false => sound.last = Some(dts),
                }
            }
        }
    }

    /// Packets of sound that could not be carried over.
    pub fn refused(&self) -> u64 {
        self.sound.as_ref().map_or(0, |s| s.refused)
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

    /// Writes what is left.
    pub fn finish(&mut self) -> Result<(), String> {
        // SAFETY: encoder and muxer are open; the trailer is written once.
        unsafe {
            check(
                ffi::avcodec_send_frame(self.encoder, ptr::null()),
                "encoder",
            )?;
            self.collect()?;
            self.carry(None)?;
            check(ffi::av_write_trailer(self.format), "trailer")?;
        }
        self.io.flush();
        match self.io.take_fault() {
            Some(fault) => Err(fault.to_string()),
            None => Ok(()),
        }
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
