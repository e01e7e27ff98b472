//! A transformer's block as one operation: y + s·attention(norm₁(y)), then
//! y + s·mlp(norm₂(y)), or one of the two. It saves the projections, what attention
//! gives, the sum between the halves and the hidden layer before its GELU; norms and
//! GELU are computed again.

use candle_core::{Result, Tensor};
use mtcae_kernels::attention::Dims;

use super::attention::{dims, in_rows};
use super::backend::{self, Backend, Bias, Biased, Fresh, Heads, Norm, Product};
use super::layer_norm::check;
use super::operation::{Operation, Saved, apply};
use crate::pass::Way;

/// γ, β and ε of a half's norm, and what each sample's branch is multiplied by: one
/// number for each, or nothing for 1.
pub(crate) struct Branch<'a> {
    pub(crate) gamma: &'a Tensor,
    pub(crate) beta: &'a Tensor,
    pub(crate) eps: f64,
    pub(crate) scales: Option<Vec<f32>>,
}

/// Where queries, keys and values come from: weights (outputs, inputs) and biases.
pub(crate) enum Projection<'a> {
    /// All from y: Wqkv (3·H·d, w) with rows q, k, v; the biases (H·d) of q and v.
    Own {
        weight: &'a Tensor,
        q_bias: &'a Tensor,
        v_bias: &'a Tensor,
    },
    /// Queries from y by Wq (H·d, w) with its bias, keys and values from x (B, M, w) by
    /// Wkv (2·H·d, w) with rows k, v; the bias (H·d) of v.
    Of {
        x: &'a Tensor,
        q: &'a Tensor,
        q_bias: &'a Tensor,
        kv: &'a Tensor,
        v_bias: &'a Tensor,
    },
    /// Queries as before, over keys and values (B, M, 2·H·d) that are there.
    Over {
        kv: &'a Tensor,
        q: &'a Tensor,
        q_bias: &'a Tensor,
    },
}

/// The first half.
pub(crate) struct Attention<'a> {
    pub(crate) branch: Branch<'a>,
    pub(crate) heads: usize,
    pub(crate) projection: Projection<'a>,
    /// Wproj (w, H·d) and its bias (w).
    pub(crate) proj: [&'a Tensor; 2],
}

/// The second half: W1 (hidden, w), b1, W2 (w, hidden), b2.
pub(crate) struct Mlp<'a> {
    pub(crate) branch: Branch<'a>,
    pub(crate) layers: [&'a Tensor; 4],
}

/// The halves that there are, one after the other, on y (B, N, w).
pub(crate) fn block(
    y: &Tensor,
    attention: Option<Attention<'_>>,
    mlp: Option<Mlp<'_>>,
    way: &Way,
) -> Result<Tensor> {
    let y = y.contiguous()?;
    let mut op = Block::default();
    let mut x = None;
    let mut parameters = Vec::new();
    if let Some(a) = attention {
        let (half, features) = attention_half(&y, a, &mut parameters)?;
        op.attention = Some(half);
        x = features;
    }
    if let Some(m) = mlp {
        op.mlp = Some(mlp_half(&y, m, &mut parameters)?);
    }
    let parameters: Vec<Tensor> = parameters
        .into_iter()
        .map(Tensor::contiguous)
        .collect::<Result<_>>()?;
    let activations: Vec<&Tensor> = [&y].into_iter().chain(&x).collect();
    let parameters: Vec<&Tensor> = parameters.iter().collect();
    op.first = activations.len();
    apply(op, &activations, &parameters, y.shape(), way)
}

fn attention_half<'a>(
    y: &Tensor,
    a: Attention<'a>,
    parameters: &mut Vec<&'a Tensor>,
) -> Result<(AttentionHalf, Option<Tensor>)> {
    const NAME: &str = "attention";
    let (batch, tokens, width) = y.dims3()?;
    check(NAME, width, a.branch.gamma, a.branch.beta)?;
    parameters.extend([a.branch.gamma, a.branch.beta]);
    let [proj, proj_bias] = a.proj;
    let inner = proj.dims2()?.1;
    let fits = |t: &Tensor, shape: &[usize]| match t.dims() == shape {
        true => Ok(()),
        false => candle_core::bail!(
            "{NAME}: a parameter is {:?} where {shape:?} belongs, for tokens {:?}",
            t.dims(),
            y.dims()
        ),
    };
    fits(proj, &[width, inner])?;
    fits(proj_bias, &[width])?;
    let (source, features, keys) = match a.projection {
        Projection::Own {
            weight,
            q_bias,
            v_bias,
        } => {
            fits(weight, &[3 * inner, width])?;
            fits(q_bias, &[inner])?;
            fits(v_bias, &[inner])?;
            parameters.extend([weight, q_bias, v_bias]);
            (Source::Own, None, tokens)
        }
        Projection::Of {
            x,
            q,
            q_bias,
            kv,
            v_bias,
        } => {
            fits(q, &[inner, width])?;
            fits(q_bias, &[inner])?;
            fits(kv, &[2 * inner, width])?;
            fits(v_bias, &[inner])?;
            let keys = x.dims3()?.1;
            fits(x, &[batch, keys, width])?;
            parameters.extend([q, q_bias, kv, v_bias]);
            (Source::Of, Some(x.contiguous()?), keys)
        }
        Projection::Over { kv, q, q_bias } => {
            fits(q, &[inner, width])?;
            fits(q_bias, &[inner])?;
            let keys = kv.dims3()?.1;
            fits(kv, &[batch, keys, 2 * inner])?;
            parameters.extend([q, q_bias]);
            (Source::Over, Some(in_rows(kv)?), keys)
        }
    };
    parameters.extend(a.proj);
    let dims = dims(NAME, batch, a.heads, tokens, keys, inner, 1)?;
    let half = AttentionHalf {
        dims,
        source,
        eps: a.branch.eps as f32,
        scales: a.branch.scales,
    };
    Ok((half, features))
}

fn mlp_half<'a>(y: &Tensor, m: Mlp<'a>, parameters: &mut Vec<&'a Tensor>) -> Result<MlpHalf> {
    let width = y.dims3()?.2;
    check("mlp", width, m.branch.gamma, m.branch.beta)?;
    let [w1, b1, w2, b2] = m.layers;
    let hidden = w1.dims2()?.0;
    if hidden == 0
        || w1.dims() != [hidden, width]
        || b1.dims() != [hidden]
        || w2.dims() != [width, hidden]
        || b2.dims() != [width]
    {
        candle_core::bail!(
            "mlp: tokens {:?} do not chain with {:?}",
            y.dims(),
            m.layers.map(Tensor::dims)
        );
    }
    parameters.extend([m.branch.gamma, m.branch.beta]);
    parameters.extend(m.layers);
    Ok(MlpHalf {
        eps: m.branch.eps as f32,
        scales: m.branch.scales,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Own,
    Of,
    Over,
}

struct AttentionHalf {
    dims: Dims,
    source: Source,
    eps: f32,
    scales: Option<Vec<f32>>,
}

struct MlpHalf {
    eps: f32,
    scales: Option<Vec<f32>>,
}

#[derive(Default)]
struct Block {
    attention: Option<AttentionHalf>,
    mlp: Option<MlpHalf>,
    /// Activations before the parameters.
    first: usize,
    saved: Saved<Computed>,
}

/// What the backward needs of the forward.
struct Computed {
    /// The inputs, weights in the type of the activations.
    inputs: Vec<Tensor>,
    projections: Option<Projections>,
    /// y after the first half (B, N, w).
    between: Option<Tensor>,
    /// The hidden layer (B, N, hidden) before its GELU.
    hidden: Option<Biased>,
}

struct Projections {
    /// Packed (B, N, 3·H·d), or q alone (B, N, H·d).
    q: Tensor,
    /// (B, M, 2·H·d)
    kv: Option<Tensor>,
    /// (B, N, H·d)
    attended: Tensor,
    log_sums: Option<Tensor>,
}

impl Projections {
    fn heads(&self) -> Heads<'_> {
        match &self.kv {
            Some(kv) => Heads::Apart(&self.q, kv),
            None => Heads::Packed(&self.q),
        }
    }
}

/// Places of a half's parameters among the inputs.
#[derive(Clone, Copy)]
struct Places {
    gamma: usize,
    /// Wqkv or Wq.
    q: usize,
    kv: usize,
    proj: usize,
    end: usize,
}

impl AttentionHalf {
    fn places(&self, first: usize) -> Places {
        let q = first + 2;
        let (kv, proj) = match self.source {
            Source::Own => (q, q + 3),
            Source::Of => (q + 2, q + 4),
            Source::Over => (q, q + 2),
        };
        Places {
            gamma: first,
            q,
            kv,
            proj,
            end: proj + 2,
        }
    }

    fn project(
        &self,
        k: &dyn Backend,
        inputs: &[Tensor],
        at: Places,
        normed: &Tensor,
    ) -> Result<Projections> {
        let q_bias = &inputs[at.q + 1];
        let (q_bias, kv) = match self.source {
            Source::Own => {
                let both = Bias {
                    first: Some(q_bias.clone()),
                    last: Some(inputs[at.q + 2].clone()),
                };
                (both, None)
            }
            Source::Of => {
                let v_bias = Bias {
                    first: None,
                    last: Some(inputs[at.kv + 1].clone()),
                };
                let kv = k.linear(&inputs[1], &inputs[at.kv], Some(v_bias))?;
                (Bias::whole(q_bias), Some(kv.settle(k)?.into_tensor()))
            }
            Source::Over => (Bias::whole(q_bias), Some(inputs[1].clone())),
        };
        let q = k.linear(normed, &inputs[at.q], Some(q_bias))?;
        let q = q.settle(k)?.into_tensor();
        let heads = kv
            .as_ref()
            .map_or(Heads::Packed(&q), |kv| Heads::Apart(&q, kv));
        let attended = k.attention(self.dims, heads)?;
        Ok(Projections {
            q,
            kv,
            attended: attended.out.into_tensor(),
            log_sums: attended.log_sums,
        })
    }

    /// The gradient of y, from that of the half's result.
    fn backward(
        &self,
        k: &dyn Backend,
        inputs: &[Tensor],
        first: usize,
        computed: Projections,
        grads: &mut Wanted<'_>,
        grad: &Tensor,
    ) -> Result<Tensor> {
        let at = self.places(first);
        let branch = scaled(k, grad, self.scales.as_deref())?;
        grads.layer(k, at.proj, &branch, &computed.attended)?;
        let d_attended = k.input_gradient(&branch, &inputs[at.proj])?.into_tensor();
        drop(branch);
        let log_sums = computed.log_sums.as_ref();
        let (out, heads) = (&computed.attended, computed.heads());
        let (dq, dkv) = k.attention_backward(self.dims, heads, out, log_sums, &d_attended)?;
        drop((d_attended, computed));
        let inner = self.dims.width();
        if let Some(dkv) = dkv {
            if self.source == Source::Over {
                grads.set(1, dkv);
            } else {
                let parts = [(at.kv + 1, inner)];
                grads.packed(k, at.kv, &parts, inner, &dkv, &inputs[1])?;
                if grads.wants(1) {
                    grads.set(1, k.input_gradient(&dkv, &inputs[at.kv])?.into_tensor());
                }
            }
        }
        let norm = norm(inputs, at.gamma, self.eps);
        let normed = k.norm(&inputs[0], norm)?.into_tensor();
        match self.source {
            Source::Own => {
                let parts = [(at.q + 1, 0), (at.q + 2, 2 * inner)];
                grads.packed(k, at.q, &parts, inner, &dq, &normed)?;
            }
            _ => grads.layer(k, at.q, &dq, &normed)?,
        }
        drop(normed);
        let d_normed = k.input_gradient(&dq, &inputs[at.q])?.into_tensor();
        drop(dq);
        grads.norm(k, at.gamma, &inputs[0], norm, &d_normed, grad)
    }
}

impl MlpHalf {
    /// The gradient of the half's y, from that of its result.
    #[expect(clippy::too_many_arguments)]
    fn backward(
        &self,
        k: &dyn Backend,
        inputs: &[Tensor],
        at: usize,
        y: &Tensor,
        hidden: &Biased,
        grads: &mut Wanted<'_>,
        grad: &Tensor,
    ) -> Result<Tensor> {
        let (w1, w2) = (at + 2, at + 4);
        let branch = scaled(k, grad, self.scales.as_deref())?;
        let d_active = k.input_gradient(&branch, &inputs[w2])?;
        let (d_hidden, active) = k.gelu_backward(hidden, d_active)?;
        grads.layer(k, w2, &branch, &active)?;
        drop((branch, active));
        let norm = norm(inputs, at, self.eps);
        let normed = k.norm(y, norm)?.into_tensor();
        grads.layer(k, w1, &d_hidden, &normed)?;
        drop(normed);
        let d_normed = k.input_gradient(&d_hidden, &inputs[w1])?.into_tensor();
        drop(d_hidden);
        grads.norm(k, at, y, norm, &d_normed, grad)
    }
}

/// The norm whose γ is at a place and whose β is behind it.
fn norm(inputs: &[Tensor], at: usize, eps: f32) -> Norm<'_> {
    Norm {
        gamma: &inputs[at],
        beta: &inputs[at + 1],
        eps,
    }
}

fn scaled(k: &dyn Backend, grad: &Tensor, scales: Option<&[f32]>) -> Result<Tensor> {
    match scales {
        Some(scales) => k.scaled(grad, scales),
        None => Ok(grad.clone()),
    }
}

/// The gradients that are asked for.
struct Wanted<'a> {
    wanted: &'a [bool],
    grads: Vec<Option<Tensor>>,
}

impl Wanted<'_> {
    fn wants(&self, at: usize) -> bool {
        self.wanted[at]
    }

    fn set(&mut self, at: usize, grad: Tensor) {
        self.grads[at] = Some(grad);
    }

    /// Of a weight at a place and its bias behind it, from the gradient of what they give
    /// for x.
    fn layer(&mut self, k: &dyn Backend, at: usize, grad: &Tensor, x: &Tensor) -> Result<()> {
        let width = grad.dims().last().copied().unwrap_or(0);
        self.packed(k, at, &[(at + 1, 0)], width, grad, x)
    }

    /// Of a weight at a place and of biases of `width` columns each, from a column on.
    fn packed(
        &mut self,
        k: &dyn Backend,
        at: usize,
        parts: &[(usize, usize)],
        width: usize,
        grad: &Tensor,
        x: &Tensor,
    ) -> Result<()> {
        let biases = parts.iter().any(|&(at, _)| self.wants(at));
        let sums = match (self.wants(at), biases) {
            (true, true) => {
                let (weight, sums) = k.layer_gradients(grad, x)?;
                self.set(at, weight);
                sums
            }
            (true, false) => {
                self.set(at, k.weight_gradient(grad, x)?);
                return Ok(());
            }
            (false, true) => k.column_sums(grad)?,
            (false, false) => return Ok(()),
        };
        for &(at, from) in parts {
            self.set(at, sums.narrow(0, from, width)?);
        }
        Ok(())
    }

    /// Sets those of γ and β at a place; gives that of y, with the residual's.
    fn norm(
        &mut self,
        k: &dyn Backend,
        at: usize,
        y: &Tensor,
        norm: Norm<'_>,
        d_normed: &Tensor,
        grad: &Tensor,
    ) -> Result<Tensor> {
        let [dy, d_gamma, d_beta] = k.norm_backward(y, norm, d_normed, Some(grad))?;
        self.set(at, d_gamma);
        self.set(at + 1, d_beta);
        Ok(dy)
    }
}

impl Block {
    /// Where the second half's parameters begin.
    fn mlp_at(&self) -> usize {
        let end = self.attention.as_ref().map(|a| a.places(self.first).end);
        end.unwrap_or(self.first)
    }

    /// All but the last half's last layer.
    fn compute(&self, k: &dyn Backend, inputs: &[Tensor]) -> Result<Computed> {
        let dtype = inputs[0].dtype();
        let typed = inputs.iter().map(|t| match t.rank() {
            2 => t.to_dtype(dtype),
            _ => Ok(t.clone()),
        });
        let inputs = &typed.collect::<Result<Vec<_>>>()?;
        let y = &inputs[0];
        let mut computed = Computed {
            inputs: inputs.clone(),
            projections: None,
            between: None,
            hidden: None,
        };
        if let Some(a) = &self.attention {
            let at = a.places(self.first);
            let normed = k.norm(y, norm(inputs, at.gamma, a.eps))?.into_tensor();
            computed.projections = Some(a.project(k, inputs, at, &normed)?);
        }
        let Some(m) = &self.mlp else {
            return Ok(computed);
        };
        let at = self.mlp_at();
        let normed = match (&self.attention, &computed.projections) {
            (Some(a), Some(projections)) => {
                let branch = attention_branch(k, inputs, a.places(self.first), projections)?;
                let of = norm(inputs, at, m.eps);
                let (sum, normed) = k.residual_norm(y, branch, a.scales.as_deref(), of)?;
                computed.between = Some(sum);
                normed
            }
            _ => k.norm(y, norm(inputs, at, m.eps))?.into_tensor(),
        };
        let bias = Bias::whole(&inputs[at + 3]);
        let hidden = k.linear(&normed, &inputs[at + 2], Some(bias))?;
        computed.hidden = Some(hidden.shared());
        Ok(computed)
    }
}

fn attention_branch(
    k: &dyn Backend,
    inputs: &[Tensor],
    at: Places,
    computed: &Projections,
) -> Result<Product> {
    let bias = Bias::whole(&inputs[at.proj + 1]);
    k.linear(&computed.attended, &inputs[at.proj], Some(bias))
}

impl Operation for Block {
    fn name(&self) -> &'static str {
        "block"
    }

    fn forward(&self, inputs: &[Tensor], save: bool) -> Result<Fresh> {
        let k = backend::of(self.name(), &inputs[0])?;
        let computed = self.compute(k, inputs)?;
        let inputs = &computed.inputs;
        let y = computed.between.as_ref().unwrap_or(&inputs[0]);
        let out = match (&self.mlp, &computed.hidden) {
            (Some(m), Some(hidden)) => {
                let w2 = self.mlp_at() + 4;
                let active = k.gelu(hidden)?.into_tensor();
                let bias = Bias::whole(&inputs[w2 + 1]);
                k.linear_onto(y, &active, &inputs[w2], bias, m.scales.as_deref())?
            }
            _ => match (&self.attention, &computed.projections) {
                (Some(a), Some(projections)) => {
                    let at = a.places(self.first).proj;
                    let (x, bias) = (&projections.attended, Bias::whole(&inputs[at + 1]));
                    k.linear_onto(y, x, &inputs[at], bias, a.scales.as_deref())?
                }
                _ => candle_core::bail!("{}: it has no halves", self.name()),
            },
        };
        if save {
            self.saved.keep(computed);
        }
        Ok(out)
    }

    fn backward(
        &self,
        inputs: &[Tensor],
        wanted: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<Vec<Option<Tensor>>> {
        let k = backend::of(self.name(), &inputs[0])?;
        let computed = self.saved.take_or(|| self.compute(k, inputs))?;
        let inputs = &computed.inputs;
        let mut grads = Wanted {
            wanted,
            grads: vec![None; inputs.len()],
        };
        let mut grad = grad.clone();
        if let (Some(m), Some(hidden)) = (&self.mlp, &computed.hidden) {
            let y = computed.between.as_ref().unwrap_or(&inputs[0]);
            grad = m.backward(k, inputs, self.mlp_at(), y, hidden, &mut grads, &grad)?;
        }
        let projections = computed.projections;
        if let (Some(a), Some(projections)) = (&self.attention, projections) {
            grad = a.backward(k, inputs, self.first, projections, &mut grads, &grad)?;
        }
        grads.set(0, grad);
        Ok(grads.grads)
    }
}
