use super::*;
use crate::testing::{compare, randn};

/// Every element in f64.
fn reference(
    m: usize,
    k: usize,
    n: usize,
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            out[i * n + j] = (0..k)
                .map(|t| f64::from(a(i, t)) * f64::from(b(t, j)))
                .sum();
        }
    }
    out
}

/// Odd sizes around tiles, runs and slices, with all four layouts.
#[test]
fn products_equal_the_reference() {
    for (m, k, n) in [
        (1, 1, 1),
        (1, 33, 5),
        (13, 15, 17),
        (14, 256, 32),
        (15, 257, 33),
        (67, 70, 95),
        (5, 2051, 40),
        (300, 31, 3),
    ] {
        let (lda, ldb, ldc) = (m.max(k) + 3, n.max(k) + 1, n + 2);
        let (a, b) = (randn(lda * m.max(k), 1), randn(ldb * n.max(k), 2));
        let bias = randn(n, 3);
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            let lhs = match ta {
                false => MatRef::new(&a, m, k, lda),
                true => MatRef::new(&a, k, m, lda).t(),
            };
            let rhs = match tb {
                false => MatRef::new(&b, k, n, ldb),
                true => MatRef::new(&b, n, k, ldb).t(),
            };
            let exact = reference(
                m,
                k,
                n,
                |i, t| a[if ta { t * lda + i } else { i * lda + t }],
                |t, j| b[if tb { j * ldb + t } else { t * ldb + j }],
            );
            for isa in Isa::available() {
                let what = format!("{} {m}×{k}×{n} {ta} {tb}", isa.name());
                let mut out = randn(m * ldc, 4);
                let before = out.clone();
                let gather = |out: &[f32]| -> Vec<f32> {
                    out.chunks(ldc).flat_map(|row| row[..n].to_vec()).collect()
                };
                product_with(
                    isa,
                    lhs,
                    rhs,
                    0.5,
                    Initial::Bias(&bias),
                    MatMut::new(&mut out, m, n, ldc),
                );
                let want: Vec<f64> = exact
                    .iter()
                    .enumerate()
                    .map(|(i, x)| 0.5 * x + f64::from(bias[i % n]))
                    .collect();
                // Rounding of sums of up to 2051 terms.
                compare(&gather(&out), &want, 2e-6, &what);
                let between = |out: &[f32]| {
                    out.iter()
                        .enumerate()
                        .filter(|(i, _)| i % ldc >= n)
                        .map(|(_, v)| v.to_bits())
                        .collect::<Vec<_>>()
                };
                assert_eq!(
                    between(&out),
                    between(&before),
                    "{what}: wrote between rows"
                );
                product_with(
                    isa,
                    lhs,
                    rhs,
                    -1.0,
                    Initial::Result,
                    MatMut::new(&mut out, m, n, ldc),
                );
                let want: Vec<f64> = want.iter().zip(&exact).map(|(w, x)| w - x).collect();
                compare(&gather(&out), &want, 4e-6, &what);
                product_with(
                    isa,
                    lhs,
                    rhs,
                    1.0,
                    Initial::Zero,
                    MatMut::new(&mut out, m, n, ldc),
                );
                compare(&gather(&out), &exact, 2e-6, &what);
            }
        }
    }
}

/// The error against f64 is that of f32 arithmetic, over many magnitudes: in
/// relation to the sum of magnitudes |a|·|b|, and on AMX, whose digits are those
/// of the largest number of a row or column, to largest |a|·|b| and |a|·largest
/// |b|.
#[test]
fn every_instruction_set_is_as_exact_as_promised() {
    let (m, k, n) = (64, 512, 64);
    let spread = |x: Vec<f32>| -> Vec<f32> {
        x.iter()
            .enumerate()
            .map(|(i, v)| v * (2.0f32).powi((i % 23) as i32 - 11))
            .collect()
    };
    let (a, b) = (spread(randn(m * k, 1)), spread(randn(k * n, 2)));
    let exact = reference(m, k, n, |i, t| a[i * k + t], |t, j| b[t * n + j]);
    let row = |i: usize| (0..k).map(move |t| i * k + t);
    let column = |j: usize| (0..k).map(move |t| t * n + j);
    for isa in Isa::available() {
        let mut out = vec![0.0; m * n];
        product_with(
            isa,
            MatRef::new(&a, m, k, k),
            MatRef::new(&b, k, n, n),
            1.0,
            Initial::Zero,
            MatMut::new(&mut out, m, n, n),
        );
        let mut worst = 0.0f64;
        for (p, (&got, want)) in out.iter().zip(&exact).enumerate() {
            let (i, j) = (p / n, p % n);
            let (a, b) = (
                |t: usize| f64::from(a[t].abs()),
                |t: usize| f64::from(b[t].abs()),
            );
            let magnitude: f64 = match isa.name() {
                "amx" => {
                    let largest = |x: f64, y: f64| x.max(y);
                    let (top, total) =
                        (row(i).map(a).fold(0.0, largest), row(i).map(a).sum::<f64>());
                    top * column(j).map(b).sum::<f64>()
                        + column(j).map(b).fold(0.0, largest) * total
                }
                _ => row(i).zip(column(j)).map(|(s, t)| a(s) * b(t)).sum(),
            };
            worst = worst.max((f64::from(got) - want).abs() / magnitude);
        }
        // 2⁻²⁴ is the rounding of one operation; sums of 512 terms walk at random.
        assert!(worst < 6e-7, "{}: {worst:e}", isa.name());
    }
}

/// What a small left operand makes of a huge right one fits.
#[test]
fn a_result_that_fits_does_not_overflow_on_the_way() {
    let k = 64;
    for (a, b) in [(1e-25f32, 1e33f32), (1e33, 1e-25)] {
        for isa in Isa::available() {
            let mut out = [0.0];
            product_with(
                isa,
                MatRef::new(&vec![a; k], 1, k, k),
                MatRef::new(&vec![b; k], k, 1, 1),
                1.0,
                Initial::Zero,
                MatMut::new(&mut out, 1, 1, 1),
            );
            let want = k as f64 * f64::from(a) * f64::from(b);
            compare(&out, &[want], 1e-6, isa.name());
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (m, k, n) = (530, 130, 70);
    let (a, b) = (randn(m * k, 1), randn(k * n, 2));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool");
        let mut out = vec![0.0; m * n];
        pool.install(|| {
            product(
                MatRef::new(&a, m, k, k),
                MatRef::new(&b, k, n, n),
                1.0,
                Initial::Zero,
                MatMut::new(&mut out, m, n, n),
            );
        });
        out
    };
    assert!(run(1) == run(3));
}

#[test]
fn nothing_to_add_gives_what_it_starts_from() {
    for isa in Isa::available() {
        let mut out = [1.0, 2.0, 3.0, 4.0];
        let (a, b) = (MatRef::new(&[], 2, 0, 0), MatRef::new(&[], 0, 2, 2));
        product_with(
            isa,
            a,
            b,
            1.0,
            Initial::Result,
            MatMut::new(&mut out, 2, 2, 2),
        );
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0]);
        product_with(
            isa,
            a,
            b,
            1.0,
            Initial::Bias(&[5.0, 6.0]),
            MatMut::new(&mut out, 2, 2, 2),
        );
        assert_eq!(out, [5.0, 6.0, 5.0, 6.0]);
    }
}

/// NaN stays NaN, large numbers stay finite, and zeros stay zeros.
#[test]
fn special_values() {
    for isa in Isa::available() {
        let a = [f32::NAN, 0.0, 1e38, 0.0];
        let b = [1.0, 0.0, 0.0, 1.0];
        let mut out = [9.0; 4];
        product_with(
            isa,
            MatRef::new(&a, 2, 2, 2),
            MatRef::new(&b, 2, 2, 2),
            1.0,
            Initial::Zero,
            MatMut::new(&mut out, 2, 2, 2),
        );
        assert!(out[0].is_nan() && out[1].is_nan(), "{}", isa.name());
        assert_eq!(out[2..], [1e38, 0.0], "{}", isa.name());
    }
}

/// Numbers so small that their parts are subnormal, among ordinary ones: a softmax
/// is full of them. Each may count as zero, and none may touch its neighbour.
#[test]
fn tiny_numbers_leave_the_others_alone() {
    let (m, k, n) = (33, 70, 35);
    let tiny = |values: Vec<f32>, seed: u64| -> Vec<f32> {
        let scales = randn(values.len(), seed);
        let scaled = values.iter().zip(&scales);
        scaled
            .map(|(v, s)| match *s > 0.0 {
                true => *v,
                // 1e-28 to 1e-45.
                false => v * 10f32.powi(-36 + (s * 4.0).max(-9.0) as i32),
            })
            .collect()
    };
    for side in [0, 1] {
        let (mut a, mut b) = (randn(m * k, 1), randn(k * n, 2));
        if side == 0 {
            a = tiny(a, 3);
        } else {
            b = tiny(b, 3);
        }
        let exact = reference(m, k, n, |i, t| a[i * k + t], |t, j| b[t * n + j]);
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; m * n];
            let (lhs, rhs) = (MatRef::new(&a, m, k, k), MatRef::new(&b, k, n, n));
            product_with(
                isa,
                lhs,
                rhs,
                1.0,
                Initial::Zero,
                MatMut::new(&mut out, m, n, n),
            );
            compare(&out, &exact, 6e-7, isa.name());
        }
    }
}
