//! The detector: pyramid, P-Net, R-Net, O-Net.

use std::ops::Range;
use std::path::Path;

use mtcae_kernels::area::{Picture, Resampler};
use mtcae_nn::weights::{Mapped, Source};
use ndarray::{ArrayView3, ArrayView4, Axis};
use rayon::prelude::*;

use super::boxes::{Rect, descending, pixels, regress, square, suppress, suppress_by_smaller};
use super::networks::{Networks, probability};
use super::refine::{self, Outputs, Refiner};
use super::{DetectorConfig, Face, Keep, pnet};
use crate::Error;

/// Frames worked on together. More would gain nothing and cost memory.
const FRAMES: usize = 16;
/// Crops of R-Net and O-Net that one task works on.
const RNET_CROPS: usize = 12;
const ONET_CROPS: usize = 4;
/// Candidates of all frames whose results are held at a time.
const CANDIDATES: usize = 4096;
/// Output rows and columns of P-Net that one task works on: tall tiles share more
/// of their rows, short ones share a small level among more threads.
const TILE: (usize, usize) = (64, 256);
const SHORT_TILE: usize = 24;
/// Outputs from which a level is large.
const LARGE: usize = 40_000;

/// MTCNN's weights as `fixtures/mtcnn/convert.py` wrote them.
#[cfg(any(feature = "embedded-weights", test))]
static WEIGHTS: &[u8] = include_bytes!("../../weights/mtcnn.safetensors");

/// The embedded weights.
#[cfg(any(feature = "embedded-weights", test))]
pub(super) fn embedded() -> Result<mtcae_nn::weights::InMemory, Error> {
    let tensors = candle_core::safetensors::load_buffer(WEIGHTS, &candle_core::Device::Cpu)
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
    config: DetectorConfig,
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
    /// [`Error::Config`] when a setting cannot be used.
    #[cfg(feature = "embedded-weights")]
    pub fn new(config: DetectorConfig) -> Result<Self, Error> {
        Self::from_source(&embedded()?, config)
    }

    /// A detector with weights of a safetensors file.
    ///
    /// # Errors
    /// [`Error::Weights`] names the file and all tensors that are missing,
    /// unexpected or of another shape; [`Error::Config`] as [`new`](Self::new).
    pub fn from_file(path: impl AsRef<Path>, config: DetectorConfig) -> Result<Self, Error> {
        Self::from_source(&Mapped::open(path)?, config)
    }

    /// A detector with weights from anywhere.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_source(source: &dyn Source, config: DetectorConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            networks: Networks::load(source)?,
            config,
        })
    }

    /// The settings.
    pub fn config(&self) -> &DetectorConfig {
        &self.config
    }

    /// The faces of one frame (H, W, 3) in RGB, or (H, W, 1) in grey, upright.
    ///
    /// # Errors
    /// [`Error::Frame`] for another number of channels.
    pub fn detect(&self, frame: ArrayView3<'_, u8>) -> Result<Vec<Face>, Error> {
        let faces = self.detect_batch(frame.insert_axis(Axis(0)))?;
        Ok(faces.into_iter().next().unwrap_or_default())
    }

    /// The faces of each of the frames (T, H, W, 3) in RGB, or (T, H, W, 1).
    ///
    /// # Errors
    /// [`Error::Frame`] for another number of channels.
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
            let pictures: Vec<Picture<'_>> = data
                .chunks_exact(height * width * 3)
                .map(|frame| Picture::new(frame, width, height))
                .collect();
            found.extend(self.detect_group(&pictures));
        }
        Ok(found)
    }

    /// The faces of a few pictures of one size.
    fn detect_group(&self, pictures: &[Picture<'_>]) -> Vec<Vec<Face>> {
        let (width, height) = (pictures[0].width(), pictures[0].height());
        let [_, second, third] = self.config.thresholds;

        let proposed = self.propose(pictures, &self.levels(width, height));

        let rnet = &self.networks.rnet;
        let mut refined = vec![Vec::new(); pictures.len()];
        self.refine(rnet, RNET_CROPS, pictures, &proposed, |c, out| {
            let score = probability([out[0], out[1]]);
            if score > second {
                let offsets = [out[2], out[3], out[4], out[5]];
                refined[c.frame].push((c.bbox, score, offsets));
            }
        });
        let mut candidates = Vec::new();
        for (frame, found) in refined.iter().enumerate() {
            let boxes: Vec<(Rect, f32)> = found.iter().map(|&(b, s, _)| (b, s)).collect();
            candidates.extend(suppress(&boxes, 0.7).into_iter().map(|i| Candidate {
                frame,
                bbox: square(regress(found[i].0, found[i].2, 1.0)),
            }));
        }

        let onet = &self.networks.onet;
        let mut faces = vec![Vec::new(); pictures.len()];
        self.refine(onet, ONET_CROPS, pictures, &candidates, |c, out| {
            let score = probability([out[0], out[1]]);
            if score > third {
                let b = c.bbox;
                let (w, h) = (b[2] - b[0] + 1.0, b[3] - b[1] + 1.0);
                faces[c.frame].push(Face {
                    bbox: regress(b, [out[2], out[3], out[4], out[5]], 1.0),
                    score,
                    landmarks: std::array::from_fn(|i| {
                        [w * out[6 + i] + b[0] - 1.0, h * out[11 + i] + b[1] - 1.0]
                    }),
                });
            }
        });
        faces
            .into_iter()
            .map(|faces| {
                let boxes: Vec<(Rect, f32)> = faces.iter().map(|f| (f.bbox, f.score)).collect();
                let picked = suppress_by_smaller(&boxes, 0.7);
                let faces = picked.into_iter().map(|i| faces[i]).collect();
                self.keep(faces, width, height)
            })
            .collect()
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

    /// P-Net over all levels of all pictures: squares that may hold a face,
    /// picture by picture.
    fn propose(&self, pictures: &[Picture<'_>], levels: &[Level]) -> Vec<Candidate> {
        let mut tiles = Vec::new();
        for (l, level) in levels.iter().enumerate() {
            let (height, width) = (pnet::output(level.height), pnet::output(level.width));
            let tall = if height * width < LARGE {
                SHORT_TILE
            } else {
                TILE.0
            };
            for frame in 0..pictures.len() {
                for rows in cut(height, tall) {
                    for columns in cut(width, TILE.1) {
                        tiles.push((l, frame, rows.clone(), columns));
                    }
                }
            }
        }
        let found: Vec<Vec<Proposal>> = tiles
            .par_iter()
            .with_max_len(1)
            .map_init(
                pnet::Scratch::default,
                |scratch, (l, frame, rows, columns)| {
                    let area = (rows.clone(), columns.clone());
                    self.propose_in(pictures[*frame], &levels[*l], area, scratch)
                },
            )
            .collect();
        let mut by_level: Vec<Vec<Proposal>> = Vec::new();
        by_level.resize_with(pictures.len() * levels.len(), Vec::new);
        for ((l, frame, ..), found) in tiles.iter().zip(found) {
            by_level[frame * levels.len() + l].extend(found);
        }
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
        let frames: Vec<Vec<Candidate>> =
            (0..pictures.len()).into_par_iter().map(of_frame).collect();
        frames.concat()
    }

    /// P-Net over a tile of a level.
    fn propose_in(
        &self,
        picture: Picture<'_>,
        level: &Level,
        (rows, columns): (Range<usize>, Range<usize>),
        scratch: &mut pnet::Scratch,
    ) -> Vec<Proposal> {
        let threshold = self.config.thresholds[0];
        let scale = level.scale as f32;
        let mut resampler = Resampler::new(
            (picture.width(), picture.height()),
            (level.width, level.height),
            pnet::input_columns(&columns, level.width),
        );
        // No score whose logits differ by less can reach the threshold.
        let margin = (threshold / (1.0 - threshold)).ln() - 1e-3;
        let mut found = Vec::new();
        self.networks.pnet.tile(
            (level.height, level.width),
            (rows, columns),
            scratch,
            |y, row| resampler.row(picture, y, row),
            |y, x, v| {
                if v[1] - v[0] < margin {
                    return;
                }
                let score = probability([v[0], v[1]]);
                if score >= threshold {
                    let corner = |i: usize, offset: f32| ((2 * i) as f32 + offset) / scale;
                    found.push(Proposal {
                        y,
                        x,
                        bbox: [
                            corner(x, 1.0).floor(),
                            corner(y, 1.0).floor(),
                            corner(x, 12.0).floor(),
                            corner(y, 12.0).floor(),
                        ],
                        score,
                        offsets: [v[2], v[3], v[4], v[5]],
                    });
                }
            },
        );
        found
    }

    /// Runs a network over the crops of all candidates, in chunks; `sink` gets
    /// the outputs in the candidates' order. Candidates outside of their picture
    /// are left out.
    fn refine(
        &self,
        network: &Refiner,
        crops: usize,
        pictures: &[Picture<'_>],
        candidates: &[Candidate],
        mut sink: impl FnMut(&Candidate, &Outputs),
    ) {
        let side = network.side();
        for batch in candidates.chunks(CANDIDATES) {
            let inside: Vec<(Candidate, Picture<'_>)> = batch
                .iter()
                .filter_map(|&c| {
                    let picture = pictures[c.frame];
                    let (x, y) = pixels(c.bbox, picture.width(), picture.height())?;
                    Some((c, picture.crop(x, y)))
                })
                .collect();
            let outputs: Vec<Vec<Outputs>> = inside
                .par_chunks(crops)
                .with_max_len(1)
                .map_init(refine::Scratch::default, |scratch, chunk| {
                    scratch.pixels.resize(chunk.len() * side * side * 3, 0.0);
                    for ((_, crop), out) in chunk
                        .iter()
                        .zip(scratch.pixels.chunks_exact_mut(side * side * 3))
                    {
                        let from = (crop.width(), crop.height());
                        let mut resampler = Resampler::new(from, (side, side), 0..side);
                        for (y, row) in out.chunks_exact_mut(side * 3).enumerate() {
                            resampler.row(*crop, y, row);
                        }
                    }
                    network.run(scratch)
                })
                .collect();
            for ((candidate, _), out) in inside.iter().zip(outputs.iter().flatten()) {
                sink(candidate, out);
            }
        }
    }

    /// Orders a picture's faces and drops those not asked for.
    fn keep(&self, mut faces: Vec<Face>, width: usize, height: usize) -> Vec<Face> {
        let from_centre = |f: &Face| {
            let [x1, y1, x2, y2] = f.bbox;
            (x1 + x2 - width as f32).hypot(y1 + y2 - height as f32)
        };
        faces.sort_by(|a, b| match self.config.keep {
            Keep::All | Keep::Largest => descending(a.area(), b.area()),
            Keep::MostCentral => descending(from_centre(b), from_centre(a)),
            Keep::MostProbable => descending(a.score, b.score),
        });
        if self.config.keep != Keep::All {
            faces.truncate(1);
        }
        faces
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
