//! What every crate stands on: [`files`], read within bounds and written whole.

pub mod files;
