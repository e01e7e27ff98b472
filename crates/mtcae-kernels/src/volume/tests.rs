use super::*;
use crate::testing::{compare, randn, widen};

/// Sums of at most 22,000 products of normal numbers, in f32: their rounding grows with the
/// root of their number, and the largest of them with it.
const TOLERANCE: f64 = 5e-6;

fn shapes() -> Vec<(Shape, usize, [usize; 3])> {
    let shape = |groups, inputs, outputs, kernel, stride, padding| Shape {
        groups,
        inputs,
        outputs,
        kernel,
        stride,
        padding,
    };
    vec![
        // Stems: of volumes, of R3D, of pictures.
        (shape(1, 3, 64, [7; 3], [1, 2, 2], [3; 3]), 1, [4, 13, 18]),
        (
            shape(1, 3, 18, [3, 7, 7], [1, 2, 2], [1, 3, 3]),
            2,
            [3, 9, 31],
        ),
        (
            shape(1, 1, 5, [1, 7, 7], [1, 2, 2], [0, 3, 3]),
            1,
            [2, 10, 11],
        ),
        // Blocks.
        (shape(1, 64, 64, [3; 3], [1; 3], [1; 3]), 1, [2, 7, 7]),
        (shape(1, 20, 33, [3; 3], [2; 3], [1; 3]), 2, [3, 8, 15]),
        (
            shape(1, 32, 96, [1, 3, 3], [1, 2, 2], [0, 1, 1]),
            1,
            [2, 5, 29],
        ),
        (
            shape(1, 5, 7, [2, 3, 1], [1, 3, 2], [1, 0, 0]),
            2,
            [4, 8, 6],
        ),
        (shape(1, 160, 65, [3, 3, 3], [1; 3], [1; 3]), 1, [1, 3, 4]),
        // Groups.
        (shape(32, 128, 128, [3; 3], [1; 3], [1; 3]), 1, [2, 5, 9]),
        (shape(32, 256, 256, [3; 3], [2; 3], [1; 3]), 1, [3, 6, 7]),
        (shape(4, 64, 64, [3; 3], [1; 3], [1; 3]), 2, [1, 7, 14]),
        (shape(2, 64, 64, [3; 3], [2; 3], [1; 3]), 1, [2, 4, 4]),
        (
            shape(5, 15, 35, [3, 1, 3], [1, 1, 2], [1, 0, 1]),
            1,
            [3, 4, 17],
        ),
        (shape(6, 6, 6, [1, 3, 3], [3; 3], [0, 1, 1]), 1, [4, 7, 8]),
        // One pixel.
        (shape(1, 24, 40, [1; 3], [1; 3], [0; 3]), 2, [2, 3, 5]),
        (shape(1, 17, 40, [1; 3], [2; 3], [0; 3]), 2, [3, 5, 8]),
        (shape(3, 6, 9, [1; 3], [2, 1, 2], [0; 3]), 1, [3, 5, 8]),
    ]
}

#[test]
fn convolutions_and_their_gradients_are_their_definition_on_every_instruction_set() {
    for (shape, clips, input) in shapes() {
        let [t, h, w] = shape.output(input).expect("an output");
        let x = randn(clips * input.iter().product::<usize>() * shape.inputs, 1);
        let weight = randn(shape.weights(), 2);
        let grad = randn(clips * t * h * w * shape.outputs, 3);
        let mut want = vec![0.0; grad.len()];
        let (x64, w64, g64) = (widen(&x), widen(&weight), widen(&grad));
        reference::forward(&shape, clips, input, &x64, &w64, &mut want);
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
        reference::input_gradient(&shape, clips, input, &g64, &w64, &mut dx);
        reference::weight_gradient(&shape, clips, input, &x64, &g64, &mut dw);
        for isa in Isa::available() {
            let what = format!("{} {shape:?} of {input:?}", isa.name());
            let mut out = vec![f32::NAN; grad.len()];
            forward(isa, &shape, clips, input, &x, &weight, &mut out);
            compare(&out, &want, TOLERANCE, &what);
            let mut out = vec![f32::NAN; x.len()];
            input_gradient(isa, &shape, clips, input, &grad, &weight, &mut out);
            compare(&out, &dx, TOLERANCE, &format!("dx, {what}"));
            let mut out = vec![f32::NAN; weight.len()];
            weight_gradient(isa, &shape, clips, input, &x, &grad, &mut out);
            compare(&out, &dw, TOLERANCE, &format!("dw, {what}"));
        }
    }
}

#[test]
fn what_is_packed_adds_biases_and_residuals_and_cuts_at_zero() {
    let format = Format::available()[0];
    for (shape, _, input) in shapes() {
        let [t, h, w] = shape.output(input).expect("an output");
        let x = randn(input.iter().product::<usize>() * shape.inputs, 1);
        let (weight, bias) = (randn(shape.weights(), 2), randn(shape.outputs, 4));
        let before = randn(t * h * w * shape.outputs, 5);
        let mut sums = vec![0.0; before.len()];
        reference::forward(&shape, 1, input, &widen(&x), &widen(&weight), &mut sums);
        let packed = Packed::new(format, shape, w, &weight, &bias);
        let mut room = vec![f32::NAN; packed.room(input)];
        for (add, relu) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut out = before.clone();
            packed.run(input, &x, Finish { add, relu }, &mut room, &mut out);
            let with = |(i, sum): (usize, &f64)| {
                let y = sum + f64::from(bias[i % shape.outputs]);
                let y = y + if add { f64::from(before[i]) } else { 0.0 };
                if relu { y.max(0.0) } else { y }
            };
            let want: Vec<f64> = sums.iter().enumerate().map(with).collect();
            compare(&out, &want, TOLERANCE, &format!("{add} {relu} {shape:?}"));
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (shape, clips, input) = (shapes()[4].0, 3, [5, 9, 15]);
    let [t, h, w] = shape.output(input).expect("an output");
    let x = randn(clips * input.iter().product::<usize>() * shape.inputs, 1);
    let (weight, grad) = (
        randn(shape.weights(), 2),
        randn(clips * t * h * w * shape.outputs, 3),
    );
    let all = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool").install(|| {
            let isa = Isa::best();
            let mut out = [
                vec![0.0; grad.len()],
                vec![0.0; x.len()],
                vec![0.0; weight.len()],
            ];
            forward(isa, &shape, clips, input, &x, &weight, &mut out[0]);
            input_gradient(isa, &shape, clips, input, &grad, &weight, &mut out[1]);
            weight_gradient(isa, &shape, clips, input, &x, &grad, &mut out[2]);
            out
        })
    };
    let one = all(1);
    for threads in [2, 3, 8] {
        assert!(all(threads) == one, "{threads} threads");
    }
}

#[test]
fn shapes_that_are_none_are_refused_in_words() {
    let fine = Shape {
        groups: 2,
        inputs: 4,
        outputs: 6,
        kernel: [3; 3],
        stride: [1; 3],
        padding: [1; 3],
    };
    assert_eq!(fine.check(), Ok(()));
    for (shape, part) in [
        (Shape { groups: 0, ..fine }, "none may be 0"),
        (Shape { groups: 4, ..fine }, "no 4 equal groups"),
        (
            Shape {
                stride: [1, 0, 1],
                ..fine
            },
            "no length may be 0",
        ),
        (
            Shape {
                padding: [1, 1, 3],
                ..fine
            },
            "less than the kernel",
        ),
    ] {
        let reason = shape.check().expect_err("a fault");
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(fine.output([1, 1, 1]), Some([1; 3]));
    assert_eq!(
        Shape {
            padding: [0; 3],
            ..fine
        }
        .output([3, 2, 3]),
        None
    );
}
