//! A transformer's block as one operation: y + s·attention(norm₁(y)), then
//! y + s·mlp(norm₂(y)), or one of the two. It saves the projections, what attention
//! gives, the sum between the halves and the hidden layer before its GELU; norms and
//! GELU are computed again.

use candle_core::{Result, Tensor};
use mtcae_kernels::attention::Dims;

use super::attention::{dims, in_rows};
use super::backend::{Backend, Bias, Biased, Fresh, Heads, Product};
use super::kernels;
use super::layer_norm::{NormSlots, check};
use super::linear::layer_gradients;
use super::operation::{Each, Gradients, Operands, Operation, Saved, Slot, apply};
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
    let mut operands = Operands::default();
    let op = Block {
        y: operands.activation(y.contiguous()?),
        attention: attention
            .map(|a| attention_half(y, a, &mut operands))
            .transpose()?,
        mlp: mlp.map(|m| mlp_half(y, m, &mut operands)).transpose()?,
        saved: Saved::default(),
    };
    apply(op, operands, y.shape(), way)
}

fn attention_half(y: &Tensor, a: Attention<'_>, operands: &mut Operands) -> Result<AttentionHalf> {
    const NAME: &str = "attention";
    let (batch, tokens, width) = y.dims3()?;
    let norm = branch_norm(NAME, width, &a.branch, operands)?;
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
    let (q, source, keys) = match a.projection {
        Projection::Own {
            weight,
            q_bias,
            v_bias,
        } => {
            fits(weight, &[3 * inner, width])?;
            fits(q_bias, &[inner])?;
            fits(v_bias, &[inner])?;
            let q = LayerSlots::list(operands, weight, q_bias)?;
            let v_bias = operands.parameter(v_bias)?;
            (q, KeysAndValues::Own { v_bias }, tokens)
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
            let q = LayerSlots::list(operands, q, q_bias)?;
            let kv = LayerSlots::list(operands, kv, v_bias)?;
            let x = operands.activation(x.contiguous()?);
            (q, KeysAndValues::Of { x, kv }, keys)
        }
        Projection::Over { kv, q, q_bias } => {
            fits(q, &[inner, width])?;
            fits(q_bias, &[inner])?;
            let keys = kv.dims3()?.1;
            fits(kv, &[batch, keys, 2 * inner])?;
            let q = LayerSlots::list(operands, q, q_bias)?;
            let kv = operands.activation(in_rows(kv)?);
            (q, KeysAndValues::Over { kv }, keys)
        }
    };
    Ok(AttentionHalf {
        dims: dims(NAME, batch, a.heads, tokens, keys, inner, 1)?,
        norm,
        q,
        source,
        proj: LayerSlots::list(operands, proj, proj_bias)?,
        scales: a.branch.scales,
    })
}

fn mlp_half(y: &Tensor, m: Mlp<'_>, operands: &mut Operands) -> Result<MlpHalf> {
    let width = y.dims3()?.2;
    let norm = branch_norm("mlp", width, &m.branch, operands)?;
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
    Ok(MlpHalf {
        norm,
        first: LayerSlots::list(operands, w1, b1)?,
        second: LayerSlots::list(operands, w2, b2)?,
        scales: m.branch.scales,
    })
}

fn branch_norm(
    name: &str,
    width: usize,
    branch: &Branch<'_>,
    operands: &mut Operands,
) -> Result<NormSlots> {
    check(name, width, branch.gamma, branch.beta)?;
    NormSlots::list(operands, branch.gamma, branch.beta, branch.eps)
}

/// A weight and a bias among the operands.
#[derive(Clone, Copy)]
struct LayerSlots {
    weight: Slot,
    bias: Slot,
}

impl LayerSlots {
    fn list(operands: &mut Operands, weight: &Tensor, bias: &Tensor) -> Result<Self> {
        Ok(Self {
            weight: operands.parameter(weight)?,
            bias: operands.parameter(bias)?,
        })
    }

    /// Sets the gradients of both, from that of what they give for x.
    fn backward(
        &self,
        k: &dyn Backend,
        grads: &mut Gradients,
        grad: &Tensor,
        x: &Tensor,
    ) -> Result<()> {
        let width = grad.dims().last().copied().unwrap_or(0);
        layer_gradients(k, grads, self.weight, &[(self.bias, 0)], width, grad, x)
    }
}

/// Where keys and values come from.
#[derive(Clone, Copy)]
enum KeysAndValues {
    /// The product that gives the queries, with the values' bias.
    Own { v_bias: Slot },
    /// Features, by a product with the values' bias.
    Of { x: Slot, kv: LayerSlots },
    /// They are there.
    Over { kv: Slot },
}

struct AttentionHalf {
    dims: Dims,
    norm: NormSlots,
    /// Wqkv or Wq, and the queries' bias.
    q: LayerSlots,
    source: KeysAndValues,
    proj: LayerSlots,
    scales: Option<Vec<f32>>,
}

struct MlpHalf {
    norm: NormSlots,
    first: LayerSlots,
    second: LayerSlots,
    scales: Option<Vec<f32>>,
}

struct Block {
    y: Slot,
    attention: Option<AttentionHalf>,
    mlp: Option<MlpHalf>,
    saved: Saved<Computed>,
}

/// What the backward needs of the forward.
struct Computed {
    /// The inputs, weights in the type of the activations.
    inputs: Each<Tensor>,
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

impl AttentionHalf {
    fn project(
        &self,
        k: &dyn Backend,
        inputs: &Each<Tensor>,
        normed: &Tensor,
    ) -> Result<Projections> {
        let q_bias = &inputs[self.q.bias];
        let (q_bias, kv) = match self.source {
            KeysAndValues::Own { v_bias } => {
                let both = Bias {
                    first: Some(q_bias.clone()),
                    last: Some(inputs[v_bias].clone()),
                };
                (both, None)
            }
            KeysAndValues::Of { x, kv } => {
                let v_bias = Bias {
                    first: None,
                    last: Some(inputs[kv.bias].clone()),
                };
                let kv = k.linear(&inputs[x], &inputs[kv.weight], Some(v_bias))?;
                (Bias::whole(q_bias), Some(kv.settle(k)?.into_tensor()))
            }
            KeysAndValues::Over { kv } => (Bias::whole(q_bias), Some(inputs[kv].clone())),
        };
        let q = k.linear(normed, &inputs[self.q.weight], Some(q_bias))?;
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

    /// What is added to y.
    fn branch(
        &self,
        k: &dyn Backend,
        inputs: &Each<Tensor>,
        computed: &Projections,
    ) -> Result<Product> {
        let bias = Bias::whole(&inputs[self.proj.bias]);
        k.linear(&computed.attended, &inputs[self.proj.weight], Some(bias))
    }

    /// The gradient of y, from that of the half's result.
    fn backward(
        &self,
        k: &dyn Backend,
        inputs: &Each<Tensor>,
        y: &Tensor,
        computed: Projections,
        grads: &mut Gradients,
        grad: &Tensor,
    ) -> Result<Tensor> {
        let branch = scaled(k, grad, self.scales.as_deref())?;
        self.proj.backward(k, grads, &branch, &computed.attended)?;
        let d_attended = k.input_gradient(&branch, &inputs[self.proj.weight])?;
        let d_attended = d_attended.into_tensor();
        drop(branch);
        let log_sums = computed.log_sums.as_ref();
        let (out, heads) = (&computed.attended, computed.heads());
        let (dq, dkv) = k.attention_backward(self.dims, heads, out, log_sums, &d_attended)?;
        drop((d_attended, computed));
        let inner = self.dims.width();
        match (self.source, dkv) {
            (KeysAndValues::Over { kv }, Some(dkv)) => grads.set(kv, dkv),
            (KeysAndValues::Of { x, kv }, Some(dkv)) => {
                let biases = [(kv.bias, inner)];
                layer_gradients(k, grads, kv.weight, &biases, inner, &dkv, &inputs[x])?;
                if grads.wants(x) {
                    let dx = k.input_gradient(&dkv, &inputs[kv.weight])?;
                    grads.set(x, dx.into_tensor());
                }
            }
            _ => {}
        }
        let normed = k.norm(y, self.norm.of(inputs))?.into_tensor();
        match self.source {
            KeysAndValues::Own { v_bias } => {
                let biases = [(self.q.bias, 0), (v_bias, 2 * inner)];
                layer_gradients(k, grads, self.q.weight, &biases, inner, &dq, &normed)?;
            }
            _ => self.q.backward(k, grads, &dq, &normed)?,
        }
        drop(normed);
        let d_normed = k.input_gradient(&dq, &inputs[self.q.weight])?.into_tensor();
        drop(dq);
        self.norm
            .backward(k, inputs, y, grads, &d_normed, Some(grad))
    }
}

impl MlpHalf {
    /// The gradient of the half's y, from that of its result.
    fn backward(
        &self,
        k: &dyn Backend,
        inputs: &Each<Tensor>,
        y: &Tensor,
        hidden: &Biased,
        grads: &mut Gradients,
        grad: &Tensor,
    ) -> Result<Tensor> {
        let branch = scaled(k, grad, self.scales.as_deref())?;
        let d_active = k.input_gradient(&branch, &inputs[self.second.weight])?;
        let (d_hidden, active) = k.gelu_backward(hidden, d_active)?;
        self.second.backward(k, grads, &branch, &active)?;
        drop((branch, active));
        let normed = k.norm(y, self.norm.of(inputs))?.into_tensor();
        self.first.backward(k, grads, &d_hidden, &normed)?;
        drop(normed);
        let d_normed = k.input_gradient(&d_hidden, &inputs[self.first.weight])?;
        let d_normed = d_normed.into_tensor();
        drop(d_hidden);
        self.norm
            .backward(k, inputs, y, grads, &d_normed, Some(grad))
    }
}

fn scaled(k: &dyn Backend, grad: &Tensor, scales: Option<&[f32]>) -> Result<Tensor> {
    match scales {
        Some(scales) => k.scaled(grad, scales),
        None => Ok(grad.clone()),
    }
}

impl Block {
    /// All but the last half's last layer.
    fn compute(&self, k: &dyn Backend, inputs: &Each<Tensor>) -> Result<Computed> {
        let dtype = inputs[self.y].dtype();
        let inputs = inputs.map(|t| match t.rank() {
            2 => t.to_dtype(dtype),
            _ => Ok(t.clone()),
        })?;
        let y = &inputs[self.y];
        let mut projections = None;
        if let Some(a) = &self.attention {
            let normed = k.norm(y, a.norm.of(&inputs))?.into_tensor();
            projections = Some(a.project(k, &inputs, &normed)?);
        }
        let (mut between, mut hidden) = (None, None);
        if let Some(m) = &self.mlp {
            let norm = m.norm.of(&inputs);
            let normed = match (&self.attention, &projections) {
                (Some(a), Some(projections)) => {
                    let branch = a.branch(k, &inputs, projections)?;
                    let (sum, normed) = k.residual_norm(y, branch, a.scales.as_deref(), norm)?;
                    between = Some(sum);
                    normed
                }
                _ => k.norm(y, norm)?.into_tensor(),
            };
            let bias = Bias::whole(&inputs[m.first.bias]);
            let product = k.linear(&normed, &inputs[m.first.weight], Some(bias))?;
            hidden = Some(product.shared());
        }
        Ok(Computed {
            inputs,
            projections,
            between,
            hidden,
        })
    }
}

impl Operation for Block {
    fn name(&self) -> &'static str {
        "block"
    }

    fn forward(&self, inputs: &Each<Tensor>, save: bool) -> Result<Fresh> {
        let k = kernels::of(self.name(), &inputs[self.y])?;
        let computed = self.compute(k, inputs)?;
        let inputs = &computed.inputs;
        let y = computed.between.as_ref().unwrap_or(&inputs[self.y]);
        let onto = |x: &Tensor, layer: LayerSlots, scales: Option<&[f32]>| {
            let bias = Bias::whole(&inputs[layer.bias]);
            k.linear_onto(y, x, &inputs[layer.weight], bias, scales)
        };
        let out = match (&self.mlp, &computed.hidden) {
            (Some(m), Some(hidden)) => {
                let active = k.gelu(hidden)?.into_tensor();
                onto(&active, m.second, m.scales.as_deref())?
            }
            _ => match (&self.attention, &computed.projections) {
                (Some(a), Some(projections)) => {
                    onto(&projections.attended, a.proj, a.scales.as_deref())?
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
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        let k = kernels::of(self.name(), &inputs[self.y])?;
        let computed = self.saved.take_or(|| self.compute(k, inputs))?;
        let inputs = &computed.inputs;
        let y = &inputs[self.y];
        let mut grad = grad.clone();
        if let (Some(m), Some(hidden)) = (&self.mlp, &computed.hidden) {
            let y = computed.between.as_ref().unwrap_or(y);
            grad = m.backward(k, inputs, y, hidden, grads, &grad)?;
        }
        if let (Some(a), Some(projections)) = (&self.attention, computed.projections) {
            grad = a.backward(k, inputs, y, projections, grads, &grad)?;
        }
        grads.set(self.y, grad);
        Ok(())
    }
}
