//! Every system of the paper's Tables II to IV, trained and measured under one protocol.
//!
//! A system is an encoder, a decoder and a recipe ([`Systems`]). Each is cross-validated with
//! each seed on the same folds ([`compare`]), and can be stopped and gone on with at any moment;
//! tables are made from what was predicted alone ([`tables`]).

mod cell;
mod findings;
mod model;
mod run;
mod systems;
mod table;
mod track;

use std::path::Path;

use mtcae_model::encoder::Progress;
use mtcae_objective::Bootstrap;

use crate::Error;
use crate::event::Watch;
use crate::folder::write_text;

pub use run::{Comparison, Failure};
pub use systems::{Native, Preset, Size, Status, System, Systems};
pub use track::Track;

/// Runs what is left of a comparison and writes its tables, `table.md` and `table.html`; gives
/// the first, and the cells that failed. These do not lose the others, and are run again the
/// next time.
///
/// # Errors
/// [`Error::Cancelled`], or what concerns all cells: settings, a folder that holds another
/// comparison, a full disk.
pub fn compare(
    comparison: &Comparison<'_>,
    progress: &mut Progress<'_>,
    watch: &mut Watch<'_>,
) -> Result<(String, Vec<Failure>), Error> {
    let failures = run::run(comparison, progress, watch)?;
    Ok((tables(comparison.folder)?, failures))
}

/// Makes the tables of a comparison again, from what is in its folder alone; gives the first.
///
/// # Errors
/// Names the file that is missing or damaged.
pub fn tables(folder: &Path) -> Result<String, Error> {
    let findings = findings::read(folder, Bootstrap::default())?;
    let table = table::markdown(&findings);
    write_text(&folder.join("table.md"), &table)?;
    write_text(&folder.join("table.html"), &table::html(&findings))?;
    Ok(table)
}
