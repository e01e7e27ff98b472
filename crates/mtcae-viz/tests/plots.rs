//! What confusion matrices and curves must show.

use mtcae_viz::{Canvas, Colour, Curve, Error, Panel, confusion_matrix, curves};

const NAMES: [&str; 8] = [
    "neutral",
    "calm",
    "happy",
    "sad",
    "angry",
    "fearful",
    "disgusted",
    "surprised",
];

/// A matrix that is right in most cases.
fn matrix(classes: usize) -> Vec<Vec<u64>> {
    let cell = |r: usize, c: usize| if r == c { 40 + r } else { (7 * r + 3 * c) % 9 } as u64;
    (0..classes)
        .map(|r| (0..classes).map(|c| cell(r, c)).collect())
        .collect()
}

fn names(classes: usize) -> Vec<String> {
    (0..classes)
        .map(|i| {
            NAMES
                .get(i)
                .map_or(format!("class {i}"), |n| (*n).to_owned())
        })
        .collect()
}

/// Colours by (x, y).
struct Pixels {
    width: usize,
    rgb: Vec<u8>,
}

impl Pixels {
    fn of(canvas: &Canvas) -> Self {
        Self {
            width: canvas.width(),
            rgb: canvas.rgb(),
        }
    }

    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let at = 3 * (y * self.width + x);
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }
}

/// Writes the pictures where a person can look at them.
fn show(name: &str, canvas: &Canvas) {
    if let Ok(folder) = std::env::var("MTCAE_PICTURES") {
        mtcae_viz::save_png(std::path::Path::new(&folder).join(name), canvas).expect("written");
    }
}

#[test]
fn the_diagonal_is_darker_than_what_lies_beside_it() {
    for classes in [2, 3, 7, 12] {
        let canvas = confusion_matrix(&names(classes), &matrix(classes)).expect("drawn");
        show(&format!("confusion-{classes}.png"), &canvas);
        let pixels = Pixels::of(&canvas);
        // The grid's upright lines, found in the picture: grey all down the first
        // row of cells.
        let grey = |p: [u8; 3]| p.iter().all(|v| (170..252).contains(v));
        let lines: Vec<usize> = (0..canvas.width())
            .filter(|x| (24..60).all(|y| grey(pixels.at(*x, y))))
            .collect();
        let left = lines[0];
        let cell = (72..=104)
            .find(|c| lines.iter().any(|x| x.abs_diff(left + c) <= 1))
            .expect("a second line");
        let shade = |r: usize, c: usize| {
            let p = pixels.at(left + c * cell + 8, 20 + r * cell + 8);
            p.iter().map(|v| u32::from(*v)).sum::<u32>()
        };
        for i in 0..classes {
            for j in (0..classes).filter(|j| *j != i) {
                assert!(shade(i, i) + 100 < shade(i, j), "{classes}: {i}, {j}");
            }
        }
    }
}

#[test]
fn matrices_are_as_large_as_their_classes_and_names_need() {
    let size = |canvas: &Canvas| (canvas.width(), canvas.height());
    let two = confusion_matrix(&["a", "b"], &[[3, 1], [0, 0]]).expect("drawn");
    let twelve = confusion_matrix(&names(12), &matrix(12)).expect("drawn");
    assert!(size(&two).0 < 500 && size(&two).1 < 300, "{:?}", size(&two));
    assert!(
        size(&twelve).0 < 1500 && size(&twelve).1 < 1300,
        "{:?}",
        size(&twelve)
    );
    let long = [
        "a name that is far too long to be read",
        "contemptuous",
        "c",
    ];
    let counts = [[12_345_678u64, 3, 1], [0, 1, 0], [1, 1, 1]];
    let long = confusion_matrix(&long, &counts).expect("drawn");
    show("confusion-long.png", &long);
    assert!(size(&long).0 < 900, "{:?}", size(&long));
}

#[test]
fn lists_that_do_not_fit_are_named() {
    let said = |result: Result<Canvas, Error>| result.expect_err("a fault").to_string();
    assert_eq!(
        said(confusion_matrix(&["a", "b"], &[[1, 2]])),
        "rows of the confusion matrix: 1 given, 2 expected"
    );
    assert_eq!(
        said(confusion_matrix(&["a", "b"], &[vec![1, 2], vec![3]])),
        "columns of row 1: 1 given, 2 expected"
    );
    assert_eq!(
        said(confusion_matrix::<&str, Vec<u64>>(&[], &[])),
        "classes: nothing to draw"
    );
    assert_eq!(
        said(curves(&[], "epoch", 800, 600)),
        "panels: nothing to draw"
    );
    let panel = [Panel {
        title: "loss".to_owned(),
        curves: vec![],
    }];
    assert!(curves(&panel, "epoch", 800, 600).is_ok());
    assert!(matches!(
        curves(&panel, "epoch", 100, 60),
        Err(Error::Size { .. })
    ));
}

fn curve(name: &str, y: impl Fn(f64) -> f64, epochs: usize) -> Curve {
    Curve {
        name: name.to_owned(),
        points: (1..=epochs).map(|e| (e as f64, y(e as f64))).collect(),
    }
}

fn training(epochs: usize) -> Vec<Panel> {
    let mut validation = curve(
        "validation",
        |e| 0.55 + 2.6 * (-e / 7.0).exp() + 0.004 * e,
        epochs,
    );
    validation.points[epochs / 2].1 = f64::NAN;
    validation.points[epochs / 2 + 1].1 = f64::INFINITY;
    vec![
        Panel {
            title: "Loss".to_owned(),
            curves: vec![
                curve("training", |e| 0.21 + 3.1 * (-e / 8.0).exp(), epochs),
                validation,
            ],
        },
        Panel {
            title: "Recognition on validation clips".to_owned(),
            curves: vec![
                curve(
                    "UAR",
                    |e| 0.81 - 0.66 * (-e / 9.0).exp() + 0.01 * (2.0 * e).sin(),
                    epochs,
                ),
                curve(
                    "WAR",
                    |e| 0.84 - 0.68 * (-e / 9.0).exp() + 0.01 * (3.0 * e).sin(),
                    epochs,
                ),
            ],
        },
    ]
}

#[test]
fn a_curve_is_drawn_where_its_numbers_are_and_has_gaps() {
    let canvas = curves(&training(30), "Epoch", 960, 640).expect("drawn");
    show("curves.png", &canvas);
    assert_eq!((canvas.width(), canvas.height()), (960, 640));
    let long = curves(&training(400), "Epoch", 1200, 800).expect("drawn");
    show("curves-400.png", &long);

    let flat = |points: Vec<(f64, f64)>| {
        let panel = Panel {
            title: String::new(),
            curves: vec![Curve {
                name: "a".to_owned(),
                points,
            }],
        };
        curves(&[panel], "x", 640, 320).expect("drawn")
    };
    // x from 0 to 10, y at 0 and 1: 0.5 is half way up, and the points at 4 and 5
    // are missing.
    let nan = f64::NAN;
    let mut points: Vec<(f64, f64)> = (0..=10).map(|x| (f64::from(x), 0.5)).collect();
    points[0].1 = 0.0;
    points[10].1 = 1.0;
    (points[4].1, points[5].1) = (nan, nan);
    let canvas = flat(points);
    show("curves-gap.png", &canvas);
    let ink = Colour::series(4).rgb;
    let pixels = Pixels::of(&canvas);
    let drawn: Vec<usize> = (0..canvas.width())
        .filter(|x| (0..canvas.height()).any(|y| pixels.at(*x, y) == ink))
        .collect();
    // The legend's line comes after the plot's.
    let jumps: Vec<(usize, usize)> = drawn
        .windows(2)
        .filter(|w| w[1] - w[0] > 5)
        .map(|w| (w[0], w[1]))
        .collect();
    assert_eq!(jumps.len(), 2, "{jumps:?}");
    let (start, end) = (drawn[0] as f64 + 3.0, jumps[1].0 as f64 - 3.0);
    let x = |v: f64| start + v / 10.0 * (end - start);
    assert!((jumps[0].0 as f64 - x(3.0) - 3.0).abs() < 3.0, "{jumps:?}");
    assert!((jumps[0].1 as f64 - x(6.0) + 3.0).abs() < 3.0, "{jumps:?}");
}

#[test]
fn no_numbers_are_too_strange_to_draw() {
    let strange = [
        0.0,
        -0.0,
        5e-324,
        1e300,
        -1e149,
        f64::NAN,
        f64::INFINITY,
        1e9,
        1e9 + 1e-6,
    ];
    for a in strange {
        for b in strange {
            let panel = Panel {
                title: "é".to_owned(),
                curves: vec![Curve {
                    name: "a".to_owned(),
                    points: vec![(a, b), (b, a), (a, a)],
                }],
            };
            assert!(curves(&[panel], "x", 640, 480).is_ok(), "{a}, {b}");
        }
    }
}
