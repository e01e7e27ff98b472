//! `init` with the decoders of systems that the paper compares with.

mod training;

use mtcae_dfer::model::checkpoint::read_config;
use mtcae_dfer::model::decoder::Structure;
use mtcae_dfer::model::encoder::Families;
use training::{done, refused};

#[test]
fn init_draws_each_to_suit_its_encoder_and_says_what_it_cannot() {
    let folder = tempfile::tempdir().expect("a folder");
    let tiny = ["--size", "tiny", "--image-size", "32", "--frames", "4"];
    for structure in Structure::COMPARED {
        let out = folder.path().join(structure.name());
        let path = out.to_string_lossy();
        let more = ["--structure", structure.name(), "--out", &path];
        let said = done("init", &[&tiny[..], &more].concat());
        assert!(said.contains("untrained decoder"), "{said}");
        let config = read_config(out.join("config.json"), &Families::default()).expect("valid");
        assert_eq!(config.decoder.structure, structure);
        assert_eq!(config.decoder.grid, Some([2, 2, 2]));
    }
    let out = folder.path().join("other");
    let path = out.to_string_lossy();
    let refuse = |more: &[&str]| {
        let line = [&tiny[..], &["--out", &path], more].concat();
        refused("init", &line)
    };
    let said = refuse(&["--structure", "mnc", "--action-units", "AU4"]);
    assert!(
        said.contains("mnc has stages for face_box, landmarks and one task"),
        "{said}"
    );
    let said = refuse(&["--structure", "lstm", "--decoder-heads", "4"]);
    assert!(
        said.contains("heads: must be 1, not 4: lstm has no attention"),
        "{said}"
    );
    let said = refuse(&["--structure", "mtl-er", "--decoder-width", "70"]);
    assert!(
        said.contains("heads: 4 of 16 channels must make up the width 70"),
        "{said}"
    );
    assert!(!out.exists());
}
