use rayon::prelude::*;

use super::super::Pointer;
use super::super::attention::{Gradient, Operands, Saved, backward, forward};
use super::{Machine, On, Scale, normals};
use crate::attention::{Dims, reference};
use crate::cuda::Element;

/// What f32 may be off by, as a share of the largest result. The emulator measures up to
/// 7e-7 in the forward and 1e-6 in the backward; hardware may be two to three times as far
/// off without a bug:
///
/// - A tensor core aligns the products of a sum, with what they are added to, to the
///   largest of them and truncates each before it adds them. It does so four tf32 products
///   at a time and to one bit more than f32 has on an A100, to two bits more on an H100
///   (Fasi et al., 2021, doi 10.7717/peerj-cs.330; Khattak and Mikaitis, 2025, arXiv
///   2512.07004). The emulator adds all products of an instruction exactly and truncates
///   the sum. A truncation for each product, as on an A100, gave 0.5 to 2 times its errors.
/// - A probability is 2⁻²² off at most, as `ex2` is, and so is their sum: out by no more
///   than 2·2⁻²² = 5e-7 times Σ p·|v| / Σ p, which with values of both signs is two or
///   three of the largest results. The emulator's `ex2` is as far off, but to either side.
///
/// Three times what the emulator measures and 1e-6 of `ex2` are 3.1e-6. The backward also
/// takes log₂ sums, near 10, that are rounded to f32: 3e-7 of each probability; and it
/// passes three products one after the other.
///
/// In 16 bits the probabilities are rounded as well as the result, and nothing else counts.
const FORWARD: [f64; 3] = [4e-6, 8e-3, 1e-3];
/// As [`FORWARD`], of dQ, dK and dV.
const BACKWARD: [f64; 3] = [1e-5, 2e-2, 3e-3];

struct Problem {
    dims: Dims,
    /// Whether q, k and v share rows (self attention), or k and v alone.
    packed: bool,
    /// Whether later keys are longer, so that a row's maximum rises time and again.
    rising: bool,
}

fn problems(element: Element, scale: Scale) -> Vec<Problem> {
    let problem = |batch, heads, queries, keys, head_dim| Problem {
        dims: Dims {
            batch,
            heads,
            queries,
            keys,
            head_dim,
        },
        packed: false,
        rising: false,
    };
    let packed = |batch, heads, tokens, head_dim| Problem {
        packed: true,
        ..problem(batch, heads, tokens, tokens, head_dim)
    };
    let mut problems = vec![
        packed(1, 1, 1, 1),
        // Rows that are no whole number of 16 bytes; more than one block and step.
        packed(2, 3, 70, 7),
        problem(1, 2, 17, 67, 31),
        // The encoder's heads and, of another width, VideoMAE-H's.
        packed(1, 2, 65, 64),
        problem(1, 1, 33, 18, 80),
        problem(1, 1, 20, 40, 128),
        // The decoder's heads.
        problem(1, 3, 19, 35, 176),
        problem(1, 1, 35, 34, 250),
        // Sums so long that the rounding of a tensor core's sum adds up.
        problem(1, 1, 16, 640, 16),
        problem(1, 1, 640, 16, 16),
        Problem {
            rising: true,
            ..problem(1, 1, 16, 100, 16)
        },
    ];
    if element != Element::F32 {
        problems.extend([
            // More than one of the larger blocks, whose last has idle warps, and stages
            // that are used again.
            problem(1, 1, 150, 210, 64),
            problem(1, 1, 70, 100, 176),
        ]);
    }
    if scale == Scale::Model {
        problems.extend([packed(1, 2, 1568, 64), problem(2, 1, 1568, 1568, 176)]);
    }
    problems
}

/// Attention and its backward, on packed projections, with logits of deviation 3.
pub(super) fn attention<M: Machine>(on: &mut On<'_, M>) -> Result<(), String> {
    for problem in problems(on.element, on.scale) {
        let Problem {
            dims,
            packed,
            rising,
        } = problem;
        if !on.has_head(dims.head_dim) {
            continue;
        }
        let Dims {
            batch,
            heads,
            queries,
            keys,
            head_dim,
        } = dims;
        let (element, width) = (on.element, dims.width());
        let (rows_q, rows_k) = (batch * queries, batch * keys);
        // Parts of a row: q, k and v, or k and v with q alone.
        let (parts_q, parts_kv) = if packed { (3, 3) } else { (1, 2) };
        let scale = 1.0 / (head_dim as f64).sqrt() as f32;
        let loud: Vec<f64> = normals(rows_q * width * parts_q, 1)
            .iter()
            .map(|v| 3.0f64.sqrt() * v)
            .collect();
        let q = on.operand(&loud)?;
        let kv = match packed {
            true => on.operand(&loud)?,
            false => {
                let mut rows: Vec<f64> = normals(rows_k * width * 2, 2)
                    .iter()
                    .map(|v| 3.0f64.sqrt() * v)
                    .collect();
                if rising {
                    for (token, row) in rows.chunks_exact_mut(2 * width).enumerate() {
                        let longer = 0.1 + 4.0 * (token % keys) as f64 / keys as f64;
                        row[..width].iter_mut().for_each(|k| *k *= longer);
                    }
                }
                on.operand(&rows)?
            }
        };
        let grad = on.operand(&normals(rows_q * width, 3))?;
        let (size, first_k) = (element.size(), usize::from(packed));
        let part = |at: Pointer, index: usize| at.after(index * width, size);
        let of = Operands {
            element,
            q: on.at(&q),
            q_stride: parts_q * width,
            k: part(on.at(&kv), first_k),
            v: part(on.at(&kv), first_k + 1),
            kv_stride: parts_kv * width,
        };

        let name = match (packed, rising) {
            (true, _) => "self",
            (false, false) => "cross",
            (false, true) => "rising cross",
        };
        let what = format!("{name} attention {batch}×{heads}×{queries}×{keys}×{head_dim}");
        let of_rows = [
            (element, rows_q * width),
            (Element::F32, batch * heads * queries),
        ];
        let got = on.results(&what, &of_rows, |out| {
            Ok(vec![forward(dims, of, scale, out[0], out[1])?])
        })?;
        let column = |values: &[f64], parts: usize, index: usize| -> Vec<f64> {
            values
                .chunks_exact(parts * width)
                .flat_map(|row| row[index * width..][..width].to_vec())
                .collect()
        };
        let first = usize::from(packed);
        let (q64, k64, v64) = (
            column(&q.values, parts_q, 0),
            column(&kv.values, parts_kv, first),
            column(&kv.values, parts_kv, first + 1),
        );
        let want = forward_definition(dims, &q64, &k64, &v64, scale.into());
        on.compare(&what, &got[0], &want, FORWARD);

        let what = format!("{what}: backward");
        let (out, sums) = (on.operand(&got[0])?, on.operand_of(Element::F32, &got[1])?);
        let (out_at, sums_at, grad_at) = (on.at(&out), on.at(&sums), on.at(&grad));
        let results = [
            (element, q.values.len()),
            (element, if packed { 0 } else { kv.values.len() }),
            (Element::F32, batch * heads * queries),
        ];
        let got = on.results(&what, &results, |to| {
            let saved = Saved {
                out: out_at,
                grad: grad_at,
                log_sums: sums_at,
                delta: to[2],
            };
            let kv = if packed { to[0] } else { to[1] };
            let dq = Gradient {
                at: to[0],
                stride: of.q_stride,
            };
            let dk = Gradient {
                at: part(kv, first_k),
                stride: of.kv_stride,
            };
            let dv = Gradient {
                at: part(kv, first_k + 1),
                ..dk
            };
            Ok(backward(dims, of, scale, saved, dq, dk, dv)?.to_vec())
        })?;
        let want = backward_definition(dims, &q64, &k64, &v64, &grad.values, scale.into());
        let kv = if packed { &got[0] } else { &got[1] };
        let results = [
            ("dQ", column(&got[0], parts_q, 0)),
            ("dK", column(kv, parts_kv, first)),
            ("dV", column(kv, parts_kv, first + 1)),
        ];
        for ((name, got), want) in results.iter().zip(&want) {
            // With one key the softmax is constant, and dQ and dK are 0 but for rounding.
            if keys > 1 || *name == "dV" {
                on.compare(&format!("{what}: {name}"), got, want, BACKWARD);
            }
        }
    }
    Ok(())
}

/// Queries that a thread takes at a time.
const QUERIES: usize = 32;

/// The CPU's definition, on all threads: each problem of the batch in parts of its queries.
fn forward_definition(dims: Dims, q: &[f64], k: &[f64], v: &[f64], scale: f64) -> Vec<f64> {
    let width = dims.width();
    let (rows_q, rows_k) = (dims.queries * width, dims.keys * width);
    (0..dims.batch)
        .flat_map(|b| {
            let (k, v) = (&k[b * rows_k..][..rows_k], &v[b * rows_k..][..rows_k]);
            let parts: Vec<Vec<f64>> = q[b * rows_q..][..rows_q]
                .par_chunks(QUERIES * width)
                .map(|q| {
                    let part = Dims {
                        batch: 1,
                        queries: q.len() / width,
                        ..dims
                    };
                    reference::forward(part, q, k, v, scale)
                })
                .collect();
            parts.concat()
        })
        .collect()
}

/// dQ, dK, dV (B, ·, H·d) in f64.
fn backward_definition(
    dims: Dims,
    q: &[f64],
    k: &[f64],
    v: &[f64],
    grad: &[f64],
    scale: f64,
) -> [Vec<f64>; 3] {
    let Dims {
        batch,
        heads,
        queries,
        keys,
        head_dim,
    } = dims;
    let width = dims.width();
    let [mut dq, mut dk, mut dv] = [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let add = |to: &mut [f64], by: f64, from: &[f64]| {
        to.iter_mut().zip(from).for_each(|(t, f)| *t += by * f);
    };
    for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
        let row = |token: usize, tokens: usize| {
            let at = (b * tokens + token) * width + h * head_dim;
            at..at + head_dim
        };
        // dQ of some queries, and what they add to dK and dV of this head.
        let part = |first: usize| {
            let last = (first + QUERIES).min(queries);
            let [mut dq, mut dk, mut dv] =
                [last - first, keys, keys].map(|rows| vec![0.0; rows * head_dim]);
            for n in first..last {
                let (q, grad) = (&q[row(n, queries)], &grad[row(n, queries)]);
                let logits: Vec<f64> = (0..keys)
                    .map(|m| scale * dot(q, &k[row(m, keys)]))
                    .collect();
                let top = logits.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
                let weights: Vec<f64> = logits.iter().map(|l| (l - top).exp()).collect();
                let total: f64 = weights.iter().sum();
                let p: Vec<f64> = weights.iter().map(|w| w / total).collect();
                let dp: Vec<f64> = (0..keys).map(|m| dot(grad, &v[row(m, keys)])).collect();
                let mean = dot(&p, &dp);
                let dq = &mut dq[(n - first) * head_dim..][..head_dim];
                for m in 0..keys {
                    let ds = p[m] * (dp[m] - mean) * scale;
                    let of_m = m * head_dim..(m + 1) * head_dim;
                    add(dq, ds, &k[row(m, keys)]);
                    add(&mut dk[of_m.clone()], ds, q);
                    add(&mut dv[of_m], p[m], grad);
                }
            }
            (first, [dq, dk, dv])
        };
        let firsts: Vec<usize> = (0..queries).step_by(QUERIES).collect();
        // In their order, so that the definition is the same on any number of threads.
        for (first, parts) in firsts.into_par_iter().map(part).collect::<Vec<_>>() {
            let [of_q, of_k, of_v] = &parts;
            for (i, of_n) in of_q.chunks_exact(head_dim).enumerate() {
                add(&mut dq[row(first + i, queries)], 1.0, of_n);
            }
            for (m, (of_k, of_v)) in of_k
                .chunks_exact(head_dim)
                .zip(of_v.chunks_exact(head_dim))
                .enumerate()
            {
                add(&mut dk[row(m, keys)], 1.0, of_k);
                add(&mut dv[row(m, keys)], 1.0, of_v);
            }
        }
    }
    [dq, dk, dv]
}
