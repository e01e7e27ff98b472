//! The measures against scikit-learn, numpy and scipy
//! (`fixtures/objective/make.py`), and what they refuse.
//!
//! Ratios of counts and means of at most some hundred numbers in `f64`: 1e-12 is
//! ten thousand roundings.

use mtcae_objective::{
    Bootstrap, Calibration, ConfusionMatrix, Error, Interval, Summary, TopLabels, box_iou,
    landmark_nme,
};
use mtcae_testing::{assert_allclose, fixtures};
use serde::de::DeserializeOwned;
use serde_json::Value;

const TOLERANCE: f64 = 1e-12;

fn fixture() -> Value {
    let path = fixtures().join("objective/metrics.json");
    let text = std::fs::read_to_string(path).expect("readable");
    serde_json::from_str(&text).expect("JSON")
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("of this type")
}

fn close(name: &str, got: f64, want: &Value) {
    let want: f64 = read(want);
    assert_allclose(name, &[got], &[want], TOLERANCE, TOLERANCE);
}

fn names(classes: usize) -> Vec<String> {
    (0..classes).map(|c| format!("class {c}")).collect()
}

#[test]
fn rates_are_scikit_learns() {
    let fixture = fixture();
    let cases = fixture["classification"].as_array().expect("a list");
    assert_eq!(cases.len(), 9);
    for case in cases {
        let name: String = read(&case["name"]);
        let (truth, predicted): (Vec<usize>, Vec<usize>) =
            (read(&case["truth"]), read(&case["predicted"]));
        let matrix =
            ConfusionMatrix::from_labels(names(read(&case["classes"])), &truth, &predicted)
                .expect("good labels");
        assert_eq!(
            matrix.rows().map(<[u64]>::to_vec).collect::<Vec<_>>(),
            read::<Vec<Vec<u64>>>(&case["confusion"]),
            "{name}"
        );
        for (what, got) in [
            ("recall", matrix.recall()),
            ("precision", matrix.precision()),
            ("f1", matrix.f1()),
        ] {
            let want: Vec<Option<f64>> = read(&case[what]);
            assert_eq!(got.len(), want.len(), "{name}: {what}");
            for (c, pair) in got.into_iter().zip(want).enumerate() {
                match pair {
                    (Some(g), Some(w)) => {
                        assert!(
                            (g - w).abs() <= TOLERANCE,
                            "{name}: {what} of {c}: {g}, {w}"
                        );
                    }
                    (got, want) => assert_eq!(got, want, "{name}: {what} of {c}"),
                }
            }
        }
        close("UAR", matrix.uar().expect("clips"), &case["uar"]);
        close("WAR", matrix.war().expect("clips"), &case["war"]);
        close(
            "macro F1",
            matrix.macro_f1().expect("clips"),
            &case["macro_f1"],
        );

        // The same clips counted in two parts.
        let half = truth.len() / 2;
        let part = |r: std::ops::Range<usize>| {
            ConfusionMatrix::from_labels(names(matrix.classes()), &truth[r.clone()], &predicted[r])
                .expect("good labels")
        };
        let mut merged = part(0..half);
        merged.merge(&part(half..truth.len())).expect("same names");
        assert_eq!(merged, matrix, "{name}");

        let json = serde_json::to_string(&matrix).expect("JSON");
        assert_eq!(
            serde_json::from_str::<ConfusionMatrix>(&json).expect("read"),
            matrix
        );
        let mut summary = Summary::new(&matrix).expect("clips");
        summary.ece = Some(0.25);
        let json = serde_json::to_string(&summary).expect("JSON");
        // Not for equality: serde_json may read a number one bit off.
        let again: Summary = serde_json::from_str(&json).expect("read");
        assert_eq!(again.confusion, summary.confusion, "{name}");
        assert_allclose("UAR", &[again.uar], &[summary.uar], TOLERANCE, 0.0);
        assert_eq!(
            summary.classes.iter().map(|c| c.support).sum::<u64>(),
            summary.clips
        );
    }
}

#[test]
fn overlaps_are_those_counted_cell_by_cell() {
    let fixture = fixture();
    let cases = fixture["overlap"].as_array().expect("a list");

    for case in cases {
        let pair: [[f64; 4]; 2] = [read(&case["a"]), read(&case["b"])];
        let iou = box_iou(pair[0], pair[1]).expect("finite");
        close("IoU", iou, &case["iou"]);
        // Another unit and aspect change nothing.
        let pixels = pair.map(|[x1, y1, x2, y2]| [1280. * x1, 720. * y1, 1280. * x2, 720. * y2]);
        close(
            "IoU in pixels",
            box_iou(pixels[1], pixels[0]).expect("finite"),
            &case["iou"],
        );
    }
}

#[test]
fn landmark_errors_are_numpys() {
    let fixture = &fixture()["landmarks"];
    let faces = |key: &str| read::<Vec<[[f64; 2]; 5]>>(&fixture[key]);
    let (truth, predicted) = (faces("truth"), faces("predicted"));
    for size in fixture["by_size"].as_array().expect("a list") {
        let aspect = read::<f64>(&size["width"]) / read::<f64>(&size["height"]);
        let want: Vec<f64> = read(&size["nme"]);
        let got: Vec<f64> = predicted
            .iter()
            .zip(&truth)
            .map(|(p, t)| landmark_nme(p, t, aspect).expect("measured"))
            .collect();
        assert_allclose("NME", &got, &want, TOLERANCE, 0.0);
    }
}

#[test]
fn calibration_is_guos() {
    let fixture = fixture();
    let cases = fixture["calibration"].as_array().expect("a list");
    assert_eq!(cases.len(), 5);
    for case in cases {
        let (rows, truth): (Vec<Vec<f64>>, Vec<usize>) =
            (read(&case["probabilities"]), read(&case["truth"]));
        let top = TopLabels::new(&rows, &truth).expect("distributions");
        assert_eq!(top.confidence, read::<Vec<f64>>(&case["confidence"]));
        assert_eq!(top.right, read::<Vec<bool>>(&case["right"]));
        let got =
            Calibration::new(&top.confidence, &top.right, read(&case["bins"])).expect("measured");
        close("ECE", got.ece, &case["ece"]);
        let table = case["table"].as_array().expect("a list");
        assert_eq!(got.bins.len(), table.len());
        for (bin, want) in got.bins.iter().zip(table) {
            assert_eq!(bin.count, read::<usize>(&want["count"]), "{case}");
            for (got, key) in [(bin.confidence, "confidence"), (bin.accuracy, "accuracy")] {
                match got {
                    Some(got) => close(key, got, &want[key]),
                    None => assert!(want[key].is_null()),
                }
            }
        }
    }
    // 0 belongs to the first bin, which is open below.
    let edge = Calibration::new(&[0.0, 1.0], &[false, true], 15).expect("measured");
    assert_eq!(
        (edge.bins[0].count, edge.bins[14].count, edge.ece),
        (1, 1, 0.0)
    );
}

fn mean(values: &[f64], clips: &[usize]) -> f64 {
    clips.iter().map(|i| values[*i]).sum::<f64>() / clips.len() as f64
}

/// With 20,000 samples the 2.5 % point is known to about 1.5 % of the interval's
/// width (one deviation: √(p(1−p)/n) over the density there); 5 % is over three
/// deviations. scipy and numpy drew 200,000.
/// Clips each of a subject of its own.
fn clips(count: usize) -> Vec<usize> {
    (0..count).collect()
}

#[test]
fn intervals_are_those_of_scipy_and_numpy() {
    let fixture = &fixture()["bootstrap"];
    let bootstrap = Bootstrap {
        resamples: 20_000,
        ..Bootstrap::default()
    };
    let near = |got: Interval, want: [f64; 2]| {
        let slack = 0.05 * (want[1] - want[0]);
        assert!(
            (got.low - want[0]).abs() < slack && (got.high - want[1]).abs() < slack,
            "{got:?}, {want:?}"
        );
        println!("{got:?} {want:?}");
    };
    let values: Vec<f64> = read(&fixture["values"]);
    let by_clip = bootstrap
        .by_subject(&clips(80), |clips| Ok(mean(&values, clips)))
        .expect("drawn");
    near(by_clip, read(&fixture["mean_by_clip"]));

    let values: Vec<f64> = read(&fixture["clustered"]);
    let subjects: Vec<u32> = read(&fixture["subjects"]);
    let by_subject = bootstrap
        .by_subject(&subjects, |clips| Ok(mean(&values, clips)))
        .expect("drawn");
    near(by_subject, read(&fixture["mean_by_subject"]));
    assert_eq!(
        by_subject.estimate,
        mean(&values, &(0..80).collect::<Vec<_>>())
    );
    // That clips of one subject are alike makes the honest interval wider.
    let ignorant = bootstrap
        .by_subject(&clips(80), |clips| Ok(mean(&values, clips)))
        .expect("drawn");
    assert!(by_subject.high - by_subject.low > 1.5 * (ignorant.high - ignorant.low));
}

#[test]
fn equal_seeds_draw_equal_samples() {
    let draw = |seed| {
        let mut samples = Vec::new();
        let bootstrap = Bootstrap {
            resamples: 3,
            seed,
            ..Bootstrap::default()
        };
        bootstrap
            .by_subject(&["a", "b", "a", "c", "d"], |clips| {
                samples.push(clips.to_vec());
                Ok(0.0)
            })
            .expect("drawn");
        samples
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let samples = draw(1);
    assert_eq!(samples[0], [0, 1, 2, 3, 4]);
    for sample in &samples {
        // Both clips of `a`, or neither, as often.
        let count = |clip| sample.iter().filter(|c| **c == clip).count();
        assert_eq!(count(0), count(2));
        assert_eq!(count(0) + count(1) + count(3) + count(4), 4);
    }
}

#[test]
fn too_few_subjects_give_no_interval() {
    let bootstrap = Bootstrap::default();
    assert_eq!(bootstrap.fewest(), 4);
    // What the rule says, counted: below it, the draws of the worst subject alone fill
    // the lower tail, from it on they do not.
    for (subjects, fills) in [(2, true), (3, true), (4, false), (5, false)] {
        let all_worst = 1.0 / f64::powi(f64::from(subjects), subjects);
        assert_eq!(all_worst >= 0.025, fills, "{subjects}");
    }
    for subjects in [vec!["a"], vec!["a", "b"], vec!["c", "b", "a", "a"]] {
        let said = bootstrap.by_subject(&subjects, |_| Ok(0.5));
        assert!(
            matches!(said, Err(Error::TooFew { fewest: 4, .. })),
            "{said:?}"
        );
    }
    let one = bootstrap.by_subject(&["a", "a", "a", "a"], |_| Ok(0.5));
    assert_eq!(
        one.expect_err("one subject").to_string(),
        "too few subjects to draw an interval from: 1, and 4 are needed"
    );
    let narrow = Bootstrap {
        level: 0.5,
        ..bootstrap
    };
    assert_eq!(narrow.fewest(), 3);
}

#[test]
fn what_cannot_be_measured_is_an_error_by_name() {
    fn said<T: std::fmt::Debug>(result: Result<T, Error>, message: &str) {
        assert_eq!(result.expect_err(message).to_string(), message);
    }
    let nan = f64::NAN;
    let empty = ConfusionMatrix::new(["a", "b"]).expect("two classes");
    for rate in [empty.uar(), empty.war(), empty.macro_f1()] {
        said(rate, "there are no clips, so nothing can be measured");
    }
    said(
        ConfusionMatrix::new(["a", "a"]),
        r#"class name 1: "a" is listed twice"#,
    );
    assert!(ConfusionMatrix::new(Vec::<String>::new()).is_err());
    said(
        ConfusionMatrix::from_labels(["a", "b"], &[0, 1], &[0, 2]),
        "predicted class 1: is class 2, but there are 2 classes, numbered from 0",
    );
    said(
        ConfusionMatrix::from_labels(["a", "b"], &[0, 1], &[0]),
        "predicted classes: 1 given, 2 expected",
    );
    let broken = r#"{"names": ["a", "b"], "counts": [[1, 2], [3]]}"#;
    assert!(serde_json::from_str::<ConfusionMatrix>(broken).is_err());
    let mut other = ConfusionMatrix::new(["a", "c"]).expect("two classes");
    said(other.merge(&empty), r#"class name 1: "b" is not "c""#);

    said(
        box_iou([0.0; 4], [nan, 0., 1., 1.]),
        "box 1: NaN is not a finite number",
    );
    assert!(box_iou([-1e308, -1e308, 1e308, 1e308], [0., 0., 1., 1.]).is_err());

    let face = [[0.1, 0.2], [0.3, 0.2], [0.2, 0.3], [0.1, 0.4], [0.3, 0.4]];
    let mut blind = face;
    blind[1] = blind[0];
    said(
        landmark_nme(&face, &blind, 1.0),
        "true landmarks of face 0: both eyes are one point, so there is no distance to divide by",
    );
    said(
        landmark_nme(&face, &face, 0.0),
        "aspect of face 0: must be positive, not 0",
    );
    blind[4][1] = nan;
    assert!(landmark_nme(&blind, &face, 1.0).is_err());

    assert!(Calibration::new(&[], &[], 15).is_err());
    assert!(Calibration::new(&[0.5], &[true], 0).is_err());
    said(
        Calibration::new(&[0.5, nan], &[true, true], 15),
        "confidence 1: NaN is not in [0, 1]",
    );
    said(
        TopLabels::new(&[[0.5, 0.9]], &[0]),
        "probabilities of clip 0: they sum to 1.4, not 1",
    );
    assert!(TopLabels::new(&[[0.5, nan]], &[0]).is_err());
    assert!(TopLabels::new(&[[0.5, 0.5]], &[2]).is_err());
    assert!(TopLabels::new(&[vec![1.0], vec![0.5, 0.5]], &[0, 0]).is_err());

    let bootstrap = Bootstrap::default();
    said(
        bootstrap.by_subject(&clips(4), |clips| {
            Ok(if clips == [0, 1, 2, 3] { 0.0 } else { nan })
        }),
        "statistic of sample 1: NaN is not a finite number",
    );
    said(
        bootstrap.by_subject(&clips(0), |_| Ok(0.0)),
        "there are no clips, so nothing can be measured",
    );
    let none = Bootstrap {
        resamples: 0,
        ..bootstrap
    };
    assert!(none.by_subject(&clips(4), |_| Ok(0.0)).is_err());
    for level in [0.0, 1.0, nan] {
        let all = Bootstrap { level, ..bootstrap };
        assert!(all.by_subject(&clips(4), |_| Ok(0.0)).is_err());
    }
}
