"""MTCAE-DFER as one would write it for speed in PyTorch: fused attention, one packed projection for q, k and v of the
encoder, nothing computed twice. Its parameters have the names of a checkpoint (docs/checkpoint-format.md), so that one
file serves it and the Rust program."""

import torch
from torch import nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

EPS = 1e-6
SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
TASKS = {"face_box": 64, "landmarks": 160, "expression": 7}
TOKENS, TUBE = 1568, 1536


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, N, H·d) → (B, H, N, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(gelu(self.fc1(x)))


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = (split_heads(t, self.heads) for t in linear(x, self.qkv.weight, bias).chunk(3, -1))
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.q, self.kv = nn.Linear(width, inner), nn.Linear(width, 2 * inner, bias=False)
        self.v_bias = nn.Parameter(torch.zeros(inner))
        self.proj = nn.Linear(inner, width)

    def forward(self, y, x):
        bias = torch.cat([torch.zeros_like(self.v_bias), self.v_bias])
        k, v = (split_heads(t, self.heads) for t in linear(x, self.kv.weight, bias).chunk(2, -1))
        attended = scaled_dot_product_attention(split_heads(self.q(y), self.heads), k, v)
        return self.proj(attended.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, EPS), nn.LayerNorm(width, EPS)
        self.attn, self.mlp = SelfAttention(width, heads), Mlp(width, 4 * width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def sin_cos_table(tokens: int, width: int) -> torch.Tensor:
    """VideoMAE's fixed positions."""
    place = torch.arange(tokens, dtype=torch.float64)[:, None]
    rate = 10000 ** (2 * (torch.arange(width) // 2).double() / width)
    table = place / rate
    table[:, 0::2], table[:, 1::2] = table[:, 0::2].sin(), table[:, 1::2].cos()
    return table.float()


class Encoder(nn.Module):
    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Linear(TUBE, width)})
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, EPS)
        self.register_buffer("positions", sin_cos_table(TOKENS, width), persistent=False)

    def forward(self, tubes):
        x = self.patch_embed["proj"](tubes) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, EPS), nn.LayerNorm(width, EPS)
        self.attn, self.mlp = CrossAttention(width, heads, head_dim), Mlp(width, 4 * width)

    def forward(self, y, x):
        y = y + self.attn(self.norm1(y), x)
        return y + self.mlp(self.norm2(y))


class Stage(nn.Module):
    def __init__(self, features: int, width: int, depth: int, heads: int, head_dim: int):
        super().__init__()
        self.dense, self.norm = nn.Linear(features, width), nn.LayerNorm(width, EPS)
        self.layers = nn.ModuleList(Layer(width, heads, head_dim) for _ in range(depth))

    def forward(self, y, f):
        dense = self.dense(f)
        x = self.norm(dense)
        y = dense if y is None else y
        for layer in self.layers:
            y = layer(y, x)
        return y


class Head(nn.Module):
    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(width, EPS), nn.Linear(width, outputs)

    def forward(self, y):
        return self.fc(self.norm(y).mean(1))


class Decoder(nn.Module):
    def __init__(self, features: int, width=512, depth=5, heads=3, head_dim=176):
        super().__init__()
        self.stages = nn.ModuleDict({t: Stage(features, width, depth, heads, head_dim) for t in TASKS})
        self.heads = nn.ModuleDict({t: Head(width, n) for t, n in TASKS.items()})

    def forward(self, f):
        y, outputs = None, []
        for task, stage in self.stages.items():
            y = stage(y, f)
            outputs.append(self.heads[task](y))
        return tuple(outputs)


class Mtcae(nn.Module):
    """Tubes (B, 1568, 1536) → boxes (B, 64), landmarks (B, 160), logits (B, 7)."""

    def __init__(self, size: str):
        super().__init__()
        self.encoder = Encoder(*SIZES[size])
        self.decoder = Decoder(SIZES[size][0])

    def forward(self, tubes):
        return self.decoder(self.encoder(tubes))


def draw(size: str, seed: int = 0) -> Mtcae:
    """Weights drawn as VideoMAE draws them, twice as wide, with biases and norms that are not trivial."""
    torch.manual_seed(seed)
    model = Mtcae(size).eval()
    for name, p in model.named_parameters():
        if p.ndim > 1:
            nn.init.trunc_normal_(p, std=0.04)
        else:
            nn.init.normal_(p, mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.05)
    return model


def config(size: str) -> dict:
    """The `config.json` of its checkpoint."""
    width, depth, heads = SIZES[size]
    encoder = dict(image_size=224, frames=16, channels=3, patch=16, tubelet=2, width=width, depth=depth, heads=heads)
    decoder = dict(features=width, width=512, depth=5, heads=3, head_dim=176, mlp_ratio=4.0, eps=EPS)
    return {
        "format": "mtcae-dfer",
        "version": 1,
        "trained_on": None,
        "preprocessing": {
            "sampling": "uniform",
            "resize": "squash",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
        "encoder": {**encoder, "hidden": 4 * width, "eps": EPS, "final_norm": True, "position": "sin-cos"},
        "decoder": {
            **decoder,
            "structure": "cascade",
            "tasks": [{"name": t, "outputs": n} for t, n in TASKS.items()],
        },
        "classes": [f"class {i}" for i in range(TASKS["expression"])],
    }
