//! What the camera does to the picture: gain, white balance, a slight blur, noise.

use crate::seed::Draw;

/// Length of the noise that frames are cut from; a prime, so that rows and frames
/// do not fall together.
const NOISE: usize = 262_139;

/// The camera of a take.
pub(crate) struct Camera {
    tone: [[f32; 256]; 3],
    /// Weight of a neighbour in the blur.
    blur: f32,
    noise: Vec<i8>,
    /// Where each frame's noise begins.
    offsets: Draw,
    rows: [Vec<f32>; 3],
}

impl Camera {
    pub fn new(seed: u64) -> Self {
        let mut d = Draw::new(seed, "camera");
        let gain = d.within(0.88, 1.10);
        let warm = d.within(-0.05, 0.05);
        let gamma = d.within(0.88, 1.14);
        let balance = [1.0 + warm, 1.0 + 0.3 * d.within(-0.05, 0.05), 1.0 - warm];
        let tone = balance.map(|b| {
            let mut table = [0f32; 256];
            for (i, v) in table.iter_mut().enumerate() {
                *v = 255.0 * (gain * b * i as f32 / 255.0).powf(gamma);
            }
            table
        });
        let blur = d.within(0.0, 0.16);
        let strength = d.within(0.3, 4.0);
        let mut grain = Draw::new(seed, "noise");
        let noise = (0..NOISE)
            .map(|_| (grain.bell() * strength * 4.0).round() as i8)
            .collect();
        Self {
            tone,
            blur,
            noise,
            offsets: Draw::new(seed, "grain"),
            rows: Default::default(),
        }
    }

    /// A frame's RGB bytes from RGBA pixels.
    pub fn expose(&mut self, rgba: &[u8], width: usize, rgb: &mut [u8]) {
        let height = rgba.len() / 4 / width;
        let mut at = (self.offsets.bits() % NOISE as u64) as usize;
        let (side, middle) = (self.blur, 1.0 - 2.0 * self.blur);
        let n = 3 * width;
        for row in &mut self.rows {
            row.resize(n, 0.0);
        }
        let tone = &self.tone;
        // A row, its tones applied and blurred along it.
        let load = |y: usize, out: &mut [f32], raw: &mut [f32]| {
            let source = &rgba[4 * y * width..4 * (y + 1) * width];
            for (to, from) in raw.chunks_exact_mut(3).zip(source.chunks_exact(4)) {
                for c in 0..3 {
                    to[c] = tone[c][usize::from(from[c])];
                }
            }
            out.copy_from_slice(raw);
            let inner = out[3..n - 3].iter_mut().zip(&raw[3..n - 3]);
            for ((out, here), (left, right)) in inner.zip(raw.iter().zip(&raw[6..])) {
                *out = middle * here + side * (left + right);
            }
        };
        let mut raw = vec![0f32; n];
        let [mut above, mut here, mut below] = std::mem::take(&mut self.rows);
        load(0, &mut here, &mut raw);
        above.copy_from_slice(&here);
        for y in 0..height {
            load((y + 1).min(height - 1), &mut below, &mut raw);
            if at + n > NOISE {
                at = (at + n) % NOISE.saturating_sub(n).max(1);
            }
            let grain = &self.noise[at..at + n];
            let out = &mut rgb[y * n..(y + 1) * n];
            let around = above.iter().zip(&below);
            for (((out, grain), here), (above, below)) in
                out.iter_mut().zip(grain).zip(&here).zip(around)
            {
                let value = middle * here + side * (above + below);
                // 0..255 after the cast, which saturates.
                *out = (value + 0.25 * f32::from(*grain) + 0.5) as u8;
            }
            at += n;
            std::mem::swap(&mut above, &mut here);
            std::mem::swap(&mut here, &mut below);
        }
        self.rows = [above, here, below];
    }
}
