//! Files of results: read as they were written, and refused in words.

use std::collections::BTreeMap;

use mtcae_dfer::model::Identity;
use mtcae_dfer::{Answer, Prediction, Provenance, Results, SourceFile, Timeline};

const BEFORE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/e3dce91/results/01-01-03-01-01-01-01.json"
);

fn results() -> Results {
    let text = std::fs::read(BEFORE).expect("read");
    let prediction: Prediction = serde_json::from_slice(&text).expect("a prediction");
    Results {
        provenance: Some(Provenance {
            program: "mtcae 0.1.0".to_owned(),
            model: Identity {
                name: "model".to_owned(),
                files: BTreeMap::from([("config.json".to_owned(), "0".repeat(64))]),
                trained_on: Some("rendered faces".to_owned()),
            },
            source: Some(SourceFile::of(BEFORE).expect("hashed")),
            settings: serde_json::json!({"precision": "f32"}),
        }),
        answer: Answer::Clip(vec![prediction]),
    }
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.json");
    let clip = results();
    clip.save(&path).expect("written");
    assert_eq!(Results::read(&path).expect("read"), clip);

    let Answer::Clip(predictions) = clip.answer.clone() else {
        unreachable!()
    };
    let windows = Results {
        answer: Answer::Windows(vec![
            Timeline::new(2.0, 1.0, predictions).expect("smoothed"),
        ]),
        ..clip
    };
    let mut line = Vec::new();
    windows.write(&mut line, false).expect("written");
    assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
    assert_eq!(Results::parse(&line), Ok(windows));
}

#[test]
fn what_is_none_is_refused_in_words() {
    let mut text = Vec::new();
    results().write(&mut text, false).expect("written");
    let text = String::from_utf8(text).expect("UTF-8");
    for (from, to, words) in [
        ("", "", "not results of infer"),
        (&text[..], "", "EOF"),
        (&text[..], "{\"a\": 1}", "not results of infer"),
        (&text[..], "[1, 2", "EOF"),
        ("mtcae-results", "coco", "`format` is \"coco\""),
        ("\"version\":1", "\"version\":7", "a newer program"),
        ("\"version\":1", "\"of\":1", "no `version`"),
        (
            "\"predictions\"",
            "\"said\"",
            "either `predictions` or `timelines`",
        ),
        (
            "\"predictions\":",
            "\"timelines\":[],\"predictions\":",
            "either",
        ),
        (
            "\"confidence\"",
            "\"sureness\"",
            "missing field `confidence`",
        ),
    ] {
        let changed = match from {
            "" => "[{\"file\": 3}]".to_owned(),
            from => text.replacen(from, to, 1),
        };
        let refusal = Results::parse(changed.as_bytes()).expect_err(words);
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
    let error = Results::read("/nowhere/a.json").expect_err("no file");
    assert!(
        error.to_string().starts_with("/nowhere/a.json: "),
        "{error}"
    );
}
