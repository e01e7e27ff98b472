//! What is promised of rendered clips.

use std::collections::BTreeSet;

use mtcae_synth::{
    Dataset, Error, Expression, Identity, Intensity, Take, render, render_apex, truth,
};
use rayon::prelude::*;

fn strongest(expression: Expression) -> Intensity {
    match expression {
        Expression::Neutral => Intensity::Low,
        _ => Intensity::High,
    }
}

fn small(identity: u64, expression: Expression, seed: u64) -> Take {
    Take {
        width: 128,
        height: 128,
        frames: 5,
        ..Take::new(identity, expression, strongest(expression), seed)
    }
}

#[test]
fn a_take_is_the_same_to_the_bit_whatever_runs_beside_it() {
    let takes: Vec<Take> = (0..12)
        .map(|i| small(i, Expression::ALL[i as usize % 8], 100 + i))
        .collect();
    let alone: Vec<_> = takes.iter().map(|t| render(t).unwrap()).collect();
    for threads in [2, 5] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let beside: Vec<_> =
            pool.install(|| takes.par_iter().map(|t| render(t).unwrap()).collect());
        assert_eq!(alone, beside);
    }
    for (take, clip) in takes.iter().zip(&alone) {
        assert_eq!(clip.truth, truth(take).unwrap());
        let (frame, exact) = render_apex(&Take { frames: 1, ..*take }).unwrap();
        assert_eq!(frame.dim(), (128, 128, 3));
        assert!(exact.face_box.y2 > exact.face_box.y1);
    }
}

#[test]
fn other_seeds_give_other_clips() {
    let mut seen = BTreeSet::new();
    for identity in 0..4 {
        for seed in 0..4 {
            let clip = render(&small(identity, Expression::Neutral, seed)).unwrap();
            assert!(seen.insert(clip.frames.into_raw_vec_and_offset().0));
        }
    }
}

#[test]
fn splits_share_no_face_and_no_take() {
    let faces = |split: &str, seed: u64| {
        let dataset = Dataset {
            split: split.to_owned(),
            seed,
            identities: 1..201,
            ..Dataset::default()
        };
        let plan = dataset.plan().unwrap();
        let takes: BTreeSet<u64> = plan.iter().map(|p| p.take.seed).collect();
        assert_eq!(takes.len(), plan.len());
        let ids: BTreeSet<u64> = plan.iter().map(|p| p.take.identity).collect();
        assert_eq!(ids.len(), 200);
        (ids, takes)
    };
    let splits = [("train", 1), ("test", 1), ("ablation", 1), ("train", 2)];
    let all: Vec<_> = splits.iter().map(|(s, seed)| faces(s, *seed)).collect();
    for (i, a) in all.iter().enumerate() {
        for b in &all[i + 1..] {
            assert!(a.0.is_disjoint(&b.0) && a.1.is_disjoint(&b.1));
        }
    }
    // Not only the seeds differ: so do the faces made of them.
    let faces: Vec<Identity> = all
        .iter()
        .flat_map(|(ids, _)| ids.iter().map(|&id| Identity::new(id)))
        .collect();
    let looks: BTreeSet<String> = faces
        .iter()
        .map(|f| {
            // Everything but the seed itself.
            let text = format!("{f:?}");
            text.split_once("width").unwrap().1.to_owned()
        })
        .collect();
    assert_eq!(looks.len(), 800);
}

#[test]
fn more_actors_and_takes_leave_those_before_as_they_are() {
    let few = Dataset::default().plan().unwrap();
    let many = Dataset {
        identities: 1..120,
        takes: 3,
        ..Dataset::default()
    };
    let many = many.plan().unwrap();
    for clip in &few {
        assert!(many.contains(clip), "{}", clip.file);
    }
    let files: BTreeSet<&str> = many.iter().map(|p| &p.file[..]).collect();
    assert_eq!(files.len(), many.len());
    assert_eq!(many.len(), 119 * 22 * 3);
    assert!(files.contains("Actor_05/01-01-03-02-01-02-05.mp4"));
    assert!(files.contains("Actor_110/01-01-01-01-02-01-110.mp4"));
}

#[test]
fn what_is_true_lies_inside_the_frame_and_in_order() {
    let sizes = [(256, 256), (320, 180), (180, 320), (64, 64)];
    for (i, clip) in Dataset::default().plan().unwrap().iter().enumerate() {
        let (width, height) = sizes[i % 4];
        let take = Take {
            width,
            height,
            ..clip.take
        };
        for t in truth(&take).unwrap() {
            let [x1, y1, x2, y2] = t.face_box.corners();
            assert!(x1 >= 0.0 && y1 >= 0.0 && x2 <= 1.0 && y2 <= 1.0, "{t:?}");
            assert!(x1 < x2 && y1 < y2);
            let [left, right, nose, mouth_left, mouth_right] = t.landmarks.points();
            assert!(left[0] < right[0] && mouth_left[0] < mouth_right[0]);
            assert!(left[1].max(right[1]) < nose[1]);
            assert!(nose[1] < mouth_left[1].max(mouth_right[1]));
            for [x, y] in t.landmarks.points() {
                assert!(x1 < x && x < x2 && y1 < y && y < y2, "{t:?}");
            }
        }
        if (width, height) == (256, 256) {
            let tall = truth(&take).unwrap()[0].face_box;
            assert!((0.40..0.85).contains(&(tall.y2 - tall.y1)), "{tall:?}");
        }
    }
}

#[test]
fn every_expression_shows_and_grows_with_its_intensity() {
    for identity in 0..6 {
        let seed = 40 + identity;
        let (still, rest) = render_apex(&small(identity, Expression::Neutral, seed)).unwrap();
        for expression in &Expression::ALL[1..] {
            let mut before = 0.0;
            for intensity in Intensity::ALL {
                let take = Take {
                    intensity,
                    ..small(identity, *expression, seed)
                };
                let (frame, exact) = render_apex(&take).unwrap();
                let changed = frame
                    .iter()
                    .zip(&still)
                    .map(|(a, b)| f64::from(a.abs_diff(*b)))
                    .sum::<f64>();
                assert!(changed > before, "{expression} {intensity:?} of {identity}");
                before = changed;
                if intensity == Intensity::High && *expression != Expression::Calm {
                    let moved = (0..5).map(|i| {
                        let [a, b] = [exact.landmarks.points()[i], rest.landmarks.points()[i]];
                        (a[0] - b[0]).hypot(a[1] - b[1])
                    });
                    let eyes = rest.landmarks.right_eye[0] - rest.landmarks.left_eye[0];
                    assert!(moved.fold(0.0, f32::max) > 0.04 * eyes, "{expression}");
                }
            }
        }
    }
}

/// The same seed with another expression: only the face differs, and nothing that
/// a network could learn instead of it.
#[test]
fn nothing_but_the_face_depends_on_the_expression() {
    for seed in 0..6 {
        let take = |e| Take {
            width: 256,
            height: 256,
            ..small(seed, e, 900 + seed)
        };
        let clips: Vec<_> = Expression::ALL
            .iter()
            .map(|&e| (take(e).crf(), render_apex(&take(e)).unwrap()))
            .collect();
        let lowest = clips.iter().map(|c| c.1.1.face_box.y2).fold(0.0, f32::max);
        let [x1, y1, x2, _] = clips[0].1.1.face_box.corners();
        let (w, h) = (x2 - x1, lowest - y1);
        let head = [x1 - 0.1 * w, y1 - 0.1 * h, x2 + 0.1 * w, lowest + 0.1 * h];
        for (crf, (frame, exact)) in &clips[1..] {
            assert_eq!(*crf, clips[0].0);
            // The upper edge and the sides of the box do not know the expression.
            assert_eq!(
                exact.face_box.corners()[..3],
                clips[0].1.1.face_box.corners()[..3]
            );
            for ((y, x, c), value) in frame.indexed_iter() {
                let (fx, fy) = (x as f32 / 256.0, y as f32 / 256.0);
                let inside = fx > head[0] && fx < head[2] && fy > head[1] && fy < head[3];
                if !inside {
                    assert_eq!(*value, clips[0].1.0[[y, x, c]], "{x} {y}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_rendered_is_named() {
    let good = small(1, Expression::Happy, 1);
    let neutral = small(1, Expression::Neutral, 1);
    let cases = [
        (Take { width: 63, ..good }, "width"),
        (
            Take {
                height: 5000,
                ..good
            },
            "height",
        ),
        (Take { frames: 0, ..good }, "frames"),
        (
            Take {
                frames: 10_000,
                width: 4096,
                ..good
            },
            "frames",
        ),
        (Take { fps: 0, ..good }, "fps"),
        (
            Take {
                variation: 101,
                ..good
            },
            "variation",
        ),
        (
            Take {
                intensity: Intensity::High,
                ..neutral
            },
            "intensity",
        ),
    ];
    for (take, name) in cases {
        match render(&take) {
            Err(error @ Error::Setting { field, .. }) => {
                assert_eq!(field, name);
                assert!(error.to_string().contains("it must be"), "{error}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    for (dataset, name) in [
        (
            Dataset {
                identities: 0..4,
                ..Dataset::default()
            },
            "identities",
        ),
        (
            Dataset {
                takes: 199,
                ..Dataset::default()
            },
            "takes",
        ),
        (
            Dataset {
                split: String::new(),
                ..Dataset::default()
            },
            "split",
        ),
        (
            Dataset {
                width: 10,
                ..Dataset::default()
            },
            "width",
        ),
    ] {
        match dataset.plan() {
            Err(Error::Setting { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// `cargo test --release -p mtcae-synth --test clips -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a check"]
#[allow(clippy::print_stdout)]
fn milliseconds_a_frame() {
    let plan = Dataset::default().plan().unwrap();
    let clips: Vec<Take> = plan.iter().step_by(11).map(|p| p.take).collect();
    let start = std::time::Instant::now();
    for take in &clips {
        render(take).unwrap();
    }
    let frames = clips.iter().map(|t| t.frames).sum::<u32>();
    let each = start.elapsed().as_secs_f64() * 1e3 / f64::from(frames);
    println!(
        "{each:.2} ms a frame of 256x256, {} clips, one thread",
        clips.len()
    );
}
