//! `card`: what is measured of a model stands in its card, and nothing that is of another.

mod training;

use training::{Material, done, material, refused, run, text};

#[test]
fn what_training_and_evaluate_measure_stands_in_the_card() {
    let Material { labels, checkpoint } = material();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    assert!(done("card", &[checkpoint]).contains("its weights are random"));

    let fit = [
        "--labels",
        labels,
        "--checkpoint",
        checkpoint,
        "--fold",
        "0",
    ];
    let few = ["--folds", "3", "--epochs", "1", "--batch", "4", "--quiet"];
    let out = ["--validation", "0", "--out", &at("run")];
    done("train", &[&fit[..], &few, &out].concat());
    let model = at("run/model");
    let card = done("card", &[&model]);
    for words in [
        "Fold 0, of whose people it was trained on none",
        "`mtcae train --fold 0`",
        "| UAR |",
        "recall of happy",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    let written = std::fs::read_to_string(folder.path().join("run/model/card.md"));
    assert_eq!(written.expect("a card").trim_end(), card.trim_end());

    let measure = ["--labels", labels, "--checkpoint", &model, "--allow-seen"];
    let more = ["--bootstrap", "0", "--quiet", "--card"];
    done("evaluate", &[&measure[..], &more].concat());
    let card = done("card", &[&model]);
    for words in ["WAS TRAINED ON", "intensity", "mtcae train --fold 0"] {
        assert!(card.contains(words), "{words}: {card}");
    }
    let refusal = refused(
        "evaluate",
        &[&measure[..], &more, &["--crop", "face"]].concat(),
    );
    assert!(refusal.contains("leave out --crop"), "{refusal}");

    // Another config: the figures are not its.
    let out = at("calibrated");
    let fit = [
        "--labels",
        labels,
        "--checkpoint",
        &model,
        "--out",
        &out,
        "--allow-seen",
        "--quiet",
    ];
    done("calibrate", &fit);
    let card = done("card", &[&out]);
    assert!(
        card.contains("log loss, uncalibrated") && !card.contains("train --fold"),
        "{card}"
    );
    let list = folder.path().join("run/model/measured.json");
    std::fs::copy(list, folder.path().join("calibrated/measured.json")).expect("copied");
    let output = run("card", &[&out]);
    assert!(text(&output.stdout).contains("Nothing yet"));
    assert!(
        text(&output.stderr).contains("2 measurements"),
        "{}",
        text(&output.stderr)
    );

    std::fs::write(folder.path().join("calibrated/measured.json"), "{").expect("written");
    assert!(refused("card", &[&out]).contains("measured.json"));
    assert!(refused("card", &["/nowhere"]).contains("/nowhere"));
}
