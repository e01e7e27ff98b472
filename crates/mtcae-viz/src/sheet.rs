//! Contact sheets and bars of probabilities.

use crate::{Canvas, Colour, Error, TextSize};

const GAP: usize = 4;

/// Puts pictures side by side in rows of `columns`, on a dark ground.
///
/// # Errors
/// [`Error::Size`] when there is no picture.
pub fn contact_sheet(pictures: &[Canvas], columns: usize) -> Result<Canvas, Error> {
    let columns = columns.clamp(1, pictures.len().max(1));
    let cell = |f: fn(&Canvas) -> usize| pictures.iter().map(f).max().unwrap_or(0);
    let (width, height) = (cell(Canvas::width), cell(Canvas::height));
    if width == 0 || height == 0 {
        return Err(Error::Size { width, height });
    }
    let rows = pictures.len().div_ceil(columns);
    let mut sheet = Canvas::new(
        columns * (width + GAP) + GAP,
        rows * (height + GAP) + GAP,
        Colour::new(24, 24, 28),
    )?;
    for (i, picture) in pictures.iter().enumerate() {
        let (row, column) = (i / columns, i % columns);
        sheet.paste(
            picture,
            GAP + column * (width + GAP),
            GAP + row * (height + GAP),
        );
    }
    Ok(sheet)
}

/// A panel of lines of text above one bar a class, for probabilities in [0, 1], and
/// below these what the colours of a `legend` mean. It is as high as all that needs, and
/// at least `height`.
///
/// # Errors
/// [`Error::Size`] when the panel has no pixels.
pub fn probability_panel(
    width: usize,
    height: usize,
    lines: &[String],
    bars: &[(String, f32)],
    legend: &[(&str, Colour)],
) -> Result<Canvas, Error> {
    const LEFT: f32 = 12.0;
    let small = TextSize::Small;
    let title = |i: usize| match i {
        0 => (TextSize::Pixels(24), Colour::WHITE),
        _ => (small, Colour::new(170, 170, 176)),
    };
    let text: usize = (0..lines.len()).map(|i| title(i).0.line() + 5).sum();
    let needed = 10 + text + 12 + 22 * bars.len() + 12 + 22 * legend.len() + 4;
    let mut panel = Canvas::new(width, height.max(needed), Colour::new(24, 24, 28))?;
    let mut y = 10.0;
    for (i, line) in lines.iter().enumerate() {
        let (size, colour) = title(i);
        let line = size.cut(line, width.saturating_sub(20));
        panel.text(LEFT, y, &line, size, colour);
        y += size.line() as f32 + 5.0;
    }
    y += 12.0;
    let name = bars
        .iter()
        .map(|(class, _)| small.width(class))
        .max()
        .unwrap_or(0) as f32;
    let left = LEFT + 12.0 + name;
    let full = (width as f32 - left - 62.0).max(1.0);
    for (i, (class, p)) in bars.iter().enumerate() {
        panel.text(LEFT, y, class, small, Colour::WHITE);
        panel.fill(left, y + 2.0, full, 12.0, Colour::new(52, 52, 58));
        let filled = (full * p.clamp(0.0, 1.0)).max(1.0);
        panel.fill(left, y + 2.0, filled, 12.0, Colour::series(i));
        let percent = format!("{:5.1}%", 100.0 * p);
        panel.text(left + full + 4.0, y, &percent, small, Colour::WHITE);
        y += 22.0;
    }
    y += 12.0;
    for (meaning, colour) in legend {
        panel.outline([LEFT + 1.0, y + 2.0, LEFT + 13.0, y + 14.0], 2.0, *colour);
        panel.text(LEFT + 22.0, y, meaning, small, Colour::WHITE);
        y += 22.0;
    }
    Ok(panel)
}
