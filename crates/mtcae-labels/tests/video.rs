//! Labels of real files: the demo clip.
#![cfg(all(feature = "embedded-weights", feature = "ffmpeg"))]
#![allow(clippy::unwrap_used)] // test helpers

use mtcae_faces::{Detector, DetectorConfig};
use mtcae_labels::dataset::Sample;
use mtcae_labels::labels::{
    DetectAt, LabelSettings, LabelWriter, LabelledClip, Labeller, Pick, Validity, label_all,
};

fn labeller(at: DetectAt, pick: Pick) -> Labeller {
    let detector = Detector::new(DetectorConfig::default()).unwrap();
    let settings = LabelSettings {
        at,
        pick,
        ..LabelSettings::default()
    };
    Labeller::new(detector, settings).unwrap()
}

fn demo() -> Sample {
    Sample::bare(mtcae_testing::fixtures().join("demo/portrait.mp4")).unwrap()
}

fn centre(clip: &LabelledClip, frame: usize) -> [f32; 2] {
    let face = LabelledClip::face(clip.subject_track().unwrap(), frame).unwrap();
    let [x1, y1, x2, y2] = face.bbox;
    [(x1 + x2) / 2.0, (y1 + y2) / 2.0]
}

#[test]
fn the_demo_clip_has_one_face_in_every_frame() {
    let model = labeller(DetectAt::Model, Pick::Clip).label_file(&demo());
    assert_eq!(model.error, None);
    assert_eq!((model.frames.len(), model.tracks.len()), (16, 1));
    assert!(
        model
            .frames
            .iter()
            .all(|f| f.validity == Validity::Detected)
    );
    assert_eq!(model.sha256.as_ref().unwrap().len(), 64);
    let source = model.source.unwrap();
    assert_eq!((source.width, source.height), (480, 360));
    // The face is where the full picture shows it, too.
    let full = labeller(DetectAt::Source, Pick::Clip).label_file(&demo());
    for i in 0..16 {
        assert_eq!(model.frames[i].index, full.frames[i].index);
        let (a, b) = (centre(&model, i), centre(&full, i));
        assert!(
            (a[0] - b[0]).abs() < 0.03 && (a[1] - b[1]).abs() < 0.03,
            "{a:?} {b:?}"
        );
    }
}

#[test]
fn all_frames_or_every_tenth() {
    for at in [DetectAt::Model, DetectAt::Source] {
        let all = labeller(at, Pick::Every(1)).label_file(&demo());
        let some = labeller(at, Pick::Every(10)).label_file(&demo());
        assert_eq!(
            (all.frames.len(), some.frames.len()),
            (75, 8),
            "{:?}",
            all.error
        );
        for (i, frame) in some.frames.iter().enumerate() {
            assert_eq!(frame.index, 10 * i as u64);
            assert_eq!(centre(&some, i), centre(&all, 10 * i));
        }
    }
    assert!(
        Labeller::new(
            Detector::new(DetectorConfig::default()).unwrap(),
            LabelSettings {
                pick: Pick::Every(0),
                ..LabelSettings::default()
            }
        )
        .is_err()
    );
}

#[test]
fn a_bad_file_is_a_line_of_its_own() {
    let labeller = labeller(DetectAt::Model, Pick::Clip);
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.mp4");
    std::fs::write(&text, "no video").unwrap();
    let inputs = [
        demo(),
        Sample::bare(&text).unwrap(),
        Sample::bare("gone.mp4").unwrap(),
        demo(),
    ];
    let mut writer = LabelWriter::create(folder.path().join("l.jsonl")).unwrap();
    let label = |s: &Sample| labeller.label_file(s);
    let summary = label_all(&inputs, &mut writer, 2, label, |_| true).unwrap();
    assert_eq!(
        (summary.clips, summary.failed.len(), summary.frames),
        (4, 2, 32)
    );
    assert!(
        summary.failed[0].1.contains("text.mp4"),
        "{:?}",
        summary.failed
    );
}

/// `cargo test --release -p mtcae-labels --test video -- --ignored --nocapture`
#[test]
#[ignore = "minutes; says what memory 10,000 frames take"]
#[cfg(target_os = "linux")]
fn memory_is_flat_over_ten_thousand_frames() {
    fn peak() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    let labeller = labeller(DetectAt::Model, Pick::Every(1));
    let folder = tempfile::tempdir().unwrap();
    let inputs = vec![demo(); 134];
    let mut writer = LabelWriter::create(folder.path().join("l.jsonl")).unwrap();
    let (mut frames, mut early) = (0, 0);
    let label = |s: &Sample| labeller.label_file(s);
    label_all(&inputs, &mut writer, 1, label, |p| {
        frames += p.clip.frames.len();
        if early == 0 && frames > 100 {
            early = peak();
        }
        true
    })
    .unwrap();
    let late = peak();
    println!("{frames} frames: peak {early} kB after the first hundred, {late} kB at the end");
    // Each file opened starts decoder threads anew, whose arenas the allocator
    // keeps: a few MB. Ten thousand frames of this size would be 1.5 GB.
    assert!(frames >= 10_000 && late < early + early / 8);
}
