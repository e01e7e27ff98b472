"""MTCAE-DFER as one would write it for speed in PyTorch. Its parameters have the names of a checkpoint
(docs/checkpoint-format.md), so that one file serves it and the Rust program.

A size is `small`, `base` or `large`, a VideoMAE with the cascade of the paper's three tasks; or one of `encoders.config`,
such as `lgi-former-base` or `videomae-base-160`, with one linear layer of the mean of its tokens (structure
`single-task`), so that what is timed is the encoder."""

import argparse

import torch
from torch import nn

import encoders
from layers import EPS, CrossAttention, Mlp, norm

CASCADES = {"small": "videomae-small", "base": "videomae-base", "large": "videomae-large"}
TASKS = {"face_box": 64, "landmarks": 160, "expression": 7}
TOKENS, TUBE = 1568, 1536


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, head_dim: int):
        super().__init__()
        self.norm1, self.norm2 = norm(width), norm(width)
        self.attn, self.mlp = CrossAttention(width, heads, head_dim), Mlp(width, 4 * width, width)

    def forward(self, y, x):
        y = y + self.attn(self.norm1(y), x)
        return y + self.mlp(self.norm2(y))


class Stage(nn.Module):
    def __init__(self, features: int, width: int, depth: int, heads: int, head_dim: int):
        super().__init__()
        self.dense, self.norm = nn.Linear(features, width), norm(width)
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
        self.norm, self.fc = norm(width), nn.Linear(width, outputs)

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


class Classifier(nn.Module):
    """The structure `single-task`."""

    def __init__(self, features: int):
        super().__init__()
        fc = nn.Linear(features, TASKS["expression"])
        self.heads = nn.ModuleDict({"expression": nn.ModuleDict({"fc": fc})})

    def forward(self, f):
        return (self.heads["expression"]["fc"](f.mean(1)),)


def size(name: str) -> str:
    """A size's name as an argument of a command line."""
    try:
        encoder(name)
    except KeyError:
        cascades, presets = ", ".join(CASCADES), ", ".join(encoders.PRESETS)
        known = f"{cascades}; of an encoder alone {presets}, each with -PIXELS for another frame size"
        raise argparse.ArgumentTypeError(f"{name!r} is none of {known}") from None
    return name


def sizes(names: str) -> list[str]:
    """Several of them."""
    return [size(name) for name in names.split(",")]


def encoder(size: str) -> dict:
    """The encoder's part of its `config.json`."""
    return encoders.config(CASCADES.get(size, size))


def decoder(size: str) -> nn.Module:
    """Features (B, tokens, D) → what the heads say."""
    return (Decoder if size in CASCADES else Classifier)(encoder(size)["width"])


def tasks(size: str) -> list[str]:
    """What its heads say, in order."""
    return list(TASKS) if size in CASCADES else ["expression"]


def tokens(size: str) -> int:
    """Tubes of a clip."""
    return encoders.tokens(encoder(size))


class Mtcae(nn.Module):
    """Tubes (B, tokens, 1536) → boxes (B, 64), landmarks (B, 160), logits (B, 7), or the last alone."""

    def __init__(self, size: str):
        super().__init__()
        self.encoder = encoders.build(encoder(size))
        self.decoder = decoder(size)

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
    features = encoder(size)["width"]
    return {
        "format": "mtcae-dfer",
        "version": 2,
        "trained_on": None,
        "preprocessing": {
            "sampling": "uniform",
            "resize": "squash",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
        "encoder": encoder(size),
        "decoder": {
            **dict(features=features, width=512, depth=5, heads=3, head_dim=176, mlp_ratio=4.0, eps=EPS),
            "structure": "cascade" if size in CASCADES else "single-task",
            "tasks": [{"name": t, "outputs": n} for t, n in TASKS.items()],
        },
        "classes": [f"class {i}" for i in range(TASKS["expression"])],
    }
