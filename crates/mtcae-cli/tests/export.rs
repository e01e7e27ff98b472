//! `export`: what it writes, and what it refuses. That the graphs are right is
//! `crates/mtcae-onnx/tests/parity.py`'s to say.

mod common;

use std::path::Path;

use common::{code, program, text};
use mtcae_testing::fixtures;

fn export(args: &[&str]) -> (i32, String, String) {
    // From elsewhere than the repository, as an installed program would run.
    let output = program("export")
        .args(args)
        .current_dir(std::env::temp_dir())
        .output()
        .expect("started");
    (code(&output), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_default_model_and_its_parts_are_written_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("m.onnx").display().to_string();
    let (status, said, faults) = export(&["--onnx", &out]);
    assert_eq!((status, faults.as_str()), (0, ""), "{said}");
    let answers = "boxes, landmarks, action_units, logits, probabilities";
    assert_eq!(said, format!("{out}: clip to {answers}\n"));
    let whole = std::fs::metadata(&out).expect("written").len();

    let args = ["--onnx", &out, "--part", "encoder", "--external", "--force"];
    let (status, said, _) = export(&args);
    let both = format!("{out}, {out}.data: clip to features\n");
    assert_eq!((status, said), (0, both));
    let apart = std::fs::metadata(&out).expect("written").len();
    assert!(apart < whole / 10, "{apart} of {whole} bytes");

    let args = ["--onnx", &out, "--part", "decoder", "--quiet", "--force"];
    assert_eq!(export(&args), (0, String::new(), String::new()));
    let names = std::fs::read_dir(folder.path()).expect("a folder");
    assert_eq!(names.count(), 2);
}

#[test]
fn what_exists_is_left_and_what_cannot_be_is_said_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    for name in ["m.onnx", "apart.onnx.data"] {
        std::fs::write(at(name), "mine").expect("written");
    }
    let checkpoint = |name: &str| fixtures().join(name).display().to_string();
    let alone = checkpoint("e3dce91/checkpoints/single-task");
    let torn = folder.path().join("torn");
    std::fs::create_dir(&torn).expect("a folder");
    let cascade = fixtures().join("e3dce91/checkpoints/cascade");
    let copied = std::fs::copy(cascade.join("config.json"), torn.join("config.json"));
    copied.expect("copied");
    let weights = std::fs::read(cascade.join("model.safetensors")).expect("read");
    let half = &weights[..weights.len() / 2];
    std::fs::write(torn.join("model.safetensors"), half).expect("written");
    let strange = folder.path().join("strange");
    std::fs::create_dir(&strange).expect("a folder");
    let config = std::fs::read_to_string(cascade.join("config.json")).expect("read");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    config["version"] = 2.into();
    config["encoder"]["family"] = "patch-means".into();
    std::fs::write(strange.join("config.json"), config.to_string()).expect("written");
    let (torn, strange) = (torn.display().to_string(), strange.display().to_string());
    let refused: [(&[&str], &str); 9] = [
        (
            &["--onnx", &at("m.onnx")],
            "m.onnx: exists already; --force overwrites it",
        ),
        (
            &["--onnx", &at("apart.onnx"), "--external"],
            "apart.onnx.data: exists already; --force overwrites it",
        ),
        (&["--onnx", &at("")], "is a folder; give the name of a file"),
        (&["--onnx", &at("m.onx")], "m.onx: should end in .onnx"),
        (
            &["--onnx", &at("none/m.onnx")],
            "none/m.onnx: its folder does not exist; make it first",
        ),
        (
            &[
                "--onnx",
                &at("n.onnx"),
                "--checkpoint",
                &alone,
                "--part",
                "decoder",
            ],
            "--part: the structure single-task has no decoder",
        ),
        (
            &["--onnx", &at("n.onnx"), "--checkpoint", &at("nothing")],
            "nothing: No such file or directory",
        ),
        (
            &["--onnx", &at("n.onnx"), "--checkpoint", &torn],
            "model.safetensors: not a complete safetensors file",
        ),
        (
            &["--onnx", &at("n.onnx"), "--checkpoint", &strange],
            "patch-means",
        ),
    ];
    for (args, words) in refused {
        let (status, said, faults) = export(args);
        assert_eq!((status, said.as_str()), (1, ""), "{args:?}: {faults}");
        assert!(faults.contains(words), "{args:?}: {faults}");
        assert_eq!(faults.lines().count(), 1, "{faults}");
    }
    let (status, _, faults) = export(&["--onnx", &at("n.onnx"), "--part", "head"]);
    let words = r#""head" is not one of whole, encoder, decoder"#;
    assert!(status == 2 && faults.contains(words), "{faults}");
    let read = |name: &str| std::fs::read_to_string(at(name)).expect("read");
    assert_eq!(read("m.onnx"), "mine");
    assert_eq!(read("apart.onnx.data"), "mine");
    assert!(!Path::new(&at("n.onnx")).exists() && !Path::new(&at("apart.onnx")).exists());
}
