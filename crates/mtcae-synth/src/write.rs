//! A clip as a video file.

use std::path::Path;

use mtcae_video::{ClipWriter, WriterOptions};
use ndarray::Axis;

use crate::dataset::Planned;
use crate::error::{Error, Result};
use crate::render::Rendered;
use crate::renderer::Renderer;

/// Renders a clip and writes it to its file below `root`, making folders as
/// needed. The file takes its name when it is whole; one that exists is replaced
/// then.
///
/// Rendering and encoding run on the thread that calls, so that clips can be
/// written side by side. The same encoder gives the same file to the bit each time.
///
/// # Errors
/// [`Error::Setting`] for a take that cannot be rendered, [`Error::Folder`],
/// [`Error::Video`] name the folder or file.
pub fn write_clip(
    root: impl AsRef<Path>,
    planned: &Planned,
    renderer: &Renderer,
) -> Result<Rendered> {
    let path = root.as_ref().join(&planned.file);
    let take = &planned.take;
    let rendered = renderer.render(take)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| Error::Folder {
            path: folder.to_owned(),
            source,
        })?;
    }
    let mut writer = ClipWriter::create(
        &path,
        &WriterOptions {
            fps: (take.fps, 1),
            crf: take.crf(),
            threads: 1,
            ..WriterOptions::new(take.width, take.height)
        },
    )?;
    for (i, frame) in rendered.frames.axis_iter(Axis(0)).enumerate() {
        writer.write(&frame, i as f64 / f64::from(take.fps))?;
    }
    writer.finish()?;
    Ok(rendered)
}
