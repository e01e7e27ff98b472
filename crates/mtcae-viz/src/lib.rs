//! Every picture of MTCAE-DFER: overlays on frames, contact sheets, timelines,
//! confusion matrices, training curves.
//!
//! Pictures are RGB arrays of shape (H, W, 3), as video frames are; nothing here
//! knows a model.

mod axis;
mod canvas;
mod confusion;
mod curves;
mod error;
mod overlay;
mod sheet;
mod timeline;

/// Frames are arrays of this crate.
pub use ndarray;

pub use canvas::{Canvas, Colour, TextSize};
pub use confusion::confusion_matrix;
pub use curves::{Curve, Panel, curves};
pub use error::Error;
pub use overlay::{draw_face, draw_legend, draw_part, draw_tag};
pub use sheet::{contact_sheet, probability_panel};
pub use timeline::{Series, timeline};

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use mtcae_core::drawn::SOFTWARE;
use mtcae_core::files::{At, write_atomically};

/// Writes a picture as PNG, atomically.
///
/// # Errors
/// [`Error::Write`] names the file; nothing is left behind then.
pub fn save_png(path: impl AsRef<Path>, canvas: &Canvas) -> Result<(), Error> {
    let path = path.as_ref();
    let written = write_atomically(path, |temporary| {
        let mut file = BufWriter::new(File::create(temporary)?);
        let (width, height) = (canvas.width() as u32, canvas.height() as u32);
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.add_text_chunk(SOFTWARE.0.to_owned(), SOFTWARE.1.to_owned())?;
        encoder.write_header()?.write_image_data(&canvas.rgb())?;
        file.flush()
    });
    Ok(written.at(path)?)
}
