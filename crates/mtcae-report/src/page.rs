//! The page: one HTML file from its parts.

use std::io::{self, Read, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// What the page says it was made by.
const GENERATOR: &str = "mtcae-report";

const PAGE: &str = include_str!("../assets/page.html");
const STYLE: &str = include_str!("../assets/style.css");

/// The script's parts in their order: one scope, so that each knows those before it.
const SCRIPTS: [&str; 9] = [
    include_str!("../assets/dom.js"),
    include_str!("../assets/store.js"),
    include_str!("../assets/edits.js"),
    include_str!("../assets/list.js"),
    include_str!("../assets/stage.js"),
    include_str!("../assets/timeline.js"),
    include_str!("../assets/panel.js"),
    include_str!("../assets/summary.js"),
    include_str!("../assets/course.js"),
];

/// The last part, which starts the page.
const START: &str = include_str!("../assets/main.js");

/// Where a page comes from, and what it may reach.
#[derive(Clone, Copy)]
pub(crate) enum From<'a> {
    /// A file beside the videos that it links; it connects to nothing.
    File,
    /// A server, whose script is run before the page starts and may connect to it alone.
    Server(&'a str),
}

impl From<'_> {
    /// The whole script: one scope.
    fn script(self) -> String {
        let own = match self {
            Self::File => "",
            Self::Server(script) => script,
        };
        let parts = SCRIPTS.concat();
        format!("(() => {{\n\"use strict\";\n{parts}{own}{START}}})();\n")
    }

    /// The Content-Security-Policy.
    pub fn policy(self) -> String {
        let digest = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
        let reach = match self {
            Self::File => "img-src 'self' file: data: blob:; media-src 'self' file: blob:",
            Self::Server(_) => "img-src data:; connect-src 'self'",
        };
        format!(
            "default-src 'none'; script-src {}; style-src {}; {reach}; base-uri 'none'; \
             form-action 'none'",
            digest(&self.script()),
            digest(STYLE)
        )
    }
}

/// Whether a file is a page that [`Report::save`](crate::Report::save) wrote.
pub fn is_report(path: impl AsRef<Path>) -> bool {
    let mut start = Vec::new();
    let read = mtcae_core::files::open(path).and_then(|f| f.take(1024).read_to_end(&mut start));
    let says = format!("<meta name=\"generator\" content=\"{GENERATOR} ");
    let mut windows = start.windows(says.len());
    read.is_ok() && windows.any(|w| w == says.as_bytes())
}

/// Writes the page: `head` is JSON, and each pack the columns of one file of results.
pub(crate) fn write<'a>(
    out: &mut dyn Write,
    from: From<'_>,
    head: &str,
    packs: impl Iterator<Item = &'a [u8]>,
) -> io::Result<()> {
    let (script, policy) = (from.script(), from.policy());
    let generator = concat!("mtcae-report ", env!("CARGO_PKG_VERSION"));
    let filled = |name: &str| -> Option<String> {
        Some(match name {
            "generator" => generator.to_owned(),
            "policy" => policy.clone(),
            "style" => STYLE.to_owned(),
            "script" => script.clone(),
            "head" => in_script(head),
            _ => return None,
        })
    };
    let (before, after) = PAGE.split_once("@@packs@@").unwrap_or((PAGE, ""));
    // Text between marks, and the names in them, by turns.
    for (i, part) in before.split("@@").enumerate() {
        match filled(part).filter(|_| i % 2 == 1) {
            Some(text) => out.write_all(text.as_bytes())?,
            None => out.write_all(part.as_bytes())?,
        }
    }
    // Last, so that the page is there before its numbers are.
    for (place, pack) in packs.enumerate() {
        let text = STANDARD.encode(pack);
        writeln!(
            out,
            "<script type=\"text/plain\" id=\"pack-{place}\">{text}</script>"
        )?;
    }
    out.write_all(after.as_bytes())
}

/// JSON that ends no script element, whatever the names of files in it.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_of_the_page_is_filled_and_nothing_else_is() {
        let mut page = Vec::new();
        let head = r#"{"file":"</script><script>alert(1)</script><!--@@policy@@"}"#;
        write(&mut page, From::File, head, [&[1u8, 2, 3][..]].into_iter()).expect("written");
        let page = String::from_utf8(page).expect("text");
        let (before, rest) = page
            .split_once(r#"type="application/json">"#)
            .expect("the head");
        assert!(!before.contains("@@"), "a mark is left");
        let (json, after) = rest.split_once("</script>").expect("its end");
        let read: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(
            read,
            serde_json::from_str::<serde_json::Value>(head).expect("JSON")
        );
        assert!(after.contains("<script type=\"text/plain\" id=\"pack-0\">AQID</script>"));
        // The style, the script, the head and the pack.
        assert_eq!(page.matches("</script>").count(), 3);
    }

    #[test]
    fn the_script_and_the_style_end_no_element_of_the_page() {
        for text in SCRIPTS.iter().chain([&START, &STYLE]) {
            let text = text.to_lowercase();
            assert!(
                !text.contains("</script") && !text.contains("</style") && !text.contains("<!--")
            );
        }
    }
}
