use rayon::prelude::*;

use super::super::attention::{Gradient, Operands, Saved, backward, forward};
use super::{Machine, On, Scale, normals};
use crate::attention::{Dims, reference};
use crate::cuda::Element;

/// Problems, and whether q, k and v share rows (self attention) or k and v alone.
fn problems(scale: Scale) -> Vec<(Dims, bool)> {
    let dims = |batch, heads, queries, keys, head_dim| Dims {
        batch,
        heads,
        queries,
        keys,
        head_dim,
    };
    let mut problems = vec![
        (dims(1, 1, 1, 1, 1), true),
        // Rows that are no whole number of 16 bytes; more than one block and step.
        (dims(2, 3, 70, 70, 7), true),
        (dims(1, 2, 17, 67, 31), false),
        // The encoder's heads and, of another width, VideoMAE-H's.
        (dims(1, 2, 65, 65, 64), true),
        (dims(1, 1, 33, 18, 80), false),
        (dims(1, 1, 20, 40, 128), false),
        // The decoder's heads.
        (dims(1, 3, 19, 35, 176), false),
        (dims(1, 1, 35, 34, 250), false),
        // Sums so long that the rounding of a tensor core's sum adds up.
        (dims(1, 1, 16, 640, 16), false),
        (dims(1, 1, 640, 16, 16), false),
    ];
    if scale == Scale::Model {
        problems.extend([
            (dims(1, 2, 1568, 1568, 64), true),
            (dims(2, 1, 1568, 1568, 176), false),
        ]);
    }
    problems
}

/// Attention and its backward, on packed projections, with logits of deviation 3.
pub(super) fn attention<M: Machine>(on: &mut On<'_, M>) -> Result<(), String> {
    for (dims, packed) in problems(on.scale) {
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
            false => on.operand(
                &normals(rows_k * width * 2, 2)
                    .iter()
                    .map(|v| 3.0f64.sqrt() * v)
                    .collect::<Vec<_>>(),
            )?,
        };
        let grad = on.operand(&normals(rows_q * width, 3))?;
        let (size, first_k) = (element.size() as u64, u64::from(packed));
        let part = |address: u64, index: u64| address + index * width as u64 * size;
        let of = Operands {
            element,
            q: on.at(&q),
            q_stride: parts_q * width,
            k: part(on.at(&kv), first_k),
            v: part(on.at(&kv), first_k + 1),
            kv_stride: parts_kv * width,
        };

        let name = if packed { "self" } else { "cross" };
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
        // In 16 bits the probabilities are rounded as well as the result.
        on.compare(&what, &got[0], &want, [3e-6, 8e-3, 1e-3]);

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
                address: to[0],
                stride: of.q_stride,
            };
            let dk = Gradient {
                address: part(kv, first_k),
                stride: of.kv_stride,
            };
            let dv = Gradient {
                address: part(kv, first_k + 1),
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
                on.compare(&format!("{what}: {name}"), got, want, [1e-5, 2e-2, 3e-3]);
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
