//! The datasets' readers on generated trees of empty files.
#![allow(clippy::unwrap_used)] // test helpers

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mtcae_labels::Error;
use mtcae_labels::dataset::{
    Catalogue, Problem, Report, Sample, Sex, crema_d, folder, folds, manifest, mead, ravdess,
};

fn touch(root: &Path, name: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "").unwrap();
}

/// The whole of RAVDESS's speech in both modalities.
fn full_ravdess(root: &Path) {
    for actor in 1..=24 {
        for emotion in 1..=8 {
            for intensity in 1..=if emotion == 1 { 1 } else { 2 } {
                for (statement, repetition) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
                    for modality in [1, 2] {
                        touch(
                            root,
                            &format!(
                                "Actor_{actor:02}/{modality:02}-01-{emotion:02}-{intensity:02}-\
                             {statement:02}-{repetition:02}-{actor:02}.mp4"
                            ),
                        );
                    }
                }
            }
        }
    }
}

fn of_kind(c: &Catalogue, kind: fn(&Problem) -> bool) -> usize {
    c.problems.iter().filter(|p| kind(p)).count()
}

fn missing(c: &Catalogue) -> usize {
    of_kind(c, |p| matches!(p, Problem::Missing { .. }))
}

fn misnamed(c: &Catalogue) -> usize {
    of_kind(c, |p| matches!(p, Problem::Misnamed { .. }))
}

fn duplicate(c: &Catalogue) -> usize {
    of_kind(c, |p| matches!(p, Problem::Duplicate { .. }))
}

#[test]
fn ravdess_whole_and_damaged() {
    let dir = tempfile::tempdir().unwrap();
    full_ravdess(dir.path());
    let c = ravdess::read(dir.path(), &ravdess::Options::default()).unwrap();
    let report = Report::new(&c);
    assert_eq!(
        (c.samples.len(), c.problems.len(), c.classes.len()),
        (1440, 0, 7)
    );
    assert_eq!(report.equals_published(), Some(true));
    assert_eq!(report.classes[0], ("neutral".to_owned(), 288));
    assert_eq!(c.left_out.values().sum::<usize>(), 1440, "{:?}", c.left_out);
    assert_eq!(report.subjects.len(), 24);
    assert_eq!(
        report.folds.keys().copied().collect::<Vec<_>>(),
        (0..5).map(Some).collect::<Vec<_>>()
    );
    assert_eq!(report.folds[&Some(4)].0, 4 * 60);
    assert!(report.to_string().contains("equal to the published counts"));
    folds::prove(&c.samples).unwrap();
    let s = &c.samples[59];
    assert_eq!(
        (s.file.as_str(), s.sex),
        ("Actor_01/01-01-08-02-02-02-01.mp4", Some(Sex::Male))
    );
    assert_eq!(
        (s.class.as_deref(), s.level.as_deref()),
        (Some("surprised"), Some("strong"))
    );

    let eight = ravdess::Options {
        classes: ravdess::Classes::Eight,
        modality: ravdess::Modality::VideoOnly,
    };
    let c = ravdess::read(dir.path(), &eight).unwrap();
    assert_eq!((c.samples.len(), c.classes.len()), (1440, 8));
    assert_eq!(Report::new(&c).equals_published(), Some(true));

    fs::remove_file(dir.path().join("Actor_03/01-01-05-01-01-01-03.mp4")).unwrap();
    fs::remove_dir_all(dir.path().join("Actor_07")).unwrap();
    touch(dir.path(), "copy/01-01-05-02-01-01-03.mp4");
    for name in [
        "Actor_02/01-01-01-02-01-01-02.mp4",
        "Actor_02/01-01-09-01-01-01-02.mp4",
        "Actor_02/holiday.mp4",
        "Actor_04/01-01-03-01-01-01-05.mp4",
        "Actor_02/01-01-03-01-01-01-25.mp4",
    ] {
        touch(dir.path(), name);
    }
    touch(dir.path(), "Actor_02/01-02-03-01-01-01-02.mp4");
    touch(dir.path(), "readme.txt");
    let c = ravdess::read(dir.path(), &ravdess::Options::default()).unwrap();
    assert_eq!(
        (missing(&c), misnamed(&c), duplicate(&c)),
        (2, 5, 1),
        "{:?}",
        c.problems
    );
    assert_eq!(c.samples.len(), 1440 - 60 - 1);
    assert_eq!(c.left_out["song"], 1);
    assert_eq!(Report::new(&c).equals_published(), Some(false));
    assert!(ravdess::read(dir.path().join("no"), &ravdess::Options::default()).is_err());
}

#[test]
fn crema_d_whole_and_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let sentences = [
        "IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "WSI", "TSI",
    ];
    let mut left = [
        ("NEU", 5),
        ("ANG", 3),
        ("DIS", 3),
        ("FEA", 3),
        ("HAP", 3),
        ("SAD", 3),
    ];
    for actor in 1001..=1091 {
        for sentence in sentences {
            for (class, unpublished) in &mut left {
                let levels: &[&str] = match (sentence, *class) {
                    ("IEO", "NEU") => &["XX"],
                    ("IEO", _) => &["LO", "MD", "HI"],
                    _ => &["XX"],
                };
                for level in levels {
                    if actor % 10 == 0 && sentence == "TSI" && *unpublished > 0 {
                        *unpublished -= 1;
                        continue;
                    }
                    touch(
                        dir.path(),
                        &format!("VideoFlash/{actor}_{sentence}_{class}_{level}.flv"),
                    );
                }
            }
        }
    }
    fs::write(
        dir.path().join("VideoDemographics.csv"),
        "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n1002,21,Female,Caucasian,Not Hispanic\n",
    )
    .unwrap();
    let c = crema_d::read(dir.path()).unwrap();
    let report = Report::new(&c);
    assert_eq!(
        (c.samples.len(), missing(&c), c.problems.len()),
        (7442, 20, 20)
    );
    assert_eq!(report.equals_published(), Some(true));
    assert_eq!(report.subjects.len(), 91);
    assert_eq!(c.samples[0].fold, Some(0));
    assert_eq!(c.samples.last().unwrap().fold, Some(4));
    assert_eq!(
        (c.samples[0].sex, c.samples[100].sex),
        (Some(Sex::Male), Some(Sex::Female))
    );
    folds::prove(&c.samples).unwrap();

    touch(dir.path(), "more/1001_DFA_ANG_XX.mp4");
    touch(dir.path(), "1001_DFA_ANG_X.flv");
    touch(dir.path(), "1092_DFA_ANG_XX.flv");
    touch(dir.path(), "1001_DFA_BORED_XX.flv");
    let c = crema_d::read(dir.path()).unwrap();
    assert_eq!((misnamed(&c), duplicate(&c), c.samples.len()), (3, 1, 7442));
}

#[test]
fn mead_views_levels_and_our_folds() {
    let dir = tempfile::tempdir().unwrap();
    let all = folds::mead();
    let subjects: BTreeSet<&String> = all.iter().flatten().collect();
    assert_eq!(subjects.len(), 48, "no actor in two folds");
    for fold in &all {
        let men = fold.iter().filter(|s| s.starts_with('M')).count();
        assert!(
            (9..=10).contains(&fold.len()) && (5..=6).contains(&men),
            "{fold:?}"
        );
    }
    for actor in subjects {
        for view in ["front", "top"] {
            for class in ["angry", "neutral", "surprised"] {
                for level in 1..=if class == "neutral" { 1 } else { 3 } {
                    touch(
                        dir.path(),
                        &format!("{actor}/video/{view}/{class}/level_{level}/001.mp4"),
                    );
                }
            }
        }
    }
    let c = mead::read(dir.path(), &mead::Options::default()).unwrap();
    assert_eq!(c.samples.len(), 48 * 7);
    assert_eq!(c.left_out["view top"], 48 * 7);
    assert_eq!(missing(&c), 48 * 5 * 3, "five emotions of three levels");
    folds::prove(&c.samples).unwrap();
    let report = Report::new(&c);
    assert_eq!(report.equals_published(), None);
    assert!(report.to_string().contains("6568"), "{report}");
    let options = mead::Options {
        levels: vec![3],
        ..mead::Options::default()
    };
    assert_eq!(
        mead::read(dir.path(), &options).unwrap().samples.len(),
        48 * 3
    );
    let wrong = mead::Options {
        views: vec!["behind".to_owned()],
        ..mead::Options::default()
    };
    assert!(matches!(
        mead::read(dir.path(), &wrong),
        Err(Error::Config { field: "views", .. })
    ));
    touch(dir.path(), "M004/video/front/angry/level_1/001.mp4");
    touch(dir.path(), "M003/video/front/angry/level_4/001.mp4");
    touch(dir.path(), "M003/video/front/neutral/level_2/001.mp4");
    touch(dir.path(), "001.mp4");
    let c = mead::read(dir.path(), &mead::Options::default()).unwrap();
    assert_eq!(misnamed(&c), 4);
}

#[test]
fn folders_are_classes() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "sad/a.mp4",
        "happy/anna/1.MP4",
        "happy/anna/2.png",
        "happy/notes.txt",
        "stray.mp4",
        "sad/wave.gif",
        "sad/b.3gp",
        ".hidden/x.mp4",
    ] {
        touch(dir.path(), name);
    }
    let c = folder::read(dir.path()).unwrap();
    assert_eq!(c.classes, ["happy", "sad"]);
    // The endings that a folder of loose files is searched for as well.
    assert_eq!(c.samples.len(), 5);
    assert_eq!(c.samples[0].subject.as_deref(), Some("anna"));
    assert_eq!((misnamed(&c), c.left_out.len()), (1, 1));
    assert_eq!(c.left_out["no video or image by its name: .txt"], 1);
}

#[test]
fn a_manifest_says_what_is_wrong_by_line() {
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), "a.mp4");
    touch(dir.path(), "b, c.mp4");
    let path = dir.path().join("clips.csv");
    let read = |text: &str, classes: &[&str]| {
        fs::write(&path, text).unwrap();
        let classes: Vec<String> = classes.iter().map(|&c| c.to_owned()).collect();
        manifest::read(&path, &classes)
    };
    let good = "\u{feff}file,class,subject,sex,fold\na.mp4,sad,s1,F,0\n\"b, c.mp4\", happy ,s2,male,1\na.mp4,sad,s1,,0\ngone.mp4,sad,,,\n";
    let c = read(good, &[]).unwrap();
    assert_eq!(
        (c.samples.len(), missing(&c), duplicate(&c)),
        (2, 1, 1),
        "{:?}",
        c.problems
    );
    assert_eq!(c.classes, ["happy", "sad"]);
    assert_eq!(
        (c.samples[0].sex, c.samples[1].fold),
        (Some(Sex::Female), Some(1))
    );
    let fault = |text: &str, classes: &[&str]| read(text, classes).unwrap_err().to_string();
    let e = fault("file,emotion,clss\n", &[]);
    assert!(
        e.contains("\"emotion\"")
            && e.contains("\"clss\"")
            && e.contains("the column \"class\" is missing"),
        "{e}"
    );
    let e = fault(
        "file,class,fold\na.mp4,bored,x\n,sad,1\na.mp4,,1\n",
        &["sad", "happy"],
    );
    for part in [
        "line 2: unknown class \"bored\"",
        "line 2: fold \"x\"",
        "line 3: the file's name is missing",
        "line 4: the class is missing",
    ] {
        assert!(e.contains(part), "{part} in {e}");
    }
    assert!(
        fault("file,class\na.mp4\n", &[]).contains("line: 2"),
        "a row too short"
    );
    assert!(read("", &[]).is_err());
}

#[test]
fn seeded_folds_are_balanced_and_independent() {
    let mut samples = Vec::new();
    for subject in 0..23 {
        for clip in 0..30 + subject % 4 {
            samples.push(Sample {
                class: Some(["angry", "happy", "sad"][clip % 3].to_owned()),
                subject: Some(format!("s{subject}")),
                sex: Some(if subject % 2 == 0 {
                    Sex::Female
                } else {
                    Sex::Male
                }),
                ..Sample::bare(format!("{subject}/{clip}")).unwrap()
            });
        }
    }
    folds::assign(&mut samples, 5, 42).unwrap();
    folds::prove(&samples).unwrap();
    for fold in 0..5 {
        let of_fold = |s: &&Sample| s.fold == Some(fold);
        let subjects: BTreeSet<_> = samples.iter().filter(of_fold).map(|s| &s.subject).collect();
        let women: BTreeSet<_> = samples
            .iter()
            .filter(of_fold)
            .filter(|s| s.sex == Some(Sex::Female))
            .map(|s| &s.subject)
            .collect();
        assert!(
            (4..=5).contains(&subjects.len()) && (2..=3).contains(&women.len()),
            "{fold}: {subjects:?}"
        );
        for class in ["angry", "happy", "sad"] {
            let n = samples
                .iter()
                .filter(of_fold)
                .filter(|s| s.class.as_deref() == Some(class))
                .count();
            assert!((38..=56).contains(&n), "fold {fold} has {n} {class}");
        }
    }
    // The same seed gives the same folds in any order; another gives others.
    let by_name = |samples: &[Sample]| {
        samples
            .iter()
            .map(|s| (s.file.clone(), s.fold))
            .collect::<BTreeSet<_>>()
    };
    let first = by_name(&samples);
    samples.reverse();
    folds::assign(&mut samples, 5, 42).unwrap();
    assert_eq!(by_name(&samples), first);
    folds::assign(&mut samples, 5, 43).unwrap();
    assert_ne!(by_name(&samples), first);
    assert!(folds::assign(&mut samples, 24, 1).is_err());
    assert!(folds::assign(&mut samples, 1, 1).is_err());

    let other = if samples[0].fold == Some(0) { 1 } else { 0 };
    samples[0].fold = Some(other);
    samples[1].fold = None;
    let error = folds::prove(&samples).unwrap_err();
    assert!(
        matches!(&error, Error::Folds { torn, without: 1 } if torn.len() == 1),
        "{error}"
    );
    let said = error.to_string();
    assert!(
        said.contains("is in folds 0 and ") && said.contains("1 clip has no fold"),
        "{said}"
    );
}

/// A label file is UTF-8 and could not say which file it means.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf8_is_named_and_left_out() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    touch(dir.path(), "happy/a.mp4");
    let odd = dir
        .path()
        .join("happy")
        .join(std::ffi::OsStr::from_bytes(b"b\xff.mp4"));
    fs::write(odd, b"").unwrap();
    let c = folder::read(dir.path()).unwrap();
    assert_eq!(c.samples.len(), 1);
    let said: Vec<String> = c.problems.iter().map(ToString::to_string).collect();
    assert!(
        said.len() == 1 && said[0].contains("not UTF-8") && said[0].contains("happy/b"),
        "{said:?}"
    );
}
