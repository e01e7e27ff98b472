//! What every crate stands on: how frames are chosen ([`Sampling`]) and cut ([`Resize`]), by
//! name; [`files`], read within bounds and written whole; and how what was [`drawn`] is told
//! from input.

pub mod drawn;
pub mod files;
mod parse;
mod resize;
mod sampling;

pub use parse::ParseError;
pub use resize::{Rect, Resize};
pub use sampling::Sampling;
