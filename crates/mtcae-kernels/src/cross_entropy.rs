//! Cross-entropy of logits with target distributions, and its backward: a handful of
//! numbers a clip, so nothing here is vectorised.

use crate::matrix::size;

/// losses (B): −Σ_c q_c·log softmax(z)_c for logits z and targets q (B, `classes`).
/// Targets need not sum to 1. The logarithm is taken as z − max z − log Σ exp(z − max z),
/// which no size of logits overflows.
///
/// # Panics
/// When the lengths disagree or there are no classes.
pub fn forward(logits: &[f32], targets: &[f32], classes: usize, losses: &mut [f32]) {
    check(logits, targets, classes, losses.len());
    for ((z, q), loss) in rows(logits, targets, classes).zip(losses) {
        let log_sum = log_sum(z);
        let sum: f64 = z
            .iter()
            .zip(q)
            .map(|(&z, &q)| f64::from(q) * (f64::from(z) - log_sum))
            .sum();
        *loss = -sum as f32;
    }
}

/// dz = grad·(softmax(z)·Σq − q), with one `grad` a clip.
///
/// # Panics
/// As [`forward`], and when `dlogits` has another length than the logits.
pub fn backward(
    logits: &[f32],
    targets: &[f32],
    grad: &[f32],
    classes: usize,
    dlogits: &mut [f32],
) {
    check(logits, targets, classes, grad.len());
    assert_eq!(
        dlogits.len(),
        logits.len(),
        "cross_entropy: gradient and logits differ in length"
    );
    let rows = rows(logits, targets, classes).zip(grad);
    for (((z, q), &g), dz) in rows.zip(dlogits.chunks_exact_mut(classes)) {
        let (log_sum, total) = (log_sum(z), q.iter().map(|&q| f64::from(q)).sum::<f64>());
        for ((dz, &z), &q) in dz.iter_mut().zip(z).zip(q) {
            let p = (f64::from(z) - log_sum).exp();
            *dz = (f64::from(g) * (p * total - f64::from(q))) as f32;
        }
    }
}

fn check(logits: &[f32], targets: &[f32], classes: usize, clips: usize) {
    assert!(classes > 0, "cross_entropy: no classes");
    assert!(
        logits.len() == size([clips, classes]) && targets.len() == logits.len(),
        "cross_entropy: {} logits and {} targets of {clips} clips and {classes} classes",
        logits.len(),
        targets.len()
    );
}

fn rows<'a>(
    logits: &'a [f32],
    targets: &'a [f32],
    classes: usize,
) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
    logits
        .chunks_exact(classes)
        .zip(targets.chunks_exact(classes))
}

/// log Σ exp z.
fn log_sum(z: &[f32]) -> f64 {
    let top = z
        .iter()
        .fold(f64::NEG_INFINITY, |a, &b| a.max(f64::from(b)));
    top + z
        .iter()
        .map(|&z| (f64::from(z) - top).exp())
        .sum::<f64>()
        .ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, numeric_gradient, randn, widen};

    #[test]
    fn the_backward_is_the_gradient_of_the_forward() {
        let (clips, classes) = (3, 5);
        let z: Vec<f32> = randn(clips * classes, 1).iter().map(|v| 3.0 * v).collect();
        let q: Vec<f32> = randn(clips * classes, 2).iter().map(|v| v.abs()).collect();
        let g = randn(clips, 3);
        let want = numeric_gradient(&widen(&z), |z| {
            let rows = z.chunks(classes).zip(q.chunks(classes));
            rows.zip(&g)
                .map(|((z, q), &g)| {
                    let sum: f64 = z.iter().map(|z| z.exp()).sum();
                    let log = |z: f64| z - sum.ln();
                    let loss: f64 = z.iter().zip(q).map(|(&z, &q)| f64::from(q) * log(z)).sum();
                    -f64::from(g) * loss
                })
                .sum()
        });
        let mut dz = vec![f32::NAN; z.len()];
        backward(&z, &q, &g, classes, &mut dz);
        compare(&dz, &want, 1e-6, "dz");
    }

    #[test]
    fn no_size_of_logits_overflows() {
        let mut loss = [f32::NAN; 1];
        forward(&[1e4, -1e4], &[1.0, 0.0], 2, &mut loss);
        assert_eq!(loss, [0.0]);
        forward(&[1e4, -1e4], &[0.0, 1.0], 2, &mut loss);
        assert_eq!(loss, [2e4]);
    }
}
