//! The way from a video file, a clip or a tensor to a prediction.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use mtcae_core::Crop;
use mtcae_model::{Checkpoint, Config, Engine, Outputs};
use mtcae_nn::{Pass, Precision, device, ops};
use mtcae_video::{Clip, ClipOptions, Geometry, Normalization, TubeShape, tubes_into};

use crate::prediction::Raw;
use crate::{Error, FaceWarning, Prediction, Warning};

/// A model with everything around it: preprocessing, class names and the threads
/// it runs on. It can be shared between threads.
#[derive(Clone)]
pub struct Pipeline {
    engine: Arc<Engine>,
    clip: ClipOptions,
    crop: Crop,
    normalization: Normalization,
    /// The pool of `with_threads`; otherwise rayon's current one is used. Files are
    /// read on it too: FFmpeg takes as many threads as it has.
    pool: Option<Arc<rayon::ThreadPool>>,
    decode_ahead: bool,
}

/// How far a long video is, given to the caller's callback after each window.
#[cfg(feature = "ffmpeg")]
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Windows done.
    pub windows: u64,
    /// Where the last of them ends, in seconds from the start.
    pub seconds: f64,
    /// Length of the video in seconds, where the file says it.
    pub duration: Option<f64>,
}

/// Windows that slide over a video.
#[cfg(feature = "ffmpeg")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Windowing {
    /// Length of a window in seconds.
    pub length: f64,
    /// From one window's start to the next one's, in seconds.
    pub stride: f64,
    /// Windows that are read together, and clips that go through the model at once;
    /// 1 takes the least memory.
    pub batch: usize,
}

impl Pipeline {
    /// Loads a checkpoint folder (`config.json` and `model.safetensors`), or a published
    /// classifier that names its classes, onto a device. On the CPU the weights are packed
    /// for it as they are read. What a file of others does not say is given by
    /// [`Checkpoint::open_given`], whose engine goes into [`Self::new`].
    ///
    /// # Errors
    /// Names the file, and the field or the tensors at fault.
    pub fn load(folder: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        Self::load_in(folder, device, Precision::F32)
    }

    /// As [`Self::load`], computing in a precision.
    ///
    /// # Errors
    /// As [`Self::load`], and when the device does not compute in it.
    pub fn load_in(
        folder: impl AsRef<Path>,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(folder)?;
        Ok(Self::new(checkpoint.engine(device, precision)?))
    }

    /// As [`Self::load`], without packing: the model on Candle, which can record
    /// named intermediates.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_model(folder: impl AsRef<Path>, device: &Device) -> Result<Self, Error> {
        let model = Checkpoint::open(folder)?.model(device)?;
        Ok(Self::new(Engine::on_candle(&model, device)))
    }

    /// A pipeline around an engine that was built or loaded before.
    pub fn new(engine: Engine) -> Self {
        let config = engine.config();
        let (preprocessing, input) = (&config.preprocessing, config.encoder.input());
        let (side, crop) = (input.size as u32, preprocessing.crop);
        let clip = ClipOptions {
            frames: input.frames,
            size: (side, side),
            sampling: preprocessing.sampling,
            resize: preprocessing.resize,
            ..ClipOptions::default()
        };
        let normalization = Normalization {
            mean: preprocessing.mean,
            std: preprocessing.std,
        };
        Self {
            decode_ahead: !engine.device().is_cpu(),
            engine: Arc::new(engine),
            clip,
            crop,
            normalization,
            pool: None,
        }
    }

    /// Reads files and computes on a pool of its own with this many threads. The
    /// threads that FFmpeg decodes on, as many, rest while the model computes.
    ///
    /// With [`Self::load_model`], Candle's elementwise operations
    /// on large tensors leave the pool: Candle spreads them over threads of its own,
    /// whose number only the environment variable `CANDLE_NUM_THREADS` sets.
    ///
    /// # Errors
    /// When `threads` is 0 or the system refuses to start them.
    pub fn with_threads(mut self, threads: usize) -> Result<Self, Error> {
        let fault = |reason: String| Error::Option {
            option: "threads",
            reason,
        };
        if threads == 0 {
            return Err(fault("must be at least 1".to_owned()));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        self.pool = Some(Arc::new(pool.map_err(|e| fault(e.to_string()))?));
        Ok(self)
    }

    /// Reads files and computes on a pool that is there already, as [`Self::with_threads`].
    #[must_use]
    pub fn with_pool(mut self, pool: Arc<rayon::ThreadPool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// The model's configuration.
    pub fn config(&self) -> &Config {
        self.engine.config()
    }

    /// What computes.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How a clip is made of a video for this model.
    pub fn clip_options(&self) -> &ClipOptions {
        &self.clip
    }

    /// Takes clips in another way than the checkpoint says: other sampling,
    /// another part of the frame, another stretch of time. Frames and size stay
    /// the model's.
    #[must_use]
    pub fn with_clip_options(mut self, options: ClipOptions) -> Self {
        let (frames, size) = (self.clip.frames, self.clip.size);
        self.clip = ClipOptions {
            frames,
            size,
            ..options
        };
        self
    }

    /// What part of a frame the model is shown.
    pub fn crop(&self) -> Crop {
        self.crop
    }

    /// Shows the model another part of a frame than its config says.
    #[must_use]
    pub fn with_crop(mut self, crop: Crop) -> Self {
        self.crop = crop;
        self
    }

    /// Whether the next batch of a long video's windows is decoded while one is
    /// computed, which takes the memory of one more batch. Otherwise by turns. So it
    /// is on a GPU unless it is said here; a CPU has its hands full either way.
    #[must_use]
    pub fn with_decoding_ahead(mut self, ahead: bool) -> Self {
        self.decode_ahead = ahead;
        self
    }

    /// What the model says of a clip of its own number of frames and size.
    ///
    /// # Errors
    /// [`Error::Clip`] when the clip has another size, [`Error::Uneven`] when a frame
    /// lacks its time or number, [`Error::NotFinite`] when what the model says is no
    /// number.
    pub fn predict_clip(&self, clip: &Clip) -> Result<Prediction, Error> {
        self.predict_traced(clip, &mut Pass::inference())
    }

    /// As [`Self::predict_clip`], recording named intermediates in `pass`. Packed
    /// weights keep none but the tubes: load the model by [`Self::load_model`].
    ///
    /// # Errors
    /// As [`Self::predict_clip`].
    pub fn predict_traced(&self, clip: &Clip, pass: &mut Pass) -> Result<Prediction, Error> {
        let mut predictions = self.run(std::slice::from_ref(clip), pass)?;
        Ok(predictions.remove(0))
    }

    /// What the model says of several clips, in one batch.
    ///
    /// # Errors
    /// As [`Self::predict_clip`].
    pub fn predict_clips(&self, clips: &[Clip]) -> Result<Vec<Prediction>, Error> {
        if clips.is_empty() {
            return Ok(Vec::new());
        }
        self.run(clips, &mut Pass::inference())
    }

    /// Head outputs of normalised clips (B, T, C, H, W), in fractions of the frame.
    ///
    /// # Errors
    /// When the clips have another shape or type than the model takes.
    pub fn predict_tensor(&self, clips: &Tensor) -> Result<Outputs, Error> {
        self.install(|| {
            let input = self.config().encoder.input().cut(clips);
            let input = input.map_err(mtcae_model::Error::from)?;
            Ok(self.engine.run(&input, &mut Pass::inference())?)
        })
    }

    /// Normalised input (B, …) of clips, as the encoder takes it: tubes (B, N, C·t·p·p) or
    /// frames (B, T, C, H, W).
    ///
    /// # Errors
    /// As [`Self::predict_clip`].
    pub fn input(&self, clips: &[Clip]) -> Result<Tensor, Error> {
        let input = self.config().encoder.input();
        let (tubelet, patch) = input.tube();
        let shape = TubeShape { tubelet, patch };
        let expected = [input.frames, input.size, input.size, input.channels];
        for clip in clips {
            let (times, indices) = (clip.times.len(), clip.indices.len());
            if (times, indices) != (clip.len(), clip.len()) {
                return Err(Error::Uneven {
                    frames: clip.len(),
                    times,
                    indices,
                });
            }
            if clip.frames.shape() != expected {
                let size = |s: &[usize]| format!("{}×{}×{}", s[0], s[1], s[2]);
                return Err(Error::Clip {
                    expected: size(&expected),
                    found: size(clip.frames.shape()),
                });
            }
        }
        let size = [&[clips.len()], &input.shape()[..]].concat();
        let device = self.engine.device();
        if !device.is_cpu() {
            // The clips cross the bus in 8 bits and become tubes there.
            let pixels: Vec<u8> = clips.iter().flat_map(|c| &c.frames).copied().collect();
            let table = self.normalization.table();
            let dtype = self.engine.precision().dtype();
            let tubes =
                ops::tubes_of_levels(pixels, expected, &table, input.tube(), dtype, device)?;
            return Ok(tubes.reshape(size)?);
        }
        let mut data = vec![0.0; clips.len() * input.numbers()];
        for (clip, out) in clips.iter().zip(data.chunks_exact_mut(input.numbers())) {
            tubes_into(clip.frames.view(), &self.normalization, shape, out)?;
        }
        Ok(Tensor::from_vec(data, size, device)?)
    }

    /// Whether a clip shows what this pipeline itself takes of a frame, and no part that
    /// somebody else chose.
    fn is_of_whole_frames(&self, clip: &Clip) -> bool {
        if !clip.squares.is_empty() {
            return false;
        }
        let whole = Geometry {
            crop: None,
            ..clip.source
        };
        let parts = whole.parts(&self.clip.resize, self.clip.size);
        parts.is_ok_and(|parts| parts.contains(&clip.source.crop))
    }

    fn run(&self, clips: &[Clip], pass: &mut Pass) -> Result<Vec<Prediction>, Error> {
        self.run_batch(clips, pass).map_err(|error| {
            let free =
                device::memory(self.engine.device()).filter(|_| device::is_out_of_memory(&error));
            let Some((free, _)) = free else {
                return error;
            };
            let element = self.engine.precision().dtype().size_in_bytes();
            let clip = self.config().activation_bytes(element).max(1);
            Error::OutOfMemory {
                batch: clips.len(),
                fits: (free / clip).min(clips.len().saturating_sub(1)),
                source: Box::new(error),
            }
        })
    }

    fn run_batch(&self, clips: &[Clip], pass: &mut Pass) -> Result<Vec<Prediction>, Error> {
        self.install(|| {
            let tubes = self.input(clips)?;
            pass.record(|| "tubes".to_owned(), &tubes);
            let outputs = self.engine.run(&tubes, pass)?;
            let config = self.config();
            let probabilities = outputs.probabilities()?.to_vec2()?;
            let boxes: Option<Vec<Vec<Vec<f32>>>> =
                outputs.boxes.map(|t| t.to_vec3()).transpose()?;
            let landmarks = match outputs.landmarks {
                Some(t) => (0..clips.len())
                    .map(|b| t.get(b)?.to_vec3().map(Some))
                    .collect::<candle_core::Result<_>>()?,
                None => vec![None; clips.len()],
            };
            let units: Option<Vec<Vec<Vec<f32>>>> =
                outputs.action_units.map(|t| t.to_vec3()).transpose()?;
            let mut boxes = boxes.map(Vec::into_iter);
            let mut units = units.map(Vec::into_iter);
            let raws =
                probabilities
                    .into_iter()
                    .zip(landmarks)
                    .map(|(probabilities, landmarks)| Raw {
                        boxes: boxes.as_mut().and_then(Iterator::next),
                        landmarks,
                        action_units: units.as_mut().and_then(Iterator::next),
                        probabilities,
                    });
            let predictions = clips.iter().zip(raws).map(|(clip, raw)| {
                if let Some(head) = raw.not_finite() {
                    return Err(Error::NotFinite { head });
                }
                let mut prediction = Prediction::new(clip, raw, config);
                if !config.preprocessing.crop.is_none() && self.is_of_whole_frames(clip) {
                    let warning = Warning::Face(FaceWarning::NotCropped);
                    prediction.warnings.push(warning);
                }
                Ok(prediction)
            });
            predictions.collect()
        })
    }

    /// Runs on the pipeline's own pool, where it has one.
    pub(crate) fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }
}

#[cfg(feature = "ffmpeg")]
mod files {
    use std::ops::ControlFlow;
    use std::sync::mpsc::sync_channel;

    use mtcae_video::{Video, WindowClip, WindowOptions};

    use super::{Clip, Error, Path, Pipeline, Prediction, Progress, Windowing};
    use crate::Timeline;

    impl Pipeline {
        /// What the model says of a video or image file. Where sampling and resizing give
        /// several views of a video ([`ClipOptions::most_views`](super::ClipOptions::most_views)), their probabilities are
        /// averaged; of the crops of a clip, boxes and landmarks have the median of each
        /// coordinate. A model that sees crops is shown one to the subject's face, which a
        /// [`FaceFinder`](crate::FaceFinder) of its own finds on the CPU; without the feature
        /// `faces`, it is shown the whole picture, and a warning says so.
        ///
        /// # Errors
        /// One line that names the file and its fault.
        pub fn predict(&self, path: impl AsRef<Path>) -> Result<Prediction, Error> {
            let path = path.as_ref();
            #[cfg(feature = "faces")]
            if !self.crop.is_none() {
                return own_finder()?.predict(self, path);
            }
            self.predict_views(path, &self.read(path)?)
        }

        /// What [`Self::predict`] says of a file whose clips were read before, as
        /// [`Self::read`] gives them: neighbours that show other parts of the same frames
        /// are crops of one clip.
        ///
        /// # Errors
        /// One line that names the file and its fault.
        pub fn predict_views(
            &self,
            path: impl AsRef<Path>,
            views: &[Clip],
        ) -> Result<Prediction, Error> {
            let path = path.as_ref();
            let none = || Error::Option {
                option: "sampling",
                reason: "gives no clip".to_owned(),
            };
            let views = views.iter().map(|clip| self.predict_clip(clip));
            let merged = views
                .collect::<Result<Vec<_>, _>>()
                .and_then(|views| Prediction::merge(views, self.config()).ok_or_else(none));
            let mut prediction = merged.map_err(|e| e.of(path))?;
            prediction.file = Some(path.to_owned());
            Ok(prediction)
        }

        /// The clips that a model of whole frames would look at: one, or several views in the
        /// order of [`Video::clips`]. Crops to a face are a
        /// [`FaceFinder`](crate::FaceFinder)'s.
        ///
        /// # Errors
        /// One line that names the file and its fault.
        pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<Clip>, Error> {
            self.read_of(&mut self.open(path)?)
        }

        /// Slides a window over a video. Several views of a window are made one answer as
        /// [`Self::predict`] does. Memory does not grow with the
        /// video's length, but for the predictions themselves. On a GPU the next batch of
        /// windows is decoded while one is computed ([`Pipeline::with_decoding_ahead`]).
        ///
        /// `progress` is called after each batch of windows; when it breaks, the
        /// work stops with [`Error::Cancelled`].
        ///
        /// # Errors
        /// One line that names the file and its fault, or [`Error::Cancelled`].
        pub fn predict_windows(
            &self,
            path: impl AsRef<Path>,
            windowing: &Windowing,
            progress: impl FnMut(Progress) -> ControlFlow<()>,
        ) -> Result<Timeline, Error> {
            #[cfg(feature = "faces")]
            if !self.crop.is_none() {
                return own_finder()?.predict_windows(self, path, windowing, progress);
            }
            let video = self.open(path)?;
            self.predict_windows_of(video, windowing, progress)
        }

        /// As [`Self::predict_windows`], of a video that was [opened](Self::open)
        /// before.
        ///
        /// # Errors
        /// As [`Self::predict_windows`].
        pub fn predict_windows_of(
            &self,
            video: Video,
            windowing: &Windowing,
            mut progress: impl FnMut(Progress) -> ControlFlow<()>,
        ) -> Result<Timeline, Error> {
            self.tell_windows_of(video, windowing, |reached, _| progress(reached))
        }

        /// As [`Self::predict_windows_of`], whose callback gets the predictions of each batch
        /// as well, as soon as they are there.
        ///
        /// # Errors
        /// As [`Self::predict_windows`].
        pub fn tell_windows_of(
            &self,
            video: Video,
            windowing: &Windowing,
            mut tell: impl FnMut(Progress, &[Prediction]) -> ControlFlow<()>,
        ) -> Result<Timeline, Error> {
            let path = video.path().to_owned();
            let path = path.as_path();
            if windowing.batch == 0 {
                return Err(Error::Option {
                    option: "batch",
                    reason: "must be at least 1".to_owned(),
                });
            }
            let duration = video.info().duration;
            let options = WindowOptions {
                length: windowing.length,
                stride: windowing.stride,
                clip: self.clip.clone(),
            };
            let mut windows = self.install(|| video.windows(&options))?;
            let decode = || -> Result<Vec<WindowClip>, Error> {
                let batch = self.install(|| {
                    let next = windows.by_ref().take(windowing.batch);
                    next.collect::<Result<_, _>>()
                });
                Ok(batch?)
            };
            let mut predictions: Vec<Prediction> = Vec::new();
            let compute = |batch: Vec<WindowClip>| {
                let bounds = batch.iter().map(|w| (w.start, w.end, w.views.len()));
                let bounds: Vec<(f64, f64, usize)> = bounds.collect();
                let clips: Vec<Clip> = batch.into_iter().flat_map(|w| w.views).collect();
                let mut said = Vec::with_capacity(clips.len());
                for clips in clips.chunks(windowing.batch) {
                    said.extend(self.predict_clips(clips).map_err(|e| e.of(path))?);
                }
                let mut said = said.into_iter();
                let before = predictions.len();
                for (start, end, views) in bounds {
                    let views = said.by_ref().take(views).collect();
                    if let Some(mut prediction) = Prediction::merge(views, self.config()) {
                        (prediction.start, prediction.end) = (start, end);
                        prediction.file = Some(path.to_owned());
                        predictions.push(prediction);
                    }
                }
                let done = predictions.len() as u64;
                let seconds = predictions.last().map_or(0.0, |p| p.end);
                let reached = Progress {
                    windows: done,
                    seconds,
                    duration,
                };
                match tell(reached, &predictions[before..]) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(Error::Cancelled { done }),
                }
            };
            in_turns(self.decode_ahead, decode, compute)?;
            Timeline::new(windowing.length, windowing.stride, predictions)
        }

        /// Opens a file with as many threads to decode it as the pipeline has.
        ///
        /// # Errors
        /// One line that names the file and its fault.
        pub fn open(&self, path: impl AsRef<Path>) -> Result<Video, Error> {
            let path = path.as_ref();
            Ok(self.install(|| Video::open(path))?)
        }

        /// The clips that the model would look at in an open video, as [`Self::read`].
        ///
        /// # Errors
        /// One line that names the file and its fault.
        pub fn read_of(&self, video: &mut Video) -> Result<Vec<Clip>, Error> {
            Ok(self.install(|| video.clips(&self.clip))?)
        }
    }

    /// What looks for faces where nobody gave one.
    #[cfg(feature = "faces")]
    fn own_finder() -> Result<crate::FaceFinder, Error> {
        crate::FaceFinder::new(&candle_core::Device::Cpu, crate::DetectAt::Source, None)
    }

    /// Gives `compute` what `decode` makes until that is empty; with `ahead`, `decode`
    /// has a thread of its own and is one batch ahead.
    fn in_turns<T: Send>(
        ahead: bool,
        mut decode: impl FnMut() -> Result<Vec<T>, Error> + Send,
        mut compute: impl FnMut(Vec<T>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if !ahead {
            loop {
                match decode()? {
                    batch if batch.is_empty() => return Ok(()),
                    batch => compute(batch)?,
                }
            }
        }
        std::thread::scope(|scope| {
            // Without room a batch waits in the hands of the thread that made it.
            let (sender, batches) = sync_channel(0);
            scope.spawn(move || {
                loop {
                    let batch = decode();
                    let last = batch.as_ref().map_or(true, Vec::is_empty);
                    // Nobody listens any more where the work was stopped.
                    if sender.send(batch).is_err() || last {
                        return;
                    }
                }
            });
            for batch in batches {
                match batch? {
                    batch if batch.is_empty() => break,
                    batch => compute(batch)?,
                }
            }
            Ok(())
        })
    }
}
