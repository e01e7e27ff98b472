"""The layers of the encoders and decoders as one would write them for speed in PyTorch: fused attention, packed
projections, nothing computed twice. Shapes: B clips, N tokens, D width."""

import torch
from torch import nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

EPS = 1e-6


def norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, EPS)


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, N, H·d) → (B, H, N, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, outputs: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, outputs)

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
    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm1, self.norm2 = norm(width), norm(width)
        self.attn, self.mlp = SelfAttention(width, heads), Mlp(width, hidden, width)

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
