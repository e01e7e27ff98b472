//! Writing label files so that nothing labelled is lost, whatever happens.
//!
//! A clip is one line, written in one go and only after all before it. So a
//! label file is at any moment a beginning of the file that an uninterrupted run
//! writes, but for a torn last line, which [`LabelWriter::resume`] drops.

use mtcae_core::files::{At, FileError};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::reader::parse;
use super::record::{LabelledClip, RunSettings};
use crate::Error;
use crate::dataset::Sample;

/// Appends clips to a label file.
pub struct LabelWriter {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
    clips: usize,
}

impl LabelWriter {
    /// Begins a new file.
    ///
    /// # Errors
    /// [`Error::File`], among others when there is a file already: it is never
    /// overwritten.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        Self::open(path.as_ref(), &options)
    }

    /// Goes on with a file, or begins it when there is none. Whole lines are kept
    /// and must be those of the first `inputs`: the same file, class, subject, sex,
    /// level, fold and dataset, made with the same settings. A torn last line is
    /// dropped. [`clips`](Self::clips) of the inputs are then
    /// done.
    ///
    /// # Errors
    /// [`Error::Resume`] names the first field of a line that this run would write
    /// otherwise. [`Error::Schema`], [`Error::Line`], [`Error::File`]. The file is unchanged
    /// then.
    pub fn resume(
        path: impl AsRef<Path>,
        inputs: &[Sample],
        settings: &RunSettings,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut writer = Self::open(path, &options)?;
        let mut lines = BufReader::new(&writer.file);
        let mut text = Vec::new();
        let (mut clips, mut length) = (0, 0);
        loop {
            text.clear();
            let read = lines.read_until(b'\n', &mut text).at(path)?;
            if !text.ends_with(b"\n") {
                break; // the end, or a torn line
            }
            let fault = |reason: String| Error::Resume {
                path: path.to_owned(),
                line: clips + 1,
                reason,
            };
            let clip = parse(path, clips + 1, &text)?;
            let Some(input) = inputs.get(clips) else {
                return Err(fault("is one more than there are inputs".to_owned()));
            };
            if input.file != clip.file {
                return Err(fault(format!("is of {}, not {}", clip.file, input.file)));
            }
            let planned = LabelledClip::unlabelled(input, settings);
            let different = difference(&clip.without_findings(), &planned);
            if let Some(reason) = different.at(path)? {
                return Err(fault(reason));
            }
            clips += 1;
            length += read as u64;
        }
        writer.file.set_len(length).at(path)?;
        writer.file.seek(SeekFrom::Start(length)).at(path)?;
        (writer.clips, writer.length) = (clips, length);
        Ok(writer)
    }

    fn open(path: &Path, options: &OpenOptions) -> Result<Self, Error> {
        let file = options.open(path).at(path)?;
        // A device or pipe may never end, and cannot be cut back to whole lines.
        if !file.metadata().at(path)?.is_file() {
            return Err(FileError::new(path, "not a regular file").into());
        }
        // Two runs into one file would tear each other's lines. Where the file
        // system knows no locks, there is none.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(FileError::new(path, "another run is writing this label file").into());
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            length: 0,
            clips: 0,
        })
    }

    /// Into a device, which is never a label file.
    #[cfg(all(test, target_os = "linux", feature = "embedded-weights"))]
    pub(super) fn into_device(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: OpenOptions::new().write(true).open(path)?,
            length: 0,
            clips: 0,
        })
    }

    /// Clips in the file.
    pub fn clips(&self) -> usize {
        self.clips
    }

    /// Appends a clip. What is written survives the death of the process; call
    /// [`finish`](Self::finish) so that it survives that of the machine.
    ///
    /// # Errors
    /// [`Error::File`], a full disk for example. The lines before are whole, the
    /// writer stays usable, and [`resume`](Self::resume) goes on from here.
    pub fn write(&mut self, clip: &LabelledClip) -> Result<(), Error> {
        let mut line = serde_json::to_vec(clip).at(&self.path)?;
        line.push(b'\n');
        if let Err(source) = self.file.write_all(&line) {
            // Back to whole lines. If not even that works, the next run does it.
            let restored = self.file.set_len(self.length);
            drop(restored.and_then(|()| self.file.seek(SeekFrom::Start(self.length))));
            return Ok(Err(source).at(&self.path)?);
        }
        self.length += line.len() as u64;
        self.clips += 1;
        Ok(())
    }

    /// Waits until all is on the disk.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn finish(self) -> Result<(), Error> {
        Ok(self.file.sync_all().at(&self.path)?)
    }
}

/// The first field in which two lines differ, and how.
fn difference(was: &LabelledClip, is: &LabelledClip) -> serde_json::Result<Option<String>> {
    // As the file spells fields and values; nested ones by their path.
    fn at(path: &str, was: &Value, is: &Value) -> Option<String> {
        if let (Value::Object(was), Value::Object(is)) = (was, is) {
            let below = |name: &str| match path {
                "" => name.to_owned(),
                _ => format!("{path}.{name}"),
            };
            return is
                .iter()
                .find_map(|(name, is)| at(&below(name), was.get(name)?, is));
        }
        (was != is).then(|| format!("has {path} {was}, and this run {is}"))
    }
    if was == is {
        return Ok(None);
    }
    // By way of the text, in which an `f32` is as short as in the file.
    let json = |line| serde_json::from_str(&serde_json::to_string(line)?);
    Ok(at("", &json(was)?, &json(is)?))
}
