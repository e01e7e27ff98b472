use super::*;
use crate::format::Factors;
use crate::testing::{compare, randn, widen};

/// x·Wᵀ + b in f64.
fn reference(x: &[f32], weight: &[f32], bias: &[f32], inputs: usize) -> Vec<f64> {
    x.chunks_exact(inputs)
        .flat_map(|x| {
            weight.chunks_exact(inputs).zip(bias).map(move |(w, &b)| {
                let products = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
                f64::from(b) + products.sum::<f64>()
            })
        })
        .collect()
}

/// GELU in f64 by a series for erf.
fn gelu(x: f64) -> f64 {
    // Beyond 4, erf is 1 within 2e-8, and the series loses its digits.
    let a = (x / std::f64::consts::SQRT_2).abs().min(4.0);
    let (mut term, mut sum, mut n) = (a, a, 0.0);
    while term.abs() > 1e-18 {
        n += 1.0;
        term *= -a * a / n;
        sum += term / (2.0 * n + 1.0);
    }
    let erf = (sum * 2.0 / std::f64::consts::PI.sqrt()).min(1.0);
    0.5 * x * (1.0 + erf.copysign(x))
}

/// The bound on max|Δ|/max|ref|. bf16 rounds both factors at 2⁻⁹ of them, and a
/// sum of random signs keeps that in relation to its own size.
fn tolerance(format: Format) -> f64 {
    match format.factors() {
        Factors::F32 => 2e-6,
        Factors::Bf16 => 6e-3,
    }
}

fn operand<'a>(
    format: Format,
    x: &[f32],
    rows: usize,
    cols: usize,
    room: &'a mut Buffer,
) -> Operand<'a> {
    *room = Buffer::zeroed(format.operand_len(rows, cols));
    // What lies outside of the rows must not matter.
    room.fill(f32::NAN);
    let mut operand = OperandMut::new(format, rows, cols, room);
    operand.pack(MatRef::new(x, rows, cols, cols));
    operand.finish()
}

/// Odd sizes around panels, steps, runs and slices; two layers side by side, one
/// without bias; strided results.
#[test]
fn every_target_equals_the_reference() {
    for (m, k, n0, n1) in [
        (1, 1, 1, 1),
        (33, 31, 5, 30),
        (32, 64, 32, 32),
        (70, 600, 40, 59),
        (450, 97, 130, 3),
        (5, 2051, 16, 17),
    ] {
        let (x, w0, w1) = (randn(m * k, 1), randn(n0 * k, 2), randn(n1 * k, 3));
        let n = n0 + n1;
        let mut bias = randn(n0, 4);
        let parts = [
            Part {
                weight: &w0,
                bias: Some(&bias.clone()),
            },
            Part {
                weight: &w1,
                bias: None,
            },
        ];
        bias.resize(n, 0.0);
        let want = reference(&x, &[w0.clone(), w1.clone()].concat(), &bias, k);
        for format in Format::available() {
            let what = format!("{} {m}×{k}×{n}", format.name());
            let packed = Packed::new(format, k, &parts);
            assert_eq!((packed.inputs(), packed.outputs()), (k, n));
            let mut room = Buffer::default();
            let x = operand(format, &x, m, k, &mut room);
            let stride = n + 3;
            let before = randn(m * stride, 5);
            let mut out = before.clone();
            let gather = |out: &[f32]| -> Vec<f32> {
                out.chunks(stride)
                    .flat_map(|row| row[..n].to_vec())
                    .collect()
            };
            linear(x, &packed, Target::Add(MatMut::new(&mut out, m, n, stride)));
            let added: Vec<f64> = widen(&gather(&before))
                .iter()
                .zip(&want)
                .map(|(a, b)| a + b)
                .collect();
            compare(&gather(&out), &added, tolerance(format), &what);
            linear(
                x,
                &packed,
                Target::Store(MatMut::new(&mut out, m, n, stride)),
            );
            compare(&gather(&out), &want, tolerance(format), &what);
            for (i, (a, b)) in out.iter().zip(&before).enumerate() {
                assert!(i % stride < n || a == b, "{what}: wrote between rows");
            }

            // GELU becomes an operand; an identity makes it visible.
            let mut identity = vec![0.0; n * n];
            identity.iter_mut().step_by(n + 1).for_each(|v| *v = 1.0);
            let eye = Packed::new(
                format,
                n,
                &[Part {
                    weight: &identity,
                    bias: None,
                }],
            );
            let mut hidden = Buffer::zeroed(format.operand_len(m, n));
            linear(
                x,
                &packed,
                Target::Gelu(OperandMut::new(format, m, n, &mut hidden)),
            );
            let hidden = OperandMut::new(format, m, n, &mut hidden).finish();
            let mut out = vec![f32::NAN; m * n];
            linear(hidden, &eye, Target::Store(MatMut::new(&mut out, m, n, n)));
            let want: Vec<f64> = want.iter().map(|&y| gelu(y)).collect();
            compare(&out, &want, tolerance(format), &format!("gelu {what}"));
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (m, k, n) = (530, 1100, 270);
    let (x, w) = (randn(m * k, 1), randn(n * k, 2));
    for format in Format::available() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool");
            pool.install(|| {
                let packed = Packed::new(
                    format,
                    k,
                    &[Part {
                        weight: &w,
                        bias: None,
                    }],
                );
                let mut room = Buffer::default();
                let x = operand(format, &x, m, k, &mut room);
                let mut out = vec![0.0; m * n];
                linear(x, &packed, Target::Store(MatMut::new(&mut out, m, n, n)));
                out
            })
        };
        assert!(run(1) == run(3), "{}", format.name());
    }
}

#[test]
fn special_values() {
    for format in Format::available() {
        let packed = Packed::new(
            format,
            2,
            &[Part {
                weight: &[1.0, 0.0, 0.0, 1.0],
                bias: None,
            }],
        );
        let mut room = Buffer::default();
        let x = operand(format, &[f32::NAN, 0.0, 1e38, -0.0], 2, 2, &mut room);
        let mut out = [9.0; 4];
        linear(x, &packed, Target::Store(MatMut::new(&mut out, 2, 2, 2)));
        assert!(out[0].is_nan() && out[1].is_nan(), "{}", format.name());
        assert!(
            (out[2] / 1e38 - 1.0).abs() < 4e-3 && out[3] == 0.0,
            "{}",
            format.name()
        );
    }
}
