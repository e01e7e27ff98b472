//! The pieces that the page of a stream is told, put together as its script does it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mtcae_dfer::video::Geometry;
use mtcae_dfer::{Answer, ClassProbability, FramePrediction, Prediction, Results, Timeline};
use mtcae_report::{Course, Report};
use serde_json::Value;

const CLASSES: [&str; 2] = ["happy", "sad"];

fn window(n: u32, person: Option<u32>) -> Prediction {
    let happy = 0.5 + 0.4 * (n as f32).sin();
    let class = |(class, probability): (&str, f32)| ClassProbability {
        class: class.to_owned(),
        probability,
    };
    let start = f64::from(n) * 0.5;
    Prediction {
        file: None,
        person,
        start,
        end: start + 2.0,
        expression: "happy".to_owned(),
        confidence: happy,
        refusal: None,
        probabilities: [(CLASSES[0], happy), (CLASSES[1], 1.0 - happy)]
            .map(class)
            .to_vec(),
        action_units: vec![],
        frames: (0..16)
            .map(|k| FramePrediction {
                index: u64::from(4 * n + k),
                time: start + f64::from(k) / 8.0,
                // Says which window it is of.
                face_box: Some([n as f32, 0.0, 400.0, 300.0].into()),
                landmarks: None,
                action_units: vec![],
                detected: None,
                square: None,
            })
            .collect(),
        source: Geometry::plain(480, 360),
        trained_on: None,
        seen: None,
        warnings: vec![],
    }
}

/// Columns of a pack of two classes and no action units: by a window's start its smoothed
/// probabilities, by a frame's time the model's left edge.
type Columns = (BTreeMap<u64, [u16; 2]>, BTreeMap<u64, u16>);

fn columns(pack: &[u8], shape: &Value) -> Columns {
    let count = |name: &str| shape[name].as_u64().expect("a number") as usize;
    let (w, p, f) = (count("windows"), count("points"), count("frames"));
    let mut at = count("at");
    let mut take = |bytes: usize| {
        let column = &pack[at..at + bytes];
        at += bytes.next_multiple_of(8);
        column
    };
    let bounds = take(16 * w);
    for bytes in [4 * w, w, 2 * w, 4 * w] {
        take(bytes);
    }
    let smooth = take(4 * p);
    take(p);
    let times = take(8 * f);
    take(4 * f);
    let model = take(28 * f);
    let u16_at = |column: &[u8], i: usize| u16::from_le_bytes([column[2 * i], column[2 * i + 1]]);
    let f64_at = |column: &[u8], i: usize| {
        f64::from_le_bytes(column[8 * i..8 * i + 8].try_into().expect("8 bytes"))
    };
    // Times of these windows are above 0, and the bits of such numbers have their order.
    let points = (0..p).map(|i| {
        let both = [u16_at(smooth, 2 * i), u16_at(smooth, 2 * i + 1)];
        (f64_at(bounds, 2 * i).to_bits(), both)
    });
    let frames = (0..f).map(|i| (f64_at(times, i).to_bits(), u16_at(model, 14 * i)));
    (points.collect(), frames.collect())
}

#[test]
fn pieces_put_together_are_the_columns_of_a_report() {
    let windows: Vec<Prediction> = (0..40).map(|n| window(n, None)).collect();
    let classes = CLASSES.map(str::to_owned);
    let mut course = Course::new("a stream", None, &classes, &[], (2.0, 0.5));
    let (mut points, mut frames) = (BTreeMap::new(), BTreeMap::new());
    for window in &windows {
        let piece = course.add(std::slice::from_ref(window)).expect("told");
        let piece: Value = serde_json::from_str(&piece.expect("a piece")).expect("JSON");
        let pack = STANDARD
            .decode(piece["pack"].as_str().expect("text"))
            .expect("base64");
        let shape = &piece["results"]["people"][0]["shape"];
        // Its own window, and as many as overlap it on one side.
        assert!(shape["windows"].as_u64().is_some_and(|n| n <= 5));
        let (new, seen) = columns(&pack, shape);
        points.extend(new);
        let cut = piece["cuts"][0].as_f64().unwrap_or(-1.0);
        frames.extend(
            seen.into_iter()
                .filter(|(time, _)| f64::from_bits(*time) > cut),
        );
    }

    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let mut report = Report::new(&page).expect("a report");
    let timeline = Timeline::new(2.0, 0.5, windows).expect("smoothed");
    let results = Results {
        provenance: None,
        answer: Answer::Windows(vec![timeline]),
    };
    report.add(&page, &results);
    report.save().expect("saved");
    let text = std::fs::read_to_string(&page).expect("a page");
    let part = |start: &str| {
        let (_, rest) = text.split_once(start).expect("its start");
        rest.split_once("</script>").expect("its end").0.to_owned()
    };
    let head: Value = serde_json::from_str(&part("type=\"application/json\">")).expect("JSON");
    let pack = STANDARD.decode(part("id=\"pack-0\">")).expect("base64");
    let shape = &head["results"][0]["people"][0]["shape"];
    let whole = columns(&pack, shape);
    assert!(points == whole.0, "smoothed probabilities");
    assert!(frames == whole.1, "whose frames are taken");
}

#[test]
fn who_is_gone_is_forgotten_and_nobody_is_no_piece() {
    let classes = CLASSES.map(str::to_owned);
    let mut course = Course::new("a stream", None, &classes, &[], (2.0, 0.5));
    assert_eq!(course.add(&[]).expect("told"), None);
    let mut largest = 0;
    for n in 0..500 {
        let piece = course.add(&[window(n, Some(n)), window(n, Some(1000))]);
        largest = largest.max(piece.expect("told").expect("a piece").len());
    }
    assert!(largest < 10_000, "{largest} bytes");
    let page = course.page("// a script").expect("a page");
    assert!(page.policy.contains("connect-src 'self'") && page.html.contains("// a script"));
    assert!(
        !page.policy.contains("file:"),
        "a page that is served reaches no files"
    );
    assert!(page.html.contains("\"live\":true") && page.html.contains("\"results\":[]"));
}
