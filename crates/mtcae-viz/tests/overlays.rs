//! What is drawn on frames must be readable, and leave them to be seen.

use mtcae_viz::{Canvas, Colour, TextSize, draw_face, draw_part, draw_tag, probability_panel};

const GREY: Colour = Colour::new(90, 90, 90);

fn changed(canvas: &Canvas) -> Vec<(usize, usize)> {
    let rgb = canvas.rgb();
    let pixels = rgb.chunks_exact(3).enumerate();
    pixels
        .filter(|(_, p)| **p != GREY.rgb)
        .map(|(i, _)| (i % canvas.width(), i / canvas.width()))
        .collect()
}

#[test]
fn letters_grow_with_the_picture() {
    let line = |w, h| TextSize::fitting(w, h).line();
    assert_eq!(line(64, 64), 10);
    assert_eq!(line(240, 240), 16);
    assert_eq!(line(1920, 1080), 32);
    assert_eq!(line(1080, 1920), 32);
    assert_eq!(line(3840, 2160), 64);
    for size in [8, 16, 20, 26, 40, 50, 100].map(TextSize::Pixels) {
        let (width, height) = (size.width("MTCNN"), size.line());
        let mut canvas = Canvas::new(width + 20, height + 20, GREY).expect("a canvas");
        canvas.text(10.0, 10.0, "MTCNN", size, Colour::WHITE);
        let drawn = changed(&canvas);
        assert!(drawn.len() > height, "{size:?}");
        let inside = |&(x, y): &(usize, usize)| {
            (10..10 + width).contains(&x) && (10..10 + height).contains(&y)
        };
        assert!(drawn.iter().all(inside), "{size:?}");
    }
}

#[test]
fn lines_grow_with_the_picture_and_stay_thin() {
    for (side, thickness) in [(64, 1..=2), (256, 1..=2), (1080, 3..=4), (2160, 6..=7)] {
        let mut canvas = Canvas::new(side, side, GREY).expect("a canvas");
        let edge = side as f32 * 0.25;
        let face_box = [edge, edge, 3.0 * edge, 3.0 * edge].into();
        draw_face(&mut canvas, Some(face_box), None, "", Colour::WHITE);
        // Across the left edge, in the middle of its height.
        let across = changed(&canvas)
            .into_iter()
            .filter(|(x, y)| *y == side / 2 && *x < side / 2)
            .count();
        assert!(thickness.contains(&across), "{side}: {across}");
    }
}

#[test]
fn a_tag_stays_in_its_corner_and_a_label_in_the_picture() {
    let mut canvas = Canvas::new(240, 180, GREY).expect("a canvas");
    draw_tag(&mut canvas, "12.48 s", Colour::WHITE);
    assert!(
        changed(&canvas)
            .iter()
            .all(|(x, y)| *x < 80 && *y >= 180 - 16)
    );
    let mut canvas = Canvas::new(64, 64, GREY).expect("a canvas");
    let face_box = [40.0, 2.0, 60.0, 30.0].into();
    let label = "happy 100%";
    draw_face(&mut canvas, Some(face_box), None, label, Colour::WHITE);
    // One line at the top, not over half of the picture.
    let lowest = changed(&canvas)
        .into_iter()
        .filter(|(x, _)| *x < 35)
        .map(|p| p.1)
        .max();
    assert!(lowest.expect("a label") <= 16, "{lowest:?}");
}

#[test]
fn a_part_is_dashed_and_inside() {
    let mut canvas = Canvas::new(200, 100, GREY).expect("a canvas");
    draw_part(&mut canvas, [0.0, 0.0, 100.0, 100.0], Colour::WHITE);
    let upper = changed(&canvas).into_iter().filter(|p| p.1 == 0).count();
    assert!((30..90).contains(&upper), "{upper}");
}

#[test]
fn a_panel_is_as_high_as_what_it_holds() {
    let lines = vec!["happy 99.9%".to_owned(), "a".repeat(500)];
    let bars: Vec<(String, f32)> = (0..8).map(|i| (format!("class {i}"), 0.1)).collect();
    let panel = |height, legend: &[_]| {
        probability_panel(360, height, &lines, &bars, legend).expect("a panel")
    };
    let (bare, full) = (panel(1, &[]), panel(1, &[("model", Colour::WHITE)]));
    assert!(bare.height() > 8 * 22);
    assert_eq!(full.height(), bare.height() + 22);
    assert_eq!(panel(900, &[]).height(), 900);
}
