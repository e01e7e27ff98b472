//! Every family of encoders from rendered clips to a measured model: label, init, train
//! over folds with cached features, evaluate; and a run that tunes all of an encoder.

mod training;

use std::path::Path;

use mtcae_dfer::model::Checkpoint;
use mtcae_dfer::model::encoder::Families;
use training::{SETTINGS, done, material, refused};

#[test]
fn every_family_is_labelled_trained_and_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    // Labels of their own: the clips' names say class and actor, MTCNN where faces are.
    let clips = Path::new(&material().labels).parent().expect("a folder");
    let labels = at("labels.jsonl");
    let clips = clips.display().to_string();
    let flags = ["--dataset", "ravdess", "--folds", "3", "--out", &labels];
    done(
        "label",
        &[&[clips.as_str()], &flags[..], &["--quiet"]].concat(),
    );
    for (family, _) in Families::presets() {
        let (model, out, cache) = (at(&format!("{family}-model")), at(family), at("cache"));
        let sizes = ["--size", "tiny", "--image-size", "64", "--frames", "8"];
        let init = [&["--family", family, "--out", &model], &sizes[..]].concat();
        done("init", &init);
        let base = [
            "--labels",
            &labels,
            "--root",
            &clips,
            "--checkpoint",
            &model,
            "--out",
        ];
        let train = |out: &str, more: &[&str]| {
            let args = [&base[..], &[out], SETTINGS, more].concat();
            done("train", &args)
        };
        let printed = train(&out, &["--cross-validate", "--cache", &cache]);
        assert!(
            printed.contains("mean ± std of 3 folds: UAR "),
            "{family}: {printed}"
        );
        // Only what was cached is of the frozen encoder: all of it learns here.
        let tuned = at(&format!("{family}-tuned"));
        let more = [
            "--tune",
            "all",
            "--fold",
            "0",
            "--drop-path",
            "0.1",
            "--layer-decay",
            "0.75",
        ];
        train(&tuned, &more);
        let trained = format!("{tuned}/model");
        let opened = Checkpoint::open(&trained).expect("a checkpoint");
        assert_eq!(opened.config().encoder.family(), family);
        let measure = [
            "--labels",
            &labels,
            "--root",
            &clips,
            "--checkpoint",
            &trained,
        ];
        let said = done(
            "evaluate",
            &[&measure[..], &["--fold", "0", "--quiet"]].concat(),
        );
        assert!(said.starts_with("15 clips: UAR "), "{family}: {said}");
    }
}

#[test]
fn sizes_that_a_family_cannot_take_name_their_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("model").display().to_string();
    let init = |more: &[&str]| refused("init", &[&["--out", &out], more].concat());
    for (more, want) in [
        (
            &["--family", "vit"][..],
            "--family: there is no \"vit\"; known: lgi-former,",
        ),
        (
            &["--family", "tpsbt", "--size", "huge"],
            "--size: there is no \"huge\"",
        ),
        (
            &["--family", "tpsbt", "--frames", "12"],
            "--frames: 12 make 6 slices",
        ),
        (
            &["--family", "lgi-former", "--image-size", "176"],
            "--image-size, --frames: 4×2×1 regions do not divide the grid",
        ),
        (
            &["--image-size", "100"],
            "--image-size: 100 is not a multiple of the patch size 16",
        ),
    ] {
        let said = init(more);
        assert!(said.contains(want), "{said}");
        assert!(!Path::new(&out).exists());
    }
}
