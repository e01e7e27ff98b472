//! Frames in memory are answered about as the file that they come from, and answers are told
//! as they come.

#![cfg(feature = "faces")]

use std::ops::ControlFlow;
use std::path::PathBuf;

use mtcae_dfer::video::Video;
use mtcae_dfer::{
    Answer, Crop, DetectAt, Device, FaceFinder, Footage, PeopleOptions, Pipeline, Prediction,
    Times, Windowing,
};
use mtcae_testing::fixtures;
use ndarray::{Array4, Axis, s};

fn portrait() -> PathBuf {
    fixtures().join("demo/portrait.mp4")
}

fn default_model() -> (Pipeline, FaceFinder) {
    let pipeline = Pipeline::load(fixtures().join("default"), &Device::Cpu).expect("loaded");
    let finder = FaceFinder::new(&Device::Cpu, DetectAt::Source, None).expect("a finder");
    let crop = pipeline.config().preprocessing.crop;
    (pipeline.with_crop(crop), finder)
}

/// All frames (T, H, W, 3) and their times.
fn decoded() -> (Array4<u8>, Vec<f64>, f64) {
    let video = Video::open(portrait()).expect("opened");
    let fps = video.info().fps;
    let frames: Vec<_> = video
        .frames()
        .expect("frames")
        .collect::<Result<_, _>>()
        .expect("decoded");
    let pixels: Vec<_> = frames.iter().map(|f| f.pixels.view()).collect();
    let times = frames.iter().map(|f| f.time).collect();
    (
        ndarray::stack(Axis(0), &pixels).expect("of one size"),
        times,
        fps,
    )
}

fn only(answer: Answer) -> Prediction {
    match answer {
        Answer::Clip(mut said) => said.remove(0),
        Answer::Windows(_) => panic!("no windows were asked for"),
    }
}

#[test]
fn frames_in_memory_give_what_their_file_gives() {
    let (model, finder) = default_model();
    let (frames, times, fps) = decoded();
    let options = PeopleOptions::default();
    for crop in [model.crop(), Crop::None] {
        let pipeline = model.clone().with_crop(crop);
        let mut file = finder.predict(&pipeline, portrait()).expect("predicted");
        file.file = None;
        for times in [Times::Of(&times), Times::Rate(fps)] {
            let footage = Footage::new(&pipeline, frames.view(), times).expect("footage");
            let people = finder.predict_footage(&pipeline, &footage, &options);
            assert_eq!(only(people.expect("predicted").answer), file, "{crop}");
        }
    }
    let footage = Footage::new(&model, frames.view(), Times::Rate(fps)).expect("footage");
    let everybody = PeopleOptions {
        everybody: true,
        ..options
    };
    let people = finder.predict_footage(&model, &footage, &everybody);
    assert_eq!(only(people.expect("predicted").answer).person, Some(1));
}

#[test]
fn frames_that_are_none_are_refused_by_the_arguments_name() {
    let (pipeline, _) = default_model();
    let frames = Array4::<u8>::zeros((3, 8, 8, 3));
    let said = |frames: ndarray::ArrayView4<'_, u8>, times: Times<'_>| {
        let error = Footage::new(&pipeline, frames, times).expect_err("refused");
        error.to_string()
    };
    let all = frames.view();
    assert!(said(frames.slice(s![.., .., .., ..2]), Times::Rate(25.0)).starts_with("frames: "));
    assert!(said(frames.slice(s![..0, .., .., ..]), Times::Rate(25.0)).starts_with("frames: "));
    assert!(said(all, Times::Rate(0.0)).starts_with("fps: "));
    assert!(said(all, Times::Of(&[0.0, 1.0])).starts_with("times: "));
    assert!(said(all, Times::Of(&[0.0, 0.0, 1.0])).starts_with("times: "));
    assert!(said(all, Times::Of(&[0.0, 1.0, f64::NAN])).starts_with("times: "));
}

#[test]
fn windows_are_told_as_they_come() {
    let (model, finder) = default_model();
    let windowing = Windowing {
        length: 0.4,
        stride: 0.2,
        batch: 2,
    };
    let options = PeopleOptions {
        windowing: Some(windowing),
        ..PeopleOptions::default()
    };
    let mut told = Vec::new();
    let people = finder.tell_people(&model, portrait(), &options, |_, said| {
        told.extend_from_slice(said);
        ControlFlow::Continue(())
    });
    let windows = people.expect("predicted").answer;
    assert_eq!(told.iter().collect::<Vec<_>>(), windows.predictions());

    let whole = model.with_crop(Crop::None);
    let video = whole.open(portrait()).expect("opened");
    let (mut told, mut times) = (Vec::new(), 0);
    let timeline = whole.tell_windows_of(video, &windowing, |reached, said| {
        told.extend_from_slice(said);
        times += 1;
        assert_eq!(reached.windows, told.len() as u64);
        ControlFlow::Continue(())
    });
    assert_eq!(told, timeline.expect("predicted").windows);
    assert_eq!(times, told.len().div_ceil(2));
}
