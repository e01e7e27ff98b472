//! Attention within windows, with a bias by relative position.

use std::sync::Arc;

use candle_core::{DType, Result, Shape, Tensor};
use mtcae_kernels::attention::window::Windows;
use mtcae_kernels::attention::{Bias, Dims, Rows, biased_backward_with, biased_forward_with};
use mtcae_kernels::isa::Isa;
use mtcae_kernels::threads::on_pool;

use super::backend::Fresh;
use super::cpu::{read, tensor};
use super::kernels;
use super::operation::{Each, Gradients, Operands, Operation, Saved, Slot, apply};
use crate::pass::Way;

/// What a window attention reads, tokens in window order (B, N, ·).
#[derive(Clone, Copy, Debug)]
pub enum Windowed<'a> {
    /// q, k and v (B, N, 3·C).
    Packed(&'a Tensor),
    /// q and k (B, N, 2·C), and v (B, N, C) of something else.
    Crossed(&'a Tensor, &'a Tensor),
}

/// softmax(Q·Kᵀ/√d + bias)·V within each window → (B, N, C), tokens in window order. The
/// `table` (positions, heads) has a row for each relative position; `regions` are those of
/// the windows.
pub fn window_attention(
    of: Windowed<'_>,
    table: &Tensor,
    windows: &Windows,
    regions: &Arc<Vec<f32>>,
    heads: usize,
) -> Result<Tensor> {
    let (first, parts, v) = match of {
        Windowed::Packed(qkv) => (qkv, 3, None),
        Windowed::Crossed(qk, v) => (qk, 2, Some(v)),
    };
    let (batch, tokens, packed) = first.dims3()?;
    let (count, length) = (windows.count(), windows.tokens());
    let dims = super::attention::dims(
        "window_attention",
        batch * count,
        heads,
        length,
        length,
        packed,
        parts,
    )?;
    if !windows.is_whole()
        || tokens != count * length
        || v.is_some_and(|v| v.dims() != [batch, tokens, dims.width()])
        || table.dims() != [windows.positions(), heads]
        || !(regions.is_empty() || regions.len() == tokens)
    {
        candle_core::bail!(
            "window_attention: operands {:?} and {:?}, a table {:?} and {windows:?} do not fit \
             one another",
            first.dims(),
            v.map(Tensor::dims),
            table.dims()
        );
    }
    if !first.device().is_cpu() {
        return composed(of, table, windows, regions, dims);
    }
    let mut operands = Operands::default();
    let op = WindowAttention {
        dims,
        windows: *windows,
        regions: regions.clone(),
        first: operands.activation(first.contiguous()?),
        v: match v {
            Some(v) => Some(operands.activation(v.contiguous()?)),
            None => None,
        },
        table: operands.parameter(table)?,
        norms: Saved::default(),
    };
    let shape = Shape::from((batch, tokens, dims.width()));
    apply(op, operands, &shape, &Way::default())
}

/// The same of Candle's operations.
fn composed(
    of: Windowed<'_>,
    table: &Tensor,
    windows: &Windows,
    regions: &[f32],
    dims: Dims,
) -> Result<Tensor> {
    let (length, width, heads) = (dims.queries, dims.width(), dims.heads);
    let (q, k, v) = match of {
        Windowed::Packed(qkv) => (
            qkv.narrow(2, 0, width)?,
            qkv.narrow(2, width, width)?,
            qkv.narrow(2, 2 * width, width)?,
        ),
        Windowed::Crossed(qk, v) => (
            qk.narrow(2, 0, width)?,
            qk.narrow(2, width, width)?,
            v.clone(),
        ),
    };
    let (batch, tokens, _) = q.dims3()?;
    let by_head = |t: &Tensor| -> Result<Tensor> {
        t.contiguous()?
            .reshape((dims.batch, length, heads, dims.head_dim))?
            .transpose(1, 2)?
            .contiguous()
    };
    let (q, k, v) = (by_head(&q)?, by_head(&k)?, by_head(&v)?);
    let device = q.device();
    let places = Tensor::from_vec(windows.pairs(), length * length, device)?;
    let bias = table
        .index_select(&places, 0)?
        .reshape((length, length, heads))?
        .permute((2, 0, 1))?
        .unsqueeze(0)?
        .to_dtype(q.dtype())?;
    let logits = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * f64::from(dims.scale()))?;
    let mut logits = logits.broadcast_add(&bias)?;
    if !regions.is_empty() {
        let count = windows.count();
        let regions = Tensor::from_slice(regions, (count, length), device)?;
        let apart = regions.unsqueeze(2)?.broadcast_ne(&regions.unsqueeze(1)?)?;
        // No logit is near it, and f16 has it.
        let mask = (apart.to_dtype(DType::F32)? * -3e4)?.to_dtype(q.dtype())?;
        let mask = mask.unsqueeze(1)?.unsqueeze(0)?;
        let shape = logits.shape().clone();
        logits = logits
            .reshape((batch, count, heads, length, length))?
            .broadcast_add(&mask)?
            .reshape(shape)?;
    }
    let weights = candle_nn::ops::softmax(&logits, candle_core::D::Minus1)?;
    weights
        .matmul(&v)?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((batch, tokens, width))
}

struct WindowAttention {
    dims: Dims,
    windows: Windows,
    regions: Arc<Vec<f32>>,
    /// q, k and v packed, or q and k alone.
    first: Slot,
    v: Option<Slot>,
    table: Slot,
    norms: Saved<Vec<f32>>,
}

impl WindowAttention {
    /// The table's row for each head, key and query.
    fn values(&self, inputs: &Each<Tensor>) -> Result<Vec<f32>> {
        let heads = self.dims.heads;
        let mut values = vec![0.0; heads * self.dims.keys * self.dims.queries];
        read(self.name(), &[&inputs[self.table]], |t| {
            self.windows.expand(t[0], heads, &mut values);
        })?;
        Ok(values)
    }

    /// Calls `f` with queries, keys and values, and the elements of further tensors.
    fn with_rows<R>(
        &self,
        inputs: &Each<Tensor>,
        more: &[&Tensor],
        f: impl FnOnce([Rows<'_>; 3], &[&[f32]]) -> R + Send,
    ) -> Result<R>
    where
        R: Send,
    {
        let width = self.dims.width();
        let first = &inputs[self.first];
        match self.v {
            None => read(self.name(), &[&[first], more].concat(), |all| {
                let rows = [0, 1, 2].map(|i| Rows::columns(all[0], 3 * width, i * width));
                on_pool(|| f(rows, &all[1..]))
            }),
            Some(v) => read(self.name(), &[&[first, &inputs[v]], more].concat(), |all| {
                let [q, k] = [0, 1].map(|i| Rows::columns(all[0], 2 * width, i * width));
                on_pool(|| f([q, k, Rows::columns(all[1], width, 0)], &all[2..]))
            }),
        }
    }

    /// The result, and what the backward needs of the softmax.
    fn compute(&self, inputs: &Each<Tensor>) -> Result<(Vec<f32>, Vec<f32>)> {
        let d = self.dims;
        let values = self.values(inputs)?;
        let bias = Bias {
            values: &values,
            regions: &self.regions,
        };
        let mut out = vec![0.0; d.batch * d.queries * d.width()];
        let mut norms = vec![0.0; d.norms()];
        self.with_rows(inputs, &[], |[q, k, v], _| {
            let (isa, save) = (Isa::best(), Some(&mut norms[..]));
            biased_forward_with(isa, d, q, k, v, d.scale(), bias, &mut out, save);
        })?;
        Ok((out, norms))
    }
}

impl Operation for WindowAttention {
    fn name(&self) -> &'static str {
        "window_attention"
    }

    fn forward(&self, inputs: &Each<Tensor>, save: bool) -> Result<Fresh> {
        let first = &inputs[self.first];
        kernels::of(self.name(), first)?;
        let (out, norms) = self.compute(inputs)?;
        if save {
            self.norms.keep(norms);
        }
        let (batch, tokens, _) = first.dims3()?;
        Ok(Fresh::on_cpu(
            out,
            &Shape::from((batch, tokens, self.dims.width())),
        ))
    }

    fn backward(
        &self,
        inputs: &Each<Tensor>,
        grads: &mut Gradients,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<()> {
        let (d, width) = (self.dims, self.dims.width());
        let norms = self.norms.take_or(|| Ok(self.compute(inputs)?.1))?;
        let values = self.values(inputs)?;
        let bias = Bias {
            values: &values,
            regions: &self.regions,
        };
        let rows = d.batch * d.queries;
        let (mut dq, mut dkv) = (vec![0.0; rows * width], vec![0.0; rows * 2 * width]);
        let mut dvalues = vec![0.0; values.len()];
        self.with_rows(inputs, &[result, grad], |[q, k, v], given| {
            biased_backward_with(
                Isa::best(),
                d,
                q,
                k,
                v,
                bias,
                given[0],
                &norms,
                given[1],
                d.scale(),
                &mut dq,
                &mut dkv,
                &mut dvalues,
            );
        })?;
        if grads.wants(self.table) {
            let mut dtable = vec![0.0; inputs[self.table].elem_count()];
            on_pool(|| self.windows.collapse(&dvalues, d.heads, &mut dtable));
            grads.set(self.table, tensor(dtable, inputs[self.table].shape())?);
        }
        let both = dq.chunks_exact(width).zip(dkv.chunks_exact(2 * width));
        // Of dK and dV as many columns as lie beside q.
        let beside = match self.v {
            None => 2 * width,
            Some(_) => width,
        };
        let mut first = Vec::with_capacity(rows * (width + beside));
        for (dq, dkv) in both {
            first.extend_from_slice(dq);
            first.extend_from_slice(&dkv[..beside]);
        }
        grads.set(self.first, tensor(first, inputs[self.first].shape())?);
        if let Some(v) = self.v {
            let mut dv = Vec::with_capacity(rows * width);
            for dkv in dkv.chunks_exact(2 * width) {
                dv.extend_from_slice(&dkv[width..]);
            }
            grads.set(v, tensor(dv, inputs[v].shape())?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParamStore;
    use candle_core::{Device, Var};

    #[test]
    fn both_ways_give_the_same() -> Result<()> {
        let windows = Windows {
            grid: [2, 4, 6],
            window: [2, 2, 3],
            shift: [0, 1, 1],
        };
        let regions = Arc::new(windows.regions());
        let (heads, width) = (2, 6);
        let store = ParamStore::new(3);
        let vb = store.builder(&Device::Cpu);
        let init = candle_nn::Init::Uniform { lo: -2.0, up: 2.0 };
        let get = |name: &str, shape: &[usize]| -> Result<Var> {
            Var::from_tensor(&vb.get_with_hints(shape, name, init)?.detach())
        };
        let qkv = get("qkv", &[2, 48, 3 * width])?;
        let (qk, v) = (get("qk", &[2, 48, 2 * width])?, get("v", &[2, 48, width])?);
        let table = get("table", &[windows.positions(), heads])?;
        let upstream = get("upstream", &[2, 48, width])?;
        for of in [Windowed::Packed(&qkv), Windowed::Crossed(&qk, &v)] {
            let a = window_attention(of, &table, &windows, &regions, heads)?;
            let dims = Dims {
                batch: 2 * windows.count(),
                heads,
                queries: 12,
                keys: 12,
                head_dim: 3,
            };
            let b = composed(of, &table, &windows, &regions, dims)?;
            let close = |a: &Tensor, b: &Tensor| -> Result<()> {
                let off = (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
                assert!(off < 1e-5, "{off}");
                Ok(())
            };
            close(&a, &b)?;
            let ga = (&a * upstream.as_tensor())?.sum_all()?.backward()?;
            let gb = (&b * upstream.as_tensor())?.sum_all()?.backward()?;
            let vars = match of {
                Windowed::Packed(_) => vec![&qkv, &table],
                Windowed::Crossed(..) => vec![&qk, &v, &table],
            };
            for var in vars {
                close(ga.get(var).expect("one"), gb.get(var).expect("one"))?;
            }
        }
        Ok(())
    }
}
