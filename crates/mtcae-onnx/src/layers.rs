//! The layers of `mtcae-nn` as nodes of ONNX. `at` is the prefix of a layer's tensors.
//! Shapes: B clips, N tokens, D width, H heads of d channels.
//!
//! A 0 in the shape of a Reshape keeps the dimension, so that nothing here knows B or N.

use std::f32::consts::SQRT_2;

use crate::graph::{Graph, Value};
use crate::proto::AttributeProto;

impl Graph {
    pub fn add(&mut self, at: &str, a: Value, b: Value) -> Value {
        self.node(at, "Add", &[a, b], Vec::new())
    }

    pub fn matmul(&mut self, at: &str, a: Value, b: Value) -> Value {
        self.node(at, "MatMul", &[a, b], Vec::new())
    }

    /// To a shape in which 0 keeps a dimension and −1 takes what is left.
    pub fn reshape(&mut self, at: &str, x: Value, shape: &[i64]) -> Value {
        let shape = self.ints(shape);
        self.node(at, "Reshape", &[x, shape], Vec::new())
    }

    pub fn transpose(&mut self, at: &str, x: Value, order: &[i64]) -> Value {
        let order = AttributeProto::ints("perm", order);
        self.node(at, "Transpose", &[x], vec![order])
    }

    pub fn concat(&mut self, at: &str, parts: &[Value], axis: i64) -> Value {
        self.node(at, "Concat", parts, vec![AttributeProto::int("axis", axis)])
    }

    /// Parts of these sizes along an axis.
    pub fn split<const M: usize>(
        &mut self,
        at: &str,
        x: Value,
        axis: i64,
        sizes: [usize; M],
    ) -> [Value; M] {
        let sizes = self.ints(&sizes.map(|n| n as i64));
        let axis = AttributeProto::int("axis", axis);
        self.nodes(at, "Split", &[x, sizes], vec![axis])
    }

    /// Over the last dimension.
    pub fn softmax(&mut self, at: &str, x: Value) -> Value {
        self.node(at, "Softmax", &[x], vec![AttributeProto::int("axis", -1)])
    }

    /// x·Wᵀ + b of `at.weight` (out, in) and `at.bias` (out).
    pub fn linear(&mut self, at: &str, x: Value) -> Value {
        let bias = self.tensor(&format!("{at}.bias"));
        self.projection(at, x, bias)
    }

    /// x·Wᵀ + b of `at.weight` (out, in).
    fn projection(&mut self, at: &str, x: Value, bias: Value) -> Value {
        let weight = self.transposed(&format!("{at}.weight"));
        let product = self.matmul(at, x, weight);
        self.add(at, product, bias)
    }

    /// Over the last dimension, of `at.weight` and `at.bias`.
    pub fn layer_norm(&mut self, at: &str, x: Value, eps: f64) -> Value {
        let scale = self.tensor(&format!("{at}.weight"));
        let bias = self.tensor(&format!("{at}.bias"));
        let attributes = vec![
            AttributeProto::int("axis", -1),
            AttributeProto::float("epsilon", eps as f32),
        ];
        self.node(at, "LayerNormalization", &[x, scale, bias], attributes)
    }

    /// ½·x·(1 + erf(x/√2)), in the order of operations that runtimes know as GELU and
    /// compute as one: ONNX has it as an operation from operator set 20 on alone.
    pub fn gelu(&mut self, at: &str, x: Value) -> Value {
        let root = self.scalar("sqrt(2)", SQRT_2);
        let one = self.scalar("1", 1.0);
        let half = self.scalar("0.5", 0.5);
        let scaled = self.node(at, "Div", &[x, root], Vec::new());
        let erf = self.node(at, "Erf", &[scaled], Vec::new());
        let more = self.add(at, erf, one);
        let product = self.node(at, "Mul", &[x, more], Vec::new());
        self.node(at, "Mul", &[product, half], Vec::new())
    }

    /// fc2(gelu(fc1(x))).
    pub fn mlp(&mut self, at: &str, x: Value) -> Value {
        let fc1 = format!("{at}.fc1");
        let hidden = self.linear(&fc1, x);
        let hidden = self.gelu(&fc1, hidden);
        self.linear(&format!("{at}.fc2"), hidden)
    }

    /// x + mlp(norm2(x)) below `at`.
    pub fn mlp_residual(&mut self, at: &str, x: Value, eps: f64) -> Value {
        let normed = self.layer_norm(&format!("{at}.norm2"), x, eps);
        let branch = self.mlp(&format!("{at}.mlp"), normed);
        self.add(at, x, branch)
    }

    /// Self attention of x (B, N, D), whose keys have no bias.
    pub fn self_attention(&mut self, at: &str, x: Value, width: usize, heads: usize) -> Value {
        let q_bias = self.tensor(&format!("{at}.q_bias"));
        let k_bias = self.zeros(width);
        let v_bias = self.tensor(&format!("{at}.v_bias"));
        let bias = self.concat(at, &[q_bias, k_bias, v_bias], 0);
        let all = self.projection(&format!("{at}.qkv"), x, bias);
        let parts = self.split(at, all, 2, [width; 3]);
        self.attention(at, parts, heads, width / heads)
    }

    /// Attention of y (B, N, w) over x (B, M, w), with heads of any width.
    pub fn cross_attention(
        &mut self,
        at: &str,
        y: Value,
        x: Value,
        heads: usize,
        head_dim: usize,
    ) -> Value {
        let inner = heads * head_dim;
        let q = self.linear(&format!("{at}.q"), y);
        let k_bias = self.zeros(inner);
        let v_bias = self.tensor(&format!("{at}.v_bias"));
        let bias = self.concat(at, &[k_bias, v_bias], 0);
        let both = self.projection(&format!("{at}.kv"), x, bias);
        let [k, v] = self.split(at, both, 2, [inner; 2]);
        self.attention(at, [q, k, v], heads, head_dim)
    }

    /// proj(softmax(q·kᵀ/√d)·v) for each head, of q (B, N, H·d), k and v (B, M, H·d).
    fn attention(&mut self, at: &str, parts: [Value; 3], heads: usize, head_dim: usize) -> Value {
        let apart = [0, 0, heads as i64, head_dim as i64];
        let [q, k, v] = parts.map(|part| self.reshape(at, part, &apart));
        let q = self.transpose(at, q, &[0, 2, 1, 3]);
        let k = self.transpose(at, k, &[0, 2, 3, 1]);
        let v = self.transpose(at, v, &[0, 2, 1, 3]);
        // As the scale of the smallest of the three operands.
        let scale = (1.0 / (head_dim as f64).sqrt()) as f32;
        let scale = self.scalar(&format!("1/sqrt({head_dim})"), scale);
        let q = self.node(at, "Mul", &[q, scale], Vec::new());
        let logits = self.matmul(at, q, k);
        let weights = self.softmax(at, logits);
        let mixed = self.matmul(at, weights, v);
        let mixed = self.transpose(at, mixed, &[0, 2, 1, 3]);
        let together = [0, 0, (heads * head_dim) as i64];
        let mixed = self.reshape(at, mixed, &together);
        self.linear(&format!("{at}.proj"), mixed)
    }

    fn zeros(&mut self, width: usize) -> Value {
        self.floats(&format!("zeros({width})"), vec![width], vec![0.0; width])
    }

    /// x + attn(norm1(x)), then x + mlp(norm2(x)), below `at`: the plain block.
    pub fn block(&mut self, at: &str, x: Value, sizes: Block) -> Value {
        let normed = self.layer_norm(&format!("{at}.norm1"), x, sizes.eps);
        let attn = format!("{at}.attn");
        let branch = self.self_attention(&attn, normed, sizes.width, sizes.heads);
        let x = self.add(at, x, branch);
        self.mlp_residual(at, x, sizes.eps)
    }

    /// `rows` (R, D) for each clip of x (B, …): (B, R, D).
    pub fn for_each_clip(&mut self, at: &str, rows: Value, shape: [usize; 2], x: Value) -> Value {
        let batch = vec![
            AttributeProto::int("start", 0),
            AttributeProto::int("end", 1),
        ];
        let batch = self.node(at, "Shape", &[x], batch);
        let rest = self.ints(&shape.map(|n| n as i64));
        let shape = self.concat(at, &[batch, rest], 0);
        self.node(at, "Expand", &[rows, shape], Vec::new())
    }

    /// The mean over tokens (B, N, D) → (B, D).
    pub fn mean_token(&mut self, at: &str, x: Value) -> Value {
        let attributes = vec![
            AttributeProto::ints("axes", &[1]),
            AttributeProto::int("keepdims", 0),
        ];
        self.node(at, "ReduceMean", &[x], attributes)
    }

    /// The first token (B, N, D) → (B, D).
    pub fn first_token(&mut self, at: &str, x: Value) -> Value {
        let bounds = [self.ints(&[0]), self.ints(&[1]), self.ints(&[1])];
        let [from, to, axis] = bounds;
        let first = self.node(at, "Slice", &[x, from, to, axis], Vec::new());
        self.node(at, "Squeeze", &[first, axis], Vec::new())
    }
}

/// What a plain block is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub width: usize,
    pub heads: usize,
    pub eps: f64,
}
