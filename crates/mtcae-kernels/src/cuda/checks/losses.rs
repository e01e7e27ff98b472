use super::super::cross_entropy as kernels;
use super::{Machine, On, normals};
use crate::cuda::Element;

/// Cross-entropy and its backward, with logits as large as no sum of exponentials
/// bears and targets that do not sum to 1.
pub(super) fn cross_entropy<M: Machine>(on: &mut On<'_, M>) -> Result<(), String> {
    for (clips, classes) in [(1, 1), (5, 8), (9, 33), (64, 7)] {
        let (element, n) = (on.element, clips * classes);
        let logits = on.operand(&normals(n, 1).iter().map(|v| 50.0 * v).collect::<Vec<_>>())?;
        let targets = on.operand_of(
            Element::F32,
            &normals(n, 2).iter().map(|v| v.abs()).collect::<Vec<_>>(),
        )?;
        let grad = on.operand_of(Element::F32, &normals(clips, 3))?;
        let (logits_at, targets_at, grad_at) = (on.at(&logits), on.at(&targets), on.at(&grad));

        let (mut losses, mut dlogits) = (Vec::new(), Vec::new());
        for ((z, q), g) in logits
            .values
            .chunks(classes)
            .zip(targets.values.chunks(classes))
            .zip(&grad.values)
        {
            let top = z.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let log_sum = z.iter().map(|z| (z - top).exp()).sum::<f64>().ln() + top;
            losses.push(-z.iter().zip(q).map(|(z, q)| q * (z - log_sum)).sum::<f64>());
            let total: f64 = q.iter().sum();
            dlogits.extend(
                z.iter()
                    .zip(q)
                    .map(|(z, q)| g * ((z - log_sum).exp() * total - q)),
            );
        }

        let what = format!("cross_entropy {clips}×{classes}");
        let got = on.results(&what, &[(Element::F32, clips)], |out| {
            Ok(vec![kernels::forward(
                element, out[0], logits_at, targets_at, clips, classes,
            )?])
        })?;
        if classes > 1 {
            on.compare(&what, &got[0], &losses, [2e-6; 3]);
        }
        let what = format!("cross_entropy_backward {clips}×{classes}");
        let got = on.results(&what, &[(element, n)], |out| {
            Ok(vec![kernels::backward(
                element, out[0], logits_at, targets_at, grad_at, clips, classes,
            )?])
        })?;
        if classes > 1 {
            // The exponent's rounding is that of logits of up to 150.
            on.compare(&what, &got[0], &dlogits, [2e-5, 4e-3, 5e-4]);
        }
    }
    Ok(())
}
