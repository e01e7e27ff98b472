//! Confusion matrices.

use crate::{Canvas, Colour, Error, TextSize};

const INK: Colour = Colour::new(34, 34, 34);
const FAINT: Colour = Colour::new(110, 110, 110);
const LINE: Colour = Colour::new(214, 218, 224);
/// Names are cut to so many characters.
const LONGEST_NAME: usize = 24;

/// A confusion matrix: rows are true classes, columns predicted ones. A cell is
/// coloured by, and says, its share of the row's clips, so that classes of unequal
/// size compare; the diagonal is each class's recall. The picture's size follows
/// from the number of classes and the length of their names.
///
/// # Errors
/// [`Error::Empty`] without classes; [`Error::Length`] when there are not as many
/// rows, and columns in each row, as names; [`Error::Size`] when the picture would
/// be too large.
pub fn confusion_matrix<S: AsRef<str>, R: AsRef<[u64]>>(
    names: &[S],
    counts: &[R],
) -> Result<Canvas, Error> {
    let classes = names.len();
    if classes == 0 {
        return Err(Error::Empty { what: "classes" });
    }
    let same = |what: String, found| {
        let expected = classes;
        (found == expected).then_some(()).ok_or(Error::Length {
            what,
            expected,
            found,
        })
    };
    same("rows of the confusion matrix".to_owned(), counts.len())?;
    for (i, row) in counts.iter().enumerate() {
        same(format!("columns of row {i}"), row.as_ref().len())?;
    }
    let names: Vec<String> = names.iter().map(|n| shortened(n.as_ref())).collect();
    let totals: Vec<f64> = counts
        .iter()
        .map(|row| row.as_ref().iter().map(|n| *n as f64).sum())
        .collect();

    let (large, small) = (TextSize::Large, TextSize::Small);
    let longest = names.iter().map(|n| small.width(n)).max().unwrap_or(0);
    let number = counts
        .iter()
        .flat_map(|row| row.as_ref())
        .map(|n| large.width(&n.to_string()))
        .max()
        .unwrap_or(0);
    // Columns are named across where the names fit, else upwards.
    let cell = (longest.min(92).max(number) + 12).max(72);
    let upwards = longest + 8 > cell;
    let supports: Vec<String> = totals.iter().map(|n| format!("n = {n}")).collect();
    let margin = supports
        .iter()
        .map(|s| small.width(s))
        .max()
        .unwrap_or(0)
        .max(longest);
    let left = 20 + large.line() + 14 + margin + 10;
    let top = 20;
    let side = classes * cell;
    let below = 10 + if upwards { longest } else { small.line() };
    let bar = (16, small.width("100%"));
    let width = left + side + 28 + bar.0 + 8 + bar.1 + 16;
    let height = top + side + below + 12 + large.line() + 16;
    let mut canvas = Canvas::new(width, height, Colour::WHITE)?;
    let (left, top, side, cell) = (left as f32, top as f32, side as f32, cell as f32);

    for (r, row) in counts.iter().enumerate() {
        for (c, count) in row.as_ref().iter().enumerate() {
            let (x, y) = (left + cell * c as f32, top + cell * r as f32);
            let share = (totals[r] > 0.0).then(|| *count as f64 / totals[r]);
            let ground = share.unwrap_or(0.0);
            canvas.fill(x, y, cell, cell, blues(ground));
            // Whichever is easier to read: at 0.7 dark and white text have the same
            // contrast (WCAG 2's ratio), and grey has too little from 0.2 on.
            let (ink, faint) = match ground {
                s if s > 0.7 => (Colour::WHITE, Colour::WHITE),
                s if s > 0.2 => (INK, INK),
                _ => (INK, FAINT),
            };
            let centred = |text: &str, size: TextSize| x + (cell - size.width(text) as f32) / 2.0;
            let text = count.to_string();
            let middle = y + cell / 2.0;
            canvas.text(centred(&text, large), middle - 20.0, &text, large, ink);
            let text = share.map_or("-".to_owned(), |s| format!("{:.1}%", 100.0 * s));
            canvas.text(centred(&text, small), middle + 3.0, &text, small, faint);
        }
    }
    for i in 0..=classes {
        let at = cell * i as f32;
        canvas.polyline(&[[left + at, top], [left + at, top + side]], 1.0, LINE);
        canvas.polyline(&[[left, top + at], [left + side, top + at]], 1.0, LINE);
    }
    for (i, name) in names.iter().enumerate() {
        let middle = cell * (i as f32 + 0.5);
        let (wide, line) = (small.width(name) as f32, small.line() as f32);
        let x = left - 10.0;
        canvas.text(x - wide, top + middle - line, name, small, INK);
        let n = &supports[i];
        canvas.text(x - small.width(n) as f32, top + middle, n, small, FAINT);
        let (x, y) = (left + middle, top + side + 8.0);
        if upwards {
            canvas.text_upwards(x - line / 2.0, y + wide, name, small, INK);
        } else {
            canvas.text(x - wide / 2.0, y, name, small, INK);
        }
    }
    let (predicted, truth) = ("Predicted class", "True class");
    let x = left + (side - large.width(predicted) as f32) / 2.0;
    let y = top + side + below as f32 + 12.0;
    canvas.text(x, y, predicted, large, INK);
    let y = top + (side + large.width(truth) as f32) / 2.0;
    canvas.text_upwards(16.0, y, truth, large, INK);
    scale(&mut canvas, left + side + 28.0, top, bar.0 as f32, side);
    Ok(canvas)
}

/// The bar that says which colour is which share of a row.
fn scale(canvas: &mut Canvas, x: f32, y: f32, width: f32, height: f32) {
    let rows = height as usize;
    for i in 0..rows {
        let share = 1.0 - i as f64 / (rows.max(2) - 1) as f64;
        canvas.fill(x, y + i as f32, width, 1.0, blues(share));
    }
    canvas.outline([x, y, x + width, y + height], 1.0, LINE);
    for quarter in [0u8, 25, 50, 75, 100] {
        let at = y + height * (1.0 - f32::from(quarter) / 100.0);
        canvas.polyline(&[[x + width, at], [x + width + 4.0, at]], 1.0, FAINT);
        let text = format!("{quarter}%");
        canvas.text(x + width + 8.0, at - 8.5, &text, TextSize::Small, FAINT);
    }
}

/// White to dark blue, evenly in lightness (after ColorBrewer's "Blues").
fn blues(share: f64) -> Colour {
    const STOPS: [[f64; 3]; 6] = [
        [255.0, 255.0, 255.0],
        [219.0, 233.0, 246.0],
        [163.0, 204.0, 227.0],
        [91.0, 163.0, 208.0],
        [33.0, 113.0, 181.0],
        [8.0, 55.0, 115.0],
    ];
    let at = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let i = (at as usize).min(STOPS.len() - 2);
    let channel =
        |c: usize| (STOPS[i][c] + (at - i as f64) * (STOPS[i + 1][c] - STOPS[i][c])) as u8;
    Colour::new(channel(0), channel(1), channel(2))
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    let kept: String = name.chars().take(LONGEST_NAME - 3).collect();
    kept + "..."
}
