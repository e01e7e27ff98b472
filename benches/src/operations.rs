//! The operations of a forward, on the shapes of ViT-L and the cascade, ready to
//! be run again and again.

use mtcae_kernels::attention::{Dims, Rows, forward_in};
use mtcae_kernels::buffer::Buffer;
use mtcae_kernels::format::{Format, OperandMut};
use mtcae_kernels::linear::{Packed, Part, Target, linear};
use mtcae_kernels::matrix::{MatMut, MatRef};

/// Tokens of a clip.
pub const TOKENS: usize = 1568;

/// `n` numbers in [−1, 1) without a generator.
pub fn numbers(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0)
        .collect()
}

/// A linear layer over the tokens of one clip.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// As benchmarks name it.
    pub id: &'static str,
    /// As tables name it.
    pub name: &'static str,
    /// Numbers of a token.
    pub inputs: usize,
    /// Numbers of a token of the result.
    pub outputs: usize,
    /// Whether GELU follows.
    pub gelu: bool,
}

const fn layer(
    id: &'static str,
    name: &'static str,
    inputs: usize,
    outputs: usize,
    gelu: bool,
) -> Layer {
    Layer {
        id,
        name,
        inputs,
        outputs,
        gelu,
    }
}

/// The layers of ViT-L and the cascade.
pub const LAYERS: [Layer; 7] = [
    layer("vit-l-qkv", "ViT-L qkv 1024×3072", 1024, 3072, false),
    layer("vit-l-proj", "ViT-L proj 1024×1024", 1024, 1024, false),
    layer(
        "vit-l-fc1-gelu",
        "ViT-L fc1 and GELU 1024×4096",
        1024,
        4096,
        true,
    ),
    layer("vit-l-fc2", "ViT-L fc2 4096×1024", 4096, 1024, false),
    layer(
        "cascade-kv",
        "cascade keys and values 512×5280",
        512,
        5280,
        false,
    ),
    layer(
        "cascade-fc1-gelu",
        "cascade fc1 and GELU 512×2048",
        512,
        2048,
        true,
    ),
    layer("cascade-fc2", "cascade fc2 2048×512", 2048, 512, false),
];

impl Layer {
    /// Floating-point operations of one run.
    pub fn work(&self) -> usize {
        2 * TOKENS * self.inputs * self.outputs
    }

    /// The layer in a format, its operand packed.
    pub fn prepare(self, format: Format) -> impl FnMut() {
        let Self {
            inputs, outputs, ..
        } = self;
        let (x, weight) = (numbers(TOKENS * inputs), numbers(inputs * outputs));
        let part = Part {
            weight: &weight,
            bias: None,
        };
        let packed = Packed::new(format, inputs, &[part]);
        let mut room = Buffer::zeroed(format.operand_len(TOKENS, inputs));
        OperandMut::new(format, TOKENS, inputs, &mut room)
            .pack(MatRef::new(&x, TOKENS, inputs, inputs));
        let mut hidden = Buffer::zeroed(format.operand_len(TOKENS, outputs));
        // In the memory of an arena, as inference has it.
        let mut out = Buffer::zeroed(TOKENS * outputs);
        move || {
            let operand = OperandMut::new(format, TOKENS, inputs, &mut room);
            let target = match self.gelu {
                true => Target::Gelu(OperandMut::new(format, TOKENS, outputs, &mut hidden)),
                false => Target::Store(MatMut::new(&mut out, TOKENS, outputs, outputs)),
            };
            linear(operand.finish(), &packed, target);
        }
    }
}

/// Attention of one clip's tokens to each other.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// As benchmarks name it.
    pub id: &'static str,
    /// As tables name it.
    pub name: &'static str,
    heads: usize,
    head_dim: usize,
}

/// The attention of ViT-L and of the cascade.
pub const ATTENTION: [Heads; 2] = [
    Heads {
        id: "vit-l",
        name: "ViT-L attention, 16 heads of 64",
        heads: 16,
        head_dim: 64,
    },
    Heads {
        id: "cascade",
        name: "cascade attention, 3 heads of 176",
        heads: 3,
        head_dim: 176,
    },
];

impl Heads {
    /// Floating-point operations of one run.
    pub fn work(&self) -> usize {
        4 * TOKENS * TOKENS * self.heads * self.head_dim
    }

    /// The attention in a format.
    pub fn prepare(self, format: Format) -> impl FnMut() {
        let dims = Dims {
            batch: 1,
            heads: self.heads,
            queries: TOKENS,
            keys: TOKENS,
            head_dim: self.head_dim,
        };
        let width = dims.width();
        let qkv = numbers(TOKENS * 3 * width);
        let mut out = vec![0.0; TOKENS * width];
        move || {
            let [q, k, v] = [0, 1, 2].map(|i| Rows::columns(&qkv, 3 * width, i * width));
            forward_in(format, dims, q, k, v, 0.125, &mut out);
        }
    }
}
