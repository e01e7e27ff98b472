//! The two ways to render a take.

use std::path::Path;
use std::sync::Arc;

use mtcae_core::Face;
use ndarray::Array3;

use crate::error::Result;
use crate::render::{self, Rendered};
use crate::scanned::{FaceModel, Scanned};
use crate::take::Take;

/// How takes become pixels.
#[derive(Debug)]
pub enum Renderer {
    /// Faces drawn from curves; needs nothing beside this crate.
    Drawn,
    /// People of a scanned face model.
    Scanned(Box<Scanned>),
}

impl Renderer {
    /// People of the face model in a folder.
    ///
    /// # Errors
    /// As [`FaceModel::open`].
    pub fn scanned(folder: impl AsRef<Path>) -> Result<Self> {
        let model = Arc::new(FaceModel::open(folder)?);
        Ok(Self::Scanned(Box::new(Scanned::new(model))))
    }

    /// Renders a take, on the thread that calls.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) names the field of the take that is out of
    /// range.
    pub fn render(&self, take: &Take) -> Result<Rendered> {
        match self {
            Self::Drawn => render::render(take),
            Self::Scanned(scanned) => render::clip(take, scanned.stage(take)?),
        }
    }

    /// Renders one frame of a take, (H, W, 3), RGB: of those at the expression's apex the one
    /// nearest to the middle in which the eyes do not blink.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub fn render_apex(&self, take: &Take) -> Result<(Array3<u8>, Face)> {
        match self {
            Self::Drawn => render::render_apex(take),
            Self::Scanned(scanned) => render::apex(take, scanned.stage(take)?),
        }
    }

    /// What is true of each frame of a take, without its pixels.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub fn truth(&self, take: &Take) -> Result<Vec<Face>> {
        match self {
            Self::Drawn => render::truth(take),
            Self::Scanned(scanned) => {
                let stage = scanned.stage(take)?;
                Ok((0..take.frames).map(|frame| stage.truth(frame)).collect())
            }
        }
    }
}
