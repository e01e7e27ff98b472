use super::super::tubes::{Clips, cut};
use super::{Machine, On, Scale};
use crate::cuda::Element;

/// Clips to tubes. The numbers come from a table, so that nothing but the rounding to
/// the kernel's type is allowed.
pub(super) fn tubes<M: Machine>(on: &mut On<'_, M>) -> Result<(), String> {
    let small = [
        Clips {
            frames: 2,
            height: 3,
            width: 6,
            tubelet: 1,
            patch: 3,
        },
        Clips {
            frames: 6,
            height: 8,
            width: 12,
            tubelet: 2,
            patch: 4,
        },
    ];
    let model = Clips {
        frames: 32,
        height: 224,
        width: 224,
        tubelet: 2,
        patch: 16,
    };
    let model = (on.scale == Scale::Model).then_some(model);
    for clips in small.into_iter().chain(model) {
        let Clips {
            frames,
            height,
            width,
            tubelet,
            patch,
        } = clips;
        let n = frames * height * width * 3;
        let pixels: Vec<u8> = (0..n)
            .map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        let table: Vec<f64> = (0..768)
            .map(|i| f64::from(i % 256) / 64.0 - f64::from(i / 256))
            .collect();
        let frames_at = on.machine.upload(&pixels)?;
        let table = on.operand_of(Element::F32, &table)?;
        let (pixels_at, table_at) = (on.machine.pointer(&frames_at), on.at(&table));
        let what = format!("tubes {frames}×{height}×{width} by {tubelet}×{patch}×{patch}");
        let element = on.element;
        let got = on.results(&what, &[(element, n)], |out| {
            Ok(vec![cut(element, out[0], pixels_at, table_at, clips)?])
        })?;
        let mut want = Vec::with_capacity(n);
        for t in 0..frames / tubelet {
            for y in 0..height / patch {
                for x in 0..width / patch {
                    for channel in 0..3 {
                        for dt in 0..tubelet {
                            for (dy, dx) in (0..patch * patch).map(|i| (i / patch, i % patch)) {
                                let row = (t * tubelet + dt) * height + y * patch + dy;
                                let level = pixels[(row * width + x * patch + dx) * 3 + channel];
                                want.push(table.values[channel * 256 + usize::from(level)]);
                            }
                        }
                    }
                }
            }
        }
        on.compare(&what, &got[0], &want, [0.0, 2e-3, 3e-4]);
    }
    Ok(())
}
