//! Documents of every format: names, and what they say of themselves. What is in them is held
//! against the readers of other programs by `readers.py`.

mod common;

use std::path::Path;

use common::{of, prediction, timeline, window};
use mtcae_dfer::{Answer, Results};
use mtcae_formats::{Columns, Document, Format};

fn documents() -> Vec<Document> {
    let of = |columns| Format::ALL.iter().flat_map(move |f| f.documents(columns));
    let mut all: Vec<Document> = of(Columns::Own).collect();
    all.extend(of(Columns::OpenFace).filter(|d| d.ending().contains("openface")));
    all
}

fn written(document: Document, results: &Results) -> Vec<u8> {
    let mut out = Vec::new();
    let written = document.write(results, Some(Path::new("/results")), true, &mut out);
    written.expect("written");
    out
}

fn text(document: Document, results: &Results) -> String {
    String::from_utf8(written(document, results)).expect("text")
}

#[test]
fn formats_have_their_names_and_endings_to_themselves() {
    for format in Format::ALL {
        assert_eq!(format.name().parse::<Format>(), Ok(*format));
    }
    let error = "xml".parse::<Format>().expect_err("none of them");
    assert!(
        error.contains("json, csv, eaf") && error.ends_with("coco"),
        "{error}"
    );
    let endings: std::collections::BTreeSet<_> = documents().iter().map(|d| d.ending()).collect();
    assert_eq!(endings.len(), documents().len());
}

#[test]
fn documents_say_which_video_they_are_about_whatever_its_name() {
    let results = timeline(1.0, 1.0, vec![window(0.0, 1.0, 0.9), window(1.0, 1.0, 0.2)]);
    let folder = tempfile::tempdir().expect("a folder");
    let (mut named, mut unnamed) = (0, Vec::new());
    for document in documents() {
        let path = folder.path().join(format!("a{}", document.ending()));
        std::fs::write(&path, written(document, &results)).expect("written");
        match document.names_its_file() {
            true => {
                let about = document.about(&path);
                assert_eq!(
                    about.as_deref(),
                    Some("some folder/a \"b\" & <c>.mp4"),
                    "{document:?}"
                );
                // What is another's is not ours.
                std::fs::write(&path, "other").expect("written");
                assert_eq!(document.about(&path), None, "{document:?}");
                named += 1;
            }
            false => unnamed.push(document.ending()),
        }
    }
    assert_eq!(named, 11);
    assert_eq!(
        unnamed,
        [".TextGrid", "_events.tsv", ".srt", ".openface.csv"]
    );
}

#[test]
fn captions_keep_their_frame_whatever_the_classes_are_called() {
    let mut clip = prediction([0.0, 3725.25], 0..2, 25.0, 0.9);
    clip.expression = "<b>\n\nof --> two & more".to_owned();
    let results = of(Answer::Clip(vec![clip]));
    let srt = text(Document::Srt, &results);
    assert!(
        srt.starts_with("1\n00:00:00,000 --> 01:02:05,250\n<b> of --> two & more 90 %\n\n"),
        "{srt}"
    );
    let vtt = text(Document::Vtt, &results);
    assert!(
        vtt.ends_with("\n&lt;b&gt; of --&gt; two &amp; more 90 %\n\n"),
        "{vtt}"
    );
    assert_eq!(vtt.matches("-->").count(), 1, "{vtt}");
}

#[test]
fn a_document_of_elan_holds_no_character_that_xml_cannot() {
    let mut clip = prediction([0.0, 1.0], 0..2, 25.0, 0.9);
    clip.expression = "ha\u{1}ppy <&\"".to_owned();
    let eaf = text(Document::Eaf, &of(Answer::Clip(vec![clip])));
    assert!(eaf.contains("ha\u{fffd}ppy &lt;&amp;"), "{eaf}");
    assert!(eaf.contains("%22b%22%20%26%20%3Cc%3E.mp4"), "{eaf}");
    assert!(!eaf.contains('\u{1}'));
}

#[test]
fn results_of_nobody_are_documents_too() {
    let nobody = of(Answer::Clip(Vec::new()));
    for document in documents() {
        let size = written(document, &nobody).len();
        // Without a model there are no columns.
        assert!(size > 0 || matches!(document, Document::Srt | Document::Csv(Columns::Own)));
    }
}

#[test]
fn times_that_no_clock_has_are_no_panic() {
    for time in [-5.0, 1e300] {
        let results = of(Answer::Clip(vec![prediction(
            [time, time],
            0..2,
            25.0,
            0.9,
        )]));
        for document in documents() {
            written(document, &results);
        }
    }
}
