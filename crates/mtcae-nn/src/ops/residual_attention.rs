//! y + proj(attention(LayerNorm(y), x)) as one operation, which saves queries,
//! keys, values and what attention gives.

use std::sync::{Mutex, PoisonError};

use candle_core::{Result, Tensor};
use mtcae_kernels::attention::{Dims, backward, forward as attention};
use mtcae_kernels::rows::{add_residual, column_sums, scaled};

use super::attention::{part, scale};
use super::fused::{Fused, apply};
use super::linear::{bias_gradient, forward, input_gradient, input_gradient_into, weight_gradient};
use super::mlp::{norm, norm_gradient};

/// y + s·proj(softmax(Q·Kᵀ/√d)·V), with Q of LayerNorm(y) and K, V of x, for y
/// (B, N, w), x (B, M, w) and one s for each sample in `scales`, or none for 1.
/// `tensors` are γ, β (w), Wq (H·d, w), bq, Wkv (2·H·d, w), bv (H·d), Wproj
/// (w, H·d), bproj (w).
pub(crate) fn residual_cross_attention(
    y: &Tensor,
    x: &Tensor,
    tensors: [&Tensor; 8],
    heads: usize,
    eps: f64,
    scales: Option<Vec<f32>>,
) -> Result<Tensor> {
    let (batch, queries, width) = y.dims3()?;
    let (x_batch, keys, x_width) = x.dims3()?;
    let inner = tensors[2].dims2()?.0;
    let vectors = [0, 1, 7].iter().all(|&i| tensors[i].dims() == [width])
        && [3, 5].iter().all(|&i| tensors[i].dims() == [inner]);
    if !vectors
        || (x_batch, x_width) != (batch, width)
        || heads == 0
        || inner == 0
        || !inner.is_multiple_of(heads)
        || tensors[2].dims() != [inner, width]
        || tensors[4].dims() != [2 * inner, width]
        || tensors[6].dims() != [width, inner]
    {
        candle_core::bail!(
            "residual_cross_attention: y {:?}, x {:?} and {heads} heads do not chain with {:?}",
            y.dims(),
            x.dims(),
            tensors.map(Tensor::dims)
        );
    }
    let dims = Dims {
        batch,
        heads,
        queries,
        keys,
        head_dim: inner / heads,
    };
    let op = ResidualAttention {
        dims,
        width,
        eps: eps as f32,
        scales,
        saved: Mutex::default(),
    };
    let inputs: Vec<&Tensor> = [y].into_iter().chain(tensors).chain([x]).collect();
    apply(op, &inputs, y.shape())
}

struct ResidualAttention {
    dims: Dims,
    width: usize,
    eps: f32,
    scales: Option<Vec<f32>>,
    saved: Mutex<Option<Projections>>,
}

/// What the backward needs of the forward.
struct Projections {
    /// (B·N, H·d)
    q: Vec<f32>,
    /// (B·M, 2·H·d)
    kv: Vec<f32>,
    /// (B·N, H·d)
    attended: Vec<f32>,
}

impl ResidualAttention {
    fn project(&self, inputs: &[&[f32]], normed: &[f32]) -> Projections {
        let (d, inner) = (self.dims, self.dims.width());
        let q = forward(normed, inputs[3], Some(inputs[4]), inner);
        // The key has no bias.
        let mut bias = vec![0.0; inner];
        bias.extend_from_slice(inputs[6]);
        let kv = forward(inputs[9], inputs[5], Some(&bias), 2 * inner);
        let mut attended = vec![0.0; q.len()];
        attention(
            d,
            part(&q, d, 1, 0),
            part(&kv, d, 2, 0),
            part(&kv, d, 2, 1),
            scale(d),
            &mut attended,
        );
        Projections { q, kv, attended }
    }
}

impl Fused for ResidualAttention {
    fn name(&self) -> &'static str {
        "residual-cross-attention"
    }

    fn forward(&self, inputs: &[&[f32]], save: bool) -> Vec<f32> {
        let projections = self.project(inputs, &norm(inputs, self.eps));
        let mut out = forward(
            &projections.attended,
            inputs[7],
            Some(inputs[8]),
            self.width,
        );
        add_residual(inputs[0], self.scales.as_deref(), &mut out);
        if save {
            *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(projections);
        }
        out
    }

    fn backward(&self, inputs: &[&[f32]], wanted: &[bool], grad: &[f32]) -> Vec<Option<Vec<f32>>> {
        let (d, inner) = (self.dims, self.dims.width());
        let saved = self
            .saved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let normed = norm(inputs, self.eps);
        // A second backward over the same graph computes them again.
        let Projections { q, kv, attended } =
            saved.unwrap_or_else(|| self.project(inputs, &normed));
        let scaled = self.scales.as_ref().map(|scales| scaled(grad, scales));
        let branch = scaled.as_deref().unwrap_or(grad);
        let d_proj = wanted[7].then(|| weight_gradient(branch, &attended, self.width));
        let d_proj_bias = wanted[8].then(|| bias_gradient(branch, self.width));
        let mut d_attended = attended; // its values are not needed any more
        input_gradient_into(branch, inputs[7], inner, &mut d_attended);
        let (mut dq, mut dkv) = (vec![0.0; q.len()], vec![0.0; kv.len()]);
        backward(
            d,
            part(&q, d, 1, 0),
            part(&kv, d, 2, 0),
            part(&kv, d, 2, 1),
            &d_attended,
            scale(d),
            &mut dq,
            &mut dkv,
        );
        drop((q, kv, d_attended));
        let d_kv_weight = wanted[5].then(|| weight_gradient(&dkv, inputs[9], 2 * inner));
        let d_v_bias = wanted[6].then(|| {
            let mut sums = vec![0.0; inner];
            column_sums(&dkv, 2 * inner, inner, &mut sums);
            sums
        });
        let dx = wanted[9].then(|| input_gradient(&dkv, inputs[5], self.width));
        drop(dkv);
        let d_q_weight = wanted[3].then(|| weight_gradient(&dq, &normed, inner));
        let d_q_bias = wanted[4].then(|| bias_gradient(&dq, inner));
        let d_normed = input_gradient(&dq, inputs[3], self.width);
        drop(dq);
        let (dy, d_gamma, d_beta) = norm_gradient(inputs, &d_normed, grad, self.eps, normed);
        vec![
            Some(dy),
            Some(d_gamma),
            Some(d_beta),
            d_q_weight,
            d_q_bias,
            d_kv_weight,
            d_v_bias,
            d_proj,
            d_proj_bias,
            dx,
        ]
    }
}
