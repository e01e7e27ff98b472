//! Features of a frozen encoder, computed once and kept on disk.
//!
//! One file holds F (N, D) of every view of every clip in half precision, with
//! the faces of that view. Records have a fixed length and lie at their number's
//! place, so that any of them is one read. Each ends in its number and a checksum,
//! written last: a record that is not whole counts as not computed.
//!
//! ```text
//! "MTCAEF02" · length of the header (u32) · header (JSON) · zeros to 4096·k
//! record (clip · (views + 1) + view):
//!     F: N·D × f16 · faces: T × 15 × f32 (1 or 0, box, landmarks)
//!     number (u32) · CRC-32 of all before it in the record (u32)
//! ```

use mtcae_core::files::{At, FileError};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use half::f16;
use half::slice::HalfFloatSliceExt;
use mtcae_core::Face;
use mtcae_nn::{Pass, on_pool};
use serde::{Deserialize, Serialize};

use crate::data::Dataset;
use crate::digest::Identity;
use crate::disk::{free_space, make_sure_of_room, read_at, write_at};
use crate::event::Watch;
use crate::prefetch::Prefetch;
use crate::start::Start;
use crate::view::{Frames, Viewer};
use crate::{EraseFill, Error, Event, Ranks, TrainConfig, random};

/// What a file of features begins with.
pub(crate) const MAGIC: &[u8; 8] = b"MTCAEF02";
/// The same of the version before, whose keys were made otherwise.
const BEFORE: &[u8; 8] = b"MTCAEF01";
/// Records begin at a multiple of this.
const ALIGN: usize = 4096;
/// Numbers of a face: whether there is one, box, landmarks.
const FACE: usize = 1 + 4 + 10;

/// What the file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// What the features were made of and with: see [`key`].
    key: String,
    clips: usize,
    views: usize,
    tokens: usize,
    width: usize,
    frames: usize,
}

impl Header {
    /// The file's name carries the key, so that others stay beside it.
    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("features-{}.cache", &self.key[..16]))
    }

    /// What the file begins with, up to the first record.
    fn start(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_vec(self).at(path)?;
        let mut start = MAGIC.to_vec();
        start.extend((json.len() as u32).to_le_bytes());
        start.extend(json);
        start.resize(start.len().next_multiple_of(ALIGN), 0);
        Ok(start)
    }

    fn records(&self) -> usize {
        self.clips * (self.views + 1)
    }

    /// Bytes of a record.
    fn record(&self) -> usize {
        2 * self.tokens * self.width + 4 * self.frames * FACE + 8
    }

    /// A record as it is written.
    fn bytes(&self, number: u64, features: &[f32], faces: &[Option<Face>]) -> Vec<u8> {
        let mut halves = vec![f16::ZERO; features.len()];
        halves.convert_from_f32_slice(features);
        let mut record = Vec::with_capacity(self.record());
        record.extend(halves.iter().flat_map(|h| h.to_le_bytes()));
        record.extend(faces.iter().flat_map(pack).flat_map(f32::to_le_bytes));
        record.extend((number as u32 + 1).to_le_bytes());
        record.extend(crc32fast::hash(&record).to_le_bytes());
        record
    }
}

/// Features on disk, read by position from any thread.
#[derive(Debug)]
pub struct FeatureCache {
    path: PathBuf,
    file: File,
    header: Header,
    /// Where the first record begins.
    base: u64,
}

/// A digest of everything the features depend on: the encoder's weights and config, what
/// they are computed on, the preprocessing, the views and what varies them, the clips and
/// their labels.
fn key(
    start: &Start,
    data: &Dataset,
    config: &TrainConfig,
    device: &Device,
) -> Result<String, Error> {
    let model = start.config();
    let mut identity = Identity::new("features", 2);
    identity.text(&start.encoder_digest()?);
    // What drops paths in training alone is no part of it.
    let encoder = model.encoder.with_drop_path(0.0);
    let encoder = encoder.as_ref().unwrap_or(&model.encoder);
    let fields = encoder.fields().map_err(|e| Error::Config {
        field: "encoder",
        reason: e.to_string(),
    })?;
    identity.text(encoder.family()).json(&fields);
    let preprocessing = &model.preprocessing;
    identity.text(&preprocessing.sampling.to_string());
    identity.text(&preprocessing.resize.to_string());
    identity
        .reals(&preprocessing.mean)
        .reals(&preprocessing.std);
    let crop = preprocessing.crop;
    if !crop.is_none() {
        identity.text(&crop.to_string());
        // Crops follow the face by them.
        for item in &data.items {
            item.times.iter().for_each(|&time| {
                identity.real(time);
            });
            for bound in [item.there.0, item.there.1] {
                identity.real(bound.unwrap_or(f64::INFINITY));
            }
        }
    }
    identity.text(if device.is_cpu() { "cpu" } else { "gpu" });
    identity.text(config.precision.name());
    identity.number(config.views as u64);
    if config.views > 0 {
        identity.number(config.flip.into()).real(config.crop);
        identity.real(config.jitter).real(config.trim);
        identity.number(config.seed);
        let more = |c: &TrainConfig| {
            [
                c.crop_scale.min,
                c.crop_scale.max,
                c.crop_shift,
                c.crop_turn,
                c.wide,
                c.squeeze,
                c.gamma,
                c.grey,
                c.blur,
                c.noise,
                c.erase,
            ]
        };
        // Keys of before these settings stay what they were.
        if more(config) != more(&TrainConfig::paper()) {
            more(config).iter().for_each(|&number| {
                identity.real(number);
            });
        }
        if config.rand_augment.is_on() {
            identity.text(&config.rand_augment.to_string());
        }
        if config.free_crop {
            identity.text("free crop");
        }
        if config.erase_fill != EraseFill::Colour {
            identity.text("erased by pixel");
        }
    }
    identity.number(data.items.len() as u64);
    for item in &data.items {
        identity.number(std::fs::metadata(&item.path).map_or(0, |m| m.len()));
        item.identify(&mut identity);
    }
    Ok(identity.finish())
}

impl FeatureCache {
    /// Opens the cache of this encoder, data and config below `folder`, and computes what
    /// it lacks. Where it lacks nothing the encoder is not read.
    ///
    /// The file's name carries the key, so that caches of other weights or clips
    /// stay beside it. Its size is announced by [`Event::Cache`] before anything is
    /// written.
    ///
    /// # Errors
    /// [`Error::Full`] when the disk has no room; [`Error::Model`] when the model takes
    /// several views of a clip; otherwise names the file at fault. What was computed
    /// before is kept.
    pub fn open(
        folder: &Path,
        start: &Start,
        data: &Arc<Dataset>,
        config: &TrainConfig,
        device: &Device,
        watch: &mut Watch<'_>,
    ) -> Result<Self, Error> {
        Self::open_together(folder, start, data, config, device, Ranks::ALONE, watch)
    }

    /// As [`Self::open`], by several processes: each computes some of the features, one writes
    /// them. The folder lies on a disk that all of them share.
    ///
    /// # Errors
    /// As [`Self::open`], and [`Error::Ranks`] when another has failed.
    pub fn open_together(
        folder: &Path,
        start: &Start,
        data: &Arc<Dataset>,
        config: &TrainConfig,
        device: &Device,
        ranks: Ranks<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Self, Error> {
        let header = ranks.together(Self::header(start, data, config, device))?;
        ranks.agree_on("features (encoder, clips and settings)", &header.key)?;
        let begun = ranks.by_first(|| Self::begin(folder, start, config, header.clone(), watch))?;
        let (own, missing) =
            begun.map_or((None, Vec::new()), |(own, missing)| (Some(own), missing));
        let missing = ranks.numbers_from_first(&missing)?;
        if !missing.is_empty() {
            let filling = Filling {
                own: own.as_ref(),
                header: &header,
                missing,
                ranks,
            };
            filling.run(start, data, config, device, watch)?;
        }
        // The first has written it, and the others find it.
        let opened = own.map_or_else(|| Self::written(folder, header), Ok);
        ranks.together(opened)
    }

    /// What the file of this encoder, data and config is.
    fn header(
        start: &Start,
        data: &Dataset,
        config: &TrainConfig,
        device: &Device,
    ) -> Result<Header, Error> {
        // Before anything is written.
        config.prepare(device)?;
        start.check()?;
        let encoder = &start.config().encoder;
        let output = encoder.output();
        Ok(Header {
            key: key(start, data, config, device)?,
            clips: data.items.len(),
            views: config.views,
            tokens: output.tokens,
            width: output.width,
            frames: encoder.input().frames,
        })
    }

    /// The file as another process has written it.
    fn written(folder: &Path, header: Header) -> Result<Self, Error> {
        let path = header.path(folder);
        let shared = |reason: &str| {
            let hint = "is the folder on a disk that all ranks share?";
            Error::File(FileError::new(&path, format!("{reason}: {hint}")))
        };
        let mut file = File::open(&path).map_err(|e| shared(&e.to_string()))?;
        let start = header.start(&path)?;
        let mut found = vec![0; start.len()];
        file.read_exact(&mut found).at(&path)?;
        let base = start.len() as u64;
        let cache = Self {
            path: path.clone(),
            file,
            header,
            base,
        };
        match found == start && cache.missing()?.is_empty() {
            true => Ok(cache),
            false => Err(shared("lacks what rank 0 has written")),
        }
    }

    /// The file, and the records that it lacks.
    fn begin(
        folder: &Path,
        start: &Start,
        config: &TrainConfig,
        header: Header,
        watch: &mut Watch<'_>,
    ) -> Result<(Self, Vec<u64>), Error> {
        let mut notices = vec!["the encoder is frozen: its features are computed once".to_owned()];
        notices.extend(config.idle_on(start.config().preprocessing.crop));
        let idle = config.idle_on_features();
        if !idle.is_empty() {
            let names = idle.join(", ");
            notices.push(format!(
                "cached features stay as they are: {names} cannot take effect"
            ));
        }
        notices.extend(of_before(folder));
        for notice in &notices {
            if watch(&Event::Notice(notice)).is_break() {
                return Err(Error::Cancelled);
            }
        }
        let path = header.path(folder);
        std::fs::create_dir_all(folder).at(folder)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .at(&path)?;
        let base = begin(&mut file, &path, &header)?;
        let cache = Self {
            path: path.clone(),
            file,
            header,
            base,
        };
        let missing = cache.missing()?;
        let need = (missing.len() * cache.header.record()) as u64;
        let free = free_space(folder)?;
        let event = Event::Cache {
            path: &cache.path,
            bytes: need,
            free,
            missing: missing.len(),
            records: cache.header.records(),
        };
        if watch(&event).is_break() {
            return Err(Error::Cancelled);
        }
        make_sure_of_room(&path, need, free)?;
        Ok((cache, missing))
    }

    /// Augmented views of each clip, besides the clip as it is.
    pub fn views(&self) -> usize {
        self.header.views
    }

    /// Tokens N of a view.
    pub fn tokens(&self) -> usize {
        self.header.tokens
    }

    /// A digest of all that the features depend on.
    pub(crate) fn key(&self) -> &str {
        &self.header.key
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// F (N · D values) of a view of a clip, and the face on each frame of it.
    ///
    /// # Errors
    /// Names the file when the record cannot be read or its checksum is wrong.
    pub fn read(&self, clip: usize, view: usize) -> Result<(Vec<f32>, Vec<Option<Face>>), Error> {
        let number = clip * (self.header.views + 1) + view;
        let mut record = vec![0; self.header.record()];
        self.read_at(&mut record, number, 0)?;
        let (body, sum) = record.split_at(record.len() - 4);
        if crc32fast::hash(body).to_le_bytes() != sum {
            return Err(self.fault(format!(
                "record {number} is damaged; delete the file to compute it again"
            )));
        }
        let values = self.header.tokens * self.header.width;
        let (features, rest) = body.split_at(2 * values);
        let mut halves = vec![f16::ZERO; values];
        for (half, bytes) in halves.iter_mut().zip(features.as_chunks().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        let mut out = vec![0.0; values];
        halves.convert_to_f32_slice(&mut out);
        let numbers: Vec<f32> = rest[..rest.len() - 4]
            .as_chunks()
            .0
            .iter()
            .map(|b| f32::from_le_bytes(*b))
            .collect();
        let faces = numbers.as_chunks::<FACE>().0.iter().map(unpack).collect();
        Ok((out, faces))
    }

    fn fault(&self, reason: String) -> Error {
        FileError::new(&self.path, reason).into()
    }

    /// The records that are not there. Their checksums are tested when they are
    /// read.
    fn missing(&self) -> Result<Vec<u64>, Error> {
        let length = self.file.metadata().at(&self.path)?.len();
        let mut missing = Vec::new();
        for number in 0..self.header.records() {
            let end = self.base + ((number + 1) * self.header.record()) as u64;
            let mut tail = [0; 8];
            if end <= length {
                self.read_at(&mut tail, number, self.header.record() - 8)?;
            }
            // The number is kept plus one, so that zeros are no record.
            if tail[..4] != (number as u32 + 1).to_le_bytes() || end > length {
                missing.push(number as u64);
            }
        }
        Ok(missing)
    }

    fn write(&self, number: u64, record: &[u8]) -> Result<(), Error> {
        let at = self.base + number * self.header.record() as u64;
        Ok(write_at(&self.file, record, at).at(&self.path)?)
    }

    fn read_at(&self, into: &mut [u8], number: usize, offset: usize) -> Result<(), Error> {
        let at = self.base + (number * self.header.record() + offset) as u64;
        Ok(read_at(&self.file, into, at).at(&self.path)?)
    }
}

/// Records under way into a file: computed by all ranks, written by the first.
struct Filling<'a> {
    /// The file, where this is the first.
    own: Option<&'a FeatureCache>,
    header: &'a Header,
    missing: Vec<u64>,
    ranks: Ranks<'a>,
}

impl Filling<'_> {
    fn run(
        &self,
        start: &Start,
        data: &Arc<Dataset>,
        config: &TrainConfig,
        device: &Device,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        let group = self.ranks.group();
        let (total, each) = (self.missing.len(), self.header.views + 1);
        // By turns.
        let own = self.missing.iter().skip(group.rank()).step_by(group.size());
        let numbers: Arc<Vec<u64>> = Arc::new(own.copied().collect());
        let engine = self.ranks.together(start.engine(config, device))?;
        let viewer = Viewer::to_train(start.config(), config)?;
        let decoder = viewer.clone();
        let (items, seed) = (data.clone(), config.seed);
        let (jobs, count) = (numbers.clone(), numbers.len());
        let mut views = Prefetch::new(count, config.workers, config.queue, move |job| {
            let number = jobs[job] as usize;
            let (clip, view) = (number / each, number % each);
            let item = &items.items[clip];
            match view {
                0 => decoder.plain(item),
                _ => {
                    let numbers = [seed, clip as u64, view as u64];
                    let mut rng = random::generator("cached view", &numbers);
                    let frames = decoder.decode_for_training(item, Some(&mut rng))?;
                    decoder.augmented(&frames, &mut rng)
                }
            }
        });
        let compute = |number: u64, view: Frames| -> Result<Vec<u8>, Error> {
            let view = [view];
            let input = viewer.form().input(&view)?.to_device(device)?;
            let features = on_pool(|| engine.encode(&input, &mut Pass::inference()))?;
            let features: Vec<f32> = features.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            let most = f16::MAX.to_f32();
            if let Some(value) = features.iter().find(|v| !v.is_finite() || v.abs() > most) {
                let reason = format!("a feature is {value}, which half precision cannot hold");
                return Err(Error::Clip {
                    file: data.items[number as usize / each].file.clone(),
                    source: Box::new(Error::Config {
                        field: "cache",
                        reason,
                    }),
                });
            }
            Ok(self.header.bytes(number, &features, &view[0].faces))
        };
        let mut written = Ok(());
        for (turn, round) in self.missing.chunks(group.size()).enumerate() {
            let record = match (round.get(group.rank()), written) {
                (Some(&number), Ok(())) => match views.next() {
                    Some(view) => view.and_then(|view| compute(number, view)),
                    None => Ok(Vec::new()),
                },
                (None, Ok(())) => Ok(Vec::new()),
                (_, Err(error)) => Err(error),
            };
            let records = self
                .ranks
                .to_first(record, round.len(), self.header.record())?;
            written = match self.own {
                Some(cache) => round
                    .iter()
                    .zip(&records)
                    .try_for_each(|(&number, record)| cache.write(number, record)),
                None => Ok(()),
            };
            let event = Event::Cached {
                done: (turn * group.size() + round.len()).min(total),
                total,
            };
            if watch(&event).is_break() {
                return Err(Error::Cancelled);
            }
        }
        let synced = written.and_then(|()| match self.own {
            Some(cache) => Ok(cache.file.sync_all().at(&cache.path)?),
            None => Ok(()),
        });
        self.ranks.together(synced)
    }
}

/// A line about caches that an earlier version wrote into a folder, which none of this
/// one reads.
fn of_before(folder: &Path) -> Option<String> {
    let files = std::fs::read_dir(folder).ok()?;
    let old = files.filter_map(|file| {
        let path = file.ok()?.path();
        let mut start = [0; 8];
        let mut file = mtcae_core::files::open(&path).ok()?;
        file.read_exact(&mut start).ok()?;
        (start == *BEFORE).then(|| path.display().to_string())
    });
    let old: Vec<String> = old.collect();
    (!old.is_empty()).then(|| {
        format!(
            "{}: features of an earlier version of this program, which are computed anew; \
             delete what you do not need",
            old.join(", ")
        )
    })
}

/// Writes the header of a new file or checks that of an old one; where the first
/// record begins.
fn begin(file: &mut File, path: &Path, header: &Header) -> Result<u64, Error> {
    let start = header.start(path)?;
    let mut found = vec![0; start.len()];
    let length = file.metadata().at(path)?.len();
    if length >= start.len() as u64 {
        file.read_exact(&mut found).at(path)?;
        if found != start {
            let reason = "is no feature cache of this run; delete or move it";
            return Err(FileError::new(path, reason).into());
        }
    } else {
        // New, or torn off before the first record: nothing is lost.
        file.set_len(0).at(path)?;
        file.write_all(&start).at(path)?;
    }
    Ok(start.len() as u64)
}

/// 1 and the coordinates; zeros for none. Scores, which nothing learns from, are left out.
fn pack(face: &Option<Face>) -> [f32; FACE] {
    let mut numbers = [0.0; FACE];
    if let Some(face) = face {
        numbers[0] = 1.0;
        numbers[1..5].copy_from_slice(&face.face_box.corners());
        numbers[5..].copy_from_slice(face.landmarks.points().as_flattened());
    }
    numbers
}

fn unpack(numbers: &[f32; FACE]) -> Option<Face> {
    let [there, x1, y1, x2, y2, points @ ..] = *numbers;
    (there != 0.0).then(|| Face {
        face_box: [x1, y1, x2, y2].into(),
        landmarks: std::array::from_fn(|k| [points[2 * k], points[2 * k + 1]]).into(),
        score: there,
    })
}
