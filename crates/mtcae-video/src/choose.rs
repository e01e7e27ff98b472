//! Which frames are asked for: bounds in time, and the sampling within them.

use mtcae_core::Sampling;

use crate::demuxer::Demuxer;
use crate::error::{Error, Fault, Result};
use crate::options::ClipOptions;

/// Half a microsecond, so that a bound computed in floating point (three times
/// 0.1 s) means the frame it was meant for.
pub const EPSILON: f64 = 5e-7;

/// Whether a frame at `time` lies in `[start, end)`.
pub fn within(time: f64, start: Option<f64>, end: Option<f64>) -> bool {
    start.is_none_or(|s| time >= s - EPSILON) && end.is_none_or(|e| time < e - EPSILON)
}

/// Checks what can be checked before decoding.
pub fn check(demuxer: &Demuxer, options: &ClipOptions) -> Result<()> {
    let bad =
        |option, got: String, want| Err(Fault::Option { option, got, want }.of(&demuxer.path));
    if options.frames == 0 {
        return bad("frames", "0".into(), "at least 1");
    }
    let (start, end) = (options.start.unwrap_or(0.0), options.end);
    if !start.is_finite() {
        return bad("start", start.to_string(), "a finite number of seconds");
    }
    if end.is_some_and(|e| e.is_nan() || e <= start) {
        return bad("end", format!("{end:?}"), "later than start");
    }
    let source = &demuxer.info.geometry;
    source
        .parts(&options.resize, options.size)
        .map(|_| ())
        .or_else(|reason| {
            // A size of zero never works; a crop may fit frames of another
            // size than the headers', or of unknown size.
            let (w, h) = options.size;
            if w == 0 || h == 0 || w > 65_535 || h > 65_535 {
                Err(Fault::Resize { reason }.of(&demuxer.path))
            } else {
                Ok(())
            }
        })
}

/// Frame numbers for `total` frames, within the limit.
pub fn picks(demuxer: &Demuxer, options: &ClipOptions, total: u64) -> Result<Vec<u64>> {
    let asked = match options.sampling {
        Sampling::All => total,
        s => (s.clips() as u64).saturating_mul(options.frames as u64),
    };
    let asked = asked.saturating_mul(options.resize.crops() as u64);
    if asked > options.max_frames {
        return Err(Fault::TooManyFrames {
            frames: asked,
            limit: options.max_frames,
        }
        .of(&demuxer.path));
    }
    Ok(options.sampling.indices(total, options.frames))
}

/// The error where no frame lies between the bounds.
pub fn outside(demuxer: &Demuxer, options: &ClipOptions, duration: f64) -> Error {
    Fault::NoFramesBetween {
        start: options.start.unwrap_or(0.0),
        end: options.end.unwrap_or(f64::INFINITY),
        duration,
    }
    .of(&demuxer.path)
}
