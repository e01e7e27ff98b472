//! Results as files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use mtcae_core::files::write_atomically;
use mtcae_dfer::model::Config;
use mtcae_dfer::video::Clip;
use mtcae_dfer::{Device, Tensor, write_csv};
use mtcae_nn::weights::save;

use crate::args::Format;
use crate::{Answer, Fault};
use mtcae_examples::inputs::Input;

/// What the results of each input are called: its name without the ending, with a
/// number where that is taken.
pub fn names(inputs: &[Input]) -> Vec<PathBuf> {
    let mut taken = BTreeSet::new();
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
            match answer {
                Answer::Clip(people) => match people.as_slice() {
                    [one] if one.person.is_none() => json(out, one, pretty)?,
                    all => json(out, &all, pretty)?,
                },
                Answer::Windows(timeline) => json(out, timeline, pretty)?,
            }
            writeln!(out)?;
        }
    }
    Ok(())
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
