//! Probabilities over time.

use crate::axis::step;
use crate::{Canvas, Colour, Error, TextSize};

/// One class over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// (seconds, probability in [0, 1]) in the order of time.
    pub points: Vec<(f64, f32)>,
}

/// Plots probabilities over seconds below a title and, in smaller letters, what is to
/// be known of the lines; with a grid and a legend.
///
/// # Errors
/// [`Error::Size`] when the picture would be too small to hold a plot.
pub fn timeline(
    (title, note): (&str, &str),
    series: &[Series],
    width: usize,
    height: usize,
) -> Result<Canvas, Error> {
    const LEFT: f32 = 48.0;
    const TOP: f32 = 44.0;
    const BOTTOM: f32 = 28.0;
    let legend = series
        .iter()
        .map(|s| TextSize::Small.width(&s.name))
        .max()
        .unwrap_or(0) as f32
        + 34.0;
    let (w, h) = (width as f32 - LEFT - legend, height as f32 - TOP - BOTTOM);
    if w < 20.0 || h < 20.0 {
        return Err(Error::Size { width, height });
    }
    let mut canvas = Canvas::new(width, height, Colour::new(24, 24, 28))?;
    let (large, small) = (TextSize::Large, TextSize::Small);
    let room = width.saturating_sub(LEFT as usize + 16 + small.width(note));
    let title = large.cut(title, room);
    canvas.text(LEFT, 10.0, &title, large, Colour::WHITE);
    let at = LEFT + large.width(&title) as f32 + 16.0;
    canvas.text(at, 13.0, note, small, Colour::GREY);
    let times = || series.iter().flat_map(|s| s.points.iter().map(|p| p.0));
    let from = times().fold(f64::INFINITY, f64::min).min(0.0);
    let to = times().fold(from, f64::max).max(from + 1e-3);
    let x = |t: f64| LEFT + w * ((t - from) / (to - from)) as f32;
    let y = |p: f32| TOP + h * (1.0 - p.clamp(0.0, 1.0));

    let grid = Colour::new(60, 60, 66);
    for tenths in [0, 25, 50, 75, 100] {
        let at = y(tenths as f32 / 100.0);
        canvas.polyline(&[[LEFT, at], [LEFT + w, at]], 1.0, grid);
        canvas.text(
            4.0,
            at - 8.0,
            &format!("{tenths:3}%"),
            TextSize::Small,
            Colour::GREY,
        );
    }
    let step = step(to - from, 10);
    let mut t = (from / step).ceil() * step;
    while t <= to {
        canvas.polyline(&[[x(t), TOP], [x(t), TOP + h]], 1.0, grid);
        let label = if step < 1.0 {
            format!("{t:.1}s")
        } else {
            format!("{t:.0}s")
        };
        let left = x(t) - TextSize::Small.width(&label) as f32 / 2.0;
        canvas.text(left, TOP + h + 6.0, &label, TextSize::Small, Colour::GREY);
        t += step;
    }
    for (i, s) in series.iter().enumerate() {
        let colour = Colour::series(i);
        let points: Vec<[f32; 2]> = s.points.iter().map(|&(t, p)| [x(t), y(p)]).collect();
        canvas.polyline(&points, 2.0, colour);
        for point in &points {
            canvas.dot(*point, 2.5, colour);
        }
        let at = TOP + 20.0 * i as f32;
        canvas.fill(LEFT + w + 10.0, at + 2.0, 12.0, 12.0, colour);
        canvas.text(LEFT + w + 28.0, at, &s.name, TextSize::Small, Colour::WHITE);
    }
    Ok(canvas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_drawn_in_its_colour() {
        let series = Series {
            name: "a".to_owned(),
            points: vec![(0.0, 0.5), (10.0, 0.5)],
        };
        let frame = timeline(("a.mp4", "smoothed"), &[series], 300, 140)
            .expect("drawn")
            .to_frame();
        let [r, g, b] = Colour::series(0).rgb;
        let middle: Vec<[u8; 3]> = (0..140)
            .map(|y| [frame[[y, 120, 0]], frame[[y, 120, 1]], frame[[y, 120, 2]]])
            .collect();
        assert!(middle.contains(&[r, g, b]));
        assert!(timeline(("", ""), &[], 30, 30).is_err());
    }
}
