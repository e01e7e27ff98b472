//! y + MLP(LayerNorm(y)) as one operation, which saves nothing but the hidden
//! layer before its GELU.

use std::sync::{Mutex, PoisonError};

use candle_core::{Result, Tensor};
use mtcae_kernels::rows::{add_residual, scaled};
use mtcae_kernels::{gelu, layer_norm};

use super::fused::{Fused, apply};
use super::linear::{bias_gradient, forward, input_gradient, input_gradient_into, weight_gradient};

/// y + s·(gelu(n·W1ᵀ + b1)·W2ᵀ + b2) with n = LayerNorm(y), for y (B, N, w) and
/// one s for each sample in `scales`, or none for 1. `tensors` are γ, β (w), W1
/// (hidden, w), b1, W2 (w, hidden), b2.
pub(crate) fn residual_mlp(
    y: &Tensor,
    tensors: [&Tensor; 6],
    eps: f64,
    scales: Option<Vec<f32>>,
) -> Result<Tensor> {
    let [gamma, beta, w1, b1, w2, b2] = tensors;
    let (hidden, width) = w1.dims2()?;
    let vectors = [gamma, beta, b2].iter().all(|t| t.dims() == [width]);
    if hidden == 0
        || y.dims3()?.2 != width
        || w2.dims() != [width, hidden]
        || b1.dims() != [hidden]
        || !vectors
    {
        candle_core::bail!(
            "residual_mlp: y {:?} does not chain with {:?}",
            y.dims(),
            tensors.map(Tensor::dims)
        );
    }
    let op = ResidualMlp {
        width,
        hidden,
        eps: eps as f32,
        scales,
        saved: Mutex::default(),
    };
    apply(op, &[y, gamma, beta, w1, b1, w2, b2], y.shape())
}

struct ResidualMlp {
    width: usize,
    hidden: usize,
    eps: f32,
    scales: Option<Vec<f32>>,
    /// The hidden layer (B·N, hidden) before its GELU.
    saved: Mutex<Option<Vec<f32>>>,
}

impl Fused for ResidualMlp {
    fn name(&self) -> &'static str {
        "residual-mlp"
    }

    fn forward(&self, inputs: &[&[f32]], save: bool) -> Vec<f32> {
        let hidden = forward(
            &norm(inputs, self.eps),
            inputs[3],
            Some(inputs[4]),
            self.hidden,
        );
        let mut active = vec![0.0; hidden.len()];
        gelu::forward(&hidden, &mut active);
        if save {
            *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(hidden);
        }
        let mut out = forward(&active, inputs[5], Some(inputs[6]), self.width);
        add_residual(inputs[0], self.scales.as_deref(), &mut out);
        out
    }

    fn backward(&self, inputs: &[&[f32]], wanted: &[bool], grad: &[f32]) -> Vec<Option<Vec<f32>>> {
        let saved = self
            .saved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let normed = norm(inputs, self.eps);
        // A second backward over the same graph computes it again.
        let hidden =
            saved.unwrap_or_else(|| forward(&normed, inputs[3], Some(inputs[4]), self.hidden));
        let scaled = self.scales.as_ref().map(|scales| scaled(grad, scales));
        let branch = scaled.as_deref().unwrap_or(grad);
        let mut buffer = vec![0.0; hidden.len()];
        gelu::forward(&hidden, &mut buffer);
        let d_w2 = wanted[5].then(|| weight_gradient(branch, &buffer, self.width));
        let d_b2 = wanted[6].then(|| bias_gradient(branch, self.width));
        input_gradient_into(branch, inputs[5], self.hidden, &mut buffer);
        gelu::backward_in_place(&hidden, &mut buffer);
        drop(hidden);
        let d_w1 = wanted[3].then(|| weight_gradient(&buffer, &normed, self.hidden));
        let d_b1 = wanted[4].then(|| bias_gradient(&buffer, self.hidden));
        let d_normed = input_gradient(&buffer, inputs[3], self.width);
        drop(buffer);
        let (dy, d_gamma, d_beta) = norm_gradient(inputs, &d_normed, grad, self.eps, normed);
        vec![
            Some(dy),
            Some(d_gamma),
            Some(d_beta),
            d_w1,
            d_b1,
            d_w2,
            d_b2,
        ]
    }
}

/// LayerNorm of the first input by the next two, γ and β.
pub(super) fn norm(inputs: &[&[f32]], eps: f32) -> Vec<f32> {
    let mut normed = vec![0.0; inputs[0].len()];
    layer_norm::forward(inputs[0], inputs[1], inputs[2], eps, &mut normed);
    normed
}

/// The gradients of LayerNorm of `inputs` (y, γ, β, …), to whose dy the
/// residual's `grad` is added. `buffer` is memory for dy.
pub(super) fn norm_gradient(
    inputs: &[&[f32]],
    d_normed: &[f32],
    grad: &[f32],
    eps: f32,
    mut buffer: Vec<f32>,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let width = inputs[1].len();
    let (mut d_gamma, mut d_beta) = (vec![0.0; width], vec![0.0; width]);
    layer_norm::backward(
        inputs[0],
        inputs[1],
        d_normed,
        eps,
        &mut buffer,
        &mut d_gamma,
        &mut d_beta,
    );
    add_residual(grad, None, &mut buffer);
    (buffer, d_gamma, d_beta)
}
