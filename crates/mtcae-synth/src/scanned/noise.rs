//! Smooth random fields in space.

use glam::{IVec3, Vec3};

/// A number from 0 to 1 of a cell.
fn hash(cell: IVec3, seed: u32) -> f32 {
    let mut h = (cell.x as u32).wrapping_mul(0x8da6_b343)
        ^ (cell.y as u32).wrapping_mul(0xd816_3841)
        ^ (cell.z as u32).wrapping_mul(0xcb1a_b31f)
        ^ seed.wrapping_mul(0x9e37_79b9);
    h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
    ((h ^ (h >> 15)) >> 8) as f32 / 16_777_216.0
}

/// Noise of one octave, -1 to 1, that changes over a length of 1.
pub(super) fn noise(p: Vec3, seed: u32) -> f32 {
    let cell = p.floor();
    let f = p - cell;
    let f = f * f * (Vec3::splat(3.0) - 2.0 * f);
    let cell = cell.as_ivec3();
    let at = |x, y, z| hash(cell + IVec3::new(x, y, z), seed);
    let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
    let plane = |z| {
        let near = mix(at(0, 0, z), at(1, 0, z), f.x);
        let far = mix(at(0, 1, z), at(1, 1, z), f.x);
        mix(near, far, f.y)
    };
    2.0 * mix(plane(0), plane(1), f.z) - 1.0
}

/// Noise of some octaves, each half as long and `share` as strong as the one before.
pub(super) fn clouds(p: Vec3, octaves: usize, share: f32, seed: u32) -> f32 {
    let (mut sum, mut scale, mut strength) = (0.0, 1.0, 1.0);
    for octave in 0..octaves {
        sum += strength * noise(p * scale, seed.wrapping_add(octave as u32 * 101));
        scale *= 2.03;
        strength *= share;
    }
    sum
}

/// A random direction field that changes over a length of 1.
pub(super) fn field(p: Vec3, seed: u32) -> Vec3 {
    let axis = |i| noise(p, seed.wrapping_add(i));
    Vec3::new(axis(1), axis(2), axis(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_centred_bounded_and_continuous() {
        let at = |i: usize| Vec3::new(i as f32 * 0.37, i as f32 * -0.21, 7.3);
        let values: Vec<f32> = (0..4000).map(|i| noise(at(i), 5)).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.05, "{mean}");
        assert!(values.iter().all(|v| v.abs() <= 1.0));
        for i in 0..100 {
            let step = noise(at(i) + Vec3::X * 1e-3, 5) - noise(at(i), 5);
            assert!(step.abs() < 0.01);
        }
    }
}
