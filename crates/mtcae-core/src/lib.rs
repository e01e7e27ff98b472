//! What every crate stands on: [`files`], read within bounds and written whole, and how
//! what was [`drawn`] is told from input.

pub mod drawn;
pub mod files;
