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

/// A panel of lines of text above one bar a class, for probabilities in [0, 1].
///
/// # Errors
/// [`Error::Size`] when the panel has no pixels.
pub fn probability_panel(
    width: usize,
    height: usize,
    lines: &[String],
    bars: &[(String, f32)],
) -> Result<Canvas, Error> {
    let mut panel = Canvas::new(width, height, Colour::new(24, 24, 28))?;
    let mut y = 8.0;
    for (i, line) in lines.iter().enumerate() {
        let (size, colour) = match i {
            0 => (TextSize::Large, Colour::WHITE),
            _ => (TextSize::Small, Colour::GREY),
        };
        panel.text(10.0, y, line, size, colour);
        y += size.line() as f32 + 4.0;
    }
    y += 8.0;
    let name = bars
        .iter()
        .map(|(class, _)| TextSize::Small.width(class))
        .max()
        .unwrap_or(0) as f32;
    let left = 20.0 + name;
    let full = (width as f32 - left - 60.0).max(1.0);
    for (i, (class, p)) in bars.iter().enumerate() {
        panel.text(10.0, y, class, TextSize::Small, Colour::WHITE);
        panel.fill(left, y + 2.0, full, 12.0, Colour::new(52, 52, 58));
        panel.fill(
            left,
            y + 2.0,
            (full * p.clamp(0.0, 1.0)).max(1.0),
            12.0,
            Colour::series(i),
        );
        panel.text(
            left + full + 8.0,
            y,
            &format!("{:4.1}%", 100.0 * p),
            TextSize::Small,
            Colour::WHITE,
        );
        y += 22.0;
    }
    Ok(panel)
}
