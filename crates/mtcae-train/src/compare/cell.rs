//! One system with one seed: a cross-validation, and what it cost.

use std::path::{Path, PathBuf};

use mtcae_core::files::{self, At, FileError};
use serde::{Deserialize, Serialize};

use crate::folder::{LOG, TEST_SECONDS, write_json};
use crate::log::{self, Line};
use crate::{Error, Report};

/// What a cell cost, written when it is done.
pub const CELL: &str = "cell.json";
/// Why a cell failed.
pub const FAILED: &str = "failed.txt";
/// Bytes of the largest of these files.
const LARGEST: u64 = 1 << 20;

/// What a system cost, with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// All its parameters.
    pub parameters: usize,
    /// Those that were trained.
    pub trained: usize,
    /// Floating-point operations of one forward of one view of a clip.
    pub flops: f64,
    /// Epochs of each fold.
    pub epochs: usize,
    /// Hours of training in all folds, as they were logged: what was lost by a kill is not
    /// among them.
    pub hours: f64,
    /// Clips a second in training, decoding included.
    pub training: Option<f64>,
    /// Clips a second in the test, decoding included.
    pub inference: Option<f64>,
    /// The most memory that the process that finished it held while it worked on it. `None`
    /// where the operating system does not say.
    pub peak_bytes: Option<u64>,
    /// What it was computed on.
    pub machine: String,
}

impl Cell {
    /// Reads what a cell cost; `None` where it is not done.
    ///
    /// # Errors
    /// Names the file that is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(CELL);
        match files::read_to_string(&path, LARGEST) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| {
                let reason = format!("{e}: delete it to measure this cell again");
                FileError::new(path, reason).into()
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Ok(Err(e).at(path)?),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        write_json(&folder.join(CELL), self)
    }
}

/// Hours of training, and clips a second in training and in the test, by what the folds of a
/// cross-validation have written.
///
/// # Errors
/// Names the file that is missing or broken.
pub fn logged(folder: &Path, report: &Report) -> Result<(f64, [Option<f64>; 2]), Error> {
    let (mut seconds, mut clips) = (0.0, 0.0);
    let (mut test_seconds, mut tested) = (0.0, 0);
    for fold in &report.folds {
        let of_fold = folder.join(format!("fold-{}", fold.fold));
        let path = of_fold.join(TEST_SECONDS);
        let text = files::read_to_string(&path, LARGEST).at(&path)?;
        test_seconds += serde_json::from_str::<f64>(&text).at(&path)?;
        tested += fold.test;
        for line in log::read(of_fold.join(LOG))? {
            if let Line::Epoch(epoch) = line {
                seconds += epoch.seconds;
                clips += epoch.clips_per_second * epoch.seconds;
            }
        }
    }
    let rate = |clips: f64, seconds: f64| (seconds > 0.0).then(|| clips / seconds);
    let rates = [rate(clips, seconds), rate(tested as f64, test_seconds)];
    Ok((seconds / 3600.0, rates))
}

/// The most memory that this process holds from now on.
pub struct Peak(bool);

impl Peak {
    /// Forgets what was held before, where Linux allows that.
    pub fn start() -> Self {
        Self(std::fs::write("/proc/self/clear_refs", "5").is_ok())
    }

    /// How much it was; `None` where that is not known.
    pub fn bytes(&self) -> Option<u64> {
        self.0.then(resident).flatten()
    }
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The folder of a system's cell.
pub fn folder(of: &Path, system: &str, seed: u64) -> PathBuf {
    of.join(system).join(format!("seed-{seed}"))
}
