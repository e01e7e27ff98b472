//! The demuxer: one file in, packets of one video stream out.

use std::ffi::{CStr, CString};
use std::io::Read;
use std::ptr;

use ffmpeg_next::format::context::Input as Context;
use ffmpeg_next::{codec, ffi};
use libc::{c_char, c_int};
use mtcae_core::archive::Piece;

use super::budget::Budget;
use super::io::FileIo;
use super::reason;
use crate::error::Fault;
use crate::geometry::Orientation;
use crate::stream::Raw;

/// Containers that hold their own data and name no other file. Left out on
/// purpose: hls, dash, concat, concatf, sdp, rtsp, image2 (patterns), svg_pipe
/// (external references), subtitle and script formats, devices.
const DEMUXERS: &str = "mov,matroska,webm,avi,flv,live_flv,kux,mpegts,mpegtsraw,mpeg,mpegvideo,h264,hevc,vvc,evc,\
av1,obu,ivf,ogg,asf,asf_o,mxf,gxf,dv,nut,rm,swf,nsv,roq,smk,bink,wtv,wtvchunk,dxa,fli,flic,mjpeg,mjpeg_2000,m4v,h261,h263,vc1,\
vc1test,cavsvideo,avs2,avs3,dirac,ipmovie,yuv4mpegpipe,mvi,rpl,film_cpk,pva,vivo,thp,cine,mlv,\
gif,apng,webp_anim,awebp,ico,bmp_pipe,cri_pipe,dds_pipe,dpx_pipe,exr_pipe,gem_pipe,gif_pipe,hdr_pipe,j2k_pipe,\
jpeg_pipe,jpegls_pipe,jpegxl_pipe,jpegxl_anim,jpegxs_pipe,pam_pipe,pbm_pipe,pcx_pipe,pfm_pipe,pgm_pipe,pgmyuv_pipe,phm_pipe,\
photocd_pipe,pictor_pipe,png_pipe,ppm_pipe,psd_pipe,qdraw_pipe,qoi_pipe,sgi_pipe,sunrast_pipe,\
tiff_pipe,webp_pipe,vbn_pipe,xbm_pipe,xpm_pipe,xwd_pipe,\
mp3,wav,w64,aac,flac,aiff,au,caf,amr,ac3,eac3,dts,tta,wv,ape,opus";

/// Bytes of a stream that are looked at before it is known what is in it, at most.
const PROBED_BYTES: i64 = 1 << 20;

/// What is read as it comes.
#[derive(Clone, Copy)]
struct Live<'a> {
    raw: Option<&'a Raw>,
}

/// A file that does not open, by FFmpeg's code from opening or probing.
fn unreadable(code: i32) -> Fault {
    let reason = match code {
        ffi::AVERROR_INVALIDDATA => {
            "its bytes match no known container, or its headers are damaged or missing".into()
        }
        ffi::AVERROR_EOF => "the file ends within its headers".into(),
        code => reason(code),
    };
    Fault::Unreadable { reason }
}

fn out_of_memory() -> Fault {
    let reason = "out of memory".into();
    Fault::Unreadable { reason }
}

/// An open file and its chosen video stream.
pub struct Input {
    // Dropped before `io`, which it uses.
    context: Context,
    io: FileIo,
    stream: usize,
    streams: u32,
}

// SAFETY: all FFmpeg objects inside are owned by this object alone, and none
// is tied to a thread.
unsafe impl Send for Input {}

/// A compressed packet of the video stream.
pub struct Packet(*mut ffi::AVPacket);

// SAFETY: the packet's buffer is reference-counted with atomics and the
// wrapper is its only owner.
unsafe impl Send for Packet {}

impl Packet {
    fn new() -> Option<Self> {
        // SAFETY: no precondition; null is checked.
        let p = unsafe { ffi::av_packet_alloc() };
        (!p.is_null()).then_some(Self(p))
    }

    pub fn as_ptr(&self) -> *const ffi::AVPacket {
        self.0
    }

    pub fn as_mut_ptr(&mut self) -> *mut ffi::AVPacket {
        self.0
    }

    fn get(&self) -> &ffi::AVPacket {
        // SAFETY: never null, valid until drop.
        unsafe { &*self.0 }
    }

    pub fn pts(&self) -> Option<i64> {
        known(self.get().pts)
    }

    pub fn dts(&self) -> Option<i64> {
        known(self.get().dts)
    }

    pub fn is_key(&self) -> bool {
        self.get().flags & ffi::AV_PKT_FLAG_KEY != 0
    }

    /// Decoded but not shown (before an edit list's start).
    pub fn is_discard(&self) -> bool {
        self.get().flags & ffi::AV_PKT_FLAG_DISCARD != 0
    }

    pub fn size(&self) -> usize {
        self.get().size.max(0) as usize
    }

    pub fn data(&self) -> &[u8] {
        if self.get().data.is_null() {
            return &[];
        }
        // SAFETY: the packet is valid for `size` bytes as long as it lives.
        unsafe { std::slice::from_raw_parts(self.get().data, self.size()) }
    }

    /// Whether the container says its data are encrypted.
    pub fn is_encrypted(&self) -> bool {
        // SAFETY: the packet is valid; a null size pointer is allowed.
        !unsafe {
            ffi::av_packet_get_side_data(
                self.0,
                ffi::AVPacketSideDataType::AV_PKT_DATA_ENCRYPTION_INFO,
                ptr::null_mut(),
            )
        }
        .is_null()
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: allocated by av_packet_alloc, freed once.
        unsafe { ffi::av_packet_free(&raw mut self.0) };
    }
}

fn known(v: i64) -> Option<i64> {
    (v != ffi::AV_NOPTS_VALUE).then_some(v)
}

/// Refuses every attempt of a demuxer to open something by name.
unsafe extern "C" fn refuse(
    _: *mut ffi::AVFormatContext,
    pb: *mut *mut ffi::AVIOContext,
    _: *const c_char,
    _: c_int,
    _: *mut *mut ffi::AVDictionary,
) -> c_int {
    if !pb.is_null() {
        // SAFETY: FFmpeg passes where to store the opened context.
        unsafe { *pb = ptr::null_mut() };
    }
    ffi::AVERROR(libc::EPERM)
}

fn set(dict: &mut *mut ffi::AVDictionary, key: &CStr, value: &str) {
    if let Ok(value) = CString::new(value) {
        // SAFETY: both strings end in NUL and are copied.
        unsafe { ffi::av_dict_set(dict, key.as_ptr(), value.as_ptr(), 0) };
    }
}

impl Input {
    /// Opens `file`, finds its streams and picks the best video stream.
    pub fn open(file: Piece, budget: Budget) -> Result<Self, Fault> {
        let mut input = Self::probe(file, budget)?;
        input.pick()?;
        Ok(input)
    }

    /// Opens `file` for the sound that goes with its pictures, and gives the time stamp
    /// of the sound at which these start (0 without any); `None` where there is no sound.
    pub fn open_sound(file: Piece, budget: Budget) -> Result<Option<(Self, i64)>, Fault> {
        let mut input = Self::probe(file, budget)?;
        let pictures = input.pick().is_ok();
        let start = match pictures {
            true => (input.start_time().unwrap_or(0), input.time_base()),
            false => (0, ffi::AVRational { num: 1, den: 1 }),
        };
        // SAFETY: the context is open; stream indices are below nb_streams.
        let origin = unsafe {
            let best = ffi::av_find_best_stream(
                input.raw(),
                ffi::AVMediaType::AVMEDIA_TYPE_AUDIO,
                -1,
                if pictures { input.stream as c_int } else { -1 },
                ptr::null_mut(),
                0,
            );
            let Ok(best) = usize::try_from(best) else {
                return Ok(None);
            };
            let streams = (*input.raw()).streams;
            if pictures {
                (**streams.add(input.stream)).discard = ffi::AVDiscard::AVDISCARD_ALL;
            }
            (**streams.add(best)).discard = ffi::AVDiscard::AVDISCARD_DEFAULT;
            input.stream = best;
            ffi::av_rescale_q(start.0, start.1, input.time_base())
        };
        Ok(Some((input, origin)))
    }

    /// Opens a stream, which is read from its beginning to its end: one of a container, or
    /// of `raw` pictures.
    pub fn open_stream(
        stream: Box<dyn Read + Send>,
        raw: Option<&Raw>,
        budget: Budget,
    ) -> Result<Self, Fault> {
        let io = FileIo::of_stream(stream).ok_or_else(out_of_memory)?;
        let mut input = Self::of(io, budget, Some(Live { raw }))?;
        input.pick()?;
        Ok(input)
    }

    fn probe(file: Piece, budget: Budget) -> Result<Self, Fault> {
        let io = FileIo::reading(file).ok_or_else(out_of_memory)?;
        Self::of(io, budget, None)
    }

    fn of(io: FileIo, budget: Budget, live: Option<Live<'_>>) -> Result<Self, Fault> {
        super::quiet();
        let raw_pictures = live.and_then(|live| live.raw);
        let demuxer = match raw_pictures {
            // SAFETY: the name ends in NUL; null where FFmpeg has no such demuxer.
            Some(_) => unsafe { ffi::av_find_input_format(c"rawvideo".as_ptr()) },
            None => ptr::null(),
        };
        if raw_pictures.is_some() && demuxer.is_null() {
            let reason = "FFmpeg was built without its demuxer of raw pictures".into();
            return Err(Fault::Unreadable { reason });
        }
        // SAFETY: the context is fresh; on failure avformat_open_input frees it
        // and nulls the pointer, and does not touch a custom `pb`. The empty
        // name keeps any protocol or pattern out; NUL-terminated.
        let context = unsafe {
            let mut raw = ffi::avformat_alloc_context();
            if raw.is_null() {
                return Err(out_of_memory());
            }
            (*raw).pb = io.as_ptr();
            (*raw).io_open = Some(refuse);
            let mut options = ptr::null_mut();
            match raw_pictures {
                None => set(&mut options, c"format_whitelist", DEMUXERS),
                Some(pictures) => {
                    let Raw { width, height, .. } = pictures;
                    set(&mut options, c"format_whitelist", "rawvideo");
                    set(&mut options, c"video_size", &format!("{width}x{height}"));
                    set(&mut options, c"pixel_format", &pictures.pixel_format);
                    set(&mut options, c"framerate", &pictures.fps.to_string());
                }
            }
            if live.is_some() {
                // Who waits for answers does not wait for what seconds of it would tell.
                (*raw).probesize = PROBED_BYTES;
                (*raw).max_analyze_duration = i64::from(ffi::AV_TIME_BASE) / 2;
                (*raw).fps_probe_size = 2;
            }
            // Matches no protocol, while an empty list would mean "all".
            set(&mut options, c"protocol_whitelist", "none");
            let code =
                ffi::avformat_open_input(&raw mut raw, c"".as_ptr(), demuxer, &raw mut options);
            ffi::av_dict_free(&raw mut options);
            if code < 0 {
                // format_whitelist and io_open answer with these.
                return Err(
                    if code == ffi::AVERROR(libc::EINVAL) || code == ffi::AVERROR(libc::EPERM) {
                        Fault::ForbiddenFormat
                    } else {
                        unreadable(code)
                    },
                );
            }
            Context::wrap(raw)
        };
        let mut input = Self {
            context,
            io,
            stream: 0,
            streams: 0,
        };
        input.find_info(budget);
        Ok(input)
    }

    fn raw(&self) -> *mut ffi::AVFormatContext {
        // SAFETY: the pointer is only used within this module, and mutation
        // happens through FFmpeg calls from `&mut self` methods.
        unsafe { self.context.as_ptr().cast_mut() }
    }

    /// Probes the streams; a failure shows later as a missing size or codec.
    fn find_info(&mut self, budget: Budget) {
        let raw = self.raw();
        // SAFETY: one dictionary per present stream, as the call demands, freed
        // afterwards; entries may be replaced by FFmpeg.
        unsafe {
            let n = (*raw).nb_streams as usize;
            let mut options = vec![ptr::null_mut::<ffi::AVDictionary>(); n.max(1)];
            for (i, dict) in options.iter_mut().enumerate() {
                if i < n {
                    let codec = (*(**(*raw).streams.add(i)).codecpar).codec_id;
                    set(dict, c"max_pixels", &budget.pixels(codec).to_string());
                }
                set(dict, c"threads", "1");
            }
            let _ = ffi::avformat_find_stream_info(raw, options.as_mut_ptr());
            for dict in &mut options {
                ffi::av_dict_free(dict);
            }
        }
    }

    fn pick(&mut self) -> Result<(), Fault> {
        let raw = self.raw();
        // SAFETY: the context is open; stream pointers are valid below
        // nb_streams.
        unsafe {
            let streams = std::slice::from_raw_parts(
                if (*raw).nb_streams == 0 {
                    ptr::NonNull::dangling().as_ptr()
                } else {
                    (*raw).streams
                },
                (*raw).nb_streams as usize,
            );
            let video = |s: &*mut ffi::AVStream| {
                // Read as an integer: a newer library may know more kinds.
                (&raw const (*(**s).codecpar).codec_type)
                    .cast::<i32>()
                    .read()
                    == ffi::AVMediaType::AVMEDIA_TYPE_VIDEO as i32
            };
            let cover =
                |s: &*mut ffi::AVStream| (**s).disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0;
            let usable: Vec<usize> = (0..streams.len())
                .filter(|&i| video(&streams[i]) && !cover(&streams[i]))
                .collect();
            if usable.is_empty() {
                let covers = streams.iter().filter(|s| video(s) && cover(s)).count();
                let found = match (streams.len(), covers) {
                    (0, _) => "no stream at all".into(),
                    (n, 0) => format!("{n} stream(s) of other kinds"),
                    (n, _) => format!(
                        "{} stream(s) of other kinds and a cover picture",
                        n - covers
                    ),
                };
                return Err(Fault::NoVideo { found });
            }
            let best = ffi::av_find_best_stream(
                raw,
                ffi::AVMediaType::AVMEDIA_TYPE_VIDEO,
                -1,
                -1,
                ptr::null_mut(),
                0,
            );
            self.stream = usize::try_from(best)
                .ok()
                .filter(|b| usable.contains(b))
                .unwrap_or(usable[0]);
            self.streams = usable.len() as u32;
            for (i, s) in streams.iter().enumerate() {
                if i != self.stream {
                    (**s).discard = ffi::AVDiscard::AVDISCARD_ALL;
                }
            }
        }
        Ok(())
    }

    fn av_stream(&self) -> &ffi::AVStream {
        // SAFETY: `stream` was taken below nb_streams, which never shrinks.
        unsafe { &**(*self.raw()).streams.add(self.stream) }
    }

    /// Codec parameters of the chosen stream, for the decoder.
    pub fn parameters(&self) -> &ffi::AVCodecParameters {
        // SAFETY: every stream has parameters.
        unsafe { &*self.av_stream().codecpar }
    }

    pub fn time_base(&self) -> ffi::AVRational {
        self.av_stream().time_base
    }

    pub fn stream_index(&self) -> u32 {
        self.stream as u32
    }

    /// Number of video streams, cover pictures not counted.
    pub fn video_streams(&self) -> u32 {
        self.streams
    }

    /// Time stamp of the stream's start.
    pub fn start_time(&self) -> Option<i64> {
        known(self.av_stream().start_time)
    }

    /// Frames the container announces.
    pub fn frames(&self) -> Option<u64> {
        u64::try_from(self.av_stream().nb_frames)
            .ok()
            .filter(|&n| n > 0)
    }

    /// Seconds the container announces.
    pub fn duration(&self) -> Option<f64> {
        let s = self.av_stream();
        // SAFETY: the context is open.
        let all = unsafe { (*self.raw()).duration };
        known(s.duration)
            .filter(|&d| d > 0)
            .map(|d| super::seconds(d, s.time_base))
            .or_else(|| {
                known(all)
                    .filter(|&d| d > 0)
                    .map(|d| d as f64 / f64::from(ffi::AV_TIME_BASE))
            })
    }

    /// Whether it is a format of pictures one after the other, without a header of its
    /// own.
    pub fn is_pipe(&self) -> bool {
        self.format().ends_with("_pipe")
    }

    /// Average, else guessed frames per second.
    pub fn frame_rate(&self) -> Option<(i32, i32)> {
        let s = self.av_stream();
        [s.avg_frame_rate, s.r_frame_rate]
            .into_iter()
            .find(|r| r.num > 0 && r.den > 0)
            .map(|r| (r.num, r.den))
    }

    /// Pixel aspect: the container's, else the codec's.
    pub fn sample_aspect(&self) -> (u32, u32) {
        [
            self.av_stream().sample_aspect_ratio,
            self.parameters().sample_aspect_ratio,
        ]
        .into_iter()
        .find(|r| r.num > 0 && r.den > 0)
        .map_or((1, 1), |r| (r.num as u32, r.den as u32))
    }

    /// The container's display matrix: `Ok(None)` without one, `Err(())` when
    /// it is no multiple of 90°.
    pub fn orientation(&self) -> Result<Option<Orientation>, ()> {
        let Some(stream) = self.context.stream(self.stream) else {
            return Ok(None);
        };
        stream
            .side_data()
            .find(|d| d.kind() == codec::packet::side_data::Type::DisplayMatrix)
            .map_or(Ok(None), |d| matrix(d.data()).map(Some).ok_or(()))
    }

    /// Short name(s) of the container format.
    pub fn format(&self) -> String {
        // SAFETY: an open context has an input format with a static name.
        unsafe {
            CStr::from_ptr((*(*self.raw()).iformat).name)
                .to_string_lossy()
                .into_owned()
        }
    }

    /// The next packet of the video stream; `Ok(None)` at the end.
    pub fn read(&mut self) -> Result<Option<Packet>, i32> {
        let packet = Packet::new().ok_or(ffi::AVERROR(libc::ENOMEM))?;
        let mut retries = 0;
        loop {
            // SAFETY: context and packet are valid; the packet is blank or
            // unreferenced below.
            let code = unsafe { ffi::av_read_frame(self.raw(), packet.0) };
            if code == ffi::AVERROR(libc::EAGAIN) && retries < 1000 {
                retries += 1;
                continue;
            }
            if code == ffi::AVERROR_EOF {
                // Some demuxers turn a read fault into an end of file.
                return match self.io.take_fault() {
                    Some(_) => Err(ffi::AVERROR(libc::EIO)),
                    None => Ok(None),
                };
            }
            if code < 0 {
                return Err(code);
            }
            if packet.get().stream_index == self.stream as c_int {
                return Ok(Some(packet));
            }
            // SAFETY: valid packet; its data are released for reuse.
            unsafe { ffi::av_packet_unref(packet.0) };
        }
    }

    /// Whether seeking by time is dependable enough to be tried: containers
    /// with an index.
    pub fn is_indexed(&self) -> bool {
        let f = self.format();
        f.starts_with("mov") || f.starts_with("matroska")
    }

    /// Goes to the last key frame at or before `timestamp` (of the stream's
    /// time base). The caller checks where it arrived.
    pub fn seek(&mut self, timestamp: i64) -> Result<(), i32> {
        // SAFETY: the context is open; the index is below nb_streams.
        let code = unsafe {
            ffi::av_seek_frame(
                self.raw(),
                self.stream as c_int,
                timestamp,
                ffi::AVSEEK_FLAG_BACKWARD as c_int,
            )
        };
        if code < 0 { Err(code) } else { Ok(()) }
    }

    /// A second descriptor of the same open file (the name is not used again).
    pub fn file(&self) -> std::io::Result<Piece> {
        match self.io.piece() {
            Some(file) => file.try_clone(),
            None => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }
}

/// The orientation in a display matrix of nine native 32-bit integers.
pub fn matrix(data: &[u8]) -> Option<Orientation> {
    let at = |i: usize| {
        data.get(i * 4..i * 4 + 4)
            .and_then(|b| b.try_into().ok())
            .map(i32::from_ne_bytes)
    };
    Orientation::from_matrix([at(0)?, at(1)?, at(3)?, at(4)?])
}
