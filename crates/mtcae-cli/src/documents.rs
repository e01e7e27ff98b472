//! Results in the formats of other programs, as files and on stdout.

use std::io::{BufWriter, Write};
use std::path::Path;

use mtcae_core::files::{At as _, write_atomically};
use mtcae_dfer::Results;
use mtcae_formats::{Columns, Document, Format};

use crate::Fault;

/// Refuses what stdout cannot hold.
///
/// # Errors
/// Names the format: those that are no text, those of two files, and those of which several
/// make no document.
pub fn fit_stdout(formats: &[Format], columns: Columns, files: usize) -> Result<(), Fault> {
    for format in formats {
        let documents = format.documents(columns);
        let reason = if documents.iter().any(|d| d.is_binary()) {
            "is no text for a terminal"
        } else if documents.len() > 1 {
            "is two files"
        } else if files * formats.len() > 1 && !documents.iter().all(|d| d.can_follow()) {
            "is one document a file, and several do not fit on stdout"
        } else {
            continue;
        };
        return Err(format!("--format {format}: {reason}; give --out DIR").into());
    }
    Ok(())
}

/// Writes results to a file, whole or not at all.
///
/// # Errors
/// Names the file.
pub fn write_file(path: &Path, results: &Results, document: Document) -> Result<(), Fault> {
    let folder = path.parent();
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).at(path)?;
    }
    write_atomically(path, |temporary| {
        let mut file = BufWriter::new(std::fs::File::create(temporary)?);
        document.write(results, folder, true, &mut file)?;
        file.flush()
    })
    .at(path)?;
    Ok(())
}

/// Writes results to stdout; JSON on one line.
///
/// # Errors
/// What stdout reports.
pub fn write_stdout(results: &Results, documents: &[Document]) -> Result<(), Fault> {
    let mut out = std::io::stdout().lock();
    for document in documents {
        document
            .write(results, None, false, &mut out)
            .map_err(std::io::Error::from)?;
    }
    Ok(())
}
