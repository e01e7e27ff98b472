use super::*;
use crate::format::Factors;
use crate::testing::{compare, numeric_gradient, randn, widen};

fn dims(batch: usize, heads: usize, queries: usize, keys: usize, head_dim: usize) -> Dims {
    Dims {
        batch,
        heads,
        queries,
        keys,
        head_dim,
    }
}

/// Odd sizes on both sides of a block, logits of standard deviation 3, and
/// operands inside packed rows (q alone with padding, k and v side by side).
#[test]
fn forward_equals_the_reference() {
    for d in [
        dims(1, 1, 1, 1, 1),
        dims(2, 3, 65, 37, 7),
        dims(1, 2, 130, 131, 16),
        dims(3, 3, 5, 300, 11),
        // Several blocks of keys on tiles, the last of them odd.
        dims(1, 2, 37, 1130, 176),
    ] {
        let (width, scale) = (d.width(), 3.0 / (d.head_dim as f32).sqrt());
        let q = randn(d.batch * d.queries * (width + 3), 1);
        let kv = randn(d.batch * d.keys * 2 * width, 2);
        let gather = |data: &[f32], stride: usize, from: usize| -> Vec<f64> {
            data.chunks(stride)
                .flat_map(|row| widen(&row[from..from + width]))
                .collect()
        };
        let want = reference::forward(
            d,
            &gather(&q, width + 3, 0),
            &gather(&kv, 2 * width, 0),
            &gather(&kv, 2 * width, width),
            scale.into(),
        );
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; d.batch * d.queries * width];
            forward_with(
                isa,
                d,
                Rows::columns(&q, width + 3, 0),
                Rows::columns(&kv, 2 * width, 0),
                Rows::columns(&kv, 2 * width, width),
                scale,
                &mut out,
                None,
            );
            // Rounding of dot products of up to 300 terms in f32.
            compare(&out, &want, 3e-6, &format!("{} {d:?}", isa.name()));
        }
        for format in Format::available() {
            let mut out = vec![f32::NAN; d.batch * d.queries * width];
            forward_in(
                format,
                d,
                Rows::columns(&q, width + 3, 0),
                Rows::columns(&kv, 2 * width, 0),
                Rows::columns(&kv, 2 * width, width),
                scale,
                &mut out,
            );
            // bf16 rounds logits of up to ten at 2⁻⁹ of their terms.
            let tolerance = match format.factors() {
                Factors::F32 => 3e-6,
                Factors::Bf16 => 3e-2,
            };
            let what = format!("{} {d:?}", format.name());
            compare(&out, &want, tolerance, &what);
        }
    }
}

/// Forward and backward of q (B, N, H·d) and kv (B, M, 2·H·d).
#[expect(clippy::too_many_arguments)]
fn gradients(
    isa: Isa,
    d: Dims,
    q: &[f32],
    kv: &[f32],
    grad: &[f32],
    scale: f32,
    dq: &mut [f32],
    dkv: &mut [f32],
) {
    let width = d.width();
    let q = Rows::columns(q, width, 0);
    let [k, v] = [0, width].map(|from| Rows::columns(kv, 2 * width, from));
    let (mut out, mut norms) = (vec![f32::NAN; grad.len()], vec![f32::NAN; d.norms()]);
    forward_with(isa, d, q, k, v, scale, &mut out, Some(&mut norms));
    backward_with(isa, d, q, k, v, &out, &norms, grad, scale, dq, dkv);
}

/// The formulas in f64.
fn gradients_in_f64(
    d: Dims,
    q: &[f64],
    kv: &[f64],
    grad: &[f64],
    scale: f64,
) -> (Vec<f64>, Vec<f64>) {
    let (width, c) = (d.width(), d.head_dim);
    let (mut dq, mut dkv) = (vec![0.0; q.len()], vec![0.0; kv.len()]);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for problem in 0..d.batch * d.heads {
        let (b, h) = (problem / d.heads, problem % d.heads);
        let key = |m: usize| ((b * d.keys + m) * 2) * width + h * c;
        for n in 0..d.queries {
            let at = (b * d.queries + n) * width + h * c;
            let (q, grad) = (&q[at..at + c], &grad[at..at + c]);
            let logits: Vec<f64> = (0..d.keys)
                .map(|m| dot(q, &kv[key(m)..][..c]) * scale)
                .collect();
            let top = logits.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let total: f64 = logits.iter().map(|x| (x - top).exp()).sum();
            let p: Vec<f64> = logits.iter().map(|x| (x - top).exp() / total).collect();
            let dp: Vec<f64> = (0..d.keys)
                .map(|m| dot(grad, &kv[key(m) + width..][..c]))
                .collect();
            let mean = dot(&p, &dp);
            for m in 0..d.keys {
                let ds = p[m] * (dp[m] - mean) * scale;
                for i in 0..c {
                    dq[at + i] += ds * kv[key(m) + i];
                    dkv[key(m) + i] += ds * q[i];
                    dkv[key(m) + width + i] += p[m] * grad[i];
                }
            }
        }
    }
    (dq, dkv)
}

/// Odd sizes around blocks, groups, panels and parts.
#[test]
fn backward_equals_the_formulas() {
    for d in [
        dims(1, 2, 37, 1130, 176),
        dims(1, 1, 300, 470, 64),
        dims(2, 7, 131, 50, 33),
        dims(3, 9, 33, 17, 4),
    ] {
        let (width, scale) = (d.width(), -1.5 / (d.head_dim as f32).sqrt());
        let q = randn(d.batch * d.queries * width, 1);
        let kv = randn(d.batch * d.keys * 2 * width, 2);
        let grad = randn(q.len(), 3);
        let (want_q, want_kv) =
            gradients_in_f64(d, &widen(&q), &widen(&kv), &widen(&grad), scale.into());
        for isa in Isa::available() {
            let (mut dq, mut dkv) = (vec![f32::NAN; q.len()], vec![f32::NAN; kv.len()]);
            gradients(isa, d, &q, &kv, &grad, scale, &mut dq, &mut dkv);
            // Sums of up to 1130 terms, of weights whose logits are rounded.
            compare(&dq, &want_q, 5e-6, &format!("dq {} {d:?}", isa.name()));
            compare(&dkv, &want_kv, 5e-6, &format!("dkv {} {d:?}", isa.name()));
        }
    }
}

#[test]
fn backward_equals_numeric_gradients() {
    for d in [
        dims(1, 1, 1, 1, 1),
        dims(2, 2, 5, 4, 3),
        dims(1, 3, 7, 9, 5),
    ] {
        let (width, scale) = (d.width(), 2.0 / (d.head_dim as f32).sqrt());
        let (q, kv) = (
            randn(d.batch * d.queries * width, 1),
            randn(d.batch * d.keys * 2 * width, 2),
        );
        let grad = randn(q.len(), 3);
        let (q64, kv64, grad64) = (widen(&q), widen(&kv), widen(&grad));
        let loss = |q: &[f64], kv: &[f64]| -> f64 {
            let half = |from: usize| -> Vec<f64> {
                kv.chunks(2 * width)
                    .flat_map(|row| row[from..from + width].to_vec())
                    .collect()
            };
            let out = reference::forward(d, q, &half(0), &half(width), scale.into());
            out.iter().zip(&grad64).map(|(o, g)| o * g).sum()
        };
        let want_q = numeric_gradient(&q64, |q| loss(q, &kv64));
        let want_kv = numeric_gradient(&kv64, |kv| loss(&q64, kv));
        for isa in Isa::available() {
            let (mut dq, mut dkv) = (vec![f32::NAN; q.len()], vec![f32::NAN; kv.len()]);
            gradients(isa, d, &q, &kv, &grad, scale, &mut dq, &mut dkv);
            if d.keys > 1 {
                compare(&dq, &want_q, 1e-5, &format!("dq {} {d:?}", isa.name()));
            }
            compare(&dkv, &want_kv, 1e-5, &format!("dkv {} {d:?}", isa.name()));
        }
    }
}

/// Many blocks and parts give what one query at a time gives.
#[test]
fn backward_over_many_blocks_equals_backward_row_by_row() {
    let d = dims(2, 2, 700, 33, 5);
    let width = d.width();
    let (q, kv, grad) = (
        randn(d.batch * d.queries * width, 1),
        randn(d.batch * d.keys * 2 * width, 2),
        randn(d.batch * d.queries * width, 3),
    );
    let run = |d: Dims, q: &[f32], kv: &[f32], grad: &[f32]| {
        let (mut dq, mut dkv) = (vec![f32::NAN; q.len()], vec![f32::NAN; kv.len()]);
        gradients(Isa::best(), d, q, kv, grad, 0.7, &mut dq, &mut dkv);
        (dq, dkv)
    };
    let (dq, dkv) = run(d, &q, &kv, &grad);
    let (mut want_q, mut want_kv) = (Vec::new(), vec![0.0; dkv.len()]);
    for n in 0..d.batch * d.queries {
        let (row, b) = (n * width..(n + 1) * width, n / d.queries);
        let part = b * d.keys * 2 * width..(b + 1) * d.keys * 2 * width;
        let (dq, dkv) = run(
            dims(1, 2, 1, 33, 5),
            &q[row.clone()],
            &kv[part.clone()],
            &grad[row],
        );
        want_q.extend(widen(&dq));
        want_kv[part]
            .iter_mut()
            .zip(&dkv)
            .for_each(|(a, &b)| *a += f64::from(b));
    }
    compare(&dq, &want_q, 1e-6, "dq");
    compare(&dkv, &want_kv, 1e-5, "dkv");
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let d = dims(1, 2, 300, 70, 8);
    let (q, kv, grad) = (randn(300 * 16, 1), randn(70 * 32, 2), randn(300 * 16, 3));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool");
        pool.install(|| {
            let (mut dq, mut dkv) = (vec![0.0; q.len()], vec![0.0; kv.len()]);
            gradients(Isa::best(), d, &q, &kv, &grad, 0.5, &mut dq, &mut dkv);
            (dq, dkv)
        })
    };
    assert!(run(1) == run(3));
}

/// One key far above the others gets all the weight, whatever the logit is: the
/// second of these, times log₂e, is rounded down.
#[test]
fn large_logits_do_not_overflow() {
    let d = dims(1, 1, 2, 40, 1);
    for format in Format::available() {
        for logit in [1e2, 3792.7458, 1e5, 1e8] {
            let (mut k, mut v) = ([0.0; 40], [0.0; 40]);
            (k[7], v[7]) = (logit, 1.0);
            (k[39], v[39]) = (-logit, 3.0);
            let mut out = [0.0; 2];
            let rows = |data| Rows { data, stride: 1 };
            let q = [1.0, -1.0];
            forward_in(format, d, rows(&q), rows(&k), rows(&v), 1.0, &mut out);
            // bf16 rounds weights and values, not these.
            compare(&out, &[1.0, 3.0], 3e-4, format.name());
        }
    }
}

#[test]
fn a_scale_of_zero_gives_the_mean() {
    let d = dims(1, 1, 3, 40, 2);
    let (q, k) = (randn(6, 1), randn(80, 2));
    let v: Vec<f32> = (0..80).map(|i| (i / 2) as f32).collect();
    let rows = |data| Rows { data, stride: 2 };
    for format in Format::available() {
        for scale in [0.0, -0.0] {
            let mut out = [f32::NAN; 6];
            forward_in(format, d, rows(&q), rows(&k), rows(&v), scale, &mut out);
            // The rounding of bf16; none of these numbers has more digits.
            compare(&out, &[19.5; 6], 4e-3, format.name());
        }
    }
}

/// What digits cost at worst: 1567 equal weights far below the largest are all rounded
/// to the same side, by up to 6e-8 of it each.
#[test]
fn a_flat_background_under_a_peak() {
    let d = dims(1, 1, 1, 1568, 1);
    let (mut k, mut v) = (vec![0.0; 1568], vec![1.0; 1568]);
    (k[100], v[100]) = (11.0, 0.0);
    let rest = 1567.0 * (-11f64).exp();
    let want = [rest / (1.0 + rest)];
    let rows = |data| Rows { data, stride: 1 };
    for format in Format::available() {
        let mut out = [0.0];
        forward_in(format, d, rows(&[1.0]), rows(&k), rows(&v), 1.0, &mut out);
        let off = (f64::from(out[0]) - want[0]).abs();
        let bound = match format.name() {
            "amx" => 1568.0 * 2e-7,
            name if name.ends_with("bf16") => 4e-3 * want[0],
            // Sums of 1567 roundings.
            _ => 1e-5,
        };
        assert!(off < bound, "{}: {off:e}", format.name());
    }
}

/// A NaN reaches what is computed from it and nothing else: in a query its own
/// row, in a value its column.
#[test]
fn nan_stays_where_it_belongs() {
    let d = dims(1, 1, 40, 70, 33);
    let width = d.width();
    let (q, kv) = (randn(d.queries * width, 1), randn(2 * d.keys * width, 2));
    for format in Format::available() {
        let run = |q: &[f32], kv: &[f32]| {
            let mut out = vec![0.0; d.queries * width];
            let [q, k, v] = [
                Rows::columns(q, width, 0),
                Rows::columns(kv, 2 * width, 0),
                Rows::columns(kv, 2 * width, width),
            ];
            forward_in(format, d, q, k, v, 0.2, &mut out);
            out
        };
        let mut spoilt = q.clone();
        spoilt[3 * width + 5] = f32::NAN;
        for (i, y) in run(&spoilt, &kv).iter().enumerate() {
            assert_eq!(y.is_nan(), i / width == 3, "{} {i}", format.name());
        }
        let mut spoilt = kv.clone();
        spoilt[2 * width * 50 + width + 7] = f32::NAN;
        for (i, y) in run(&q, &spoilt).iter().enumerate() {
            assert_eq!(y.is_nan(), i % width == 7, "{} {i}", format.name());
        }
    }
}

/// Keys whose logits are −∞, hundreds in a row before any other, get no weight; where
/// there are no others, nothing can be weighed.
#[test]
fn keys_that_are_masked_get_no_weight() {
    let d = dims(1, 1, 20, 900, 4);
    let q: Vec<f32> = randn(80, 1).iter().map(|x| x.abs() + 0.1).collect();
    let (mut k, v) = (randn(3600, 2), randn(3600, 3));
    k[..800 * 4].fill(f32::NEG_INFINITY);
    let rows = |data| Rows { data, stride: 4 };
    let nothing = vec![f32::NEG_INFINITY; 3600];
    let ones = vec![1.0; 3600];
    // Digits have no infinity: a row that holds one is NaN.
    for format in Format::available()
        .into_iter()
        .filter(|f| f.name() != "amx")
    {
        let mut out = vec![0.0; 80];
        forward_in(format, d, rows(&q), rows(&k), rows(&v), 0.5, &mut out);
        let rest = dims(1, 1, 20, 100, 4);
        let (k, v) = (&k[3200..], &v[3200..]);
        let want = reference::forward(rest, &widen(&q), &widen(k), &widen(v), 0.5);
        let tolerance = match format.factors() {
            Factors::F32 => 3e-6,
            Factors::Bf16 => 3e-2,
        };
        compare(&out, &want, tolerance, format.name());
        forward_in(
            format,
            d,
            rows(&q),
            rows(&nothing),
            rows(&ones),
            0.5,
            &mut out,
        );
        assert!(out.iter().all(|x| x.is_nan()), "{}", format.name());
    }
}
