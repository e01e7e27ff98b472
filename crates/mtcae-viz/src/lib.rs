//! Every picture of MTCAE-DFER: overlays on frames, contact sheets, timelines,
//! confusion matrices, training curves.
//!
//! Pictures are RGB arrays of shape (H, W, 3), as video frames are; nothing here
//! knows a model.

mod axis;
mod canvas;
mod confusion;
mod curves;
mod overlay;
mod sheet;
mod timeline;

pub use canvas::{Canvas, Colour, TextSize};
pub use confusion::confusion_matrix;
pub use curves::{Curve, Panel, curves};
pub use overlay::{Face, draw_face};
pub use sheet::{contact_sheet, probability_panel};
pub use timeline::{Series, timeline};

use std::io::Write;
use std::path::{Path, PathBuf};

/// What can go wrong with a picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A picture of no pixels, or too large a one.
    #[error("a picture of {width}×{height} pixels cannot be drawn")]
    Size {
        /// Pixels across.
        width: usize,
        /// Pixels down.
        height: usize,
    },
    /// There is nothing to draw.
    #[error("{what}: there is none to draw")]
    Empty {
        /// What there is none of.
        what: &'static str,
    },
    /// Two lists that belong together differ in length.
    #[error("{what}: {found} given, {expected} expected")]
    Length {
        /// The list at fault.
        what: String,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The file cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Writes a picture as PNG, atomically.
///
/// # Errors
/// [`Error::Write`] names the file; nothing is left behind then.
pub fn save_png(path: impl AsRef<Path>, canvas: &Canvas) -> Result<(), Error> {
    let path = path.as_ref();
    let write = || -> std::io::Result<()> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".writing-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // What the umask leaves of this, as for any new file.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut file = builder.tempfile_in(folder)?;
        let mut encoder =
            png::Encoder::new(&mut file, canvas.width() as u32, canvas.height() as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&canvas.rgb())?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}
