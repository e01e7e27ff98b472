//! Differences between systems on the same clips.

use mtcae_objective::{Bootstrap, holm};

/// What two systems made of the clips of five people, 1 where they were right.
const CLIPS: [(&str, f64, f64); 12] = [
    ("a", 1.0, 0.0),
    ("a", 1.0, 1.0),
    ("a", 0.0, 0.0),
    ("b", 1.0, 1.0),
    ("b", 1.0, 0.0),
    ("c", 0.0, 1.0),
    ("c", 1.0, 1.0),
    ("d", 1.0, 0.0),
    ("d", 0.0, 0.0),
    ("e", 1.0, 0.0),
    ("e", 1.0, 1.0),
    ("e", 1.0, 1.0),
];

fn difference(clips: &[usize]) -> f64 {
    let each = clips.iter().map(|&i| CLIPS[i].1 - CLIPS[i].2);
    each.sum::<f64>() / clips.len() as f64
}

#[test]
fn a_difference_is_as_likely_as_all_samples_of_people_say() {
    // Of five people there are 5⁵ samples, which can all be looked at.
    let people = ["a", "b", "c", "d", "e"];
    let of = |who: &'static str| (0..CLIPS.len()).filter(move |&i| CLIPS[i].0 == who);
    let all: Vec<usize> = (0..CLIPS.len()).collect();
    let seen = difference(&all);
    let samples = 5usize.pow(5);
    let reached = (0..samples).filter(|sample| {
        let drawn = (0..5).map(|k| people[sample / 5usize.pow(k) % 5]);
        let clips: Vec<usize> = drawn.flat_map(of).collect();
        (difference(&clips) - seen).abs() >= seen.abs()
    });
    let exact = reached.count() as f64 / samples as f64;
    assert!((0.02..0.5).contains(&exact), "{exact} would prove little");

    let bootstrap = Bootstrap {
        resamples: 100_000,
        ..Bootstrap::default()
    };
    let subjects = CLIPS.map(|clip| clip.0);
    let found = bootstrap
        .difference_by_subject(&subjects, |clips| Ok(difference(clips)))
        .expect("five people");
    // Five standard deviations of a share of 100,000 draws.
    let tolerance = 5.0 * (exact * (1.0 - exact) / 1e5).sqrt();
    assert!((found.p - exact).abs() < tolerance, "{} {exact}", found.p);
    assert_eq!(found.interval.estimate, seen);
    let same = bootstrap.by_subject(&subjects, |clips| Ok(difference(clips)));
    assert_eq!(Ok(found.interval), same.map_err(|e| e.to_string()));
}

#[test]
fn no_difference_is_certain_and_none_is_impossible() {
    let subjects = CLIPS.map(|clip| clip.0);
    let bootstrap = Bootstrap::default();
    let none = bootstrap.difference_by_subject(&subjects, |_| Ok(0.0));
    assert_eq!(none.expect("five people").p, 1.0);
    let always = bootstrap.difference_by_subject(&subjects, |_| Ok(0.25));
    assert_eq!(always.expect("five people").p, 1.0 / 1001.0);
}

#[test]
fn several_tests_are_corrected_as_rs_p_adjust_does() {
    // p.adjust(c(…), "holm") of R 4.2.
    let close = |given: &[f64], want: &[f64]| {
        for (got, want) in holm(given).iter().zip(want) {
            assert!((got - want).abs() < 1e-12, "{given:?}: {got}, not {want}");
        }
    };
    close(
        &[0.01, 0.02, 0.03, 0.04, 0.05],
        &[0.05, 0.08, 0.09, 0.09, 0.09],
    );
    close(&[0.04, 0.001, 0.3, 0.02], &[0.08, 0.004, 0.3, 0.06]);
    close(&[0.6, 0.7], &[1.0, 1.0]);
    assert!(holm(&[]).is_empty());
}
