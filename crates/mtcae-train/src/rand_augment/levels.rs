//! Operations on the levels of a frame of packed RGB, as Pillow computes them.

/// How often each level occurs in each of the three channels.
fn histograms(frame: &[u8]) -> [[u32; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for pixel in frame.as_chunks::<3>().0 {
        for (counts, &level) in counts.iter_mut().zip(pixel) {
            counts[usize::from(level)] += 1;
        }
    }
    counts
}

/// Puts each level's entry of its channel's table in its place.
fn by_tables(frame: &mut [u8], tables: &[[u8; 256]; 3]) {
    for pixel in frame.as_chunks_mut::<3>().0 {
        for (level, table) in pixel.iter_mut().zip(tables) {
            *level = table[usize::from(*level)];
        }
    }
}

/// The same of all levels.
pub fn mapped(frame: &mut [u8], of: impl Fn(u8) -> u8) {
    let table = std::array::from_fn(|level| of(level as u8));
    by_tables(frame, &[table; 3]);
}

/// Stretches each channel until it has black and white.
pub fn auto_contrast(frame: &mut [u8]) {
    let tables = histograms(frame).map(|counts| {
        let low = counts.iter().position(|n| *n > 0).unwrap_or(0);
        let high = counts.iter().rposition(|n| *n > 0).unwrap_or(0);
        let scale = 255.0 / (high as f64 - low as f64);
        let offset = -(low as f64) * scale;
        std::array::from_fn(|level| match high <= low {
            true => level as u8,
            // The cast cuts off what is below 0 and above 255.
            false => (level as f64 * scale + offset) as u8,
        })
    });
    by_tables(frame, &tables);
}

/// Makes all levels of each channel about as frequent.
pub fn equalize(frame: &mut [u8]) {
    let tables = histograms(frame).map(|counts| {
        let all: u32 = counts.iter().sum();
        let last = counts.iter().rfind(|n| **n > 0).copied().unwrap_or(0);
        let step = (all - last) / 255;
        let mut n = step / 2;
        std::array::from_fn(|level| {
            if step == 0 {
                return level as u8;
            }
            let to = n / step;
            n += counts[level];
            to.min(255) as u8
        })
    });
    by_tables(frame, &tables);
}

/// Rec. 601 luma in 16 bits behind the point.
fn luma(&[r, g, b]: &[u8; 3]) -> u8 {
    let sum = u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471;
    ((sum + 0x8000) >> 16) as u8
}

/// From `other` (factor 0) by way of `level` (factor 1) beyond, cut off to a level. In `f32`,
/// and without rounding at the end, as Pillow.
fn blend(other: u8, level: u8, factor: f32) -> u8 {
    let (other, level) = (i32::from(other), i32::from(level));
    (other as f32 + factor * (level - other) as f32) as u8
}

/// More or less colour.
pub fn color(frame: &mut [u8], factor: f32) {
    for pixel in frame.as_chunks_mut::<3>().0 {
        let grey = luma(pixel);
        *pixel = pixel.map(|level| blend(grey, level, factor));
    }
}

/// More or less contrast, around the mean luma.
pub fn contrast(frame: &mut [u8], factor: f32) {
    let pixels = frame.as_chunks::<3>().0;
    let sum: u64 = pixels.iter().map(|pixel| u64::from(luma(pixel))).sum();
    let mean = (sum as f64 / pixels.len().max(1) as f64 + 0.5) as u8;
    mapped(frame, |level| blend(mean, level, factor));
}

/// More or less light.
pub fn brightness(frame: &mut [u8], factor: f32) {
    mapped(frame, |level| blend(0, level, factor));
}

/// More or less sharp than a frame of which each pixel is the mean of those around it, in which
/// it weighs five times as much. Those at the edge stay.
pub fn sharpness(frame: &mut [u8], [width, height]: [usize; 2], factor: f32) {
    if width < 3 || height < 3 {
        // Pillow smooths no picture that its kernel does not fit into.
        return mapped(frame, |level| blend(level, level, factor));
    }
    let (side, middle) = (1.0f32 / 13.0, 5.0f32 / 13.0);
    let line = 3 * width;
    let source = frame.to_vec();
    for y in 1..height - 1 {
        for at in y * line + 3..(y + 1) * line - 3 {
            let row = |at: usize, middle: f32| {
                let [a, b, c] = [source[at - 3], source[at], source[at + 3]].map(f32::from);
                a * side + b * middle + c * side
            };
            // In Pillow's order, since sums of `f32` depend on it: the row below comes first.
            let sum = 0.5 + row(at + line, side) + row(at, middle) + row(at - line, side);
            frame[at] = blend(sum as u8, source[at], factor);
        }
    }
    let edge = |n: usize| {
        let (x, y) = (n / 3 % width, n / line);
        x == 0 || x == width - 1 || y == 0 || y == height - 1
    };
    for (n, level) in frame.iter_mut().enumerate().filter(|(n, _)| edge(*n)) {
        debug_assert_eq!(*level, source[n]);
        *level = blend(source[n], source[n], factor);
    }
}
