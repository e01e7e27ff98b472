//! Pages of results that are made up, read as a browser reads them.

use std::path::Path;

use mtcae_dfer::video::Geometry;
use mtcae_dfer::{
    Answer, ClassProbability, Face, FramePrediction, Prediction, Refusal, Results, Timeline,
};
use mtcae_report::{Labels, Report, gather, is_report};
use serde_json::Value;

fn prediction(file: &str, probabilities: &[(&str, f32)]) -> Prediction {
    let probabilities: Vec<ClassProbability> = probabilities
        .iter()
        .map(|(class, probability)| ClassProbability {
            class: (*class).to_owned(),
            probability: *probability,
        })
        .collect();
    let best = probabilities
        .iter()
        .max_by(|a, b| a.probability.total_cmp(&b.probability));
    Prediction {
        file: Some(file.into()),
        person: None,
        start: 0.0,
        end: 2.0,
        expression: best.map(|b| b.class.clone()).unwrap_or_default(),
        confidence: best.map_or(0.0, |b| b.probability),
        refusal: None,
        probabilities,
        action_units: vec!["AU12".to_owned()],
        frames: vec![FramePrediction {
            index: 7,
            time: 0.28,
            face_box: Some([48.0, 36.0, 240.0, 180.0].into()),
            landmarks: None,
            action_units: vec![0.5],
            detected: Some(Face {
                face_box: [0.0, 0.0, 480.0, 360.0].into(),
                landmarks: [[240.0, 180.0]; 5].into(),
                score: 1.0,
            }),
            square: None,
        }],
        source: Geometry::plain(480, 360),
        trained_on: Some("faces".to_owned()),
        seen: None,
        warnings: vec![],
    }
}

fn clip(file: &str, probabilities: &[(&str, f32)]) -> Results {
    Results {
        provenance: None,
        answer: Answer::Clip(vec![prediction(file, probabilities)]),
    }
}

/// The page's text, its head, and its packs in base64.
fn read(page: &Path) -> (String, Value, Vec<String>) {
    let text = std::fs::read_to_string(page).expect("a page");
    let part = |start: &str| {
        let all = text.split(start).skip(1);
        let all = all.map(|rest| rest.split("</script>").next().expect("an end").to_owned());
        all.collect::<Vec<String>>()
    };
    let head = part("<script id=\"head\" type=\"application/json\">");
    let head = serde_json::from_str(&head[0]).expect("JSON");
    let packs = part("<script type=\"text/plain\" id=\"pack-");
    let packs = packs
        .iter()
        .map(|p| p.split_once('>').expect("text").1.to_owned());
    let packs = packs.collect();
    (text, head, packs)
}

fn bytes(base64: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(base64)
        .expect("base64")
}

#[test]
fn names_and_words_of_results_stay_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let evil = "</script><script>alert(1)</script><!-- \u{2028} ' \" & é 表情.mp4";
    let mut report = Report::new(&page).expect("a report");
    report.add(
        &page,
        &clip(evil, &[("</style><b>happy</b>", 0.9), ("sad", 0.1)]),
    );
    report.save().expect("saved");
    let (text, head, _) = read(&page);
    assert_eq!(head["results"][0]["file"], evil);
    assert_eq!(head["classes"][0], "</style><b>happy</b>");
    // The page's own: the head, the script and one pack.
    assert_eq!(text.matches("<script").count(), 3);
    assert!(!text.contains("<b>happy") && !text.contains("<script>alert"));
    // Nothing of another place is asked for, and nothing else runs.
    assert!(text.contains("default-src 'none'") && !text.contains("unsafe-inline"));
    assert!(!text.contains("http://") && !text.contains("https://"));
}

#[test]
fn the_policy_names_the_script_and_the_style_that_the_page_has() {
    use base64::Engine;
    use sha2::{Digest, Sha256};
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    Report::new(&page).expect("a report").save().expect("saved");
    let (text, ..) = read(&page);
    for tag in ["style", "script"] {
        let (_, rest) = text.split_once(&format!("<{tag}>")).expect("its start");
        let (inner, _) = rest.split_once(&format!("</{tag}>")).expect("its end");
        let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(inner));
        assert!(
            text.contains(&format!("{tag}-src 'sha256-{digest}'")),
            "{tag}"
        );
    }
    assert!(is_report(&page) && !is_report(folder.path().join("none.html")));
}

#[test]
fn videos_are_linked_from_the_page_and_named_from_their_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for name in ["videos/a b", "videos/c", "pages"] {
        std::fs::create_dir_all(at(name)).expect("made");
    }
    for name in ["videos/a b/1#?.mp4", "videos/c/2.mp4"] {
        std::fs::write(at(name), "video").expect("written");
    }
    let page = at("pages/page.html");
    let mut report = Report::new(&page).expect("a report");
    for name in ["videos/a b/1#?.mp4", "videos/c/2.mp4"] {
        report.add(&page, &clip(&at(name).to_string_lossy(), &[("a", 1.0)]));
    }
    // A name that leads nowhere now, beside whose results the video lies.
    report.add(
        &at("videos/c/2.json"),
        &clip("elsewhere/2.mp4", &[("a", 1.0)]),
    );
    // A name as it was from the folder that the results' folder is in.
    report.add(&at("pages/3.json"), &clip("videos/c/2.mp4", &[("a", 1.0)]));
    report.add(&page, &clip("nowhere.mp4", &[("a", 1.0)]));
    report.save().expect("saved");
    assert_eq!(report.videos().1, ["nowhere.mp4"]);
    let (_, head, _) = read(&page);
    let of = |i: usize, field: &str| head["results"][i][field].as_str().expect("text").to_owned();
    assert_eq!(of(0, "link"), "../videos/a%20b/1%23%3F.mp4");
    assert_eq!(of(0, "label"), "a b/1#?.mp4");
    assert_eq!([1, 2, 3].map(|i| of(i, "link")), ["../videos/c/2.mp4"; 3]);
    assert_eq!(head["root"], "../videos");
}

#[test]
fn numbers_are_columns_in_the_order_that_the_script_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let mut second = prediction("a.mp4", &[("happy", 0.25), ("sad", 0.75)]);
    (second.start, second.end) = (1.0, 3.0);
    second.refuse(Refusal::TooSmall {
        eyes: 3.0,
        smallest: 6.0,
    });
    let windows = vec![prediction("a.mp4", &[("happy", 1.0), ("sad", 0.0)]), second];
    let timeline = Timeline::new(2.0, 1.0, windows).expect("smoothed");
    let mut report = Report::new(&page).expect("a report");
    let answer = Answer::Windows(vec![timeline]);
    report.add(
        &page,
        &Results {
            provenance: None,
            answer,
        },
    );
    report.save().expect("saved");
    let (_, head, packs) = read(&page);
    let person = &head["results"][0]["people"][0];
    let shape = &person["shape"];
    assert_eq!(
        [
            &shape["at"],
            &shape["windows"],
            &shape["points"],
            &shape["frames"]
        ],
        [0, 2, 2, 1]
    );
    // The mean of what is answered; the window without an answer is told.
    assert_eq!(
        (&person["class"], &person["confidence"]),
        (&0.into(), &1.0.into())
    );
    let remark = person["remarks"][0]["text"].as_str().expect("words");
    assert!(remark.starts_with("no answer: too small") && remark.ends_with("(1 window)"));

    let pack = bytes(&packs[0]);
    let f64_at = |at: usize| f64::from_le_bytes(pack[at..at + 8].try_into().expect("8"));
    let u16_at = |at: usize| u16::from_le_bytes([pack[at], pack[at + 1]]);
    assert_eq!([0, 8, 16, 24].map(f64_at), [0.0, 2.0, 1.0, 3.0]);
    // Two windows of two probabilities, then the classes said: happy, and none.
    assert_eq!(
        [32, 34, 36, 38].map(u16_at),
        [65_534, 0, 16_384, 49_150 + 1]
    );
    assert_eq!(pack[40..42], [0, 255]);
    // Remarks, faces seen, smoothed probabilities and classes: 8 bytes each.
    assert_eq!([48, 50].map(u16_at), [0, 1]);
    let frames = 80;
    assert_eq!(f64_at(frames), 0.28);
    assert_eq!(pack[frames + 8], 7);
    // 48 of 480 is a tenth: (0.1 + ½) · 32767.
    assert_eq!(u16_at(frames + 16), 19_660);
    // No landmarks of the model.
    assert_eq!(u16_at(frames + 16 + 8), u16::MAX);
}

#[test]
fn labels_are_found_by_path_and_what_is_not_found_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let page = at("page.html");
    for name in ["x", "y"] {
        std::fs::create_dir(at(name)).expect("made");
    }
    for name in ["x/1.mp4", "y/1.mp4", "y/2.mp4", "y/3.mp4", "y/4.mp4"] {
        std::fs::write(at(name), "video").expect("written");
    }
    let table =
        "file,class\nx/1.mp4,sad\ny/1.mp4,happy\ny/2.mp4,happy\ny/3.mp4,bored\ny/4.mp4,sad\n";
    std::fs::write(at("known.csv"), table).expect("written");
    let mut report = Report::new(&page).expect("a report");
    for (name, happy) in [
        ("x/1.mp4", 0.9),
        ("y/1.mp4", 0.8),
        ("y/2.mp4", 0.1),
        ("y/3.mp4", 0.6),
        ("z.mp4", 0.5),
    ] {
        let said = [("happy", happy), ("sad", 1.0 - happy)];
        report.add(&page, &clip(&at(name).to_string_lossy(), &said));
    }
    let labels = Labels::read(at("known.csv")).expect("labels");
    report.hold_against(&labels).expect("measured");
    report.save().expect("saved");
    let (_, head, _) = read(&page);
    let found = &head["evaluation"];
    // happy: one right, one taken for sad; sad: one taken for happy.
    assert_eq!(
        found["summary"]["confusion"],
        serde_json::json!([[1, 1], [1, 0]])
    );
    assert_eq!(found["summary"]["uar"], 0.25);
    assert_eq!(found["worst"], serde_json::json!([[0, 0], [2, 0]]));
    let notes = found["notes"].to_string();
    for words in [
        "4 of 5 files have a label; 4 of 5 labels are used",
        "files without a label: ",
        "labels without a file here: y/4.mp4",
        "labels of classes that no model here has: bored of y/3.mp4",
    ] {
        assert!(notes.contains(words), "{words}: {notes}");
    }
}

#[test]
fn corrupt_results_are_named_and_settings_beside_them_are_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let results = clip("a.mp4", &[("happy", 1.0)]);
    results.save(at("a.json")).expect("saved");
    std::fs::write(at("infer-settings.json"), "{\"program\": \"infer\"}").expect("written");
    let found = gather(&[folder.path()]).expect("results");
    assert_eq!((found.results.len(), found.others), (1, 1));
    assert_eq!(found.results[0].1, results);

    let whole = std::fs::read_to_string(at("a.json")).expect("read");
    for (text, words) in [
        (&whole[..whole.len() / 2], "EOF"),
        (
            "{\"format\": \"mtcae-results\", \"version\": 1}",
            "either `predictions` or `timelines`",
        ),
        (
            "{\"format\": \"mtcae-results\", \"version\": 9}",
            "a newer program wrote it",
        ),
        ("\u{0}\u{1}", "expected value"),
    ] {
        std::fs::write(at("b.json"), text).expect("written");
        for path in [at("b.json"), folder.path().to_owned()] {
            let said = gather(&[path]).expect_err("corrupt").to_string();
            assert!(said.contains("b.json: ") && said.contains(words), "{said}");
        }
    }
    std::fs::write(at("b.json"), "{\"a\": 1}").expect("written");
    let said = gather(&[at("b.json")]).expect_err("no results").to_string();
    assert!(said.contains("b.json: not results of infer"), "{said}");
    let empty = tempfile::tempdir().expect("a folder");
    let said = gather(&[empty.path()]).expect_err("empty").to_string();
    assert!(
        said.contains("no results of infer in this folder"),
        "{said}"
    );
}
