//! The kernels as the models launch them: for timing each, and for what it takes of a GPU.

use mtcae_kernels::adamw::Moments;
use mtcae_kernels::attention::Dims;
use mtcae_kernels::cuda::adamw::{Parameter, Table};
use mtcae_kernels::cuda::attention::{Gradient, Operands, Saved, backward, forward};
use mtcae_kernels::cuda::{Element, Launch, Pointer, gelu, layer_norm, rows};

use crate::{Fault, Size};

/// Launches that belong together, and what they have to do.
pub struct Case {
    pub name: String,
    pub launches: Vec<Launch>,
    pub work: Work,
}

/// The least that has to be done: what the time is measured by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Floating-point operations of products.
    Products(f64),
    /// Bytes read and written.
    Bytes(f64),
}

/// What an operand holds at first.
pub enum Operand {
    /// So many numbers of the kernels' type.
    Numbers(usize),
    /// So many bytes of zero.
    Zeros(usize),
    Bytes(Vec<u8>),
}

/// Gives memory that lives as long as the cases that are made of it.
pub type At<'a> = dyn FnMut(Operand) -> Result<Pointer, Fault> + 'a;

/// Makes cases that share memory.
pub type Maker = Box<dyn Fn(&mut At<'_>) -> Result<Vec<Case>, Fault>>;

/// The kernels that take most of the models' time, in a type.
pub fn makers(size: Size, batch: usize, element: Element) -> Result<Vec<Maker>, Fault> {
    let (encoder, config) = (size.encoder(), size.config());
    let decoder = &config.decoder;
    let tokens = encoder.tokens();
    let dims = |heads, head_dim| Dims {
        batch,
        heads,
        queries: tokens,
        keys: tokens,
        head_dim,
    };
    let attentions = [
        (dims(encoder.heads, encoder.width / encoder.heads), true),
        (dims(decoder.heads, decoder.head_dim), false),
    ];
    let count = batch * tokens;
    let (width, hidden, eps) = (encoder.width, encoder.hidden, encoder.eps as f32);
    let lengths: Vec<usize> = config
        .tensors()?
        .iter()
        .map(|(_, shape)| shape.iter().product())
        .collect();
    let mut makers: Vec<Maker> = Vec::new();
    for (dims, packed) in attentions {
        makers.push(Box::new(move |at| attention(dims, packed, element, at)));
    }
    makers.push(Box::new(move |at| norms(count, width, eps, element, at)));
    makers.push(Box::new(move |at| pointwise(count, hidden, element, at)));
    makers.push(Box::new(move |at| adamw(&lengths, at)));
    Ok(makers)
}

/// The model's matrix products as (name, rows, inner, columns): y = x·Wᵀ.
pub fn products(size: Size, batch: usize) -> Vec<(String, [usize; 3])> {
    let (e, d) = (size.encoder(), size.config().decoder);
    let rows = batch * e.tokens();
    let inner = d.heads * d.head_dim;
    let product = |name: &str, inner, columns| (name.to_owned(), [rows, inner, columns]);
    vec![
        product("encoder q, k, v", e.width, 3 * e.width),
        product("encoder projection", e.width, e.width),
        product("encoder MLP in", e.width, e.hidden),
        product("encoder MLP out", e.hidden, e.width),
        product("decoder q", d.width, inner),
        product("decoder projection", inner, d.width),
        product("decoder MLP in", d.width, d.hidden()),
        product("decoder MLP out", d.hidden(), d.width),
        (
            "of the size of the encoder MLP's dW".to_owned(),
            [e.width, rows, e.hidden],
        ),
    ]
}

fn attention(
    dims: Dims,
    packed: bool,
    element: Element,
    at: &mut At<'_>,
) -> Result<Vec<Case>, Fault> {
    let Dims {
        batch,
        heads,
        queries,
        keys,
        head_dim,
    } = dims;
    let (width, size) = (dims.width(), element.size());
    let (n, m) = (batch * queries * width, batch * keys * width);
    let part = |at: Pointer, index: usize| at.after(index * width, size);
    let (q, q_stride, kv, first, kv_stride) = if packed {
        let all = at(Operand::Numbers(3 * n))?;
        (all, 3 * width, all, 1, 3 * width)
    } else {
        let q = at(Operand::Numbers(n))?;
        (q, width, at(Operand::Numbers(2 * m))?, 0, 2 * width)
    };
    let of = Operands {
        element,
        q,
        q_stride,
        k: part(kv, first),
        v: part(kv, first + 1),
        kv_stride,
    };
    let scale = 1.0 / (head_dim as f32).sqrt();
    let sums = batch * heads * queries;
    let out = at(Operand::Zeros(n * element.size()))?;
    let log_sums = at(Operand::Zeros(4 * sums))?;
    let saved = Saved {
        out,
        grad: at(Operand::Numbers(n))?,
        log_sums,
        delta: at(Operand::Zeros(4 * sums))?,
    };
    let dq = Gradient {
        at: at(Operand::Zeros(n * element.size()))?,
        stride: width,
    };
    let dkv = at(Operand::Zeros(2 * m * element.size()))?;
    let dk = Gradient {
        at: dkv,
        stride: 2 * width,
    };
    let dv = Gradient {
        at: part(dkv, 1),
        ..dk
    };
    let [delta, of_kv, of_q] = backward(dims, of, scale, saved, dq, dk, dv)?;
    // Two operations for each multiplication of one product N×M×d.
    let product = 2.0 * (sums * keys * head_dim) as f64;
    let kind = if packed { "self" } else { "cross" };
    let case = |name: &str, launches, products| Case {
        name: format!("attention {name}, {kind}, {batch}×{heads}×{queries}×{keys}×{head_dim}"),
        launches,
        work: Work::Products(f64::from(products) * product),
    };
    Ok(vec![
        case("forward", vec![forward(dims, of, scale, out, log_sums)?], 2),
        case("dK and dV", vec![of_kv], 4),
        case("dQ", vec![of_q], 3),
        Case {
            name: format!("attention delta, {kind}"),
            launches: vec![delta],
            work: Work::Bytes(2.0 * (n * element.size()) as f64),
        },
    ])
}

fn norms(
    count: usize,
    width: usize,
    eps: f32,
    element: Element,
    at: &mut At<'_>,
) -> Result<Vec<Case>, Fault> {
    let n = count * width;
    let operand = (n * element.size()) as f64;
    let (x, branch) = (at(Operand::Numbers(n))?, at(Operand::Numbers(n))?);
    let out = at(Operand::Zeros(n * element.size()))?;
    let normed = at(Operand::Zeros(n * element.size()))?;
    let (gamma, beta) = (
        at(Operand::Zeros(4 * width))?,
        at(Operand::Zeros(4 * width))?,
    );
    let scratch = layer_norm::scratch(count);
    let statistics = at(Operand::Zeros(4 * scratch.statistics))?;
    let parts = at(Operand::Zeros(8 * scratch.slabs * width))?;
    let of_parts = rows::parts(scratch.slabs, 2 * width);
    let of_parts = at(Operand::Zeros(4 * of_parts))?;
    let sums = at(Operand::Zeros(8 * width))?;
    let mut back = vec![
        layer_norm::backward_input(
            element,
            out,
            statistics,
            x,
            gamma,
            branch,
            Some(x),
            count,
            width,
            eps,
        )?,
        layer_norm::backward_parameters(element, parts, statistics, x, branch, count, width)?,
    ];
    let slabs = scratch.slabs;
    back.extend(rows::column_sums(
        Element::F32,
        sums,
        of_parts,
        parts,
        slabs,
        2 * width,
    )?);
    let case = |name: &str, launches, operands: f64| Case {
        name: format!("{name} {count}×{width}"),
        launches,
        work: Work::Bytes(operands * operand),
    };
    let of = |y| layer_norm::forward(element, y, x, gamma, beta, count, width, eps);
    let added = layer_norm::Branch {
        x: branch,
        bias: Some(beta),
        scales: None,
    };
    let residual = layer_norm::residual(
        element, out, normed, x, added, gamma, beta, count, width, eps,
    )?;
    Ok(vec![
        case("LayerNorm", vec![of(out)?], 2.0),
        case("bias + residual + LayerNorm", vec![residual], 4.0),
        // x, the gradient and the one around the norm are read once, dx is written.
        case("LayerNorm, backward", back, 4.0),
    ])
}

fn pointwise(
    count: usize,
    width: usize,
    element: Element,
    at: &mut At<'_>,
) -> Result<Vec<Case>, Fault> {
    let n = count * width;
    let operand = (n * element.size()) as f64;
    let (x, grad) = (at(Operand::Numbers(n))?, at(Operand::Numbers(n))?);
    let out = at(Operand::Zeros(n * element.size()))?;
    let again = at(Operand::Zeros(n * element.size()))?;
    let bias = at(Operand::Zeros(4 * width))?;
    let sums = at(Operand::Zeros(4 * width))?;
    let parts = at(Operand::Zeros(4 * rows::parts(count, width)))?;
    let case = |name: &str, launches, operands: f64| Case {
        name: format!("{name} {count}×{width}"),
        launches,
        work: Work::Bytes(operands * operand),
    };
    let forward = gelu::forward(element, out, x, Some(bias), count, width)?;
    let backward = gelu::backward(element, out, Some(again), x, Some(bias), grad, count, width)?;
    let of_bias = rows::Bias {
        first: bias,
        end: width,
        ..rows::Bias::none(width)
    };
    let add = rows::residual(element, out, None, x, of_bias, None, count, width)?;
    let residual = rows::residual(element, out, Some(grad), x, of_bias, None, count, width)?;
    let sum = rows::column_sums(element, sums, parts, x, count, width)?;
    Ok(vec![
        case("bias + GELU", vec![forward], 2.0),
        case("bias + GELU, backward and again", vec![backward], 4.0),
        case("bias", vec![add], 2.0),
        case("bias + residual", vec![residual], 3.0),
        case("column sums", sum.to_vec(), 1.0),
    ])
}

fn adamw(lengths: &[usize], at: &mut At<'_>) -> Result<Vec<Case>, Fault> {
    let total: usize = lengths.iter().sum();
    let mut of_all = || at(Operand::Zeros(4 * total));
    let [p, g, m, v] = [of_all()?, of_all()?, of_all()?, of_all()?];
    let mut first = 0;
    let table = Table::new(lengths.iter().map(|&length| {
        let at = |base: Pointer| base.after(first, 4);
        let parameter = Parameter {
            parameter: at(p),
            gradient: at(g),
            m: at(m),
            v: at(v),
            length,
            keep: 0.99,
            rate: 1e-4,
        };
        first += length;
        parameter
    }))?;
    let at_table = at(Operand::Bytes(table.bytes()))?;
    let sums = at(Operand::Zeros(8 * table.blocks()))?;
    let moments = Moments {
        beta1: 0.9,
        beta2: 0.999,
        rest1: 0.1,
        rest2: 0.001,
        scale: 1.0,
    };
    let case = |name: &str, launch: Option<Launch>, operands: f64| Case {
        name: format!("{name}, {:.0} M numbers", total as f64 / 1e6),
        launches: launch.into_iter().collect(),
        work: Work::Bytes(operands * 4.0 * total as f64),
    };
    Ok(vec![
        case("AdamW", table.step(at_table, &moments, 1.0, 1e-8), 7.0),
        case("sum of squares", table.sums_of_squares(sums, at_table), 1.0),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that nobody has, one piece behind the other.
    fn cases(batch: usize, element: Element) -> Vec<Case> {
        let size = Size::Large;
        let mut next = Pointer::new(256);
        let mut at = |operand: Operand| {
            let here = next;
            let bytes = match operand {
                Operand::Numbers(n) => n * element.size(),
                Operand::Zeros(n) => n,
                Operand::Bytes(bytes) => bytes.len(),
            };
            next = next.after(bytes.next_multiple_of(256), 1);
            Ok(here)
        };
        let makers = makers(size, batch, element).expect("a valid config");
        makers
            .iter()
            .flat_map(|make| make(&mut at).expect("supported"))
            .collect()
    }

    #[test]
    fn the_models_own_kernels_are_among_them_with_what_they_have_to_do() {
        let cases = cases(8, Element::Bf16);
        let named = |function: &str| {
            let is = |launch: &Launch| launch.function == function;
            cases.iter().find(|case| case.launches.iter().any(is))
        };
        for head in [64, 176] {
            for kernel in ["attention", "attention_backward_kv", "attention_backward_q"] {
                assert!(
                    named(&format!("{kernel}_bf16_{head}")).is_some(),
                    "{kernel} {head}"
                );
            }
        }
        let forward = named("attention_bf16_64").expect("the encoder's");
        let work = 4.0 * 8.0 * 16.0 * 1568.0 * 1568.0 * 64.0;
        assert_eq!(forward.work, Work::Products(work));
        assert!(named("layer_norm_bf16_x4").is_some() && named("gelu_bf16_x4").is_some());
        let Some(Work::Bytes(bytes)) = named("adamw").map(|case| case.work) else {
            panic!("AdamW moves bytes");
        };
        assert!(bytes > 28.0 * 3e8);
        assert!(cases.iter().all(|case| !case.launches.is_empty()));
    }

    #[test]
    fn the_products_are_those_of_the_papers_model() {
        let products = products(Size::Large, 8);
        let sizes: Vec<[usize; 3]> = products.into_iter().map(|(_, size)| size).collect();
        assert!(sizes.contains(&[12_544, 1024, 3072]) && sizes.contains(&[12_544, 512, 528]));
        assert!(sizes.contains(&[1024, 12_544, 4096]));
    }
}
