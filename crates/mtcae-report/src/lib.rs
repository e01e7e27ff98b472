//! Results that people look at: one HTML file, offline, beside the videos that it links.
//!
//! A [`Report`] takes [`Results`](mtcae_dfer::Results) of any number of files, and [`Labels`]
//! to hold them against, and writes the page: a table of clips, each video with the faces on
//! it and the course of its expression under it, and what labels say of the answers. What is
//! corrected in the page is saved from there as a label file (`docs/label-format.md`), which
//! `train` reads.
//!
//! ```no_run
//! use mtcae_report::{Report, gather};
//!
//! let mut report = Report::new("results/report.html")?;
//! for (path, results) in gather(&["results"])?.results {
//!     report.add(&path, &results);
//! }
//! report.save()?;
//! # Ok::<(), mtcae_report::Error>(())
//! ```
//!
//! A [`Course`] is the page of a stream: its results come while it is open, from whoever serves it.
//!
//! A report reaches for nothing outside itself but the videos: its Content-Security-Policy
//! allows its own script and style by their digests, pictures and videos, and no connection.
//! Numbers lie in it as columns (`pack.rs`), coordinates and probabilities in 16 bits, and are
//! read when a clip is opened, so that an hour of three people opens as fast as a minute.

mod clip;
mod course;
mod error;
mod evaluation;
mod gather;
mod labels;
mod link;
mod pack;
mod page;
mod report;

pub use course::{Course, Page};
pub use error::Error;
pub use gather::{Found, gather};
pub use labels::{Labels, Truth};
pub use page::is_report;
pub use report::Report;
