use rayon::prelude::*;

use super::super::{Pointer, gelu as kernels, layer_norm as norm, rows};
use super::{Machine, On, Scale, normals};
use crate::cuda::Element;
use crate::layer_norm::reference;

/// ε of the model's norms.
const EPS: f32 = 1e-6;

/// Rows that one number scales.
const RUN: usize = 2;

/// Rows and widths: none; on both sides of a warp and of a pack of four; the model's.
fn shapes(scale: Scale) -> Vec<(usize, usize)> {
    let mut shapes = vec![(0, 37), (1, 1), (5, 37), (67, 64), (3, 516)];
    if scale == Scale::Model {
        shapes.extend([(1568, 1024), (3136, 512)]);
    }
    shapes
}

/// LayerNorm, with a residual and without, and its backward. Means are five times the
/// deviation, where E[x²] − μ² would lose digits.
pub(super) fn layer_norm<M: Machine>(on: &mut On<'_, M>) -> Result<(), String> {
    for (rows, width) in shapes(on.scale) {
        let (element, n) = (on.element, rows * width);
        let x = on.operand(&normals(n, 1).iter().map(|v| v + 5.0).collect::<Vec<_>>())?;
        let branch = on.operand(&normals(n, 2))?;
        let gamma = on.operand_of(Element::F32, &normals(width, 3))?;
        let beta = on.operand_of(Element::F32, &normals(width, 4))?;
        let grad = on.operand(&normals(n, 5))?;
        let bias = on.operand_of(Element::F32, &normals(width, 11))?;
        let scales = on.operand_of(Element::F32, &normals(rows.div_ceil(RUN), 12))?;
        let (x_at, branch_at, grad_at) = (on.at(&x), on.at(&branch), on.at(&grad));
        let (gamma_at, beta_at) = (on.at(&gamma), on.at(&beta));
        let (bias_at, scales_at) = (on.at(&bias), on.at(&scales));

        let what = format!("layer_norm {rows}×{width}");
        let got = on.results(&what, &[(element, n)], |out| {
            Ok(vec![norm::forward(
                element, out[0], x_at, gamma_at, beta_at, rows, width, EPS,
            )?])
        })?;
        let want = reference::forward(&x.values, &gamma.values, &beta.values, EPS.into());
        on.compare(&what, &got[0], &want, [2e-6, 4e-3, 5e-4]);

        let what = format!("residual_layer_norm {rows}×{width}");
        for whole in [false, true] {
            let added = norm::Branch {
                x: branch_at,
                bias: whole.then_some(bias_at),
                scales: whole.then_some((scales_at, RUN)),
            };
            let got = on.results(&what, &[(element, n), (element, n)], |out| {
                Ok(vec![norm::residual(
                    element, out[0], out[1], x_at, added, gamma_at, beta_at, rows, width, EPS,
                )?])
            })?;
            let sum: Vec<f64> = (0..n)
                .map(|i| match whole {
                    false => x.values[i] + branch.values[i],
                    true => {
                        let s = scales.values[i / width / RUN];
                        x.values[i] + s * (branch.values[i] + bias.values[i % width])
                    }
                })
                .collect();
            let (sums, normed) = (&got[0], &got[1]);
            on.compare(&format!("{what}: sum"), sums, &sum, [1e-6, 4e-3, 5e-4]);
            // Of the sum as it was written: that is what the kernel normalises.
            let want = reference::forward(sums, &gamma.values, &beta.values, EPS.into());
            on.compare(&what, normed, &want, [2e-6, 4e-3, 5e-4]);
        }

        let what = format!("layer_norm_backward {rows}×{width}");
        let scratch = norm::scratch(rows);
        let sizes = [
            (element, n),
            (Element::F32, scratch.statistics),
            (Element::F32, scratch.slabs * 2 * width),
            (Element::F32, rows::parts(scratch.slabs, 2 * width)),
            (Element::F32, 2 * width),
        ];
        let run = |on: &mut On<'_, M>, around| {
            on.results(&what, &sizes, |out| {
                let [partial, sums] = rows::column_sums(
                    Element::F32,
                    out[4],
                    out[3],
                    out[2],
                    scratch.slabs,
                    2 * width,
                )?;
                Ok(vec![
                    norm::backward_input(
                        element, out[0], out[1], x_at, gamma_at, grad_at, around, rows, width, EPS,
                    )?,
                    norm::backward_parameters(element, out[2], out[1], x_at, grad_at, rows, width)?,
                    partial,
                    sums,
                ])
            })
        };
        let got = run(on, None)?;
        let (dx, parameters) = backward(&x.values, &gamma.values, &grad.values);
        // A row of one element has no deviation: its gradient is 0 but for rounding.
        if width > 1 {
            on.compare(&format!("{what}: dx"), &got[0], &dx, [5e-6, 4e-3, 5e-4]);
        }
        on.compare(&format!("{what}: dγ, dβ"), &got[4], &parameters, [1e-5; 3]);
        let got = run(on, Some(branch_at))?;
        let want: Vec<f64> = dx.iter().zip(&branch.values).map(|(d, b)| d + b).collect();
        let bounds = [5e-6, 4e-3, 5e-4];
        on.compare(
            &format!("{what}: dx and what goes past"),
            &got[0],
            &want,
            bounds,
        );
    }
    Ok(())
}

/// dx, and dγ with dβ behind it.
fn backward(x: &[f64], gamma: &[f64], grad: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let width = gamma.len();
    let n = width as f64;
    let (mut dx, mut parameters) = (Vec::with_capacity(x.len()), vec![0.0; 2 * width]);
    for (x, grad) in x.chunks_exact(width).zip(grad.chunks_exact(width)) {
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let rstd = 1.0 / (variance + f64::from(EPS)).sqrt();
        let hat: Vec<f64> = x.iter().map(|v| (v - mean) * rstd).collect();
        let d: Vec<f64> = grad.iter().zip(gamma).map(|(g, s)| g * s).collect();
        let sum = d.iter().sum::<f64>() / n;
        let along = d.iter().zip(&hat).map(|(d, h)| d * h).sum::<f64>() / n;
        dx.extend(
            d.iter()
                .zip(&hat)
                .map(|(d, h)| rstd * (d - sum - h * along)),
        );
        for i in 0..width {
            parameters[i] += grad[i] * hat[i];
            parameters[width + i] += grad[i];
        }
    }
    (dx, parameters)
}

/// GELU with and without a bias, and its backward.
pub(super) fn gelu<M: Machine>(on: &mut On<'_, M>) -> Result<(), String> {
    for (rows, width) in shapes(on.scale) {
        let (element, n) = (on.element, rows * width);
        let x = on.operand(&normals(n, 6).iter().map(|v| 2.0 * v).collect::<Vec<_>>())?;
        let bias = on.operand_of(Element::F32, &normals(width, 7))?;
        let grad = on.operand(&normals(n, 8))?;
        let (x_at, bias_at, grad_at) = (on.at(&x), on.at(&bias), on.at(&grad));
        for with_bias in [true, false] {
            let at = with_bias.then_some(bias_at);
            let sum = |i: usize| {
                x.values[i]
                    + if with_bias {
                        bias.values[i % width]
                    } else {
                        0.0
                    }
            };
            let name = if with_bias { "bias_gelu" } else { "gelu" };
            let what = format!("{name} {rows}×{width}");
            let got = on.results(&what, &[(element, n)], |out| {
                Ok(vec![kernels::forward(
                    element, out[0], x_at, at, rows, width,
                )?])
            })?;
            let want: Vec<f64> = (0..n)
                .into_par_iter()
                .map(|i| sum(i) * cdf(sum(i)))
                .collect();
            on.compare(&what, &got[0], &want, [1e-6, 4e-3, 5e-4]);
            let what = format!("{name}_backward {rows}×{width}");
            let got = on.results(&what, &[(element, n), (element, n)], |out| {
                Ok(vec![kernels::backward(
                    element,
                    out[0],
                    Some(out[1]),
                    x_at,
                    at,
                    grad_at,
                    rows,
                    width,
                )?])
            })?;
            let active: Vec<f64> = (0..n).map(|i| sum(i) * cdf(sum(i))).collect();
            on.compare(
                &format!("{what}: gelu"),
                &got[1],
                &active,
                [1e-6, 4e-3, 5e-4],
            );
            let density = |v: f64| (-0.5 * v * v).exp() / std::f64::consts::TAU.sqrt();
            let want: Vec<f64> = (0..n)
                .into_par_iter()
                .map(|i| grad.values[i] * (cdf(sum(i)) + sum(i) * density(sum(i))))
                .collect();
            on.compare(&what, &got[0], &want, [1e-6, 4e-3, 5e-4]);
        }
    }
    Ok(())
}

/// Φ(x) in f64: ½ + φ(x)·(x + x³/3 + x⁵/(3·5) + …) (Abramowitz and Stegun 26.2.11), up to
/// the first term that the sum does not feel.
fn cdf(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    loop {
        odd += 2.0;
        term *= x * x / odd;
        let next = sum + term;
        if next == sum {
            return 0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        }
        sum = next;
    }
}

/// Residual sums with a bias, which may have a gap, and scales; the gradient of a bias.
pub(super) fn residual<M: Machine>(on: &mut On<'_, M>) -> Result<(), String> {
    for (rows, width) in shapes(on.scale) {
        let element = on.element;
        let x = on.operand(&normals(rows * width, 9))?;
        let base = on.operand(&normals(rows * width, 13))?;
        let bias = on.operand_of(Element::F32, &normals(width, 10))?;
        let scales = on.operand_of(Element::F32, &normals(rows.div_ceil(RUN), 14))?;
        let (x_at, base_at, bias_at) = (on.at(&x), on.at(&base), on.at(&bias));
        let scales_at = on.at(&scales);

        // In thirds, as the packed biases of q and v.
        let third = width / 3;
        let gap = rows::Bias {
            first: bias_at,
            end: third,
            // Of no columns there is no address.
            last: match third {
                0 => Pointer::NONE,
                _ => bias_at.after(width - third, 4),
            },
            start: width - third,
        };
        let whole = rows::Bias { end: width, ..gap };
        for (name, of, with_base, scaled) in [
            ("bias", whole, false, false),
            ("bias with a gap", gap, false, false),
            ("residual", gap, true, true),
            ("scaled", rows::Bias::none(width), false, true),
        ] {
            let what = format!("{name} {rows}×{width}");
            let got = on.results(&what, &[(element, rows * width)], |out| {
                let base = with_base.then_some(base_at);
                let scales = scaled.then_some((scales_at, RUN));
                Ok(vec![rows::residual(
                    element, out[0], base, x_at, of, scales, rows, width,
                )?])
            })?;
            let want: Vec<f64> = (0..rows * width)
                .map(|i| {
                    let column = i % width;
                    let there = column < of.end || column >= of.start;
                    let b = if there { bias.values[column] } else { 0.0 };
                    let s = if scaled {
                        scales.values[i / width / RUN]
                    } else {
                        1.0
                    };
                    let base = if with_base { base.values[i] } else { 0.0 };
                    base + s * (x.values[i] + b)
                })
                .collect();
            on.compare(&what, &got[0], &want, [2e-7, 4e-3, 5e-4]);
        }

        let what = format!("column_sums {rows}×{width}");
        let sizes = [
            (Element::F32, width),
            (Element::F32, rows::parts(rows, width)),
        ];
        let got = on.results(&what, &sizes, |out| {
            Ok(rows::column_sums(element, out[0], out[1], x_at, rows, width)?.to_vec())
        })?;
        let want: Vec<f64> = (0..width)
            .map(|i| (0..rows).map(|r| x.values[r * width + i]).sum())
            .collect();
        on.compare(&what, &got[0], &want, [2e-6; 3]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::cdf;

    #[test]
    fn the_normal_distribution_is_exact_at_known_points_and_symmetric() {
        // Abramowitz and Stegun, table 26.1.
        for (x, want) in [
            (0.0, 0.5),
            (0.5, 0.691_462_461_274_013),
            (1.0, 0.841_344_746_068_543),
            (2.0, 0.977_249_868_051_821),
            (5.0, 0.999_999_713_348_428),
        ] {
            assert!((cdf(x) - want).abs() < 1e-14, "{x}: {}", cdf(x));
            assert!((cdf(-x) - (1.0 - want)).abs() < 1e-14, "{x}");
        }
        for i in -900..900 {
            let x = f64::from(i) / 100.0;
            assert!((cdf(x) + cdf(-x) - 1.0).abs() < 1e-15, "{x}");
        }
    }
}
