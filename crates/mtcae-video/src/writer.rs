//! Frames to a video file, atomically.

use std::ffi::CStr;
use std::io::Seek;
use std::path::{Path, PathBuf};

use mtcae_core::files::Draft;
use ndarray::ArrayView3;

use crate::error::{Error, Fault, Result};
use crate::ffi::decoder::codec_name;
use crate::ffi::input::Input;
use crate::ffi::output::{Output, Settings};
use crate::open::open;
use crate::options::OpenOptions;

/// How a clip is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// Width of the frames in pixels.
    pub width: u32,
    /// Height of the frames in pixels.
    pub height: u32,
    /// Nominal frames per second as a fraction (a hint for the encoder's rate
    /// control; times are written as given, so that a variable rate stays one).
    pub fps: (u32, u32),
    /// Constant rate factor, 0 (best) to 51: x264's scale, translated for the
    /// other encoders.
    pub crf: u8,
    /// Encoder threads; 0 for as many as rayon's current pool has.
    pub threads: usize,
    /// `libx264`, `libopenh264` or `mpeg4` to insist on one; by default the
    /// first of these that works.
    pub encoder: Option<String>,
    /// A file whose sound goes with the frames, their times being those of its
    /// video. Its packets are copied, nothing is decoded; what became of it says
    /// [`ClipWriter::sound`].
    pub sound_of: Option<PathBuf>,
}

/// What became of the sound that [`WriterOptions::sound_of`] names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sound {
    /// There is none.
    None,
    /// It is carried over.
    Copied,
    /// It is left out, for this reason.
    LeftOut(String),
}

impl WriterOptions {
    /// Frames of this size, 25 a second, CRF 18.
    pub fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            fps: (25, 1),
            crf: 18,
            threads: 0,
            encoder: None,
            sound_of: None,
        }
    }
}

/// Writes RGB frames as H.264 (else MPEG-4 part 2), BT.709 limited range,
/// 4:2:0, into mp4, mov or mkv by the file's extension.
///
/// The file takes its name when [`ClipWriter::finish`] succeeds; dropped before,
/// nothing is left behind and an older one stays as it was ([`mtcae_core::files`]).
/// Odd widths and heights are padded by repeating the last column or row, since 4:2:0
/// has none.
pub struct ClipWriter {
    output: Output,
    // Removed after the output is closed.
    draft: Draft,
    target: PathBuf,
    options: WriterOptions,
    sound: Sound,
    /// Time of the last frame, in seconds and in ticks.
    last: Option<(f64, i64)>,
}

impl std::fmt::Debug for ClipWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClipWriter")
            .field("target", &self.target)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn container(path: &Path) -> Option<&'static CStr> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "mp4" | "m4v" => c"mp4",
        "mov" => c"mov",
        "mkv" => c"matroska",
        _ => return None,
    })
}

impl ClipWriter {
    /// Opens the temporary file and the encoder.
    ///
    /// # Errors
    /// [`Fault::Write`](crate::Fault::Write): unknown extension, no encoder, no permission, size or
    /// rate out of range.
    pub fn create(path: impl AsRef<Path>, options: &WriterOptions) -> Result<Self> {
        let target = path.as_ref().to_path_buf();
        let fail = |reason: String| Fault::Write { reason }.of(&target);
        let container = container(&target)
            .ok_or_else(|| fail("the file's extension must be mp4, m4v, mov or mkv".into()))?;
        let (w, h) = (options.width, options.height);
        if w == 0 || h == 0 || w > 16_384 || h > 16_384 {
            return Err(fail(format!(
                "{w}x{h} pixels; each side must be 1 to 16384"
            )));
        }
        if options.fps.0 == 0 || options.fps.1 == 0 {
            let (num, den) = options.fps;
            return Err(fail(format!(
                "{num}/{den} frames/s; neither number may be 0"
            )));
        }
        if options.crf > 51 {
            return Err(fail(format!("crf {}; it must be 0 to 51", options.crf)));
        }
        if target.is_dir() {
            return Err(fail("it is a directory".into()));
        }
        let mut draft = Draft::new(&target).map_err(|e| fail(e.to_string()))?;
        let settings = Settings {
            width: w.next_multiple_of(2),
            height: h.next_multiple_of(2),
            fps: options.fps,
            crf: options.crf,
            container,
            threads: match options.threads {
                0 => rayon::current_num_threads(),
                n => n,
            },
            encoder: options.encoder.as_deref(),
        };
        let mut begin = |sound| {
            let file = draft.file();
            let cleared = file.rewind().and_then(|()| file.set_len(0));
            let file = cleared
                .and_then(|()| file.try_clone())
                .map_err(|e| e.to_string())?;
            Output::create(file, &settings, sound)
        };
        let (with, mut sound) = match &options.sound_of {
            None => (None, Sound::None),
            Some(path) => match sound_of(path) {
                Ok(None) => (None, Sound::None),
                Ok(sound) => (sound, Sound::Copied),
                Err(e) => (None, Sound::LeftOut(e.to_string())),
            },
        };
        let codec = with.as_ref().map(|(from, _)| codec_name(from.parameters()));
        let output = match (begin(with), codec) {
            (Err(reason), Some(codec)) => {
                // It may be the sound that does not go in.
                let output = begin(None).map_err(fail)?;
                sound = Sound::LeftOut(format!("{codec}: {reason}"));
                output
            }
            (output, _) => output.map_err(fail)?,
        };
        Ok(Self {
            output,
            draft,
            target,
            options: options.clone(),
            sound,
            last: None,
        })
    }

    /// The encoder in use: `libx264`, `libopenh264` or `mpeg4`.
    pub fn encoder_name(&self) -> &str {
        self.output.encoder_name()
    }

    /// What becomes of the sound that was asked for.
    pub fn sound(&self) -> &Sound {
        &self.sound
    }

    /// Adds a frame (H, W, 3), RGB, shown from `time` seconds on; times must
    /// grow.
    ///
    /// # Errors
    /// [`Fault::Write`](crate::Fault::Write): another size, a time that does not grow, a full disk.
    pub fn write(&mut self, frame: &ArrayView3<'_, u8>, time: f64) -> Result<()> {
        let (w, h) = (self.options.width as usize, self.options.height as usize);
        if frame.dim() != (h, w, 3) {
            return Err(self.fail(format!(
                "a frame of shape {:?}; it must be ({h}, {w}, 3)",
                frame.dim()
            )));
        }
        self.write_rows(time, |y, row| {
            let from = frame.index_axis(ndarray::Axis(0), y);
            match from.as_slice() {
                Some(from) => row.copy_from_slice(from),
                None => row.iter_mut().zip(from.iter()).for_each(|(to, v)| *to = *v),
            }
        })
    }

    /// As [`ClipWriter::write`], of a frame that is in another form: `fill` gets the
    /// number of each row, from the uppermost on, and puts its 3·width bytes in place.
    ///
    /// # Errors
    /// As [`ClipWriter::write`].
    pub fn write_rows(&mut self, time: f64, mut fill: impl FnMut(usize, &mut [u8])) -> Result<()> {
        let ticks = (time * self.output.ticks()).round();
        if ticks.is_nan() || ticks.abs() >= 1e15 {
            return Err(self.fail(format!("a frame at {time} s; no video is as long")));
        }
        let mut ticks = ticks as i64;
        if let Some((last, before)) = self.last {
            if time <= last {
                return Err(self.fail(format!(
                    "a frame at {time} s after one at {last} s; times must grow"
                )));
            }
            // Frames may be closer to each other than a tick.
            ticks = ticks.max(before + 1);
        }
        let (w, h) = (self.options.width as usize, self.options.height as usize);
        for y in 0..h {
            let row = self.output.row(y);
            fill(y, &mut row[..3 * w]);
            if w % 2 == 1 {
                row.copy_within(3 * (w - 1)..3 * w, 3 * w);
            }
        }
        if h % 2 == 1 {
            fill(h - 1, &mut self.output.row(h)[..3 * w]);
            if w % 2 == 1 {
                self.output.row(h).copy_within(3 * (w - 1)..3 * w, 3 * w);
            }
        }
        let result = self.output.write(ticks);
        result.map_err(|reason| self.fail(reason))?;
        self.last = Some((time, ticks));
        Ok(())
    }

    /// Completes the file, syncs it and gives it the target's name. Gives what became
    /// of the sound.
    ///
    /// # Errors
    /// [`Fault::Write`](crate::Fault::Write); then nothing is left behind.
    pub fn finish(mut self) -> Result<Sound> {
        if self.last.is_none() {
            return Err(self.fail("no frame was written".into()));
        }
        let result = self.output.finish();
        result.map_err(|reason| self.fail(reason))?;
        let sound = match self.output.refused() {
            0 => self.sound,
            n => Sound::LeftOut(format!("{n} packets that the container does not take")),
        };
        drop(self.output);
        let target = self.target;
        self.draft.commit().map_err(|e| {
            Fault::Write {
                reason: e.to_string(),
            }
            .of(&target)
        })?;
        Ok(sound)
    }

    fn fail(&self, reason: String) -> Error {
        Fault::Write { reason }.of(&self.target)
    }
}

/// The sound of a file, if it has any.
fn sound_of(path: &Path) -> Result<Option<(Input, i64)>> {
    let (file, budget) = open(path, &OpenOptions::default())?;
    Input::open_sound(file, budget).map_err(|fault| fault.of(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::seconds;
    use crate::video::Video;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../fixtures/video/{name}"))
    }

    /// Times and data of all packets of a file's sound.
    fn packets(path: &Path) -> Vec<(f64, Vec<u8>)> {
        let (mut input, origin) = sound_of(path).unwrap().expect("sound");
        let base = input.time_base();
        let mut packets = Vec::new();
        while let Ok(Some(packet)) = input.read() {
            let time = seconds(packet.pts().expect("a time") - origin, base);
            packets.push((time, packet.data().to_vec()));
        }
        packets
    }

    /// A film of a second of grey with the sound of a file.
    fn film(path: &Path, sound: &Path) -> Sound {
        let options = WriterOptions {
            sound_of: Some(sound.to_owned()),
            ..WriterOptions::new(32, 32)
        };
        let mut writer = ClipWriter::create(path, &options).unwrap();
        let frame = ndarray::Array3::from_elem((32, 32, 3), 90);
        for i in 0..25 {
            writer.write(&frame.view(), f64::from(i) / 25.0).unwrap();
        }
        let said = writer.sound().clone();
        assert_eq!(writer.finish().unwrap(), said);
        said
    }

    #[test]
    fn sound_is_carried_over_packet_by_packet() {
        let dir = tempfile::tempdir().unwrap();
        let want = packets(&fixture("audio.m4a"));
        assert!(want.len() > 5, "{}", want.len());
        let (mp4, mkv) = (dir.path().join("a.mp4"), dir.path().join("b.mkv"));
        assert_eq!(film(&mp4, &fixture("audio.m4a")), Sound::Copied);
        // Once more, from a file with pictures into another container.
        assert_eq!(film(&mkv, &mp4), Sound::Copied);
        for path in [&mp4, &mkv] {
            let got = packets(path);
            assert_eq!(got.len(), want.len(), "{}", path.display());
            for ((time, data), (when, bytes)) in got.iter().zip(&want) {
                assert!((time - when).abs() < 1.1e-3, "{time} {when}");
                assert!(data == bytes);
            }
            assert_eq!(Video::open(path).unwrap().frame_count().unwrap(), 25);
        }
    }

    #[test]
    fn sound_that_does_not_fit_is_said_and_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let wav = dir.path().join("a.wav");
        let samples = vec![7u8; 16_000];
        let mut data = b"RIFF\xa4\x3e\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        data.extend(8_000u32.to_le_bytes());
        data.extend(16_000u32.to_le_bytes());
        data.extend(b"\x02\0\x10\0data");
        data.extend((samples.len() as u32).to_le_bytes());
        data.extend(samples);
        std::fs::write(&wav, data).unwrap();
        assert_eq!(film(&dir.path().join("a.mkv"), &wav), Sound::Copied);
        let out = dir.path().join("a.mp4");
        assert_eq!(
            film(&out, &wav),
            Sound::LeftOut("pcm_s16le: the container cannot carry it".to_owned())
        );
        assert_eq!(Video::open(&out).unwrap().frame_count().unwrap(), 25);
        assert_eq!(film(&out, &fixture("vfr.mkv")), Sound::None);
        let missing = dir.path().join("none");
        assert!(matches!(film(&out, &missing), Sound::LeftOut(reason) if reason.contains("none")));
    }
}
