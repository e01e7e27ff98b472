//! Label files: writing, resuming, refusing, tables. No video is needed.
#![cfg(feature = "embedded-weights")]
#![allow(clippy::unwrap_used)] // test helpers

use std::io::Write;
use std::path::Path;

use mtcae_core::{Face, Rect, Resize};
use mtcae_faces::tracks::OneEuro;
use mtcae_faces::{Detector, DetectorConfig};
use mtcae_labels::Error;
use mtcae_labels::dataset::{Sample, Sex};
use mtcae_labels::labels::{
    FrameFaces, LabelReader, LabelSettings, LabelWriter, LabelledClip, Labeller, Validity,
    label_all, write_table,
};
use mtcae_video::Geometry;

fn labeller() -> Labeller {
    labeller_with(LabelSettings::default())
}

fn labeller_with(settings: LabelSettings) -> Labeller {
    let detector = Detector::new(DetectorConfig::default()).unwrap();
    Labeller::new(detector, settings).unwrap()
}

fn samples(n: usize) -> Vec<Sample> {
    (0..n)
        .map(|i| Sample {
            class: Some("happy".to_owned()),
            subject: Some(format!("{:02}", i % 3)),
            fold: Some((i % 3) as u32),
            ..Sample::bare(format!("clip \"{i}\", ünïcode.mp4")).unwrap()
        })
        .collect()
}

fn face(x: f32) -> Face {
    Face {
        face_box: [x, 20.0, x + 50.0, 80.0].into(),
        landmarks: [[x + 10.0, 40.0]; 5].into(),
        score: 0.997_654_3,
    }
}

/// Labels that depend on the sample alone: a face that goes missing, or none, or
/// a file that could not be read.
fn label(labeller: &Labeller, sample: &Sample) -> LabelledClip {
    let n: usize = sample.file.split('"').nth(1).unwrap().parse().unwrap();
    let frames = (0..16)
        .map(|i| FrameFaces {
            index: i * 7,
            time: i as f64 / 3.0,
            faces: match n % 4 {
                1 => vec![],
                _ if i == 5 => vec![],
                _ => vec![face(n as f32 + 0.3 * i as f32), face(400.0)],
            },
        })
        .collect();
    let source = Geometry::plain(640, 360);
    let mut clip = labeller.assemble(sample, &source, frames).unwrap();
    if n % 4 == 3 {
        clip.frames.clear();
        clip.tracks.clear();
        clip.error = Some("not a video".to_owned());
    }
    clip
}

fn run(path: &Path, inputs: &[Sample], jobs: usize, stop_after: usize) {
    let labeller = labeller();
    let settings = labeller.run_settings();
    let mut writer = LabelWriter::resume(path, inputs, &settings).unwrap();
    let start = writer.clips();
    label_all(
        inputs,
        &mut writer,
        jobs,
        |s| label(&labeller, s),
        |p| p.done - start < stop_after,
    )
    .unwrap();
    writer.finish().unwrap();
}

#[test]
fn an_interrupted_run_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = samples(23);
    let whole = folder.path().join("whole.jsonl");
    run(&whole, &inputs, 1, usize::MAX);
    let want = std::fs::read(&whole).unwrap();
    assert_eq!(want.iter().filter(|&&b| b == b'\n').count(), 23);
    for jobs in [2, 5, 40] {
        let path = folder.path().join(format!("{jobs}.jsonl"));
        run(&path, &inputs, jobs, 6);
        run(&path, &inputs, jobs, 3);
        run(&path, &inputs, jobs, usize::MAX);
        run(&path, &inputs, jobs, usize::MAX); // nothing left to do
        assert_eq!(std::fs::read(&path).unwrap(), want, "{jobs} jobs");
    }
    // Cut anywhere, as a kill or a power failure leaves it.
    let path = folder.path().join("torn.jsonl");
    for cut in (0..want.len()).step_by(977).chain([want.len() - 1]) {
        std::fs::write(&path, &want[..cut]).unwrap();
        run(&path, &inputs, 3, usize::MAX);
        assert_eq!(std::fs::read(&path).unwrap(), want, "cut at {cut}");
    }
}

#[test]
fn what_is_read_is_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.jsonl");
    let inputs = samples(5);
    run(&path, &inputs, 2, usize::MAX);
    let labeller = labeller();
    let read: Vec<LabelledClip> = LabelReader::open(&path)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (sample, got) in inputs.iter().zip(&read) {
        assert_eq!(*got, label(&labeller, sample));
    }
    let first = &read[0];
    assert_eq!(first.tracks.len(), 2);
    let subject = first.subject_track().unwrap();
    assert_eq!(subject.faces.len(), 16);
    assert_eq!(first.frames[5].validity, Validity::Interpolated);
    let face = LabelledClip::face(subject, 0).unwrap();
    assert!((face.bbox[1] - 20.0 / 360.0).abs() < 1e-6, "{face:?}");
    assert!(read[1].tracks.is_empty() && read[1].frames[0].validity == Validity::None);
}

#[test]
fn the_summary_accounts_for_every_clip() {
    let folder = tempfile::tempdir().unwrap();
    let (labeller, inputs) = (labeller(), samples(8));
    let mut writer = LabelWriter::create(folder.path().join("l.jsonl")).unwrap();
    let s = label_all(&inputs, &mut writer, 3, |s| label(&labeller, s), |_| true).unwrap();
    assert_eq!((s.clips, s.resumed, s.frames), (8, 0, 6 * 16));
    assert_eq!((s.without_face.len(), s.failed.len()), (2, 2));
    assert_eq!((s.detected, s.interpolated), (4 * 15, 4), "{s:?}");
}

#[test]
fn foreign_files_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.jsonl");
    let inputs = samples(4);
    run(&path, &inputs, 1, usize::MAX);
    let good = std::fs::read_to_string(&path).unwrap();
    let settings = labeller().run_settings();
    let resume = |inputs: &[Sample]| LabelWriter::resume(&path, inputs, &settings).err().unwrap();

    let error = resume(&inputs[1..]).to_string();
    assert!(error.contains("line 1 is of clip \"0\""), "{error}");
    let error = resume(&inputs[..3]).to_string();
    assert!(error.contains("more than there are inputs"), "{error}");
    let mut other = settings.clone();
    other.detector.min_face = 40.0;
    let error = LabelWriter::resume(&path, &inputs, &other)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("line 1 has settings.detector.min_face 20.0, and this run 40.0"),
        "{error}"
    );
    type Change = fn(&mut Sample);
    let changes: [(Change, &str); 6] = [
        (|s| s.fold = Some(2), "fold 1, and this run 2"),
        (|s| s.fold = None, "fold 1, and this run null"),
        (
            |s| s.class = Some("joy".to_owned()),
            r#"class "happy", and this run "joy""#,
        ),
        (
            |s| s.subject = Some("7".to_owned()),
            r#"subject "01", and this run "7""#,
        ),
        (
            |s| s.sex = Some(Sex::Female),
            r#"sex null, and this run "female""#,
        ),
        (
            |s| s.level = Some("high".to_owned()),
            r#"level null, and this run "high""#,
        ),
    ];
    for (change, words) in changes {
        let mut changed = inputs.clone();
        change(&mut changed[1]);
        let error = resume(&changed).to_string();
        assert!(error.contains(&format!("line 2 has {words}")), "{error}");
    }
    assert!(matches!(LabelWriter::create(&path), Err(Error::File(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), good);

    let newer = good.replacen("mtcae-labels/1", "mtcae-labels/2", 1);
    std::fs::write(&path, newer).unwrap();
    let error = resume(&inputs).to_string();
    assert!(
        error.contains("line 1: schema mtcae-labels/2; this version reads"),
        "{error}"
    );
    let read = LabelReader::open(&path).unwrap().next().unwrap();
    assert!(matches!(read, Err(Error::Schema { line: 1, .. })));

    std::fs::write(&path, "{\"schema\":\"mtcae-labels/1\"}\nnonsense\n").unwrap();
    let errors: Vec<String> = LabelReader::open(&path)
        .unwrap()
        .map(|r| r.unwrap_err().to_string())
        .collect();
    assert!(
        errors[0].contains("missing field") && errors[1].contains("line 2"),
        "{errors:?}"
    );
    std::fs::write(&path, &good[..good.len() - 9]).unwrap();
    let last = LabelReader::open(&path)
        .unwrap()
        .last()
        .unwrap()
        .unwrap_err();
    assert!(last.to_string().contains("torn off"), "{last}");
}

#[test]
fn fields_that_the_format_does_not_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.jsonl");
    let mut settings = LabelSettings::default();
    settings.tracking.smoothing = Some(OneEuro::default());
    let labeller = labeller_with(settings);
    let good = serde_json::to_value(label(&labeller, &samples(1)[0])).unwrap();
    for place in [
        "",
        "/settings",
        "/settings/detector",
        "/settings/tracking",
        "/settings/tracking/smoothing",
        "/source",
        "/frames/0",
        "/tracks/0",
        "/tracks/0/faces/0",
    ] {
        let mut line = good.clone();
        line.pointer_mut(place).unwrap()["min_overlapp"] = 0.3.into();
        std::fs::write(&path, format!("{line}\n")).unwrap();
        let read = LabelReader::open(&path).unwrap().next().unwrap();
        let error = read.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            error.contains("line 1: unknown field `min_overlapp`"),
            "{place}: {error:?}"
        );
    }
}

#[test]
fn settings_say_the_resizing_as_it_is_spelt_elsewhere() {
    let crop = Resize::Crop(Rect {
        x: 8.0,
        y: 0.5,
        width: 90.0,
        height: 80.0,
    });
    for (resize, said) in [
        (Resize::Squash, "224x224/squash"),
        (Resize::ShortestEdgeCrop, "224x224/shortest-edge"),
        (
            Resize::CentreCrop {
                edge: 256,
                crop: 224,
            },
            "224x224/shortest-edge:256/224",
        ),
        (crop, "224x224/crop:8,0.5,90,80"),
    ] {
        let mut settings = LabelSettings::default();
        settings.clip.resize = resize;
        assert_eq!(labeller_with(settings).run_settings().detect_at, said);
    }
}

#[test]
fn a_frame_is_not_labelled_three_times() {
    let mut settings = LabelSettings::default();
    settings.clip.resize = Resize::ThreeCrop;
    let detector = Detector::new(DetectorConfig::default()).unwrap();
    let error = Labeller::new(detector, settings).err().unwrap();
    assert!(
        error.to_string().starts_with("resize: three-crop"),
        "{error}"
    );
}

#[test]
fn two_runs_do_not_write_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.jsonl");
    let settings = labeller().run_settings();
    let _first = LabelWriter::create(&path).unwrap();
    let error = LabelWriter::resume(&path, &[], &settings).err().unwrap();
    assert!(error.to_string().contains("another run"), "{error}");
}

#[test]
fn what_is_no_plain_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let settings = labeller().run_settings();
    for path in [Path::new("/dev/full"), folder.path()] {
        let resumed = LabelWriter::resume(path, &[], &settings);
        assert!(matches!(resumed, Err(Error::File(_))), "{}", path.display());
    }
}

#[test]
fn the_table_has_a_row_for_each_frame_and_face() {
    let labeller = labeller();
    let clips = samples(4).into_iter().map(|s| Ok(label(&labeller, &s)));
    let mut out = Vec::new();
    write_table(clips, &mut out).unwrap();
    let mut table = csv::Reader::from_reader(&out[..]);
    let headers = table.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    // Two faces in each of 16 frames (gaps filled), twice; 16 frames without; an error.
    assert_eq!(rows.len(), 32 + 16 + 32 + 1);
    let cell = |row: usize, name: &str| {
        let column = headers.iter().position(|h| h == name).unwrap();
        rows[row].get(column).unwrap()
    };
    assert_eq!(cell(0, "file"), "clip \"0\", ünïcode.mp4");
    assert_eq!((cell(0, "x1"), cell(0, "y2")), ("0.000", "80.000"));
    assert_eq!(
        (cell(10, "validity"), cell(10, "frame")),
        ("interpolated", "35")
    );
    assert_eq!((cell(32, "validity"), cell(32, "x1")), ("none", ""));
    assert_eq!((cell(80, "error"), cell(80, "frame")), ("not a video", ""));

    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let clips = samples(1).into_iter().map(|s| Ok(label(&labeller, &s)));
    assert!(matches!(write_table(clips, Full), Err(Error::Table(_))));
}

/// Somebody else would have to write into it, and need never come.
#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("VideoDemographics.csv");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("started").success());
    let (done, is_done) = std::sync::mpsc::channel();
    let (path, root) = (pipe.clone(), folder.path().to_owned());
    std::thread::spawn(move || {
        let labels = LabelReader::open(&path).err().map(|e| e.to_string());
        let table = mtcae_labels::dataset::manifest::read(&path, &[]);
        let actors = mtcae_labels::dataset::crema_d::read(&root).expect("a folder");
        let actors = actors.problems.first().map(ToString::to_string);
        done.send([labels, table.err().map(|e| e.to_string()), actors])
    });
    let said = is_done.recv_timeout(std::time::Duration::from_secs(20));
    for said in said.expect("nothing is waited for") {
        let said = said.expect("an error");
        assert!(
            said.contains("VideoDemographics.csv") && said.contains("not a regular file"),
            "{said}"
        );
    }
}
