//! The model that answers where no checkpoint is given: inside a release of the program, in
//! the source tree otherwise.

use mtcae_dfer::model::Checkpoint;
use mtcae_dfer::model::card::{self, Measurement};

use crate::Fault;

/// What it is called in results.
pub const NAME: &str = "default";

#[cfg(feature = "default-model")]
mod place {
    use super::{Checkpoint, Fault, Measurement, card};

    macro_rules! file {
        ($include:ident, $name:literal) => {
            $include!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../fixtures/default/",
                $name
            ))
        };
    }

    /// Opens it.
    pub fn open() -> Result<Checkpoint, Fault> {
        let config = file!(include_str, "config.json");
        let weights = file!(include_bytes, "model.safetensors");
        Ok(Checkpoint::inside("the default model", config, weights)?)
    }

    /// What was measured of it, and how many measurements are of others.
    pub fn measurements(opened: &Checkpoint) -> Result<(Vec<Measurement>, usize), Fault> {
        Ok(card::measurements_in(
            opened,
            file!(include_str, "measured.json"),
        )?)
    }
}

#[cfg(not(feature = "default-model"))]
mod place {
    use super::{Checkpoint, Fault, Measurement, card};
    use crate::in_tree;

    /// Opens it.
    pub fn open() -> Result<Checkpoint, Fault> {
        Ok(Checkpoint::open_ours(in_tree("fixtures/default")?)?)
    }

    /// What was measured of it, and how many measurements are of others.
    pub fn measurements(opened: &Checkpoint) -> Result<(Vec<Measurement>, usize), Fault> {
        Ok(card::measurements(opened)?)
    }
}

pub use place::{measurements, open};
