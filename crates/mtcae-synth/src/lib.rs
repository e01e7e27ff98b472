//! Rendered face clips with exact boxes, five landmarks, identity and expression,
//! so that training, tests and the demo run anywhere.
//!
//! An [`Identity`] is a face drawn from a seed. An [`Expression`] is a table of
//! [`ActionUnit`]s, which move brows, lids, cheeks, nose, lips and jaw. A [`Take`]
//! is one identity making one expression once: its head moves and turns, it
//! blinks, light, background, camera and compression are drawn at random, and
//! what is true of each frame follows from the geometry.
//!
//! A [`Renderer`] makes takes into pixels: faces drawn from curves, which need nothing
//! else, or people of a scanned face model, which look like some ([`FaceModel`]).
//!
//! ```
//! use mtcae_synth::{Expression, Intensity, Take, render};
//! let take = Take {
//!     frames: 2,
//!     ..Take::new(7, Expression::Happy, Intensity::High, 1)
//! };
//! let clip = render(&take)?;
//! assert_eq!(clip.frames.dim(), (2, 256, 256, 3));
//! let eyes = clip.truth[0].landmarks;
//! assert!(eyes.left_eye[0] < eyes.right_eye[0]);
//! # Ok::<(), mtcae_synth::Error>(())
//! ```
#![cfg_attr(
    feature = "ffmpeg",
    doc = r#"
A folder of clips:

```no_run
use mtcae_synth::{Dataset, Renderer, write_clip};
for clip in Dataset::default().plan()? {
    let written = write_clip("faces", &clip, &Renderer::Drawn)?;
    println!("{}: {:?}", clip.file, written.truth[0].face_box);
}
# Ok::<(), mtcae_synth::Error>(())
```
"#
)]
//! # What is promised
//! - The same take is the same clip to the bit, on every run and whatever the
//!   number of threads. (Sines and powers come from the system's mathematics
//!   library: another system may differ in single levels.)
//! - Only the face's action units depend on the expression. Identity, pose, light,
//!   background, camera and compression are drawn from other seeds.
//! - Seeds of different splits give different faces.
//!
//! # Features
//! - `ffmpeg` (default): `write_clip`, through mtcae-video.
#![forbid(unsafe_code)]

mod action_units;
mod background;
mod camera;
mod dataset;
mod draw;
mod error;
mod expression;
mod geometry;
mod identity;
mod motion;
mod paint;
mod render;
mod renderer;
mod scanned;
mod seed;
mod shade;
mod shape;
mod take;
#[cfg(feature = "ffmpeg")]
mod write;

pub use action_units::{ActionUnit, ActionUnits};
pub use dataset::{Dataset, Planned};
pub use error::{Error, Result};
pub use expression::{Expression, Intensity};
pub use identity::Identity;
pub use render::{Rendered, render, render_apex, truth};
pub use renderer::Renderer;
pub use scanned::{FaceModel, Facts, Scanned};
pub use take::Take;
#[cfg(feature = "ffmpeg")]
pub use write::write_clip;
