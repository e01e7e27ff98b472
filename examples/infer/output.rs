//! Results as files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use mtcae_core::files::{read_to_string, write_atomically};
use mtcae_dfer::model::Config;
use mtcae_dfer::video::Clip;
use mtcae_dfer::{Device, Tensor, write_csv};
use mtcae_nn::weights::save;

use crate::args::{Args, At, Format, People};
use crate::{Answer, Fault};
use mtcae_examples::inputs::Input;

/// What the results of each input are called: its name without the ending, with a
/// number where that is taken.
pub fn names(inputs: &[Input]) -> Vec<PathBuf> {
    // What is written about all of them.
    let own = [crate::overview::FILE, SETTINGS].map(|name| Path::new(name).with_extension(""));
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

/// Writes an answer; JSON on one line unless `pretty`.
pub fn write(
    out: &mut dyn Write,
    answer: &Answer,
    format: Format,
    pretty: bool,
) -> Result<(), Fault> {
    match format {
        Format::Csv => write_csv(out, answer.predictions())?,
        Format::Json => {
            let everybody = answer.predictions().iter().any(|p| p.person.is_some());
            match answer {
                Answer::Clip(people) => list(out, people, everybody, pretty)?,
                Answer::Windows(timelines) => list(out, timelines, everybody, pretty)?,
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// A list where it is everybody's; the one answer otherwise.
fn list<T: serde::Serialize>(
    out: &mut dyn Write,
    answers: &[T],
    everybody: bool,
    pretty: bool,
) -> serde_json::Result<()> {
    match answers {
        [one] if !everybody => json(out, one, pretty),
        all => json(out, &all, pretty),
    }
}

fn json(
    out: &mut dyn Write,
    value: &impl serde::Serialize,
    pretty: bool,
) -> serde_json::Result<()> {
    if pretty {
        serde_json::to_writer_pretty(out, value)
    } else {
        serde_json::to_writer(out, value)
    }
}

/// The name of what a run was asked for, in the folder of its results.
const SETTINGS: &str = "infer-settings.json";

/// What of the command line the numbers in the results depend on.
#[derive(PartialEq, serde::Serialize, serde::Deserialize)]
struct Settings {
    program: String,
    version: String,
    checkpoint: String,
    precision: String,
    windows: Option<(f64, f64)>,
    faces: bool,
    detect_at: String,
    min_face: Option<f64>,
    crop_to_faces: bool,
    everybody: bool,
    min_seen: Option<u16>,
}

/// Notes what a run is asked for beside its results, and compares where it resumes.
///
/// # Errors
/// When another run's results would be gone on with.
pub fn note_settings(out: &Path, checkpoint: &Path, args: &Args) -> Result<(), Fault> {
    let path = out.join(SETTINGS);
    let now = serde_json::to_value(Settings {
        program: "infer".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        checkpoint: checkpoint.to_string_lossy().into_owned(),
        precision: args.precision.to_string(),
        windows: args.windows(),
        faces: args.finds_faces(),
        detect_at: match args.detect_at {
            At::Source => "source".to_owned(),
            At::Model => "model".to_owned(),
        },
        min_face: args.min_face,
        crop_to_faces: args.follows(),
        everybody: args.people == People::All,
        min_seen: args.min_seen,
    })?;
    let fault = |reason: String| format!("{}: {reason}", path.display());
    if path.symlink_metadata().is_ok() {
        let text = read_to_string(&path, 1 << 16).map_err(|e| fault(e.to_string()))?;
        let before: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if before["program"] != now["program"] {
            return Err(fault("is not what infer writes; give another --out".to_owned()).into());
        }
        let fields = now.as_object().into_iter().flatten();
        let other = fields
            .into_iter()
            .find(|(name, value)| before[name] != **value);
        if let Some((name, value)) = other.filter(|_| args.resume) {
            let before = &before[name];
            return Err(fault(format!(
                "{name} was {before} and is {value}: --resume goes on with a run of the same settings"
            ))
            .into());
        }
    }
    let text = serde_json::to_string_pretty(&now)?;
    write_atomically(&path, |temporary| std::fs::write(temporary, text + "\n"))
        .map_err(|e| fault(e.to_string()))?;
    Ok(())
}

/// Writes an answer to a file, atomically.
pub fn write_file(path: &Path, answer: &Answer, format: Format) -> Result<(), Fault> {
    let fault = |e: std::io::Error| format!("{}: {e}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fault)?;
    }
    write_atomically(path, |temporary| {
        let mut file = BufWriter::new(std::fs::File::create(temporary)?);
        write(&mut file, answer, format, true).map_err(|e| std::io::Error::other(e.to_string()))?;
        file.flush()
    })
    .map_err(fault)?;
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
