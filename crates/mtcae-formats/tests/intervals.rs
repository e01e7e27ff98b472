//! Stretches of time, made of clips and of timelines.

mod common;

use common::{of, prediction, refused, timeline, window};
use mtcae_dfer::video::Warning as VideoWarning;
use mtcae_dfer::{Answer, FaceWarning, Refusal, Results, Timeline, Warning};
use mtcae_formats::{Error, Interval, intervals_of};

/// Start, end and label of each.
fn said(results: &Results) -> Vec<(i64, i64, String)> {
    let intervals = intervals_of(results).expect("intervals");
    intervals
        .iter()
        .map(|i| (i.start, i.end, i.label()))
        .collect()
}

fn told(intervals: &[(i64, i64, &str)]) -> Vec<(i64, i64, String)> {
    intervals
        .iter()
        .map(|&(a, b, text)| (a, b, text.to_owned()))
        .collect()
}

#[test]
fn a_clip_lasts_from_its_first_to_its_last_frame_to_the_nearest_millisecond() {
    let clip = prediction([1.0 / 29.97, 44.0 / 29.97], 1..45, 29.97, 0.75);
    let results = of(Answer::Clip(vec![clip]));
    // 33.37 ms and 1468.13 ms.
    assert_eq!(said(&results), told(&[(33, 1468, "happy")]));
    let all = intervals_of(&results).expect("intervals");
    assert_eq!((all[0].confidence, all[0].person), (Some(0.75), None));
}

#[test]
fn a_picture_is_a_millisecond_long() {
    let still = prediction([0.0, 0.0], [0; 16].into_iter(), 25.0, 0.2);
    assert_eq!(
        said(&of(Answer::Clip(vec![still.clone()]))),
        told(&[(0, 1, "sad")])
    );
    let results = timeline(
        1.0,
        1.0,
        vec![prediction([0.0, 1.0], [0].into_iter(), 25.0, 0.2)],
    );
    assert_eq!(said(&results), told(&[(0, 1, "sad")]));
}

#[test]
fn neighbours_that_say_the_same_are_one_and_others_border_half_way() {
    let windows = [0.9, 0.8, 0.1, 0.2].iter().enumerate();
    let windows = windows.map(|(i, &p)| window(i as f64, 1.0, p)).collect();
    let results = timeline(1.0, 1.0, windows);
    // Frames 0, 5, … of 25 a second: the last one is at 3.8 s.
    assert_eq!(
        said(&results),
        told(&[(0, 2000, "happy"), (2000, 3800, "sad")])
    );
    let all = intervals_of(&results).expect("intervals");
    assert_eq!(
        all[0].confidence,
        Some(((f64::from(0.9f32) + f64::from(0.8f32)) / 2.0) as f32)
    );
}

#[test]
fn windows_that_overlap_border_half_way_between_their_centres() {
    let windows = (0..4).map(|i| window(f64::from(i) * 0.5, 2.0, [1.0, 1.0, 0.0, 0.0][i as usize]));
    let results = timeline(2.0, 0.5, windows.collect());
    // Centres 1.5, which says happy, and 2.0; the last sampled frame is number 83.
    assert_eq!(
        said(&results),
        told(&[(0, 1750, "happy"), (1750, 3320, "sad")])
    );
}

#[test]
fn where_windows_are_missing_a_gap_remains() {
    let windows = vec![
        window(0.0, 1.0, 0.9),
        window(1.0, 1.0, 0.9),
        window(4.0, 1.0, 0.9),
    ];
    let results = timeline(1.0, 1.0, windows);
    assert_eq!(
        said(&results),
        told(&[(0, 1800, "happy"), (4000, 4800, "happy")])
    );
    // Windows shorter than their stride never meet.
    let windows = vec![window(0.0, 1.0, 0.9), window(3.0, 1.0, 0.9)];
    let results = timeline(1.0, 3.0, windows);
    assert_eq!(
        said(&results),
        told(&[(0, 800, "happy"), (3000, 3800, "happy")])
    );
}

#[test]
fn frames_of_a_window_do_not_fill_the_gap_of_its_missing_neighbour() {
    // Windows of 2 s a second apart, that at 1 s missing: each stands for half a second on
    // either side of its centre.
    let windows = vec![
        window(0.0, 2.0, 0.9),
        window(2.0, 2.0, 0.9),
        window(3.0, 2.0, 0.9),
    ];
    let results = timeline(2.0, 1.0, windows);
    assert_eq!(
        said(&results),
        told(&[(0, 1500, "happy"), (2500, 4800, "happy")])
    );
}

#[test]
fn what_is_not_answered_is_said_with_its_reason() {
    let windows = vec![
        window(0.0, 1.0, 0.9),
        refused(window(1.0, 1.0, 0.9), Refusal::NoFace { of: 16 }),
        refused(window(2.0, 1.0, 0.9), Refusal::NoFace { of: 8 }),
        refused(
            window(3.0, 1.0, 0.9),
            Refusal::TooSmall {
                eyes: 4.0,
                smallest: 9.0,
            },
        ),
    ];
    let results = timeline(1.0, 1.0, windows);
    let expected = told(&[
        (0, 1000, "happy"),
        (1000, 3000, "no answer: no-face"),
        (3000, 3800, "no answer: too-small"),
    ]);
    assert_eq!(said(&results), expected);
    let all = intervals_of(&results).expect("intervals");
    assert_eq!(all[1].confidence, None);
    assert_eq!(all[1].refusal, Some(Refusal::NoFace { of: 16 }));
    assert!(
        all[2].remarks()[0].contains("4.0 pixels"),
        "{:?}",
        all[2].remarks()
    );
}

#[test]
fn doubt_that_neighbours_take_away_is_none() {
    let unsure = Refusal::Unsure {
        confidence: 0.6,
        least: 0.75,
    };
    let windows = vec![
        window(0.0, 2.0, 1.0),
        refused(window(1.0, 2.0, 0.6), unsure),
        window(2.0, 2.0, 1.0),
    ];
    let all = intervals_of(&timeline(2.0, 1.0, windows)).expect("intervals");
    assert_eq!(
        (all.len(), &all[0].refusal, all[0].label()),
        (1, &None, "happy".to_owned())
    );
}

#[test]
fn each_warning_is_said_once_and_damage_is_counted() {
    let damage = |index, time| VideoWarning::CorruptFrame {
        index,
        time,
        count: 1,
        last: time,
    };
    let with = |start: f64, warnings: Vec<Warning>| {
        let mut window = window(start, 1.0, 0.9);
        window.warnings = warnings;
        window
    };
    let several = || Warning::Face(FaceWarning::Several { others: 1 });
    let windows = vec![
        with(0.0, vec![Warning::Video(damage(3, 0.12)), several()]),
        with(1.0, vec![Warning::Video(damage(30, 1.2)), several()]),
    ];
    let all = intervals_of(&timeline(1.0, 1.0, windows)).expect("intervals");
    let [Interval { warnings, .. }] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("2 damaged frames"), "{warnings:?}");
}

#[test]
fn each_person_has_intervals_of_their_own() {
    let person = |number: u32, windows: Vec<mtcae_dfer::Prediction>| {
        let windows = windows.into_iter().map(|mut w| {
            w.person = Some(number);
            w
        });
        Timeline::new(1.0, 1.0, windows.collect()).expect("a timeline")
    };
    let first = person(1, vec![window(0.0, 1.0, 0.9), window(1.0, 1.0, 0.9)]);
    let second = person(2, vec![window(1.0, 1.0, 0.1)]);
    let results = of(Answer::Windows(vec![first, second]));
    assert_eq!(
        said(&results),
        told(&[(0, 1800, "happy"), (1000, 1800, "sad")])
    );
    let people: Vec<_> = intervals_of(&results)
        .expect("intervals")
        .iter()
        .map(|i| i.person)
        .collect();
    assert_eq!(people, [Some(1), Some(2)]);
}

#[test]
fn the_end_of_a_video_within_windows_that_overlap_is_no_time_twice() {
    // The video ends at 2.2 s; the last window has a frame alone.
    let last = prediction([2.0, 4.0], [50, 55].into_iter(), 25.0, 0.0);
    let windows = vec![
        window(0.0, 2.0, 1.0),
        prediction([1.0, 3.0], (25..56).step_by(5), 25.0, 1.0),
        last,
    ];
    let all = said(&timeline(2.0, 1.0, windows));
    assert_eq!(all, told(&[(0, 2100, "happy"), (2100, 2200, "sad")]));
}

#[test]
fn a_timeline_without_its_points_is_refused() {
    let mut results = timeline(1.0, 1.0, vec![window(0.0, 1.0, 0.9)]);
    if let Answer::Windows(timelines) = &mut results.answer {
        timelines[0].points.clear();
    }
    let error = intervals_of(&results).expect_err("no points");
    assert!(
        matches!(
            error,
            Error::Timeline {
                windows: 1,
                points: 0
            }
        ),
        "{error}"
    );
}
