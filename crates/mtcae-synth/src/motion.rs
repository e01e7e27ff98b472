//! What changes from frame to frame: the head's pose, blinks, the direction of
//! the eyes, and how far an expression has come.

use std::f32::consts::TAU;

use crate::seed::Draw;

/// A value that wanders smoothly about its base.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wander {
    base: f32,
    /// Amplitude, frequency in Hz, phase in turns.
    waves: [[f32; 3]; 3],
}

impl Wander {
    /// Within `base` ± `reach` at all times, `base` within ± `spread`.
    pub fn new(d: &mut Draw, spread: f32, reach: f32) -> Self {
        let base = d.within(-spread, spread);
        let reach = reach * d.within(0.25, 1.0);
        let shares = [0.5, 0.3, 0.2];
        Self {
            base,
            waves: shares.map(|share| [share * reach, d.within(0.08, 0.7), d.unit()]),
        }
    }

    pub fn at(&self, seconds: f32) -> f32 {
        let wave = |[a, f, p]: &[f32; 3]| a * (TAU * (f * seconds + p)).sin();
        self.base + self.waves.iter().map(wave).sum::<f32>()
    }
}

/// The motion of a take.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Motion {
    yaw: Wander,
    pitch: Wander,
    roll: Wander,
    x: Wander,
    y: Wander,
    scale: Wander,
    /// Middles of the blinks in seconds, and how long each takes.
    blinks: Vec<[f32; 2]>,
    /// From these seconds on, the eyes look there.
    gazes: Vec<(f32, [f32; 2])>,
    /// Onset from, to, offset from, to: shares of the clip. And what is left.
    course: [f32; 5],
}

/// One instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moment {
    /// Radians; positive turns to the viewer's right.
    pub yaw: f32,
    /// Radians; positive looks down.
    pub pitch: f32,
    /// Radians; positive is clockwise.
    pub roll: f32,
    /// Shift as a share of the face's size.
    pub shift: [f32; 2],
    /// Size relative to the take's.
    pub scale: f32,
    /// 0 open, 1 shut.
    pub blink: f32,
    /// Direction of the eyes, -1 to 1.
    pub gaze: [f32; 2],
    /// How far the expression has come, 0 to 1.
    pub course: f32,
}

/// 0 up to `from`, 1 from `to` on, smooth between.
pub(crate) fn smooth(x: f32, from: f32, to: f32) -> f32 {
    let t = ((x - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

impl Motion {
    /// Of a take of this many seconds. Yaw stays within ±18°, pitch within ±12°,
    /// roll within ±12°, all times `varied`.
    pub fn new(seed: u64, seconds: f32, varied: f32) -> Self {
        let mut d = Draw::new(seed, "motion");
        let wander = |d: &mut Draw, spread, reach| Wander::new(d, varied * spread, varied * reach);
        let (yaw, pitch, roll) = (
            wander(&mut d, 9f32.to_radians(), 9f32.to_radians()),
            wander(&mut d, 6f32.to_radians(), 6f32.to_radians()),
            wander(&mut d, 6f32.to_radians(), 6f32.to_radians()),
        );
        let x = wander(&mut d, 0.0, 0.05);
        let y = wander(&mut d, 0.0, 0.035);
        let scale = wander(&mut d, 0.0, 0.03);
        let mut lids = Draw::new(seed, "blinks");
        let mut blinks = Vec::new();
        let mut t = lids.within(0.2, 3.0);
        while t < seconds {
            blinks.push([t, lids.within(0.16, 0.28)]);
            t += lids.within(1.5, 4.5);
        }
        let mut eyes = Draw::new(seed, "gaze");
        let mut gazes = Vec::new();
        let mut t = 0.0;
        while t < seconds {
            gazes.push((t, [0.35 * eyes.bell(), 0.2 * eyes.bell()]));
            t += eyes.within(0.4, 2.0);
        }
        let mut d = Draw::new(seed, "course");
        let start = d.within(0.02, 0.07);
        let end = d.within(0.94, 1.0);
        Self {
            yaw,
            pitch,
            roll,
            x,
            y,
            scale,
            blinks,
            gazes,
            course: [
                start,
                start + d.within(0.12, 0.19),
                end - d.within(0.12, 0.19),
                end,
                d.within(0.0, 0.2),
            ],
        }
    }

    /// At a time in seconds, `share` of the clip.
    pub fn at(&self, seconds: f32, share: f32) -> Moment {
        let [on, full, off, end, rest] = self.course;
        let lid = |&[middle, length]: &[f32; 2]| {
            let away = (seconds - middle).abs() / length;
            1.0 - smooth(away, 0.08, 0.5)
        };
        let gaze = self.gazes.iter().rev().find(|g| g.0 <= seconds);
        Moment {
            yaw: self.yaw.at(seconds),
            pitch: self.pitch.at(seconds),
            roll: self.roll.at(seconds),
            shift: [self.x.at(seconds), self.y.at(seconds)],
            scale: 1.0 + self.scale.at(seconds),
            blink: self.blinks.iter().map(lid).fold(0.0, f32::max),
            gaze: gaze.map_or([0.0; 2], |g| g.1),
            course: smooth(share, on, full) * (1.0 - (1.0 - rest) * smooth(share, off, end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_stays_within_its_limits_and_the_apex_fills_the_middle() {
        for seed in 0..200 {
            let motion = Motion::new(seed, 2.0, 1.0);
            let moments: Vec<Moment> = (0..50)
                .map(|i| motion.at(i as f32 / 25.0, i as f32 / 49.0))
                .collect();
            for m in &moments {
                assert!(m.yaw.to_degrees().abs() <= 18.0);
                assert!(m.pitch.to_degrees().abs() <= 12.0);
                assert!(m.roll.to_degrees().abs() <= 12.0);
            }
            let apex = moments.iter().filter(|m| m.course > 0.99).count();
            assert!((24..=38).contains(&apex), "{apex} of 50 frames");
            assert!(moments[0].course < 0.01);
        }
    }
}
