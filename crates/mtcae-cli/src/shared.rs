//! What the programs share: devices and checkpoints by name, and progress bars.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mtcae_core::one_line;
use mtcae_dfer::Device;
use mtcae_dfer::model::encoder::{HubName, fetch_folder};

/// A file of the source tree, where the default model and the demo's clips lie; relative to
/// the current folder where that is the tree's.
///
/// # Errors
/// When the source tree is not there, as where an installed program runs.
pub fn in_tree(name: &str) -> Result<PathBuf, Fault> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let path = match root {
        Some(root) if std::env::current_dir().is_ok_and(|here| here != root) => root.join(name),
        _ => PathBuf::from(name),
    };
    if path.exists() {
        return Ok(path);
    }
    Err(format!(
        "{}: not found: the default model and the demo are part of the source tree; give videos \
         and --checkpoint DIR",
        path.display()
    )
    .into())
}

/// Whatever a program stops with.
pub type Fault = Box<dyn Error>;

/// `cpu` or `cuda:N`.
///
/// # Errors
/// When the name is none of these, or there is no such device. There is no
/// fallback to another.
pub fn device(name: &str) -> Result<Device, String> {
    mtcae_dfer::device::open(name).map_err(|e| one_line(&e))
}

/// A folder, or the local copy of a `hub:ORG/NAME[@REVISION]`, fetched if need be.
///
/// # Errors
/// What the hub reports.
pub fn checkpoint(name: &str, quiet: bool) -> Result<PathBuf, Box<dyn Error>> {
    if !HubName::is_meant(name) {
        return Ok(PathBuf::from(name));
    }
    let mut download = Download::new(quiet);
    let folder = fetch_folder(name, &mut |file, done, total| {
        download.step(file, done, total);
    })?;
    Ok(folder)
}

/// A bar for each file of a download.
pub struct Download {
    bars: Bars,
    current: Option<(String, ProgressBar)>,
}

impl Download {
    /// Bars unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self {
            bars: Bars::new(quiet),
            current: None,
        }
    }

    /// `done` of `total` bytes of a file have arrived.
    pub fn step(&mut self, file: &str, done: u64, total: u64) {
        let bar = match &self.current {
            Some((name, bar)) if name == file => bar,
            _ => {
                &self
                    .current
                    .insert((file.to_owned(), self.bars.bytes(file, total)))
                    .1
            }
        };
        bar.set_position(done);
    }
}

/// Progress bars on stderr, or none.
#[derive(Clone, Copy)]
pub struct Bars {
    quiet: bool,
}

impl Bars {
    /// Bars unless `quiet`; where stderr is no terminal, nothing is drawn.
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// A bar over `total` items.
    pub fn items(self, what: &str, total: u64) -> ProgressBar {
        self.bar(
            total,
            &format!("{what} {{bar:30}} {{pos}}/{{len}}  {{eta}} left  {{msg}}"),
        )
    }

    /// A bar over steps of training, whose message says how long the rest takes.
    pub fn steps(self, total: u64) -> ProgressBar {
        self.bar(total, "steps {bar:30} {pos}/{len}  {msg}")
    }

    /// A bar over seconds of video; a spinner where the length is not known.
    pub fn seconds(self, what: &str, total: Option<f64>) -> ProgressBar {
        match total {
            Some(t) => self.bar(
                t.ceil() as u64,
                &format!("{what} {{bar:30}} {{pos}}/{{len}} s of video  {{eta}} left"),
            ),
            None => self.bar(0, &format!("{what} {{spinner}} {{pos}} s of video")),
        }
    }

    /// A bar over bytes.
    pub fn bytes(self, what: &str, total: u64) -> ProgressBar {
        self.bar(
            total,
            &format!(
                "{what} {{bar:30}} {{bytes}}/{{total_bytes}}  {{bytes_per_sec}}  {{eta}} left"
            ),
        )
    }

    fn bar(self, total: u64, template: &str) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_source_tree_it_says_what_to_give() {
        let error = in_tree("fixtures/demo/none.mp4").expect_err("there is none");
        let said = error.to_string();
        assert!(
            said.contains("none.mp4: not found") && said.contains("--checkpoint"),
            "{said}"
        );
    }
}
