//! The resizer against Pillow's antialiased bilinear.

mod common;

use common::{difference, manifest, number, reference};
use mtcae_core::Rect;
use mtcae_video::FrameResizer;

/// Both use 8-bit fixed-point passes; they may round one level apart.
#[test]
fn equals_pillow() {
    let manifest = manifest();
    let bytes = reference();
    let resize = &manifest["resize"];
    let (w, h) = (number(&resize["source"][0]), number(&resize["source"][1]));
    let at = number(&resize["source_offset"]);
    let source = &bytes[at..at + w * h * 3];
    for target in resize["targets"].as_array().unwrap() {
        let (tw, th) = (number(&target["size"][0]), number(&target["size"][1]));
        let at = number(&target["offset"]);
        let crop = target["crop"].as_array().map(|r| Rect {
            x: r[0].as_f64().unwrap(),
            y: r[1].as_f64().unwrap(),
            width: r[2].as_f64().unwrap(),
            height: r[3].as_f64().unwrap(),
        });
        let mut out = vec![0; tw * th * 3];
        FrameResizer::default()
            .resize(
                source,
                (w as u32, h as u32),
                crop,
                (tw as u32, th as u32),
                &mut out,
            )
            .unwrap();
        let (mean, max) = difference(&out, &bytes[at..at + tw * th * 3]);
        println!("{tw}x{th}: mean {mean:.4}, max {max}");
        assert!(max <= 1 && mean < 0.1, "{tw}x{th}: mean {mean}, max {max}");
    }
}
