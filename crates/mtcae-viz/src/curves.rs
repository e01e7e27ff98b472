//! Numbers over epochs or steps.

use crate::axis::{Axis, drawable};
use crate::{Canvas, Colour, Error, TextSize};

const INK: Colour = Colour::new(34, 34, 34);
const FAINT: Colour = Colour::new(110, 110, 110);
const GRID: Colour = Colour::new(228, 231, 236);
/// The colours of [`Colour::series`] that show on white, the strongest first.
const COLOURS: [usize; 7] = [4, 5, 2, 6, 0, 1, 7];
const TITLE: f32 = 30.0;
const NUMBERS: f32 = 28.0;

/// One line of a plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// (x, y) in the order of x. Where one is not finite (or beyond ±1e150) the
    /// line has a gap, and the legend says how many there are.
    pub points: Vec<(f64, f64)>,
}

/// Curves that share a scale, such as the losses of training and validation.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What the scale measures, written above.
    pub title: String,
    /// The lines.
    pub curves: Vec<Curve>,
}

/// Plots panels one above the other over one common axis, named `x`: losses in
/// one, rates in another, which one scale could not hold.
///
/// # Errors
/// [`Error::Empty`] without panels; [`Error::Size`] when the picture is too small
/// for them, or too large.
pub fn curves(panels: &[Panel], x: &str, width: usize, height: usize) -> Result<Canvas, Error> {
    if panels.is_empty() {
        return Err(Error::Empty { what: "panels" });
    }
    let (large, small) = (TextSize::Large, TextSize::Small);
    let all = || panels.iter().flat_map(|p| &p.curves);
    let notes: Vec<Option<String>> = all().map(note).collect();
    let legend = all()
        .map(|c| c.name.as_str())
        .chain(notes.iter().flatten().map(String::as_str))
        .map(|text| small.width(text) + 54)
        .max()
        .unwrap_or(16) as f32;

    let foot = NUMBERS + large.line() as f32;
    let each = (height as f32 - foot - 8.0) / panels.len() as f32;
    let plot = each - TITLE - 14.0;
    let xs = || all().flat_map(|c| shown(c).map(|p| p.0));
    let whole = xs().all(|v| v.fract() == 0.0);
    let ys: Vec<Axis> = panels
        .iter()
        .map(|panel| {
            let values = panel.curves.iter().flat_map(|c| shown(c).map(|p| p.1));
            Axis::new(values, (plot / 36.0).clamp(2.0, 8.0) as usize, false)
        })
        .collect();
    let left = 20.0
        + ys.iter()
            .flat_map(|y| y.ticks())
            .map(|(_, text)| small.width(&text))
            .max()
            .unwrap_or(0) as f32;
    let span = width as f32 - left - legend - 16.0;
    if span < 60.0 || plot < 40.0 {
        return Err(Error::Size { width, height });
    }
    let x_axis = Axis::new(xs(), (span / 70.0).clamp(1.0, 12.0) as usize, whole);

    let mut canvas = Canvas::new(width, height, Colour::WHITE)?;
    let mut notes = notes.iter();
    for (i, (panel, y_axis)) in panels.iter().zip(&ys).enumerate() {
        let top = 8.0 + each * i as f32 + TITLE;
        let place = |(x, y): (f64, f64)| {
            [
                left + span * x_axis.at(x),
                top + plot * (1.0 - y_axis.at(y)),
            ]
        };
        canvas.text(left, top - TITLE + 2.0, &panel.title, large, INK);
        for (v, text) in y_axis.ticks() {
            let at = sharp(top + plot * (1.0 - y_axis.at(v)));
            canvas.polyline(&[[left, at], [left + span, at]], 1.0, GRID);
            let wide = small.width(&text) as f32;
            canvas.text(left - 8.0 - wide, at - 8.5, &text, small, FAINT);
        }
        for (v, text) in x_axis.ticks() {
            let at = sharp(left + span * x_axis.at(v));
            canvas.polyline(&[[at, top], [at, top + plot]], 1.0, GRID);
            if i + 1 == panels.len() {
                let at = at - small.width(&text) as f32 / 2.0;
                canvas.text(at, top + plot + 8.0, &text, small, FAINT);
            }
        }
        let (corner, end) = (sharp(left), sharp(top + plot));
        canvas.polyline(
            &[[corner, top], [corner, end], [left + span, end]],
            1.0,
            FAINT,
        );

        let mut at = top;
        for (k, curve) in panel.curves.iter().enumerate() {
            let colour = Colour::series(COLOURS[k % COLOURS.len()]);
            draw(&mut canvas, curve, colour, place);
            let x = left + span + 20.0;
            canvas.polyline(&[[x, at + 8.0], [x + 18.0, at + 8.0]], 2.5, colour);
            canvas.text(x + 26.0, at, &curve.name, small, INK);
            at += 20.0;
            if let Some(Some(note)) = notes.next() {
                canvas.text(x + 26.0, at - 2.0, note, small, FAINT);
                at += 20.0;
            }
        }
    }
    let at = left + (span - large.width(x) as f32) / 2.0;
    canvas.text(
        at,
        height as f32 - 12.0 - large.line() as f32,
        x,
        large,
        INK,
    );
    Ok(canvas)
}

/// A line, with a gap where a point is not finite, and its points where they are
/// few enough to be told apart or stand alone.
fn draw(
    canvas: &mut Canvas,
    curve: &Curve,
    colour: Colour,
    place: impl Fn((f64, f64)) -> [f32; 2],
) {
    for run in curve.points.split(|p| !is_shown(*p)) {
        let run: Vec<[f32; 2]> = run.iter().map(|p| place(*p)).collect();
        canvas.polyline(&run, 2.0, colour);
        if curve.points.len() <= 40 || run.len() == 1 {
            for point in &run {
                canvas.dot(*point, 3.0, colour);
            }
        }
    }
}

fn is_shown((x, y): (f64, f64)) -> bool {
    drawable(x) && drawable(y)
}

fn shown(curve: &Curve) -> impl Iterator<Item = (f64, f64)> {
    curve.points.iter().copied().filter(|p| is_shown(*p))
}

/// What the legend says of points that cannot be drawn.
fn note(curve: &Curve) -> Option<String> {
    let left_out = curve.points.len() - shown(curve).count();
    (left_out > 0).then(|| format!("{left_out} not finite"))
}

/// The middle of a pixel, where a line one pixel wide is not blurred over two.
fn sharp(at: f32) -> f32 {
    at.floor() + 0.5
}
