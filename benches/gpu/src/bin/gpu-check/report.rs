//! The report: each line is in the file before the next is asked for.

#![allow(clippy::print_stdout)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Lines of a section that are kept; what comes behind is counted.
const LINES: usize = 2000;

pub struct Report {
    file: Option<File>,
    path: PathBuf,
    said: usize,
}

impl Report {
    /// Adds to FOLDER/report.md; where that cannot be written, to one in the temporary
    /// folder, and where that cannot either, to the standard output alone. It says so.
    pub fn open(folder: &Path) -> Self {
        let instead = std::env::temp_dir().join(format!("gpu-report-{}", std::process::id()));
        let mut complaints = Vec::new();
        for folder in [folder, &instead] {
            let path = folder.join("report.md");
            let opened = std::fs::create_dir_all(folder)
                .and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
            match opened {
                Ok(file) => {
                    let mut report = Self {
                        file: Some(file),
                        path,
                        said: 0,
                    };
                    for complaint in complaints {
                        let path = report.path.display().to_string();
                        report.line(&format!("{complaint}; the report is {path}"));
                    }
                    return report;
                }
                Err(error) => {
                    complaints.push(format!("{} cannot be written: {error}", path.display()));
                }
            }
        }
        let mut report = Self {
            file: None,
            path: PathBuf::from("the standard output"),
            said: 0,
        };
        for complaint in complaints {
            report.line(&complaint);
        }
        report
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One line, and a paragraph's end behind it unless it is of a table: lines stay lines
    /// where Markdown is shown.
    pub fn line(&mut self, text: &str) {
        let text = text.trim_end();
        let hard = !text.is_empty() && !text.starts_with(['|', '#']);
        self.write(&format!("{text}{}\n", if hard { "  " } else { "" }));
    }

    /// A heading; lines are counted anew.
    pub fn heading(&mut self, level: usize, text: &str) {
        self.said = 0;
        self.write(&format!("\n{} {text}\n\n", "#".repeat(level)));
    }

    /// A line that a section has said.
    pub fn quote(&mut self, text: &str) {
        self.said += 1;
        match self.said {
            ..=LINES => self.line(text),
            n if n == LINES + 1 => self.line(&format!("(what follows {LINES} lines is left out)")),
            _ => {}
        }
    }

    fn write(&mut self, text: &str) {
        print!("{text}");
        // Whoever reads along may be gone; the file is what counts.
        let _ = std::io::stdout().flush();
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(text.as_bytes())
        {
            self.file = None;
            let path = self.path.display();
            println!("{path} cannot be written any more: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_in_the_file_at_once_and_a_flood_is_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut report = Report::open(folder.path());
        let read = || std::fs::read_to_string(folder.path().join("report.md")).expect("a report");
        report.heading(2, "Kernels");
        report.quote("| a | b |");
        report.quote("ok\n");
        assert_eq!(read(), "\n## Kernels\n\n| a | b |\nok  \n");
        for _ in 0..LINES + 10 {
            report.quote("again");
        }
        let all = read();
        assert_eq!(all.matches("again").count(), LINES - 2);
        assert_eq!(all.matches("left out").count(), 1);
        // Another run adds.
        Report::open(folder.path()).line("more");
        assert!(read().starts_with(&all) && read().ends_with("more  \n"));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_and_another_taken() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let report = Report::open(file.path());
        assert!(report.path().starts_with(std::env::temp_dir()));
        let said = std::fs::read_to_string(report.path()).expect("a report");
        let named = file.path().display().to_string();
        assert!(
            said.contains(&named) && said.contains("cannot be written"),
            "{said}"
        );
        let folder = report.path().parent().expect("a folder");
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
