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
mod pool;
mod refine;
mod tensors;
mod weights;

pub use config::{DetectorConfig, Keep};
pub use detector::Detector;
