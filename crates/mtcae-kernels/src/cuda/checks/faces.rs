use super::super::{area as resampling, conv as convolution, pool as pooling};
use super::{Machine, On, Scale, normals};
use crate::area::{self, Crop, Picture, Resampler};
use crate::conv::{Conv, Shape};
use crate::cuda::Element;
use crate::isa::Isa;
use crate::pool;

/// Convolutions: the face detector's, and odd ones, against the definition and against
/// the CPU, which they equal to the bit where it fuses multiply-adds.
pub(super) fn conv<M: Machine>(on: &mut On<'_, M>) -> Result<(), String> {
    let shape = |kernel: (usize, usize), inputs, input_stride, outputs| Shape {
        height: kernel.0,
        width: kernel.1,
        inputs,
        input_stride,
        outputs,
    };
    let mut cases = vec![
        (shape((3, 3), 3, 3, 10), [2, 7, 11]),
        (shape((3, 3), 10, 16, 16), [1, 4, 31]),
        (shape((3, 3), 16, 16, 32), [1, 5, 6]),
        (shape((3, 3), 28, 32, 48), [3, 4, 5]),
        (shape((2, 2), 48, 48, 64), [5, 4, 4]),
        (shape((1, 1), 576, 576, 128), [7, 1, 1]),
        (shape((1, 1), 128, 128, 6), [65, 1, 1]),
        (shape((5, 2), 7, 9, 33), [1, 6, 17]),
        (shape((1, 3), 1, 1, 1), [1, 1, 3]),
    ];
    if on.scale == Scale::Model {
        cases.extend([
            (shape((3, 3), 3, 3, 10), [2, 648, 1152]),
            (shape((3, 3), 16, 16, 32), [2, 321, 573]),
            (shape((3, 3), 64, 64, 64), [512, 10, 10]),
            (shape((1, 1), 1152, 1152, 256), [512, 1, 1]),
        ]);
    }
    for (seed, (shape, [images, height, width])) in cases.into_iter().enumerate() {
        let seed = seed as u64 * 10;
        let floats = |n, seed| -> Vec<f32> { normals(n, seed).iter().map(|&v| v as f32).collect() };
        let (weight, bias) = (
            floats(shape.outputs * shape.taps(), seed),
            floats(shape.outputs, seed + 1),
        );
        let slope = floats(shape.outputs, seed + 2);
        let cpu = Conv::new(shape, &weight, &bias, Some(&slope));
        let plane = height * width * shape.input_stride;
        let input = floats(images * plane, seed + 3);
        let widen = |v: &[f32]| -> Vec<f64> { v.iter().map(|&v| v.into()).collect() };
        let (x, parameters) = (
            on.operand_of(Element::F32, &widen(&input))?,
            on.operand_of(Element::F32, &widen(&cpu.columns()))?,
        );
        let (x_at, parameters_at) = (on.at(&x), on.at(&parameters));

        let (to_height, to_width) = (height - shape.height + 1, width - shape.width + 1);
        let stride = shape.output_stride();
        let to_plane = to_height * to_width * stride;
        let what = format!("conv {shape:?} {images}×{height}×{width}");
        let got = on.results(&what, &[(Element::F32, images * to_plane)], |out| {
            Ok(vec![convolution::prelu(
                out[0],
                x_at,
                parameters_at,
                [images, height, width],
                shape,
            )?])
        })?;

        let mut twin = vec![f32::NAN; images * to_plane];
        for (input, out) in input.chunks(plane).zip(twin.chunks_mut(to_plane)) {
            cpu.plane(input, width, out);
        }
        let bound = if Isa::best().is_fused() { 0.0 } else { 2e-6 };
        on.compare(&format!("{what}: CPU"), &got[0], &widen(&twin), [bound; 3]);
        if on.scale == Scale::Small {
            let (weight, bias, slope) = (widen(&weight), widen(&bias), widen(&slope));
            let mut want = Vec::new();
            for input in input.chunks(plane) {
                let of = crate::conv::reference::plane;
                want.extend(of(
                    shape,
                    &weight,
                    &bias,
                    Some(&slope),
                    &widen(input),
                    width,
                ));
            }
            let got: Vec<f64> = got[0]
                .chunks(stride)
                .flat_map(|pixel| pixel[..shape.outputs].to_vec())
                .collect();
            on.compare(&what, &got, &want, [2e-6; 3]);
        }
    }
    Ok(())
}

/// Max pooling, which gives what it is given: no deviation is allowed.
pub(super) fn max_pool<M: Machine>(on: &mut On<'_, M>) -> Result<(), String> {
    let mut cases = vec![
        (2, 5, 7, 2, 16),
        (1, 6, 4, 3, 32),
        (3, 1, 1, 2, 16),
        (2, 9, 22, 3, 48),
        (1, 2, 5, 3, 16),
    ];
    if on.scale == Scale::Model {
        cases.push((2, 646, 1150, 2, 16));
    }
    for (images, height, width, kernel, channels) in cases {
        let plane = height * width * channels;
        let x = on.operand_of(Element::F32, &normals(images * plane, plane as u64))?;
        let x_at = on.at(&x);
        let mut want = Vec::new();
        for input in x.values.chunks(plane) {
            want.extend(pool::reference::plane(input, width, kernel, channels));
        }
        let what = format!("max_pool {images}×{height}×{width}×{channels} by {kernel}");
        let got = on.results(&what, &[(Element::F32, want.len())], |out| {
            let dims = [images, height, width, channels];
            Ok(vec![pooling::max(out[0], x_at, dims, kernel)?])
        })?;
        on.compare(&what, &got[0], &want, [0.0; 3]);
    }
    Ok(())
}

/// Area resampling of crops, down, up and to the same size, against the definition and,
/// to the bit, against the CPU.
pub(super) fn area<M: Machine>(on: &mut On<'_, M>) -> Result<(), String> {
    let crop = |picture, x, y, width, height| Crop {
        picture,
        x,
        y,
        width,
        height,
    };
    let small = (
        (37, 53),
        vec![
            crop(0, 0, 0, 37, 53),
            crop(1, 5, 3, 24, 24),
            crop(1, 36, 52, 1, 1),
            crop(0, 30, 0, 7, 53),
        ],
    );
    let mut cases = vec![
        (small.clone(), (24, 24)),
        (small.clone(), (13, 2)),
        (small, (1, 1)),
    ];
    if on.scale == Scale::Model {
        let whole = vec![crop(0, 0, 0, 1920, 1080), crop(1, 0, 0, 1920, 1080)];
        cases.push((((1920, 1080), whole), (1153, 649)));
        let faces = (0..300).map(|i| crop(i % 2, 5 * i, 2 * i, 20 + i, 30 + i));
        cases.push((((1920, 1080), faces.collect()), (48, 48)));
    }
    for (((width, height), crops), to) in cases {
        let frame = width * height * 3;
        let bytes: Vec<u8> = (0..2 * frame)
            .map(|i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let words: Vec<u8> = resampling::table(&crops)
            .map_err(|e| e.to_string())?
            .iter()
            .flat_map(|n| n.to_ne_bytes())
            .collect();
        let (pictures, table) = (on.machine.upload(&bytes)?, on.machine.upload(&words)?);
        let (at, table) = (on.machine.pointer(&pictures), on.machine.pointer(&table));
        let what = format!("area {width}×{height} to {}×{}", to.0, to.1);
        let n = crops.len() * to.0 * to.1 * 3;
        let got = on.results(&what, &[(Element::F32, n)], |out| {
            let size = (width, height);
            Ok(vec![resampling::resample(
                out[0],
                at,
                table,
                crops.len(),
                size,
                to,
            )?])
        })?;
        let (mut twin, mut want) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for c in &crops {
            let picture = Picture::new(&bytes[c.picture * frame..][..frame], width, height)
                .crop(c.x..c.x + c.width, c.y..c.y + c.height);
            want.extend(area::reference::resample(picture, to));
            let mut resampler = Resampler::new((c.width, c.height), to, 0..to.0);
            let mut row = vec![f32::NAN; to.0 * 3];
            for y in 0..to.1 {
                resampler.row(picture, y, &mut row);
                twin.extend(row.iter().map(|&v| f64::from(v)));
            }
        }
        on.compare(&format!("{what}: CPU"), &got[0], &twin, [0.0; 3]);
        on.compare(&what, &got[0], &want, [3e-7; 3]);
    }
    Ok(())
}
