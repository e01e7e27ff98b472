//! Frames to a video file, atomically.

use std::borrow::Cow;
use std::ffi::CStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::ArrayView3;

use crate::error::{Error, Result};
use crate::ffi::output::{Output, Settings, TICKS};

/// How a clip is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// Width of the frames in pixels.
    pub width: u32,
    /// Height of the frames in pixels.
    pub height: u32,
    /// Nominal frames per second as a fraction (a hint for the encoder's rate
    /// control; times are written as given).
    pub fps: (u32, u32),
    /// Constant rate factor, 0 (best) to 51: x264's scale, translated for the
    /// other encoders.
    pub crf: u8,
    /// Encoder threads; 0 for as many as rayon's current pool has.
    pub threads: usize,
    /// `libx264`, `libopenh264` or `mpeg4` to insist on one; by default the
    /// first of these that works.
    pub encoder: Option<String>,
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
        }
    }
}

/// Writes RGB frames as H.264 (else MPEG-4 part 2), BT.709 limited range,
/// 4:2:0, into mp4, mov or mkv by the file's extension.
///
/// Everything goes to a temporary file beside the target, which takes the
/// target's name when [`ClipWriter::finish`] succeeds; dropped before, nothing
/// is left behind and an older target stays as it was. Odd widths and heights
/// are padded by repeating the last column or row, since 4:2:0 has none.
pub struct ClipWriter {
    output: Option<Output>,
    target: PathBuf,
    temporary: PathBuf,
    options: WriterOptions,
    last: Option<i64>,
    padded: Vec<u8>,
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
    /// [`Error::Write`]: unknown extension, no encoder, no permission, size or
    /// rate out of range.
    pub fn create(path: impl AsRef<Path>, options: &WriterOptions) -> Result<Self> {
        let target = path.as_ref().to_path_buf();
        let fail = |reason: String| Error::Write {
            path: target.clone(),
            reason,
        };
        let container = container(&target)
            .ok_or_else(|| fail("the file's extension must be mp4, m4v, mov or mkv".into()))?;
        let (w, h) = (options.width, options.height);
        if w == 0 || h == 0 || w > 16_384 || h > 16_384 {
            return Err(fail(format!(
                "{w}x{h} pixels; each side must be 1 to 16384"
            )));
        }
        let (num, den) = options.fps;
        if num == 0 || den == 0 || num > 1_000_000 || den > 1_000_000 {
            return Err(fail(format!(
                "{num}/{den} frames/s; both numbers must be 1 to 1000000"
            )));
        }
        if options.crf > 51 {
            return Err(fail(format!("crf {}; it must be 0 to 51", options.crf)));
        }
        if target.is_dir() {
            return Err(fail("it is a directory".into()));
        }
        let (file, temporary) = temporary_beside(&target).map_err(|e| fail(e.to_string()))?;
        // From here on, dropping the writer removes the temporary file.
        let mut writer = Self {
            output: None,
            target: target.clone(),
            temporary,
            options: options.clone(),
            last: None,
            padded: Vec::new(),
        };
        let threads = match options.threads {
            0 => rayon::current_num_threads(),
            n => n,
        };
        let output = Output::create(
            file,
            &Settings {
                width: w.next_multiple_of(2),
                height: h.next_multiple_of(2),
                fps: options.fps,
                crf: options.crf,
                container,
                threads,
                encoder: options.encoder.as_deref(),
            },
        )
        .map_err(fail)?;
        writer.output = Some(output);
        Ok(writer)
    }

    /// The encoder in use: `libx264`, `libopenh264` or `mpeg4`.
    pub fn encoder_name(&self) -> &str {
        self.output.as_ref().map_or("", Output::encoder_name)
    }

    /// Adds a frame (H, W, 3), RGB, shown from `time` seconds on; times must
    /// grow.
    ///
    /// # Errors
    /// [`Error::Write`]: another size, a time that does not grow, a full disk.
    pub fn write(&mut self, frame: &ArrayView3<'_, u8>, time: f64) -> Result<()> {
        let (w, h) = (self.options.width as usize, self.options.height as usize);
        if frame.dim() != (h, w, 3) {
            return Err(self.fail(format!(
                "a frame of shape {:?}; it must be ({h}, {w}, 3)",
                frame.dim()
            )));
        }
        let ticks = (time * f64::from(TICKS)).round();
        if ticks.is_nan() || ticks.abs() >= 1e15 || self.last.is_some_and(|l| ticks as i64 <= l) {
            return Err(self.fail(format!(
                "a frame at {time} s after one at {:?} s; times must grow",
                self.last.map(|l| l as f64 / f64::from(TICKS))
            )));
        }
        let (pw, ph) = (w.next_multiple_of(2), h.next_multiple_of(2));
        let standard = frame.as_standard_layout();
        let rgb: Cow<'_, [u8]> = match standard.as_slice() {
            Some(slice) if (pw, ph) == (w, h) => Cow::Borrowed(slice),
            _ => {
                self.padded.clear();
                for y in 0..ph {
                    for x in 0..pw {
                        for c in 0..3 {
                            self.padded.push(standard[[y.min(h - 1), x.min(w - 1), c]]);
                        }
                    }
                }
                Cow::Borrowed(&self.padded)
            }
        };
        let result = match &mut self.output {
            Some(output) => output.write(&rgb, ticks as i64),
            None => Err("the writer is closed".into()),
        };
        result.map_err(|reason| self.fail(reason))?;
        self.last = Some(ticks as i64);
        Ok(())
    }

    /// Completes the file, syncs it and gives it the target's name.
    ///
    /// # Errors
    /// [`Error::Write`]; then nothing is left behind.
    pub fn finish(mut self) -> Result<()> {
        if self.last.is_none() {
            return Err(self.fail("no frame was written".into()));
        }
        let result = match &mut self.output {
            Some(output) => output.finish(),
            None => Err("the writer is closed".into()),
        };
        result.map_err(|reason| self.fail(reason))?;
        self.output = None;
        std::fs::rename(&self.temporary, &self.target).map_err(|e| self.fail(e.to_string()))?;
        self.temporary = PathBuf::new();
        #[cfg(unix)]
        if let Some(folder) = self.target.parent() {
            // The name itself reaches the disk; not every file system can.
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            if let Ok(folder) = File::open(folder) {
                let _ = folder.sync_all();
            }
        }
        Ok(())
    }

    fn fail(&self, reason: String) -> Error {
        Error::Write {
            path: self.target.clone(),
            reason,
        }
    }
}

impl Drop for ClipWriter {
    fn drop(&mut self) {
        self.output = None;
        if !self.temporary.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// A new file of an unused, hidden name in the target's folder.
fn temporary_beside(target: &Path) -> std::io::Result<(File, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut tries = 0;
    loop {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(
            ".{}-{}.part",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        let path = target.with_file_name(name);
        match File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
        {
            Ok(file) => return Ok((file, path)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && tries < 100 => tries += 1,
            Err(e) => return Err(e),
        }
    }
}
