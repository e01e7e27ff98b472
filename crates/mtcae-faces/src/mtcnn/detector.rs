//! The detector: pyramid, P-Net, R-Net, O-Net.

use std::ops::Range;
use std::path::Path;

use candle_core::{Device, Tensor};
use mtcae_core::Face;
use mtcae_kernels::area::{Crop, Picture, Resampler};
use mtcae_nn::Isa;
use mtcae_nn::weights::{Source, TensorFile};
use ndarray::{ArrayView3, ArrayView4, Axis};
use rayon::prelude::*;

use super::boxes::{Rect, argsort, pixels, regress, square, suppress, suppress_by_smaller};
use super::networks::{Networks, probability};
use super::pool::Pool;
use super::refine::Outputs;
use super::tensors::Tensors;
use super::{DetectorConfig, Keep, pnet};
use crate::Error;

/// Frames worked on together. More would gain nothing and cost memory.
const FRAMES: usize = 16;
/// Candidates of all frames whose planes are held at a time.
const CANDIDATES: usize = 1024;
/// Output rows and columns of P-Net that one task works on: tall tiles share more
/// of their rows, short ones share a small level among more threads. Of this width
/// the layers before the last have whole vectors too.
const TILE: (usize, usize) = (64, 254);
const SHORT_TILE: usize = 24;
/// Outputs from which a level is large.
const LARGE: usize = 40_000;

/// MTCNN's weights as `fixtures/mtcnn/convert.py` wrote them.
#[cfg(any(feature = "embedded-weights", test))]
static WEIGHTS: &[u8] = include_bytes!("../../weights/mtcnn.safetensors");

/// The embedded weights.
#[cfg(any(feature = "embedded-weights", test))]
pub(super) fn embedded() -> Result<mtcae_nn::weights::InMemory, Error> {
    let tensors = candle_core::safetensors::load_buffer(WEIGHTS, &Device::Cpu)
        .map_err(mtcae_nn::weights::Error::from)?;
    Ok(mtcae_nn::weights::InMemory::new(
        "the embedded MTCNN weights",
        tensors,
    ))
}

/// Finds faces and their landmarks in frames.
///
/// Work is cut into tasks over frames, pyramid levels and tiles for P-Net, and
/// over the candidates of all frames for R-Net and O-Net, and shared by rayon's
/// current pool. How it is cut does not depend on the pool, and no result
/// depends on its neighbours: the same faces to the bit, whatever the number of
/// threads and whether frames come alone or in a batch.
///
/// A frame smaller than the smallest face has none; facenet-pytorch fails there.
pub struct Detector {
    networks: Networks,
    /// The networks on a GPU, where that computes them.
    tensors: Option<Tensors>,
    config: DetectorConfig,
}

/// Frames of one size.
struct Frames<'a> {
    pictures: Vec<Picture<'a>>,
    /// Where a GPU computes: the networks, and the frames there.
    on_device: Option<(&'a Tensors, Tensor)>,
}

/// R-Net or O-Net.
#[derive(Clone, Copy)]
enum Stage {
    Refine,
    Output,
}

/// A level of the image pyramid.
struct Level {
    scale: f64,
    width: usize,
    height: usize,
}

/// What passes from network to network.
#[derive(Clone, Copy)]
struct Candidate {
    frame: usize,
    bbox: Rect,
}

impl Detector {
    /// A detector with the embedded weights.
    ///
    /// # Errors
    /// [`Error::Config`] when a setting cannot be used; [`Error::Isa`] as
    /// [`Isa::held`].
    #[cfg(feature = "embedded-weights")]
    pub fn new(config: DetectorConfig) -> Result<Self, Error> {
        Self::from_source(&embedded()?, config)
    }

    /// A detector with weights of a safetensors file.
    ///
    /// # Errors
    /// [`Error::Weights`] names the file and all tensors that are missing,
    /// unexpected or of another shape; [`Error::Config`] and [`Error::Isa`] as
    /// [`new`](Self::new).
    pub fn from_file(path: impl AsRef<Path>, config: DetectorConfig) -> Result<Self, Error> {
        Self::from_source(&TensorFile::open(path)?, config)
    }

    /// A detector with weights from anywhere.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_source(source: &dyn Source, config: DetectorConfig) -> Result<Self, Error> {
        config.check()?;
        Isa::held()?;
        Ok(Self {
            networks: Networks::load(source)?,
            tensors: None,
            config,
        })
    }

    /// The detector with its networks on a device. Candidates are sorted out on the CPU
    /// all the same. A GPU sums in the order of a CPU with fused multiply-adds, so that
    /// the same faces come out.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn to_device(self, device: &Device) -> Result<Self, Error> {
        let tensors = match device {
            Device::Cpu => None,
            _ => Some(Tensors::new(&self.networks, device)?),
        };
        Ok(Self { tensors, ..self })
    }

    /// The settings.
    pub fn config(&self) -> &DetectorConfig {
        &self.config
    }

    /// The faces of one frame (H, W, 3) in RGB, or (H, W, 1) in grey, upright; in its
    /// pixels, and with a score above 0.
    ///
    /// # Errors
    /// [`Error::Frame`] for another number of channels, [`Error::Device`] when the
    /// device fails.
    pub fn detect(&self, frame: ArrayView3<'_, u8>) -> Result<Vec<Face>, Error> {
        let faces = self.detect_batch(frame.insert_axis(Axis(0)))?;
        Ok(faces.into_iter().next().unwrap_or_default())
    }

    /// The faces of each of the frames (T, H, W, 3) in RGB, or (T, H, W, 1).
    ///
    /// # Errors
    /// As [`detect`](Self::detect).
    pub fn detect_batch(&self, frames: ArrayView4<'_, u8>) -> Result<Vec<Vec<Face>>, Error> {
        let (_, height, width, channels) = frames.dim();
        if channels != 3 && channels != 1 {
            return Err(Error::Frame { channels });
        }
        let mut found = Vec::with_capacity(frames.len_of(Axis(0)));
        for group in frames.axis_chunks_iter(Axis(0), FRAMES) {
            let count = group.len_of(Axis(0));
            if width == 0 || height == 0 {
                found.extend(std::iter::repeat_n(Vec::new(), count));
                continue;
            }
            let rgb = group.broadcast((count, height, width, 3));
            let data = match rgb.as_ref().and_then(|rgb| rgb.as_slice()) {
                Some(data) => std::borrow::Cow::Borrowed(data),
                None => rgb.unwrap_or(group).iter().copied().collect(),
            };
            let on_device = match &self.tensors {
                Some(tensors) => Some((tensors, tensors.upload(&data, [count, height, width])?)),
                None => None,
            };
            let frames = Frames {
                pictures: data
                    .chunks_exact(height * width * 3)
                    .map(|frame| Picture::new(frame, width, height))
                    .collect(),
                on_device,
            };
            found.extend(self.detect_group(&frames)?);
        }
        Ok(found)
    }

    /// The faces of a few frames.
    fn detect_group(&self, frames: &Frames<'_>) -> Result<Vec<Vec<Face>>, Error> {
        let pictures = &frames.pictures;
        let (width, height) = (pictures[0].width(), pictures[0].height());
        let [_, second, third] = self.config.thresholds;

        let proposed = self.propose(frames, &self.levels(width, height))?;

        let mut refined = vec![Vec::new(); pictures.len()];
        self.refine(Stage::Refine, frames, &proposed, |c, out| {
            let score = probability([out[0], out[1]]);
            if score > second {
                let offsets = [out[2], out[3], out[4], out[5]];
                refined[c.frame].push((c.bbox, score, offsets));
            }
        })?;
        let mut candidates = Vec::new();
        for (frame, found) in refined.iter().enumerate() {
            let boxes: Vec<(Rect, f32)> = found.iter().map(|&(b, s, _)| (b, s)).collect();
            candidates.extend(suppress(&boxes, 0.7).into_iter().map(|i| Candidate {
                frame,
                bbox: square(regress(found[i].0, found[i].2, 1.0)),
            }));
        }

        let mut faces = vec![Vec::new(); pictures.len()];
        self.refine(Stage::Output, frames, &candidates, |c, out| {
            let score = probability([out[0], out[1]]);
            if score > third {
                let b = c.bbox;
                let (w, h) = (b[2] - b[0] + 1.0, b[3] - b[1] + 1.0);
                faces[c.frame].push(Face {
                    face_box: regress(b, [out[2], out[3], out[4], out[5]], 1.0).into(),
                    landmarks: std::array::from_fn(|i| {
                        [w * out[6 + i] + b[0] - 1.0, h * out[11 + i] + b[1] - 1.0]
                    })
                    .into(),
                    score,
                });
            }
        })?;
        Ok(faces
            .into_iter()
            .map(|faces| {
                let boxes: Vec<(Rect, f32)> = faces
                    .iter()
                    .map(|f| (f.face_box.corners(), f.score))
                    .collect();
                let picked = suppress_by_smaller(&boxes, 0.7);
                let faces: Vec<Face> = picked.into_iter().map(|i| faces[i]).collect();
                self.keep(&faces, width, height)
            })
            .collect())
    }

    /// Sizes of the pyramid's levels, the largest first.
    fn levels(&self, width: usize, height: usize) -> Vec<Level> {
        let mut scale = 12.0 / self.config.min_face;
        let mut side = width.min(height) as f64 * scale;
        let mut levels = Vec::new();
        while side >= 12.0 {
            levels.push(Level {
                scale,
                width: (width as f64 * scale + 1.0) as usize,
                height: (height as f64 * scale + 1.0) as usize,
            });
            scale *= self.config.factor;
            side *= self.config.factor;
        }
        levels
    }

    /// P-Net over all levels of all frames: squares that may hold a face, frame by frame.
    fn propose(&self, frames: &Frames<'_>, levels: &[Level]) -> Result<Vec<Candidate>, Error> {
        let count = frames.pictures.len();
        let mut by_level = match &frames.on_device {
            Some((tensors, frames)) => self.windows_on_device(tensors, frames, levels)?,
            None => self.windows(&frames.pictures, levels),
        };
        // Within a level, then within a picture.
        by_level.par_iter_mut().for_each(|found| {
            found.sort_by_key(|p| (p.y, p.x));
            let boxes: Vec<(Rect, f32)> = found.iter().map(|p| (p.bbox, p.score)).collect();
            *found = suppress(&boxes, 0.5)
                .into_iter()
                .map(|i| found[i])
                .collect();
        });
        let of_frame = |frame: usize| {
            let found = by_level[frame * levels.len()..(frame + 1) * levels.len()].concat();
            let boxes: Vec<(Rect, f32)> = found.iter().map(|p| (p.bbox, p.score)).collect();
            suppress(&boxes, 0.7)
                .into_iter()
                .map(move |i| Candidate {
                    frame,
                    bbox: square(regress(found[i].bbox, found[i].offsets, 0.0)),
                })
                .collect::<Vec<_>>()
        };
        let candidates: Vec<Vec<Candidate>> = (0..count).into_par_iter().map(of_frame).collect();
        Ok(candidates.concat())
    }

    /// The windows that P-Net takes for faces, at [frame · levels + level], tile by tile.
    fn windows(&self, pictures: &[Picture<'_>], levels: &[Level]) -> Vec<Vec<Proposal>> {
        // A frame's tiles one after the other: its pixels stay in the cache meanwhile.
        let mut tiles = Vec::new();
        for frame in 0..pictures.len() {
            for (l, level) in levels.iter().enumerate() {
                let (height, width) = (pnet::output(level.height), pnet::output(level.width));
                let tall = if height * width < LARGE {
                    SHORT_TILE
                } else {
                    TILE.0
                };
                for rows in cut(height, tall) {
                    for columns in cut(width, TILE.1) {
                        tiles.push((l, frame, rows.clone(), columns));
                    }
                }
            }
        }
        let scratches = Pool::default();
        let found: Vec<Vec<Proposal>> = tiles
            .par_iter()
            .with_max_len(1)
            .map(|(l, frame, rows, columns)| {
                let area = (rows.clone(), columns.clone());
                scratches
                    .lend(|scratch| self.propose_in(pictures[*frame], &levels[*l], area, scratch))
            })
            .collect();
        let mut by_level: Vec<Vec<Proposal>> = Vec::new();
        by_level.resize_with(pictures.len() * levels.len(), Vec::new);
        for ((l, frame, ..), found) in tiles.iter().zip(found) {
            by_level[frame * levels.len() + l].extend(found);
        }
        by_level
    }

    /// As [`windows`](Self::windows), level by level on a device.
    fn windows_on_device(
        &self,
        tensors: &Tensors,
        frames: &Tensor,
        levels: &[Level],
    ) -> Result<Vec<Vec<Proposal>>, Error> {
        let mut by_level: Vec<Vec<Proposal>> = Vec::new();
        by_level.resize_with(frames.dims()[0] * levels.len(), Vec::new);
        for (l, level) in levels.iter().enumerate() {
            let judge = self.judge(level);
            tensors.propose(frames, (level.width, level.height), |frame, y, x, v| {
                by_level[frame * levels.len() + l].extend(judge(y, x, v));
            })?;
        }
        Ok(by_level)
    }

    /// P-Net over a tile of a level.
    fn propose_in(
        &self,
        picture: Picture<'_>,
        level: &Level,
        (rows, columns): (Range<usize>, Range<usize>),
        scratch: &mut pnet::Scratch,
    ) -> Vec<Proposal> {
        let mut resampler = Resampler::new(
            (picture.width(), picture.height()),
            (level.width, level.height),
            pnet::input_columns(&columns, level.width),
        );
        let judge = self.judge(level);
        let mut found = Vec::new();
        self.networks.pnet.tile(
            (level.height, level.width),
            (rows, columns),
            self.margin(),
            scratch,
            |y, row, pitch| resampler.planes(picture, y, row, pitch),
            |y, x, v| found.extend(judge(y, x, v)),
        );
        found
    }

    /// No score of P-Net whose logits differ by less can reach the threshold.
    fn margin(&self) -> f32 {
        let threshold = self.config.thresholds[0];
        (threshold / (1.0 - threshold)).ln() - 1e-3
    }

    /// What makes a proposal of an output of P-Net, where it is sure enough.
    fn judge(&self, level: &Level) -> impl Fn(usize, usize, [f32; 6]) -> Option<Proposal> + use<> {
        let threshold = self.config.thresholds[0];
        let scale = level.scale as f32;
        let margin = self.margin();
        move |y, x, v| {
            if v[1] - v[0] < margin {
                return None;
            }
            let score = probability([v[0], v[1]]);
            let corner = |i: usize, offset: f32| (((2 * i) as f32 + offset) / scale).floor();
            (score >= threshold).then(|| Proposal {
                y,
                x,
                bbox: [
                    corner(x, 1.0),
                    corner(y, 1.0),
                    corner(x, 12.0),
                    corner(y, 12.0),
                ],
                score,
                offsets: [v[2], v[3], v[4], v[5]],
            })
        }
    }

    /// Runs a network over the crops of all candidates, in chunks; `sink` gets the
    /// outputs in the candidates' order. Candidates outside of their frame are left out.
    fn refine(
        &self,
        stage: Stage,
        frames: &Frames<'_>,
        candidates: &[Candidate],
        mut sink: impl FnMut(&Candidate, &Outputs),
    ) -> Result<(), Error> {
        for batch in candidates.chunks(CANDIDATES) {
            let (inside, crops): (Vec<Candidate>, Vec<Crop>) = batch
                .iter()
                .filter_map(|&c| {
                    let picture = frames.pictures[c.frame];
                    let (x, y) = pixels(c.bbox, picture.width(), picture.height())?;
                    let crop = Crop {
                        picture: c.frame,
                        x: x.start,
                        y: y.start,
                        width: x.len(),
                        height: y.len(),
                    };
                    Some((c, crop))
                })
                .unzip();
            let outputs = match &frames.on_device {
                Some((tensors, frames)) => match stage {
                    Stage::Refine => tensors.rnet.run(frames, &crops)?,
                    Stage::Output => tensors.onet.run(frames, &crops)?,
                },
                None => self.outputs(stage, &frames.pictures, &crops),
            };
            for (candidate, out) in inside.iter().zip(&outputs) {
                sink(candidate, out);
            }
        }
        Ok(())
    }

    /// A network's outputs for crops of pictures.
    fn outputs(&self, stage: Stage, pictures: &[Picture<'_>], crops: &[Crop]) -> Vec<Outputs> {
        let network = match stage {
            Stage::Refine => &self.networks.rnet,
            Stage::Output => &self.networks.onet,
        };
        let side = network.side();
        network.run(crops.len(), |i, pixels| {
            let c = &crops[i];
            let crop = pictures[c.picture].crop(c.x..c.x + c.width, c.y..c.y + c.height);
            let mut resampler = Resampler::new((c.width, c.height), (side, side), 0..side);
            for (y, row) in pixels.chunks_exact_mut(side * 3).enumerate() {
                resampler.row(crop, y, row);
            }
        })
    }

    /// Orders a picture's faces and drops those not asked for.
    fn keep(&self, faces: &[Face], width: usize, height: usize) -> Vec<Face> {
        let from_centre = |f: &Face| {
            let b = f.face_box;
            (b.x1 + b.x2 - width as f32).hypot(b.y1 + b.y2 - height as f32)
        };
        // The greatest first, and of equals the last.
        let mut order = argsort(faces.iter().map(|f| match self.config.keep {
            Keep::All | Keep::Largest => f.face_box.area(),
            Keep::MostCentral => -from_centre(f),
            Keep::MostProbable => f.score,
        }));
        order.reverse();
        if self.config.keep != Keep::All {
            order.truncate(1);
        }
        order.into_iter().map(|i| faces[i]).collect()
    }
}

/// A window that P-Net takes for a face.
#[derive(Clone, Copy)]
struct Proposal {
    y: usize,
    x: usize,
    bbox: Rect,
    score: f32,
    offsets: [f32; 4],
}

/// Cuts `0..n` into nearly equal ranges of at most `size`.
fn cut(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let count = n.div_ceil(size);
    (0..count).map(move |i| n * i / count..n * (i + 1) / count)
}

#[cfg(test)]
mod tests {
    use mtcae_testing::devices;

    use super::*;

    /// A picture of the fixtures, (height, width, 3).
    fn picture(name: &str) -> ndarray::Array3<u8> {
        let path = mtcae_testing::fixtures().join(format!("mtcnn/{name}.png"));
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut data = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut data).unwrap();
        data.truncate(info.buffer_size());
        let shape = (info.height as usize, info.width as usize, 3);
        ndarray::Array3::from_shape_vec(shape, data).unwrap()
    }

    /// The two ways through the networks add in one order, on every device that fuses
    /// multiply-adds.
    #[test]
    fn tensors_find_the_same_faces_to_the_bit() {
        let five = picture("five");
        let (height, width, _) = five.dim();
        let mut frames = ndarray::Array4::<u8>::zeros((3, height, width, 3));
        for (i, mut frame) in frames.axis_iter_mut(Axis(0)).enumerate() {
            frame.assign(&five);
            frame.slice_mut(ndarray::s![.., ..i * 90, ..]).fill(90);
        }
        let detector =
            Detector::from_source(&embedded().unwrap(), DetectorConfig::default()).unwrap();
        let want = detector.detect_batch(frames.view()).unwrap();
        assert!(want[0].len() == 5 && want[2].len() < 5);
        for device in devices() {
            let tensors = Tensors::new(&detector.networks, &device).unwrap();
            let detector = Detector {
                tensors: Some(tensors),
                ..Detector::from_source(&embedded().unwrap(), DetectorConfig::default()).unwrap()
            };
            assert_eq!(
                detector.detect_batch(frames.view()).unwrap(),
                want,
                "{device:?}"
            );
            // No face, no candidate, no level.
            for (h, w) in [(60, 80), (5, 9)] {
                let empty = ndarray::Array3::zeros((h, w, 3));
                assert!(detector.detect(empty.view()).unwrap().is_empty());
            }
        }
    }
}
