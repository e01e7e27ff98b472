//! What every crate stands on and speaks of: a [`Face`], its box and landmarks, how much two
//! of them overlap ([`iou`]) and what lies in the [`gaps`] between; how frames are chosen
//! ([`Sampling`]) and cut ([`Resize`], [`Crop`]), by name; why no answer is given ([`Refusal`]);
//! [`files`], read within bounds and written whole, and members of [`archive`]s, read where
//! they lie; how what was [`drawn`] is told from input; work done side by side and taken
//! [in its order](in_order); and errors on [one line](one_line).

pub mod archive;
mod argmax;
mod crop;
pub mod drawn;
mod face;
pub mod files;
pub mod gaps;
mod in_order;
mod parse;
mod refusal;
mod resize;
mod sampling;
mod words;

pub use argmax::argmax;
pub use crop::{Crop, Square, face_size, turn};
pub use face::{Coordinate, Face, FaceBox, Landmarks, Track, iou};
pub use in_order::in_order;
pub use parse::ParseError;
pub use refusal::Refusal;
pub use resize::{Rect, Resize};
pub use sampling::Sampling;
pub use words::one_line;
