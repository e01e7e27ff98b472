//! Scaling of logits and proper scoring rules against scikit-learn and scipy
//! (`fixtures/objective/scaling.py`), and what they refuse.
//!
//! scipy's minimum of a function of one number is known to the square root of a rounding;
//! its fit of vectors ends at a gradient of 1e-13.

use mtcae_objective::{Error, LogitScaling, RIDGE, TopLabels, brier_score, log_loss};
use mtcae_testing::{assert_allclose, fixtures};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    logits: Vec<Vec<f64>>,
    truth: Vec<usize>,
    temperature: f64,
    without_ridge: f64,
    scale: Vec<f64>,
    bias: Vec<f64>,
    before: Scores,
    after: Scores,
}

#[derive(Deserialize)]
struct Scores {
    log_loss: f64,
    brier: f64,
}

fn cases() -> Vec<Case> {
    let path = fixtures().join("objective/scaling.json");
    let text = std::fs::read_to_string(path).expect("readable");
    let whole: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(whole["ridge"].as_f64(), Some(RIDGE));
    let cases: Vec<Case> = serde_json::from_value(whole["cases"].clone()).expect("cases");
    assert_eq!(cases.len(), 4);
    cases
}

fn plain(classes: usize) -> LogitScaling {
    LogitScaling {
        scale: vec![1.0; classes],
        bias: vec![0.0; classes],
    }
}

fn scored(case: &Case, scaling: &LogitScaling) -> [f64; 2] {
    let rows = case.logits.iter().map(|z| scaling.probabilities(z));
    let rows: Vec<Vec<f64>> = rows.collect::<Result<_, _>>().expect("probabilities");
    [
        log_loss(&rows, &case.truth).expect("a loss"),
        brier_score(&rows, &case.truth).expect("a score"),
    ]
}

#[test]
fn fits_are_those_of_scikit_learn_and_scipy() {
    for case in cases() {
        let (logits, truth, name) = (&case.logits, &case.truth, &case.name);
        let classes = case.scale.len();
        for (ridge, want, what) in [
            (RIDGE, case.temperature, "with"),
            (1e-12, case.without_ridge, "without"),
        ] {
            let got = LogitScaling::temperature(logits, truth, ridge).expect("a fit");
            let wants = vec![want; classes];
            assert_allclose(&format!("{name} {what}"), &got.scale, &wants, 1e-6, 1e-6);
            assert_eq!(got.bias, vec![0.0; classes], "{name}");
        }
        let got = LogitScaling::vector(logits, truth, RIDGE).expect("a fit");
        assert_allclose(name, &got.scale, &case.scale, 1e-8, 1e-8);
        assert_allclose(name, &got.bias, &case.bias, 1e-8, 1e-8);
        for (scaling, want) in [(&plain(classes), &case.before), (&got, &case.after)] {
            let want = [want.log_loss, want.brier];
            // What the fit is off by is multiplied by logits of up to some tens.
            assert_allclose(name, &scored(&case, scaling), &want, 1e-9, 1e-7);
        }
    }
}

#[test]
fn what_is_always_right_is_not_scaled_without_end() {
    let logits = [[2.0, 0.0], [0.0, 2.0], [3.0, 0.0]];
    let fit = LogitScaling::temperature(&logits, &[0, 1, 0], RIDGE).expect("a fit");
    assert!(fit.scale[0] > 1.0 && fit.scale[0] < 10.0, "{fit:?}");
}

#[test]
fn what_speaks_against_the_truth_cannot_be_scaled() {
    let logits = [[2.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]];
    for fit in [LogitScaling::temperature, LogitScaling::vector] {
        let said = fit(&logits[..], &[1, 0, 1, 0], RIDGE)
            .expect_err("reversed")
            .to_string();
        assert!(
            said.contains("must be positive") && said.contains("speak against"),
            "{said}"
        );
    }
}

#[test]
fn what_cannot_be_fitted_is_named() {
    let rows = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
    let none: Vec<Vec<f64>> = Vec::new();
    let mut broken = rows.clone();
    broken[1][0] = f64::NAN;
    let mut ragged = rows.clone();
    ragged[1].push(0.0);
    let fit = LogitScaling::temperature;
    assert!(matches!(fit(&none, &[], RIDGE), Err(Error::Empty { .. })));
    assert!(matches!(fit(&rows, &[0], RIDGE), Err(Error::Length { .. })));
    assert!(matches!(
        fit(&rows, &[0, 2], RIDGE),
        Err(Error::Class { class: 2, .. })
    ));
    assert!(matches!(
        fit(&broken, &[0, 1], RIDGE),
        Err(Error::Value { index: 1, .. })
    ));
    assert!(matches!(
        fit(&ragged, &[0, 1], RIDGE),
        Err(Error::Length { found: 3, .. })
    ));
    assert!(matches!(
        fit(&rows, &[0, 1], 0.0),
        Err(Error::Config { field: "ridge", .. })
    ));
    let short = plain(3).probabilities(&[0.0, 1.0]);
    assert!(matches!(
        short,
        Err(Error::Length {
            expected: 3,
            found: 2,
            ..
        })
    ));
    assert!(matches!(
        log_loss(&[[0.7, 0.7]], &[0]),
        Err(Error::Value { .. })
    ));
    assert!(matches!(brier_score(&none, &[]), Err(Error::Empty { .. })));
}

/// A probability of 0 for the truth costs as much as scikit-learn says, which is finite.
#[test]
fn the_loss_of_what_was_called_impossible_is_finite() {
    // python3 -c "from sklearn.metrics import log_loss; print(log_loss([0, 1], [[0., 1.], [.5, .5]]))"
    let got = log_loss(&[[0.0, 1.0], [0.5, 0.5]], &[0, 1]).expect("a loss");
    assert_allclose("log loss", &[got], &[18.36840028483855], 1e-12, 1e-12);
}

#[test]
fn fewer_answers_are_counted_by_hand() {
    let rows = [[0.9, 0.1], [0.6, 0.4], [0.45, 0.55], [0.2, 0.8]];
    let top = TopLabels::new(&rows, &[0, 1, 1, 1]).expect("labels");
    let all = top.answered(0.0);
    assert_eq!(
        (all.answered, all.coverage, all.accuracy),
        (4, 1.0, Some(0.75))
    );
    let sure = top.answered(0.6);
    assert_eq!((sure.answered, sure.coverage), (3, 0.75));
    assert_eq!(sure.accuracy, Some(2.0 / 3.0));
    assert_eq!(top.answered(0.95).accuracy, None);
    for (share, least) in [
        (1.0, 0.55),
        (0.75, 0.6),
        (0.51, 0.6),
        (0.5, 0.8),
        (0.0, 0.9),
    ] {
        assert_eq!(top.least_of_share(share), Some(least), "{share}");
        assert!(top.answered(least).coverage >= share);
    }
}
