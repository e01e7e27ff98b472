//! Results as files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use mtcae_core::files::{At as _, open, read_to_string, write_atomically, write_text_atomically};
use mtcae_dfer::model::{Config, Identity};
use mtcae_dfer::video::Clip;
use mtcae_dfer::{Crop, Device, Results, Tensor, write_csv};
use mtcae_nn::weights::save;
use serde_json::Value;

use super::args::{Args, At, Format, Kind, People};
use crate::Fault;
use mtcae_dfer::video::inputs::Input;

/// A file of results.
#[derive(Clone, Copy)]
pub enum Target {
    Table(Format),
    Picture(Kind),
}

/// What the results of each input are called: its name without the ending, with a
/// number where that is taken.
pub fn names(inputs: &[Input]) -> Vec<PathBuf> {
    // What is written about all of them.
    let own = [OVERVIEW, SETTINGS].map(|name| Path::new(name).with_extension(""));
    let mut taken = BTreeSet::from(own);
    let mut names = Vec::with_capacity(inputs.len());
    for input in inputs {
        let stem = input.name.with_extension("");
        let mut name = stem.clone();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            name = with_suffix(&stem, &format!("-{number}"));
        }
        names.push(name);
    }
    names
}

/// `base` with `.extension` put behind it; dots in the name stay.
pub fn with_extension(base: &Path, extension: &str) -> PathBuf {
    with_suffix(base, &format!(".{extension}"))
}

fn with_suffix(base: &Path, suffix: &str) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Writes results; JSON on one line unless `pretty`.
pub fn write(
    out: &mut dyn Write,
    results: &Results,
    format: Format,
    pretty: bool,
) -> std::io::Result<()> {
    match format {
        Format::Csv => write_csv(out, results.answer.predictions()),
        Format::Json => results.write(out, pretty),
    }
}

/// The name of the table over all files, in the folder of results.
pub const OVERVIEW: &str = "overview.csv";

/// The name of what a run was asked for, in the folder of its results.
const SETTINGS: &str = "infer-settings.json";

/// What of the command line the numbers in the results depend on.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Settings {
    checkpoint: String,
    /// What the checkpoint does not say, or not so.
    #[serde(default)]
    given: Value,
    precision: String,
    windows: Option<(f64, f64)>,
    faces: bool,
    detect_at: String,
    min_face: Option<f64>,
    crop_to_faces: bool,
    /// Which crop, where it is not the square 1.3 times as large as the face.
    #[serde(default)]
    crop: Option<Crop>,
    everybody: bool,
    min_seen: Option<u16>,
    #[serde(default)]
    least_confidence: Option<f64>,
}

/// What a folder of results says of the runs that wrote into it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Noted {
    program: String,
    version: String,
    /// SHA-256 of each of the model's files.
    #[serde(default)]
    model: BTreeMap<String, String>,
    #[serde(flatten)]
    settings: Settings,
    /// Whether results of other settings lie beside them.
    mixed: bool,
}

impl Settings {
    /// What the numbers of a run with this checkpoint depend on.
    pub fn new(checkpoint: &str, args: &Args) -> Result<Self, Fault> {
        Ok(Self {
            checkpoint: checkpoint.to_owned(),
            given: args.foreign.given()?,
            precision: args.precision.to_string(),
            windows: args.windows(),
            faces: args.finds_faces(),
            detect_at: match args.detect_at {
                At::Source => "source".to_owned(),
                At::Model => "model".to_owned(),
            },
            min_face: args.min_face,
            crop_to_faces: args.follows(),
            crop: args
                .crop
                .filter(|crop| !crop.is_none() && *crop != Crop::face()),
            everybody: args.people == People::All,
            min_seen: args.min_seen,
            least_confidence: args.least_confidence,
        })
    }
}

/// Notes what a run is asked for beside its results. Whether there were results of this
/// program before, with which it can go on.
///
/// # Errors
/// When the folder has another's file of that name, or, to resume, results of a run that
/// was asked for something else.
pub fn note_settings(
    out: &Path,
    settings: Settings,
    model: &Identity,
    resume: bool,
) -> Result<bool, Fault> {
    let path = out.join(SETTINGS);
    let mut now = Noted {
        program: "infer".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: model.files.clone(),
        settings,
        mixed: false,
    };
    let fault = |reason: String| Fault::from(format!("{}: {reason}", path.display()));
    let there = path.symlink_metadata().is_ok();
    if there {
        let text = read_to_string(&path, 1 << 16).at(&path)?;
        let before = serde_json::from_str::<Noted>(&text)
            .ok()
            .filter(|before| before.program == now.program)
            .ok_or_else(|| fault("was not written by infer; give another --out".to_owned()))?;
        let other = different(&before, &now)?;
        if resume && before.mixed {
            let reason = "there are results of several settings here, which --resume cannot tell apart; give another --out";
            return Err(fault(reason.to_owned()));
        }
        if resume && before.model != now.model {
            let reason = "the checkpoint's files are others than those of the results here: --resume goes on with a run of the same";
            return Err(fault(reason.to_owned()));
        }
        if let Some((name, before, now)) = other.as_ref().filter(|_| resume) {
            return Err(fault(format!(
                "{name} was {before} and is {now}: --resume goes on with a run of the same settings"
            )));
        }
        now.mixed = before.mixed || other.is_some();
    }
    let text = serde_json::to_string_pretty(&now)?;
    write_text_atomically(&path, &text).at(&path)?;
    Ok(there)
}

/// The first setting that differs, before and now.
fn different(before: &Noted, now: &Noted) -> Result<Option<(String, Value, Value)>, Fault> {
    let (before, now) = (serde_json::to_value(before)?, serde_json::to_value(now)?);
    let fields = now.as_object().into_iter().flatten();
    let mut differing = fields
        .filter(|(name, value)| *name != "mixed" && before[&**name] != **value)
        .map(|(name, value)| (name.clone(), before[name].clone(), value.clone()));
    Ok(differing.next())
}

/// The file that a table of results is about, as it says itself.
pub fn about(path: &Path, format: Format) -> Option<String> {
    match format {
        Format::Json => {
            let results = Results::read(path).ok()?;
            let first = results.answer.predictions().first()?.file.clone()?;
            Some(first.to_string_lossy().into_owned())
        }
        Format::Csv => {
            let mut table = csv::Reader::from_reader(open(path).ok()?);
            let column = table
                .headers()
                .ok()?
                .iter()
                .position(|name| name == "file")?;
            let row = table.records().next()?.ok()?;
            Some(row.get(column)?.to_owned())
        }
    }
}

/// Writes results to a file, atomically.
pub fn write_file(path: &Path, results: &Results, format: Format) -> Result<(), Fault> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).at(path)?;
    }
    write_atomically(path, |temporary| {
        let mut file = BufWriter::new(std::fs::File::create(temporary)?);
        write(&mut file, results, format, true)?;
        file.flush()
    })
    .at(path)?;
    Ok(())
}

/// Writes the input clip (T, H, W, 3) in levels 0 to 255 and every named
/// intermediate, with the model's config, so that another framework's numbers can
/// be held against them from the first tensor on.
pub fn write_trace(
    path: &Path,
    clip: &Clip,
    trace: Vec<(String, Tensor)>,
    config: &Config,
) -> Result<(), Fault> {
    let levels: Vec<u8> = clip.frames.iter().copied().collect();
    let mut tensors = vec![(
        "clip".to_owned(),
        Tensor::from_vec(levels, clip.frames.shape(), &Device::Cpu)?,
    )];
    tensors.extend(trace);
    let metadata = BTreeMap::from([("config".to_owned(), serde_json::to_string(config)?)]);
    Ok(save(
        path,
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)),
        metadata,
    )?)
}
