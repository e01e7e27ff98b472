//! Faces beside the model's answers, answers about each person, and their pictures.

#![cfg(feature = "annotate")]

use std::ops::ControlFlow;
use std::path::PathBuf;

use mtcae_dfer::video::Video;
use mtcae_dfer::{
    Answer, DetectAt, Device, Error, FaceFinder, People, PeopleOptions, Pipeline, Progress,
    Windowing, annotate,
};
use mtcae_testing::fixtures;

fn demo() -> (Pipeline, FaceFinder) {
    let folder = fixtures().join("demo/checkpoint");
    let pipeline = Pipeline::load(folder, &Device::Cpu).expect("loaded");
    let finder = FaceFinder::new(&Device::Cpu, DetectAt::Source, None);
    (pipeline, finder.expect("a detector"))
}

fn five() -> PathBuf {
    fixtures().join("mtcnn/five.png")
}

fn portrait() -> PathBuf {
    fixtures().join("demo/portrait.mp4")
}

fn on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn everybody(windowing: Option<Windowing>) -> PeopleOptions {
    PeopleOptions {
        everybody: true,
        windowing,
        ..PeopleOptions::default()
    }
}

#[test]
fn everybody_is_answered_for_from_a_crop_to_their_face() {
    let (pipeline, finder) = demo();
    let whole = pipeline.predict(five()).expect("predicted");
    let People { answer, left_out } = finder
        .predict_people(&pipeline, five(), &everybody(None), on)
        .expect("predicted");
    assert_eq!(left_out, 0);
    let people = answer.predictions();
    assert_eq!(people.len(), 5);
    for (i, person) in people.iter().enumerate() {
        assert_eq!(person.person, Some(i as u32 + 1));
        let crop = person.source.crop.expect("a crop");
        assert!((crop.width - crop.height).abs() < 1e-9);
        assert!(crop.width < whole.source.height.into());
        assert!(person.frames.iter().all(|f| f.detected.is_some()));
        assert_ne!(person.probabilities, whole.probabilities);
    }
    // The subject alone is one of them, without a number.
    let subject = finder
        .predict_people(&pipeline, five(), &PeopleOptions::default(), on)
        .expect("predicted");
    let [subject] = &subject.answer.predictions()[..] else {
        panic!("one person");
    };
    assert_eq!(subject.person, None);
    let same = |p: &&&mtcae_dfer::Prediction| p.probabilities == subject.probabilities;
    assert_eq!(people.iter().filter(same).count(), 1);
}

#[test]
fn where_nobody_is_the_error_says_so_and_names_the_file() {
    let (pipeline, finder) = demo();
    let none = fixtures().join("mtcnn/none.png");
    let error = finder
        .predict_people(&pipeline, none, &everybody(None), on)
        .expect_err("nobody");
    assert!(
        error
            .to_string()
            .ends_with("none.png: MTCNN finds no face to crop to")
    );
    let often = PeopleOptions {
        min_seen: 17,
        ..everybody(None)
    };
    let error = finder
        .predict_people(&pipeline, five(), &often, on)
        .expect_err("16 frames");
    assert!(error.to_string().contains("`min_seen`"), "{error}");
}

#[test]
fn the_subjects_faces_stand_beside_the_models() {
    let (pipeline, finder) = demo();
    let plain = pipeline.predict(portrait()).expect("predicted");
    let seen = finder.predict(&pipeline, portrait()).expect("predicted");
    assert_eq!(seen.probabilities, plain.probabilities);
    assert!(plain.seen.is_none() && seen.seen.is_some_and(|s| s.of == 16));
    assert!(seen.frames.iter().any(|f| f.detected.is_some()));
    let windowing = Windowing {
        length: 1.0,
        stride: 1.0,
        batch: 2,
    };
    let timeline = finder.predict_windows(&pipeline, portrait(), &windowing, on);
    assert_eq!(timeline.expect("predicted").windows.len(), 3);
    let mut calls = 0;
    let stopped = finder.predict_people(&pipeline, portrait(), &everybody(Some(windowing)), |_| {
        calls += 1;
        match calls {
            1..5 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    });
    // Three windows to look at, and two answers.
    assert!(
        matches!(stopped, Err(Error::Cancelled { done: 2 })),
        "{stopped:?}"
    );
}

#[test]
fn answers_become_a_sheet_and_a_video() {
    let (pipeline, finder) = demo();
    let people = finder
        .predict_people(&pipeline, five(), &everybody(None), on)
        .expect("predicted");
    let sheet = annotate::sheet(&pipeline, &people.answer, five(), true).expect("drawn");
    // One below the other: a still picture once for each, beside the probabilities.
    assert!(sheet.width() > 640 + 360 && sheet.height() > 5 * 100);
    let folder = tempfile::tempdir().expect("a folder");
    let film = folder.path().join("portrait.mp4");
    let answer = Answer::Clip(vec![
        finder.predict(&pipeline, portrait()).expect("predicted"),
    ]);
    let mut last = 0.0;
    annotate::film(&film, &answer, portrait(), false, |seconds| last = seconds).expect("written");
    let count = |path: PathBuf| Video::open(path).and_then(|mut v| v.frame_count());
    assert_eq!(
        count(film).expect("counted"),
        count(portrait()).expect("counted")
    );
    assert!(last > 2.0);
}

/// Frames that are kept and frames that are read again give the same answers.
#[test]
fn a_file_is_read_again_where_its_frames_are_too_many_to_keep() {
    let (pipeline, finder) = demo();
    let windowing = Windowing {
        length: 1.0,
        stride: 0.5,
        batch: 1,
    };
    for (path, windowing) in [
        (five(), None),
        (portrait(), None),
        (portrait(), Some(windowing)),
    ] {
        let kept = everybody(windowing);
        let again = PeopleOptions {
            frame_memory: 100_000,
            ..kept.clone()
        };
        let ask = |options| {
            let people = finder.predict_people(&pipeline, &path, options, on);
            people.expect("predicted")
        };
        assert_eq!(ask(&kept), ask(&again));
    }
}
