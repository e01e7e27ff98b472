//! MTCNN (Zhang, Zhang, Li and Qiao, 2016, arXiv 1604.02878): three small
//! networks that propose, refine and place faces and five landmarks.
//!
//! The steps, their roundings and their order are those of facenet-pytorch
//! 2.6.0's `detect_face`, so that the same faces come out; what differs is how
//! the work is laid out (see [`Detector`]).

mod boxes;
mod config;
mod detector;
mod networks;
mod pnet;
mod refine;
mod tensors;
mod weights;

pub use config::{DetectorConfig, Keep};
pub use detector::Detector;

/// A face as the detector gives it, in pixels of the frame it was found in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Face {
    /// x1, y1, x2, y2; may reach over the frame's border.
    pub bbox: [f32; 4],
    /// Probability of being a face, from the last network.
    pub score: f32,
    /// (x, y) of the left eye (as seen by the viewer), the right eye, the nose,
    /// and the left and right corner of the mouth.
    pub landmarks: [[f32; 2]; 5],
}

impl Face {
    /// Width times height of the box, in square pixels.
    pub fn area(&self) -> f32 {
        let [x1, y1, x2, y2] = self.bbox;
        (x2 - x1) * (y2 - y1)
    }
}
