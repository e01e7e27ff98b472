//! A row: what is said of one file, on one line.

use std::borrow::Cow;

use serde::Deserialize;

/// What is said of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// One line of JSON, without its line feed.
    pub line: Vec<u8>,
    /// Why nothing is said, where that is so: the row's `error`.
    pub error: Option<String>,
}

/// What `format` says in the row of a file of which nothing can be said, where the task has no
/// rows of its own for that.
pub const FAILED: &str = "mtcae-failed";

impl Row {
    /// Of a file of which nothing can be said.
    pub fn failed(file: &str, error: &str) -> Self {
        let row = serde_json::json!({
            "format": FAILED, "version": 1, "file": file, "error": error,
        });
        Self {
            line: row.to_string().into_bytes(),
            error: Some(error.to_owned()),
        }
    }
}

/// Of a row, what tells which file it is of.
#[derive(Deserialize)]
struct About<'a> {
    #[serde(borrow)]
    file: Option<Cow<'a, str>>,
    #[serde(borrow)]
    provenance: Option<Provenance<'a>>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Provenance<'a> {
    #[serde(borrow)]
    source: Option<Source<'a>>,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow)]
    file: Cow<'a, str>,
}

/// Which file a row is of, and why nothing is said of it.
pub(crate) fn about(line: &[u8]) -> Result<(String, Option<String>), String> {
    let about: About<'_> = serde_json::from_slice(line).map_err(|e| format!("no row: {e}"))?;
    let source = about.provenance.and_then(|p| p.source).map(|s| s.file);
    let file = about.file.or(source).ok_or("no row: it names no file")?;
    Ok((file.into_owned(), about.error.map(Cow::into_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_results_and_failures_say_whose_they_are() {
        let failed = Row::failed("c\"d.mp4", "is empty");
        for (line, file, error) in [
            (
                r#"{"schema":"mtcae-labels/1","file":"a\/b.mp4","error":null}"#,
                "a/b.mp4",
                None,
            ),
            (
                r#"{"format":"mtcae-results","provenance":{"source":{"bytes":1,"file":"b.mp4"}},"predictions":[]}"#,
                "b.mp4",
                None,
            ),
            (
                std::str::from_utf8(&failed.line).expect("text"),
                "c\"d.mp4",
                Some("is empty"),
            ),
        ] {
            let (name, why) = about(line.as_bytes()).expect(line);
            assert_eq!((&*name, why.as_deref()), (file, error));
        }
        for none in ["{}", "[]", "{\"file\":\"a\"", ""] {
            assert!(about(none.as_bytes()).is_err(), "{none}");
        }
    }
}
