//! What is promised of scanned faces, on a miniature face model of the real one's layout.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use mtcae_synth::{Dataset, Expression, Intensity, Renderer, Scanned, Take};
use rayon::prelude::*;

/// The miniature's folder, which lives as long as the tests.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("works");
    mtcae_testing::write_face_model(folder.path());
    folder
});

fn renderer() -> Renderer {
    Renderer::scanned(FOLDER.path()).expect("works")
}

fn scanned(renderer: &Renderer) -> &Scanned {
    match renderer {
        Renderer::Scanned(scanned) => scanned,
        Renderer::Drawn => panic!("is drawn"),
    }
}

fn take(identity: u64, expression: Expression, seed: u64) -> Take {
    let intensity = match expression {
        Expression::Neutral => Intensity::Low,
        _ => Intensity::High,
    };
    Take {
        width: 96,
        height: 96,
        frames: 4,
        ..Take::new(identity, expression, intensity, seed)
    }
}

#[test]
fn a_take_is_the_same_to_the_bit_whatever_runs_beside_it() {
    let takes: Vec<Take> = (0..16)
        .map(|i| take(i / 2, Expression::ALL[i as usize % 8], 100 + i))
        .collect();
    let first = renderer();
    let alone: Vec<_> = takes
        .iter()
        .map(|t| first.render(t).expect("works"))
        .collect();
    let other = renderer();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(4)
        .build()
        .expect("works");
    let beside: Vec<_> = pool.install(|| {
        takes
            .par_iter()
            .rev()
            .map(|t| other.render(t).expect("works"))
            .collect()
    });
    assert!(alone.iter().eq(beside.iter().rev()));
    for (take, clip) in takes.iter().zip(&alone) {
        assert_eq!(clip.truth, first.truth(take).expect("works"));
    }
}

#[test]
fn other_people_other_takes_and_other_expressions_are_other_pictures() {
    let renderer = renderer();
    let mut seen = BTreeSet::new();
    for identity in 0..3 {
        for seed in 0..3 {
            for expression in [Expression::Neutral, Expression::Surprised] {
                let clip = renderer
                    .render(&take(identity, expression, seed))
                    .expect("works");
                assert!(seen.insert(clip.frames.into_raw_vec_and_offset().0));
            }
        }
    }
}

#[test]
fn what_is_true_lies_where_the_face_is() {
    let renderer = renderer();
    let (mut inside, mut all) = (0, 0);
    for seed in 0..40 {
        for face in renderer
            .truth(&take(seed, Expression::Happy, seed))
            .expect("works")
        {
            let (b, marks) = (face.face_box, face.landmarks);
            assert!(b.x2 > b.x1 && b.y2 > b.y1);
            assert!(marks.left_eye[0] < marks.right_eye[0]);
            for [x, y] in marks.points() {
                all += 1;
                let within = b.x1 <= x && x <= b.x2 && b.y1 <= y && y <= b.y2;
                inside += usize::from(within && (0.0..=1.0).contains(&x));
            }
        }
    }
    assert!(inside * 100 >= all * 97, "{inside} of {all}");
}

#[test]
fn a_smile_widens_the_mouth_and_nothing_else_tells_the_expression() {
    let renderer = renderer();
    let width = |expression, seed| {
        // A studio: no head turns, so that pixels are comparable.
        let take = Take {
            variation: 0,
            ..take(seed, expression, seed)
        };
        let truth = renderer.truth(&take).expect("works");
        let marks = truth[truth.len() / 2].landmarks;
        let eyes = marks.right_eye[0] - marks.left_eye[0];
        (
            (marks.mouth_right[0] - marks.mouth_left[0]) / eyes,
            marks.nose[0],
        )
    };
    let mut wider = 0;
    for seed in 0..30 {
        let (smile, nose) = width(Expression::Happy, seed);
        let (rest, still) = width(Expression::Neutral, seed);
        wider += usize::from(smile > rest);
        assert!(
            (nose - still).abs() < 0.02,
            "the head is elsewhere: {nose} and {still}"
        );
    }
    assert!(wider >= 27, "{wider} of 30 smiles are wider");
}

#[test]
fn facts_are_those_of_the_person_and_the_take() {
    let renderer = renderer();
    let dataset = Dataset {
        identities: 1..25,
        ..Dataset::default()
    };
    let mut tones = BTreeSet::new();
    for planned in dataset.plan().expect("works") {
        let facts = scanned(&renderer).facts(&planned.take).expect("works");
        assert!((1..=6).contains(&facts.tone) && (1..=3).contains(&facts.age));
        assert!(facts.yaw < 40.0 && facts.pitch < 30.0 && facts.eyes > 10.0);
        tones.insert(facts.tone);
    }
    assert!(tones.len() >= 5, "{tones:?}");
}

/// A copy of the miniature with one file changed.
fn broken(name: &str, change: impl Fn(Option<String>) -> Option<String>) -> String {
    let folder = tempfile::tempdir().expect("works");
    for entry in std::fs::read_dir(FOLDER.path()).expect("works") {
        let path = entry.expect("works").path();
        std::fs::copy(&path, folder.path().join(path.file_name().expect("works"))).expect("works");
    }
    let path = folder.path().join(name);
    match change(std::fs::read_to_string(&path).ok()) {
        Some(text) => std::fs::write(&path, text).expect("works"),
        None => std::fs::remove_file(&path).expect("works"),
    }
    let message = Renderer::scanned(folder.path())
        .expect_err("is refused")
        .to_string();
    assert!(message.contains(name), "{message}");
    assert!(
        message.contains("github.com/ICT-VGL/ICT-FaceKit"),
        "{message}"
    );
    message
}

#[test]
fn a_folder_that_is_no_face_model_says_which_file_and_why() {
    let none = Renderer::scanned(Path::new("/nowhere"))
        .expect_err("is refused")
        .to_string();
    assert!(
        none.contains("generic_neutral_mesh.obj: cannot be read"),
        "{none}"
    );
    for name in [
        "identity042.obj",
        "jawOpen.obj",
        "mouthSmile_R.obj",
        "vertex_indices.json",
        "LICENSE",
    ] {
        assert!(broken(name, |_| None).contains("cannot be read"), "{name}");
    }
    let cut =
        |text: Option<String>| text.map(|t| t[..t.find("vt ").expect("works") / 2].to_owned());
    let message = broken("identity007.obj", cut);
    assert!(message.contains("vertices, and generic_neutral_mesh.obj") || message.contains("line"));
    let other = |text: Option<String>| text.map(|t| t.replace("v ", "v nan "));
    assert!(broken("identity007.obj", other).contains("line 2: is not `v`"));
    let materials = |text: Option<String>| text.map(|t| t.replace("M_Teeth", "M_Other"));
    let message = broken("generic_neutral_mesh.obj", materials);
    assert!(
        message.contains("no polygons of the material M_Teeth"),
        "{message}"
    );
    let far = |text: Option<String>| text.map(|t| t.replace("f 1/1 ", "f 99999/1 "));
    assert!(broken("generic_neutral_mesh.obj", far).contains("that there are"));
    let few = |_| Some(r#"{"idx_to_landmark_verts": [1, 2, 3]}"#.to_owned());
    assert!(broken("vertex_indices.json", few).contains("68 numbers of vertices"));
}
