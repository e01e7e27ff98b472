//! The CPU's half of [`Backend`]: `f32` on the kernels of `mtcae_kernels`.

use candle_core::{CpuStorage, Device, Result, Shape, Storage, Tensor};
use mtcae_kernels::attention::{self, Dims, Rows};
use mtcae_kernels::isa::Isa;
use mtcae_kernels::matrix::{MatMut, MatRef};
use mtcae_kernels::product::{Initial, product};
use mtcae_kernels::{gelu, layer_norm, rows};

use super::backend::{Attended, Backend, Bias, Biased, Fresh, Heads, Norm, Product};

pub(super) struct Cpu;

/// Calls `f` with the elements of contiguous tensors.
pub(super) fn read<R>(op: &str, tensors: &[&Tensor], f: impl FnOnce(&[&[f32]]) -> R) -> Result<R> {
    let storages: Vec<_> = tensors.iter().map(|t| t.storage_and_layout()).collect();
    let slices: Vec<&[f32]> = storages
        .iter()
        .map(|(storage, layout)| match &**storage {
            Storage::Cpu(storage) => super::slice(op, storage, layout),
            _ => candle_core::bail!("{op}: an operand is not on the CPU"),
        })
        .collect::<Result<_>>()?;
    Ok(f(&slices))
}

/// The memory of a result.
pub(super) fn values(op: &str, fresh: Fresh) -> Result<(Vec<f32>, Shape)> {
    match fresh.storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok((values, fresh.shape)),
        _ => candle_core::bail!("{op}: a result is not f32 on the CPU"),
    }
}

/// Rows of the last dimension's length in place of that.
fn with_last(shape: &Shape, last: usize) -> Shape {
    let mut dims = shape.dims().to_vec();
    if let Some(d) = dims.last_mut() {
        *d = last;
    }
    Shape::from(dims)
}

/// A bias's numbers for each of `width` columns.
fn whole(bias: &Bias, width: usize) -> Result<Vec<f32>> {
    let mut all = vec![0.0; width];
    let parts = [(&bias.first, false), (&bias.last, true)];
    for (part, at_the_end) in parts {
        let Some(part) = part else { continue };
        let n = part.elem_count();
        if n > width {
            candle_core::bail!("linear: a bias of {n} for {width} columns");
        }
        let from = if at_the_end { width - n } else { 0 };
        read("linear", &[part], |v| {
            all[from..from + n].copy_from_slice(v[0]);
        })?;
    }
    Ok(all)
}

/// Adds a bias to rows that have waited for it.
fn add(values: &mut [f32], bias: &Bias, shape: &Shape) -> Result<()> {
    let width = shape.dims().last().copied().unwrap_or(1);
    let bias = whole(bias, width)?;
    for row in values.chunks_exact_mut(width) {
        row.iter_mut().zip(&bias).for_each(|(x, b)| *x += b);
    }
    Ok(())
}

/// x with its bias.
fn settled(x: &Biased) -> Result<Tensor> {
    let Some(bias) = &x.bias else {
        return Ok(x.x.clone());
    };
    let mut sum = read("linear", &[&x.x], |v| v[0].to_vec())?;
    add(&mut sum, bias, x.x.shape())?;
    tensor(sum, x.x.shape())
}

pub(super) fn tensor(values: Vec<f32>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Columns of rows that hold `parts` of H·d.
fn part(data: &[f32], dims: Dims, parts: usize, index: usize) -> Rows<'_> {
    Rows::columns(data, parts * dims.width(), index * dims.width())
}

impl Backend for Cpu {
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<Bias>) -> Result<Product> {
        let (outputs, inputs) = weight.dims2()?;
        let bias = bias.map(|b| whole(&b, outputs)).transpose()?;
        let count = x.elem_count() / inputs;
        let mut out = vec![0.0; count * outputs];
        read("linear", &[x, weight], |v| {
            product(
                MatRef::new(v[0], count, inputs, inputs),
                MatRef::new(v[1], outputs, inputs, inputs).t(),
                1.0,
                bias.as_deref().map_or(Initial::Zero, Initial::Bias),
                MatMut::new(&mut out, count, outputs, outputs),
            );
        })?;
        Ok(Product {
            x: Fresh::on_cpu(out, &with_last(x.shape(), outputs)),
            bias: None,
        })
    }

    fn input_gradient(&self, grad: &Tensor, weight: &Tensor) -> Result<Fresh> {
        let (outputs, inputs) = weight.dims2()?;
        let count = grad.elem_count() / outputs;
        let mut out = vec![0.0; count * inputs];
        read("linear", &[grad, weight], |v| {
            product(
                MatRef::new(v[0], count, outputs, outputs),
                MatRef::new(v[1], outputs, inputs, inputs),
                1.0,
                Initial::Zero,
                MatMut::new(&mut out, count, inputs, inputs),
            );
        })?;
        Ok(Fresh::on_cpu(out, &with_last(grad.shape(), inputs)))
    }

    fn weight_gradient(&self, grad: &Tensor, x: &Tensor) -> Result<Tensor> {
        let last = |t: &Tensor| t.dims().last().copied().unwrap_or(1);
        let (outputs, inputs) = (last(grad), last(x));
        let count = x.elem_count() / inputs;
        let mut out = vec![0.0; outputs * inputs];
        read("linear", &[grad, x], |v| {
            product(
                MatRef::new(v[0], count, outputs, outputs).t(),
                MatRef::new(v[1], count, inputs, inputs),
                1.0,
                Initial::Zero,
                MatMut::new(&mut out, outputs, inputs, inputs),
            );
        })?;
        tensor(out, &Shape::from((outputs, inputs)))
    }

    fn column_sums(&self, x: &Tensor) -> Result<Tensor> {
        let width = x.dims().last().copied().unwrap_or(1);
        let mut sums = vec![0.0; width];
        read("column_sums", &[x], |v| {
            rows::column_sums(v[0], width, 0, &mut sums);
        })?;
        tensor(sums, &Shape::from(width))
    }

    fn residual(
        &self,
        base: Option<&Tensor>,
        branch: Product,
        scales: Option<&[f32]>,
    ) -> Result<Fresh> {
        let (mut out, shape) = values("residual", branch.x)?;
        if let Some(bias) = &branch.bias {
            add(&mut out, bias, &shape)?;
        }
        match (base, scales) {
            (Some(base), _) => read("residual", &[base], |v| {
                rows::add_residual(v[0], scales, &mut out);
            })?,
            (None, Some(scales)) => out = rows::scaled(&out, scales),
            (None, None) => {}
        }
        Ok(Fresh::on_cpu(out, &shape))
    }

    fn residual_norm(
        &self,
        base: &Tensor,
        branch: Product,
        scales: Option<&[f32]>,
        norm: Norm<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let sum = self.residual(Some(base), branch, scales)?.into_tensor();
        let normed = self.norm(&sum, norm)?.into_tensor();
        Ok((sum, normed))
    }

    fn scaled(&self, x: &Tensor, scales: &[f32]) -> Result<Tensor> {
        let out = read("scaled", &[x], |v| rows::scaled(v[0], scales))?;
        tensor(out, x.shape())
    }

    fn norm(&self, x: &Tensor, norm: Norm<'_>) -> Result<Fresh> {
        let mut out = vec![0.0; x.elem_count()];
        read("layer_norm", &[x, norm.gamma, norm.beta], |v| {
            layer_norm::forward(v[0], v[1], v[2], norm.eps, &mut out);
        })?;
        Ok(Fresh::on_cpu(out, x.shape()))
    }

    fn norm_backward(
        &self,
        x: &Tensor,
        norm: Norm<'_>,
        grad: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<[Tensor; 3]> {
        let width = norm.gamma.elem_count();
        let mut dx = vec![0.0; x.elem_count()];
        let (mut dgamma, mut dbeta) = (vec![0.0; width], vec![0.0; width]);
        read("layer_norm", &[x, norm.gamma, grad], |v| {
            let (dgamma, dbeta) = (&mut dgamma, &mut dbeta);
            layer_norm::backward(v[0], v[1], v[2], norm.eps, &mut dx, dgamma, dbeta);
        })?;
        if let Some(residual) = residual {
            read("layer_norm", &[residual], |v| {
                rows::add_residual(v[0], None, &mut dx);
            })?;
        }
        let of_width = Shape::from(width);
        Ok([
            tensor(dx, x.shape())?,
            tensor(dgamma, &of_width)?,
            tensor(dbeta, &of_width)?,
        ])
    }

    fn gelu(&self, x: &Biased) -> Result<Fresh> {
        let mut out = vec![0.0; x.x.elem_count()];
        read("gelu", &[&settled(x)?], |v| gelu::forward(v[0], &mut out))?;
        Ok(Fresh::on_cpu(out, x.x.shape()))
    }

    fn gelu_gradient(&self, x: &Biased, grad: &Tensor) -> Result<Tensor> {
        let mut dx = vec![0.0; x.x.elem_count()];
        read("gelu", &[&settled(x)?, grad], |v| {
            gelu::backward(v[0], v[1], &mut dx);
        })?;
        tensor(dx, x.x.shape())
    }

    fn gelu_backward(&self, x: &Biased, grad: Fresh) -> Result<(Tensor, Tensor)> {
        let (mut dx, shape) = values("gelu", grad)?;
        read("gelu", &[&settled(x)?], |v| {
            gelu::backward_in_place(v[0], &mut dx);
        })?;
        Ok((tensor(dx, &shape)?, self.gelu(x)?.into_tensor()))
    }

    fn attention(&self, dims: Dims, of: Heads<'_>) -> Result<Attended> {
        let shape = Shape::from((dims.batch, dims.queries, dims.width()));
        let (mut out, mut norms) = (vec![0.0; shape.elem_count()], vec![0.0; dims.norms()]);
        with_rows(dims, of, &[], |q, k, v, _| {
            let (isa, norms) = (Isa::best(), Some(&mut norms[..]));
            attention::forward_with(isa, dims, q, k, v, dims.scale(), &mut out, norms);
        })?;
        let of_norms = Shape::from((dims.batch, dims.heads, 2, dims.queries));
        Ok(Attended {
            out: Fresh::on_cpu(out, &shape),
            log_sums: Some(tensor(norms, &of_norms)?),
        })
    }

    fn attention_backward(
        &self,
        dims: Dims,
        of: Heads<'_>,
        out: &Tensor,
        log_sums: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let Some(norms) = log_sums else {
            candle_core::bail!("attention: the forward has saved nothing of its softmax");
        };
        let width = dims.width();
        let mut dq = vec![0.0; dims.batch * dims.queries * width];
        let mut dkv = vec![0.0; dims.batch * dims.keys * 2 * width];
        with_rows(dims, of, &[out, norms, grad], |q, k, v, given| {
            let (scale, [out, norms, grad]) = (dims.scale(), [given[0], given[1], given[2]]);
            attention::backward(dims, q, k, v, out, norms, grad, scale, &mut dq, &mut dkv);
        })?;
        match of {
            Heads::Packed(qkv) => {
                let mut packed = Vec::with_capacity(3 * dq.len());
                for (dq, dkv) in dq.chunks_exact(width).zip(dkv.chunks_exact(2 * width)) {
                    packed.extend_from_slice(dq);
                    packed.extend_from_slice(dkv);
                }
                Ok((tensor(packed, qkv.shape())?, None))
            }
            Heads::Apart(q, kv) => Ok((tensor(dq, q.shape())?, Some(tensor(dkv, kv.shape())?))),
        }
    }
}

/// Calls `f` with queries, keys and values and the elements of further tensors.
fn with_rows(
    dims: Dims,
    of: Heads<'_>,
    more: &[&Tensor],
    f: impl FnOnce(Rows<'_>, Rows<'_>, Rows<'_>, &[&[f32]]),
) -> Result<()> {
    match of {
        Heads::Packed(qkv) => read("attention", &[&[qkv], more].concat(), |all| {
            let [q, k, v] = [0, 1, 2].map(|i| part(all[0], dims, 3, i));
            f(q, k, v, &all[1..]);
        }),
        Heads::Apart(q, kv) => read("attention", &[&[q, kv], more].concat(), |all| {
            let [k, v] = [0, 1].map(|i| part(all[1], dims, 2, i));
            f(part(all[0], dims, 1, 0), k, v, &all[2..]);
        }),
    }
}
