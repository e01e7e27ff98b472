//! Answers about a video while it comes, against those about the file.
#![cfg(feature = "faces")]

use std::io::{Cursor, Read};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::Duration;

use mtcae_dfer::video::{OpenOptions, Raw, Stream, Video};
use mtcae_dfer::{
    Answer, DetectAt, Device, Error, FaceFinder, LiveOptions, PeopleOptions, Pipeline, Provenance,
    Results, Said, Teller, Warning, Windowing,
};
use mtcae_testing::fixtures;

/// One at a time: what is late depends on what else there is to do.
static ALONE: Mutex<()> = Mutex::new(());

fn finder() -> (Pipeline, FaceFinder) {
    let pipeline = Pipeline::load(fixtures().join("default"), &Device::Cpu).expect("loaded");
    let finder = FaceFinder::new(&Device::Cpu, DetectAt::Source, None).expect("MTCNN");
    (pipeline, finder)
}

/// Pictures of the portrait without a container, and what they are.
fn portrait(repeat: usize) -> (Vec<u8>, Raw) {
    let video = Video::open(fixtures().join("demo/portrait.mp4")).expect("opened");
    let info = video.info().clone();
    let frames = video.frames().expect("frames");
    let mut bytes = Vec::new();
    for frame in frames {
        bytes.extend(frame.expect("a frame").pixels.iter().copied());
    }
    let raw = Raw {
        width: info.geometry.width,
        height: info.geometry.height,
        pixel_format: "rgb24".to_owned(),
        fps: info.fps,
    };
    (bytes.repeat(repeat), raw)
}

fn options(length: f64, stride: f64) -> LiveOptions {
    let windowing = Windowing {
        length,
        stride,
        batch: 1,
    };
    LiveOptions {
        people: PeopleOptions {
            windowing: Some(windowing),
            ..PeopleOptions::default()
        },
        late: None,
    }
}

fn stream(source: impl Read + Send + 'static, raw: &Raw) -> Stream {
    Stream::open(source, "a stream", Some(raw), &OpenOptions::default()).expect("opened")
}

#[test]
fn windows_are_those_of_the_file() {
    let _alone = ALONE.lock();
    let (pipeline, finder) = finder();
    let (bytes, raw) = portrait(1);
    let options = options(1.0, 0.5);
    let mut said: Vec<Said> = Vec::new();
    let ended = finder
        .follow(
            &pipeline,
            stream(Cursor::new(bytes), &raw),
            &options,
            |one| {
                said.push(one);
                ControlFlow::Continue(())
            },
        )
        .expect("followed");
    let go_on = |_| ControlFlow::Continue(());
    let path = fixtures().join("demo/portrait.mp4");
    let people = finder.predict_people(&pipeline, &path, &options.people, go_on);
    let Answer::Windows(timelines) = people.expect("people").answer else {
        panic!("no windows");
    };
    let windows = &timelines[0].windows;
    assert_eq!(
        (said.len(), ended.windows),
        (windows.len(), windows.len() as u64)
    );
    assert_eq!(ended.dropped, 0);
    for (said, window) in said.iter().zip(windows) {
        let [live] = &said.predictions[..] else {
            panic!("{} people", said.predictions.len());
        };
        assert_eq!((live.start, live.end), (window.start, window.end));
        assert_eq!((&live.expression, live.person), (&window.expression, None));
        // Other frames of the window, of a face that hardly moves.
        assert!((live.confidence - window.confidence).abs() < 0.1);
        assert_eq!(live.seen.as_ref().map(|s| s.frames), Some(16));
    }
}

#[test]
fn people_keep_their_numbers_and_lines_are_read_again() {
    let _alone = ALONE.lock();
    let (pipeline, finder) = finder();
    let (bytes, raw) = portrait(2);
    let mut options = options(1.0, 0.75);
    options.people.everybody = true;
    let mut told = Teller::begin(Vec::new(), None::<Provenance>, 1.0, 0.75).expect("begun");
    let mut count = 0;
    let ended = finder.follow(
        &pipeline,
        stream(Cursor::new(bytes), &raw),
        &options,
        |said| {
            for prediction in &said.predictions {
                assert_eq!(prediction.person, Some(1));
                told.tell(prediction, said.delay, said.dropped)
                    .expect("written");
                count += 1;
            }
            ControlFlow::Continue(())
        },
    );
    ended.expect("followed");
    let mut lines = told.into_inner();
    // As where the program is killed.
    lines.extend(b"{\"prediction\": {\"file\"");
    let results = Results::parse(&lines).expect("read");
    let Answer::Windows(timelines) = results.answer else {
        panic!("no windows");
    };
    assert_eq!((timelines.len(), timelines[0].windows.len()), (1, count));
    assert_eq!((timelines[0].length, timelines[0].stride), (1.0, 0.75));
    let broken = [&b"{}\n"[..], &lines].concat();
    assert!(Results::parse(&broken).is_err());
    let text = String::from_utf8(lines).expect("UTF-8");
    let torn = text.replacen("{\"prediction\"", "{\"said\"", 1);
    assert!(
        Results::parse(torn.as_bytes())
            .expect_err("torn")
            .starts_with("line 2")
    );
}

/// A source as fast as it can be read, which is what a clock that runs too fast looks like.
#[test]
fn what_comes_while_answers_are_late_is_left_out_and_said() {
    let _alone = ALONE.lock();
    let (pipeline, finder) = finder();
    let (bytes, mut raw) = portrait(4);
    // A twelve seconds' worth of pictures in a tenth of that by their own clock.
    raw.fps *= 20.0;
    let mut options = options(0.1, 0.05);
    options.late = Some(Duration::from_millis(50));
    let mut warned = 0;
    let ended = finder.follow(
        &pipeline,
        stream(Cursor::new(bytes), &raw),
        &options,
        |said| {
            for warning in said.predictions.iter().flat_map(|p| &p.warnings) {
                if let Warning::Video(mtcae_dfer::video::Warning::Late { count }) = warning {
                    warned += count;
                }
            }
            // Longer than a window takes to come.
            std::thread::sleep(Duration::from_millis(100));
            ControlFlow::Continue(())
        },
    );
    let ended = ended.expect("followed");
    assert!(ended.dropped > 0, "{ended:?}");
    assert!(
        warned > 0 && warned <= ended.dropped,
        "{warned} of {ended:?}"
    );
}

#[test]
fn it_ends_when_it_is_told_to_and_refuses_what_cannot_be() {
    let _alone = ALONE.lock();
    let (pipeline, finder) = finder();
    let (bytes, raw) = portrait(1);
    let told = finder.follow(
        &pipeline,
        stream(Cursor::new(bytes.clone()), &raw),
        &options(1.0, 0.5),
        |_| ControlFlow::Break(()),
    );
    assert!(
        matches!(told, Err(Error::Cancelled { done: 1 })),
        "{told:?}"
    );
    for (length, stride, words) in [(0.0, 1.0, "length"), (1.0, f64::NAN, "stride")] {
        let told = finder.follow(
            &pipeline,
            stream(Cursor::new(bytes.clone()), &raw),
            &options(length, stride),
            |_| ControlFlow::Continue(()),
        );
        assert!(told.expect_err(words).to_string().starts_with(words));
    }
    let nobody = vec![90; bytes.len() / 2];
    let mut kinds = Vec::new();
    let ended = finder.follow(
        &pipeline,
        stream(Cursor::new(nobody), &raw),
        &options(1.0, 1.0),
        |said| {
            kinds.extend(
                said.predictions
                    .iter()
                    .map(|p| p.refusal.as_ref().map(|r| r.name())),
            );
            ControlFlow::Continue(())
        },
    );
    ended.expect("followed");
    assert!(
        !kinds.is_empty() && kinds.iter().all(|kind| *kind == Some("no-face")),
        "{kinds:?}"
    );
}
